#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# overlay: the boards in dts/boards/ give what lies beside them; dtc has nothing
# to say about it, fdtoverlay makes the same tree; again changes nothing; what
# cannot be is refused.
#
# shellcheck disable=SC2317  # functions are called through check

# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

for tool in dtc fdtoverlay fdtget; do
	[ -n "$(command -v $tool)" ] || skip_all "needs $tool (device-tree-compiler)"
done
boards=$REPO/dts/boards
cd "$WORK" || exit 1

# What the kernel's own build asks dtc for, but for the underscores that every
# overlay has in __overlay__ (scripts/Makefile.lib, W=2).
dtc_strict() { dtc -Wproperty_name_chars_strict -Wunique_unit_address "$@"; }

# compile DTS DTB
compile() { dtc -q -I dts -O dtb -o "$2" "$1"; }

# meaning DTB: as text, in one order.
meaning() { dtc -q -s -I dtb -O dts "$1"; }

# overlay BASE ARG…
overlay() {
	local base=$1
	shift
	"$FASTBOOT" overlay --base "$base" "$@"
}

# refused NAME STATUS REGEX ARG…: in one line, and no file is left.
refused() {
	local name=$1 status=$2 regex=$3
	shift 3
	rm -f x.*
	expect_status "$status" "$name" "$FASTBOOT" overlay "$@"
	check_match "$name: says why" "^fastboot: .*$regex" "$ERRORS"
	check_eq "$name: in one line" 1 "$(wc -l <<<"$ERRORS")"
	check_eq "$name: writes nothing" '' "$(ls x.* 2>/dev/null)"
}

# --- the boards -----------------------------------------------------------------

same_tree() { fdtoverlay -i "$1" -o by-fdtoverlay.dtb x.dtbo && cmp by-fdtoverlay.dtb x.dtb; }

one_board() {
	local name=$1 arguments
	arguments=$(sed -n 's,^// overlay: ,,p' "$boards/$name.dts")
	compile "$boards/$name.dts" base.dtb
	# shellcheck disable=SC2086 # several arguments
	check "$name" overlay base.dtb $arguments -o x.dtbo --apply x.dtb --dts x.dtso
	check "$name: the source is the one beside it" diff "$boards/$name.dtso" x.dtso
	check "$name: dtc compiles the source" dtc_strict -I dts -O dtb -o y.dtbo x.dtso
	check_eq "$name: without a warning" '' "$ERRORS"
	check_eq "$name: the source means what the blob does" "$(meaning x.dtbo)" "$(meaning y.dtbo)"
	check "$name: fdtoverlay makes the same tree" same_tree base.dtb
	check_eq "$name: it has no warning that the base has not" \
		"$(dtc_strict -I dtb -O dtb -o /dev/null base.dtb 2>&1)" \
		"$(dtc_strict -I dtb -O dtb -o /dev/null x.dtb 2>&1)"
	# shellcheck disable=SC2086
	check "$name: again" overlay x.dtb $arguments -o x.dtbo --apply again.dtb
	check_match "$name: again: says so" '^region .* there already$' "$OUTPUT"
	check "$name: again: changes no byte" cmp x.dtb again.dtb
}

