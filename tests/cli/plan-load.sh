#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# plan and load on small trees made here: what they choose, add and refuse.

# shellcheck source=tests/cli/lib.sh
. "$(dirname "$0")/lib.sh"

tree=$WORK/tree

# tree IOMEM CMDLINE [BLOCK-SIZE-HEX]
tree() {
	rm -rf "$tree"
	mkdir -p "$tree"/proc "$tree"/sys/devices/system/memory "$tree"/sys/kernel
	printf '%s\n' "$1" >"$tree/proc/iomem"
	printf '%s\n' "$2" >"$tree/proc/cmdline"
	echo "${3:-8000000}" >"$tree/sys/devices/system/memory/block_size_bytes"
	echo 0 >"$tree/sys/kernel/kexec_loaded"
}

# firmware_says N START END TYPE
firmware_says() {
	mkdir -p "$tree/sys/firmware/memmap/$1"
	echo "$2" >"$tree/sys/firmware/memmap/$1/start"
	echo "$3" >"$tree/sys/firmware/memmap/$1/end"
	echo "$4" >"$tree/sys/firmware/memmap/$1/type"
}

# refused NAME STATUS REGEX ARG…: one line on stderr, nothing on stdout.
refused() {
	local name=$1 status=$2 regex=$3
	shift 3
	expect_status "$status" "$name" "$FASTBOOT" --sysroot "$tree" "$@"
	check_match "$name: says why" "^fastboot: .*$regex" "$ERRORS"
	check_eq "$name: in one line" 1 "$(wc -l <<<"$ERRORS")"
}

pc='00001000-0009fbff : System RAM
00100000-7ffdcfff : System RAM
  01000000-01ffffff : Kernel code
100000000-27fffffff : System RAM'
with_region='00001000-0009fbff : System RAM
00100000-7ffdcfff : System RAM
100000000-17fffffff : Persistent Memory (legacy)
180000000-27fffffff : System RAM'
hidden='00000000-00000000 : System RAM
00000000-00000000 : Persistent Memory (legacy)'

# --- plan ---------------------------------------------------------------------

tree "$pc" 'quiet ro'
check "plan" "$FASTBOOT" --sysroot "$tree" plan --size 2G
check_match "plan: the text to add" '^    memmap=2050M!4222M$' "$OUTPUT"
check_match "plan: which blocks" 'memory blocks 33 to 48 \(16 of 128 MiB\)' "$OUTPUT"
check_match "plan: where to put it, GRUB" '/etc/default/grub' "$OUTPUT"
check_match "plan: where to put it, kernel-install" '/etc/kernel/cmdline' "$OUTPUT"
check_eq "plan: no warning" "" "$ERRORS"
check "plan of an odd size" "$FASTBOOT" --sysroot "$tree" plan --size 2000M
check_match "plan of an odd size: rounded" '2,000 MiB up to whole memory blocks' "$OUTPUT"
check "plan at an address" "$FASTBOOT" --sysroot "$tree" plan --size 1G --at 0x140000000
check_match "plan at an address: the text" '^    memmap=1152M!5G$' "$OUTPUT"
check_match "plan at an address: what is lost" 'the rest is lost' "$OUTPUT"
check "plan --json" "$FASTBOOT" --json --sysroot "$tree" plan --size 2G
check_match "plan --json: the text" '"memmap":"memmap=2050M!4222M"' "$OUTPUT"
check_match "plan --json: no overlay" '"overlay":null' "$OUTPUT"
check_match "plan --json: bytes" '"size":2149580800' "$OUTPUT"
check_match "plan --json: blocks" '"block_count":16' "$OUTPUT"

check "plan up to the end of RAM" "$FASTBOOT" --sysroot "$tree" plan --size 6016M
check_match "plan up to the end of RAM: a warning" 'warning: the region ends where RAM ends.* no SRAT' "$ERRORS"
mkdir -p "$tree/sys/firmware/acpi/tables"
: >"$tree/sys/firmware/acpi/tables/SRAT"
check "plan with an SRAT" "$FASTBOOT" --sysroot "$tree" plan --size 6016M
check_eq "plan with an SRAT: no warning" "" "$ERRORS"
rm -r "$tree/sys/firmware/acpi"

