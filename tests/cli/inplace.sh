#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# restore --mode inplace and release, from a file through a loop device (so
# without DAX), in a mount namespace of its own: what applications do to the state
# gives what it gives on a copy, whoever uses it is named, and a release that
# fails leaves all as it was.
if [ -z "${FASTBOOT_INPLACE-}" ]; then
	# shellcheck source=tests/cli/lib.sh
	. "$(dirname "$0")/lib.sh"
	[ "$(id -u)" = 0 ] || skip_all "not root: mounts need it"
	unshare -m true 2>/dev/null || skip_all "no mount namespaces"
	trap - EXIT
	rm -rf "$WORK"
	FASTBOOT_INPLACE=1 exec unshare -m bash "$0"
fi
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

LAZYOPS=$REPO/build/vmtools/lazyops
[ -x "$LAZYOPS" ] || make -s -C "$REPO" vmtools || skip_all "no build/vmtools/lazyops"
# Away from the machine's own, should something be in place on it.
mkdir -p /run/fastboot
mount -t tmpfs fastboot-test /run/fastboot || skip_all "tmpfs cannot be mounted"
mkdir "$WORK/mnt"
mount -t tmpfs -o size=1G fastboot-test "$WORK/mnt"
trap 'umount -l "$WORK/mnt" /run/fastboot; rm -rf "$WORK"' EXIT
A=$WORK/mnt/a B=$WORK/mnt/b
IMG=$WORK/state.img

# listing DIR…: all but sizes and link counts of directories
listing() (
	for dir; do
		cd "$dir" || exit
		find . -printf '%p|%y|%m|%U|%G|%T@|%s|%n|%l\n' |
			awk -F'|' -v OFS='|' -v since="$SINCE" '$6 >= since { $6 = "now" } $2 == "d" { $7 = $8 = "" } { print }' | sort
		find . -type f -print0 | sort -z | xargs -0r md5sum
		find . -print0 | sort -z | xargs -0r getfattr -h -d -m- -e hex -- 2>/dev/null
	done
)

mounts() { grep -c "$1" /proc/self/mountinfo; }
blocks() { stat -c %b "$1"; }

make_state() {
	local i
	rm -rf "$A" "$B"
	mkdir -p "$A"/{a,b,c}/d "$B/deep"
	head -c 20M /dev/urandom >"$A/big"
	ln "$A/big" "$A/a/big-link"
	ln "$A/big" "$B/across"
	truncate -s 20M "$A/sparse"
	head -c 700000 /dev/urandom | dd of="$A/sparse" bs=4k seek=1500 conv=notrunc status=none
	: >"$A/empty"
	for ((i = 0; i < 60; i++)); do
		head -c $((RANDOM * (i % 9) + 1)) /dev/urandom >"$A/$(printf '%b' "\\$((141 + i % 3))")/d/f$i"
	done
	mkfifo "$B/fifo"
	mknod "$B/null" c 1 3
	ln -s nowhere "$B/link"
	cp /bin/true "$B/program"
	chmod 4755 "$B/program"
	chown 12:34 "$B/deep"
	setfattr -n trusted.mine -v 1 "$A/big"
	setfattr -n security.mine -v 2 "$B/deep"
	find "$A" "$B" -exec touch -h -d '2001-02-03 04:05:06.789012345' {} +
}

# fresh: empty directories
fresh() {
	rm -rf "$A" "$B"
	mkdir "$A" "$B"
}

place() { check "${1:-in place}" "$FASTBOOT" restore --mode inplace --from "$IMG"; }

whole() {
	listing "$A" "$B" >"$WORK/saved"
	fresh
	place
	check_match "says so" 'in place after .*fastboot release' "$OUTPUT"
	listing "$A" "$B" >"$WORK/placed"
	check "all is there" cmp "$WORK/saved" "$WORK/placed"
	check_eq "a hard link across states is one" 3 "$(stat -c %h "$B/across")"
	check "status" "$FASTBOOT" --json status
	check_match "status: JSON" '"dax": ?false' "$OUTPUT"
	check "release" "$FASTBOOT" release
	listing "$A" "$B" >"$WORK/released"
	check "all is there after the release" cmp "$WORK/saved" "$WORK/released"
	check_eq "nothing of it is mounted" 0 "$(mounts /run/fastboot/inplace)"
	check_eq "a hole is still one" yes "$(if [ "$(blocks "$A/sparse")" -lt 3000 ]; then echo yes; fi)"
	expect_status 1 "a second release" "$FASTBOOT" release
	check_match "says that there is nothing" 'nothing is in place' "$ERRORS"
}

