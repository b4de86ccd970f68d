# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tests of `fastboot reboot` share: a state in a tmpfs, its digest, a
# configuration with hooks.  Taken along with `vm-add:`, sourced after lib.sh.

state=/state

mount_state() {
	mkdir -p $state
	mount -t tmpfs -o size=3G,huge=always,mode=0751 state $state
}

seed() { [ -e /tmp/seed ] || dd if=/dev/urandom of=/tmp/seed bs=1M count=16 2>/dev/null; }

# shellcheck disable=SC2154 # $stage is the test's
# big NAME MiB: random data, each 16 MiB of it with a mark of its own.
big() {
	i=0
	while [ $i -lt "$2" ]; do
		dd if=/tmp/seed of="$state/$1" bs=1M seek=$i conv=notrunc 2>/dev/null \
			count=$(($2 - i > 16 ? 16 : $2 - i))
		printf 'stage %s, %s, %s MiB' "$stage" "$1" $i |
			dd of="$state/$1" bs=1M seek=$i conv=notrunc 2>/dev/null
		i=$((i + 16))
	done
}

# Everything that must come back, one line a name.  Times of directories that
# hold the state's mount point are not ours to keep.
digest() {
	(
		cd $state || exit
		find . -type f ! -name toolarge -exec md5sum {} + | sort
		find . -exec stat -c '%N %f %u:%g %s %h %t:%T' {} + | sort
		find . -mindepth 1 -exec stat -c '%N %Y' {} + | sort
	)
}

# configure [QUIESCE]: the hooks write what they do to /run/hooks.
# shellcheck disable=SC2016 # for the hooks to expand
configure() {
	mkdir -p /etc
	printf '#!/bin/sh\necho "resume $1" >>/run/hooks\n' >/etc/resume
	printf '#!/bin/sh\necho "quiesce $1" >>/run/hooks\n%s\n' "${1-}" >/etc/quiesce
	chmod +x /etc/resume /etc/quiesce
	cat >/etc/fastboot.conf <<-END
		[state main]
		path = $state
		[kexec]
		kernel = /host/vmlinuz
		initrd = /host/initrd
		[hooks]
		quiesce = /etc/quiesce
		resume = /etc/resume
	END
}

hot_add() { check "stage $stage: hotadd" fastboot hotadd || exit 1; }
