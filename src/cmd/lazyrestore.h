/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lazyrestore - `restore --mode lazy`: the tree stands when the command is
 * done, a process of its own fills the files (engine/lazy.h).
 */
#ifndef FB_CMD_LAZYRESTORE_H
#define FB_CMD_LAZYRESTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cmd/restore.h"

struct fb_lazyrestore_result {
	bool resumed; /* one that was killed goes on */
	int pid;
	uint64_t files, bytes;  /* to be filled in the background */
	uint64_t visible_usec;	/* until the tree stood */
};

/*
 * Make the tree and leave behind a process that fills it; returns when the
 * tree stands and every open waits for its file. The process keeps the
 * descriptors, and so the locks, of the caller until it is done. A restore of
 * the same image that was killed goes on. FB_EXIT_IMPOSSIBLE where a directory is
 * not on a tmpfs; errors of fb_state_create() and fb_state_finish(), with
 * nothing left behind.
 */
int fb_lazyrestore(const struct fb_restore *job, struct fb_lazyrestore_result *result,
		   struct fb_err *err);

#endif
