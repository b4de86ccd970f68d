#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The guest's side of kernel/measure: marks the log, and starts the same kernel
# again by kexec until the wanted number of boots are in kmsg.1, kmsg.2, …
# /host/kexecs has, a line a kexec, the counter just before it.
#
# vm-programs: kexec
# vm-timeout: 300

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh

boots=$(sed -n 's/.*measure\.boots=\([0-9]*\).*/\1/p' /proc/cmdline)
how=$(sed -n 's/.*measure\.kexec=\([^ ]*\).*/\1/p' /proc/cmdline)

measure "boot $1"
# The log's reader has to have written it all.
wait_for 20 grep -q "measure: boot $1 " "/host/kmsg.$1"
if [ "$1" -gt "${boots:-2}" ]; then
	ok "booted $1 times"
	finish
	exit 0
fi
# The first boot brings a smaller initramfs for the others, if one is wanted.
[ ! -e /files/initrd ] || cp /files/initrd /host/initrd.small
initrd=/host/initrd
[ ! -e /host/initrd.small ] || initrd=/host/initrd.small
# -s: kexec_file_load; -ci: kexec_load without the purgatory's digest.
kexec "-${how:-s}" -l --initrd=$initrd --command-line="$(cat /proc/cmdline)" /host/vmlinuz ||
	not_ok "kexec -l" "status $?"
measure >>/host/kexecs
kexec -e -x
not_ok "kexec -e" "it came back with status $?"
