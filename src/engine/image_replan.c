/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_replan - a newer tree around the data that was copied for an older
 * one. All in blocks: a file is cut into pieces, those that the older plan has
 * keep their place, the others go where nothing is kept.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "engine/image.h"
#include "engine/image_plan.h"

#define BLOCK ((uint64_t)FB_EROFS_BLOCK)

/* Blocks of a file that lie together. block 0: not placed yet. */
struct piece {
	uint32_t inode;
	bool kept;
	uint64_t file, block, blocks;
};

struct pieces {
	struct piece *list; /* by inode, then by place in the file */
	size_t count, capacity;
};

/* Blocks of the image. */
struct span {
	uint64_t block, blocks;
};

struct spans {
	struct span *list; /* ascending, apart */
	size_t count, capacity;
};

struct replan {
	const struct fb_tree *old_tree;
	const struct fb_image_plan *old;
	struct fb_tree *tree;
	uint32_t *from; /* the older inode of each, or FB_INODE_NONE */
	bool *clean;	/* of each: proven, and nothing of it moved */
	bool *claimed;	/* of each older inode */
	struct pieces pieces;
	struct spans kept, gaps;
	size_t gap;	/* the one that small pieces go to now */
	uint64_t end;	/* first block behind everything placed */
	uint64_t most;	/* blocks there are */
};

static int span_add(struct spans *s, uint64_t block, uint64_t end)
{
	if (block >= end)
		return 0;
	if (fb_array_grow(&s->list, &s->capacity, s->count + 1, sizeof(*s->list)))
		return -ENOMEM;
	s->list[s->count++] = (struct span){ block, end - block };
	return 0;
}

/* ---- cutting files into pieces ---------------------------------------------- */

static bool continues(const struct piece *a, const struct piece *b)
{
	return a->inode == b->inode && a->kept == b->kept &&
	       a->file + a->blocks == b->file &&
	       (a->block ? a->block + a->blocks == b->block : !b->block);
}

static int piece_add(struct pieces *p, struct piece piece)
{
	struct piece *last = p->count ? &p->list[p->count - 1] : NULL;

	if (last && continues(last, &piece)) {
		last->blocks += piece.blocks;
		return 0;
	}
	if (fb_array_grow(&p->list, &p->capacity, p->count + 1, sizeof(*p->list)))
		return -ENOMEM;
	p->list[p->count++] = piece;
	return 0;
}

/* Blocks at..end of a file; *k is the first older extent that may have some. */
static int cut_extent(struct replan *r, uint32_t inode, const struct fb_inode *old,
		      uint64_t at, uint64_t end, size_t *k)
{
	struct pieces *p = &r->pieces;
	int ret = 0;

	for (; old && *k < old->extent_count && at < end && !ret; ++*k) {
		const struct fb_extent *e = &old->extents[*k];
		uint64_t from = e->offset / BLOCK;
		uint64_t to = from + fb_image_blocks_of(e->length);

		if (from >= end)
			break;
		if (to <= at)
			continue;
		if (from > at) {
			ret = piece_add(p, (struct piece){ inode, false, at, 0,
							   from - at });
			at = from;
		}
		if (!ret)
			ret = piece_add(p, (struct piece){
					inode, true, at, e->block + (at - from),
					(to < end ? to : end) - at });
		at = to < end ? to : end;
		if (to > end)
			break;
	}
	if (!ret && at < end)
		ret = piece_add(p, (struct piece){ inode, false, at, 0, end - at });
	return ret;
}

static int cut_file(struct replan *r, uint32_t inode, const struct fb_inode *old)
{
	const struct fb_inode *in = &r->tree->inodes[inode];
	size_t k = 0;

	for (size_t i = 0; i < in->extent_count; i++) {
		const struct fb_extent *e = &in->extents[i];
		uint64_t at = e->offset / BLOCK;
		int ret = cut_extent(r, inode, old, at,
				     at + fb_image_blocks_of(e->length), &k);

		if (ret)
			return ret;
	}
	return 0;
}

/* Size and extents are what they were, so every run is the same. */
static bool same_extents(const struct replan *r, uint32_t inode, size_t first)
{
	const struct fb_inode *in = &r->tree->inodes[inode];
	const struct fb_inode *old = &r->old_tree->inodes[r->from[inode]];

	if (in->size != old->size || r->pieces.count - first != old->extent_count)
		return false;
	for (size_t i = 0; i < old->extent_count; i++) {
		const struct piece *p = &r->pieces.list[first + i];
		const struct fb_extent *e = &old->extents[i];

		if (!p->kept || p->file != e->offset / BLOCK || p->block != e->block ||
		    p->blocks != fb_image_blocks_of(e->length))
			return false;
	}
	return true;
}

/* A file in more pieces than this above its extents is placed anew. */
#define PIECES_MORE 64u

