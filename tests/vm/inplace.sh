#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# restore --mode inplace: the image itself is mounted with DAX, changes go above
# it, `fastboot release` makes it an ordinary copy; a reboot keeps what was
# changed; a crash leaves nothing that could be taken for the state.
#
#   stage 1  a state of many kinds, and a large file           -> kexec
#   stage 2  in place, changed, released, hot-added            -> kexec
#   stage 3  in place, changed; rebooted without a release     -> kexec
#   stage 4  the changes are there; in place again             -> reset
#   stage 5  nothing is restored
#
# vm-kernels: 6.12
# vm-programs: kexec
# vm-add: tests/vm/tools/reboot.sh build/vmtools/mktree build/vmtools/treediff
# vm-timeout: 1200
# vm-allow-reset: yes

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh
# shellcheck source=tests/vm/tools/reboot.sh
. /files/reboot.sh

stage=$1
large=150

# Of all file systems together: memory that files and the page cache take, MiB.
cached() { awk '/^(Cached|Shmem):/ { n += $2 } END { print int(n / 1024) }' /proc/meminfo; }

# Everything but the sizes and link counts of directories, which each kind of file
# system counts as it likes.
digest() {
	(
		cd $state || exit
		find . -type f -exec md5sum {} + | sort
		find . ! -type d -exec stat -c '%N %f %u:%g %s %h %t:%T' {} + | sort
		find . -type d -exec stat -c '%N %f %u:%g' {} + | sort
		find . -mindepth 1 -exec stat -c '%N %Y' {} + | sort
	)
}

# go NAME OPTION…: comes back only when it fails.
go() {
	name=$1
	shift
	digest >/host/digest
	fastboot reboot "$@" >/host/output 2>&1
	not_ok "$name: reboot" "fastboot reboot came back: $(tail -n 1 /host/output)"
	exit 1
}

# in_place NAME: restore, and compare with what the last stage noted.
in_place() {
	mkdir -p $state
	[ "${2-}" = bare ] || mount_state
	before=$(cached)
	check "$1: restore in place" fastboot restore --mode inplace || exit 1
	figure "$1, $(uname -r), until the state is in place" \
		"$(printf '%s\n' "$OUTPUT" | sed -n 's/.*in place after \([0-9.]*\) s.*/\1/p')" s "emulated: compare, don't quote"
	check_eq "$1: with DAX" yes "$(sed -n "s|.*/image erofs .*dax=always.*|yes|p" /proc/mounts)"
	digest >/host/restored
	check_eq "$1: all that was saved is there" "" "$(diff /host/digest /host/restored | head -n 5)"
	taken=$(($(cached) - before))
	figure "$1, $(uname -r), page cache and tmpfs for $large MiB read" $taken MiB
	check "$1: reading takes no memory" test $taken -lt 50
}

change() {
	echo more >>$state/link1
	rm $state/gone
	mkdir $state/new
	echo new >$state/new/file
	mv $state/dir $state/renamed
	chmod 0640 $state/large
	dd if=/tmp/seed of=$state/large bs=4k seek=77 count=3 conv=notrunc 2>/dev/null
}

fill() {
	seed
	big large $large
	mkdir -p $state/dir/below
	echo one >$state/dir/one
	echo gone >$state/gone
	echo link >$state/link1
	ln $state/link1 $state/dir/link2
	mkdir $state/kinds
	mktree nasty $state/kinds >/dev/null
	# An overlay hides what looks like its own marks.
	find $state/kinds -type c -exec stat -c '%t:%T %n' {} + | sed -n 's/^0:0 //p' | while read -r n; do rm "$n"; done
}

# The ways out that are refused, and who is named.
refusals() {
	expect_status 1 "hotadd is refused" fastboot hotadd
	check_eq "and names the way out" yes "$(printf '%s' "$OUTPUT" | grep -q 'fastboot release' && echo yes || echo "$OUTPUT")"
	expect_status 1 "save is refused" fastboot save
	expect_status 1 "restore is refused" fastboot restore
	check "status" fastboot status
	check_eq "status: in place" yes "$(printf '%s' "$OUTPUT" | grep -q 'in place, from /dev/pmem0, with DAX' && echo yes || echo "$OUTPUT")"
	sleep 1000 5<$state/large &
	holder=$!
	wait_for 5 test -e /proc/$holder/fd/5
	expect_status 1 "release is refused while a file is open" fastboot release
	check_eq "and says by whom" yes "$(printf '%s' "$OUTPUT" | grep -q "sleep (pid $holder)" && echo yes || echo "$OUTPUT")"
	(cd $state/kinds && expect_status 1 "release is refused from inside" fastboot release)
	(sleep 3; kill $holder) &
	check "release waits for the deadline" fastboot release --deadline 20 || exit 1
}

released() {
	check_eq "nothing is mounted any more" "" "$(grep /run/fastboot /proc/mounts)"
	digest >/run/after
	check_eq "all changes are there" "" "$(diff /run/changed /run/after | head -n 5)"
	figure "release, $(uname -r)" "$(printf '%s\n' "$OUTPUT" | sed -n 's/^released .* \([0-9.]*\) s in all.*/\1/p')" s "$large MiB, emulated"
}

configure ''
case $stage in
1)
	mount_state
	fill
	check "hotadd" fastboot hotadd
	go "a state"
	;;
2)
	in_place "first"
	change
	digest >/run/changed
	refusals
	released
	check "hotadd after the release" fastboot hotadd
	go "after the release"
	;;
3)
	in_place "second" bare
	echo third >$state/third
	sleep 1000 5>>$state/third &
	echo $! >/run/holder
	expect_status 1 "reboot is refused while a file is open" fastboot reboot
	check_eq "and says by whom" yes "$(printf '%s' "$OUTPUT" | grep -q "sleep (pid $(cat /run/holder))" && echo yes || echo "$OUTPUT")"
	check_eq "the hooks were run" "quiesce resume" "$(cut -d' ' -f1 /run/hooks | tr '\n' ' ' | sed 's/ $//')"
	check "it can be written to after that" sh -c "echo alive >>$state/third"
	kill "$(cat /run/holder)"
	wait_for 5 test ! -d "/proc/$(cat /run/holder)"
	go "in place"
	;;
4)
	in_place "third"
	check "image verify while in place" fastboot image verify
	echo lost >$state/lost
	sync
	reboot -f
	;;
5)
	mount_state
	expect_status 4 "after a crash nothing stale is restored" fastboot restore
	expect_status 4 "nor in place" fastboot restore --mode inplace
	check_eq "and nothing is there" "" "$(ls $state)"
	check "the image can still be read" fastboot image extract --to /run/extracted
	check_eq "as it was saved" "third alive" "$(tr '\n' ' ' </run/extracted$state/third | sed 's/ $//')"
	finish
	;;
esac
