#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The test guests themselves: does one boot, does it have the region, and does
# the region's content survive a kexec by hand?  Without this, no other result
# from a guest means anything.
#
# vm-kernels: 6.12 6.1 fast
# vm-programs: kexec
# vm-timeout: 180
# vm-region: 2G!4G

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh

stage=$1

check_region() {
	check_eq "stage $stage: the region is persistent memory at its place" \
		"100000000-17fffffff : Persistent Memory (legacy)" \
		"$(grep '^100000000-' /proc/iomem)"
	check "stage $stage: /dev/pmem0 appears" load_pmem || exit 1
	check_eq "stage $stage: /dev/pmem0 has all of the region" \
		$((2 * 1024 * 1024 * 1024)) "$(blockdev --getsize64 /dev/pmem0)"
}

# The whole of the first 64 MiB and the last MiB.
digest() {
	{
		dd if=/dev/pmem0 bs=1M count=64 2>/dev/null
		dd if=/dev/pmem0 bs=1M skip=2047 2>/dev/null
	} | md5sum
}

first_stage() {
	check_eq "the guest has its memory" yes \
		"$(awk '/MemTotal/ { print ($2 > 5500000 ? "yes" : $2) }' /proc/meminfo)"
	figure "boot to init, $(uname -r)" "$(seconds_since_boot)" s "emulated: compare, don't quote"
	check_region
	dd if=/dev/urandom of=/dev/pmem0 bs=1M count=64 conv=fsync 2>/dev/null
	dd if=/dev/urandom of=/dev/pmem0 bs=1M seek=2047 count=1 conv=fsync 2>/dev/null
	digest >/host/digest
	cat /proc/sys/kernel/random/boot_id >/host/boot_id
	# shellcheck disable=SC2119
	kexec_by_hand
	not_ok "kexec into stage 2" "kexec came back with status $?"
}

second_stage() {
	ok "kexec into stage 2"
	check_eq "it is another boot" no \
		"$(cmp -s /host/boot_id /proc/sys/kernel/random/boot_id && echo yes || echo no)"
	check_region
	check_eq "what was written is still there" "$(cat /host/digest)" "$(digest)"
	finish
}

case $stage in
1) first_stage ;;
2) second_stage ;;
*) not_ok "stage $stage" "there should be two" ;;
esac
