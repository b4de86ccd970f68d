#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A kernel that uses 52-bit addresses (LPA2), which a kexec would crash: refused
# before anything is touched, with the way out.
#
# vm-kernels: arm64-6.12
# vm-programs: kexec
# vm-add: tests/vm/tools/reboot.sh
# vm-timeout: 200
# vm-cpu: max,pauth-impdef=on

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh
# shellcheck source=tests/vm/tools/reboot.sh
. /files/reboot.sh

stage=$1

# refused COMMAND…: 5, and one line that names the fix.
refused() {
	expect_status 5 "$*" fastboot "$@"
	check_eq "$*: the last line has the fix" 1 \
		"$(printf '%s\n' "$OUTPUT" | tail -n 1 | grep -c '^fastboot: .*LPA2.*arm64\.nolva')"
	check_eq "$*: nothing is loaded" 0 "$(cat /sys/kernel/kexec_loaded)"
}

# Where it is, how it is used, which blocks are online; not how full they are.
region() { fastboot --json status | grep -v 'used_bytes'; }

configure ''
mount_state
echo kept >$state/file
hot_add
before=$(region)
fastboot check >/run/check 2>&1
cat /run/check
check "check says so" grep -E '^impossible +.*arm64\.nolva' /run/check
refused load
refused reboot
refused -n reboot
check_eq "the region is as before" "$before" "$(region)"
check_eq "the applications were left alone" no "$([ -e /run/hooks ] && echo yes || echo no)"
finish
