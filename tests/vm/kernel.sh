#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Is the kernel that kernel/build makes still a server's kernel?  Disks and their
# file systems, the network, CPUs, cgroups, what systemd asks for, /init in time.
# That the guest ends at all is ACPI's power off.
#
# vm-kernels: fast
# vm-programs: mke2fs e2fsck
# vm-modules: nvme ahci sd_mod
# vm-devices: virtio-blk nvme sata virtio-net
# vm-append: rdinit_early
# vm-timeout: 180

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh

# The guest's /init waits for the drivers, and has a console then.
check_eq "/init was started beside the drivers" yes \
	"$([ "$(logged 'Run ')" -lt "$(logged 'Freeing unused kernel image')" ] && echo yes)"

clocks=/sys/devices/system/clocksource/clocksource0

# disk NAME DEVICE MODULE…: a file written to an ext4 on it is there after it
# was mounted again.
disk() {
	name=$1 device=$2
	shift 2
	check "$name: the driver loads" modprobe -a "$@" || return
	check "$name: $device appears" wait_for 20 test -b "$device" || return
	check "$name: mke2fs" mke2fs -q -t ext4 -F "$device" || return
	mkdir -p /mnt/disk
	check "$name: mount" mount -t ext4 "$device" /mnt/disk || return
	cp /host/payload /mnt/disk/payload
	umount /mnt/disk
	# Not from the cache.
	echo 3 >/proc/sys/vm/drop_caches
	check "$name: mount again" mount -t ext4 "$device" /mnt/disk || return
	check "$name: reads what was written" cmp /host/payload /mnt/disk/payload
	umount /mnt/disk
	check "$name: e2fsck finds nothing" e2fsck -f -n "$device"
}

network() {
	check "network: the driver loads" modprobe virtio_net || return
	check "network: eth0 appears" wait_for 10 test -e /sys/class/net/eth0 || return
	ip link set eth0 up
	ip addr add 10.0.2.15/24 dev eth0
	check "network: fetches a file" timeout 60 tftp -g -r payload -l /tmp/payload 10.0.2.2 || return
	check "network: the file is right" cmp /host/payload /tmp/payload
	check "network: the gateway answers a ping" ping -c 1 -W 5 10.0.2.2
	check "network: nothing is lost" grep -q ' 0% packet loss' <<-EOT
		$OUTPUT
	EOT
}

# systemd's README, "REQUIREMENTS", as of 252: needed, and then recommended.
systemd_wants() {
	zcat /proc/config.gz >/tmp/config
	missing=
	for option in DEVTMPFS CGROUPS INOTIFY_USER SIGNALFD TIMERFD EPOLL UNIX SYSFS PROC_FS FHANDLE \
		NET_NS USER_NS IPV6 AUTOFS_FS TMPFS_XATTR TMPFS_POSIX_ACL SECCOMP SECCOMP_FILTER KCMP \
		CGROUP_SCHED FAIR_GROUP_SCHED CFS_BANDWIDTH MEMCG CGROUP_BPF BPF BPF_SYSCALL BPF_JIT \
		DMIID PSI NET_SCHED; do
		grep -Eq "^CONFIG_$option=[ym]" /tmp/config || missing="$missing $option"
	done
	for option in SYSFS_DEPRECATED FW_LOADER_USER_HELPER RT_GROUP_SCHED; do
		! grep -q "^CONFIG_$option=y" /tmp/config || missing="$missing no-$option"
	done
	check_eq "has what systemd requires and recommends" "" "$missing"
	check "cgroup v2 is there" mount -t cgroup2 cgroup2 /sys/fs/cgroup || return
	have=" $(cat /sys/fs/cgroup/cgroup.controllers) "
	for controller in cpuset cpu io memory pids; do
		case $have in
		*" $controller "*) ok "cgroup v2 has $controller" ;;
		*) not_ok "cgroup v2 has $controller" "only$have" ;;
		esac
	done
	echo +memory >/sys/fs/cgroup/cgroup.subtree_control
	mkdir /sys/fs/cgroup/one
	check "a group can be limited" sh -c 'echo 64M >/sys/fs/cgroup/one/memory.max'
}

# What the machine needs besides.
machine() {
	case $(uname -r) in
	*-fastboot) ok "it is our kernel" ;;
	*) not_ok "it is our kernel" "$(uname -r)" ;;
	esac
	check_eq "both CPUs are online" 0-1 "$(cat /sys/devices/system/cpu/online)"
	check "ACPI is there" test -d /sys/firmware/acpi/tables
	check "a clock is there" test -e /sys/class/rtc/rtc0/since_epoch
	wait_for 10 grep -qx tsc "$clocks"/current_clocksource || true
	check_eq "the TSC is the clock" tsc "$(cat "$clocks/current_clocksource")"
}

# Timers are right when a wait takes as long by the timers (sleep) as by the
# counter (the clock): a wrong calibration of either would show.
timers() {
	read -r before _ </proc/uptime
	sleep 1
	read -r after _ </proc/uptime
	check_eq "a second takes a second" yes \
		"$(awk "BEGIN { took = $after - $before; print (took > 0.95 && took < 1.5 ? \"yes\" : took) }")"
}

figure "boot to init, $(uname -r)" "$(seconds_since_boot)" s "emulated: compare, don't quote"
dd if=/dev/urandom of=/host/payload bs=64k count=32 2>/dev/null
machine
timers
systemd_wants
disk virtio-blk /dev/vda virtio_blk
disk NVMe /dev/nvme0n1 nvme
disk SATA /dev/sda ahci sd_mod
network
finish
