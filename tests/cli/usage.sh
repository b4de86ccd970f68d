#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The command line and the configuration: what is wrong is one line on stderr
# that names it, with status 2; nothing of it needs root or a machine.
. "$(dirname "$0")/lib.sh"

one_line() {
	local name=$1
	check_eq "$name: one line on stderr" 1 "$(wc -l <<<"$ERRORS")"
	check_match "$name: says who" '^fastboot: ' "$ERRORS"
	check_eq "$name: nothing on stdout" '' "$OUTPUT"
}

# usage_error NAME REGEX ARG…
usage_error() {
	local name=$1 regex=$2
	shift 2
	expect_status 2 "$name" "$FASTBOOT" "$@"
	one_line "$name"
	check_match "$name: names it" "$regex" "$ERRORS"
}

commands='check plan status hotadd hotremove save restore image load reboot overlay timeline'

global_options() {
	expect_status 0 "--help" "$FASTBOOT" --help
	local command
	for command in $commands; do
		check_match "--help lists $command" "^  $command +[a-z]" "$OUTPUT"
	done
	expect_status 0 "--version" "$FASTBOOT" --version
	check_match "--version is a version" '^fastboot [0-9]+\.[0-9]+\.[0-9]+$' "$OUTPUT"
	usage_error "no command" 'which command'
	usage_error "unknown command" "unknown command 'frobnicate'" frobnicate
	usage_error "unknown long option" '--frob' --frob check
	usage_error "unknown short option" '-z' -z check
	usage_error "option without its value" '--config' --config
	usage_error "value for an option without" '--json=3' --json=3 check
	usage_error "--sysroot that is not there" '/nonexistent' --sysroot /nonexistent status
}

command_help() {
	local command
	for command in $commands; do
		expect_status 0 "$command --help" "$FASTBOOT" "$command" --help
		check_match "$command --help: usage" "^usage: fastboot .*$command" "$OUTPUT"
		usage_error "$command with an unknown option" '--frob' "$command" --frob
	done
}

# bad_config NAME REGEX TEXT
bad_config() {
	printf '%b' "$3" >"$WORK/bad.conf"
	usage_error "configuration: $1" "$2" -c "$WORK/bad.conf" status
}

configuration() {
	local at="$WORK/bad.conf"
	usage_error "configuration: missing file" '/nonexistent.*No such file' -c /nonexistent status
	bad_config "unknown section" "$at:2: unknown section 'stat'" '[stat]\npath=/x\n'
	bad_config "unknown key" "$at:2: .*'path'" '[region]\npath = /x\n'
	bad_config "line that is nothing" "$at:2: neither" '[region]\nfoo\n'
	bad_config "address that is none" "$at:2: .*'4X'" '[region]\nat = 4X\nsize = 2G\n'
	bad_config "half a region" 'both at and size' '[region]\nat = 4G\n'
	bad_config "empty region" 'no range' '[region]\nat = 4G\nsize = 0\n'
	bad_config "region past the end" 'no range' '[region]\nat = 0xfffffffffffff000\nsize = 2G\n'
	bad_config "relative state" "$at:2: .*absolute.*'srv'" '[state a]\npath = srv\n'
	bad_config "state without a path" 'state a\] needs a path' '[state a]\npriority = 1\n'
	bad_config "deadline in words" "$at:2: .*'soon'" '[hotremove]\ndeadline = soon\n'
	bad_config "deadline of nothing" "$at:2: .*'0'" '[hotremove]\ndeadline = 0\n'
	bad_config "relative hook" "$at:2: .*absolute" '[hooks]\nquiesce = stop\n'
	bad_config "first of two errors" "$at:2: .*'one'" '[kexec]\none = 1\ntwo = 2\n'
}

drop_ins() {
	local root="$WORK/root"
	mkdir -p "$root/etc/fastboot.conf.d"
	echo '[hotremove]' >"$root/etc/fastboot.conf"
	printf '[restore]\nmode = eager\n' >"$root/etc/fastboot.conf.d/10-good.conf"
	echo 'not read at all' >"$root/etc/fastboot.conf.d/README"
	echo 'wrong' >"$root/etc/fastboot.conf.d/20-bad.conf"
	usage_error "drop-in files are read" '20-bad.conf:1: neither' --sysroot "$root" status
}

global_options
command_help
configuration
drop_ins
finish
