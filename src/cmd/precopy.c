/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "cmd/precopy.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"

/* No round after this many; none for less than this. */
#define ROUNDS_MAX 8u
#define ROUND_MIN  (4 * FB_MIB)

/* ---- one look at the state ---------------------------------------------------- */

/* A tree that may take the place of the last one. */
struct look {
	struct fb_save save;
	fb_lease *lease;
	bool *clean;
	/* while it is planned */
	const struct fb_precopy *last;
	struct fb_state_index *index; /* of the last */
};

static void look_free(struct look *look)
{
	fb_image_plan_free(&look->save.plan);
	fb_state_scan_free(&look->save.scan);
	free(look->lease);
	free(look->clean);
	free(look->index);
}

static int look_scan(const struct fb_precopy *p, struct look *look, struct fb_err *err)
{
	const struct fb_precopy_options *o = &p->options;
	size_t n;
	int rc = fb_state_scan_again(o->dirs->dirs, o->dirs->count, look->index,
				     o->scanning, &look->save.scan, err);

	if (rc)
		return rc;
	n = look->save.scan.tree.inode_count;
	look->lease = calloc(n, sizeof(*look->lease));
	look->clean = calloc(n, sizeof(*look->clean));
	if (!look->lease || !look->clean)
		return fb_err_set(err, ENOMEM, "out of memory");
	fb_tree_count(&look->save.scan.tree, &look->save.totals);
	return 0;
}

/* Held now, so held since before the last copy: fb_lease_take() precedes it. */
static uint32_t find_older(void *context, uint32_t inode, bool *clean)
{
	struct look *look = context;
	const struct fb_precopy *last = look->last;
	uint32_t old = fb_state_index_find(look->index, &look->save.scan, inode);

	if (old == FB_INODE_NONE || !fb_lease_held(last->leases, last->lease[old]))
		return old;
	look->lease[inode] = last->lease[old];
	*clean = look->clean[inode] = true;
	return old;
}

/* The state as it is now, placed around what was copied. */
static int look_again(const struct fb_precopy *p, struct look *look, struct fb_err *err)
{
	const struct fb_image_match match = { find_older, look };
	int rc = fb_state_index_make(&p->save.scan, &look->index, err);

	look->last = p;
	if (!rc)
		rc = look_scan(p, look, err);
	if (!rc)
		rc = fb_image_replan(&p->save.scan.tree, &p->save.plan,
				     &look->save.scan.tree, &match,
				     p->options.store->size, &look->save.plan, err);
	return rc;
}

/* ---- leases ----------------------------------------------------------------------- */

static bool has_data(const struct fb_precopy *p, uint32_t inode)
{
	return p->save.scan.tree.inodes[inode].extent_count;
}

/*
 * Not for what is clean: its copy is older than a lease that is taken now, and
 * the old lease may have been broken since it was looked at.
 */
static int take_leases(struct fb_precopy *p, struct fb_err *err)
{
	const struct fb_progress *progress = p->options.scanning;
	int rc = 0;

	for (uint32_t i = 0; i < p->save.scan.tree.inode_count && !rc; i++) {
		fb_autoclose int fd = -1;

		if (!has_data(p, i) || p->clean[i])
			continue;
		fd = fb_state_open(&p->save.scan, i, NULL);
		if (fd >= 0)
			p->lease[i] = fb_lease_take(p->leases, fd);
		if (progress)
			rc = progress->report(progress->context, i, 0);
	}
	fb_leases_limit_restore(p->leases);
	return rc ? fb_err_set(err, -rc, "interrupted") : 0;
}

/* Files that are gone, or are to be copied again, keep no memory in use. */
static void drop_leases(struct fb_precopy *p, const struct look *next)
{
	fb_autofree struct fb_state_index *index = NULL;

	if (fb_state_index_make(&next->save.scan, &index, NULL))
		return;
	for (uint32_t i = 0; i < p->save.scan.tree.inode_count; i++) {
		uint32_t now = fb_state_index_find(index, &p->save.scan, i);

		if (now == FB_INODE_NONE || next->lease[now] != p->lease[i])
			fb_lease_drop(p->leases, p->lease[i]);
	}
}

/* The look becomes the precopy's. */
static void adopt(struct fb_precopy *p, struct look *look)
{
	struct look last = { p->save, p->lease, p->clean, NULL, NULL };

	p->save = look->save;
	p->lease = look->lease;
	p->clean = look->clean;
	free(look->index);
	look_free(&last);
}

/* ---- while they run ------------------------------------------------------------------ */

