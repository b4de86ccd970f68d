#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# restore --mode lazy: whatever is done to a tree that is not filled yet gives
# what it gives on one that was restored eagerly; also when the processes that fill it
# are killed. Random operations are build/vmtools/lazyops, the same for a seed.
. "$(dirname "$0")/lib.sh"

[ "$(id -u)" = 0 ] || skip_all "not root: fanotify and mounts need it"
LAZYOPS=$REPO/build/vmtools/lazyops
[ -x "$LAZYOPS" ] || make -s -C "$REPO" vmtools || skip_all "no build/vmtools/lazyops"
MNT=$WORK/mnt
mkdir "$MNT"
mount -t tmpfs -o size=2G fastboot-test "$MNT" 2>/dev/null || skip_all "tmpfs cannot be mounted"
trap 'umount -l "$MNT"; rm -rf "$WORK"' EXIT
STATE=$MNT/state
IMG=$WORK/state.img
STATUS_FILE=/run/fastboot/restore.json

# field NAME: of restore.json
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p" "$STATUS_FILE" 2>/dev/null; }

# The lock is free again when the last process is gone.
wait_done() {
	flock -w 120 /run/fastboot/restore.lock true || not_ok "the restore ends" "not in time"
}

# make_state MIB FILES: random bytes, holes, links, capabilities, odd sizes
make_state() {
	local i
	rm -rf "$STATE"
	mkdir -p "$STATE"/{a,b,c}/d
	head -c "${1}M" /dev/urandom >"$STATE/big"
	ln "$STATE/big" "$STATE/a/big-link"
	truncate -s 20M "$STATE/sparse"
	head -c 700000 /dev/urandom | dd of="$STATE/sparse" bs=4k seek=1500 conv=notrunc status=none
	truncate -s 5M "$STATE/hole"
	: >"$STATE/empty"
	cp /bin/true "$STATE/b/program"
	for ((i = 0; i < $2; i++)); do
		head -c $((RANDOM * (i % 40) + 1)) /dev/urandom >"$STATE/$(printf '%b' "\\$((141 + i % 3))")/d/f$i"
	done
	chmod 4755 "$STATE/b/program"
	setfattr -n trusted.mine -v 1 "$STATE/big"
	find "$STATE" -exec touch -h -d '2001-02-03 04:05:06.789012345' {} +
}

# listing DIR: everything but the times of what was written in this test.
listing() (
	cd "$1" || exit
	find . -printf '%p|%y|%m|%U|%G|%T@|%s|%n|%l\n' |
		awk -F'|' -v OFS='|' -v since="$SINCE" '$6 >= since { $6 = "now" } $2 == "d" { $7 = "" } { print }' | sort
	find . -type f -print0 | sort -z | xargs -0r md5sum
	find . -print0 | sort -z | xargs -0r getfattr -h -d -m- -e hex -- 2>/dev/null
)

# same NAME: $WORK/eager and $WORK/lazy
same() {
	if [ -s "$WORK/eager" ] && cmp -s "$WORK/eager" "$WORK/lazy"; then
		ok "$1"
	else
		not_ok "$1" "$(diff "$WORK/eager" "$WORK/lazy" | head -6)"
	fi
}

# eager SEED OPS: what is right
eager() {
	rm -rf "$STATE"
	"$FASTBOOT" -q restore --from "$IMG" || not_ok "eager restore" "$?"
	[ "$2" = 0 ] || "$LAZYOPS" "$1" "$2" "$STATE" >"$WORK/ops.eager"
	listing "$STATE" >"$WORK/eager"
}

lazy() {
	rm -rf "$STATE"
	expect_status 0 "$1" "$FASTBOOT" restore --mode lazy --from "$IMG" || return
}

whole() {
	make_state 40 100
	listing "$STATE" >"$WORK/eager"
	check "save" "$FASTBOOT" save --to "$IMG" "$STATE"
	lazy "lazy restore" || exit 1
	check_match "says what is left" 'the tree stands after .* in [0-9]+ files' "$OUTPUT"
	find "$STATE" -type f -printf '%P %s %T@\n' | sort >"$WORK/names"
	wait_done
	check_eq "it is done" "done" "$(field state)"
	check_eq "nothing is left" 0 "$(field files_left)"
	find "$STATE" -type f -printf '%P %s %T@\n' | sort >"$WORK/names.after"
	check "names, sizes and times were right at once" cmp "$WORK/names" "$WORK/names.after"
	listing "$STATE" >"$WORK/lazy"
	same "what is left is what was saved, and no mark"
	lazy "lazy again"
	check_match "an opener reads what was saved" "$(md5sum <"$STATE/big" | cut -d' ' -f1)" "$(cat "$WORK/eager")"
	wait_done
}

