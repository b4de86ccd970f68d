#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A CPU with LPA2. A kernel that uses its 52-bit addresses, which a kexec would
# crash, is refused before anything is touched, with the way out. One that does
# not is not refused, and survives both calls.
#
# vm-kernels: arm64-6.12
# vm-more-kernels: arm64-fast
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

# go METHOD: comes back only when it fails.
go() {
	printf '[kexec]\nmethod = %s\n' "$1" >>/etc/fastboot.conf
	fastboot reboot >/host/output 2>&1
	not_ok "$1" "fastboot reboot came back: $(tail -n 1 /host/output)"
	exit 1
}

# arrive METHOD: by which the last stage left.
arrive() {
	ok "$1: the next kernel runs"
	check_eq "$1 was the way" 1 "$(grep -c "^method  *$1: configured" /host/output)"
	mount_state
	check "$1: restore" fastboot restore
	check_eq "$1: the state is back" kept "$(cat $state/file)"
}

unaffected() {
	case $stage in
	1)
		mount_state
		echo kept >$state/file
		expect_status 0 "check refuses nothing" fastboot check
		go kexec_load
		;;
	2)
		arrive kexec_load
		go kexec_file_load
		;;
	3)
		arrive kexec_file_load
		finish
		;;
	esac
	exit
}

configure ''
grep -q '^CONFIG_ARM64_LPA2=y' /host/config || unaffected
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
