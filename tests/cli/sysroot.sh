#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# check, status, hotadd and hotremove on captured machines (tests/sysroot/, made
# by scripts/capture): what they say, what they would do, and their status.
# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

trees=$REPO/tests/sysroot

# on TREE ARG…: fastboot on a captured tree.
on() {
	local tree=$1
	shift
	"$FASTBOOT" --sysroot "$trees/$tree" "$@"
}

# json TEXT FILTER: a value from a JSON document.
json() { python3 -c 'import json, sys; d = json.loads(sys.argv[1]); print(eval(sys.argv[2]))' "$1" "$2"; }

# ---- check -----------------------------------------------------------------

for tree in fresh raw hotadded; do
	expect_status 0 "$tree: check is content" on "$tree" check
	check_match "$tree: the region" '^ok +region +2 GiB, 0x100000000-0x17fffffff, from memmap' "$OUTPUT"
	check_match "$tree: what alignment costs" '^note +placement +hot-add gains 1,920 MiB; 128 MiB are lost' "$OUTPUT"
	check_match "$tree: the carry-over" '^ok +carry-over' "$OUTPUT"
	check_match "$tree: the kernel's options" '^ok +MEMORY_HOTREMOVE' "$OUTPUT"
	check_eq "$tree: nothing on stderr" '' "$ERRORS"
done
expect_status 0 "fresh: modules would be loaded" on fresh check
check_match "fresh: kmem is a module" '^ok +kmem +a module, loaded when needed' "$OUTPUT"
expect_status 0 "raw: modules are loaded" on raw check
check_match "raw: kmem is loaded" '^ok +kmem +loaded' "$OUTPUT"

cp -R "$trees/raw" "$WORK/no-node"
chmod -R u+w "$WORK/no-node"
echo -1 >"$WORK/no-node/sys/bus/nd/devices/region0/target_node"
expect_status 1 "no NUMA node: check" "$FASTBOOT" --sysroot "$WORK/no-node" check
check_match "no NUMA node: with the fix" '^missing +NUMA node .*kmem refuses it; fix: .*lower address' "$OUTPUT"

expect_status 1 "no region: check can be fixed" on no-region check
check_match "no region: with the fix" '^missing +region .*fastboot plan --size 2G' "$OUTPUT"
check_match "no region: one line on stderr" '^fastboot: 1 requirement is not met$' "$ERRORS"
expect_status 1 "two regions: check can be fixed" on two-regions check
check_match "two regions: with the fix" '^missing +region .*\[region\] at = 0x100000000, size = 1024M' "$OUTPUT"

cat >"$WORK/second.conf" <<-END
	[region]
	at = 0x180000000
	size = 1G
END
expect_status 0 "two regions, one configured" \
	"$FASTBOOT" --config "$WORK/second.conf" --sysroot "$trees/two-regions" check
check_match "two regions: it is that one" '^ok +region +1 GiB, 0x180000000-0x1bfffffff' "$OUTPUT"

expect_status 0 "check --json" on raw --json check
check_eq "check --json: the result" ok "$(json "$OUTPUT" 'd["result"]')"
check_eq "check --json: every requirement has a status" True \
	"$(json "$OUTPUT" 'all(r["status"] in ("ok", "note") for r in d["requirements"])')"
expect_status 1 "check --json: not met" on no-region --json check
check_eq "check --json: missing" missing "$(json "$OUTPUT" 'd["result"]')"

# ---- status ----------------------------------------------------------------

expect_status 0 "fresh: status" on fresh status
check_match "fresh: no driver yet" 'drivers not loaded' "$OUTPUT"
expect_status 0 "raw: status" on raw status
check_match "raw: its device" 'namespace0.0, raw, /dev/pmem0' "$OUTPUT"
expect_status 0 "hotadded: status" on hotadded status
check_match "hotadded: all blocks" '1,920 MiB, 15 of 15 blocks online and movable' "$OUTPUT"
expect_status 5 "no region: status" on no-region status
check_match "no region: says how to get one" 'fastboot plan --size 2G' "$ERRORS"
expect_status 1 "two regions: status" on two-regions status
check_match "two regions: lists them" '1 GiB at 0x100000000, 1 GiB at 0x180000000' "$ERRORS"

expect_status 0 "hotadded: status --json" on hotadded --json status
check_eq "JSON: by which call" kexec_file_load "$(json "$OUTPUT" 'd["kexec"]["method"]')"
check_eq "JSON: bytes" 2147483648 "$(json "$OUTPUT" 'd["region"]["bytes"]')"
check_eq "JSON: hot-added bytes" 2013265920 "$(json "$OUTPUT" 'd["region"]["hotadded_bytes"]')"
check_eq "JSON: driver" kmem "$(json "$OUTPUT" 'd["region"]["dax_driver"]')"
check_eq "JSON: blocks" '33 47' "$(json "$OUTPUT" 'str(d["blocks"][0]["number"]) + " " + str(d["blocks"][-1]["number"])')"

