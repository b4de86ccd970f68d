#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# hotadd and hotremove on a real kernel: three cycles with the region full of
# page cache, tmpfs and anonymous memory; what must fail, and that the machine
# is exactly as before then; and how long it takes beside daxctl.
#
# vm-kernels: 6.12
# vm-more-kernels: 6.1 fast
# vm-programs: daxctl ndctl mke2fs setpriv
# vm-add: build/vmtools/pin
# vm-timeout: 600
# vm-region: 2G!4G
#
# The kernel warns about pages it cannot migrate; that is what is tested.
# vm-expect-log: migrat|page dumped|page:|page_owner

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh

memory=/sys/devices/system/memory
first=33 last=47 # 2 GiB at 4 GiB, less what devdax keeps, in blocks of 128 MiB

# Everything that a failure must leave as it was.
snapshot() {
	grep -E 'Persistent|dax|kmem|namespace' /proc/iomem
	cat $memory/auto_online_blocks
	for n in $(seq $first $last); do
		echo "$n $(cat $memory/memory"$n"/state $memory/memory"$n"/valid_zones 2>&1)"
	done
	readlink /sys/bus/dax/devices/dax0.0/driver
	cat /sys/bus/nd/devices/namespace0.0/mode
	ls /dev/pmem*
}

# unchanged NAME: since $before was taken.
unchanged() { check_eq "$1: the machine is as before" "$before" "$(snapshot 2>&1)"; }

# A kernel of ours gives its init sections back ten seconds after it started.
case $(uname -r) in
*-fastboot) wait_for 30 sh -c 'dmesg | grep -q "(initmem) memory"' ;;
esac

mem_total() { awk '/MemTotal/ { print $2 }' /proc/meminfo; }

# movable NAME: all blocks online in the movable zone, and in /proc/iomem.
movable() {
	wrong=
	for n in $(seq $first $last); do
		[ "$(cat $memory/memory"$n"/state)/$(cat $memory/memory"$n"/valid_zones)" = online/Movable ] ||
			wrong="$wrong $n"
	done
	check_eq "$1: every block is online and movable" '' "$wrong"
	check_eq "$1: the kernel calls it System RAM (kmem)" \
		'108000000-17fffffff : System RAM (kmem)' \
		"$(grep kmem /proc/iomem | sed 's/^ *//')"
}

raw() {
	check_eq "$1: no System RAM in the region" '' "$(grep kmem /proc/iomem)"
	check_eq "$1: /dev/pmem0 has all of it" $((2 << 30)) "$(blockdev --getsize64 /dev/pmem0)"
	check_eq "$1: auto_online_blocks is as before" "$auto_online" "$(cat $memory/auto_online_blocks)"
}

fill_cache() {
	truncate -s 1900M /tmp/sparse
	losetup /dev/loop0 /tmp/sparse
	cat /dev/loop0 >/dev/null
}

empty_cache() {
	losetup -d /dev/loop0
	rm /tmp/sparse
}

# fill_tmpfs MIB OPTION…: with a checksum to hold the contents to.
fill_tmpfs() {
	mkdir -p /fill
	mount -t tmpfs -o "size=7G,$2" fill /fill
	dd if=/dev/urandom of=/fill/random bs=1M count=16 2>/dev/null
	dd if=/dev/zero of=/fill/zeros bs=1M count="$1" 2>/dev/null
	sum=$(md5sum /fill/random)
}

empty_tmpfs() {
	check_eq "$1: what was moved is the same" "$sum" "$(md5sum /fill/random)"
	umount /fill
}

# hold MIB PINS: a process with anonymous memory, some of it pinned.
hold() {
	rm -f /tmp/held
	pin "$1" /tmp/held "$2" &
	holder=$!
	wait_for 60 test -e /tmp/held
}

release() {
	kill -9 "$holder"
	wait "$holder" 2>/dev/null
}

contains() {
	case $3 in
	*"$2"*) ok "$1" ;;
	*) not_ok "$1" "'$2' is not in: $3" ;;
	esac
}

