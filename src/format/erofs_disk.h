/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * erofs_disk - offsets and constants of the EROFS format as far as fastboot
 * writes it (Linux 6.12, fs/erofs/erofs_fs.h), and what encoder and decoder
 * share. Private to src/format/erofs.c and erofs_decode.c.
 */
#ifndef FB_FORMAT_EROFS_DISK_H
#define FB_FORMAT_EROFS_DISK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "format/erofs.h"
#include "format/le.h"

/* struct erofs_super_block, offsets in it */
enum {
	SB_MAGIC = 0,
	SB_CHECKSUM = 4,
	SB_COMPAT = 8,
	SB_BLOCK_BITS = 12,
	SB_EXT_SLOTS = 13,
	SB_ROOT_NID = 14,
	SB_INODES = 16,
	SB_BUILD_TIME = 24,
	SB_BUILD_NSEC = 32,
	SB_BLOCKS = 36,
	SB_META_BLOCK = 40,
	SB_UUID = 48,
	SB_VOLUME_NAME = 64,
	SB_INCOMPAT = 80,
	SB_EXTRA_DEVICES = 86,
	SB_DIR_BLOCK_BITS = 90,
	SB_SIZE = 128,
};

#define COMPAT_SB_CHECKSUM   0x1u
#define COMPAT_MTIME         0x2u
#define INCOMPAT_CHUNKED     0x4u

/* struct erofs_inode_extended */
enum {
	IN_FORMAT = 0,
	IN_XATTR_COUNT = 2,
	IN_MODE = 4,
	IN_SIZE = 8,
	IN_UNION = 16,
	IN_INO = 20,
	IN_UID = 24,
	IN_GID = 28,
	IN_MTIME = 32,
	IN_MTIME_NSEC = 40,
	IN_NLINK = 44,
	INODE_SIZE = 64,
};

#define INODE_EXTENDED    0x1u
#define INODE_LAYOUT_BIT  1u
#define LAYOUT_PLAIN      0u
#define LAYOUT_INLINE     2u
#define LAYOUT_CHUNKED    4u

#define CHUNK_BITS_MASK 0x1fu
#define CHUNK_BITS_MAX  19u /* 2^19 blocks: 2^31 bytes */
#define CHUNK_HOLE      UINT32_MAX

/* struct erofs_dirent */
#define DIRENT_SIZE 12u
enum { DE_NID = 0, DE_NAME = 8, DE_TYPE = 10 };

/* struct erofs_xattr_ibody_header, struct erofs_xattr_entry */
#define XATTR_HEADER      12u
#define XATTR_SHARED_AT   4u
#define XATTR_ENTRY       4u
#define XATTR_VALUE_MAX   65535u
#define XATTR_COUNT_MAX   65535u
enum { XE_NAME_LENGTH = 0, XE_INDEX = 1, XE_VALUE_SIZE = 2 };

struct fb_erofs_xattr_prefix {
	const char *text;
	uint8_t index;
	bool whole; /* the text is the whole name */
};

static const struct fb_erofs_xattr_prefix fb_erofs_xattr_prefixes[] = {
	{ "user.", 1, false },
	{ "system.posix_acl_access", 2, true },
	{ "system.posix_acl_default", 3, true },
	{ "trusted.", 4, false },
	{ "security.", 6, false },
};

/* erofs_xattr_entry_size() */
static inline uint64_t fb_erofs_xattr_entry_size(size_t name, size_t value)
{
	return fb_align_up(XATTR_ENTRY + name + value, 4);
}

static inline uint64_t fb_erofs_blocks(uint64_t bytes)
{
	return bytes / FB_EROFS_BLOCK + !!(bytes % FB_EROFS_BLOCK);
}

/* include/linux/fs_types.h, FT_*; 0 for a type there is none for */
static inline uint8_t fb_erofs_file_type(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return 1;
	case S_IFDIR:
		return 2;
	case S_IFCHR:
		return 3;
	case S_IFBLK:
		return 4;
	case S_IFIFO:
		return 5;
	case S_IFSOCK:
		return 6;
	case S_IFLNK:
		return 7;
	default:
		return 0;
	}
}

#endif
