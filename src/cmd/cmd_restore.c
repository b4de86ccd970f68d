/* SPDX-License-Identifier: GPL-2.0-or-later */
/* restore - give the state in an image back to its directories. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <string.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "cmd/lazyrestore.h"
#include "cmd/regionstore.h"
#include "cmd/unpack.h"
#include "engine/state.h"

struct options {
	const char *mode;
	const char *from; /* NULL: the region */
	int dir_count;
	char **dirs; /* none: all states */
};

/* Which of the image's states; inodes beside them for fb_unpack(). */
struct selection {
	size_t *states;	  /* indices, owned */
	uint32_t *inodes; /* owned */
	size_t count;
};

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
	o->dir_count = argc - optind;
	o->dirs = argv + optind;
	if (o->mode && strcmp(o->mode, "eager") && strcmp(o->mode, "lazy"))
		return fb_usage(err,
				"there is no restore mode '%s': only 'eager' and 'lazy'",
				o->mode);
	return 0;
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

static void add(const struct fb_tree *tree, struct selection *s, size_t state)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->states[i] == state)
			return;
	s->states[s->count] = state;
	s->inodes[s->count++] = tree->states[state].inode;
}

static int add_operand(const struct fb_tree *tree, struct selection *s,
		       const char *operand, struct fb_err *err)
{
	for (size_t i = 0; i < tree->state_count; i++)
		if (same_path(operand, tree->states[i].path)) {
			add(tree, s, i);
			return 0;
		}
	return unknown_state(tree, operand, err);
}

static int choose(const struct fb_tree *tree, const struct options *o,
		  struct selection *s, struct fb_err *err)
{
	s->states = calloc(tree->state_count + 1, sizeof(*s->states));
	s->inodes = calloc(tree->state_count + 1, sizeof(*s->inodes));
	if (!s->states || !s->inodes)
		return fb_err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; !o->dir_count && i < tree->state_count; i++)
		add(tree, s, i);
	for (int i = 0; i < o->dir_count; i++) {
		int rc = add_operand(tree, s, o->dirs[i], err);

		if (rc)
			return rc;
	}
	return 0;
}

static void warn_mounts(const struct fb_context *ctx, const struct fb_tree *tree,
			const struct selection *s)
{
	for (size_t i = 0; i < s->count; i++) {
		const struct fb_tree_state *state = &tree->states[s->states[i]];

		if ((state->flags & FB_STATE_WAS_MOUNT) &&
		    !fb_state_is_mount(state->path))
			fb_warn(ctx,
				"'%s' was a mount point when it was saved and is "
				"none now: it will lie in the file system above",
				state->path);
	}
}

/* ---- the report ---------------------------------------------------------------- */

static struct json_object *state_paths(const struct fb_tree *tree,
				       const struct selection *s)
{
	struct json_object *states = json_object_new_array();

	for (size_t i = 0; i < s->count; i++) {
		const char *path = tree->states[s->states[i]].path;
		fb_autofree char *text = fb_escape(path, strlen(path));

		json_object_array_add(states, json_object_new_string(text ? text : ""));
	}
	return states;
}

static void report(const struct fb_context *ctx, const struct fb_image *image,
		   const struct selection *s, const struct fb_unpack_result *result,
		   bool consumed)
{
	fb_autofree char *text = fb_unpack_text(result);
	struct json_object *o;

	fb_say(ctx, "restored %s", text ? text : "");
	if (!ctx->json)
		return;
	o = json_object_new_object();
	json_object_object_add(o, "from", json_object_new_string(image->store->name));
	json_object_object_add(o, "states", state_paths(&image->tree, s));
	json_object_object_add(o, "consumed", json_object_new_boolean(consumed));
	fb_unpack_json(result, o);
	fb_json_print(o);
}

static int report_dry_run(const struct fb_context *ctx, const struct fb_image *image,
			  const struct selection *s)
{
	struct json_object *o;

	for (size_t i = 0; i < s->count; i++)
		fb_say(ctx, "would restore '%s' from %s",
		       image->tree.states[s->states[i]].path, image->store->name);
	if (!ctx->json)
		return 0;
	o = json_object_new_object();
	json_object_object_add(o, "dry_run", json_object_new_boolean(true));
	json_object_object_add(o, "from", json_object_new_string(image->store->name));
	json_object_object_add(o, "states", state_paths(&image->tree, s));
	fb_json_print(o);
	return 0;
}

/* ---- the work -------------------------------------------------------------------- */

static int check_consumed(const struct fb_image *image, struct fb_err *err)
{
	if (!image->header.consumed)
		return 0;
	return fb_err_exit(err, FB_EXIT_NO_IMAGE, EALREADY,
			   "the image in %s (generation %llu) was already restored; "
			   "`fastboot image extract` still reads it",
			   image->store->name,
			   (unsigned long long)image->header.origin.generation);
}

static int damaged_error(const struct fb_image *image,
			 const struct fb_unpack_result *result, struct fb_err *err)
{
	return fb_err_exit(err, FB_EXIT_UNDO, EBADMSG,
			   "%zu damaged files were withheld, the rest is restored; the "
			   "image in %s is kept: `fastboot image verify` names them "
			   "again, `fastboot save --replace` replaces it",
			   result->damaged_count, image->store->name);
}

