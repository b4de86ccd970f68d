#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# save --to, restore --from and image on files. What is right is decided by
# others: fsck.erofs and dump.erofs read the image, find, stat, getfattr and
# md5sum compare the trees. Damage is done with dd.
. "$(dirname "$0")/lib.sh"

for tool in fsck.erofs dump.erofs getfattr; do
	command -v $tool >/dev/null || skip_all "$tool is not installed"
done
[ "$(id -u)" = 0 ] || skip_all "not root: owners and device nodes cannot be made"

MKTREE=$REPO/build/vmtools/mktree
[ -x "$MKTREE" ] || make -s -C "$REPO" vmtools || skip_all "no build/vmtools/mktree"

MNT=$WORK/mnt
mkdir "$MNT"
# Huge pages, where the kernel has them: files of theirs are saved another way.
if mount -t tmpfs -o size=3G,huge=within_size fastboot-test "$MNT" 2>/dev/null ||
	mount -t tmpfs -o size=3G fastboot-test "$MNT" 2>/dev/null; then
	trap 'umount -l "$MNT"; rm -rf "$WORK"' EXIT
	mounted=yes
else
	mounted=no
fi
IMG=$WORK/state.img

# listing DIR [links]: everything about a tree that find and stat can tell.
# Without links: what fsck.erofs 1.5 gives back, so no hard links, no xattrs,
# and no set-user-ID, because it changes the owner after the mode.
listing() {
	(
		cd "$1" || exit
		find . -printf '%p|%y|%m|%U|%G|%T@|%l\0' | sort -z | {
			if [ "${2-}" = links ]; then
				cat
			else
				sed -z 's/|f|[0-7]\([0-7][0-7][0-7]\)|/|f|\1|/'
			fi
		}
		find . -type f -printf '%p|%s\0' | sort -z
		find . \( -type b -o -type c \) -print0 | sort -z | xargs -0r stat -c '%n %t %T'
		find . -type f -print0 | sort -z | xargs -0r md5sum -z
		[ "${2-}" = links ] || exit 0
		find . ! -type d -printf '%p|%n\0' | sort -z
		find . -print0 | sort -z | xargs -0r getfattr -h -d -m- -e hex -- 2>/dev/null
	)
}

# same NAME DIR DIR [links]
same() {
	listing "$2" "${4-}" >"$WORK/one"
	listing "$3" "${4-}" >"$WORK/two"
	[ -s "$WORK/one" ] || not_ok "$1" "nothing to compare"
	if cmp -s "$WORK/one" "$WORK/two"; then
		ok "$1"
	else
		not_ok "$1" "$(diff -a <(tr '\0' '\n' <"$WORK/one") <(tr '\0' '\n' <"$WORK/two") | head -5)"
	fi
}

# make_tree KIND [NUMBER]: a new $STATE of this kind
make_tree() {
	STATE=$MNT/tree-$1
	rm -rf "$STATE" "$STATE.saved"
	mkdir "$STATE"
	"$MKTREE" "$1" "$STATE" "${2-}" >"$WORK/without" || not_ok "make a tree: $1" "$?"
	if [ -s "$WORK/without" ]; then
		skip "$1: some metadata" "the file system has no $(sort -u "$WORK/without" | head -3)"
	fi
}

read_by_others() {
	check "$1: fsck.erofs" fsck.erofs "$IMG"
	check "$1: dump.erofs" dump.erofs -s "$IMG"
	[ "$1" != sparse ] || {
		skip "sparse: what fsck.erofs extracts" "version 1.5 leaves the holes out"
		return
	}
	rm -rf "$MNT/fsck"
	check "$1: fsck.erofs extracts" fsck.erofs --extract="$MNT/fsck" --preserve "$IMG"
	same "$1: what fsck.erofs extracts is what was saved" "$STATE" "$MNT/fsck$STATE"
}