three_cycles() {
	before_total=$(mem_total)
	modprobe loop
	for what in cache tmpfs anonymous; do
		check "$what: hotadd" fastboot hotadd || exit 1
		movable "$what"
		check_eq "$what: MemTotal grew by 15 blocks" $((15 * 128 * 1024)) \
			$(($(mem_total) - before_total))
		check "$what: hotadd again is nothing to do" fastboot hotadd
		contains "$what: and says so" 'already hot-added' "$OUTPUT"
		case $what in
		cache) fill_cache ;;
		tmpfs) fill_tmpfs 1880 huge=always ;;
		anonymous) hold 1900 0 ;;
		esac
		check "$what: status while full" fastboot status
		contains "$what: status knows the use" 'hot-added' "$OUTPUT"
		fastboot --dry-run hotremove >/host/plan."$what"
		check "$what: hotremove" fastboot hotremove --deadline 120 || exit 1
		raw "$what"
		check_eq "$what: MemTotal is as before" "$before_total" "$(mem_total)"
		case $what in
		cache) empty_cache ;;
		tmpfs) empty_tmpfs tmpfs ;;
		anonymous) release ;;
		esac
	done
	check "hotremove again is nothing to do" fastboot hotremove
	contains "and says so" 'already' "$OUTPUT"
}

held_namespace() {
	modprobe ext4
	mke2fs -q -t ext4 /dev/pmem0
	mkdir -p /mnt/pmem
	mount -t ext4 /dev/pmem0 /mnt/pmem
	echo kept >/mnt/pmem/file
	before=$(snapshot 2>&1)
	expect_status 1 "mounted: hotadd refuses" fastboot hotadd
	contains "mounted: and says why" '/dev/pmem0 is in use' "$OUTPUT"
	unchanged "mounted"
	umount /mnt/pmem
	mount -t ext4 /dev/pmem0 /mnt/pmem
	check_eq "mounted: the file system is whole" kept "$(cat /mnt/pmem/file)"
	umount /mnt/pmem
}

not_root() {
	for command in hotadd hotremove; do
		expect_status 1 "not root: $command refuses" setpriv --reuid=65534 --regid=65534 --clear-groups fastboot $command
		contains "not root: $command says so" 'root' "$OUTPUT"
	done
	expect_status 1 "not root: status" setpriv --reuid=65534 --regid=65534 --clear-groups fastboot status
	contains "not root: status says why" 'root' "$OUTPUT"
}

# One pinned page: the deadline, the name, the undo; and a second fastboot.
pinned() {
	hold 2500 16
	before=$(snapshot 2>&1)
	fastboot hotremove --deadline 10 >/tmp/out 2>&1 &
	first_one=$!
	sleep 3
	expect_status 1 "a second fastboot refuses" fastboot hotremove
	contains "and names the first" "another fastboot is at work (pid $first_one" "$OUTPUT"
	STATUS=0
	wait "$first_one" || STATUS=$?
	OUTPUT=$(cat /tmp/out)
	echo "$OUTPUT"
	check_eq "pinned: exit status" 1 "$STATUS"
	contains "pinned: the deadline is the reason" 'the deadline of 10 s has passed' "$OUTPUT"
	contains "pinned: the kind of page" 'anonymous memory' "$OUTPUT"
	contains "pinned: the process" "pin (pid $holder)" "$OUTPUT"
	unchanged "pinned"
	movable "pinned"
	release
}

interrupted() {
	for signal in TERM INT; do
		hold 1500 0
		before=$(snapshot 2>&1)
		# dash has background commands ignore SIGINT: fastboot handles it anyway.
		fastboot hotremove >/tmp/out 2>&1 &
		victim=$!
		sleep 1.5
		kill -$signal $victim
		STATUS=0
		wait $victim || STATUS=$?
		cat /tmp/out
		check_eq "SIG$signal: exit status" 1 "$STATUS"
		contains "SIG$signal: says so" "interrupted by SIG$signal" "$(cat /tmp/out)"
		unchanged "SIG$signal"
		release
	done
}