# Random operations: in place, released in their midst, and on a copy.
differential() {
	local seed
	for seed in $1; do
		rm -rf "$A" "$B"
		"$FASTBOOT" -q restore --from "$IMG"
		"$LAZYOPS" "$seed" 100 "$A" >"$WORK/ops.eager"
		"$LAZYOPS" "1$seed" 50 "$A" >>"$WORK/ops.eager"
		listing "$A" "$B" >"$WORK/eager"
		fresh
		"$FASTBOOT" -q restore --mode inplace --from "$IMG" 2>/dev/null || not_ok "in place" "$?"
		"$LAZYOPS" "$seed" 100 "$A" >"$WORK/ops.place"
		"$FASTBOOT" -q release || not_ok "seed $seed: release" "$?"
		"$LAZYOPS" "1$seed" 50 "$A" >>"$WORK/ops.place"
		listing "$A" "$B" >"$WORK/place"
		check "seed $seed: the same tree" cmp "$WORK/eager" "$WORK/place"
		# An overlay has no file handles.
		sed -i '/by handle\|name_to_handle_at/d' "$WORK"/ops.eager "$WORK"/ops.place
		check "seed $seed: the same was read" diff "$WORK/ops.eager" "$WORK/ops.place"
	done
}

# held NAME: release must fail and name $HOLDER; then all is as before
held() {
	expect_status 1 "$1: release is refused" "$FASTBOOT" release
	check_match "$1: and names the process" "\(pid $HOLDER\)" "$ERRORS"
	check "$1: still in place, and writable" touch "$A/still"
	kill "$HOLDER"
	wait "$HOLDER" 2>/dev/null
}

holders() {
	fresh
	place "in place, to be held"
	listing "$A" "$B" >"$WORK/before"
	sleep 1000 5<"$A/big" &
	HOLDER=$!
	held "an open file"
	(cd "$A/a" && exec sleep 1000) &
	HOLDER=$!
	sleep 0.2
	held "a working directory"
	sleep 1000 5>>"$B/program" &
	HOLDER=$!
	held "a file open for writing"
	mkdir "$WORK/bind"
	mount --bind "$A/b" "$WORK/bind"
	expect_status 1 "a bind mount: release is refused" "$FASTBOOT" release
	check_match "a bind mount: and named" "$WORK/bind" "$ERRORS"
	umount "$WORK/bind"
	mount -t tmpfs none "$A/b"
	expect_status 1 "a mount below: release is refused" "$FASTBOOT" release
	umount "$A/b"
	check "and still writable" touch "$A/still"
	sleep 1000 5<"$A/big" &
	HOLDER=$!
	(sleep 1; kill $HOLDER) &
	check "with --deadline it waits" "$FASTBOOT" release --deadline 20
	wait "$HOLDER" 2>/dev/null
}

# What goes wrong leaves all as it was.
failures() {
	fresh
	expect_status 2 "only one state" "$FASTBOOT" restore --mode inplace --from "$IMG" "$A"
	touch "$B/something"
	expect_status 1 "a directory that is not empty" "$FASTBOOT" restore --mode inplace --from "$IMG"
	check_match "names what is there" 'something' "$ERRORS"
	rm -r "$B"
	expect_status 1 "a directory that is not there" "$FASTBOOT" restore --mode inplace --from "$IMG"
	check_match "says what to do" 'mkdir' "$ERRORS"
	check_eq "nothing is mounted then" 0 "$(mounts /run/fastboot/inplace)"
	mkdir "$B"
	place "in place, to fail"
	expect_status 1 "a second time" "$FASTBOOT" restore --mode inplace --from "$IMG"
	echo changed >"$A/empty"
	listing "$A" "$B" >"$WORK/before"
	mount -o remount,size=8M "$WORK/mnt"
	expect_status 1 "a copy that does not fit" "$FASTBOOT" release
	check_match "with both sizes" 'need .* only .* free' "$ERRORS"
	mount -o remount,size=1G "$WORK/mnt"
	listing "$A" "$B" >"$WORK/after"
	check "then all is as it was" diff "$WORK/before" "$WORK/after"
	check "and writable" touch "$A/still"
	rm "$A/still"
	check "dry run" "$FASTBOOT" -n release
	check "release" "$FASTBOOT" release
}

