#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A region from a device-tree overlay, on a board whose boot loader knows nothing
# of it: made from the running tree, booted with one kexec, hot-added whole, and
# carried on by the next kexec, which gets no tree, with an image in it.
# The CPU has LPA2, so it also shows that arm64.nolva is the way out of what
# lpa2.sh sees refused.
#
# vm-kernels: arm64-6.12 arm64-fast
# vm-programs: kexec fdtoverlay
# vm-region: none
# vm-cpu: max,pauth-impdef=on
# vm-append: arm64.nolva
# vm-timeout: 600

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh

# matches NAME REGEX: does a line of $OUTPUT?
matches() {
	check_eq "$1" yes "$(printf '%s\n' "$OUTPUT" | grep -Eq -- "$2" && echo yes || printf '%s' "$OUTPUT")"
}

# What the kernel calls the top-level ranges that reach into START-LAST, but for
# the region's driver, which may be built in.
names_in() {
	grep -v -e '^ ' -e ' : namespace0.0$' /proc/iomem | while read -r range _ name; do
		[ $((0x${range%-*})) -gt $(($2)) ] || [ $((0x${range#*-})) -lt $(($1)) ] || echo "$name"
	done | sort -u | tr '\n' ' '
}

next() {
	sync
	kexec -e -x
	not_ok "kexec -e" "it came back"
}

first_boot() {
	expect_status 1 "check: no region" fastboot check
	matches "check: how to get one" 'fastboot plan'
	check "plan" fastboot plan --size 2G
	matches "plan: the overlay" '^    fastboot overlay --size 2048M --at 0x[0-9a-f]+ -o region.dtbo$'
	check "overlay of the running tree" fastboot overlay --size 2G -o /tmp/region.dtbo --apply /tmp/merged.dtb
	check "fdtoverlay applies it" fdtoverlay -i /sys/firmware/fdt -o /tmp/by-fdtoverlay.dtb /tmp/region.dtbo
	check "and makes the same tree" cmp /tmp/by-fdtoverlay.dtb /tmp/merged.dtb
	check "load --dtb" fastboot load --kernel /host/vmlinuz --initrd /host/initrd --dtb /tmp/merged.dtb
	matches "load --dtb: the region is new" '^region +0x107000000-0x187ffffff, new$'
	matches "load --dtb: and no segment is in it" '^loaded +none of its segments is in the region'
	next
}

# The kernel took the tree: the range is in no map of it, and of_pmem has it.
in_place() {
	check_eq "$1: not in the kernel's memory" '' "$(names_in 0x107000000 0x187ffffff)"
	check "$1: check" fastboot check
	matches "$1: check: the region" '^ok +region +2,064 MiB, 0x107000000-0x187ffffff, from device-tree'
	matches "$1: check: its place" '^ok +placement +hot-add gains 2 GiB$'
	matches "$1: check: carried" '^ok +carry-over'
}

second_boot() {
	in_place "second boot"
	before=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)
	check "hotadd" fastboot hotadd
	after=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)
	check_eq "hotadd: all of 2 GiB" 2097152 $((after - before))
	check "hotremove" fastboot hotremove
	mkdir -p /tmp/state && head -c 3000000 /dev/urandom >/tmp/state/file
	sha256sum </tmp/state/file >/host/sum
	check "save" fastboot save /tmp/state
	check "load, without a tree" fastboot load --kernel /host/vmlinuz --initrd /host/initrd
	matches "load: carried" '^region +0x107000000-0x187ffffff, carried by the device tree$'
	next
}

third_boot() {
	in_place "third boot"
	check "restore" fastboot restore
	check_eq "restore: the same bytes" "$(cat /host/sum)" "$(sha256sum </tmp/state/file)"
	check "hotadd again" fastboot hotadd
	finish
}

case $1 in
1) first_boot ;;
2) second_boot ;;
3) third_boot ;;
esac
