#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A `fastboot reboot` that fails leaves the machine as it was: blocks, modes,
# the loaded kernel, the hooks, the state; and no image that is stale.
#
# vm-kernels: 6.12
# vm-more-kernels: 6.1
# vm-programs: kexec
# vm-add: tests/vm/tools/reboot.sh
# vm-timeout: 600

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh
# shellcheck source=tests/vm/tools/reboot.sh
. /files/reboot.sh

stage=$1

# All that a failed reboot must put back; the dax device changes its name.
machine() {
	grep -E 'Persistent|dax|kmem' /proc/iomem | sed 's/dax0\.[0-9]*/dax0.N/'
	for b in /sys/devices/system/memory/memory[0-9]*; do
		echo "${b##*/} $(cat "$b/state") $(cat "$b/valid_zones")"
	done
	cat /sys/devices/system/memory/auto_online_blocks /sys/kernel/kexec_loaded
	digest
}

# fails NAME REGEX CMD…: status 1, one line that matches, all as before.
fails() {
	name=$1 regex=$2
	shift 2
	rm -f /run/hooks
	machine >/tmp/before
	expect_status 1 "$name" "$@"
	check_eq "$name: it says why" yes \
		"$(printf '%s' "$OUTPUT" | tail -n 1 | grep -Eq -e "$regex" && echo yes || echo "$OUTPUT")"
	machine >/tmp/after
	check_eq "$name: the machine is as before" "" "$(diff /tmp/before /tmp/after | head -n 5)"
}

failures() {
	big file 30
	configure 'exit 3'
	fails "a quiesce hook that fails" 'quiesce hook /etc/quiesce failed with status 3' \
		fastboot reboot
	check_eq "both hooks ran" "quiesce quiesce resume resume" "$(xargs </run/hooks)"

	# shellcheck disable=SC2016 # for the hook to expand
	configure 'kill -TERM $PPID; sleep 60'
	fails "a signal while the hook runs" 'interrupted by SIGTERM' fastboot reboot

	configure 'kexec -u -s'
	fails "a kexec that fails after the commit" 'no kernel is loaded' fastboot reboot
	check "hotremove, to look for what it left" fastboot hotremove
	expect_status 4 "no stale image is left" fastboot image show
	hot_add

	configure
	big toolarge 2100
	fails "a state larger than the region" 'GiB|MiB' fastboot reboot
	rm $state/toolarge
	fails "no such kernel" '/nowhere' fastboot reboot --kernel /nowhere
	fails "a command line without the region" 'add memmap=2G!4G' \
		fastboot reboot --command-line console=ttyS0
	mkdir -p /run/systemd/system
	fails "a service manager without --now" '--now' fastboot reboot
	check_eq "no hook ran" no "$([ -e /run/hooks ] && echo yes || echo no)"
	rmdir /run/systemd/system

	machine >/tmp/before
	check "a dry run" fastboot reboot --dry-run
	check_eq "it has the steps" yes \
		"$(printf '%s' "$OUTPUT" | grep -q "write 'offline'" && echo yes || echo "$OUTPUT")"
	machine >/tmp/after
	check_eq "a dry run changes nothing" "" "$(diff /tmp/before /tmp/after | head -n 5)"
	rm $state/file
}

[ "$stage" = 1 ] || {
	not_ok "a reboot that should fail" "it rebooted"
	exit 1
}
configure ''
mount_state
seed
hot_add
failures
finish
