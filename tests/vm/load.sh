#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# `fastboot load`: refuses what would not start or would lose the state, with
# the machine as before; what it loads lies outside of the region, hot-added
# or not; and the undo takes it away again.
#
# vm-kernels: 6.12
# vm-more-kernels: 6.1
# vm-programs: kexec
# vm-timeout: 240

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh

stage=$1
region='100000000-17fffffff : Persistent Memory (legacy)'

loaded() { cat /sys/kernel/kexec_loaded; }

# refused NAME REGEX OPTION…: status 1, one line that matches, nothing loaded.
refused() {
	name=$1 regex=$2
	shift 2
	expect_status 1 "$name" fastboot load "$@"
	check_eq "$name: one line says why" yes \
		"$(printf '%s' "$OUTPUT" | grep -c . | grep -qx 1 &&
			printf '%s' "$OUTPUT" | grep -Eq "$regex" && echo yes || echo "$OUTPUT")"
	check_eq "$name: nothing is loaded" 0 "$(loaded)"
}

refusals() {
	refused "a text file" '/etc/fastboot.conf: .*kernel' --kernel /etc/fastboot.conf
	refused "an initrd as the kernel" 'kernel' --kernel /host/initrd
	refused "no such kernel" 'cannot open /nowhere' --kernel /nowhere
	refused "a directory" 'not a regular file' --kernel /host
	refused "no such initrd" 'cannot open /nowhere' --kernel /host/vmlinuz --initrd /nowhere
	head -c 4000000 /host/vmlinuz >/tmp/short
	refused "a truncated kernel" 'truncated: 4000000 bytes' --kernel /tmp/short
	cp /host/vmlinuz /tmp/flipped
	printf 'x' | dd of=/tmp/flipped bs=1 seek=514 conv=notrunc 2>/dev/null
	refused "a damaged header" 'not a kernel' --kernel /tmp/flipped
	refused "a command line without the region" 'add memmap=2G!4G' \
		--kernel /host/vmlinuz --command-line 'console=ttyS0'
	refused "a command line that cuts the region" 'memmap=1G!5G' \
		--kernel /host/vmlinuz --append 'memmap=1G!5G'
	refused "KASLR does not see a fifth memmap=" 'nokaslr' --kernel /host/vmlinuz \
		--command-line 'memmap=1M!7G memmap=1M!7200M memmap=1M!7300M memmap=1M!7400M memmap=2G!4G'
	long=$(printf '%02100d' 0)
	refused "a command line that is too long" 'takes 2016' --kernel /host/vmlinuz \
		--append "x=$long"
}

# What is loaded is nowhere in the region.
segments() {
	check "load $1" fastboot load --kernel /host/vmlinuz --initrd /host/initrd || return
	case $(uname -r) in
	6.1.*) proof='is not System RAM' ;;
	*) proof='the kernel printed them' ;;
	esac
	check_eq "load $1: the proof" yes \
		"$(printf '%s' "$OUTPUT" | grep -q "$proof" && echo yes || echo "$OUTPUT")"
	check_eq "load $1: it is loaded" 1 "$(loaded)"
	# Where the kernel tells, look at the addresses ourselves: all outside.
	dmesg | sed -n 's/.*kexec_file: segment.* mem=0x\([0-9a-f]*\) memsz=0x\([0-9a-f]*\).*/\1 \2/p' |
		while read -r mem size; do
			[ $((0x$mem + 0x$size)) -le $((0x100000000)) ] ||
				[ $((0x$mem)) -ge $((0x180000000)) ] || echo "$mem"
		done >/tmp/inside
	check_eq "load $1: no segment in the region" "" "$(cat /tmp/inside)"
}

first_stage() {
	echo '# nothing' >/etc/fastboot.conf
	check_eq "nothing is loaded at first" 0 "$(loaded)"
	refusals
	segments "with the region raw"
	check "another load" fastboot load --kernel /host/vmlinuz
	check_eq "it says that it replaces one" yes \
		"$(printf '%s' "$OUTPUT" | grep -q 'replaces a kernel' && echo yes || echo "$OUTPUT")"
	check "unload" fastboot load --unload
	check_eq "it is unloaded" 0 "$(loaded)"
	check "unload when there is none" fastboot load --unload
	expect_status 0 "a dry run" fastboot --dry-run load --kernel /host/vmlinuz
	check_eq "a dry run loads nothing" 0 "$(loaded)"

	check "hotadd" fastboot hotadd || exit 1
	segments "with the region hot-added"

	echo 1 >/proc/sys/kernel/kexec_load_disabled
	expect_status 1 "load when it is disabled" fastboot load --kernel /host/vmlinuz
	check_eq "it says what forbids it" yes \
		"$(printf '%s' "$OUTPUT" | grep -q 'kexec_load_disabled is 1' && echo yes || echo "$OUTPUT")"
	check "hotremove" fastboot hotremove
	# What was loaded before it was disabled can be started.
	kexec -e -x
	not_ok "kexec" "it came back with status $?"
}

second_stage() {
	ok "kexec into stage 2"
	check_eq "the region is there" "$region" "$(grep '^100000000-' /proc/iomem)"
	# The boot loader's words are not passed on, everything else is.
	check_eq "the command line" "$(sed 's/ *$//' /host/cmdline)" "$(cat /proc/cmdline)"
	finish
}

case $stage in
1)
	sed -e 's/BOOT_IMAGE=[^ ]* //' /proc/cmdline >/host/cmdline
	first_stage
	;;
2) second_stage ;;
*) not_ok "stage $stage" "there should be two" ;;
esac
