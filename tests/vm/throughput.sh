#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# How fast 2 GiB in 1,000 files, on a tmpfs with huge pages, go into the region and
# back (eager), beside memcpy() of as much by as many threads in the same guest.
# memcpy() and the two take turns, so that a busy machine slows all of them down.
# What is timed is the program's own copy_usec: from the first file to the last, the digests
# included. The first round is left out: in it the emulator finds memory for the guest.
#
# vm-more-kernels: fast
# vm-programs: cmp
# vm-add: build/vmtools/mktree build/vmtools/memcpy
# vm-timeout: 900
# vm-region: 2304M!4G

# shellcheck source=tests/vm/lib.sh
. /host/lib.sh

state=/run/state
size=$((2048 * 1024 * 1024))
rounds=5

# number KEY TEXT: from the JSON that fastboot printed
number() { printf '%s\n' "$2" | sed -n "s/^ *\"$1\":\([0-9]*\),*$/\1/p"; }

ramdisk() { mount -t tmpfs -o size=3G,huge=within_size tmpfs "$state"; }

sums() { (cd "$state" && find . -type f -exec md5sum {} + | sort -k 2); }

# took NAME TEXT: what it took is a line of /run/NAME, with a memcpy that ran beside it
took() {
	[ "$round" -gt 0 ] || return 0
	echo "$(number copy_usec "$2") $(memcpy "$(number data_bytes "$2")" "$(nproc)")" >>"/run/$1"
}

turn() {
	check "save, round $round" fastboot --json save --replace "$state" || return
	took save "$OUTPUT"
	umount "$state"
	ramdisk
	check "restore, round $round" fastboot --json restore || return
	took restore "$OUTPUT"
}

# column FILE N: its median
column() { cut -d' ' -f"$2" "$1" | sort -n | sed -n $(((rounds + 1) / 2))p; }

# ratio NAME: of the medians
ratio() {
	ratio_took=$(column "/run/$1" 1) ratio_copy=$(column "/run/$1" 2)
	figure "$1" "$(awk "BEGIN { printf \"%.2f\", $ratio_took / $ratio_copy }")" "times memcpy" \
		"$ratio_took us against $ratio_copy us, medians of $rounds, $(nproc) threads"
}

check "the region is there" load_pmem || exit 1
mkdir -p "$state"
ramdisk
check "2 GiB in 1,000 files" mktree thousand "$state" "$size"
sums >/run/before
round=0
while [ "$round" -le "$rounds" ]; do
	turn || break
	round=$((round + 1))
done
sums >/run/after
check "every byte came back" cmp /run/before /run/after
ratio save
ratio restore
finish
