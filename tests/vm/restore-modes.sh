#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The region restored lazily on a real kernel: what stands at once, what is
# read before all is filled, random changes beside the same ones on a tree restored
# eagerly, hot-add refused meanwhile and possible afterwards, and what is left
# when the processes are killed.
#
# vm-kernels: 6.12
# vm-more-kernels: 6.1 arm64-6.12 arm64-fast
# vm-programs: flock
# vm-add: build/vmtools/mktree build/vmtools/treediff build/vmtools/lazyops
# vm-timeout: 900

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh

state=/run/state/tree copy=/run/state/copy
status=/run/fastboot/restore.json

field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p" "$status"; }

# child_of PID: the worker is the keeper's only one
child_of() {
	for stat in /proc/[0-9]*/stat; do
		awk -v parent="$1" '$4 == parent { print $1 }' "$stat" 2>/dev/null
	done
}

kill_child() {
	child=$(child_of "$1")
	[ -z "$child" ] || kill -9 "$child"
}

wait_done() { flock -w 300 /run/fastboot/restore.lock true; }

# compare NAME A B
compare() {
	cmp_out=$(treediff "$2" "$3")
	# shellcheck disable=SC2046
	set -- "$1" $(printf '%s\n' "$cmp_out" | tail -n 1)
	if [ "${5-}" = 0 ]; then
		ok "$1: no difference"
	else
		not_ok "$1: no difference" "$(printf '%s\n' "$cmp_out" | head -n 5)"
	fi
}

# Everything of it but the times of what was written now.
listing() {
	(
		cd "$1" || exit
		find . -type f -exec stat -c '%n %f %u %g %s %h' {} + | sort
		find . -type f -exec stat -c '%Y %n' {} + | awk '$1 < 1500000000' | sort
		find . -type f -exec md5sum {} + | sort -k 2
	)
}

save() {
	check "$1: save" fastboot -q save --replace "$state" || exit 1
}

lazy() {
	rm -rf "$state"
	check "$1: lazy restore" fastboot restore --mode lazy || return
	printf '%s\n' "$OUTPUT" | sed -n 's/.*stands after \([0-9.]*\) s.*/\1/p' >/run/stands
	figure "$1: until the tree stands" "$(cat /run/stands)" s
}

make_files() {
	rm -rf "$state"
	mkdir -p "$state/a/b"
	i=0
	while [ $i -lt "$1" ]; do
		i=$((i + 1))
		dd if=/dev/urandom of="$state/a/b/f$i" bs=$((i * 997)) count=7 2>/dev/null
	done
	dd if=/dev/urandom of="$state/big" bs=1M count="$2" 2>/dev/null
	ln "$state/big" "$state/a/link"
	find "$state" -type f -exec touch -d '2001-02-03 04:05:06' {} +
}

every_kind() {
	mkdir -p "$state"
	mktree nasty "$state" >/dev/null
	save "every kind of file"
	rm -rf $copy
	find "$state" -type f -size +0 -exec stat -c '%n %f %u %g %s %h %Y' {} + | sort >/run/before
	mv "$state" $copy
	lazy "every kind of file"
	find "$state" -type f -size +0 -exec stat -c '%n %f %u %g %s %h %Y' {} + | sort >/run/stood
	wait_done
	check "metadata was there at once" cmp /run/before /run/stood
	compare "every kind of file" $copy "$state"
	expect_status 4 "the image is used then" fastboot restore --mode lazy
	rm -rf $copy
}

# The image is written again for each round: a restore uses it up.
changed() {
	cp -a "$state" $copy
	save "seed $1"
	lazyops "$1" 120 "$state" >/run/ops.eager
	listing "$state" >/run/eager
	lazy "seed $1"
	lazyops "$1" 120 "$state" >/run/ops.lazy
	figure "seed $1: left to fill after the changes" "$(field bytes_left)" bytes
	wait_done
	listing "$state" >/run/lazy
	check "seed $1: the same tree" cmp /run/eager /run/lazy
	check "seed $1: the same was read" cmp /run/ops.eager /run/ops.lazy
	rm -rf "$state"
	mv $copy "$state"
}

refused() {
	make_files 20 500
	md5sum <"$state/big" >/run/sum
	save "refusals"
	lazy "refusals"
	expect_status 1 "hot-add while files are missing is refused" fastboot hotadd
	check_eq "and says where to look" yes "$(printf '%s' "$OUTPUT" | grep -q 'fastboot status' && echo yes || echo "$OUTPUT")"
	check "status" fastboot status
	check_eq "status: how much is left" yes "$(printf '%s' "$OUTPUT" | grep -q 'lazy.* left in' && echo yes || echo "$OUTPUT")"
	kill_child "$(field keeper)"
	check_eq "an opener reads what was saved, after the worker's death" "$(cat /run/sum)" "$(md5sum <"$state/big")"
	wait_done
	check_eq "done" "done" "$(field state)"
}

all_killed() {
	make_files 50 400
	find "$state" -type f -exec md5sum {} + | sort >/run/sums
	save "all killed"
	lazy "all killed"
	keeper=$(field keeper)
	kill -9 "$keeper" "$(child_of "$keeper")"
	wait_done
	check_eq "killed before it was done" filling "$(field state)"
	expect_status 1 "hot-add is refused then" fastboot hotadd
	check "it goes on" fastboot restore --mode lazy
	wait_done
	find "$state" -type f -exec md5sum {} + | sort >/run/sums.after
	check "all that was saved is there" cmp /run/sums /run/sums.after
	check "hot-add" fastboot hotadd
}

check "the region is there" load_pmem || exit 1
mkdir -p /run/state
mount -t tmpfs -o size=2G,huge=within_size tmpfs /run/state
every_kind
make_files 60 150
changed 5
refused
all_killed
finish
