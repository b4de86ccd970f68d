# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# For command-line tests: bash scripts tests/cli/NAME.sh that begin with
#
#   . "$(dirname "$0")/lib.sh"
#
# and end with `finish`.  scripts/test runs them; `bash tests/cli/NAME.sh` does
# too.  They have:
#   $REPO      the repository
#   $FASTBOOT  the program under test: $FASTBOOT_BIN or build/release/fastboot
#   $WORK      an empty directory that goes away at the end
# and, from the last expect_status, $OUTPUT, $ERRORS (its stdout and stderr)
# and $STATUS.  A check that fails returns 1 and the script goes on, unless it
# says `|| exit`.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck disable=SC2034
FASTBOOT=${FASTBOOT_BIN:-$REPO/build/release/fastboot}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/fastboot-cli.XXXXXX")
CLI_FAILED=0
export LC_ALL=C

set -u
trap 'rm -rf "$WORK"' EXIT

# One line a result, whatever the text holds.
cli_record() { printf '%s\n' "${*//$'\n'/ }"; }

# ok NAME
ok() { cli_record "ok - $1"; }

# not_ok NAME WHY
not_ok() {
	CLI_FAILED=$((CLI_FAILED + 1))
	cli_record "not ok - $1: ${2-}"
	return 1
}

# skip NAME WHY: the prerequisite that is missing is named in WHY.
skip() { cli_record "skip - $1: ${2-}"; }

# skip_all WHY: none of this script can run here.
skip_all() {
	skip "$(basename "$0" .sh)" "$1"
	exit 77
}

# figure NAME VALUE UNIT [NOTE]
figure() { cli_record "figure - $1"$'\t'"$2"$'\t'"$3"$'\t'"${4-}"; }

# finish: the script came to its end; exit status 1 if a check failed.
finish() {
	echo finish
	exit $((CLI_FAILED > 0))
}

# check_eq NAME WANTED GOT
check_eq() {
	if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "wanted '$2', got '$3'"; fi
}

# check_match NAME REGEX TEXT: does a line of TEXT match? (extended)
check_match() {
	if grep -Eq -- "$2" <<<"$3"; then ok "$1"; else not_ok "$1" "no line matches '$2' in: $3"; fi
}

# check NAME CMD…: ok if the command succeeds.
check() { expect_status 0 "$@"; }

# expect_status N NAME CMD…
expect_status() {
	local wanted=$1 name=$2
	shift 2
	STATUS=0
	OUTPUT=$("$@" 2>"$WORK/.stderr") || STATUS=$?
	ERRORS=$(cat "$WORK/.stderr")
	if [ "$STATUS" -eq "$wanted" ]; then
		ok "$name"
	else
		not_ok "$name" "status $STATUS instead of $wanted: $OUTPUT $ERRORS"
	fi
}

# put_bytes FILE OFFSET BYTES: BYTES as printf's %b has them.
put_bytes() { printf %b "$3" | dd of="$1" bs=1 seek=$(($2)) conv=notrunc status=none; }

# make_bzimage FILE: what passes for an x86 kernel, and is not one: the fields of
# its header that are looked at, in 64 KiB.
make_bzimage() {
	truncate -s 65536 "$1"
	put_bytes "$1" 0x1f1 '\0007'
	put_bytes "$1" 0x1f4 '\0000\0017\0000\0000'
	put_bytes "$1" 0x1fe '\0125\0252'
	put_bytes "$1" 0x202 'HdrS'
	put_bytes "$1" 0x206 '\0017\0002'
	put_bytes "$1" 0x211 '\0001'
	put_bytes "$1" 0x236 '\0177\0000'
	put_bytes "$1" 0x238 '\0377\0007\0000\0000'
}
