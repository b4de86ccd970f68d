#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A machine with ACPI and no device tree: a captured machine made into an arm64
# one with UEFI's memory. What `plan --acpi-tables` writes, as iasl and cpio see
# it, and what `check`, `load` and `reboot` make of it.

# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

for tool in iasl cpio; do
	[ -n "$(command -v $tool)" ] || skip_all "needs $tool (acpica-tools, cpio)"
done
machine=$WORK/machine
acpi=$machine/sys/firmware/acpi/tables
file=$WORK/fastboot-acpi.img

# The memory of QEMU's virt machine with 8 GiB and UEFI.
full_memory='04000000-07ffffff : reserved
40000000-23c43ffff : System RAM
  40000000-41cfffff : Kernel code
  f8000000-ffffffff : reserved
  229600000-2317fffff : reserved
  238ec0000-2399fafff : reserved
23c440000-23c72ffff : reserved
23c730000-23fbfffff : System RAM
23fc00000-23ffdffff : reserved'
# The same with mem=5947392K.
cut_memory='04000000-07ffffff : reserved
40000000-1a6ffffff : System RAM
23c440000-23c72ffff : reserved
23fc00000-23ffdffff : reserved'
region=0x1a7000000-0x227ffffff

# arm64 MEMORY CMDLINE
arm64() {
	rm -rf "$machine"
	cp -R "$REPO/tests/sysroot/no-region" "$machine"
	chmod -R u+w "$machine"
	rm -rf "${machine:?}"/sys/firmware "${machine:?}"/boot
	mkdir -p "$acpi" "$machine/usr/sbin"
	: >"$machine/usr/sbin/kexec"
	echo aarch64 >"$machine/proc/sys/kernel/arch"
	echo "$2" >"$machine/proc/cmdline"
	echo "$1" >"$machine/proc/iomem"
	find "$machine" -name modules.dep -exec sed -i 's/nd_e820/nfit/' {} +
}

# on ARG…: fastboot on that machine.
on() { "$FASTBOOT" --sysroot "$machine" "$@"; }

# table FILE SIGNATURE: as firmware would have it.
table() {
	sed "s/FASTBT/OTHERS/g" "$1" >"$WORK/table.asl"
	iasl -p "$WORK/table" "$WORK/table.asl" >/dev/null 2>&1
	cp "$WORK/table.aml" "$acpi/$2"
}

# --- what plan says and writes -------------------------------------------------

arm64 "$full_memory" console=ttyAMA0
expect_status 1 "check" on check
check_match "check: how to get one" '^missing +region .*fastboot plan' "$OUTPUT"
check_match "check: that it can be" '^ok +ACPI tables ' "$OUTPUT"
check_match "check: the module" '^ok +nfit ' "$OUTPUT"
check "plan" on plan --size 2G
check_match "plan: the region" "^region +$region, 2,064 MiB" "$OUTPUT"
check_match "plan: what is lost" '^lost +377 MiB above the region' "$OUTPUT"
check_match "plan: what is left" '^RAM .*; 5,744 MiB beside the region' "$OUTPUT"
command=$(sed -n 's/^    fastboot //p' <<<"$OUTPUT")
check_eq "plan: the command" \
	'plan --size 2048M --at 0x1a7000000 --acpi-tables /boot/fastboot-acpi.img' "$command"
# shellcheck disable=SC2086 # its arguments
check "plan -n writes nothing" on -n ${command/\/boot\/fastboot-acpi.img/$file}
check_eq "plan -n: no file" no "$([ -e "$file" ] && echo yes || echo no)"
# shellcheck disable=SC2086
check "plan --acpi-tables" on ${command/\/boot\/fastboot-acpi.img/$file}
check_match "plan --acpi-tables: the words" '--initrd /run/initrd --append mem=5947392K$' "$OUTPUT"
check "plan --json" on --json plan --size 2G --acpi-tables "$file"
check_match "plan --json: mem" '"mem":"mem=5947392K"' "$OUTPUT"
check_match "plan --json: the file" "\"acpi_tables\":\"$file\"" "$OUTPUT"
check_match "plan --json: memmap" '"memmap":null' "$OUTPUT"

# --- second opinions -----------------------------------------------------------

check_eq "the archive is for cpio" \
	'kernel kernel/firmware kernel/firmware/acpi kernel/firmware/acpi/fastboot-nfit kernel/firmware/acpi/fastboot-ssdt kernel/firmware/acpi/fastboot-srat' \
	"$(cpio -t --quiet <"$file" | paste -sd' ')"
check_eq "its size" 0 $(($(stat -c %s "$file") % 512))
(cd "$WORK" && cpio -id --quiet <"$file")
tables=$WORK/kernel/firmware/acpi
for name in nfit ssdt srat; do
	check "iasl: $name" iasl -p "$WORK/$name" -d "$tables/fastboot-$name"
	check_eq "iasl: $name: no complaint" '' \
		"$(grep -Ei 'invalid|incorrect|error|warning|unknown|\*\*\*\*' <<<"$OUTPUT$ERRORS")"
	check_eq "iasl: $name: no complaint in it" '' \
		"$(grep -Ei 'invalid|incorrect|should be|\*\*\*\*' "$WORK/$name.dsl")"