refused "plan: size 0" 1 'size 0' plan --size 0
refused "plan: too large" 1 'largest region is 6,016 MiB' plan --size 7G
refused "plan: over the kernel" 1 'Kernel code' plan --size 128M --at 16M
refused "plan: odd address" 1 'multiple of 2 MiB' plan --size 1G --at 0x100001000
refused "plan: no size" 2 'how large' plan
refused "plan: no number" 2 "'2X'" plan --size 2X
refused "plan: an operand" 2 "'2G'" plan --size 1G 2G

tree "$pc" 'quiet ro' 80000000
check "plan with blocks of 2 GiB" "$FASTBOOT" --sysroot "$tree" plan --size 2G
check_match "plan with blocks of 2 GiB: the text" '^    memmap=2050M!6142M$' "$OUTPUT"

tree "$with_region" 'quiet memmap=2G!4G'
check "plan where there is a region" "$FASTBOOT" --sysroot "$tree" plan --size 1G
check_match "plan where there is a region: beside it" '^    memmap=1026M!6270M$' "$OUTPUT"
check_match "plan where there is a region: a warning" 'warning: there is a region already' "$ERRORS"

# shellcheck disable=SC2016 # a dollar sign, not a variable
tree "$pc" 'memmap=1M$8G memmap=1M$8200M memmap=1M$8400M memmap=1M$8600M'
check "plan with four memmap= in front" "$FASTBOOT" --sysroot "$tree" plan --size 2G
check_match "plan with four memmap= in front: a warning" 'warning: .*nokaslr' "$ERRORS"

tree "$hidden" 'quiet'
refused "plan: addresses hidden" 1 'root' plan --size 2G
tree "$pc" 'quiet'
rm "$tree/sys/devices/system/memory/block_size_bytes"
expect_status 1 "plan: no memory hotplug" "$FASTBOOT" --sysroot "$tree" plan --size 2G ||
	check_match "plan: no memory hotplug: says what" 'block_size_bytes' "$ERRORS"

# --- load: a kernel is a header of 1 KiB here, and 64 KiB in all ---------------

kernel=$WORK/vmlinuz
make_bzimage "$kernel"
: >"$WORK/initrd"
machine=$(uname -m)

# would_load NAME REGEX ARG…: a dry run succeeds, its output matches.
would_load() {
	local name=$1 regex=$2
	shift 2
	check "$name" "$FASTBOOT" -n --sysroot "$tree" load "$@"
	check_match "$name: output" "$regex" "$OUTPUT"
}

refused "load: --sysroot without a dry run" 2 'dry-run' load --kernel "$kernel"
refused "load: contradiction" 2 'whole text' -n load --kernel "$kernel" \
	--command-line x --append y
refused "load: unload and more" 2 'unload' -n load --unload --append y
refused "load: operand" 2 "'foo'" -n load foo

if [ "$machine" != x86_64 ]; then
	skip "load of a bzImage" "needs x86_64, this is $machine"
	finish
fi

tree "$with_region" 'BOOT_IMAGE=/vmlinuz quiet initrd=\i ro -- x'
would_load "load adds what is missing" '^command line  quiet ro memmap=2G!4G -- x$' --kernel "$kernel"
check_match "load says so" 'carried by memmap=, which was added' "$OUTPUT"
would_load "load --append" '^command line  quiet ro a=b memmap=2G!4G -- x$' \
	--kernel "$kernel" --append 'quiet a=b'
would_load "load --command-line" '^command line  x memmap=0x80000000!4096M$' \
	--kernel "$kernel" --command-line 'x memmap=0x80000000!4096M'
refused "load: a command line without the region" 1 'add memmap=2G!4G' \
	-n load --kernel "$kernel" --command-line 'quiet'
refused "load: no kernel" 1 'which kernel' -n load
refused "load: a text file" 1 'not a kernel' -n load --kernel "$0"
refused "load: no initrd" 1 'cannot open /nowhere' -n load --kernel "$kernel" --initrd /nowhere
refused "load: too long" 1 'takes 2016' -n load --kernel "$kernel" --append "$(printf 'a%02010d' 0)"
check "load --json" "$FASTBOOT" --json -n --sysroot "$tree" load --kernel "$kernel" --initrd "$WORK/initrd"
check_match "load --json: not loaded" '"loaded":false' "$OUTPUT"

mkdir -p "$tree/boot"
cp "$kernel" "$tree/vmlinuz"
: >"$tree/initrd.img"
would_load "load: Debian's links" "^initrd        $tree/initrd.img\$"
rm "$tree/vmlinuz"
cp "$kernel" "$tree/boot/vmlinuz-$(uname -r)"
would_load "load: the running release" "^kernel        $tree/boot/vmlinuz-$(uname -r)\$"

