/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * precopy - the state into a store while the applications still run, and
 * again only what changed when they have stopped:
 *
 *	fb_precopy_run(&options, &precopy, err);    they run
 *	... stop them ...
 *	fb_precopy_rescan(precopy, err);            the tree as it stays
 *	fb_precopy_complete(precopy, err);          what is not proven clean
 *	fb_save_commit(..., &precopy->save, precopy->generation, ...);
 *	fb_precopy_free(precopy);
 *
 * From fb_precopy_run() on there is no image in the store until the commit. A
 * file is clean if a lease (machine/lease.h) that was taken before it was
 * copied is still held; what has none, because somebody had it open for
 * writing, is compared with what was copied, block by block. So a write
 * through a shared mapping, of which no time stamp tells, is not lost.
 *
 * Prints nothing.
 */
#ifndef FB_CMD_PRECOPY_H
#define FB_CMD_PRECOPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cmd/save.h"
#include "machine/lease.h"
#include "machine/store.h"

struct fb_precopy_options {
	const struct fb_save_dirs *dirs;
	const struct fb_store *store;
	const struct fb_progress *scanning; /* gets inodes; may be NULL */
	const struct fb_progress *copying;  /* gets bytes, anew in each round; NULL */
	unsigned int threads;		    /* 0: one for each CPU */
	uint64_t round_min;		    /* dirty bytes for another round; 0: 4 MiB */
};

struct fb_precopy_result {
	unsigned int rounds;	/* before the applications stopped */
	uint64_t ahead_bytes;	/* gone through in them, whole blocks */
	uint64_t ahead_written; /* of these, written */
	uint64_t clean_bytes;	/* at the end: not looked at again */
	uint64_t compared_bytes; /* gone through again */
	uint64_t written_bytes; /* of these, written */
	size_t leases_held;	/* when the applications had stopped */
	size_t leases_broken;	/* since the beginning */
	bool moved; /* free space was in pieces: all was written again */
};

struct fb_precopy {
	struct fb_precopy_options options;
	struct fb_leases *leases;
	struct fb_save save;	/* of the last round; to be committed at the end */
	fb_lease *lease;	/* of each inode of it */
	bool *clean;		/* its copy is from before that round */
	uint64_t generation;	/* for the commit */
	struct fb_precopy_result result;
};

/*
 * Scan, plan, fb_image_begin(), copy; then again what became dirty meanwhile,
 * as long as that is a good deal less each time. `options` and what it points
 * to must stay. Errors of fb_state_scan(), fb_image_plan_make() (-ENOSPC: the
 * state has grown and does not fit), the store, and what a progress returned.
 * Free *precopy also after a failure (it may be NULL then): the leases are
 * given up by that.
 */
int fb_precopy_run(const struct fb_precopy_options *options,
		   struct fb_precopy **precopy, struct fb_err *err);

/* Read the tree again and plan around what was copied; the same errors. */
int fb_precopy_rescan(struct fb_precopy *precopy, struct fb_err *err);

/*
 * Compare or copy what is not clean. -ESTALE: something was changed, or opened
 * for writing, after fb_precopy_rescan() began; the errors of fb_image_copy().
 */
int fb_precopy_complete(struct fb_precopy *precopy, struct fb_err *err);

void fb_precopy_free(struct fb_precopy *precopy);

#endif