static int copy(struct fb_precopy *p, bool live, struct fb_err *err)
{
	const struct fb_image_source source = { fb_state_open, &p->save.scan, live };

	return fb_image_copy(p->options.store, &p->save.scan.tree, &p->save.plan,
			     &source, p->options.threads, p->options.copying, err);
}

static int copy_live(struct fb_precopy *p, struct fb_err *err)
{
	int rc = take_leases(p, err);

	if (!rc)
		rc = copy(p, true, err);
	p->result.rounds++;
	p->result.ahead_bytes += p->save.plan.dirty_bytes;
	p->result.ahead_written += p->save.plan.written_bytes;
	return rc;
}

static int first_round(struct fb_precopy *p, struct fb_err *err)
{
	struct look look = { .save.scan = FB_STATE_SCAN_INIT };
	int rc = look_scan(p, &look, err);

	if (!rc)
		rc = fb_image_plan_make(&look.save.scan.tree, p->options.store->size,
					&look.save.plan, err);
	if (!rc)
		rc = fb_leases_start(&p->leases, look.save.totals.files, err);
	if (rc) {
		look_free(&look);
		return rc;
	}
	adopt(p, &look);
	rc = fb_image_begin(p->options.store, &p->generation, err);
	return rc ? rc : copy_live(p, err);
}

static bool pays(const struct fb_precopy *p, uint64_t dirty)
{
	uint64_t least = p->options.round_min ? p->options.round_min : ROUND_MIN;

	return dirty >= least && dirty <= p->save.plan.dirty_bytes / 2;
}

/* One more, if it pays; *more says whether it did. */
static int next_round(struct fb_precopy *p, bool *more, struct fb_err *err)
{
	struct look look = { .save.scan = FB_STATE_SCAN_INIT };
	int rc = look_again(p, &look, err);

	*more = !rc && pays(p, look.save.plan.dirty_bytes);
	if (!*more) {
		look_free(&look);
		return rc;
	}
	drop_leases(p, &look);
	adopt(p, &look);
	return copy_live(p, err);
}

int fb_precopy_run(const struct fb_precopy_options *options,
		   struct fb_precopy **precopy, struct fb_err *err)
{
	static const struct fb_state_scan empty = FB_STATE_SCAN_INIT;
	struct fb_precopy *p = calloc(1, sizeof(*p));
	bool more = true;
	int rc;

	*precopy = p;
	if (!p)
		return fb_err_set(err, ENOMEM, "out of memory");
	p->options = *options;
	p->save.scan = empty;
	rc = first_round(p, err);
	while (!rc && more && p->result.rounds < ROUNDS_MAX)
		rc = next_round(p, &more, err);
	return rc;
}

/* ---- when they have stopped ------------------------------------------------------------ */

int fb_precopy_rescan(struct fb_precopy *p, struct fb_err *err)
{
	struct look look = { .save.scan = FB_STATE_SCAN_INIT };
	int rc = look_again(p, &look, err);

	if (rc) {
		look_free(&look);
		return rc;
	}
	/* Leases that are of no more use wait for the end: dropping takes time. */
	adopt(p, &look);
	fb_leases_count(p->leases, &p->result.leases_held, &p->result.leases_broken);
	p->result.moved = p->save.plan.moved;
	p->result.compared_bytes = p->save.plan.dirty_bytes;
	p->result.clean_bytes = p->save.plan.data_bytes - p->save.plan.dirty_bytes;
	return 0;
}

static int check_leases(const struct fb_precopy *p, struct fb_err *err)
{
	for (uint32_t i = 0; i < p->save.scan.tree.inode_count; i++) {
		fb_autofree char *path = NULL, *text = NULL;

		if (!p->clean[i] || fb_lease_held(p->leases, p->lease[i]))
			continue;
		path = fb_tree_path(&p->save.scan.tree, i);
		text = path ? fb_escape(path, strlen(path)) : NULL;
		return fb_err_set(err, ESTALE,
				  "'%s' was opened for writing while it was saved: "
				  "stop what writes there, then save again",
				  text ? text : "?");
	}
	return 0;
}

int fb_precopy_complete(struct fb_precopy *p, struct fb_err *err)
{
	int rc = copy(p, false, err);

	p->result.written_bytes = p->save.plan.written_bytes;
	if (!rc)
		rc = fb_state_check_unchanged(&p->save.scan, err);
	return rc ? rc : check_leases(p, err);
}

void fb_precopy_free(struct fb_precopy *p)
{
	struct look look;

	if (!p)
		return;
	fb_leases_stop(p->leases);
	look = (struct look){ p->save, p->lease, p->clean, NULL, NULL };
	look_free(&look);
	free(p);
}
