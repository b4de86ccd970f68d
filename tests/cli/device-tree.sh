#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The region from the device tree: the captured machines (tests/sysroot/) made
# into arm64 ones, whose region is a node instead of memmap=, with the tree that
# `overlay` makes, as directories or as a blob.

# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

for tool in dtc fdtget; do
	[ -n "$(command -v $tool)" ] || skip_all "needs $tool (device-tree-compiler)"
done
machine=$WORK/machine

# The region of the captured machines: 2 GiB at 4 GiB.
dtc -q -I dts -O dtb -o "$WORK/base.dtb" - <<-'END'
	/dts-v1/;
	/ {
		compatible = "board";
		#address-cells = <2>;
		#size-cells = <2>;
		memory@0 { device_type = "memory"; reg = <0x0 0x0 0x2 0x80000000>; };
	};
END
check "the tree" "$FASTBOOT" overlay --base "$WORK/base.dtb" --size 1920M --at 0x100000000 \
	-o "$WORK/region.dtbo" --apply "$WORK/merged.dtb"
check_match "the tree: 2 GiB at 4 GiB" '^region +0x100000000-0x17fffffff, 2 GiB' "$OUTPUT"

# unpack DTB NODE DIR: as /proc/device-tree has it.
unpack() {
	local name byte
	mkdir -p "$3"
	for name in $(fdtget -p "$1" "$2"); do
		for byte in $(fdtget -t bx "$1" "$2" "$name"); do printf %b "\\x$byte"; done >"$3/$name"
	done
	for name in $(fdtget -l "$1" "$2"); do
		unpack "$1" "${2%/}/$name" "$3/$name"
	done
}

# arm64 TREE DTB [blob]: the captured machine with a device tree.
arm64() {
	rm -rf "$machine"
	cp -R "$REPO/tests/sysroot/$1" "$machine"
	chmod -R u+w "$machine"
	rm -rf "$machine/sys/firmware" "$machine/sys/bus/platform"
	echo aarch64 >"$machine/proc/sys/kernel/arch"
	echo 'console=ttyAMA0 root=/dev/vda1' >"$machine/proc/cmdline"
	sed -i '/Persistent Memory (legacy)/d' "$machine/proc/iomem"
	find "$machine" -name modules.dep -exec sed -i 's/nd_e820/of_pmem/' {} +
	# That of an x86-64 kernel: it has no CONFIG_OF_PMEM.
	find "$machine" -name 'config*' -delete
	mkdir -p "$machine/sys/firmware"
	if [ "${3-}" = blob ]; then
		cp "$2" "$machine/sys/firmware/fdt"
	else
		unpack "$2" / "$machine/sys/firmware/devicetree/base"
	fi
}

# on ARG…: fastboot on that machine.
on() { "$FASTBOOT" --sysroot "$machine" "$@"; }

for kind in nodes blob; do
	for tree in fresh raw hotadded; do
		arm64 $tree "$WORK/merged.dtb" $kind
		expect_status 0 "$tree, $kind: check" on check
		check_match "$tree, $kind: check: where it is from" \
			'^ok +region +2 GiB, 0x100000000-0x17fffffff, from device-tree' "$OUTPUT"
		check_match "$tree, $kind: check: the module" '^ok +of_pmem ' "$OUTPUT"
		check_match "$tree, $kind: check: carried" '^ok +carry-over +the node' "$OUTPUT"
		check "$tree, $kind: status" on status
		check_match "$tree, $kind: status: where it is from" 'device-tree' "$OUTPUT"
	done
done

# The 16 MiB that no address gives back are no reason to look for another.
check "the place that plan chooses" "$FASTBOOT" -q overlay --base "$WORK/base.dtb" --size 2G \
	--apply "$WORK/chosen.dtb"
arm64 fresh "$WORK/chosen.dtb"
printf '00000000-106ffffff : System RAM\n188000000-27fffffff : System RAM\n' >"$machine/proc/iomem"
check "the place that plan chooses: check" on check
check_match "the place that plan chooses: check: it is good" \
	'^ok +placement +hot-add gains 2 GiB$' "$OUTPUT"