# ---- hotadd and hotremove: what they would do --------------------------------

expect_status 2 "hotadd on a tree needs --dry-run" on raw hotadd
expect_status 0 "raw: hotadd --dry-run" on raw --dry-run hotadd
check_match "hotadd: first the namespace" '^ +1\. make the namespace of 0x100000000-0x17fffffff devdax$' "$OUTPUT"
check_match "hotadd: auto_online_blocks" "^ +2\. write 'offline' to /sys/devices/system/memory/auto_online_blocks$" "$OUTPUT"
check_match "hotadd: every block" "write 'online_movable' to /sys/devices/system/memory/memory47/state$" "$OUTPUT"
check_eq "hotadd: 15 blocks" 15 "$(grep -c online_movable <<<"$OUTPUT")"
expect_status 0 "fresh: hotadd --dry-run" on fresh --dry-run hotadd
check_match "fresh: names the modules" 'load the kernel module kmem' "$OUTPUT"
expect_status 0 "hotadded: hotadd is done" on hotadded --dry-run hotadd
check_match "hotadded: and says so" '^already hot-added: 1,920 MiB' "$OUTPUT"

expect_status 0 "hotadded: hotremove --dry-run" on hotadded --dry-run hotremove
check_match "hotremove: drops the cache" "write '1' to /proc/sys/vm/drop_caches" "$OUTPUT"
check_eq "hotremove: the highest first, without page flags" \
	"$(seq 47 -1 33 | tr '\n' ' ')" \
	"$(sed -n "s/.*write 'offline' to .*memory\([0-9]*\)\/state/\1/p" <<<"$OUTPUT" | tr '\n' ' ')"
check_match "hotremove: ends raw" 'make the namespace of .* raw' "$OUTPUT"
expect_status 0 "hotremove --dry-run --json" on hotadded --dry-run --json hotremove
check_eq "JSON: as many steps as lines" \
	"$("$FASTBOOT" --sysroot "$trees/hotadded" -n hotremove | wc -l)" "$(json "$OUTPUT" 'len(d["steps"])')"
expect_status 0 "raw: hotremove is done" on raw --dry-run hotremove
check_match "raw: and says so" 'already hot-removed' "$OUTPUT"

# ---- a machine that was damaged by hand -----------------------------------------

cp -R "$trees/hotadded" "$WORK/stuck"
rm "$WORK/stuck/sys/bus/dax/devices/dax0.0/driver"
expect_status 1 "stuck: hotremove refuses" "$FASTBOOT" --sysroot "$WORK/stuck" -n hotremove
check_match "stuck: until the next reboot" 'until the next reboot' "$ERRORS"

cp -R "$trees/hotadded" "$WORK/zone"
echo Normal >"$WORK/zone/sys/devices/system/memory/memory40/valid_zones"
echo going-offline >"$WORK/zone/sys/devices/system/memory/memory41/state"
expect_status 0 "wrong zone: status" "$FASTBOOT" --sysroot "$WORK/zone" status
check_match "wrong zone: named" 'block 40: online, zone Normal' "$OUTPUT"
check_match "going offline: named" 'block 41: going-offline' "$OUTPUT"
expect_status 0 "wrong zone: hotadd puts it right" "$FASTBOOT" --sysroot "$WORK/zone" -n hotadd
check_match "wrong zone: first offline" "write 'offline' to .*memory40/state" "$OUTPUT"

cp -R "$trees/raw" "$WORK/user"
sed 's/^\( *\)[0-9a-f]*-[0-9a-f]* :/\100000000-00000000 :/' "$trees/raw/proc/iomem" >"$WORK/user/proc/iomem"
expect_status 1 "not root: status" "$FASTBOOT" --sysroot "$WORK/user" status
check_match "not root: says why" 'needs root' "$ERRORS"

cp -R "$trees/no-region" "$WORK/lost"
echo 'quiet memmap=2G!64G' >"$WORK/lost/proc/cmdline"
expect_status 5 "lost memmap=: status" "$FASTBOOT" --sysroot "$WORK/lost" status
check_match "lost memmap=: says why" 'memmap=2G!64G .* there is no memory at that address' "$ERRORS"

# ---- usage -----------------------------------------------------------------------

expect_status 2 "check takes no operand" on raw check now
expect_status 2 "status takes no operand" on raw status now
expect_status 2 "hotadd takes no operand" on raw -n hotadd now
expect_status 2 "hotremove: the deadline is a number" on raw -n hotremove --deadline soon
check_match "hotremove: and says so" 'not a number of seconds' "$ERRORS"
expect_status 2 "hotremove: zero is no deadline" on raw -n hotremove --deadline 0

finish
