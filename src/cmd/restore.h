/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * restore - an image's states back to their directories, for `fastboot
 * restore` and fastboot-init: which states, the work, what becomes of the
 * image.
 *
 *	struct fb_restore job = { .ctx = ctx, .image = &image, .region = true };
 *
 *	fb_timeline_stamp(&mine, FB_PHASE_RESTORING);
 *	... open the image ...
 *	fb_restore_check(&image, err);
 *	fb_restore_found(&image, &mine);
 *	fb_restore_choose(&job, dirs, dir_count, err);
 *	fb_restore_eager(&job, &eager, err) or fb_lazyrestore(&job, &lazy, err);
 *	fb_restore_free(&job);
 */
#ifndef FB_CMD_RESTORE_H
#define FB_CMD_RESTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "cmd/unpack.h"
#include "engine/image.h"

struct fb_restore {
	const struct fb_context *ctx;
	const struct fb_image *image;
	bool region; /* the image is in the region: fb_lock() is held, and it is
			marked as used when all of it is back */
	/*
	 * Given: applications wait for the tree. fb_lazyrestore() returns when it
	 * stands; what only reports, its status and the timeline, which begins with
	 * these stamps, is written a moment after. NULL: before, and the
	 * timeline was begun or there is none.
	 */
	const struct fb_origin *timeline;
	bool huge; /* the states' file systems use huge pages already */
	/* fb_restore_choose(): which of the image's states, and their inodes. */
	size_t *states;
	uint32_t *inodes;
	size_t count;
};

/* An image that was marked as used: -EALREADY with FB_EXIT_NO_IMAGE. */
int fb_restore_check(const struct fb_image *image, struct fb_err *err);

/*
 * The image in the region was found and is about to be restored: stamp that,
 * and begin the timeline of this boot (engine/timeline_file.h) with it and the
 * stamps in `mine`, if any. What comes later fb_restore_eager() and
 * fb_lazyrestore() stamp. One that cannot be written is none, and no error.
 */
void fb_restore_found(const struct fb_image *image, struct fb_origin *mine);

/*
 * The states of these directories, all where `count` is 0. -ENOENT names those
 * that there are; -ENOMEM. Free in any case.
 */
int fb_restore_choose(struct fb_restore *job, char *const *dirs, size_t count,
		      struct fb_err *err);
void fb_restore_free(struct fb_restore *job);

/* Has the job all states, and the image a place to be marked as used? */
bool fb_restore_consumes(const struct fb_restore *job);

struct fb_restore_result {
	struct fb_unpack_result unpacked;
	bool consumed; /* the image was marked as used */
};

/*
 * Copy everything. Damaged files are withheld, the image is kept then and
 * that is no failure (fb_restore_damaged()). Errors of fb_unpack();
 * FB_EXIT_UNDO where the image cannot be marked. Free the result in any case.
 */
int fb_restore_eager(const struct fb_restore *job, struct fb_restore_result *result,
		     struct fb_err *err);
void fb_restore_result_free(struct fb_restore_result *result);

/* 0, or -EBADMSG with FB_EXIT_UNDO where files were withheld. */
int fb_restore_damaged(const struct fb_restore *job,
		       const struct fb_restore_result *result, struct fb_err *err);

#endif
