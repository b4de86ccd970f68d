#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The timeline against a clock outside of the guest: files made on /host get their
# times from the host's file system. The hook makes one when the applications stop,
# the test makes one when the state is back; the timeline must tell the same time
# between them, though two kernels measured it.
#
#   stage 1  300 MiB                                     -> kexec
#   stage 2  restored eagerly                            -> kexec
#   stage 3  restored lazily                             -> reset by the firmware
#   stage 4  the clock did not run through: nothing is invented
#
# vm-kernels: 6.12 arm64-fast
# vm-more-kernels: 6.1
# vm-programs: kexec stat
# vm-add: tests/vm/tools/reboot.sh
# vm-timeout: 900
# vm-allow-reset: yes

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh
# shellcheck source=tests/vm/tools/reboot.sh
. /files/reboot.sh

stage=$1

# mark NAME: a file with the host's time; a new name, so that it is made now.
mark() { : >"/host/mark-$1.$stage"; }

# between A B: microseconds of the host's clock from one file to the other.
between() {
	a=$(stat -c %.6Y "$1") b=$(stat -c %.6Y "$2")
	echo $(((${b%.*} - ${a%.*}) * 1000000 + 1${b#*.} - 1${a#*.}))
}

# number KEY: of the timeline's JSON; "null" where it is not known.
number() { tr -d ' \n' </host/timeline.json | sed -n "s/.*\"$1\":\(null\|[0-9]*\).*/\1/p"; }

# took PHASE: its microseconds, nothing where it is not there.
took() {
	tr -d ' \n' </host/timeline.json | tr '{' '\n' |
		sed -n "s/^\"phase\":$1,.*\"took_usec\":\([0-9]*\).*/\1/p"
}

go() {
	mark began
	fastboot reboot "$@" >/host/output 2>&1
	not_ok "stage $stage: reboot" "fastboot reboot came back: $(tail -n 1 /host/output)"
	exit 1
}

show() {
	check "$1: timeline" fastboot timeline || exit 1
	fastboot --json timeline >/host/timeline.json
	check "$1: picture" fastboot timeline --svg "/host/timeline.$stage.svg"
	# That such a picture is valid XML tests/cli/timeline.sh shows.
	check_eq "$1: the picture is whole" '</svg>' "$(tail -n 1 "/host/timeline.$stage.svg")"
	cp /run/fastboot/timeline "/host/timeline.$stage"
	cp /host/timeline.json "/host/timeline.$stage.json"
}

# agree NAME INSIDE OUTSIDE: within 5 % and 50 ms; what starts the programs that
# make the files is in the outer time only.
agree() {
	[ "$2" -ge 0 ] 2>/dev/null || { not_ok "$1" "the timeline has '$2'"; return; }
	figure "$1, $(uname -r), by the timeline" "$(awk "BEGIN { printf \"%.3f\", $2 / 1e6 }")" s "emulated: compare, don't quote"
	figure "$1, $(uname -r), by the host's clock" "$(awk "BEGIN { printf \"%.3f\", $3 / 1e6 }")" s "the same"
	difference=$(($3 - $2)) allowed=$(($3 / 20 + 50000))
	if [ ${difference#-} -le $allowed ]; then
		ok "$1: both clocks agree"
	else
		not_ok "$1: both clocks agree" "$2 us by the timeline, $3 us by the host"
	fi
}

# phases NAME NUMBER…: each is there, in this order, and none twice.
phases() {
	name=$1
	shift
	check_eq "$name: the phases" "$*" "$(tr -d ' \n' </host/timeline.json | tr '{' '\n' |
		sed -n 's/^"phase":\([0-9]*\),.*/\1/p' | tr '\n' ' ' | sed 's/ $//')"
}

# The kernel's steps are all of the time that it took.
check_kernel() {
	sum=$(tr -d ' \n' </host/timeline.json | sed 's/.*"kernel":\[//' | tr '{' '\n' |
		grep -v initramfs | sed -n 's/.*"took_usec":\([0-9]*\).*/\1/p' | awk '{ s += $1 } END { print s + 0 }')
	difference=$(($(took 13) - sum))
	check "$1: the kernel's steps are its share" test ${difference#-} -le 10
	check "$1: the kernel took longer than nothing" test "$(took 13)" -gt 100000
}

compare() {
	before=$((stage - 1))
	agree "$1, blackout" "$(number blackout_usec)" \
		"$(between /host/mark-stopped.$before "/host/mark-visible.$stage")"
	agree "$1, all in all" "$(number total_usec)" \
		"$(between /host/mark-began.$before "/host/mark-added.$stage")"
	check_eq "$1: the clock ran through" 1 "$(grep -c '"clock_ran_through":true' /host/timeline.json)"
	figure "$1, $(uname -r), kexec up to the kernel's clock" "$(awk "BEGIN { printf \"%.3f\", $(took 12) / 1e6 }")" s "emulated: compare, don't quote"
	figure "$1, $(uname -r), kernel" "$(awk "BEGIN { printf \"%.3f\", $(took 13) / 1e6 }")" s "the same"
	check_kernel "$1"
}

configure ": >/host/mark-stopped.$stage"
case $stage in
1)
	expect_status 4 "before the first reboot there is none" fastboot timeline
	mount_state
	seed
	for n in 1 2 3; do big "hundred$n" 100; done
	hot_add
	expect_status 4 "a hot-add alone makes none" fastboot timeline
	go
	;;
2)
	mount_state
	check "restore" fastboot restore || exit 1
	mark visible
	hot_add
	mark added
	show "eager"
	compare "eager"
	phases "eager" 2 3 4 10 5 6 7 11 19 12 13 20 14 15 17 21 18
	go
	;;
3)
	mount_state
	check "lazy restore" fastboot restore --mode lazy || exit 1
	mark visible
	check "all files are filled" wait_for 60 sh -c 'fastboot status | grep -q "restore .* done"'
	hot_add
	mark added
	show "lazy"
	compare "lazy"
	phases "lazy" 2 3 4 10 5 6 7 11 19 12 13 20 14 15 16 17 21 18
	go --firmware
	;;
4)
	mount_state
	check "restore after the reset" fastboot restore || exit 1
	show "firmware"
	check_eq "firmware: it says so" 1 "$(grep -c '"clock_ran_through":false' /host/timeline.json)"
	check_eq "firmware: no blackout is known" null "$(number blackout_usec)"
	check_eq "firmware: nor the whole" null "$(number total_usec)"
	check "firmware: but how long it was prepared" test "$(number prepare_usec)" -gt 1000
	phases "firmware" 2 4 10 5 6 7 11 13 20 14 15 17
	finish
	;;
*) not_ok "stage $stage" "there should be four" ;;
esac
