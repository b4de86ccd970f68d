/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "cmd/restore.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "cmd/hugepages.h"
#include "engine/timeline_file.h"

int fb_restore_check(const struct fb_image *image, struct fb_err *err)
{
	if (!image->header.consumed)
		return 0;
	return fb_err_exit(err, FB_EXIT_NO_IMAGE, EALREADY,
			   "the image in %s (generation %llu) was already restored; "
			   "`fastboot image extract` still reads it",
			   image->store->name,
			   (unsigned long long)image->header.origin.generation);
}

void fb_restore_found(const struct fb_image *image, struct fb_origin *mine)
{
	fb_timeline_stamp(mine, FB_PHASE_FOUND);
	fb_timeline_begin(FB_TIMELINE_PATH, &image->header, mine, NULL);
}

/* ---- which states ------------------------------------------------------------ */

static bool same_path(const char *operand, const char *path)
{
	size_t n = strlen(operand);

	while (n > 1 && operand[n - 1] == '/')
		n--;
	return strlen(path) == n && !strncmp(operand, path, n);
}

static int unknown_state(const struct fb_tree *tree, const char *operand,
			 struct fb_err *err)
{
	fb_err_set(err, ENOENT, "the image has no state '%s': it has", operand);
	for (size_t i = 0; i < tree->state_count; i++) {
		const char *path = tree->states[i].path;
		fb_autofree char *text = fb_escape(path, strlen(path));

		fb_err_append(err, "%s '%s'", i ? "," : "", text ? text : "?");
	}
	return -ENOENT;
}

static void add(struct fb_restore *job, size_t state)
{
	for (size_t i = 0; i < job->count; i++)
		if (job->states[i] == state)
			return;
	job->states[job->count] = state;
	job->inodes[job->count++] = job->image->tree.states[state].inode;
}

static int add_operand(struct fb_restore *job, const char *operand, struct fb_err *err)
{
	const struct fb_tree *tree = &job->image->tree;

	for (size_t i = 0; i < tree->state_count; i++)
		if (same_path(operand, tree->states[i].path)) {
			add(job, i);
			return 0;
		}
	return unknown_state(tree, operand, err);
}

int fb_restore_choose(struct fb_restore *job, char *const *dirs, size_t count,
		      struct fb_err *err)
{
	size_t states = job->image->tree.state_count;

	job->states = calloc(states + 1, sizeof(*job->states));
	job->inodes = calloc(states + 1, sizeof(*job->inodes));
	if (!job->states || !job->inodes)
		return fb_err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; !count && i < states; i++)
		add(job, i);
	for (size_t i = 0; i < count; i++) {
		int rc = add_operand(job, dirs[i], err);

		if (rc)
			return rc;
	}
	return 0;
}

void fb_restore_free(struct fb_restore *job)
{
	free(job->states);
	free(job->inodes);
	job->states = NULL;
	job->inodes = NULL;
	job->count = 0;
}

/* ---- the work -------------------------------------------------------------------- */

bool fb_restore_consumes(const struct fb_restore *job)
{
	return job->region && job->count == job->image->tree.state_count;
}

/* Only when everything is back where it was. */
static int consume(const struct fb_restore *job, struct fb_restore_result *result,
		   struct fb_err *err)
{
	size_t more = job->image->tree.state_count - job->count;

	if (job->region && more)
		fb_say(job->ctx, "the image is kept: it has %zu more states", more);
	if (!fb_restore_consumes(job))
		return 0;
	if (fb_image_mark_consumed(job->image->store, err)) {
		fb_err_prefix(err, "the state is restored, but its image could not be "
				   "marked as used");
		err->status = FB_EXIT_UNDO;
		return -err->error;
	}
	fb_timeline_append(FB_TIMELINE_PATH, FB_PHASE_CONSUMED);
	result->consumed = true;
	return 0;
}

int fb_restore_eager(const struct fb_restore *job, struct fb_restore_result *result,
		     struct fb_err *err)
{
	struct fb_hugepages huge = { NULL, 0 };
	int rc;

	if (!job->huge)
		fb_hugepages_enable(&job->image->tree, job->states, job->count, &huge);
	rc = fb_unpack(job->ctx, job->image, "/", job->inodes, job->count, "restoring",
		       &result->unpacked, err);
	fb_hugepages_end(&huge, rc != 0);
	result->consumed = false;
	if (!rc && job->region)
		fb_timeline_append(FB_TIMELINE_PATH, FB_PHASE_VISIBLE);
	if (!rc && !result->unpacked.damaged_count)
		rc = consume(job, result, err);
	return rc;
}

void fb_restore_result_free(struct fb_restore_result *result)
{
	fb_unpack_result_free(&result->unpacked);
}

int fb_restore_damaged(const struct fb_restore *job,
		       const struct fb_restore_result *result, struct fb_err *err)
{
	if (!result->unpacked.damaged_count)
		return 0;
	return fb_err_exit(err, FB_EXIT_UNDO, EBADMSG,
			   "%zu damaged files were withheld, the rest is restored; the "
			   "image in %s is kept: `fastboot image verify` names them "
			   "again, `fastboot save --replace` replaces it",
			   result->unpacked.damaged_count, job->image->store->name);
}
