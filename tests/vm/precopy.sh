#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Copying ahead: a program changes files in every way there is, through shared
# mappings too, until the quiesce hook stops it. Every byte must be as it was
# then, and the blackout must not depend on how much there is in all.
#
#   stage 1  700 MiB, churned while it is copied ahead       -> kexec
#   stage 2  the same without copying ahead, to compare      -> kexec
#   stage 3  the end
#
# vm-kernels: 6.12
# vm-more-kernels: 6.1
# vm-programs: kexec
# vm-add: tests/vm/tools/reboot.sh build/vmtools/churn
# vm-timeout: 900

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh
# shellcheck source=tests/vm/tools/reboot.sh
. /files/reboot.sh

stage=$1

fill() {
	seed
	big still0 300
	big still1 300
	big large0 32
	big large1 32
	for n in 0 1 2; do big mapped$n 8; done
}

# The hook stops the program and notes what the files are then, on /host so
# that the next kernel's side finds it.
# shellcheck disable=SC2016 # for the hook to expand
hook='kill -TERM $(cat /run/churn.pid)
while kill -0 $(cat /run/churn.pid) 2>/dev/null; do sleep 0.1; done
cut -d" " -f1 /proc/uptime >/host/stopped
. /files/reboot.sh
digest >/host/digest
cut -d" " -f1 /proc/uptime >/host/noted'

start_churn() {
	churn $state 600 4096 >/host/churn 2>&1 &
	echo $! >/run/churn.pid
	sleep 2
}

# go OPTION…: comes back only when it fails.
go() {
	start_churn
	fastboot --json reboot "$@" >/host/output 2>&1
	not_ok "stage $stage: reboot" "fastboot reboot came back: $(tail -n 1 /host/output)"
	exit 1
}

json() { tr -d ' \n' </host/output; }

# number KEY: of what `reboot` printed.
number() { json | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"; }

# figure_of NAME PHASE: how long it took.
figure_of() {
	phase=$(printf '%s' "$2" | tr -d ' ')
	usec=$(json | sed -n "s/.*\"phase\":\"$phase\",\"took_usec\":\([0-9]*\).*/\1/p")
	[ -z "$usec" ] || figure "$1, $(uname -r), $2" \
		"$(awk "BEGIN { printf \"%.3f\", $usec / 1e6 }")" s "emulated: compare, don't quote"
}

# What the last stage left behind; $1 is a name for the figures.
arrive() {
	ok "$1: the next kernel runs"
	cat /host/output /host/churn
	for phase in 'copy ahead' 'read the tree' 'copy what changed' 'save and commit'; do
		figure_of "$1" "$phase"
	done
	mount_state
	check "$1: restore" fastboot restore || exit 1
	digest >/host/restored
	check_eq "$1: all that was there when it stopped is back" "" \
		"$(diff /host/digest /host/restored | head -n 5)"
	figure "$1, $(uname -r), lines of the digest" "$(grep -c . /host/digest)" lines ""
}

# Of what was said about the copies: only what changed was touched.
check_copies() {
	for key in ahead_bytes ahead_written_bytes clean_bytes compared_bytes written_bytes; do
		figure "$1, $(uname -r), $key" $(($(number $key) / 1048576)) MiB ""
	done
	for key in rounds leases_held leases_broken; do
		figure "$1, $(uname -r), $key" "$(number $key)" "" ""
	done
	check "600 MiB at least were clean" test "$(number clean_bytes)" -ge 629145600
	check "and 32 MiB at most were written" test "$(number written_bytes)" -le 33554432
	check "leases were held" test "$(number leases_held)" -ge 2
	check "leases were broken" test "$(number leases_broken)" -ge 1
}

configure "$hook"
case $stage in
1)
	mount_state
	fill
	hot_add
	go
	;;
2)
	arrive "copied ahead"
	check_copies "copied ahead"
	hot_add
	go --no-precopy
	;;
3)
	arrive "not copied ahead"
	finish
	;;
*) not_ok "stage $stage" "there should be three" ;;
esac
