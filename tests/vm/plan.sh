#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What `fastboot plan` prints must come true: boot without a region, start the
# next kernel with the text of the plan, and every promised memory block comes
# up by hotadd.  Then two command lines that src/format/cmdline judges from the
# kernel's source only: a limit below the region does no harm, one inside cuts
# the region in two.
#
# vm-kernels: 6.12
# vm-more-kernels: 6.1
# vm-programs: kexec
# vm-timeout: 300
# vm-region: none

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh

stage=$1

# The number behind "key": in the plan's JSON.
number() { sed -n "s/^ *\"$1\": *\([0-9]*\),*$/\1/p" /host/plan.json | head -n "${2:-1}" | tail -n 1; }

# go CMDLINE-OPTION…: load with fastboot, start it.
go() {
	check "stage $stage: load $*" fastboot load --kernel /host/vmlinuz \
		--initrd /host/initrd "$@" || exit 1
	sync
	kexec -e -x
	not_ok "stage $stage: kexec" "it came back with status $?"
	exit 1
}

persistent() { grep 'Persistent Memory' /proc/iomem | sed 's/^ *//'; }

first_stage() {
	check "plan says something" fastboot plan --size 2G
	check "plan --json" fastboot --json plan --size 2G
	printf '%s\n' "$OUTPUT" >/host/plan.json
	cat /proc/cmdline >/host/cmdline
	memmap=$(sed -n 's/^ *"memmap":"\(.*\)",*$/\1/p' /host/plan.json)
	echo "$memmap" >/host/memmap
	check_eq "the region begins 2 MiB below a block and has 2 MiB more" \
		"memmap=2050M!4222M" "$memmap"
	expect_status 1 "a region larger than the memory is refused" \
		fastboot plan --size 64G
	check_eq "there is no region yet" "" "$(persistent)"
	# 6.1 cannot print its segments, and the range is plain RAM now.
	case $(uname -r) in
	6.1.*)
		expect_status 1 "6.1: no proof for a new region, so it is refused" \
			fastboot load --kernel /host/vmlinuz --initrd /host/initrd \
			--append "$memmap"
		check_eq "and nothing stays loaded" 0 "$(cat /sys/kernel/kexec_loaded)"
		kexec -s -l --initrd=/host/initrd \
			--command-line="$(cat /proc/cmdline) $memmap" /host/vmlinuz
		kexec -e -x
		;;
	esac
	go --append "$memmap"
}

# Blocks that are online now and were not before.
online_blocks() {
	for b in /sys/devices/system/memory/memory[0-9]*; do
		[ "$(cat "$b/state")" != online ] || echo "${b##*memory}"
	done | sort -n
}

second_stage() {
	start=$(sed -n 's/^ *"start": *\([0-9]*\),*$/\1/p' /host/plan.json | head -n 1)
	size=$(sed -n 's/^ *"size": *\([0-9]*\),*$/\1/p' /host/plan.json | head -n 1)
	check_eq "the region is where the plan put it" \
		"$(printf '%08x-%08x : Persistent Memory (legacy)' "$start" $((start + size - 1)))" \
		"$(persistent)"
	online_blocks >/tmp/before
	before=$(awk '/MemTotal/ { print $2 }' /proc/meminfo)
	check "hotadd" fastboot hotadd || exit 1
	online_blocks >/tmp/after
	first=$(number first_block)
	count=$(number block_count)
	check_eq "exactly the promised blocks come up" \
		"$(seq "$first" $((first + count - 1)) | tr '\n' ' ')" \
		"$(grep -vxFf /tmp/before /tmp/after | tr '\n' ' ')"
	after=$(awk '/MemTotal/ { print $2 }' /proc/meminfo)
	check_eq "2 GiB more RAM" $((2 * 1024 * 1024)) $((after - before))
	check "hotremove" fastboot hotremove
	go --append mem=4222M
}

third_stage() {
	check_eq "mem= below the region leaves it alone" \
		"107e00000-187ffffff : Persistent Memory (legacy)" "$(persistent)"
	expect_status 1 "mem= inside the region is refused" fastboot load \
		--kernel /host/vmlinuz --initrd /host/initrd --append mem=5G
	# By hand, to see that the refusal is right.
	kexec -s -l --initrd=/host/initrd \
		--command-line="$(cat /host/cmdline) $(cat /host/memmap) mem=5G" /host/vmlinuz
	kexec -e -x
}

fourth_stage() {
	check_eq "mem= inside the region cuts it in two" \
		"107e00000-13fffffff : Persistent Memory (legacy) 140000000-187ffffff : Persistent Memory (legacy) " \
		"$(persistent | tr '\n' ' ')"
	finish
}

case $stage in
1) first_stage ;;
2) second_stage ;;
3) third_stage ;;
4) fourth_stage ;;
*) not_ok "stage $stage" "there should be four" ;;
esac
