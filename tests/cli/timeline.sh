#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# `fastboot timeline` on kept timelines: tests/golden/timeline is one of a real
# reboot in a guest, timeline.txt what is to be said of it.
. "$(dirname "$0")/lib.sh"

golden=$REPO/tests/golden/timeline

timeline() { "$FASTBOOT" timeline "$@"; }

# fails STATUS NAME REGEX ARG…: with one line on stderr that matches.
fails() {
	local status=$1 name=$2 regex=$3
	shift 3
	expect_status "$status" "$name" timeline "$@"
	check_match "$name: says why" "$regex" "$ERRORS"
	check_eq "$name: in one line" 1 "$(wc -l <<<"$ERRORS")"
	check_eq "$name: and nothing else" '' "$OUTPUT"
}

text() {
	check "text" timeline --from "$golden"
	check_eq "text: as kept" '' "$(diff <(echo "$OUTPUT") "$golden.txt")"
	check_eq "text: no line is wider than 80" '' "$(grep -E '^.{81}' <<<"$OUTPUT")"
	check_eq "text: no colours in a file" '' "$(grep "$(printf '\033')" <<<"$OUTPUT")"
	check "quiet" "$FASTBOOT" -q timeline --from "$golden"
	check_eq "quiet: nothing" '' "$OUTPUT"
}

# number KEY: the first of that name in $OUTPUT.
number() { tr -d ' \n' <<<"$OUTPUT" | sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p"; }

# What is said in the parts is the whole.
json() {
	local sum
	check "json" timeline --json --from "$golden"
	check_match "json: the clock" '"clock_ran_through":true' "$OUTPUT"
	check_eq "json: the sections are all" "$(number total_usec)" \
		$(($(number prepare_usec) + $(number blackout_usec) + $(number after_usec)))
	sum=$(sed '/"kernel":/,$d' <<<"$OUTPUT" | sed -n 's/.*"took_usec":\([0-9]*\).*/\1/p' | awk '{ s += $1 } END { print s }')
	check_eq "json: so are the phases, but for what is rounded" 1 \
		"$(($(number total_usec) - sum < 20 && $(number total_usec) >= sum - 20))"
	check "json: the global option is the same" "$FASTBOOT" --json timeline --from "$golden"
	check_match "json: a document too" '"clock_ran_through":true' "$OUTPUT"
}

svg() {
	check "svg" timeline --svg "$WORK/t.svg" --from "$golden"
	check_eq "svg: nothing on stdout" '' "$OUTPUT"
	check "svg: valid XML" xmllint --noout "$WORK/t.svg"
	check_eq "svg: a lane for each row of the text" \
		"$(grep -c '|$' "$golden.txt")" "$(grep -c 'class="time"' "$WORK/t.svg")"
	check "svg: to stdout" timeline --svg - --from "$golden"
	check_eq "svg: the same there" '' "$(diff <(echo "$OUTPUT") "$WORK/t.svg")"
	fails 1 "svg: where none can be" '/nonexistent/t.svg: No such file' \
		--svg /nonexistent/t.svg --from "$golden"
	fails 1 "svg: a full disk" '/dev/full: No space left' --svg /dev/full --from "$golden"
}

# damage NAME REGEX SED: the golden file with something changed.
damage() {
	sed "$3" "$golden" >"$WORK/damaged"
	fails "${4-1}" "damaged: $1" "$2" --from "$WORK/damaged"
}

damaged() {
	local size n
	damage "no magic" 'damaged: not a timeline' '1s/.*/hello/'
	damage "a later version" 'version 9' '1s/1$/9/'
	damage "a number that is none" 'line 2 is damaged' '2s/ .*/ x/'
	damage "a stamp without its counter" 'line 9 is damaged' '9s/ [0-9]*$//'
	damage "stamps that cannot be" 'more than a year' '9s/[0-9]*$/18446744073709551615/'
	damage "no frequency" 'frequency of the counter is not known' '2s/ .*/ 0/' 5
	: >"$WORK/damaged"
	fails 1 "damaged: empty" 'it is empty' --from "$WORK/damaged"
	printf 'fastboot timeline 1\n\0\n' >"$WORK/damaged"
	fails 1 "damaged: a zero byte" 'zero bytes' --from "$WORK/damaged"
	size=$(stat -c %s "$golden")
	for n in 5 300 $((size - 1)); do
		head -c "$n" "$golden" >"$WORK/damaged"
		fails 1 "damaged: cut off after $n bytes" 'line [0-9]* is cut off' --from "$WORK/damaged"
	done
	fails 1 "not there" '/nonexistent: No such file' --from /nonexistent
	fails 1 "a directory" 'directory' --from "$WORK"
}

# What is left out of a file is left out of the answer.
partial() {
	sed '/^stamp 19 /d' "$golden" >"$WORK/reset"
	check "no kexec" timeline --json --from "$WORK/reset"
	check_match "no kexec: it says so" '"clock_ran_through":false' "$OUTPUT"
	check_match "no kexec: the blackout is not known" '"blackout_usec":null' "$OUTPUT"
	check "no kexec: text" timeline --from "$WORK/reset"
	check_match "no kexec: text says so" '^the clock did not run through' "$OUTPUT"
	check_match "no kexec: no sum" '^all in all  *not known$' "$OUTPUT"
	check_match "no kexec: nor a time in between" '^  what lies between +not known ' "$OUTPUT"
	sed '/^kernel /d' "$golden" >"$WORK/no-log"
	check "no log" timeline --from "$WORK/no-log"
	check_eq "no log: no steps" '' "$(grep '^    ' <<<"$OUTPUT")"
	{ cat "$golden"; echo 'later something'; } >"$WORK/later"
	check "a line of a later version" timeline --from "$WORK/later"
	check_eq "a line of a later version is passed over" '' "$(diff <(echo "$OUTPUT") "$golden.txt")"
}

# --sysroot: the file of this boot, and of no other.
this_boot() {
	local root=$WORK/root
	mkdir -p "$root/run/fastboot" "$root/proc/sys/kernel/random"
	fails 4 "none" 'no reboot by fastboot in this boot' # the machine of the tests
	expect_status 4 "none in a tree" "$FASTBOOT" --sysroot "$root" timeline
	cp "$golden" "$root/run/fastboot/timeline"
	sed -n 's/^to \([^ ]*\) .*/\1/p' "$golden" >"$root/proc/sys/kernel/random/boot_id"
	check "of this boot" "$FASTBOOT" --sysroot "$root" timeline
	check_eq "of this boot: as kept" '' "$(diff <(echo "$OUTPUT") "$golden.txt")"
	echo 3f2504e0-4f89-41d3-9a0c-0305e82c3301 >"$root/proc/sys/kernel/random/boot_id"
	expect_status 4 "of another boot" "$FASTBOOT" --sysroot "$root" timeline
}

usage() {
	fails 2 "an operand" "no operand, not 'x'" x
	fails 2 "json and svg" 'only one' --json --svg x
	fails 2 "svg without a file" 'needs a value' --svg
}

text
json
svg
damaged
partial
this_boot
usage
finish
