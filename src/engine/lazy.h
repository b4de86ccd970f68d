/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lazy - files that stand in their directories before their contents are
 * there, on tmpfs. Whoever opens or truncates one waits until it is filled;
 * the rest is filled in the background.
 *
 *	fb_lazy_new(count, &lazy, err);
 *	fb_lazy_possible(lazy, dir, shown, err);
 *	fb_lazy_add(lazy, place, &file, err);   each: the first place is filled first
 *	fb_lazy_guard(lazy, err);            from here on nobody sees a hole
 *	fb_lazy_run(lazy, &work, err);       fills them all
 *	fb_lazy_free(lazy);
 *
 * Two things hold others back. A fanotify group (FAN_OPEN_PERM on the whole
 * file system; fanotify(7)) stops every open for as long as it takes. And each
 * file has an O_RDWR descriptor here with a write lease on it (fcntl(2),
 * F_SETLEASE): truncate(2), which opens nothing, breaks the lease and waits,
 * as do opens that fanotify is not told of (an overlay's). The kernel ends
 * that wait after /proc/sys/fs/lease-break-time, 45 s: only a file
 * whose filling takes longer could be truncated too early.
 *
 * Files are filled through a shared mapping whose pages are made by a read
 * (MADV_POPULATE_READ): on tmpfs that changes neither mtime nor capabilities
 * nor set-user-ID, so nothing has to be put back, whatever was set meanwhile.
 * A full file system is an error there, not a SIGBUS.
 *
 * Two processes, one table of descriptors (CLONE_FILES): the keeper answers
 * opens and starts the worker again when that dies; the worker fills, and
 * answers as well when the keeper dies. Descriptors, and with them leases and
 * the group, live until both are gone. Then nothing holds anyone back, and
 * files not yet filled read as zeros: they carry the extended attribute
 * FB_LAZY_MARK until they are filled, by which a later process finds them
 * (fb_lazy_find()). An open that waits while the process that answers it
 * is killed fails with EPERM; it never reads zeros.
 *
 * Linux 5.14 (MADV_POPULATE_READ), CONFIG_FANOTIFY_ACCESS_PERMISSIONS,
 * CONFIG_TMPFS_XATTR, root.
 */
#ifndef FB_ENGINE_LAZY_H
#define FB_ENGINE_LAZY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/tree.h"

/* On each file that is not filled: struct fb_lazy_mark. */
#define FB_LAZY_MARK FB_TREE_PENDING_XATTR

struct fb_lazy_mark {
	uint8_t image[16]; /* which image: its uuid */
	uint32_t inode;	   /* which file of it */
};

struct fb_lazy;
struct fb_lazy_target; /* a file that is being filled */

/* Shared by both processes; what is left is read by anyone. */
struct fb_lazy_progress {
	size_t files, files_left;
	uint64_t bytes, bytes_left;
	size_t damaged;
	int keeper, worker;  /* process numbers, 0: none */
	unsigned int deaths; /* of workers */
	bool full;	     /* a file waits for room in its file system */
};

struct fb_lazy_work {
	/*
	 * The contents of an inode, through fb_lazy_put(). Called from
	 * several threads of the worker. -EBADMSG: it is damaged. Must
	 * open nothing: that might wait for itself.
	 */
	int (*fill)(void *context, uint32_t inode, struct fb_lazy_target *to,
		    struct fb_err *err);
	/* Remove a damaged file, by all its names; `fd` is it. */
	void (*damaged)(void *context, uint32_t inode, int fd, const char *why);
	/* Every 100 ms, in one thread of the process that is in charge. */
	void (*tick)(void *context, const struct fb_lazy_progress *progress);
	void *context;
	unsigned int threads; /* 0: one for each online CPU; one where
				 files are small */
};

/*
 * How many files there may be: the limit of open files, raised as far as it
 * goes, less what else is needed.
 */
size_t fb_lazy_capacity(void);

/*
 * For so many files, at most fb_lazy_capacity(). The process ignores SIGIO and
 * SIGRTMIN + 3 from here on; the calling thread must be the only one, so that its
 * table of descriptors grows at once. -ENOTSUP with FB_EXIT_IMPOSSIBLE: the kernel
 * lacks what it takes; -ENOMEM; -errno of pipe.
 */
int fb_lazy_new(size_t count, struct fb_lazy **lazy, struct fb_err *err);
void fb_lazy_free(struct fb_lazy *lazy);

/*
 * Can files of this directory wait to be filled? -ENOTSUP with
 * FB_EXIT_IMPOSSIBLE where it is not on tmpfs, or the kernel lacks what it takes.
 */
int fb_lazy_possible(const struct fb_lazy *lazy, int dir, const char *shown,
		     struct fb_err *err);

/*
 * A file that has its size and no contents: marks it, takes the lease.
 * `fd` is O_RDWR, of nobody else; it belongs to `lazy` from here on, also on
 * failure. Each `place` below the count is for one file. From several threads
 * at once. -EAGAIN: someone has the file open; -errno of fcntl and fsetxattr.
 */
struct fb_lazy_file {
	int fd;
	dev_t dev; /* of the file, as fstat has them */
	ino_t ino;
	uint64_t bytes; /* for the progress */
	struct fb_lazy_mark mark;
};

int fb_lazy_add(struct fb_lazy *lazy, size_t place, const struct fb_lazy_file *file,
		struct fb_err *err);

/*
 * All places are taken: mark the file systems of all files, start a thread that
 * answers. Opens wait from here on. The calling thread must be the only one of its
 * process, and the leader of its process group.
 */
int fb_lazy_guard(struct fb_lazy *lazy, struct fb_err *err);

/*
 * Start the worker, and again whenever it dies; returns when no file is
 * left to fill, with no mark on any file system. In the process in charge: when
 * the caller was killed, this returns in what was the worker. 0, or -errno
 * when no worker can be started at all.
 */
int fb_lazy_run(struct fb_lazy *lazy, const struct fb_lazy_work *work,
		struct fb_err *err);

/* The inode of the n-th file, from 0, and whether it was damaged; false past the end. */
bool fb_lazy_nth(const struct fb_lazy *lazy, size_t n, uint32_t *inode, bool *damaged);

void fb_lazy_progress(const struct fb_lazy *lazy, struct fb_lazy_progress *progress);

/*
 * For fb_lazy_work.fill: `length` bytes at `offset` of the file. What lies
 * behind the file's end is dropped. -ENOSPC: the file system is full.
 */
int fb_lazy_put(struct fb_lazy_target *to, const void *bytes, uint64_t offset,
		size_t length);

/*
 * Every file below the directory `top`, on its file system only, that carries
 * the mark of this image: `found` gets a path, valid in the working directory
 * of that moment, and the inode number. A file comes once for each of its
 * names: opening one that is held already would wait for itself. -errno of it or
 * of fts(3).
 */
int fb_lazy_find(const char *top, const uint8_t image[16],
		 int (*found)(void *context, const char *path, uint32_t inode,
			      struct fb_err *err),
		 void *context, struct fb_err *err);

#endif
