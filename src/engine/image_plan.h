/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_plan - what the two ways to place a tree share: from nothing
 * (image_plan.c) and around what lies there already (image_replan.c). Private
 * to engine/image_*.c.
 */
#ifndef FB_ENGINE_IMAGE_PLAN_H
#define FB_ENGINE_IMAGE_PLAN_H

#include "engine/image.h"

#define FB_IMAGE_HUGE_BLOCKS 512u /* 2 MiB */

/* Packed images never need more than this many blocks: block numbers are u32. */
#define FB_IMAGE_BLOCKS_MAX ((uint64_t)UINT32_MAX - 1)

static inline uint64_t fb_image_blocks_of(uint64_t bytes)
{
	return bytes / FB_EROFS_BLOCK + !!(bytes % FB_EROFS_BLOCK);
}

/* Blocks that `capacity` bytes have, as far as the format can use them. */
static inline uint64_t fb_image_blocks_in(uint64_t capacity)
{
	uint64_t blocks = capacity / FB_EROFS_BLOCK;

	return blocks < FB_IMAGE_BLOCKS_MAX ? blocks : FB_IMAGE_BLOCKS_MAX;
}

/* fb_erofs_fit_extents() for all; -EFBIG names the file. */
int fb_image_plan_fit(struct fb_tree *tree, struct fb_err *err);

/*
 * plan->layout, states_size and data_bytes, for the extents as they are;
 * *behind is how many blocks come after the data. Errors of
 * fb_erofs_layout_make() and fb_state_table_size().
 */
int fb_image_plan_measure(const struct fb_tree *tree, struct fb_image_plan *plan,
			  uint64_t *behind, struct fb_err *err);

/* The runs of a tree whose extents have their blocks. -ENOMEM. */
int fb_image_plan_runs(const struct fb_tree *tree, struct fb_image_plan *plan,
		       struct fb_err *err);

#endif
