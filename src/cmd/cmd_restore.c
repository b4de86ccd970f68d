/* SPDX-License-Identifier: GPL-2.0-or-later */
/* restore - give the state in an image back to its directories. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <string.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "cmd/inplace.h"
#include "cmd/lazyrestore.h"
#include "cmd/regionstore.h"
#include "cmd/restore.h"
#include "engine/state.h"
#include "engine/timeline.h"
#include "engine/timeline_file.h"
#include "machine/clock.h"

struct options {
	const char *mode;
	const char *from; /* NULL: the region */
	size_t dir_count;
	char **dirs; /* none: all states */
	struct fb_origin *stamps; /* those of this command */
};

static bool in_place(const struct options *o)
{
	return o->mode && !strcmp(o->mode, "inplace");
}

static int check_mode(const struct options *o, struct fb_err *err)
{
	if (o->mode && strcmp(o->mode, "eager") && strcmp(o->mode, "lazy") &&
	    !in_place(o))
		return fb_usage(err,
				"there is no restore mode '%s': only 'eager', 'lazy' "
				"and 'inplace'",
				o->mode);
	if (in_place(o) && o->dir_count)
		return fb_usage(err,
				"--mode inplace takes all states of the image, not only "
				"'%s'",
				o->dirs[0]);
	return 0;
}