arm64 raw "$WORK/merged.dtb"
check "hotadd -n" on -n hotadd
check_match "hotadd -n: its blocks" 'memory47/state' "$OUTPUT"
arm64 hotadded "$WORK/merged.dtb"
check "hotremove -n" on -n hotremove
check_match "hotremove -n: raw again" 'make the namespace of 0x100000000-0x17fffffff raw' "$OUTPUT"
mkdir "$WORK/state"
check "reboot -n --firmware" on -n reboot --firmware "$WORK/state"
check_match "reboot -n --firmware: the end" 'reboot through the firmware$' "$OUTPUT"

# --- what is wrong with it ---------------------------------------------------

arm64 fresh "$WORK/base.dtb"
expect_status 1 "no node: check" on check
check_match "no node: check: what to do" '^missing +region .*fastboot plan' "$OUTPUT"

arm64 fresh "$WORK/merged.dtb"
rm "$machine/sys/firmware/devicetree/base/pmem@100000000/numa-node-id"
expect_status 1 "no numa-node-id: check" on check
check_match "no numa-node-id: check: what to do" '^missing +NUMA node .*numa-node-id = <0>' "$OUTPUT"

arm64 fresh "$WORK/merged.dtb"
echo '00000000-27fffffff : System RAM' >"$machine/proc/iomem"
expect_status 1 "taken as RAM: check" on check
check_match "taken as RAM: check: why" '^missing +region .*"System RAM" there; take .*linux,usable-memory' "$OUTPUT"
expect_status 5 "taken as RAM: hotadd" on -n hotadd
check_match "taken as RAM: hotadd: why" '^fastboot: the region 0x100000000-0x17fffffff of the device tree cannot be used' "$ERRORS"

# --- plan ---------------------------------------------------------------------

arm64 no-region "$WORK/base.dtb"
printf '00000000-27fffffff : System RAM\n  00210000-01ffffff : Kernel code\n' >"$machine/proc/iomem"
check "plan" on plan --size 2G
command=$(sed -n 's/^    fastboot //p' <<<"$OUTPUT")
check_eq "plan: the command" 'overlay --size 2048M --at 0x107000000 -o region.dtbo' "$command"
check "plan --json" on --json plan --size 2G
check_match "plan --json: the same command" "\"overlay\":\"fastboot $command\"" "$OUTPUT"
check_match "plan --json: no memmap=" '"memmap":null' "$OUTPUT"
cp "$WORK/base.dtb" "$machine/sys/firmware/fdt"
# shellcheck disable=SC2086 # its arguments
check "plan: the command works" on ${command/region.dtbo/$WORK/x.dtbo}
check_match "plan: with the same region" '^region +0x107000000-0x187ffffff' "$OUTPUT"
arm64 fresh "$WORK/merged.dtb"
check "plan with a region" on plan --size 1G
check_match "plan with a region: a warning" 'a region already, at 0x100000000-0x17fffffff; this would move it' "$ERRORS"

# A PC whose kernel made an empty tree is none with a tree.
arm64 no-region "$WORK/base.dtb"
find "$machine/sys/firmware/devicetree/base" -mindepth 1 -not -name '#*' -delete
printf '00100000-27fffffff : System RAM\n' >"$machine/proc/iomem"
check "plan with an empty tree" on plan --size 2G
check_match "plan with an empty tree: memmap=" '^    memmap=2050M!4222M$' "$OUTPUT"

# --- load --dtb: the tree that the next kernel gets ----------------------------

if [ "$(uname -m)" != x86_64 ]; then
	skip "load --dtb" "needs x86_64 for the kernel that is made here"
	finish
fi
kernel=$WORK/vmlinuz
make_bzimage "$kernel"

# with_tools: kexec-tools are installed there.
with_tools() {
	mkdir -p "$machine/usr/sbin"
	: >"$machine/usr/sbin/kexec"
}

# would_load STATUS NAME DTB ARG…
would_load() {
	local status=$1 name=$2 dtb=$3
	shift 3
	expect_status "$status" "$name" "$FASTBOOT" "$@" -n --sysroot "$machine" load \
		--kernel "$kernel" --dtb "$dtb" --append "${append-}"
}

arm64 raw "$WORK/merged.dtb"
with_tools
check "load" on -n load --kernel "$kernel"
check_match "load: carried" '^region +0x100000000-0x17fffffff, carried by the device tree$' "$OUTPUT"
would_load 0 "load --dtb" "$WORK/merged.dtb"
check_match "load --dtb: says so" "^device tree +$WORK/merged.dtb\$" "$OUTPUT"
check_match "load --dtb: how" '^method +kexec_load: kexec_file_load takes no device tree$' "$OUTPUT"
check_match "load --dtb: carried" '^region +0x100000000-0x17fffffff, carried by the device tree$' "$OUTPUT"
would_load 0 "load --dtb --json" "$WORK/merged.dtb" --json
check_match "load --dtb --json: the file" "\"dtb\":\"$WORK/merged.dtb\"" "$OUTPUT"
check_eq "load --dtb where the region is already: no mark" 0 "$(grep -c fastboot.tree <<<"$OUTPUT")"

