#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Does the harness notice failures?  Feeds scripts/vm-judge and scripts/test
# with guests and tests that went wrong in each of the ways that matter, and
# with ones that went well.  Needs no guest.
#
# shellcheck disable=SC2317  # functions are called through expect_status

# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

# --- scripts/vm-judge --------------------------------------------------------

# guest: a run's directory in which all went well; the tests damage it.
guest() {
	rm -rf "$WORK/guest"
	mkdir -p "$WORK/guest/host"
	printf '[    0.100000] Linux version 6.12\r\nWARNING: said by a program\r\n' >"$WORK/guest/console.log"
	printf '6,1,100,-;Linux version 6.12\n' >"$WORK/guest/host/kmsg.1"
	printf 'ok - one\nskip - two: no reason\nfinish\n' >"$WORK/guest/host/results"
}

console() { printf '[    1.234567] %s\r\n' "$1" >>"$WORK/guest/console.log"; }
kmsg() { printf '4,2,200,-;%s\n' "$1" >>"$WORK/guest/host/kmsg.1"; }
results() { printf '%s\n' "$@" >"$WORK/guest/host/results"; }
judge() { "$REPO/scripts/vm-judge" "$@" "$WORK/guest"; }

judge_clean() {
	guest
	check "judge: a clean guest passes, programs may print WARNING" judge
	check_eq "judge: and says so in one line" 1 "$(grep -c '^ok - ' <<<"$OUTPUT")"
}

judge_results() {
	guest; rm "$WORK/guest/host/results"
	expect_status 1 "judge: no results at all" judge
	guest; results 'ok - one'
	expect_status 1 "judge: finish is missing" judge
	check_match "judge: and that is the reason given" 'never said finish' "$OUTPUT"
	guest; results 'ok - one' 'not ok - two: broken' finish
	expect_status 1 "judge: a check failed" judge
	guest; results finish
	expect_status 1 "judge: nothing was checked" judge
	guest; results 'ok - one' 'finished almost'
	expect_status 1 "judge: finish must be the whole line" judge
	guest; : >"$WORK/guest/console.log"
	expect_status 1 "judge: an empty console log" judge
}

judge_logs() {
	local text
	for text in 'WARNING: CPU: 0 PID: 1 at mm/memory_hotplug.c:1' \
		'BUG: kernel NULL pointer dereference, address: 0' \
		'Oops: 0000 [#1] PREEMPT SMP' 'Call Trace:' \
		'Kernel panic - not syncing: VFS' \
		'kmem dax0.0: mapping0: 0x1-0x2 cannot be hotremoved until the next reboot' \
		'fastboot[77]: segfault at 0 ip 0' \
		'traps: fastboot[77] general protection fault' \
		'INFO: task fastboot:77 blocked for more than 120 seconds.' \
		'rcu: INFO: rcu_preempt self-detected stall on CPU'; do
		guest; console "$text"
		expect_status 1 "judge: console says ${text%% *}…" judge
		check "judge: and quotes it" grep -qF -- "$text" <<<"$OUTPUT"
		guest; kmsg "$text"
		expect_status 1 "judge: kernel log says ${text%% *}…" judge
	done
	guest; printf 'text without newline[    2.000000] BUG: late\r\n' >>"$WORK/guest/console.log"
	expect_status 1 "judge: a complaint behind a program's half line" judge
	guest; console '[   T77] WARNING: with a thread before it'
	expect_status 1 "judge: a complaint with the caller's number" judge
	guest; printf '6,1,1,-;fine\n' >"$WORK/guest/host/kmsg.2"; kmsg 'BUG: in stage 1'
	expect_status 1 "judge: every stage's kernel log counts" judge
}

judge_expected() {
	guest; console 'WARNING: wanted here'
	check "judge: an expected complaint passes" judge --expect-log 'wanted here'
	console 'BUG: not wanted'
	expect_status 1 "judge: another beside it does not" judge --expect-log 'wanted here'
	guest; console 'WARNING: one'
	expect_status 1 "judge: an empty expectation excuses nothing" judge --expect-log ''
}

# --- scripts/test ------------------------------------------------------------

# project: a repository with the runner and nothing to run.
project() {
	rm -rf "$WORK/project"
	mkdir -p "$WORK/project"/{scripts,tests/cli,tests/vm,build/debug/tests/unit}
	cp "$REPO/scripts/test" "$WORK/project/scripts/test"
}

# cli_test TEXT…, unit_test TEXT…: the one test of the project, its lines.
cli_test() { project; printf '%s\n' "$@" >"$WORK/project/tests/cli/one.sh"; }
unit_test() {
	project
	printf '%s\n' '#!/bin/sh' "$@" >"$WORK/project/build/debug/tests/unit/test_one"
	chmod +x "$WORK/project/build/debug/tests/unit/test_one"
}

run_project() { "$WORK/project/scripts/test" "$@"; }

# runner STATUS COUNTS NAME: the exit status and the last line.
runner() {
	expect_status "$1" "runner: $3" run_project --unit --cli
	check_eq "runner: $3: counts" "$2" "$(tail -n 1 <<<"$OUTPUT")"
}