done
check_match "iasl: the base" 'Address Range Base : 00000001A7000000$' "$(cat "$WORK/nfit.dsl")"
check_match "iasl: the length" 'Address Range Length : 0000000081000000$' "$(cat "$WORK/nfit.dsl")"
check_match "iasl: volatile memory" 'Region Type GUID : 7305944F-FDDA-44E3-B16C-3F22D252E5D0$' "$(cat "$WORK/nfit.dsl")"
check_match "iasl: all addresses" 'Address Length : 0001000000000000$' "$(cat "$WORK/srat.dsl")"
check_match "iasl: enabled" 'Enabled : 1$' "$(cat "$WORK/srat.dsl")"

cat >"$WORK/same.asl" <<-'END'
	DefinitionBlock ("", "SSDT", 2, "FASTBT", "FASTBOOT", 0x00000001)
	{
	    Scope (\_SB) { Device (FBNV) { Name (_HID, "ACPI0012") } }
	}
END
iasl -p "$WORK/same" "$WORK/same.asl" >/dev/null 2>&1
# Not the checksum and who compiled it.
parts() { { head -c 9 "$1" && tail -c +11 "$1" | head -c 18 && tail -c +37 "$1"; } | od -An -tx1; }
check_eq "iasl compiles the same SSDT" "$(parts "$WORK/same.aml")" "$(parts "$tables/fastboot-ssdt")"

# --- only over an archive of ours ---------------------------------------------

echo precious >"$WORK/other"
expect_status 1 "plan: another file" on plan --size 2G --acpi-tables "$WORK/other"
check_match "plan: another file: why" "other exists and is something else" "$ERRORS"
check_eq "plan: another file: as it was" precious "$(cat "$WORK/other")"
cat "$file" "$WORK/other" >"$WORK/initrd"
expect_status 1 "plan: an initrd that begins with one" on plan --size 2G --acpi-tables "$WORK/initrd"
check "plan: a smaller region, over it" on plan --size 1G --acpi-tables "$file"
check_eq "plan: it is another" no "$(cmp -s "$file" "$WORK/initrd" && echo yes || echo no)"
expect_status 1 "plan: no such directory" on plan --size 2G --acpi-tables "$WORK/none/file"
check "plan: as before" on plan --size 2G --acpi-tables "$file"
check_eq "plan: the same bytes" "$(head -c "$(stat -c %s "$file")" "$WORK/initrd" | sha256sum)" "$(sha256sum <"$file")"

# --- where it cannot be --------------------------------------------------------

"$FASTBOOT" --sysroot "$REPO/tests/sysroot/no-region" plan --size 2G --acpi-tables "$file" 2>"$WORK/said"
check_eq "plan on x86-64" 1 $?
check_match "plan on x86-64: why" 'memmap= only: leave the option out' "$(cat "$WORK/said")"

arm64 "$full_memory" console=ttyAMA0
table "$WORK/srat.dsl" SRAT
check "plan with firmware's SRAT" on plan --size 2G --acpi-tables "$file"
check_eq "plan with firmware's SRAT: none of ours" 0 "$(cpio -t --quiet <"$file" | grep -c srat)"

arm64 "$full_memory" console=ttyAMA0
table "$WORK/nfit.dsl" NFIT
expect_status 5 "plan with firmware's NFIT" on plan --size 2G --acpi-tables "$file"
check_match "plan with firmware's NFIT: why" 'describes NVDIMMs itself \(an NFIT\)' "$ERRORS"
expect_status 5 "check with firmware's NFIT" on check
check_match "check with firmware's NFIT: why" '^impossible +ACPI tables .*NVDIMMs itself' "$OUTPUT"

arm64 "$full_memory" console=ttyAMA0
mkdir -p "$machine/sys/kernel/security"
echo 'none [integrity] confidentiality' >"$machine/sys/kernel/security/lockdown"
check "plan under lockdown" on plan --size 2G
expect_status 1 "check under lockdown" on check
check_match "check under lockdown: the tables" '^note +ACPI tables .*locked down \(integrity\) and may refuse' "$OUTPUT"

arm64 "$full_memory" console=ttyAMA0
mkdir "$machine/boot"
sed '/CONFIG_ACPI_TABLE_UPGRADE=/d' "$REPO"/tests/sysroot/no-region/boot/config* \
	>"$machine/boot/config-$(cat "$machine/proc/sys/kernel/osrelease")"
expect_status 5 "plan without CONFIG_ACPI_TABLE_UPGRADE" on plan --size 2G
check_match "plan without it: why" 'use one with CONFIG_ACPI_TABLE_UPGRADE' "$ERRORS"
expect_status 5 "check without it" on check
check_match "check without it: why" '^impossible +ACPI_TABLE_UPGRADE ' "$OUTPUT"

# --- a kernel that has the region ----------------------------------------------

