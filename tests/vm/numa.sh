#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A board with two NUMA nodes, whose overlay puts the region into the second one:
# its memory is hot-added to that node, is taken back, and carries an image.
#
# vm-more-kernels: arm64-fast
# vm-programs: kexec
# vm-add: tests/vm/tools/reboot.sh
# vm-region: none
# vm-numa: 6G 2G
# vm-timeout: 300

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh
# shellcheck source=tests/vm/tools/reboot.sh
. /files/reboot.sh

stage=$1

# blocks NODE: how many memory blocks it has.
blocks() { find "/sys/devices/system/node/node$1/" -maxdepth 1 -name 'memory[0-9]*' | wc -l; }

first_boot() {
	check_eq "two nodes" 0-1 "$(cat /sys/devices/system/node/online)"
	check "overlay" fastboot overlay --size 1G --at 0x1c7000000 -o /tmp/region.dtbo --apply /tmp/merged.dtb
	check_eq "overlay: in node 1" 1 "$(printf '%s\n' "$OUTPUT" | grep -c 'NUMA node 1')"
	check "load --dtb" fastboot load --kernel /host/vmlinuz --initrd /host/initrd --dtb /tmp/merged.dtb
	sync
	kexec -e -x
	not_ok "kexec -e" "it came back"
	exit 1
}

# The first two nodes' blocks before the hot-add, during and after it.
second_boot() {
	zero=$(blocks 0) one=$(blocks 1)
	hot_add
	check_eq "hotadd: nothing in node 0" "$zero" "$(blocks 0)"
	check_eq "hotadd: 8 blocks in node 1" $((one + 8)) "$(blocks 1)"
	check "hotremove" fastboot hotremove
	check_eq "hotremove: node 1 is as before" "$one" "$(blocks 1)"
	mount_state
	seed
	big file 100
	hot_add
	digest >/host/digest
	fastboot reboot >/host/output 2>&1
	not_ok "reboot" "fastboot reboot came back: $(tail -n 1 /host/output)"
	exit 1
}

third_boot() {
	mount_state
	check "restore" fastboot restore
	digest >/host/restored
	check_eq "all that was saved is back" "" "$(diff /host/digest /host/restored | head -n 5)"
	one=$(blocks 1)
	hot_add
	check_eq "hotadd again: in node 1" $((one + 8)) "$(blocks 1)"
	finish
}

configure ''
case $stage in
1) first_boot ;;
2) second_boot ;;
3) third_boot ;;
esac
