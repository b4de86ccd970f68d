#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A machine whose firmware is UEFI with ACPI and no device tree: a region by ACPI
# tables in front of the initrd and mem=, first brought by a kexec, then carried
# through two reboots with a state in it.
#
#   stage 1  no region; plan writes the tables           -> kexec
#   stage 2  the region; hot-added, a state              -> reboot, the tables added
#   stage 3  the state is back, and goes on              -> reboot, the tables there
#   stage 4  the state is back; what must be refused
#
# vm-kernels: arm64-6.12 arm64-fast
# vm-firmware: uefi
# vm-programs: kexec
# vm-modules: nfit
# vm-add: tests/vm/tools/reboot.sh
# vm-timeout: 600

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh
# shellcheck source=tests/vm/tools/reboot.sh
. /files/reboot.sh

stage=$1
tables=/host/tables.img

# matches NAME REGEX: does a line of $OUTPUT?
matches() {
	check_eq "$1" yes "$(printf '%s\n' "$OUTPUT" | grep -Eq -- "$2" && echo yes || printf '%s' "$OUTPUT")"
}

ram() { sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo; }

load() { fastboot load --kernel /host/vmlinuz --initrd "$@"; }

first_boot() {
	expect_status 1 "check: no region" fastboot check
	matches "check: how to get one" '^missing +region .*fastboot plan'
	matches "check: and that it can be had" '^ok +ACPI tables '
	check "plan" fastboot plan --size 2G
	matches "plan: the tables" '^    fastboot plan --size 2048M --at 0x[0-9a-f]+ --acpi-tables '
	check "plan --acpi-tables" fastboot plan --size 2G --acpi-tables $tables
	mem=$(printf '%s\n' "$OUTPUT" | sed -n 's/.*--append \(mem=[0-9]*K\)$/\1/p')
	echo "$mem" >/host/mem
	printf '%s\n' "$OUTPUT" | sed -n 's/^region *\(0x[0-9a-f]*-0x[0-9a-f]*\),.*/\1/p' >/host/region
	check "plan --acpi-tables: again" fastboot plan --size 2G --acpi-tables $tables
	expect_status 1 "plan --acpi-tables: not over another file" \
		fastboot plan --size 2G --acpi-tables /host/initrd
	cat $tables /host/initrd >/host/initrd-with
	expect_status 1 "load: RAM must end below the region" load /host/initrd-with
	matches "load: and how" "would take the region $(cat /host/region) as RAM: --append $mem\$"
	check "load" load /host/initrd-with --append "$mem"
	matches "load: the region is new" "^region +$(cat /host/region), new\$"
	sync
	kexec -e -x
	not_ok "kexec -e" "it came back"
}

# The kernel took the tables, and mem= keeps RAM away.
in_place() {
	check "stage $stage: check" fastboot check
	matches "stage $stage: check: the region" "^ok +region +2,064 MiB, $(cat /host/region), from acpi-tables"
	matches "stage $stage: check: carried" '^ok +carry-over +mem='
}

# Everything up to the reboot, which must not come back.
go() {
	digest >/host/digest
	fastboot reboot "$@" >/host/output 2>&1
	not_ok "stage $stage: reboot" "it came back: $(tail -n 1 /host/output)"
	exit 1
}

second_boot() {
	mount_state
	in_place
	before=$(ram)
	hot_add
	check_eq "hotadd: all of 2 GiB" 2097152 $(($(ram) - before))
	check_eq "its NUMA node" 0 "$(cat /sys/bus/nd/devices/region0/target_node)"
	seed
	big one 40
	expect_status 5 "reboot --firmware is refused" fastboot -n reboot --firmware
	matches "reboot --firmware: why" 'ACPI tables in front of the initrd'
	expect_status 1 "without mem= it is refused" fastboot -n reboot --command-line "console=ttyAMA0"
	matches "without mem=: what to add" "add $(cat /host/mem)\$"
	go
}

restore_state() {
	check_eq "stage $stage: carried by" "$1" "$(sed -n 's/^region .*, carried by //p' /host/output)"
	mount_state
	in_place
	check "stage $stage: restore" fastboot restore
	digest >/host/restored
	check_eq "stage $stage: all that was saved is back" "" \
		"$(diff /host/digest /host/restored | head -n 5)"
}

third_boot() {
	restore_state "ACPI tables, which are put in front of its initrd"
	hot_add
	go --kernel /host/vmlinuz --initrd /host/initrd-with
}

fourth_boot() {
	restore_state "the ACPI tables that its initrd begins with"
	expect_status 1 "load: lockdown= is refused" load /host/initrd --append lockdown=integrity
	matches "load: lockdown=: why" 'lockdown=integrity .* may refuse the ACPI tables'
	check "plan: the region stays" fastboot plan --size 2G
	matches "plan: the region stays, word" '^region .*: there already$'
	check "plan: another one" fastboot plan --size 1G --acpi-tables /tmp/other.img
	cat /tmp/other.img /host/initrd >/tmp/initrd-other
	expect_status 1 "load: another region is refused" load /tmp/initrd-other
	matches "load: another region: why" 'begins with ACPI tables 0x.*, not for the region 0x'
	finish
}

configure ''
case $stage in
1) first_boot ;;
2) second_boot ;;
3) third_boot ;;
4) fourth_boot ;;
*) not_ok "stage $stage" "there should be four" ;;
esac