# with_region MEMORY: booted with the tables.
with_region() {
	arm64 "$1" "console=ttyAMA0 mem=5947392K"
	cp "$tables/fastboot-nfit" "$acpi/NFIT"
	cp "$tables/fastboot-ssdt" "$acpi/SSDT"
	cp "$tables/fastboot-srat" "$acpi/SRAT"
}

with_region "$cut_memory"
expect_status 0 "check with the region" on check
check_match "check with the region: it" "^ok +region +2,064 MiB, $region, from acpi-tables" "$OUTPUT"
check_match "check with the region: carried" '^ok +carry-over +mem=.*by kexec only' "$OUTPUT"
check "plan with the region" on plan --size 2G --acpi-tables "$file"
check_match "plan with the region: it stays" "^region +$region, 2,064 MiB: there already\$" "$OUTPUT"
check_match "plan with the region: the same word" 'mem=5947392K$' "$OUTPUT"
check_eq "plan with the region: the same file" \
	"$(head -c "$(stat -c %s "$file")" "$WORK/initrd" | sha256sum)" "$(sha256sum <"$file")"
mkdir "$WORK/state"
expect_status 5 "reboot --firmware" on -n reboot --firmware "$WORK/state"
check_match "reboot --firmware: why" 'ACPI tables in front of the initrd.*reboot by kexec$' "$ERRORS"

# Firmware put the kernel into it.
with_region "$cut_memory
1c0000000-1c2ffffff : System RAM"
expect_status 1 "check with a kernel in the region" on check
check_match "check with a kernel in the region: what to do" '^missing +region .*"System RAM" there.*fastboot load' "$OUTPUT"
expect_status 1 "hotadd with a kernel in the region" on -n hotadd

# --- load: the tables come along -----------------------------------------------

if [ "$(uname -m)" != x86_64 ]; then
	skip "load" "needs x86_64 for the kernel that is made here"
	finish
fi
make_bzimage "$WORK/vmlinuz"
printf '\037\213\010initrd' >"$WORK/plain"
cat "$file" "$WORK/plain" >"$WORK/with"
truncate -s 1024 "$WORK/zeros"
cat "$WORK/zeros" "$file" "$WORK/plain" >"$WORK/behind"

# would_load STATUS NAME INITRD ARG…
would_load() {
	local status=$1 name=$2 initrd=$3
	shift 3
	expect_status "$status" "$name" on -n load --kernel "$WORK/vmlinuz" --initrd "$initrd" "$@"
}

with_region "$cut_memory"
would_load 0 "load" "$WORK/plain"
check_match "load: added" "^region +$region, carried by ACPI tables, which are put in front" "$OUTPUT"
for there in with behind; do
	would_load 0 "load, tables $there" "$WORK/$there"
	check_match "load, tables $there: so it is" "^region +$region, carried by the ACPI tables that its initrd begins with\$" "$OUTPUT"
done
check "load without an initrd" on -n load --kernel "$WORK/vmlinuz"
check_match "load without an initrd: added" 'carried by ACPI tables, which are put in front' "$OUTPUT"
would_load 1 "load without mem=" "$WORK/plain" --command-line console=ttyAMA0
check_match "load without mem=: why" 'add mem=5947392K$' "$ERRORS"
would_load 1 "load with another mem=" "$WORK/plain" --append mem=8G
would_load 1 "load with lockdown=" "$WORK/plain" --append lockdown=confidentiality
check_match "load with lockdown=: why" 'lockdown=confidentiality on its command line may refuse the ACPI' "$ERRORS"
echo "console=ttyAMA0 mem=5947392K lockdown=integrity" >"$machine/proc/cmdline"
would_load 0 "load with lockdown= that this kernel had" "$WORK/plain"
echo "console=ttyAMA0 mem=5947392K" >"$machine/proc/cmdline"
"$FASTBOOT" --sysroot "$machine" plan --size 1G --acpi-tables "$WORK/other.img" >/dev/null 2>&1
cat "$WORK/other.img" "$WORK/plain" >"$WORK/wrong"
would_load 1 "load with another region's tables" "$WORK/wrong"
check_match "load with another region's tables: why" "begins with ACPI tables 0x.*, not for the region $region" "$ERRORS"

# The first time, from a kernel that has all of RAM; and after firmware was in the way.
arm64 "$full_memory" console=ttyAMA0
would_load 1 "first load without mem=" "$WORK/with"
check_match "first load without mem=: why" "take the region $region as RAM: --append mem=5947392K\$" "$ERRORS"
would_load 1 "first load with too large a mem=" "$WORK/with" --append mem=5947396K
would_load 0 "first load" "$WORK/with" --append mem=5947392K
check_match "first load: new" "^region +$region, new\$" "$OUTPUT"
would_load 0 "first load with a smaller mem=" "$WORK/with" --append mem=4G
would_load 1 "first load with mem= that is no size" "$WORK/with" --append mem=many
would_load 0 "a load without tables" "$WORK/plain"
check_match "a load without tables: no region" '^region +none$' "$OUTPUT"
with_region "$cut_memory
1c0000000-1c2ffffff : System RAM"
would_load 0 "load with a kernel in the region" "$WORK/plain"
check_match "load with a kernel in the region: new" "^region +$region, new\$" "$OUTPUT"
finish