static int take_file(struct replan *r, const struct fb_image_match *match,
		     uint32_t inode)
{
	size_t first = r->pieces.count;
	bool clean = false;
	uint32_t old = match->find(match->context, inode, &clean);
	int ret;

	if (old >= r->old_tree->inode_count || r->claimed[old] ||
	    !S_ISREG(r->old_tree->inodes[old].mode))
		return cut_file(r, inode, NULL);
	r->claimed[old] = true;
	r->from[inode] = old;
	ret = cut_file(r, inode, &r->old_tree->inodes[old]);
	if (ret)
		return ret;
	r->clean[inode] = clean && same_extents(r, inode, first);
	if (r->pieces.count - first <=
	    r->tree->inodes[inode].extent_count + PIECES_MORE)
		return 0;
	r->pieces.count = first;
	r->clean[inode] = false;
	return cut_file(r, inode, NULL);
}

static int take_files(struct replan *r, const struct fb_image_match *match)
{
	for (uint32_t i = 0; i < r->tree->inode_count; i++) {
		int ret = 0;

		r->from[i] = FB_INODE_NONE;
		if (S_ISREG(r->tree->inodes[i].mode) &&
		    r->tree->inodes[i].extent_count)
			ret = take_file(r, match, i);
		if (ret)
			return ret;
	}
	return 0;
}

/* ---- what is free -------------------------------------------------------------- */

static int compare_spans(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->block < y->block ? -1 : x->block > y->block;
}

static int find_kept(struct replan *r)
{
	for (size_t i = 0; i < r->pieces.count; i++) {
		const struct piece *p = &r->pieces.list[i];

		if (p->kept && span_add(&r->kept, p->block, p->block + p->blocks))
			return -ENOMEM;
	}
	if (r->kept.count)
		qsort(r->kept.list, r->kept.count, sizeof(*r->kept.list),
		      compare_spans);
	return 0;
}

static int find_gaps(struct replan *r)
{
	r->gap = r->gaps.count = 0;
	r->end = FB_EROFS_FIRST_BLOCK;
	for (size_t i = 0; i < r->kept.count; i++) {
		const struct span *s = &r->kept.list[i];

		if (span_add(&r->gaps, r->end, s->block))
			return -ENOMEM;
		r->end = s->block + s->blocks;
	}
	return 0;
}

/* ---- placing in one piece -------------------------------------------------------- */

static void take_front(struct span *gap, uint64_t blocks)
{
	gap->block += blocks;
	gap->blocks -= blocks;
}

/* Right behind the piece before, so that a file that grows stays in one. */
static void place_behind(struct replan *r, const struct piece *before, struct piece *p)
{
	struct span key = { before->block + before->blocks, 0 }, *gap = NULL;

	if (key.block == r->end) {
		r->end += p->blocks;
		p->block = key.block;
		return;
	}
	if (r->gaps.count)
		gap = bsearch(&key, r->gaps.list, r->gaps.count, sizeof(key),
			      compare_spans);
	if (!gap || gap->blocks < p->blocks)
		return;
	p->block = gap->block;
	take_front(gap, p->blocks);
}

static void place_grown(struct replan *r)
{
	for (size_t i = 1; i < r->pieces.count; i++) {
		struct piece *p = &r->pieces.list[i], *before = p - 1;

		if (!p->block && before->block && before->inode == p->inode &&
		    before->file + before->blocks == p->file)
			place_behind(r, before, p);
	}
}

static uint64_t to_phase(uint64_t block, uint64_t file)
{
	return (file - block) % FB_IMAGE_HUGE_BLOCKS;
}

/* File offset and address agree in the 2 MiB, in a gap or at the end. */
static int place_large(struct replan *r, struct piece *p)
{
	uint64_t skip;

	for (size_t i = 0; i < r->gaps.count; i++) {
		struct span *gap = &r->gaps.list[i];

		/* What is skipped is lost, but only until the next plan. */
		skip = to_phase(gap->block, p->file);
		if (gap->blocks < skip + p->blocks)
			continue;
		p->block = gap->block + skip;
		take_front(gap, skip + p->blocks);
		return 0;
	}
	skip = to_phase(r->end, p->file);
	if (span_add(&r->gaps, r->end, r->end + skip))
		return -ENOMEM;
	p->block = r->end + skip;
	r->end = p->block + p->blocks;
	return 0;
}

/* A gap with less than this left is given up when something does not fit. */
#define GAP_REST 16u

static void place_small(struct replan *r, struct piece *p)
{
	struct span *list = r->gaps.list;

	while (r->gap < r->gaps.count && list[r->gap].blocks < p->blocks &&
	       list[r->gap].blocks < GAP_REST)
		r->gap++;
	if (r->gap < r->gaps.count && list[r->gap].blocks >= p->blocks) {
		p->block = list[r->gap].block;
		take_front(&list[r->gap], p->blocks);
		return;
	}
	p->block = r->end;
	r->end += p->blocks;
}

