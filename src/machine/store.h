/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * store - the bytes that an image lies in: the raw region (/dev/pmem0), a
 * file, or memory in the tests. A small table of function pointers, so that a
 * test can cut the power at the n-th write.
 *
 * Offsets and sizes are bytes, multiples of FB_STORE_BLOCK; buffers are
 * aligned to FB_STORE_BLOCK (the block device is opened O_DIRECT: a
 * page-cached write would still be in RAM when the next kernel starts).
 * read and write may be called from several threads at once.
 */
#ifndef FB_MACHINE_STORE_H
#define FB_MACHINE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define FB_STORE_BLOCK 4096u

struct fb_store;

struct fb_store_ops {
	/* All of it or -errno; never a short count. */
	int (*read)(const struct fb_store *store, void *buf, size_t size,
		    uint64_t offset, struct fb_err *err);
	int (*write)(const struct fb_store *store, const void *buf, size_t size,
		     uint64_t offset, struct fb_err *err);
	/* Everything written before is persistent when this returns 0. */
	int (*flush)(const struct fb_store *store, struct fb_err *err);
	void (*close)(struct fb_store *store);
};

struct fb_store {
	const struct fb_store_ops *ops;
	uint64_t size;   /* bytes, a multiple of FB_STORE_BLOCK */
	char name[256];  /* for messages: "/dev/pmem0", "state.img" */
	int fd;          /* -1 where there is none */
	void *context;
};

/*
 * A region's block device, O_DIRECT. `writable` also takes it with O_EXCL
 * (open(2): no mount while it is open): -EBUSY when it is mounted or held.
 * -ENOTBLK, -EINVAL (sectors larger than a block), -errno of open and ioctl.
 */
int fb_store_open_block(const char *path, bool writable, struct fb_store *store,
			struct fb_err *err);

/*
 * A file with an image; its size is rounded down to whole blocks. `writable`
 * is for marking it consumed. -EISDIR, -EINVAL (not a file), -errno of open.
 */
int fb_store_open_file(const char *path, bool writable, struct fb_store *store,
		       struct fb_err *err);

/*
 * A new file to write an image to, `size` bytes long (sparse), mode 0600. It
 * is made beside `path` under a temporary name; fb_store_commit_file() renames
 * it into place after the image is committed, closing without that removes it.
 * An existing file is replaced only by a whole one; anything else that exists
 * there is refused (-EEXIST, -EISDIR). -errno of open, ftruncate, rename.
 */
int fb_store_create_file(const char *path, uint64_t size, struct fb_store *store,
			 struct fb_err *err);
int fb_store_commit_file(struct fb_store *store, struct fb_err *err);

/* Frees and closes; safe on a zeroed struct. */
void fb_store_close(struct fb_store *store);

#endif