round_trip() {
	local kind=$1
	make_tree "$@"
	check "$kind: save" "$FASTBOOT" save --to "$IMG" "$STATE"
	check "$kind: image verify" "$FASTBOOT" image verify "$IMG"
	read_by_others "$kind"
	rm -rf "$MNT/fsck" "$MNT/out"
	check "$kind: image extract" "$FASTBOOT" image extract "$IMG" --to "$MNT/out"
	same "$kind: what is extracted is what was saved" "$STATE" "$MNT/out$STATE" links
	rm -rf "$MNT/out"
	mv "$STATE" "$STATE.saved"
	check "$kind: restore" "$FASTBOOT" restore --from "$IMG"
	same "$kind: what is restored is what was saved" "$STATE.saved" "$STATE" links
	check_eq "$kind: allocated no more" yes "$(allocated)"
	[ "$kind" = empty ] ||
		expect_status 1 "$kind: a second restore is refused" "$FASTBOOT" restore --from "$IMG"
}

# With 1/1000 for what is not described exactly in files of more than 1 GiB.
allocated() {
	local before after
	before=$(du -s "$STATE.saved" | cut -f1) after=$(du -s "$STATE" | cut -f1)
	[ "$after" -le $((before + before / 1000 + 33000)) ] && echo yes || echo "$before $after"
}

round_trips() {
	local kind
	for kind in nasty sparse empty; do
		[ $kind = sparse ] && [ $mounted = no ] && continue
		round_trip $kind
	done
	round_trip small 2000
	round_trip xattrs 1000
}

names_in_list() {
	make_tree nasty
	"$FASTBOOT" -q save --to "$IMG" "$STATE"
	expect_status 0 "image list" "$FASTBOOT" image list "$IMG"
	check_match "list escapes a newline" 'names/new\\012line$' "$OUTPUT"
	check_match "list escapes 0xff" 'names/\\377\\376 not utf-8$' "$OUTPUT"
	check_match "list shows a device" '^crw-r--r-- .* 1,3 .*/null$' "$OUTPUT"
	check_match "list shows a link's target" '^lrwx.*/link-absolute -> /etc/passwd$' "$OUTPUT"
	check_match "list shows set-user-ID" '^-rwsr-sr-x 301 1/2 .*/setuid$' "$OUTPUT"
	check_eq "list has every name" "$(find "$STATE" -printf x | wc -c)" \
		"$(grep -c " $STATE" <<<"$OUTPUT")"
	command -v python3 >/dev/null || { skip "JSON" "python3 is not installed"; return; }
	local command
	for command in "image show $IMG" "image list $IMG" "image verify $IMG" "save --to $IMG $STATE"; do
		# shellcheck disable=SC2086
		"$FASTBOOT" --json $command >"$WORK/json"
		check "${command% /*}: JSON" python3 -m json.tool "$WORK/json" /dev/null
	done
}

several_states() {
	rm -rf "$MNT/one" "$MNT/two" "$MNT/both.saved"
	mkdir -p "$MNT/one/deep" "$MNT/two" "$MNT/both.saved"
	echo 1 >"$MNT/one/deep/file"
	ln "$MNT/one/deep/file" "$MNT/two/link"
	mkdir "$MNT/one/cache"
	echo 2 >"$MNT/one/cache/file"
	printf '[state first]\npath = %s\nexclude = cache\n' "$MNT/one" >"$WORK/conf"
	check "states: save" "$FASTBOOT" -c "$WORK/conf" save --to "$IMG" "$MNT/two" "$MNT/one/"
	expect_status 0 "states: show" "$FASTBOOT" image show "$IMG"
	check_match "states: the configured name" "$MNT/one \[first\]$" "$OUTPUT"
	mv "$MNT/one" "$MNT/two" "$MNT/both.saved"
	check "states: restore one" "$FASTBOOT" restore --from "$IMG" "$MNT/two"
	check_eq "states: the other is not there" no "$([ -e "$MNT/one" ] && echo yes || echo no)"
	expect_status 1 "states: one that is not there" "$FASTBOOT" restore --from "$IMG" /nowhere
	check_match "states: names those that are" "'$MNT/two'" "$ERRORS"
	rm -rf "$MNT/two"
	check "states: restore both" "$FASTBOOT" restore --from "$IMG"
	check_eq "states: one file with two names" "$(stat -c '%i 2' "$MNT/one/deep/file")" \
		"$(stat -c '%i %h' "$MNT/two/link")"
	check_eq "states: excluded" no "$([ -e "$MNT/one/cache" ] && echo yes || echo no)"
	rm -rf "$MNT/out"
	check "extract one path" "$FASTBOOT" image extract "$IMG" --to "$MNT/out" "$MNT/one/deep"
	check_eq "extract: only that" "$MNT/one/deep/file" "$(cd "$MNT/out" && find . -type f | sed 's/^\.//')"
	expect_status 1 "extract: into what is not empty" "$FASTBOOT" image extract "$IMG" --to "$MNT/out"
	expect_status 1 "extract: a path that is not there" \
		"$FASTBOOT" image extract "$IMG" --to "$MNT/out2" /nowhere
	check_eq "extract: nothing was made" no "$([ -e "$MNT/out2" ] && echo yes || echo no)"
}