refusals() {
	make_state 200 20
	check "save" "$FASTBOOT" save --to "$IMG" "$STATE"
	lazy "a larger one"
	local status=0
	"$FASTBOOT" restore --mode lazy --from "$IMG" >/dev/null 2>"$WORK/.stderr" || status=$?
	check_eq "a second one meanwhile is refused" 1 "$status"
	check_match "says where to look" 'fastboot status' "$(cat "$WORK/.stderr")"
	check "status" "$FASTBOOT" status
	check_match "status says how much is left" 'restore +lazy, .* left in [0-9]+ files' "$OUTPUT"
	expect_status 1 "a save of what is not there yet is refused" "$FASTBOOT" save --to "$WORK/no.img" "$STATE"
	check_match "names a file" "$STATE/" "$ERRORS"
	wait_done
	mkdir -p "$WORK/elsewhere"
	if [ "$(stat -fc %T "$WORK")" != tmpfs ]; then
		mkdir "$WORK/elsewhere/state"
		echo x >"$WORK/elsewhere/state/x"
		"$FASTBOOT" -q save --to "$WORK/disk.img" "$WORK/elsewhere/state"
		rm -r "$WORK/elsewhere/state"
		expect_status 5 "not a tmpfs: refused" "$FASTBOOT" restore --mode lazy --from "$WORK/disk.img"
		check_eq "nothing was made" no "$([ -e "$WORK/elsewhere/state" ] && echo yes || echo no)"
	fi
}

# differential SEEDS OPS [KILL]: random operations, lazily and eagerly
differential() {
	local seed killer
	for seed in $1; do
		eager "$seed" "$2"
		rm -rf "$STATE"
		"$FASTBOOT" -q restore --mode lazy --from "$IMG" || not_ok "lazy restore" "$?"
		if [ "${3-}" = kill ]; then
			kill_workers &
			killer=$!
		fi
		"$LAZYOPS" "$seed" "$2" "$STATE" >"$WORK/ops.lazy"
		[ "${3-}" != kill ] || wait $killer
		wait_done
		listing "$STATE" >"$WORK/lazy"
		same "seed $seed: the same tree${3:+, workers killed}"
		check "seed $seed: the same was read${3:+, workers killed}" diff "$WORK/ops.eager" "$WORK/ops.lazy"
	done
}

# keeper: its number into $KEEPER; false when there is none
keeper() {
	KEEPER=$(field keeper)
	[ "${KEEPER:-0}" -gt 1 ] && [ "$(cat "/proc/$KEEPER/comm" 2>/dev/null)" = fastboot ]
}

# The worker is the keeper's child.
kill_workers() {
	local i
	for ((i = 0; i < 8; i++)); do
		keeper && pkill -KILL -x -P "$KEEPER" fastboot
		sleep "0.0$((RANDOM % 50 + 10))"
	done
	true
}

killed_workers() {
	make_state 150 150
	check "save" "$FASTBOOT" save --to "$IMG" "$STATE"
	differential "101 102 103" 120 kill
	eager 0 0
	lazy "a tree whose workers are killed"
	kill_workers
	wait_done
	listing "$STATE" >"$WORK/lazy"
	same "workers killed: the whole tree"
	figure "workers killed in one restore" "$(field worker_deaths)" processes
}

killed_keeper() {
	eager 7 100
	lazy "a tree whose keeper is killed" || return
	sleep 0.05
	keeper && kill -9 "$KEEPER"
	# What it answers while it dies fails; then the worker answers.
	while [ -d "/proc/$KEEPER" ]; do sleep 0.01; done
	"$LAZYOPS" 7 100 "$STATE" >"$WORK/ops.lazy"
	wait_done
	listing "$STATE" >"$WORK/lazy"
	same "keeper killed: the same tree"
	check "keeper killed: the same was read" cmp "$WORK/ops.eager" "$WORK/ops.lazy"
	check_eq "keeper killed: done" "done" "$(field state)"
}