static int parse(int argc, char **argv, struct options *o, struct fb_err *err)
{
	static const struct option options[] = {
		{ "mode", required_argument, NULL, 'm' },
		{ "from", required_argument, NULL, 'f' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (c) {
		case 'm':
			o->mode = optarg;
			break;
		case 'f':
			o->from = optarg;
			break;
		default:
			return fb_usage_option(err, argv, c);
		}
	}
	o->dir_count = (size_t)(argc - optind);
	o->dirs = argv + optind;
	return check_mode(o, err);
}

static void warn_mounts(const struct fb_restore *job)
{
	for (size_t i = 0; i < job->count; i++) {
		const struct fb_tree_state *state =
			&job->image->tree.states[job->states[i]];

		if ((state->flags & FB_STATE_WAS_MOUNT) &&
		    !fb_state_is_mount(state->path))
			fb_warn(job->ctx,
				"'%s' was a mount point when it was saved and is "
				"none now: it will lie in the file system above",
				state->path);
	}
}

/* ---- the report ---------------------------------------------------------------- */

static struct json_object *state_paths(const struct fb_restore *job)
{
	struct json_object *states = json_object_new_array();

	for (size_t i = 0; i < job->count; i++) {
		const char *path = job->image->tree.states[job->states[i]].path;
		fb_autofree char *text = fb_escape(path, strlen(path));

		json_object_array_add(states, json_object_new_string(text ? text : ""));
	}
	return states;
}

static void add_source(const struct fb_restore *job, struct json_object *o)
{
	json_object_object_add(o, "from",
			       json_object_new_string(job->image->store->name));
	json_object_object_add(o, "states", state_paths(job));
}

static void report(const struct fb_restore *job, const struct fb_restore_result *result)
{
	fb_autofree char *text = fb_unpack_text(&result->unpacked);
	struct json_object *o;

	fb_say(job->ctx, "restored %s", text ? text : "");
	if (!job->ctx->json)
		return;
	o = json_object_new_object();
	add_source(job, o);
	json_object_object_add(o, "consumed",
			       json_object_new_boolean(result->consumed));
	fb_unpack_json(&result->unpacked, o);
	fb_json_print(o);
}

static int report_dry_run(const struct fb_restore *job)
{
	const struct fb_image *image = job->image;
	struct json_object *o;

	for (size_t i = 0; i < job->count; i++)
		fb_say(job->ctx, "would restore '%s' from %s",
		       image->tree.states[job->states[i]].path, image->store->name);
	if (!job->ctx->json)
		return 0;
	o = json_object_new_object();
	json_object_object_add(o, "dry_run", json_object_new_boolean(true));
	add_source(job, o);
	fb_json_print(o);
	return 0;
}

static void report_lazy(const struct fb_restore *job,
			const struct fb_lazyrestore_result *result)
{
	char bytes[FB_SIZE_TEXT_MAX];
	struct json_object *o;

	fb_say(job->ctx,
	       "%s after %.3f s; %s in %llu files are filled when they are opened, or "
	       "in the background (pid %d): `fastboot status`",
	       result->resumed ? "goes on" : "the tree stands",
	       (double)result->visible_usec / 1e6, fb_size_text(result->bytes, bytes),
	       (unsigned long long)result->files, result->pid);
	if (!job->ctx->json)
		return;
	o = json_object_new_object();
	json_object_object_add(o, "mode", json_object_new_string("lazy"));
	add_source(job, o);
	json_object_object_add(o, "resumed", json_object_new_boolean(result->resumed));
	json_object_object_add(o, "pid", json_object_new_int(result->pid));
	json_object_object_add(o, "files_left", json_object_new_uint64(result->files));
	json_object_object_add(o, "bytes_left", json_object_new_uint64(result->bytes));
	json_object_object_add(o, "visible_usec",
			       json_object_new_uint64(result->visible_usec));
	fb_json_print(o);
}

static void report_inplace(const struct fb_restore *job, bool dax, uint64_t usec)
{
	struct json_object *o;

	fb_say(job->ctx,
	       "in place after %.3f s%s; `fastboot release` makes it an ordinary copy "
	       "and gives %s back",
	       (double)usec / 1e6, dax ? ", with DAX" : "", job->image->store->name);
	if (!job->ctx->json)
		return;
	o = json_object_new_object();
	json_object_object_add(o, "mode", json_object_new_string("inplace"));
	add_source(job, o);
	json_object_object_add(o, "consumed", json_object_new_boolean(job->region));
	json_object_object_add(o, "dax", json_object_new_boolean(dax));
	fb_json_number(o, "visible_usec", usec);
	fb_json_print(o);
}

/* ---- the work -------------------------------------------------------------------- */

static int eager(const struct fb_restore *job, struct fb_err *err)
{
	struct fb_restore_result result;
	int rc = fb_restore_eager(job, &result, err);

	if (!rc)
		report(job, &result);
	if (!rc)
		rc = fb_restore_damaged(job, &result, err);
	fb_restore_result_free(&result);
	return rc;
}

static int lazy(const struct fb_restore *job, struct fb_err *err)
{
	struct fb_lazyrestore_result result;
	int rc = fb_lazyrestore(job, &result, err);

	if (!rc)
		report_lazy(job, &result);
	return rc;
}

static int inplace(const struct fb_restore *job, struct fb_err *err)
{
	uint64_t started = fb_clock_usec();
	bool dax;
	int rc = fb_inplace_mount(job->ctx, job->image, job->region, &dax, err);

	if (!rc && job->region)
		fb_timeline_append(FB_TIMELINE_PATH, FB_PHASE_VISIBLE);
	if (!rc)
		report_inplace(job, dax, fb_clock_usec() - started);
	return rc;
}

static int work(const struct fb_restore *job, const struct options *o,
		struct fb_err *err)
{
	if (in_place(o))
		return inplace(job, err);
	return o->mode && !strcmp(o->mode, "lazy") ? lazy(job, err) : eager(job, err);
}

static int restore_image(const struct fb_context *ctx, const struct fb_image *image,
			 const struct options *o, struct fb_err *err)
{
	struct fb_restore job = { .ctx = ctx, .image = image, .region = !o->from };
	int rc = o->from ? 0 : fb_restore_check(image, err);

	if (!rc)
		rc = fb_restore_choose(&job, o->dirs, o->dir_count, err);
	if (!rc && ctx->dry_run) {
		rc = report_dry_run(&job);
	} else if (!rc) {
		if (job.region)
			fb_restore_found(image, o->stamps);
		warn_mounts(&job);
		rc = work(&job, o, err);
	}
	fb_restore_free(&job);
	return rc;
}

static int restore_store(const struct fb_context *ctx, const struct fb_store *store,
			 const struct options *o, struct fb_err *err)
{
	struct fb_image image;
	int rc = fb_image_open(store, &image, err);

	if (rc)
		return rc;
	rc = restore_image(ctx, &image, o, err);
	fb_image_close(&image);
	return rc;
}

static int run(const struct fb_context *ctx, int argc, char **argv, struct fb_err *err)
{
	struct fb_origin stamps = { .stamp_count = 0 };
	struct options o = { .mode = ctx->config.restore_mode, .stamps = &stamps };
	struct fb_store store = { .fd = -1 };
	int rc = parse(argc, argv, &o, err);

	fb_timeline_stamp(&stamps, FB_PHASE_RESTORING);
	if (!rc && !o.from)
		rc = fb_require_live_root(ctx, err);
	if (!rc && !o.from && !ctx->dry_run)
		rc = fb_lock(err);
	if (!rc && !o.from)
		rc = fb_inplace_refuse(ctx, err);
	/* What is to be mounted must not be held. */
	if (!rc)
		rc = fb_regionstore_open_image(
			ctx, o.from, !o.from && !ctx->dry_run && !in_place(&o), &store,
			err);
	if (rc)
		return rc;
	rc = restore_store(ctx, &store, &o, err);
	fb_store_close(&store);
	return rc;
}

const struct fb_command fb_cmd_restore = {
	.name = "restore",
	.arguments = "[--mode eager|lazy|inplace] [--from FILE] [DIR…]",
	.summary = "give the state in the region back to its directories",
	.help = "  DIR                 only these of the image's states (all)\n"
		"      --mode eager    copy everything, then be done (the default)\n"
		"      --mode lazy     be done when the tree stands; fill a file when it is\n"
		"                      first opened, the others in the background (tmpfs)\n"
		"      --mode inplace  mount the image itself until `fastboot release`\n"
		"      --from FILE     an image in a file instead of the region\n",
	.run = run,
};