for board in "$boards"/*.dts; do
	one_board "$(basename "$board" .dts)"
done
for file in "$boards"/*.dtso; do
	check "$(basename "$file"): has its board" test -e "${file%o}"
done

# --- what it chooses, and what it says --------------------------------------------

compile "$boards/qemu-virt-8g.dts" base.dtb
check "moved" overlay base.dtb --size 2G -o x.dtbo --apply first.dtb
check "moved: there" overlay first.dtb --size 1G --at 0x1b7000000 -o x.dtbo --apply x.dtb
check_match "moved: says so" '^region +0x1b7000000-0x1f7ffffff, 1,040 MiB, NUMA node 0: moved$' "$OUTPUT"
check_match "moved: from where" '^before +0x107000000-0x187ffffff$' "$OUTPUT"
check "moved: fdtoverlay makes the same tree" same_tree first.dtb
check_eq "moved: the old node is off" disabled "$(fdtget x.dtb /pmem@107000000 status)"
check_eq "moved: so is its reservation" disabled "$(fdtget x.dtb /reserved-memory/pmem@107000000 status)"
check_eq "moved: its memory is RAM again" '0 40000000 1 77000000 1 f8000000 0 48000000' \
	"$(fdtget -t x x.dtb /memory@40000000 linux,usable-memory)"
check "resized" overlay first.dtb --size 3G --at 0x107000000 -o x.dtbo --apply x.dtb
check_match "resized: says so" ': resized$' "$OUTPUT"
check_eq "resized: the node has the new size" '1 7000000 0 c1000000' "$(fdtget -t x x.dtb /pmem@107000000 reg)"
cat >outside.dts <<-'END'
	/dts-v1/;
	/ {
		#address-cells = <1>;
		#size-cells = <1>;
		memory@0 { device_type = "memory"; reg = <0x0 0x40000000>; };
		pmem@47000000 {
			compatible = "pmem-region";
			volatile;
			reg = <0x47000000 0x11000000>;
		};
	};
END
compile outside.dts outside.dtb
check "carved by a smaller reg" overlay outside.dtb --size 256M -o x.dtbo --apply x.dtb
check_match "carved by a smaller reg: stays" '^region +0x47000000-0x57ffffff, .*: there already$' "$OUTPUT"
check_eq "carved by a smaller reg: gets a NUMA node" 0 "$(fdtget x.dtb /pmem@47000000 numa-node-id)"

check "a size that is no whole number of blocks" overlay base.dtb --size 129M -o x.dtbo
check_match "a size that is no whole number of blocks: rounded up" '^hot-added +256 MiB: ' "$OUTPUT"
check "--json" "$FASTBOOT" --json overlay --base base.dtb --size 2G -o x.dtbo
check_match "--json: bytes" '"size":2164260864' "$OUTPUT"
check_match "--json: which node" '"memory@40000000"' "$OUTPUT"
rm -f x.*
check "--dry-run" "$FASTBOOT" -n overlay --base base.dtb --size 2G -o x.dtbo
check_eq "--dry-run: writes nothing" '' "$(ls x.* 2>/dev/null)"
check "to a pipe" sh -c "'$FASTBOOT' -q overlay --base base.dtb --size 2G --dts /dev/stdout | cat"
check_match "to a pipe: the source" '^/plugin/;$' "$OUTPUT"

mkdir -p tree/sys/firmware tree/sys/devices/system/memory
echo 20000000 >tree/sys/devices/system/memory/block_size_bytes
refused "no device tree" 5 'not booted with a device tree' --size 2G -o x.dtbo ||
	skip "no device tree" "this machine has one"
cp base.dtb tree/sys/firmware/fdt
check "the running tree" "$FASTBOOT" --sysroot tree overlay --size 2G -o x.dtbo
check_match "the running tree: its kernel's blocks" '4 of 512 MiB' "$OUTPUT"
dtc -q -I dts -O dtb -o tree/sys/firmware/fdt - <<-'END'
	/dts-v1/;
	/ {
		#address-cells = <2>;
		#size-cells = <2>;
		memory@0 { device_type = "memory"; reg = <0x0 0x0 0x2 0x0>; };
		chosen { linux,uefi-mmap-start = <0x1 0x0>; };
	};
END
check "UEFI's memory map" "$FASTBOOT" --sysroot tree overlay --size 2G -o x.dtbo
check_match "UEFI's memory map: a warning" 'warning: .*UEFI.* mem=' "$ERRORS"

# --- what is refused ---------------------------------------------------------------

refused "too large" 1 'no bank of System RAM has room for 9 GiB' --base base.dtb --size 9G -o x.dtbo
refused "over the kernel" 1 'where boot loaders put the kernel' \
	--base base.dtb --size 128M --at 0x40000000 -o x.dtbo
refused "out of the bank" 1 'not in one bank' --base base.dtb --size 2G --at 0x1ff000000 -o x.dtbo
refused "an odd address" 1 'multiple of 2 MiB' --base base.dtb --size 2G --at 0x107001000 -o x.dtbo
compile "$boards/imx8mp-evk-6g.dts" imx8mp.dtb
refused "in reserved memory" 1 'dsp@92400000' --base imx8mp.dtb --size 128M --at 0x90000000 -o x.dtbo
refused "where CMA will be" 1 'linux,cma' --base imx8mp.dtb --size 128M --at 0xd0000000 -o x.dtbo
refused "no such base" 1 'nowhere.dtb' --base nowhere.dtb --size 2G -o x.dtbo
refused "not a tree" 1 'not a device tree' --base /etc/passwd --size 2G -o x.dtbo
check "an overlay to begin with" overlay base.dtb --size 2G -o alone.dtbo
refused "an overlay is no base" 1 'no #address-cells' --base alone.dtbo --size 2G -o x.dtbo
for length in 0 3 40 100 200; do
	head -c "$length" base.dtb >cut.dtb
	refused "cut at $length bytes" 1 'cut.dtb: not a device tree' --base cut.dtb --size 2G -o x.dtbo
done
{ cat base.dtb; head -c 3000000 /dev/zero; } >long.dtb
check "bytes behind the tree do not matter" overlay long.dtb --size 2G -o x.dtbo --apply x.dtb
check "bytes behind the tree: the same result" cmp x.dtb first.dtb
refused "where nothing can be written" 1 'cannot write /nowhere/x' --base base.dtb --size 2G -o /nowhere/x
refused "in a directory that takes no files" 1 'cannot write /sys/firmware/x' \
	--base base.dtb --size 2G -o /sys/firmware/x

# What is there already and is not ours stays, also where another output could be written.
cp base.dtb kept.dtb
echo precious >kept.txt
for name in kept.dtb kept.txt; do
	refused "over $name" 1 "$name exists and is something else" --base base.dtb --size 2G -o $name
	refused "merged over $name" 1 "$name exists" --base base.dtb --size 2G -o x.dtbo --apply $name
	refused "source over $name" 1 "$name exists" --base base.dtb --size 2G -o x.dtbo --dts $name
done
check_eq "over others' files: they are as they were" 'precious' "$(cat kept.txt; cmp kept.dtb base.dtb)"
: >x.dtbo
check "over an empty file" overlay base.dtb --size 2G -o x.dtbo

cat >none.dts <<-'END'
	/dts-v1/;
	/ { #address-cells = <2>; #size-cells = <2>; };
END
compile none.dts none.dtb
refused "no memory node" 1 'none.dtb: no memory node with a size' --base none.dtb --size 2G -o x.dtbo

refused "no size" 2 'how large' --base base.dtb -o x.dtbo
refused "a size of zero" 2 'how large' --base base.dtb --size 0 -o x.dtbo
refused "a size below zero" 2 "'-1'" --base base.dtb --size -1 -o x.dtbo
refused "a size that overflows" 1 'no bank of System RAM has room' \
	--base base.dtb --size 18446744073709551615 -o x.dtbo
refused "no output" 2 'where to' --base base.dtb --size 2G
refused "no number" 2 "'2X'" --base base.dtb --size 2X -o x.dtbo
refused "an operand" 2 "'base.dtb'" --size 2G -o x.dtbo base.dtb
refused "odd blocks" 2 'power of two' --base base.dtb --size 2G --block-size 3M -o x.dtbo

cat >named.dts <<-'END'
	/dts-v1/;
	/ {
		#address-cells = <2>;
		#size-cells = <2>;
		pmem@107000000 { device_type = "memory"; reg = <0x0 0x0 0x2 0x0>; };
	};
END
compile named.dts named.dtb 2>/dev/null
refused "a node of that name that is something else" 1 'with the overlay applied: ' \
	--base named.dtb --size 2G -o x.dtbo

two_regions() {
	dtc -q -I dtb -O dts first.dtb | sed '$d'
	printf '\tpmem@40000000 { compatible = "pmem-region"; volatile; reg = <0 0x40000000 0 0x1000>; };\n};\n'
}
two_regions | dtc -q -I dts -O dtb -o two.dtb -
refused "two regions" 1 'has 2 regions already' --base two.dtb --size 2G -o x.dtbo

# --- QEMU's own tree ---------------------------------------------------------------

if [ -n "$(command -v qemu-system-aarch64)" ]; then
	qemu-system-aarch64 -M virt,dumpdtb=virt.dtb -cpu cortex-a57 -m 8G 2>/dev/null
	check "QEMU's tree" overlay virt.dtb --size 2G -o x.dtbo --apply x.dtb --dts x.dtso
	check "QEMU's tree: as the one in dts/boards" diff x.dtso "$boards/qemu-virt-8g.dtso"
	check "QEMU's tree: fdtoverlay makes the same tree" same_tree virt.dtb
else
	skip "QEMU's own tree" "needs qemu-system-aarch64"
fi
finish