# kill_all: the processes of the restore, both at once
kill_all() {
	# shellcheck disable=SC2046
	keeper && kill -9 "$KEEPER" $(pgrep -x -P "$KEEPER" fastboot)
	wait_done
}

all_killed() {
	local round
	eager 0 0
	for round in 1 2 3; do
		lazy "a tree whose processes are all killed ($round)" || return
		sleep "0.0$((RANDOM % 9 + 1))"
		kill_all
		if [ "$(field state)" != filling ]; then
			skip "all killed ($round)" "it was done before"
			continue
		fi
		check "status" "$FASTBOOT" status
		check_match "status says that it stopped" 'STOPPED' "$OUTPUT"
		expect_status 1 "a save is refused then" "$FASTBOOT" save --to "$WORK/no.img" "$STATE"
		mv "$STATE/big" "$STATE/moved"
		expect_status 0 "it goes on" "$FASTBOOT" restore --mode lazy --from "$IMG"
		check_match "says so" 'goes on' "$OUTPUT"
		wait_done
		mv "$STATE/moved" "$STATE/big"
		touch -d '2001-02-03 04:05:06.789012345' "$STATE"
		listing "$STATE" >"$WORK/lazy"
		same "all killed, and gone on: the whole tree ($round)"
	done
}

openers() {
	local i before after pids=()
	eager 0 0
	before=$(md5sum <"$STATE/big")
	lazy "64 openers"
	for ((i = 0; i < 64; i++)); do
		if ((i % 2)); then md5sum <"$STATE/big"; else md5sum <"$STATE/sparse"; fi >"$WORK/sum.$i" &
		pids+=($!)
	done
	wait "${pids[@]}"
	after=$(sort "$WORK"/sum.* | uniq -c | wc -l)
	check_eq "64 openers at once read two contents" 2 "$after"
	check_eq "and the right ones" 32 "$(grep -lFx -- "$before" "$WORK"/sum.* | wc -l)"
	wait_done
	rm -f "$WORK"/sum.*
}

# The bytes of the file that $2 of the image is: found by their contents.
damaged() {
	local offset marker=fastboot-lazy-damage-here
	rm -rf "$STATE"
	mkdir "$STATE"
	head -c 100M /dev/urandom >"$STATE/whole"
	{ echo $marker; head -c 3M /dev/urandom; } >"$STATE/bad"
	ln "$STATE/bad" "$STATE/bad2"
	check "save" "$FASTBOOT" save --to "$IMG" "$STATE"
	offset=$(grep -abo $marker "$IMG" | head -1 | cut -d: -f1)
	printf X | dd of="$IMG" bs=1 seek="$offset" conv=notrunc status=none
	lazy "an image with a damaged file"
	expect_status 1 "its open fails" cat "$STATE/bad"
	wait_done
	check_eq "status: damaged" damaged "$(field state)"
	check "status" "$FASTBOOT" status
	check_match "names it" "'$STATE/bad2?' is damaged" "$OUTPUT"
	check_eq "only the other is left" whole "$(ls "$STATE")"
}

figures() {
	local start cp_ms
	make_state 200 1000
	check "save" "$FASTBOOT" save --to "$IMG" "$STATE"
	start=$(date +%s%N)
	cp -a "$STATE" "$MNT/copy"
	cp_ms=$((($(date +%s%N) - start) / 1000000))
	rm -rf "$MNT/copy" "$STATE"
	start=$(date +%s%N)
	"$FASTBOOT" -q restore --mode lazy --from "$IMG"
	figure "lazy: until the tree stands" $((($(date +%s%N) - start) / 1000000)) ms "1,000 files and 500 MiB; cp -a took $cp_ms ms"
	wait_done
	figure "lazy: until all is filled" $(($(field elapsed_usec) / 1000)) ms
}

SINCE=$(date +%s)
whole
refusals
make_state 100 150
check "save" "$FASTBOOT" save --to "$IMG" "$STATE"
differential "$(seq "${LAZY_SEEDS:-8}" | tr '\n' ' ')" 150
killed_workers
killed_keeper
all_killed
openers
damaged
figures
finish
