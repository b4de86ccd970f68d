/* SPDX-License-Identifier: GPL-2.0-or-later */
/* save - write the state as an image into the region, or into a file. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "cmd/inplace.h"
#include "cmd/regionstore.h"
#include "cmd/save.h"

struct options {
	const char *to; /* NULL: the region */
	bool replace;
};

static int parse(int argc, char **argv, struct options *o, struct fb_err *err)
{
	static const struct option options[] = {
		{ "to", required_argument, NULL, 't' },
		{ "replace", no_argument, NULL, 'r' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (c) {
		case 't':
			o->to = optarg;
			break;
		case 'r':
			o->replace = true;
			break;
		default:
			return fb_usage_option(err, argv, c);
		}
	}
	return 0;
}

static void add_text(struct json_object *to, const char *key, const char *text)
{
	fb_autofree char *escaped = fb_escape(text, strlen(text));

	json_object_object_add(to, key, json_object_new_string(escaped ? escaped : ""));
}

static void add_states(struct json_object *to, const struct fb_tree *tree)
{
	struct json_object *states = json_object_new_array();

	for (size_t i = 0; i < tree->state_count; i++) {
		struct json_object *state = json_object_new_object();

		add_text(state, "name", tree->states[i].name);
		add_text(state, "path", tree->states[i].path);
		json_object_array_add(states, state);
	}
	json_object_object_add(to, "states", states);
}

/* `result` is NULL for a dry run. */
static void report_json(const char *target, const struct fb_save *save,
			const struct fb_save_result *result)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "dry_run", json_object_new_boolean(!result));
	add_text(o, "to", target);
	fb_json_number(o, "image_bytes", save->plan.size);
	fb_json_number(o, "data_bytes", save->plan.data_bytes);
	fb_json_number(o, "files", save->totals.files);
	fb_json_number(o, "directories", save->totals.directories);
	fb_json_number(o, "others", save->totals.others);
	if (result) {
		fb_json_number(o, "generation", result->generation);
		fb_json_number(o, "copy_usec", result->copy_usec);
		fb_json_number(o, "commit_usec", result->commit_usec);
	}
	add_states(o, &save->scan.tree);
	fb_json_print(o);
}

static void report_text(const struct fb_context *ctx, const char *target,
			const struct fb_save *save, const struct fb_save_result *result)
{
	char image[FB_SIZE_TEXT_MAX], rate[FB_SIZE_TEXT_MAX];
	unsigned long long files = save->totals.files, directories, others;
	uint64_t usec = result ? result->copy_usec + result->commit_usec : 0;

	directories = save->totals.directories;
	others = save->totals.others;
	fb_size_text(save->plan.size, image);
	if (!result) {
		fb_say(ctx,
		       "would save %llu files, %llu directories and %llu others to %s "
		       "(%s); nothing was changed",
		       files, directories, others, target, image);
		return;
	}
	fb_size_text(usec ? (uint64_t)((double)result->data_bytes * 1e6 / (double)usec)
			  : 0,
		     rate);
	fb_say(ctx,
	       "saved %llu files, %llu directories and %llu others to %s: %s in %.3f s "
	       "(%s/s), generation %llu",
	       files, directories, others, target, image, (double)usec / 1e6, rate,
	       (unsigned long long)result->generation);
}

static void report(const struct fb_context *ctx, const char *target,
		   const struct fb_save *save, const struct fb_save_result *result)
{
	if (ctx->json)
		report_json(target, save, result);
	else
		report_text(ctx, target, save, result);
}

static int write_file(const struct fb_context *ctx, const char *path,
		      struct fb_save *save, struct fb_save_result *result,
		      struct fb_err *err)
{
	struct fb_store store = { .fd = -1 };
	int rc = fb_store_create_file(path, save->plan.size, &store, err);

	if (rc)
		return rc;
	rc = fb_save_write(ctx, &store, save, NULL, result, err);
	if (!rc)
		rc = fb_store_commit_file(&store, err);
	fb_store_close(&store);
	return rc;
}

static int save_to_file(const struct fb_context *ctx, const struct fb_save_dirs *dirs,
			const char *path, struct fb_err *err)
{
	struct fb_save_result result;
	struct fb_save save;
	int rc = fb_save_prepare(ctx, dirs, UINT64_MAX, &save, err);

	if (rc)
		return rc;
	if (!ctx->dry_run)
		rc = write_file(ctx, path, &save, &result, err);
	if (!rc)
		report(ctx, path, &save, ctx->dry_run ? NULL : &result);
	fb_save_free(&save);
	return rc;
}

/* Everything that can be refused is, before the first write. */
static int save_to_store(const struct fb_context *ctx, const struct fb_save_dirs *dirs,
			 const struct fb_store *store, bool replace, struct fb_err *err)
{
	struct fb_save_result result;
	struct fb_save save;
	int rc = replace ? 0 : fb_save_replaceable(store, err);

	if (rc)
		return rc;
	rc = fb_save_prepare(ctx, dirs, store->size, &save, err);
	if (rc)
		return rc;
	if (!ctx->dry_run)
		rc = fb_save_write(ctx, store, &save, NULL, &result, err);
	if (!rc)
		report(ctx, store->name, &save, ctx->dry_run ? NULL : &result);
	fb_save_free(&save);
	return rc;
}

static int save_to_region(const struct fb_context *ctx, const struct fb_save_dirs *dirs,
			  bool replace, struct fb_err *err)
{
	struct fb_store store = { .fd = -1 };
	int rc = fb_require_live_root(ctx, err);

	if (!rc && !ctx->dry_run)
		rc = fb_lock(err);
	if (!rc)
		rc = fb_inplace_refuse(ctx, err);
	if (!rc)
		rc = fb_regionstore_open(ctx, !ctx->dry_run, NULL, &store, err);
	if (rc)
		return rc;
	rc = save_to_store(ctx, dirs, &store, replace, err);
	fb_store_close(&store);
	return rc;
}

static int run(const struct fb_context *ctx, int argc, char **argv, struct fb_err *err)
{
	struct fb_save_dirs dirs = { NULL, 0 };
	struct options o = { NULL, false };
	int rc = parse(argc, argv, &o, err);

	if (!rc && o.to && o.replace)
		rc = fb_usage(err, "--replace is for the region; --to FILE always "
				   "replaces FILE");
	if (!rc)
		rc = fb_save_dirs(ctx, argc - optind, argv + optind, &dirs, err);
	if (rc)
		return rc;
	rc = o.to ? save_to_file(ctx, &dirs, o.to, err)
		  : save_to_region(ctx, &dirs, o.replace, err);
	fb_save_dirs_free(&dirs);
	return rc;
}

const struct fb_command fb_cmd_save = {
	.name = "save",
	.arguments = "[--to FILE] [--replace] [DIR…]",
	.summary = "write the state as an image into the region",
	.help = "  DIR                 directories to save (the configured states)\n"
		"      --to FILE       into a file instead; it is replaced only by a\n"
		"                      whole image\n"
		"      --replace       also over an image that was not restored yet,\n"
		"                      or over a file system\n",
	.run = run,
};