no_room() {
	fill_tmpfs 5800 huge=always
	before=$(snapshot 2>&1)
	dropped=$(awk '/drop_pagecache/ { print $2 }' /proc/vmstat)
	expect_status 1 "no room: hotremove refuses" fastboot hotremove
	contains "no room: with both sizes" 'must be moved, but only' "$OUTPUT"
	unchanged "no room"
	check_eq "no room: not even the page cache was dropped" "$dropped" \
		"$(awk '/drop_pagecache/ { print $2 }' /proc/vmstat)"
	empty_tmpfs "no room"
}

uptime_ms() { awk '{ print int($1 * 1000) }' /proc/uptime; }

# Milliseconds for the offline steps in the JSON of a hotremove.
offline_ms() {
	awk -F: '/"what"/ { off = /memory block [0-9]* offline/ }
		/took_usec/ && off { sum += $2 } END { print int(sum / 1000) }' "$1"
}

# Pages that the kernel has moved since the boot, all reasons together.
moved_pages() { awk '$1 == "pgmigrate_success" { print $2 }' /proc/vmstat; }

# refill: the same use for each way: hot-added, and 900 MiB of small pages.
refill() {
	fastboot hotadd --discard >/dev/null
	fill_tmpfs 884 huge=never
}

by_daxctl() {
	refill
	before=$(moved_pages)
	start=$(uptime_ms)
	daxctl offline-memory dax0.0
	daxctl_ms=$(($(uptime_ms) - start))
	daxctl_pages=$(($(moved_pages) - before))
	echo dax0.0 >/sys/bus/dax/drivers/kmem/unbind
	echo dax0.0 >/sys/bus/dax/drivers/kmem/remove_id
	ndctl create-namespace --mode raw -e namespace0.0 -f >/dev/null
	by_hand_ms=$(($(uptime_ms) - start))
	umount /fill
}

ascending() {
	refill
	before=$(moved_pages)
	start=$(uptime_ms)
	for n in $(seq $first $last); do echo offline >$memory/memory"$n"/state; done
	ascending_ms=$(($(uptime_ms) - start))
	ascending_pages=$(($(moved_pages) - before))
	fastboot hotremove >/dev/null
	umount /fill
}

by_fastboot() {
	refill
	before=$(moved_pages)
	start=$(uptime_ms)
	fastboot --json hotremove >/host/hotremove.json
	fastboot_ms=$(($(uptime_ms) - start))
	fastboot_pages=$(($(moved_pages) - before))
	umount /fill
}

# ratio A B: with two digits.
ratio() { awk "BEGIN { printf \"%.2f\", $1 / $2 }"; }

figures() {
	by_daxctl
	by_fastboot
	ascending
	offline=$(offline_ms /host/hotremove.json)
	figure "hotremove, 900 MiB in use: all of it" "$fastboot_ms" ms "process start to end"
	figure "hotremove: offlining alone, emptiest first" "$offline" ms
	figure "daxctl offline-memory, the same filling" "$daxctl_ms" ms
	figure "a loop in ascending order, the same filling" "$ascending_ms" ms
	figure "daxctl, unbind and ndctl create-namespace, the same filling" "$by_hand_ms" ms
	used=$(($(sed -n 's/.*"moved_bytes": *\([0-9]*\).*/\1/p' /host/hotremove.json) / 4096))
	figure "hotremove: pages moved / pages in use" "$(ratio "$fastboot_pages" "$used")" '' "$fastboot_pages of $used"
	figure "daxctl offline-memory: pages moved" "$daxctl_pages" ''
	figure "ascending: pages moved" "$ascending_pages" ''
	figure "daxctl offline-memory / hotremove's offlining" "$(ratio "$daxctl_ms" "$offline")" ''
	figure "daxctl, unbind, ndctl / hotremove, all of it" "$(ratio "$by_hand_ms" "$fastboot_ms")" ''
	figure "ascending / emptiest first, offlining alone" "$(ratio "$ascending_ms" "$offline")" ''
}

auto_online=$(cat $memory/auto_online_blocks)
check "check: this kernel can do it" fastboot check
three_cycles
held_namespace
check "hotadd over an unmounted file system" fastboot hotadd
not_root
pinned
interrupted
no_room
check "hotremove at last" fastboot hotremove
raw "at last"
figures
finish