/* Only when everything is back where it was. */
static int consume(const struct fb_context *ctx, const struct fb_image *image,
		   const struct options *o, const struct selection *s, bool *consumed,
		   struct fb_err *err)
{
	if (o->from)
		return 0;
	if (s->count < image->tree.state_count) {
		fb_say(ctx, "the image is kept: it has %zu more states",
		       image->tree.state_count - s->count);
		return 0;
	}
	if (fb_image_mark_consumed(image->store, err)) {
		fb_err_prefix(err, "the state is restored, but its image could not be "
				   "marked as used");
		err->status = FB_EXIT_UNDO;
		return -err->error;
	}
	*consumed = true;
	return 0;
}

static int unpack(const struct fb_context *ctx, const struct fb_image *image,
		  const struct options *o, const struct selection *s,
		  struct fb_err *err)
{
	struct fb_unpack_result result;
	bool consumed = false;
	int rc = fb_unpack(ctx, image, "/", s->inodes, s->count, "restoring", &result,
			   err);

	if (!rc && !result.damaged_count)
		rc = consume(ctx, image, o, s, &consumed, err);
	if (!rc)
		report(ctx, image, s, &result, consumed);
	if (!rc && result.damaged_count)
		rc = damaged_error(image, &result, err);
	fb_unpack_result_free(&result);
	return rc;
}

static void report_lazy(const struct fb_context *ctx, const struct fb_image *image,
			const struct selection *s,
			const struct fb_lazyrestore_result *result)
{
	char bytes[FB_SIZE_TEXT_MAX];
	struct json_object *o;

	fb_say(ctx,
	       "%s after %.3f s; %s in %llu files are filled when they are opened, or "
	       "in the background (pid %d): `fastboot status`",
	       result->resumed ? "goes on" : "the tree stands",
	       (double)result->visible_usec / 1e6, fb_size_text(result->bytes, bytes),
	       (unsigned long long)result->files, result->pid);
	if (!ctx->json)
		return;
	o = json_object_new_object();
	json_object_object_add(o, "mode", json_object_new_string("lazy"));
	json_object_object_add(o, "from", json_object_new_string(image->store->name));
	json_object_object_add(o, "states", state_paths(&image->tree, s));
	json_object_object_add(o, "resumed", json_object_new_boolean(result->resumed));
	json_object_object_add(o, "pid", json_object_new_int(result->pid));
	json_object_object_add(o, "files_left", json_object_new_uint64(result->files));
	json_object_object_add(o, "bytes_left", json_object_new_uint64(result->bytes));
	json_object_object_add(o, "visible_usec",
			       json_object_new_uint64(result->visible_usec));
	fb_json_print(o);
}

static int stand(const struct fb_context *ctx, const struct fb_image *image,
		 const struct options *o, const struct selection *s,
		 struct fb_err *err)
{
	bool whole = s->count == image->tree.state_count;
	const struct fb_lazyrestore job = {
		.ctx = ctx,
		.image = image,
		.states = s->states,
		.inodes = s->inodes,
		.count = s->count,
		.locked = !o->from,
		.consume = !o->from && whole,
	};
	struct fb_lazyrestore_result result;
	int rc = fb_lazyrestore(&job, &result, err);

	if (!rc)
		report_lazy(ctx, image, s, &result);
	return rc;
}

static int restore_image(const struct fb_context *ctx, const struct fb_image *image,
			 const struct options *o, struct fb_err *err)
{
	struct selection s = { NULL, NULL, 0 };
	int rc = o->from ? 0 : check_consumed(image, err);

	if (!rc)
		rc = choose(&image->tree, o, &s, err);
	if (!rc && ctx->dry_run) {
		rc = report_dry_run(ctx, image, &s);
	} else if (!rc) {
		warn_mounts(ctx, &image->tree, &s);
		rc = o->mode && !strcmp(o->mode, "lazy") ? stand(ctx, image, o, &s, err)
							 : unpack(ctx, image, o, &s, err);
	}
	free(s.states);
	free(s.inodes);
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
	struct options o = { .mode = ctx->config.restore_mode };
	struct fb_store store = { .fd = -1 };
	int rc = parse(argc, argv, &o, err);

	if (!rc && !o.from)
		rc = fb_require_live_root(ctx, err);
	if (!rc && !o.from && !ctx->dry_run)
		rc = fb_lock(err);
	if (!rc)
		rc = fb_regionstore_open_image(ctx, o.from, !o.from && !ctx->dry_run,
					       &store, err);
	if (rc)
		return rc;
	rc = restore_store(ctx, &store, &o, err);
	fb_store_close(&store);
	return rc;
}

const struct fb_command fb_cmd_restore = {
	.name = "restore",
	.arguments = "[--mode eager|lazy] [--from FILE] [DIR…]",
	.summary = "give the state in the region back to its directories",
	.help = "  DIR                 only these of the image's states (all)\n"
		"      --mode eager    copy everything, then be done (the default)\n"
		"      --mode lazy     be done when the tree stands; fill a file when it is\n"
		"                      first opened, the others in the background (tmpfs)\n"
		"      --from FILE     an image in a file instead of the region\n",
	.run = run,
};
