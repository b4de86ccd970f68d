#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Debian's systemd as the first process of the kernel that kernel/build makes:
# does it reach multi-user.target, and do its mounts, its journal and its control
# groups work?  The first stage is the usual guest's; the second is started by
# systemd/report.service.
#
# vm-kernels: fast
# vm-programs: kexec systemctl systemd-tmpfiles
# vm-add: /lib/systemd/systemd:/lib/systemd/systemd /lib/systemd/systemd-journald:/lib/systemd/systemd-journald /lib/systemd/systemd-sysctl:/lib/systemd/systemd-sysctl tests/vm/systemd:/etc/systemd/system /lib/systemd/system/basic.target:/lib/systemd/system/basic.target /lib/systemd/system/sysinit.target:/lib/systemd/system/sysinit.target /lib/systemd/system/multi-user.target:/lib/systemd/system/multi-user.target /lib/systemd/system/local-fs.target:/lib/systemd/system/local-fs.target /lib/systemd/system/local-fs-pre.target:/lib/systemd/system/local-fs-pre.target /lib/systemd/system/swap.target:/lib/systemd/system/swap.target /lib/systemd/system/paths.target:/lib/systemd/system/paths.target /lib/systemd/system/slices.target:/lib/systemd/system/slices.target /lib/systemd/system/sockets.target:/lib/systemd/system/sockets.target /lib/systemd/system/timers.target:/lib/systemd/system/timers.target /lib/systemd/system/shutdown.target:/lib/systemd/system/shutdown.target /lib/systemd/system/umount.target:/lib/systemd/system/umount.target /lib/systemd/system/user.slice:/lib/systemd/system/user.slice /lib/systemd/system/rescue.service:/lib/systemd/system/rescue.service /lib/systemd/system/emergency.service:/lib/systemd/system/emergency.service /lib/systemd/system/systemd-journald.service:/lib/systemd/system/systemd-journald.service /lib/systemd/system/systemd-journald.socket:/lib/systemd/system/systemd-journald.socket /lib/systemd/system/systemd-journald-dev-log.socket:/lib/systemd/system/systemd-journald-dev-log.socket /lib/systemd/system/systemd-tmpfiles-setup-dev.service:/lib/systemd/system/systemd-tmpfiles-setup-dev.service /lib/systemd/system/systemd-sysctl.service:/lib/systemd/system/systemd-sysctl.service /lib/systemd/system/dev-hugepages.mount:/lib/systemd/system/dev-hugepages.mount /lib/systemd/system/dev-mqueue.mount:/lib/systemd/system/dev-mqueue.mount /lib/systemd/system/sys-kernel-debug.mount:/lib/systemd/system/sys-kernel-debug.mount /lib/systemd/system/proc-sys-fs-binfmt_misc.automount:/lib/systemd/system/proc-sys-fs-binfmt_misc.automount /lib/systemd/system/proc-sys-fs-binfmt_misc.mount:/lib/systemd/system/proc-sys-fs-binfmt_misc.mount
# vm-modules: binfmt_misc
# vm-timeout: 120

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh

first_stage() {
	kexec -s -l --initrd=/host/initrd \
		--command-line="$(cat /proc/cmdline) rdinit=/lib/systemd/systemd systemd.unit=report.target" \
		/host/vmlinuz || { not_ok "kexec -l" "status $?"; return; }
	sync
	kexec -e -x
	not_ok "kexec" "it came back with status $?"
}

active() { check_eq "$1 is active" active "$(systemctl is-active "$1")"; }

second_stage() {
	check_eq "systemd is the first process" systemd "$(cat /proc/1/comm)"
	active multi-user.target
	active dev-hugepages.mount
	active dev-mqueue.mount
	active sys-kernel-debug.mount
	active proc-sys-fs-binfmt_misc.automount
	active systemd-journald.service
	check_eq "no unit has failed" "" "$(systemctl list-units --failed --plain --no-legend | tr '\n' ';')"
	check "a service is limited by its control group" \
		systemctl set-property --runtime systemd-journald.service MemoryMax=512M
	check_eq "the kernel has the limit" $((512 * 1024 * 1024)) \
		"$(cat /sys/fs/cgroup/system.slice/systemd-journald.service/memory.max)"
	finish
}

case $1 in
1) first_stage ;;
2) second_stage ;;
*) not_ok "stage $1" "there should be none" ;;
esac
