/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "cmd/unpack.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "engine/state.h"
#include "machine/clock.h"

struct work {
	const struct fb_image *image;
	struct fb_state_restore *restore;
	struct fb_unpack_result *result;
	struct fb_bar *bar;
};

int fb_unpack_damaged(const struct fb_image *image, uint32_t inode, const char *why,
		      const char *consequence, struct fb_unpack_result *result,
		      struct fb_err *err)
{
	fb_autofree char *path = fb_tree_path(&image->tree, inode);
	char *text = path ? fb_escape(path, strlen(path)) : NULL;
	char **grown = reallocarray(result->damaged, result->damaged_count + 1,
				    sizeof(*grown));

	if (grown)
		result->damaged = grown;
	if (!text || !grown) {
		free(text);
		return fb_err_set(err, ENOMEM, "out of memory");
	}
	result->damaged[result->damaged_count++] = text;
	fprintf(stderr, "fastboot: '%s' is damaged%s: %s\n", text, consequence, why);
	return 0;
}

static bool sink_wanted(void *context, uint32_t inode)
{
	const struct work *w = context;

	return fb_state_made(w->restore, inode);
}

static int sink_open(void *context, uint32_t inode, struct fb_err *err)
{
	struct work *w = context;

	return fb_state_fill_open(w->restore, inode, err);
}

static int sink_filled(void *context, uint32_t inode, int fd, struct fb_err *err)
{
	struct work *w = context;

	return fb_state_filled(w->restore, inode, fd, err);
}

static int sink_damaged(void *context, uint32_t inode, const char *why,
			struct fb_err *err)
{
	struct work *w = context;
	int rc;

	fb_bar_end(w->bar);
	rc = fb_state_withhold(w->restore, inode, err);
	return rc ? rc
		  : fb_unpack_damaged(w->image, inode, why, " and is withheld",
				      w->result, err);
}

static int fill(const struct fb_context *ctx, struct work *w, const char *label,
		struct fb_err *err)
{
	const struct fb_image_sink sink = {
		.wanted = sink_wanted,
		.open = sink_open,
		.damaged = sink_damaged,
		.filled = sink_filled,
		.context = w,
	};
	struct fb_bar bar;
	struct fb_progress progress = fb_bar_start(&bar, ctx, label, true);
	int rc;

	w->bar = &bar;
	rc = fb_image_read_data(w->image, &sink, 0, &progress, NULL, err);
	fb_bar_end(&bar);
	return rc;
}

static int finish(const struct fb_context *ctx, struct fb_state_restore *restore,
		  struct fb_err *err)
{
	struct fb_bar bar;
	struct fb_progress progress =
		fb_bar_start(&bar, ctx, "owners, modes, times", false);
	int rc = fb_state_finish(restore, &progress, err);

	fb_bar_end(&bar);
	return rc;
}

static void count_made(const struct fb_image *image,
		       const struct fb_state_restore *restore,
		       struct fb_unpack_result *result)
{
	struct fb_tree_totals t = { 0, 0, 0, 0 };

	for (uint32_t i = 0; i < image->tree.inode_count; i++) {
		const struct fb_inode *inode = &image->tree.inodes[i];

		if (!fb_state_made(restore, i))
			continue;
		if (S_ISDIR(inode->mode))
			t.directories++;
		else if (S_ISREG(inode->mode))
			t.files++;
		else
			t.others++;
		for (size_t e = 0; e < inode->extent_count; e++)
			t.data_bytes += inode->extents[e].length;
	}
	result->totals = t;
	result->totals.files -= result->damaged_count;
}

/* Everything between making the tree and the point where it is whole. */
static int complete(const struct fb_context *ctx, struct work *w, const char *label,
		    struct fb_err *err)
{
	uint64_t started = fb_clock_usec(), copied;
	int rc = fill(ctx, w, label, err);

	copied = fb_clock_usec();
	w->result->copy_usec = copied - started;
	if (!rc)
		rc = finish(ctx, w->restore, err);
	w->result->finish_usec = fb_clock_usec() - copied;
	if (!rc)
		rc = fb_interrupted(err);
	return rc;
}

/* Which files have one run of data: each is opened once to be filled. */
static uint8_t *with_one_run(const struct fb_image *image)
{
	uint8_t *runs = calloc(image->tree.inode_count, 1);

	for (size_t i = 0; runs && i < image->run_count; i++)
		if (runs[image->runs[i].inode] < 2)
			runs[image->runs[i].inode]++;
	for (size_t i = 0; runs && i < image->tree.inode_count; i++)
		runs[i] = runs[i] == 1;
	return runs;
}

int fb_unpack(const struct fb_context *ctx, const struct fb_image *image,
	      const char *under, const uint32_t *roots, size_t count, const char *label,
	      struct fb_unpack_result *result, struct fb_err *err)
{
	struct work w = { .image = image, .result = result };
	fb_autofree uint8_t *late = with_one_run(image);
	uint64_t started = fb_clock_usec();
	int rc;

	memset(result, 0, sizeof(*result));
	if (!late)
		return fb_err_set(err, ENOMEM, "out of memory");
	rc = fb_state_create_late(&image->tree, under, roots, count, late, &w.restore,
				  err);
	if (rc)
		return rc;
	result->create_usec = fb_clock_usec() - started;
	rc = complete(ctx, &w, label, err);
	if (rc) {
		rc = fb_interruption(rc, err);
		fb_state_undo(w.restore, err);
	} else {
		count_made(image, w.restore, result);
	}
	fb_state_restore_free(w.restore);
	return rc;
}

void fb_unpack_result_free(struct fb_unpack_result *result)
{
	for (size_t i = 0; i < result->damaged_count; i++)
		free(result->damaged[i]);
	free(result->damaged);
	result->damaged = NULL;
	result->damaged_count = 0;
}

static uint64_t total_usec(const struct fb_unpack_result *result)
{
	return result->create_usec + result->copy_usec + result->finish_usec;
}

char *fb_unpack_text(const struct fb_unpack_result *result)
{
	char bytes[FB_SIZE_TEXT_MAX], rate[FB_SIZE_TEXT_MAX];
	double seconds = (double)total_usec(result) / 1e6;
	double speed = seconds > 0 ? (double)result->totals.data_bytes / seconds : 0;

	return fb_asprintf("%llu files, %llu directories and %llu others, %s in %.3f s "
			   "(%s/s)",
			   (unsigned long long)result->totals.files,
			   (unsigned long long)result->totals.directories,
			   (unsigned long long)result->totals.others,
			   fb_size_text(result->totals.data_bytes, bytes), seconds,
			   fb_size_text((uint64_t)speed, rate));
}

void fb_unpack_json(const struct fb_unpack_result *result, struct json_object *to)
{
	struct json_object *damaged = json_object_new_array();

	fb_json_number(to, "files", result->totals.files);
	fb_json_number(to, "directories", result->totals.directories);
	fb_json_number(to, "others", result->totals.others);
	fb_json_number(to, "data_bytes", result->totals.data_bytes);
	fb_json_number(to, "create_usec", result->create_usec);
	fb_json_number(to, "copy_usec", result->copy_usec);
	fb_json_number(to, "finish_usec", result->finish_usec);
	for (size_t i = 0; i < result->damaged_count; i++)
		json_object_array_add(damaged,
				      json_object_new_string(result->damaged[i]));
	json_object_object_add(to, "damaged", damaged);
}