static int place_whole(struct replan *r)
{
	place_grown(r);
	for (int large = 1; large >= 0; large--) {
		for (size_t i = 0; i < r->pieces.count; i++) {
			struct piece *p = &r->pieces.list[i];

			if (p->block || (p->blocks >= FB_IMAGE_HUGE_BLOCKS) != large)
				continue;
			if (!large)
				place_small(r, p);
			else if (place_large(r, p))
				return -ENOMEM;
		}
	}
	return 0;
}

/* ---- placing wherever a block is free ---------------------------------------------- */

static int split_piece(struct replan *r, struct pieces *to, struct piece p)
{
	while (p.blocks) {
		struct span *gap =
			r->gap < r->gaps.count ? &r->gaps.list[r->gap] : NULL;
		struct piece part = p;

		part.block = gap ? gap->block : r->end;
		if (gap && gap->blocks < part.blocks)
			part.blocks = gap->blocks;
		if (gap)
			take_front(gap, part.blocks);
		else
			r->end += part.blocks;
		if (gap && !gap->blocks)
			r->gap++;
		if (part.blocks && piece_add(to, part))
			return -ENOMEM;
		p.file += part.blocks;
		p.blocks -= part.blocks;
	}
	return 0;
}

/* From the first gap on, in as many pieces as it takes. */
static int place_split(struct replan *r)
{
	struct pieces to = { NULL, 0, 0 };
	int ret = find_gaps(r);

	for (size_t i = 0; i < r->pieces.count && !ret; i++) {
		struct piece p = r->pieces.list[i];

		ret = p.kept ? piece_add(&to, p) : split_piece(r, &to, p);
	}
	free(r->pieces.list);
	r->pieces = to;
	return ret;
}

/* ---- from pieces to extents ------------------------------------------------------------ */

static bool same_extent(const struct piece *before, const struct piece *p)
{
	return before->file + before->blocks == p->file &&
	       before->block + before->blocks == p->block;
}

/* The pieces first..end - 1 of one file; at least one. */
static int set_extents(struct fb_inode *in, const struct piece *first,
		       const struct piece *end)
{
	struct fb_extent *list = calloc((size_t)(end - first), sizeof(*list));
	size_t n = 0;

	if (!list)
		return -ENOMEM;
	for (const struct piece *p = first; p < end; p++) {
		if (p > first && same_extent(p - 1, p))
			list[n - 1].length += p->blocks * BLOCK;
		else
			list[n++] = (struct fb_extent){ p->file * BLOCK,
							p->blocks * BLOCK, p->block };
	}
	/* Only the last one can end behind the file. */
	if (list[n - 1].offset + list[n - 1].length > in->size)
		list[n - 1].length = in->size - list[n - 1].offset;
	free(in->extents);
	in->extents = list;
	in->extent_count = n;
	return 0;
}

static int extents_from_pieces(struct replan *r)
{
	const struct piece *p = r->pieces.list, *end = p + r->pieces.count;

	while (p < end) {
		const struct piece *next = p;

		while (next < end && next->inode == p->inode)
			next++;
		if (set_extents(&r->tree->inodes[p->inode], p, next))
			return -ENOMEM;
		p = next;
	}
	return 0;
}

/* Extents that only the older plan had apart are one again. */
static void join_extents(struct fb_inode *in)
{
	size_t n = 0;

	for (size_t i = 0; i < in->extent_count; i++) {
		const struct fb_extent *e = &in->extents[i];
		struct fb_extent *last = n ? &in->extents[n - 1] : NULL;

		if (last && last->offset + last->length == e->offset)
			last->length += e->length;
		else
			in->extents[n++] = *e;
	}
	in->extent_count = n;
}

/* ---- what is to be done for each run ----------------------------------------------------- */

static int compare_runs(const void *a, const void *b)
{
	const struct fb_image_run *x = a, *y = b;

	return x->block < y->block ? -1 : x->block > y->block;
}

/* The older plan's copy of this very run, or NULL. */
static const struct fb_image_run *older_run(const struct replan *r,
					    const struct fb_image_run *run)
{
	const struct fb_image_run *old;

	if (!r->clean[run->inode] || !r->old->run_count)
		return NULL;
	old = bsearch(run, r->old->runs, r->old->run_count, sizeof(*run), compare_runs);
	if (!old || !old->ready || old->inode != r->from[run->inode] ||
	    old->offset != run->offset || old->length != run->length ||
	    old->blocks != run->blocks)
		return NULL;
	return old;
}

