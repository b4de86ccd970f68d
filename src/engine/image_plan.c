/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "engine/image.h"
#include "engine/image_plan.h"
#include "engine/image_work.h"

#define BLOCK ((uint64_t)FB_EROFS_BLOCK)

/* Free blocks between large extents. */
struct gap {
	uint64_t block, blocks;
};

struct placer {
	struct fb_tree *tree;
	struct gap *gaps;
	size_t gap_count, gap_capacity;
	size_t gap;   /* the one that is being filled */
	uint64_t end; /* first block behind everything placed */
};

static int add_gap(struct placer *p, uint64_t block, uint64_t end)
{
	if (block == end)
		return 0;
	if (fb_array_grow(&p->gaps, &p->gap_capacity, p->gap_count + 1,
			  sizeof(*p->gaps)))
		return -ENOMEM;
	p->gaps[p->gap_count++] = (struct gap){ block, end - block };
	return 0;
}

/* File offset and address agree in the 2 MiB: what a huge page needs. */
static int place_large(struct placer *p, struct fb_extent *e)
{
	uint64_t phase = e->offset / BLOCK % FB_IMAGE_HUGE_BLOCKS;
	uint64_t block = p->end + (phase - p->end) % FB_IMAGE_HUGE_BLOCKS;
	int ret = add_gap(p, p->end, block);

	e->block = block;
	p->end = block + fb_image_blocks_of(e->length);
	return ret;
}

/* A gap with less than this left is given up when something does not fit. */
#define GAP_REST 16u

static void place_small(struct placer *p, struct fb_extent *e)
{
	uint64_t need = fb_image_blocks_of(e->length);

	while (p->gap < p->gap_count && p->gaps[p->gap].blocks < need &&
	       p->gaps[p->gap].blocks < GAP_REST)
		p->gap++;
	if (p->gap < p->gap_count && p->gaps[p->gap].blocks >= need) {
		struct gap *g = &p->gaps[p->gap];

		e->block = g->block;
		g->block += need;
		g->blocks -= need;
		return;
	}
	e->block = p->end;
	p->end += need;
}

static int place_aligned(struct placer *p)
{
	for (int large = 1; large >= 0; large--) {
		for (size_t i = 0; i < p->tree->inode_count; i++) {
			struct fb_inode *in = &p->tree->inodes[i];

			for (size_t k = 0; k < in->extent_count; k++) {
				struct fb_extent *e = &in->extents[k];

				if ((fb_image_blocks_of(e->length) >= FB_IMAGE_HUGE_BLOCKS) != large)
					continue;
				if (!large)
					place_small(p, e);
				else if (place_large(p, e))
					return -ENOMEM;
			}
		}
	}
	return 0;
}

static void place_packed(struct placer *p)
{
	p->gap = p->gap_count = 0;
	p->end = FB_EROFS_FIRST_BLOCK;
	for (size_t i = 0; i < p->tree->inode_count; i++) {
		struct fb_inode *in = &p->tree->inodes[i];

		for (size_t k = 0; k < in->extent_count; k++)
			place_small(p, &in->extents[k]);
	}
}

/* ---- runs --------------------------------------------------------------------- */

static uint64_t count_runs(const struct fb_tree *tree, uint64_t *blocks)
{
	uint64_t runs = 0;

	*blocks = 0;
	for (size_t i = 0; i < tree->inode_count; i++) {
		const struct fb_inode *in = &tree->inodes[i];

		for (size_t k = 0; k < in->extent_count; k++) {
			uint64_t n = fb_image_blocks_of(in->extents[k].length);

			*blocks += n;
			runs += n / FB_IMAGE_RUN_BLOCKS + !!(n % FB_IMAGE_RUN_BLOCKS);
		}
	}
	return runs;
}

static size_t cut_extent(uint32_t inode, const struct fb_extent *e,
			 struct fb_image_run *runs)
{
	const uint64_t most = FB_IMAGE_RUN_BLOCKS * BLOCK;
	size_t n = 0;

	for (uint64_t done = 0; done < e->length; done += most) {
		uint64_t length = e->length - done < most ? e->length - done : most;

		runs[n++] = (struct fb_image_run){
			.inode = inode,
			.block = (uint32_t)(e->block + done / BLOCK),
			.blocks = (uint32_t)fb_image_blocks_of(length),
			.length = (uint32_t)length,
			.offset = e->offset + done,
		};
	}
	return n;
}

static int compare_runs(const void *a, const void *b)
{
	const struct fb_image_run *x = a, *y = b;

	return x->block < y->block ? -1 : x->block > y->block;
}

