#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Run by report.service: the second stage, as tests/vm/init would run it.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /host
modprobe -a virtio_pci 9p 9pnet_virtio &&
	mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none host /host
echo 2 >/host/stage
cat /dev/kmsg >/host/kmsg.2 2>/dev/null &
cd / || exit
sh -u /host/test.sh 2
sync
busybox poweroff -f