# The first time; and what comes of it, which the boot loader may know nothing of.
arm64 no-region "$WORK/base.dtb"
with_tools
printf '00000000-27fffffff : System RAM\n' >"$machine/proc/iomem"
would_load 0 "first load --dtb" "$WORK/merged.dtb"
check_match "first load --dtb: the mark" '^command line .* fastboot.tree=kexec$' "$OUTPUT"
arm64 raw "$WORK/merged.dtb"
with_tools
sed -i 's/$/ fastboot.tree=kexec/' "$machine/proc/cmdline"
check "after it: load" on -n load --kernel "$kernel"
check_match "after it: load: the mark stays" '^command line .* fastboot.tree=kexec$' "$OUTPUT"
expect_status 1 "after it: reboot --firmware" on -n reboot --firmware "$WORK/state"
check_match "after it: reboot --firmware: why" 'came by .load --dtb., not from the boot loader: ' "$ERRORS"
arm64 raw "$WORK/merged.dtb"
with_tools

would_load 1 "load --dtb without the node" "$WORK/base.dtb"
check_match "load --dtb without the node: why" '^fastboot: .*base.dtb: .*no pmem-region node for 0x100000000-' "$ERRORS"
"$FASTBOOT" -q overlay --base "$WORK/base.dtb" --size 1G --apply "$WORK/other.dtb"
would_load 1 "load --dtb with another region" "$WORK/other.dtb"
dtc -q -I dtb -O dts "$WORK/merged.dtb" | sed '/linux,usable-memory/d' |
	dtc -q -I dts -O dtb -o "$WORK/ram.dtb" -
would_load 1 "load --dtb with the region as RAM" "$WORK/ram.dtb"
check_match "load --dtb with the region as RAM: why" 'to the kernel as RAM, in .* of /memory@0' "$ERRORS"
append=mem=6G would_load 0 "load --dtb with the region as RAM, and mem=" "$WORK/ram.dtb"
would_load 1 "load --dtb, no tree" "$kernel"
check_match "load --dtb, no tree: why" 'vmlinuz: not a device tree' "$ERRORS"
printf '[kexec]\nmethod = kexec_file_load\n' >"$WORK/conf"
would_load 2 "load --dtb by kexec_file_load" "$WORK/merged.dtb" --config "$WORK/conf"

# Without --dtb the next kernel gets the tree that the machine was booted with. What
# an overlay brought later is in /proc/device-tree only.
cp "$WORK/merged.dtb" "$machine/sys/firmware/fdt"
check "load: the booted tree has the node" on -n load --kernel "$kernel"
cp "$WORK/base.dtb" "$machine/sys/firmware/fdt"
expect_status 1 "load: only the running tree has the node" on -n load --kernel "$kernel"
check_match "load: only the running tree has the node: why" \
	'^fastboot: /sys/firmware/fdt: .*no pmem-region node for 0x100000000-' "$ERRORS"
expect_status 1 "reboot: only the running tree has the node" on -n reboot --kernel "$kernel" "$WORK/state"
cp "$WORK/ram.dtb" "$machine/sys/firmware/fdt"
expect_status 1 "load: RAM to the booted tree" on -n load --kernel "$kernel"
echo 'console=ttyAMA0 mem=6G' >"$machine/proc/cmdline"
check "load: RAM to the booted tree, mem=" on -n load --kernel "$kernel"
expect_status 1 "load: mem= lost" on -n load --kernel "$kernel" --command-line console=ttyAMA0
check_match "load: mem= lost: the fix" 'add mem=6G$' "$ERRORS"

# The first use: no region yet, the tree brings it.
arm64 no-region "$WORK/base.dtb"
with_tools
would_load 0 "load --dtb, the first region" "$WORK/merged.dtb"
check_match "load --dtb, the first region: says so" '^region +0x100000000-0x17fffffff, new$' "$OUTPUT"
would_load 1 "load --dtb, a first region that is RAM" "$WORK/ram.dtb"
finish
