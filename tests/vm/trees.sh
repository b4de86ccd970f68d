#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Whole trees into the region and back on a real kernel: every name, byte and
# metadata field that was saved is compared in the image as the kernel mounts
# it, with and without DAX, and in what restore gives back.
#
# vm-kernels: 6.12
# vm-more-kernels: 6.1
# vm-programs: fsck.erofs dump.erofs flock
# vm-add: build/vmtools/mktree build/vmtools/treediff
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

# mounted NAME OPTIONS…: the whole state as the image has it lies below the
# mount at its own path.
mounted() {
	mounted_name=$1
	shift
	for options; do
		if ! mount -t erofs -o "$options" /dev/pmem0 "$image"; then
			not_ok "$mounted_name: mount -o $options" "$(dmesg | tail -n 3)"
			continue
		fi
		# The kernel counts the holes of an image as blocks: -n.
		compare "$mounted_name, mounted -o $options" -n "$state" "$image$state"
		umount "$image"
	done
}

# How long each part took, for the tree of which that is worth knowing.
speeds() {
	[ "$1" = small ] || return 0
	figure "save, $1" "$(number copy_usec "$saved")" us "and $(number commit_usec "$saved") us for the commit"
	figure "restore, $1" "$(number copy_usec "$restored")" us \
		"and $(number create_usec "$restored") us before, $(number finish_usec "$restored") us after"
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
	case $1 in
	small) mounted "$1" ro ;;
	big) mounted "$1" ro,dax=always ;;
	*) mounted "$1" ro ro,dax=always ;;
	esac

	mkdir -p /run/saved
	mount --move "$state" /run/saved
	mount -t tmpfs -o size=3G,huge=within_size tmpfs "$state"
	[ "$1" != big ] || umount /run/saved
	check "$1: restore" fastboot --json restore || return
	restored=$OUTPUT
	restored_is_same "$1"
	[ "$1" = big ] || expect_status 4 "$vm_tree: a second restore finds it used" fastboot restore
	# On one kernel: it takes a while.
	case $1-$(uname -r) in
	small-6.12*) others ;;
	esac
	umount "$state" /run/saved 2>/dev/null
	speeds "$vm_tree"
}

# 1.9 GiB do not fit twice: beside the image, which was beside the original.
restored_is_same() {
	if [ "$1" = big ]; then
		mount -t erofs -o ro,dax=always /dev/pmem0 "$image"
		compare "$1, restored" -n "$image$state" "$state"
		umount "$image"
	else
		compare "$1, restored" /run/saved "$state"
	fi
}

now_ms() { cut -d' ' -f1 /proc/uptime | tr -d .; } # in units of 10 ms

# took NAME NOTE CMD…: how long
took() {
	took_name=$1 took_note=$2
	shift 2
	took_start=$(now_ms)
	"$@" >/dev/null 2>&1 || not_ok "$took_name" "status $?"
	figure "$took_name" $((($(now_ms) - took_start) * 10)) ms "$took_note"
}

# What else gives a tree of 100,000 files back, and how soon; the state is
# saved and restored again, lazily.
others() {
	mkdir -p /run/other
	mount -t tmpfs -o size=3G,huge=within_size tmpfs /run/other
	took "small: cp -a" "from tmpfs" cp -a "$state" /run/other/copy
	rm -rf /run/other/copy
	tar -cf /run/other/tar -C "$state" .
	mkdir /run/other/copy
	took "small: tar -x" "from tmpfs" tar -xf /run/other/tar -C /run/other/copy
	umount /run/other
	check "small: save for the lazy mode" fastboot save --replace "$state" || return
	took "small: mount of the image" "read-only, with DAX" mount -t erofs -o ro,dax=always /dev/pmem0 "$image"
	umount "$image" "$state"
	mount -t tmpfs -o size=3G,huge=within_size tmpfs "$state"
	took "small: restore --mode lazy" "until the tree stands" fastboot -q restore --mode lazy
	took "small: restore --mode lazy, then" "until all is filled" lazy_done
	compare "small, restored lazily" /run/saved "$state"
}

lazy_done() { flock -w 300 /run/fastboot/restore.lock true; }

check "the region is there" load_pmem || exit 1
modprobe erofs
tree empty
tree nasty
tree sparse 1342177280 # more than 1 GiB: described in larger units
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