runner_cli() {
	cli_test 'echo ok - a; echo skip - b: no; echo finish'
	runner 0 "1 passed, 0 failed, 1 skipped" "a good cli test"
	cli_test 'echo ok - a; echo not ok - b: no; echo finish'
	runner 1 "1 passed, 1 failed, 0 skipped" "a failed check, even with status 0"
	cli_test 'echo ok - a; exit 3'
	runner 1 "1 passed, 1 failed, 0 skipped" "a cli test that broke off"
	cli_test 'echo ok - a'
	runner 1 "1 passed, 1 failed, 0 skipped" "a cli test without finish"
	cli_test 'echo finish'
	runner 1 "0 passed, 1 failed, 0 skipped" "a cli test that checks nothing"
	cli_test 'exit 77'
	runner 0 "0 passed, 0 failed, 1 skipped" "a cli test that skips itself"
	cli_test 'echo not ok - a: no; exit 77'
	runner 1 "0 passed, 1 failed, 0 skipped" "77 does not excuse a failed check"
}

runner_unit() {
	unit_test 'echo 1..3; echo ok 1 - a; echo "not ok 2 # SKIP b"; echo ok 3 - c'
	runner 0 "2 passed, 0 failed, 1 skipped" "a good unit test"
	unit_test 'echo 1..2; echo ok 1 - a; echo not ok 2 - b; exit 1'
	runner 1 "1 passed, 1 failed, 0 skipped" "a failed unit test"
	unit_test 'echo 1..3; echo ok 1 - a; kill -SEGV $$'
	runner 1 "1 passed, 1 failed, 0 skipped" "a unit test that crashed"
	unit_test 'echo 1..1; echo ok 1 - a; exit 1'
	runner 1 "1 passed, 1 failed, 0 skipped" "a leak found after the last test"
	unit_test 'exit 77'
	runner 0 "0 passed, 0 failed, 1 skipped" "a unit test that skips itself"
}

runner_vm() {
	cli_test 'exit 1'
	printf '#!/bin/sh\necho ok - a; exit 1\n' >"$WORK/project/scripts/vm"
	chmod +x "$WORK/project/scripts/vm"
	printf '# vm-kernels: 6.1\n' >"$WORK/project/tests/vm/guest.sh"
	expect_status 1 "runner: a guest that failed without a word" run_project --vm
	check_eq "runner: and it is counted" "1 passed, 1 failed, 0 skipped" "$(tail -n 1 <<<"$OUTPUT")"
	printf '#!/bin/sh\necho ok - a; printf "figure - speed\\t7\\tMB/s\\tnote\\n"\n' >"$WORK/project/scripts/vm"
	expect_status 0 "runner: a guest that did well" run_project --vm
	check_match "runner: its figure is in the table" 'speed +7 MB/s +note' "$OUTPUT"
}

runner_selection() {
	project
	runner 1 "0 passed, 1 failed, 0 skipped" "nothing to run is a failure"
	cli_test 'echo ok - a; echo finish'
	expect_status 0 "runner: selects by name" run_project one
	expect_status 1 "runner: an unknown name is a failure" run_project two
	expect_status 2 "runner: an unknown option is wrong usage" run_project --fast
}

# --- .ci/run -----------------------------------------------------------------

# ci STATUS LAST NAME MAKE: what .ci/run makes of a `make` with these lines.
ci() {
	project
	mkdir -p "$WORK/project/.ci" "$WORK/project/bin"
	cp "$REPO/.ci/run" "$WORK/project/.ci/run"
	printf '#!/bin/sh\n%s\n' "$4" >"$WORK/project/bin/make"
	chmod +x "$WORK/project/bin/make"
	expect_status "$1" "ci: $3" env PATH="$WORK/project/bin:$PATH" "$WORK/project/.ci/run"
	check_eq "ci: $3: last line" "$2" "$(tail -n 1 <<<"$OUTPUT")"
}

ci_run() {
	ci 0 "3 passed, 0 failed, 1 skipped" "all is well" 'echo 3 passed, 0 failed, 1 skipped'
	ci 2 "3 passed, 1 failed, 0 skipped" "a test failed" \
		'echo 3 passed, 1 failed, 0 skipped; echo "make: *** [test] Error 1" >&2; exit 2'
	ci 1 "0 passed, 1 failed, 0 skipped" "the build failed" 'echo "cc: error" >&2; exit 2'
	ci 1 "0 passed, 1 failed, 0 skipped" "no tests ran" 'exit 0'
}

# --- the libraries of the tests ----------------------------------------------

vm_lib() { VM_RESULTS=$WORK/results sh -uc ". '$REPO/tests/vm/lib.sh'; $1"; }

guest_library() {
	: >"$WORK/results"
	expect_status 1 "guest library: a wrong status is returned" vm_lib 'expect_status 3 name false'
	check_match "guest library: and recorded" '^not ok - name: status 1 instead of 3' "$(cat "$WORK/results")"
	: >"$WORK/results"
	vm_lib 'not_ok name "two
lines"; check_eq same a b; finish' >/dev/null
	check_eq "guest library: one line a result" 3 "$(wc -l <"$WORK/results")"
	check_eq "guest library: check_eq compares" "not ok - same: wanted 'a', got 'b'" "$(sed -n 2p "$WORK/results")"
}

# In a subshell: its failures are wanted here.
cli_library() {
	check_eq "cli library: a failed check makes finish fail" "not ok - x: wanted 'a', got 'b' finish 1" \
		"$(echo "$(check_eq x a b; (CLI_FAILED=1; trap - EXIT; finish); echo $?)" | tr '\n' ' ' | sed 's/ $//')"
	check_eq "cli library: expect_status compares" "not ok - x: status 1 instead of 0:  " \
		"$(expect_status 0 x false)"
}

judge_clean
judge_results
judge_logs
judge_expected
runner_cli
runner_unit
runner_vm
runner_selection
ci_run
guest_library
cli_library
finish
