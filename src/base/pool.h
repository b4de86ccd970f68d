/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pool - pieces of work handed to all cores: a number of pieces, a number of
 * threads, the first error stops.
 */
#ifndef FB_BASE_POOL_H
#define FB_BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/tree.h"

struct fb_pool {
	size_t pieces; /* 0..pieces - 1: each is done once, begun in this order */
	/*
	 * Do one. `own` is the thread's own memory, for all the pieces that it
	 * does. Called from several threads at once. 0, or -errno, with *err.
	 */
	int (*run)(void *context, size_t piece, void *own, struct fb_err *err);
	void *context;
	size_t own_bytes; /* of `own`, aligned to 4096; zeros before the first piece */
	void (*end)(void *own); /* what a thread does last; NULL: nothing */
	unsigned int threads;	/* 0: one for each CPU that may be used */
	/* May be NULL, as may be `size`: how much of `total` a piece is. */
	const struct fb_progress *progress;
	uint64_t (*size)(void *context, size_t piece);
	uint64_t total;
};

/*
 * All pieces; 0, the first error, what progress returned, or -ENOMEM. The
 * caller is one of the threads; none is left behind.
 */
int fb_pool_run(const struct fb_pool *pool, struct fb_err *err);

#endif
