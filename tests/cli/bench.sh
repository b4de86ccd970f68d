#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# scripts/bench: what becomes of results (a finished run, made here), the
# budgets, and its command line; then one round in a guest. Times are never
# compared with a clock.

# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

bench=$REPO/scripts/bench

# result ROUND KEY WAY SIZE FILES CHANGED BLACKOUT
result() {
	printf '{"round": %s, "key": "%s", "way": "%s", "size": %s, "files": %s, "changed": %s,
		"blackout_ms": %s, "whole_ms": 9000, "own_ms": null, "memcpy_ms": 20.0,
		"phases_ms": {"stop": 1.0, "kernel": 500.0, "application": 10.0},
		"others_percent": 0.5, "busy": false}' "$@"
}

# finished KEXEC FASTBOOT: a run of two rounds with these blackouts; the recipe
# by hand takes 30 s, less state is 5 % faster, a change adds 25 ms.
finished() {
	local round comma=''
	mkdir -p "$WORK/run"
	{
		echo '{"run": {"kernel": "6.12", "emulator": "none", "date": "today", "rounds": 2,
			"busy_rounds": 0, "measured": 12}, "results": ['
		for round in 1 2; do
			echo "$comma"
			result $round kexec kexec 0 1000 0 "$1"
			echo ,
			result $round 'hand 2048 MiB' hand 2147483648 1000 0 30000.0
			echo ,
			result $round 'fastboot 2048 MiB 1' fastboot 2147483648 1 0 9000
			echo ,
			result $round 'fastboot 2048 MiB' fastboot 2147483648 1000 0 "$2"
			echo ,
			result $round 'fastboot 256 MiB' fastboot 268435456 1000 0 "$(($2 * 95 / 100))"
			echo ,
			result $round 'fastboot 2048 MiB changed' fastboot 2147483648 1000 67108864 "$(($2 + 25))"
			comma=,
		done
		echo ']}'
	} >"$WORK/run/results.json"
}

judge() { "$bench" --judge "$WORK/run" --baseline "$WORK/baseline.json" "$@"; }

# verdict NAME: what was said of a budget.
verdict() { awk -v name="$1" '$1 == name { print $5 }' <<<"$OUTPUT"; }

budgets_kept() {
	finished 1000 1100
	check "all budgets kept: status 0" judge
	check_eq "a ratio is kept" kept "$(verdict reboot/kexec)"
	check_eq "what has no baseline is not measured" not "$(verdict baseline)"
	check_eq "the goal in seconds is missed, and fails nothing" missed "$(verdict reboot)"
}

budget_exceeded() {
	finished 1000 1300
	expect_status 1 "a plain kexec takes less than 1/1.2 of it: status 1" judge
	check_eq "and that budget is named" EXCEEDED "$(verdict reboot/kexec)"
	check_eq "the others are kept" kept "$(verdict large/small)"
	finished 1700 1600
	expect_status 1 "less than 20 times as fast as by hand: status 1" judge
	check_eq "a lower limit is one" EXCEEDED "$(verdict hand/reboot)"
	finished 1000 1100
	echo 'changed/memcpy max 1.2 a change' >"$WORK/budgets"
	expect_status 1 "budgets of one's own" judge --budgets "$WORK/budgets"
	check_eq "only these count" 1 "$(grep -c EXCEEDED <<<"$OUTPUT")"
}

baseline() {
	finished 1000 1000
	check "a baseline is saved" judge --save-baseline
	finished 1000 1100
	check "10 % worse than the baseline" judge
	finished 1000 1170
	expect_status 1 "17 % worse than the baseline: status 1" judge
	check_eq "and that is the reason" EXCEEDED "$(verdict baseline)"
	rm "$WORK/baseline.json"
}

# well_formed DIR ROWS
well_formed() {
	check "results.csv has a row a measurement, all of one length" python3 -c '
import csv, sys
rows = list(csv.reader(open(sys.argv[1])))
assert len(rows) == 1 + int(sys.argv[2]), rows
assert rows[0][:3] == ["round", "key", "way"] and "kernel_ms" in rows[0]
assert len(set(map(len, rows))) == 1, rows' "$1/results.csv" "$2"
	check "results.json has figures, budgets and results" python3 -c '
import json, sys
d = json.load(open(sys.argv[1]))
assert len(d["results"]) == int(sys.argv[2])
for f in d["summary"].values():
    assert 0 < f["least_ms"] <= f["p50_ms"] <= f["p95_ms"] <= f["most_ms"], f
assert d["budgets"] and d["run"]["kernel"]' "$1/results.json" "$2"
	check "results.svg is XML with bars" python3 -c '
import sys, xml.etree.ElementTree as e
assert len(e.parse(sys.argv[1]).getroot().findall(".//{*}rect")) > 7' "$1/results.svg"
}