# flip FILE OFFSET: one byte
flip() {
	local byte
	byte=$(od -An -tu1 -j"$2" -N1 "$1")
	# shellcheck disable=SC2059
	printf "\\x$(printf %x $((byte ^ 255)))" |
		dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

data_damage() {
	make_tree nasty
	"$FASTBOOT" -q save --to "$IMG" "$STATE"
	local at
	at=$(dump.erofs --path="$STATE/size-1048577" -e "$IMG" | sed -n 's/^ *0: .*: *\([0-9]*\)\.\..*/\1/p')
	[ -n "$at" ] || not_ok "where the data is" "dump.erofs says nothing" || return
	flip "$IMG" $((at + 70000))
	expect_status 4 "a flipped byte: verify" "$FASTBOOT" image verify "$IMG"
	check_match "a flipped byte: verify names the file" "'$STATE/size-1048577' is damaged" "$ERRORS"
	mv "$STATE" "$STATE.saved"
	expect_status 3 "a flipped byte: restore" "$FASTBOOT" restore --from "$IMG"
	check_match "a flipped byte: restore names the file" "'$STATE/size-1048577' is damaged" "$ERRORS"
	check_eq "a flipped byte: two lines on stderr" 2 "$(wc -l <<<"$ERRORS")"
	check_eq "a flipped byte: the file is withheld" no "$([ -e "$STATE/size-1048577" ] && echo yes || echo no)"
	touch -r "$STATE.saved" "$WORK/stamp"
	rm "$STATE.saved/size-1048577"
	touch -r "$WORK/stamp" "$STATE.saved"
	same "a flipped byte: the rest is whole" "$STATE.saved" "$STATE" links
	rm -rf "$MNT/out"
	expect_status 3 "a flipped byte: extract" "$FASTBOOT" image extract "$IMG" --to "$MNT/out"
	same "a flipped byte: the rest is extracted" "$STATE.saved" "$MNT/out$STATE" links
	rm -rf "$MNT/out"
}

# refused NAME REGEX: restore and image say so with status 4, nothing is made
refused() {
	local command
	for command in "restore --from $WORK/bad" "image show $WORK/bad" "image list $WORK/bad" \
		"image verify $WORK/bad" "image extract $WORK/bad --to $MNT/out"; do
		# shellcheck disable=SC2086
		expect_status 4 "$1: ${command%% /*}" "$FASTBOOT" $command
		check_match "$1: says so" "$2" "$ERRORS"
		check_eq "$1: one line" 1 "$(wc -l <<<"$ERRORS")"
	done
	check_eq "$1: nothing was made" no "$([ -e "$STATE" ] || [ -e "$MNT/out" ] && echo yes || echo no)"
}

other_damage() {
	local meta
	make_tree small 100
	"$FASTBOOT" -q save --to "$IMG" "$STATE"
	rm -rf "$STATE" "$MNT/out"
	meta=$(od -An -tu4 -j1064 -N4 "$IMG") # meta_blkaddr, fs/erofs/erofs_fs.h
	cp "$IMG" "$WORK/bad" && flip "$WORK/bad" $((meta * 4096 + 40))
	refused "metadata damaged" 'metadata'
	cp "$IMG" "$WORK/bad" && flip "$WORK/bad" $((meta * 4096 + 8000))
	refused "metadata damaged further on" 'metadata'
	cp "$IMG" "$WORK/bad" && flip "$WORK/bad" 20
	refused "header damaged" 'header|checksum'
	cp "$IMG" "$WORK/bad" && flip "$WORK/bad" 0
	refused "magic damaged" 'no fastboot image|EROFS'
	cp "$IMG" "$WORK/bad" && flip "$WORK/bad" 1100
	refused "superblock damaged" 'superblock|EROFS|checksum'
	cp "$IMG" "$WORK/bad" && truncate -s -4096 "$WORK/bad"
	refused "cut off" 'longer|cut|short|size'
	head -c 4096 "$IMG" >"$WORK/bad"
	refused "cut to one block" '.'
	: >"$WORK/bad"
	refused "empty file" '.'
	truncate -s 1M "$WORK/bad"
	refused "zeros" 'zero|empty|no image'
	head -c 1M /dev/urandom >"$WORK/bad"
	refused "noise" '.'
	rm "$WORK/bad"
	if command -v mkfs.ext4 >/dev/null; then
		truncate -s 8M "$WORK/bad"
		mkfs.ext4 -q "$WORK/bad"
		refused "a foreign file system" 'ext'
	fi
	expect_status 1 "no such file" "$FASTBOOT" restore --from "$WORK/nowhere"
}

usage_errors() {
	expect_status 2 "no state at all" "$FASTBOOT" -c /dev/null save --to "$IMG"
	check_match "says what to add" '\[state NAME\].*path = ' "$ERRORS"
	expect_status 2 "a mode that is not there" "$FASTBOOT" restore --mode hasty --from "$IMG"
	check_match "says which is" "'eager'" "$ERRORS"
	expect_status 2 "image without a verb" "$FASTBOOT" image
	expect_status 2 "image with another verb" "$FASTBOOT" image destroy
	expect_status 2 "extract without --to" "$FASTBOOT" image extract "$IMG"
	expect_status 2 "two files" "$FASTBOOT" image show "$IMG" "$IMG"
	expect_status 2 "--replace goes with the region" "$FASTBOOT" save --replace --to "$IMG" "$MNT"
	check_eq "--replace: one line" 1 "$(wc -l <<<"$ERRORS")"
	expect_status 1 "a state that is missing" "$FASTBOOT" save --to "$WORK/new" "$MNT/nowhere"
	check_match "names it" "'$MNT/nowhere'" "$ERRORS"
	check_eq "no image was made" no "$([ -e "$WORK/new" ] && echo yes || echo no)"
	expect_status 1 "something mounted below a state" "$FASTBOOT" save --to "$WORK/new" /dev
	check_match "names the mount point" "mounted on '/dev/" "$ERRORS"
}

dry_runs() {
	make_tree small 20
	rm -f "$WORK/new"
	check "save --dry-run" "$FASTBOOT" -n save --to "$WORK/new" "$STATE"
	check_eq "save --dry-run writes nothing" no "$([ -e "$WORK/new" ] && echo yes || echo no)"
	"$FASTBOOT" -q save --to "$IMG" "$STATE"
	rm -rf "$STATE"
	check "restore --dry-run" "$FASTBOOT" -n restore --from "$IMG"
	check "extract --dry-run" "$FASTBOOT" -n image extract "$IMG" --to "$MNT/out"
	check_eq "they make nothing" no "$([ -e "$STATE" ] || [ -e "$MNT/out" ] && echo yes || echo no)"
}

refusals_to_restore() {
	make_tree small 20
	"$FASTBOOT" -q save --to "$IMG" "$STATE"
	rm -rf "$STATE"
	mkdir -m 711 "$STATE"
	touch "$STATE/in the way"
	touch -d @1000000000.5 "$STATE"
	expect_status 1 "a target that is not empty" "$FASTBOOT" restore --from "$IMG"
	check_match "names what is in it" "'in the way'" "$ERRORS"
	check_eq "and it is as it was" "711 1000000000.5000000000 ./in the way" \
		"$(cd "$STATE" && find . -maxdepth 0 -printf '%m %T@ ' && find . -type f)"
	rm -r "$STATE"
	mkdir "$MNT/elsewhere"
	ln -s elsewhere "$STATE"
	expect_status 1 "a symbolic link in the way" "$FASTBOOT" restore --from "$IMG"
	check_eq "nothing was written to where it leads" '' "$(ls -A "$MNT/elsewhere")"
	rm -r "$STATE" "$MNT/elsewhere"
}

full_file_systems() {
	local dir=$MNT/little
	[ $mounted = yes ] || { skip "full file systems" "mount is not permitted here"; return; }
	mkdir "$dir" && mount -t tmpfs -o size=2M,nr_inodes=1000 fastboot-test "$dir" || return
	make_tree big 5000000
	echo old >"$dir/image"
	expect_status 1 "no room for the image" "$FASTBOOT" save --to "$dir/image" "$STATE"
	check_eq "the old file is there, nothing beside it" "old image" "$(cat "$dir/image") $(ls -A "$dir")"
	rm "$dir/image"

	"$FASTBOOT" -q save --to "$IMG" "$STATE"
	rm -rf "$STATE"
	mkdir "$STATE" && mount --move "$dir" "$STATE"
	expect_status 1 "no room for the files" "$FASTBOOT" restore --from "$IMG"
	check_match "both sizes" 'need 4,884 KiB.*only 2 MiB' "$ERRORS"
	check_eq "nothing was made" '' "$(ls -A "$STATE")"
	umount "$STATE"
	make_tree small 2000
	"$FASTBOOT" -q save --to "$IMG" "$STATE"
	rm -rf "$STATE"
	mkdir "$STATE" && mount -t tmpfs -o nr_inodes=1000 fastboot-test "$STATE"
	expect_status 1 "no room for so many files" "$FASTBOOT" restore --from "$IMG"
	check_match "both numbers" '[0-9]+ files.*only 999' "$ERRORS"
	umount "$STATE"
	rmdir "$dir" "$STATE"
}

# stopped NAME DELAY CMD…: SIGTERM after DELAY seconds; skip if it was faster
stopped() {
	local name=$1 delay=$2 pid status=0
	shift 2
	"$@" >"$WORK/.out" 2>"$WORK/.err" &
	pid=$!
	sleep "$delay"
	kill -TERM $pid 2>/dev/null
	wait $pid || status=$?
	if [ $status = 0 ]; then
		skip "$name" "it was done before the signal came"
		return 1
	fi
	check_eq "$name: status" 1 $status
	check_match "$name: says why" 'SIGTERM' "$(cat "$WORK/.err")"
}

signals() {
	make_tree big 800000000
	mkdir -p "$MNT/images"
	if stopped "SIGTERM in save" 0.3 "$FASTBOOT" save --to "$MNT/images/i" "$STATE"; then
		check_eq "SIGTERM in save: nothing is left" '' "$(ls -A "$MNT/images")"
	fi
	"$FASTBOOT" -q save --to "$MNT/images/i" "$STATE"
	rm -rf "$STATE"
	if stopped "SIGTERM in restore" 0.3 "$FASTBOOT" restore --from "$MNT/images/i"; then
		check_eq "SIGTERM in restore: nothing is left" no "$([ -e "$STATE" ] && echo yes || echo no)"
	fi
	rm -rf "$STATE"
	mkdir -m 710 "$STATE"
	touch -d @1000000000.25 "$STATE"
	if stopped "SIGTERM in restore into place" 0.3 "$FASTBOOT" restore --from "$MNT/images/i"; then
		check_eq "SIGTERM in restore into place: the directory is as it was" \
			"710 1000000000.2500000000 0" "$(find "$STATE" -maxdepth 0 -printf '%m %T@ ' && find "$STATE" -mindepth 1 -printf x | wc -c)"
	fi
	rm -rf "$STATE" "$MNT/images"
}

changing_while_saved() {
	make_tree big 400000000
	rm -f "$WORK/new"
	(
		sleep 0.2
		echo more >>"$STATE/big"
	) &
	STATUS=0
	ERRORS=$("$FASTBOOT" -q save --to "$WORK/new" "$STATE" 2>&1) || STATUS=$?
	wait
	if [ $STATUS = 0 ]; then
		skip "a file that changes" "it was saved before it changed"
	else
		check_eq "a file that changes: status" 1 $STATUS
		check_match "a file that changes: named" "$STATE/big" "$ERRORS"
		check_eq "a file that changes: no image" no "$([ -e "$WORK/new" ] && echo yes || echo no)"
	fi
	rm -rf "$STATE"
}

round_trips
names_in_list
several_states
data_damage
other_damage
usage_errors
dry_runs
refusals_to_restore
full_file_systems
signals
changing_while_saved
finish
