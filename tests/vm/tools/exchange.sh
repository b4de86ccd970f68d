# shellcheck shell=sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A small tree with every kind of file, the same wherever it is made, and what must
# come back of it: for images that one architecture writes and another reads
# (tests/golden/exchange-*.img.xz). For bash and for the guests' shell. The paths
# keep busybox's find from taking its own touch and stat, which do less.

# exchange_make DIR
exchange_make() {
	mkdir -p "$1/dir/deep" "$1/empty dir"
	seq -f 'line %.0f of a file that takes little room when it is packed' 1000000 1040000 >"$1/large"
	seq 1 1000 >"$1/odd	name
with a newline"
	: >"$1/dir/empty"
	truncate -s 5M "$1/sparse"
	seq 1 999 | dd of="$1/sparse" bs=1M seek=3 conv=notrunc 2>/dev/null
	ln "$1/sparse" "$1/dir/deep/hard"
	ln -s ../nowhere "$1/dir/soft"
	mkfifo -m 0604 "$1/dir/fifo"
	mknod -m 0600 "$1/dir/null" c 1 3
	chown 1234:70000 "$1/dir/empty"
	chmod 4755 "$1/large"
	setfattr -n user.some -v 'a value' "$1/large"
	setfattr -n trusted.other -v 0x0001ff "$1/dir"
	find "$1" -depth -exec /bin/touch -h -d '2001-02-03 04:05:06 UTC' {} +
}

# exchange_list DIR: without the sizes and links of directories, which are those of
# the file system.
exchange_list() (
	cd "$1" || exit
	find . -type f -exec md5sum {} + | sort
	find . ! -type d -exec /bin/stat -c '%N %f %u:%g %s %h %t:%T %Y' {} + | sort
	find . -type d -exec /bin/stat -c '%N %f %u:%g %Y' {} + | sort
	getfattr -R -h -d -m '^user|^trusted' -e hex . | sort
)