usage() {
	expect_status 2 "an unknown option" "$bench" --fast
	expect_status 2 "a state that is too large" "$bench" --state 3G
	expect_status 2 "an unknown way" "$bench" --ways luck
	expect_status 2 "no rounds" "$bench" --rounds 0
	echo 'reboot/kexec at most 1.2' >"$WORK/budgets"
	finished 1000 1000
	expect_status 2 "budgets that cannot be read" judge --budgets "$WORK/budgets"
	check_match "and the line is named" 'budgets:1: ' "$ERRORS"
	expect_status 1 "nothing to judge" "$bench" --judge "$WORK/nothing"
}

# --hand-rounds: which ways a round has.
rounds_by_hand() {
	check_eq "by hand only in the first rounds" "cold kexec hand fastboot; cold kexec fastboot" \
		"$(cd "$REPO/bench" && python3 -B -c '
import rounds, types
s = types.SimpleNamespace(ways=list(rounds.WAYS), hand_rounds=1, states=[(1 << 28, 1000)],
                          full=False, changed=None)
print("; ".join(" ".join(c.way for c in rounds.cells_of(s, n)) for n in (1, 2)))')"
}

# The table in the specification says what the file says.
specification() {
	local name kind limit meaning words
	while read -r name kind limit meaning; do
		case $kind in max) words="at most $limit" ;; min) words="at least $limit" ;; goal) words="goal: $limit s" ;; esac
		check_eq "bench/README.md has the budget $name" 1 \
			"$(grep -cxF "| $name | $words | $meaning |" "$REPO/bench/README.md")"
	done < <(grep -v '^#' "$REPO/bench/budgets" | grep .)
	check_eq "and no other" "$(grep -cv '^#\|^$' "$REPO/bench/budgets")" \
		"$(grep -cE '^\| .* \| (at most|at least|goal:) ' "$REPO/bench/README.md")"
}

# All ways once. The budgets are wide: what is asserted is that the answers were
# right and all of the state came back, which scripts/bench fails without.
one_round() {
	printf 'reboot/kexec max 1000 wide\nhand/reboot min 0 wide\n' >"$WORK/budgets"
	check "one round in a guest" "$bench" --quick --state 64M --files 200 --changed 16M --kernel fast \
		--out "$WORK/guest" --budgets "$WORK/budgets" --baseline "$WORK/none" || return
	well_formed "$WORK/guest" 5
	printf 'reboot/kexec max 0 broken\n' >"$WORK/budgets"
	expect_status 1 "the same run with a budget that nothing can keep" \
		"$bench" --judge "$WORK/guest" --budgets "$WORK/budgets" --baseline "$WORK/none"
	check "a guest was asked, and answered, many times" python3 -c '
import json, sys
assert json.load(open(sys.argv[1]))["run"]["answers"] > 500' "$WORK/guest/results.json"
}

# A program that can do nothing: the plain kexec before it was measured all the same.
broken_off() {
	cp /bin/false "$WORK/broken"
	cp "$FASTBOOT-init" "$WORK/broken-init"
	FASTBOOT_BIN=$WORK/broken expect_status 1 "a way that fails: status 1" \
		"$bench" --quick --ways kexec,fastboot --state 64M --files 200 --kernel fast \
		--out "$WORK/broken.d" --baseline "$WORK/saved" --save-baseline
	check_match "a way that fails: it is named" '^bench: fastboot 64 MiB 200 files: .*hotadd' "$ERRORS"
	check_eq "a way that fails: what was measured before is kept" 1 \
		"$(grep -c '^1,kexec,' "$WORK/broken.d/results.csv")"
	check "a way that fails: no baseline is written" test ! -e "$WORK/saved"
}

usage
budgets_kept
well_formed "$WORK/run" 12
budget_exceeded
baseline
rounds_by_hand
specification
if command -v qemu-system-x86_64 >/dev/null; then
	one_round
	broken_off
else
	skip "one round in a guest" "qemu-system-x86_64 is not installed"
fi
finish
