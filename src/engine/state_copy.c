/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "engine/state.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/pool.h"
#include "base/util.h"
#include "engine/state_internal.h"

#define PIECE_MAX   (4 * FB_MIB) /* a piece of work: a whole number of huge pages */
#define BUFFER_SIZE FB_MIB

struct piece {
	uint32_t inode;
	uint64_t offset, length;
};

struct copy {
	struct fb_state_scan *scan;
	struct fb_state_restore *restore;
	struct piece *pieces; /* owned */
	size_t count, capacity;
	uint64_t total;
};

/* ---- what there is to do ----------------------------------------------------- */

static int add_extent(struct copy *c, uint32_t inode, const struct fb_extent *x)
{
	for (uint64_t at = 0; at < x->length;) {
		uint64_t offset = x->offset + at;
		uint64_t length = PIECE_MAX - offset % PIECE_MAX;

		if (length > x->length - at)
			length = x->length - at;
		if (fb_array_grow(&c->pieces, &c->capacity, c->count + 1,
				  sizeof(*c->pieces)))
			return -ENOMEM;
		c->pieces[c->count++] = (struct piece){ inode, offset, length };
		c->total += length;
		at += length;
	}
	return 0;
}

static int add_files(struct copy *c)
{
	const struct fb_tree *tree = &c->scan->tree;
	int rc = 0;

	for (uint32_t i = 0; i < tree->inode_count && !rc; i++) {
		const struct fb_inode *inode = &tree->inodes[i];

		if (!S_ISREG(inode->mode) || !fb_state_made(c->restore, i))
			continue;
		for (size_t e = 0; e < inode->extent_count && !rc; e++)
			rc = add_extent(c, i, &inode->extents[e]);
	}
	return rc;
}

/* ---- doing it ------------------------------------------------------------------ */

/* -ESTALE: the file ends before. */
static int move_bytes(int from, int to, const struct piece *p, char *buffer)
{
	for (uint64_t at = 0; at < p->length;) {
		uint64_t left = p->length - at;
		size_t want = left < BUFFER_SIZE ? (size_t)left : BUFFER_SIZE;
		ssize_t n = pread(from, buffer, want, (off_t)(p->offset + at));
		ssize_t put = 0;

		if (n <= 0)
			return n ? -errno : -ESTALE;
		while (put < n) {
			ssize_t m = pwrite(to, buffer + put, (size_t)(n - put),
					   (off_t)(p->offset + at) + put);

			if (m < 0)
				return -errno;
			put += m;
		}
		at += (uint64_t)n;
	}
	return 0;
}

static int copy_piece(struct copy *c, const struct piece *p, char *buffer,
		      struct fb_err *err)
{
	fb_autoclose int from = fb_state_open(c->scan, p->inode, err);
	fb_autoclose int to = -1;
	fb_autofree char *path = NULL;
	int rc;

	if (from < 0)
		return from;
	to = fb_state_fill_open(c->restore, p->inode, err);
	if (to < 0)
		return to;
	rc = move_bytes(from, to, p, buffer);
	if (!rc)
		return 0;
	path = fb_tree_path(&c->scan->tree, p->inode);
	return fb_state_fail(err, -rc, "copy", NULL, path ? path : "?");
}

static int run_piece(void *context, size_t piece, void *own, struct fb_err *err)
{
	struct copy *c = context;

	return copy_piece(c, &c->pieces[piece], own, err);
}

static uint64_t piece_size(void *context, size_t piece)
{
	return ((const struct copy *)context)->pieces[piece].length;
}

int fb_state_copy(struct fb_state_scan *scan, struct fb_state_restore *restore,
		  unsigned int threads, const struct fb_progress *progress,
		  struct fb_err *err)
{
	struct copy c = { .scan = scan, .restore = restore };
	int rc = add_files(&c);
	const struct fb_pool pool = {
		.pieces = c.count,
		.run = run_piece,
		.context = &c,
		.own_bytes = BUFFER_SIZE,
		.threads = threads,
		.progress = progress,
		.size = piece_size,
		.total = c.total,
	};

	rc = rc ? fb_err_set(err, -rc, "out of memory") : fb_pool_run(&pool, err);
	free(c.pieces);
	return rc;
}