static bool has_kept(const struct replan *r, const struct fb_image_run *run, size_t *at)
{
	const struct spans *kept = &r->kept;

	while (*at < kept->count &&
	       kept->list[*at].block + kept->list[*at].blocks <= run->block)
		++*at;
	return *at < kept->count && kept->list[*at].block < run->block + run->blocks;
}

static void set_statuses(const struct replan *r, struct fb_image_plan *plan)
{
	size_t at = 0;

	plan->dirty_bytes = 0;
	for (size_t i = 0; i < plan->run_count; i++) {
		struct fb_image_run *run = &plan->runs[i];
		const struct fb_image_run *old = older_run(r, run);

		if (old) {
			memcpy(run->digest, old->digest, sizeof(run->digest));
			run->status = FB_RUN_CLEAN;
			run->ready = true;
			continue;
		}
		run->status = has_kept(r, run, &at) ? FB_RUN_COMPARE : FB_RUN_COPY;
		plan->dirty_bytes += run->blocks * BLOCK;
	}
}

/* ---- the plan ------------------------------------------------------------------------------ */

static int out_of_memory(struct fb_err *err)
{
	return fb_err_sys(err, ENOMEM, "plan");
}

/* With the pieces as they are placed: *fits, and then plan->size and meta_block. */
static int measure(struct replan *r, struct fb_image_plan *plan, bool *fits,
		   struct fb_err *err)
{
	uint64_t behind;
	int ret = extents_from_pieces(r);

	if (ret)
		return out_of_memory(err);
	fb_erofs_layout_free(&plan->layout);
	ret = fb_image_plan_measure(r->tree, plan, &behind, err);
	/* The map of a huge file in pieces; in one it may be small. */
	if (ret == -EFBIG) {
		*fits = false;
		return 0;
	}
	if (ret)
		return ret;
	*fits = r->end + behind <= r->most;
	plan->size = (r->end + behind) * BLOCK;
	plan->meta_block = (uint32_t)r->end;
	return 0;
}

static int place(struct replan *r, struct fb_image_plan *plan, bool *fits,
		 struct fb_err *err)
{
	int ret = find_gaps(r);

	plan->aligned = true;
	if (ret || place_whole(r))
		return out_of_memory(err);
	ret = measure(r, plan, fits, err);
	if (ret || *fits)
		return ret;
	plan->aligned = false;
	if (place_split(r))
		return out_of_memory(err);
	return measure(r, plan, fits, err);
}

/* Nothing is kept: as if for the first time. */
static int move_all(struct replan *r, uint64_t capacity, struct fb_image_plan *plan,
		    struct fb_err *err)
{
	int ret;

	for (size_t i = 0; i < r->tree->inode_count; i++)
		join_extents(&r->tree->inodes[i]);
	fb_image_plan_free(plan);
	ret = fb_image_plan_make(r->tree, capacity, plan, err);
	if (!ret)
		plan->moved = true;
	return ret;
}

static int replan_make(struct replan *r, const struct fb_image_match *match)
{
	size_t n = r->tree->inode_count, old = r->old_tree->inode_count;

	r->from = calloc(n + 1, sizeof(*r->from));
	r->clean = calloc(n + 1, sizeof(*r->clean));
	r->claimed = calloc(old + 1, sizeof(*r->claimed));
	if (!r->from || !r->clean || !r->claimed)
		return -ENOMEM;
	return take_files(r, match) || find_kept(r) ? -ENOMEM : 0;
}

static void replan_free(struct replan *r)
{
	free(r->from);
	free(r->clean);
	free(r->claimed);
	free(r->pieces.list);
	free(r->kept.list);
	free(r->gaps.list);
}

static int replan(struct replan *r, const struct fb_image_match *match,
		  uint64_t capacity, struct fb_image_plan *plan, struct fb_err *err)
{
	bool fits;
	int ret = fb_image_plan_fit(r->tree, err);

	if (ret)
		return ret;
	if (replan_make(r, match))
		return out_of_memory(err);
	ret = place(r, plan, &fits, err);
	if (ret)
		return ret;
	if (!fits)
		return move_all(r, capacity, plan, err);
	ret = fb_image_plan_runs(r->tree, plan, err);
	if (!ret)
		set_statuses(r, plan);
	return ret;
}

int fb_image_replan(const struct fb_tree *old_tree, const struct fb_image_plan *old,
		    struct fb_tree *tree, const struct fb_image_match *match,
		    uint64_t capacity, struct fb_image_plan *plan, struct fb_err *err)
{
	struct replan r = {
		.old_tree = old_tree,
		.old = old,
		.tree = tree,
		.most = fb_image_blocks_in(capacity),
	};
	int ret;

	memset(plan, 0, sizeof(*plan));
	ret = replan(&r, match, capacity, plan, err);
	replan_free(&r);
	if (ret)
		fb_image_plan_free(plan);
	return ret;
}