cat >"$WORK/conf" <<-END
	[kexec]
	kernel = $kernel
	initrd = $WORK/initrd
	append = quiet panic=10
END
check "load from the configuration" "$FASTBOOT" -c "$WORK/conf" -n --sysroot "$tree" load
check_match "load from the configuration: initrd" "^initrd        $WORK/initrd\$" "$OUTPUT"
check_match "load from the configuration: append" '^command line  quiet ro panic=10 memmap=2G!4G -- x$' "$OUTPUT"

# Which of the kernel's calls: a tree of Debian's 6.12, and what changes the choice.
# stock CONFIG…: the kernel's configuration has these lines as well
stock() {
	tree "$with_region" 'quiet memmap=2G!4G'
	mkdir -p "$tree"/proc/sys/kernel "$tree"/boot "$tree"/sys/kernel/security "$tree"/usr/sbin
	echo x86_64 >"$tree/proc/sys/kernel/arch"
	echo 6.12 >"$tree/proc/sys/kernel/osrelease"
	echo '[none] integrity confidentiality' >"$tree/sys/kernel/security/lockdown"
	printf '%s\n' CONFIG_KEXEC=y CONFIG_KEXEC_FILE=y CONFIG_SECURITY_LOCKDOWN_LSM=y "$@" \
		>"$tree/boot/config-6.12"
	: >"$tree/usr/sbin/kexec"
}

# by METHOD NAME REGEX: what `load` and `check` say with [kexec] method = METHOD.
by() {
	printf '[kexec]\nmethod = %s\n' "$1" >"$WORK/method.conf"
	check "method = $1: $2" "$FASTBOOT" -c "$WORK/method.conf" -n --sysroot "$tree" load --kernel "$kernel"
	check_match "method = $1: $2: load" "^method        $3" "$OUTPUT"
	OUTPUT=$("$FASTBOOT" -c "$WORK/method.conf" --sysroot "$tree" check 2>/dev/null)
	check_match "method = $1: $2: check" "^ok +kexec method +$3" "$OUTPUT"
}

# not_by METHOD NAME STATUS LEVEL REGEX
not_by() {
	printf '[kexec]\nmethod = %s\n' "$1" >"$WORK/method.conf"
	refused "method = $1: $2" "$3" "$5" -c "$WORK/method.conf" -n load --kernel "$kernel"
	OUTPUT=$("$FASTBOOT" -c "$WORK/method.conf" --sysroot "$tree" check 2>/dev/null)
	check_match "method = $1: $2: check" "^$4 +kexec method +.*$5" "$OUTPUT"
}

stock
by auto "nothing is signed" 'kexec_load: no signature is wanted'
by kexec_load "nothing is signed" 'kexec_load: configured$'
by kexec_file_load "nothing is signed" 'kexec_file_load: configured$'
check "load --json: the method" "$FASTBOOT" --json -n --sysroot "$tree" load --kernel "$kernel"
check_match "load --json: the method" '"method":"kexec_load",' "$OUTPUT"
rm "$tree/usr/sbin/kexec"
mkdir "$WORK/path"
PATH=$WORK/path:/usr/bin:/bin by auto "no kexec-tools" 'kexec_file_load: kexec-tools is not installed$'
not_by kexec_load "no kexec-tools" 5 impossible 'install kexec-tools'
mkdir -p "$tree$WORK/path"
: >"$tree$WORK/path/kexec"
PATH=$WORK/path:/usr/bin:/bin by auto "kexec-tools in PATH" 'kexec_load: '
stock
echo 'none [integrity] confidentiality' >"$tree/sys/kernel/security/lockdown"
by auto "locked down" 'kexec_file_load: the kernel is locked down \(integrity\)$'
not_by kexec_load "locked down" 1 missing 'locked down \(integrity\): use kexec_file_load'
stock CONFIG_KEXEC_SIG_FORCE=y
by auto "signatures are enforced" 'kexec_file_load: CONFIG_KEXEC_SIG_FORCE is set$'
not_by kexec_load "signatures are enforced" 1 missing 'SIG_FORCE'
check_match "signatures are enforced: check" '^note +signature +CONFIG_KEXEC_SIG_FORCE .*must be signed' "$OUTPUT"
stock
rm "$tree/boot/config-6.12"
by auto "configuration unknown" 'kexec_file_load: .*install /boot/config-RELEASE$'
stock
rm "$tree/sys/kernel/security/lockdown"
by auto "lockdown unknown" 'kexec_file_load: .*mount securityfs$'
stock
echo aarch64 >"$tree/proc/sys/kernel/arch"
by auto "arm64 has both" 'kexec_file_load: it makes no digest on arm64$'
sed -i 's/^CONFIG_KEXEC_FILE=y/# CONFIG_KEXEC_FILE is not set/' "$tree/boot/config-6.12"
by auto "stock arm64" 'kexec_load: the running kernel has no kexec_file_load$'
not_by kexec_file_load "stock arm64" 5 impossible 'method = auto'
rm "$tree/usr/sbin/kexec"
not_by auto "stock arm64, no kexec-tools" 5 impossible 'install kexec-tools'
printf '[kexec]\nmethod = fast\n' >"$WORK/method.conf"
refused "method = fast" 2 "method.conf:2: method is auto, .*'fast'" -c "$WORK/method.conf" -n load