int fb_image_plan_runs(const struct fb_tree *tree, struct fb_image_plan *plan,
		       struct fb_err *err)
{
	uint64_t blocks, count = count_runs(tree, &blocks);
	size_t n = 0;

	plan->runs = calloc(count ? count : 1, sizeof(*plan->runs));
	if (!plan->runs)
		return fb_err_sys(err, ENOMEM, "plan");
	for (size_t i = 0; i < tree->inode_count; i++)
		for (size_t k = 0; k < tree->inodes[i].extent_count; k++)
			n += cut_extent((uint32_t)i, &tree->inodes[i].extents[k],
					plan->runs + n);
	qsort(plan->runs, n, sizeof(*plan->runs), compare_runs);
	plan->run_count = n;
	return 0;
}

/* ---- the plan ------------------------------------------------------------------ */

int fb_image_plan_fit(struct fb_tree *tree, struct fb_err *err)
{
	for (size_t i = 0; i < tree->inode_count; i++) {
		fb_autofree char *path = NULL;

		if (!fb_erofs_fit_extents(&tree->inodes[i]))
			continue;
		path = fb_tree_path(tree, (uint32_t)i);
		return fb_err_set(err, EFBIG,
				  "%s: its holes need a block map above 1 GiB",
				  path ? path : "?");
	}
	return 0;
}

static int does_not_fit(uint64_t need, uint64_t capacity, struct fb_err *err)
{
	char a[FB_SIZE_TEXT_MAX], b[FB_SIZE_TEXT_MAX];

	if (need / BLOCK > FB_IMAGE_BLOCKS_MAX && capacity / BLOCK > FB_IMAGE_BLOCKS_MAX)
		return fb_err_set(err, EFBIG,
				  "the image would need %s, 16 TiB are possible",
				  fb_size_text(need, a));
	return fb_err_set(err, ENOSPC,
			  "the state does not fit: the image needs %s (%llu bytes), "
			  "there are %s (%llu bytes)",
			  fb_size_text(need, a), (unsigned long long)need,
			  fb_size_text(capacity, b), (unsigned long long)capacity);
}

/* Place the data; `behind` is how many blocks come after it. */
static int place(struct fb_tree *tree, uint64_t behind, uint64_t capacity,
		 struct fb_image_plan *plan, struct fb_err *err)
{
	struct placer p = { .tree = tree, .end = FB_EROFS_FIRST_BLOCK };
	uint64_t most = fb_image_blocks_in(capacity);
	int ret = place_aligned(&p);

	plan->aligned = true;
	if (!ret && p.end + behind > most) {
		plan->aligned = false;
		place_packed(&p);
	}
	free(p.gaps);
	if (ret)
		return fb_err_sys(err, ENOMEM, "plan");
	plan->size = (p.end + behind) * BLOCK;
	if (p.end + behind > most)
		return does_not_fit(plan->size, capacity, err);
	plan->meta_block = (uint32_t)p.end;
	return 0;
}

int fb_image_plan_measure(const struct fb_tree *tree, struct fb_image_plan *plan,
			  uint64_t *behind, struct fb_err *err)
{
	uint64_t blocks, runs;
	int ret = fb_erofs_layout_make(tree, &plan->layout, err);

	if (!ret)
		ret = fb_state_table_size(tree, &plan->states_size, err);
	if (ret)
		return ret;
	runs = count_runs(tree, &blocks);
	*behind = plan->layout.size / BLOCK + fb_image_blocks_of(plan->states_size) +
		  fb_image_blocks_of(runs * FB_RUN_ENTRY_SIZE);
	plan->data_bytes = blocks * BLOCK;
	return 0;
}

static int make_plan(struct fb_tree *tree, uint64_t capacity,
		     struct fb_image_plan *plan, struct fb_err *err)
{
	uint64_t behind;
	int ret = fb_image_plan_fit(tree, err);

	if (!ret)
		ret = fb_image_plan_measure(tree, plan, &behind, err);
	if (!ret)
		ret = place(tree, behind, capacity, plan, err);
	if (!ret)
		ret = fb_image_plan_runs(tree, plan, err);
	plan->dirty_bytes = plan->data_bytes;
	return ret;
}

int fb_image_plan_make(struct fb_tree *tree, uint64_t capacity,
		       struct fb_image_plan *plan, struct fb_err *err)
{
	int ret;

	memset(plan, 0, sizeof(*plan));
	ret = make_plan(tree, capacity, plan, err);
	if (ret)
		fb_image_plan_free(plan);
	return ret;
}

void fb_image_plan_free(struct fb_image_plan *plan)
{
	fb_erofs_layout_free(&plan->layout);
	free(plan->runs);
	memset(plan, 0, sizeof(*plan));
}
