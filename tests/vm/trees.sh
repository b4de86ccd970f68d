#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Whole trees into the region and back on a real kernel: every name, byte and
# metadata field that was saved is compared in the image as the kernel mounts
# it, with and without DAX, and in what restore gives back. And how fast that
# is beside memcpy() in the same guest.
#
# vm-kernels: 6.12 6.1
# vm-programs: fsck.erofs dump.erofs
# vm-add: build/vmtools/mktree build/vmtools/treediff build/vmtools/memcpy
# vm-timeout: 1500
# vm-region: 2G!4G

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh

state=/run/state image=/run/image
big=$((1900 * 1024 * 1024))

# compare NAME [-n] A B: differences 0, and a figure that says over how much
compare() {
	cmp_name=$1
	shift
	cmp_out=$(treediff "$@")
	# shellcheck disable=SC2046
	set -- $(printf '%s\n' "$cmp_out" | tail -n 1)
	if [ "${4-}" = 0 ]; then
		ok "$cmp_name: no difference"
	else
		not_ok "$cmp_name: no difference" "$(printf '%s\n' "$cmp_out" | head -n 5)"
	fi
	figure "$cmp_name" "$4" differences "over $1 names, $2 bytes, $3 fields"
}

# number KEY TEXT: from the JSON that fastboot printed
number() { printf '%s\n' "$2" | sed -n "s/^ *\"$1\":\([0-9]*\),*$/\1/p"; }

# The whole state as the image has it lies below the mount at its own path.
mounted() {
	for options in ro ro,dax=always; do
		if ! mount -t erofs -o "$options" /dev/pmem0 "$image"; then
			not_ok "$1: mount -o $options" "$(dmesg | tail -n 3)"
			continue
		fi
		# The kernel counts the holes of an image as blocks: -n.
		compare "$1, mounted -o $options" -n "$state" "$image$state"
		umount "$image"
	done
}

# ratio NAME USEC BYTES: beside memcpy of as much
ratio() {
	ratio_copy=$(memcpy "$3" "$(nproc)")
	figure "$1" "$(awk "BEGIN { printf \"%.2f\", $2 / $ratio_copy }")" "times memcpy" \
		"$2 us against $ratio_copy us for $3 bytes, $(nproc) threads"
}

# How long each part took, for the trees of which that is worth knowing.
speeds() {
	case $1 in
	big)
		ratio "save, $1" "$(number copy_usec "$saved")" "$(number data_bytes "$saved")"
		ratio "restore, $1" "$(number copy_usec "$restored")" "$(number data_bytes "$restored")"
		;;
	small)
		figure "save, $1" "$(number copy_usec "$saved")" us "and $(number commit_usec "$saved") us for the commit"
		figure "restore, $1" "$(number copy_usec "$restored")" us \
			"and $(number create_usec "$restored") us before, $(number finish_usec "$restored") us after"
		;;
	esac
}

# tree KIND [NUMBER]
tree() {
	vm_tree=$1
	mkdir -p "$state" "$image"
	mount -t tmpfs -o size=3G,huge=within_size tmpfs "$state"
	mktree "$1" "$state" "${2-}" >/run/without || not_ok "$1: make it" "mktree failed"
	[ ! -s /run/without ] || skip "$1: $(wc -l </run/without) attributes" \
		"this kernel's tmpfs does not take them: $(sort -u /run/without | head -n 3 | tr '\n' ' ')…"

	check "$1: save" fastboot --json save --replace "$state" || return
	saved=$OUTPUT
	check "$1: fsck.erofs" fsck.erofs /dev/pmem0
	check "$1: dump.erofs" dump.erofs -s /dev/pmem0
	mounted "$1"

	mkdir -p /run/saved
	mount --move "$state" /run/saved
	mount -t tmpfs -o size=3G,huge=within_size tmpfs "$state"
	[ "$1" != big ] || keep_digest
	check "$1: restore" fastboot --json restore || return
	restored=$OUTPUT
	restored_is_same "$1"
	[ "$1" = big ] || expect_status 4 "$vm_tree: a second restore finds it used" fastboot restore
	umount "$state" /run/saved 2>/dev/null
	speeds "$vm_tree"
}

# 1.9 GiB do not fit twice: their digest stays.
keep_digest() {
	md5sum </run/saved/big >/run/digest
	stat -c '%f %u %g %s %h %Y' /run/saved/big >>/run/digest
	umount /run/saved
}

restored_is_same() {
	if [ "$1" = big ]; then
		check_eq "$1, restored: digest and metadata" "$(cat /run/digest)" \
			"$(md5sum <"$state/big"; stat -c '%f %u %g %s %h %Y' "$state/big")"
	else
		compare "$1, restored" /run/saved "$state"
	fi
}

check "the region is there" load_pmem || exit 1
modprobe erofs
tree empty
tree nasty
tree sparse 3221225472 # more than 1 GiB: described in larger units
tree small 100000
tree big $big

mount -t tmpfs -o size=3G tmpfs "$state"
mktree big "$state" $((2200 * 1024 * 1024))
dd if=/dev/pmem0 of=/run/before bs=4096 count=1 2>/dev/null
expect_status 1 "more than fits is refused" fastboot save --replace "$state"
check_eq "with both sizes" yes "$(printf '%s' "$OUTPUT" | grep -q '2[.,].*GiB.* 2 GiB' && echo yes || echo "$OUTPUT")"
check_eq "and nothing is touched" "$(md5sum </run/before)" "$(dd if=/dev/pmem0 bs=4096 count=1 2>/dev/null | md5sum)"
rm "$state/big"
echo x >"$state/file"
check "over an image that was restored" fastboot save "$state"
expect_status 1 "over an image that was not restored" fastboot save "$state"
check "image verify" fastboot image verify
finish
