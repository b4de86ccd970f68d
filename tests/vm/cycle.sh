#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The main test: `fastboot reboot` three times in a row through kexec, with the
# region hot-added and in use each time, and once through the firmware; every
# byte and every attribute of the state must come back.
#
#   stage 1  an empty state                       -> kexec
#   stage 2  600 MiB of many kinds of files       -> kexec, by kexec_load
#   stage 3  1.85 GiB, nearly all of the region   -> kexec
#   stage 4  a few files                          -> reset by the firmware
#   stage 5  the end
#
# On arm64, which takes the emulator three times as long, the 600 MiB go through all
# three kexecs and are filled once; they are restored lazily, eagerly and in place.
#
# vm-kernels: 6.12 6.1 arm64-6.12 arm64-fast
# vm-programs: kexec split flock
# vm-add: tests/vm/tools/reboot.sh
# vm-timeout: 900
# vm-allow-reset: yes

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh
# shellcheck source=tests/vm/tools/reboot.sh
. /files/reboot.sh

stage=$1

# --- the state ---------------------------------------------------------------

fill_mixed() {
	seed
	mkdir -p "$state/small" "$state/empty dir" $state/deep/er/and/deeper
	(cd $state/small && split -b 5113 -a 4 /tmp/seed)
	for n in 1 2 3 4 5; do big "hundred $n" 110; done
	big "odd	name
with a newline" 1
	: >$state/empty
	truncate -s 256M $state/sparse
	dd if=/tmp/seed of=$state/sparse bs=1M seek=128 count=5 conv=notrunc 2>/dev/null
	ln $state/sparse $state/deep/hard
	ln -s ../nowhere $state/deep/soft
	mkfifo -m 0604 $state/deep/fifo
	mknod -m 0600 $state/deep/null c 1 3
	chown 1234:4321 $state/empty
	chmod 4755 $state/small/xaaaa
	touch -d '2001-02-03 04:05:06' $state/deep/er
}

fill_nearly_all() {
	seed
	n=0
	while [ $n -lt 29 ]; do
		big "part$n" 64
		n=$((n + 1))
	done
	big rest 38
}

fill_few() {
	seed
	big one 20
	mkdir $state/dir
	echo "hello" >$state/dir/file
}

# --- the machine -------------------------------------------------------------

# go NAME OPTION…: comes back only when it fails.
go() {
	name=$1
	shift
	digest >/host/digest
	echo "$name" >/host/expected
	cut -d' ' -f1 /proc/uptime >/host/left
	# No pipe: the kernel ends before a reader has read the last lines.
	fastboot reboot "$@" >/host/output 2>&1
	not_ok "$name" "fastboot reboot came back: $(tail -n 1 /host/output)"
	exit 1
}

# method_was NAME
method_was() { check_eq "$1 was the way" 1 "$(grep -c "^method  *$1: " /host/output)"; }

# What `method = auto` does on arm64: kexec_file_load makes no digest there, and
# a kernel that has none (and no configuration to be read) says so when asked.
auto_method() {
	method_was kexec_file_load
	grep -q '^CONFIG_KEXEC_FILE=y' /host/config
	check_eq "kexec_load was the way after all" $? \
		"$(grep -c '^not by kexec_file_load: the running kernel has no kexec_file_load' /host/output)"
}

# short: is it the chain of arm64?
short() { [ "$(uname -m)" = aarch64 ]; }

restore_state() {
	mode=eager
	if short; then
		case $stage in 2) mode=lazy ;; 4) mode=inplace ;; esac
	fi
	check "$name: restore --mode $mode" fastboot restore --mode $mode || exit 1
	case $mode in
	lazy) flock -w 300 /run/fastboot/restore.lock true ;;
	inplace) check "$name: release" fastboot release || exit 1 ;;
	esac
}

# What the last stage left behind.
arrive() {
	name=$(cat /host/expected)
	ok "$name: the next kernel runs"
	cat /host/output
	for phase in 'check' 'load the next kernel' 'hot-remove' 'copy ahead' 'sync' \
		'quiesce' 'read the tree' 'copy what changed' 'save and commit' \
		'sync again' 'blackout so far'; do
		usec=$(sed -n "s/^$phase  *\([0-9.]*\) s\$/\1/p" /host/output)
		[ -z "$usec" ] || figure "$name, $(uname -r), $phase" "$usec" s "emulated: compare, don't quote"
	done
	mount_state
	restore_state
	digest >/host/restored
	check_eq "$name: all that was saved is back" "" \
		"$(diff /host/digest /host/restored | head -n 5)"
	figure "$name, $(uname -r), files" "$(grep -c . /host/digest)" lines ""
}

# --- the stages --------------------------------------------------------------

configure ''
case $stage in
1)
	mount_state
	seed
	hot_add
	if short; then
		fill_mixed
		go "600 MiB, first"
	fi
	go "an empty state"
	;;
2)
	arrive
	! short || auto_method
	hot_add
	short || fill_mixed
	mkdir -p /etc/fastboot.conf.d
	printf '[kexec]\nmethod = kexec_load\n' >/etc/fastboot.conf.d/method.conf
	go "600 MiB of many kinds"
	;;
3)
	arrive
	method_was kexec_load
	if short; then
		hot_add
		go "600 MiB, third"
	fi
	rm -rf ${state:?}/*
	hot_add
	fill_nearly_all
	go "1.85 GiB"
	;;
4)
	arrive
	rm -rf ${state:?}/*
	hot_add
	fill_few
	go "through the firmware" --firmware
	;;
5)
	arrive
	figure "reboots in a row, all of the state kept, $(uname -r)" \
		"$(grep -c '^ok - .*: all that was saved is back$' /host/results)" "of 4" ""
	finish
	;;
*) not_ok "stage $stage" "there should be five" ;;
esac