# Nothing undoes a release that is killed: the next one does.
killed() {
	local round
	rm -rf "$A" "$B"
	mkdir "$A" "$B"
	head -c 150M /dev/urandom >"$A/large"
	mkdir "$A/dir"
	head -c 50M /dev/urandom >"$A/dir/other"
	"$FASTBOOT" -q save --to "$WORK/mnt/large.img" "$A" "$B"
	listing "$A" >"$WORK/saved"
	fresh
	check "in place, to be killed" "$FASTBOOT" restore --mode inplace --from "$WORK/mnt/large.img"
	echo new >"$A/new"
	listing "$A" >"$WORK/before"
	for round in 1 2 3; do
		"$FASTBOOT" -q release &
		sleep "0.0$round"
		kill -9 $! || skip "killed ($round)" "it was done before"
		wait $! 2>/dev/null
		listing "$A" >"$WORK/after"
		check "a release that is killed changes nothing ($round)" cmp "$WORK/before" "$WORK/after"
	done
	check "the next release" "$FASTBOOT" release
	listing "$A" >"$WORK/after"
	check "is right" diff "$WORK/before" "$WORK/after"
	check "and writable" touch "$A/still"
	rm "$WORK/mnt/large.img"
}

marks() {
	rm -rf "$A"
	mkdir -p "$A/upper"
	mknod "$A/upper/whiteout" c 0 0
	"$FASTBOOT" -q save --to "$WORK/marks.img" "$A"
	rm -rf "$A"
	mkdir "$A"
	expect_status 5 "an overlay's own marks are refused" "$FASTBOOT" restore --mode inplace --from "$WORK/marks.img"
	check_match "and named" 'whiteout' "$ERRORS"
	check_eq "nothing is mounted then" 0 "$(mounts /run/fastboot/inplace)"
}

# huge: the option of the tmpfs on $A
huge() { grep " $A " /proc/self/mountinfo | tail -n 1 | grep -o 'huge=[a-z_]*'; }

huge_pages() {
	[ -e /sys/kernel/mm/transparent_hugepage/shmem_enabled ] || {
		skip "huge pages" "the kernel has none for tmpfs"
		return
	}
	rm -rf "$A"
	mkdir "$A"
	mount -t tmpfs -o size=200M none "$A"
	head -c 9M /dev/urandom >"$A/file"
	"$FASTBOOT" -q save --to "$WORK/huge.img" "$A"
	umount "$A"
	mount -t tmpfs -o size=200M,nodev none "$A"
	check "restore to a ramdisk" "$FASTBOOT" restore --from "$WORK/huge.img"
	check_eq "it has huge pages then" huge=within_size "$(huge)"
	check_match "and is what it was otherwise" "$A .*nodev" "$(cat /proc/self/mountinfo)"
	expect_status 1 "one that is refused" "$FASTBOOT" restore --from "$WORK/huge.img"
	umount "$A"
	mount -t tmpfs -o size=4M none "$A"
	expect_status 1 "one that does not fit" "$FASTBOOT" restore --from "$WORK/huge.img"
	check_eq "has none" "" "$(huge)"
	umount "$A"
	mount -t tmpfs -o size=200M none "$A"
	truncate -s 100M "$A/holes"
	for ((i = 0; i < 40; i++)); do
		echo x | dd of="$A/holes" bs=1 seek=$((i * 2))M conv=notrunc status=none
	done
	"$FASTBOOT" -q save --to "$WORK/huge.img" "$A"
	umount "$A"
	mount -t tmpfs -o size=200M none "$A"
	check "restore of holes" "$FASTBOOT" restore --from "$WORK/huge.img"
	check_eq "holes are not filled for it" "" "$(huge)"
	umount "$A"
}

SINCE=$(date +%s)
make_state
check "save" "$FASTBOOT" save --to "$IMG" "$A" "$B" || exit 1
whole
differential "1 2 3 4"
holders
failures
killed
marks
huge_pages
finish