tree "$with_region" 'BOOT_IMAGE=/vmlinuz quiet initrd=\i ro -- x'
firmware_says 0 0x100000 0x7ffdcfff 'System RAM'
firmware_says 1 0x100000000 0x17fffffff 'Persistent Memory (legacy)'
would_load "load: the firmware has the region" "carried by the firmware's memory map" --kernel "$kernel"
check_match "load: the firmware has the region: nothing added" '^command line  quiet ro -- x$' "$OUTPUT"

tree "$pc" 'quiet'
would_load "load without a region" '^region        none$' --kernel "$kernel"
would_load "load of the first kernel with a region" '^region        0x107e00000-0x187ffffff, new$' \
	--kernel "$kernel" --append 'memmap=2050M!4222M'

# --- reboot: its dry run, on a tree captured from a guest -----------------------

mkdir -p "$WORK/state"
echo hello >"$WORK/state/file"

# steps TREE ARG…
steps() {
	local from=$1
	shift
	"$FASTBOOT" -n --sysroot "$REPO/tests/sysroot/$from" reboot "$@" "$WORK/state"
}

check "reboot -n, hot-added" steps hotadded --kernel "$kernel"
check_match "reboot -n: loads first" '^load the next kernel$' "$OUTPUT"
check_eq "reboot -n: takes 15 blocks offline" 15 \
	"$(grep -c "write 'offline' to .*/memory[0-9]*/state" <<<"$OUTPUT")"
check_match "reboot -n: makes it raw" 'make the namespace of 0x100000000-0x17fffffff raw' "$OUTPUT"
check_match "reboot -n: what is copied ahead" "^     copy $WORK/state, again" "$OUTPUT"
check_match "reboot -n: what is saved" "^     save what changed in $WORK/state\$" "$OUTPUT"
check_match "reboot -n: how much" 'commit the image: .* 1 regular file$' "$OUTPUT"
check_match "reboot -n: the end" '^sync, and start the next kernel$' "$OUTPUT"
check "reboot -n, raw" steps raw --kernel "$kernel"
check_match "reboot -n, raw: nothing to take back" '^the region is raw already$' "$OUTPUT"
check "reboot -n --no-precopy" steps raw --no-precopy --kernel "$kernel"
check_match "reboot -n --no-precopy: all is saved at once" "^     save $WORK/state\$" "$OUTPUT"
check "reboot -n --firmware" steps raw --firmware
check_match "reboot -n --firmware: the end" 'reboot through the firmware$' "$OUTPUT"
expect_status 1 "reboot -n without the region" steps raw --kernel "$kernel" --command-line x
check_match "reboot -n without the region: what to add" 'add memmap=2G!4G' "$ERRORS"
expect_status 2 "reboot --firmware --kernel" steps raw --firmware --kernel "$kernel"
expect_status 2 "reboot --deadline 0" steps raw --deadline 0
expect_status 2 "reboot without a state" "$FASTBOOT" -n \
	--sysroot "$REPO/tests/sysroot/raw" reboot --kernel "$kernel"
expect_status 2 "reboot of another machine" "$FASTBOOT" \
	--sysroot "$REPO/tests/sysroot/raw" reboot --kernel "$kernel" "$WORK/state"
finish
