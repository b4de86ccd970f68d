/* SPDX-License-Identifier: GPL-2.0-or-later */
/* image - look at an image, in the region or in a file. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "cmd/regionstore.h"
#include "cmd/unpack.h"
#include "engine/image.h"

struct options {
	const char *verb;
	const char *file; /* NULL: the region */
	const char *to;
	char **paths; /* operands behind --to */
	int path_count;
};

struct verb {
	const char *name;
	int (*run)(const struct fb_context *ctx, const struct fb_image *image,
		   const struct options *o, struct fb_err *err);
};

/* ---- show ----------------------------------------------------------------------- */

static uint64_t age_seconds(uint64_t wall_usec)
{
	uint64_t now = (uint64_t)time(NULL), then = wall_usec / 1000000;

	return now > then ? now - then : 0;
}

static void time_text(uint64_t wall_usec, char *text, size_t size)
{
	time_t t = (time_t)(wall_usec / 1000000);
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(text, size, "%Y-%m-%d %H:%M:%S UTC", &tm))
		snprintf(text, size, "?");
}

static void say_states(const struct fb_context *ctx, const struct fb_tree *tree)
{
	for (size_t i = 0; i < tree->state_count; i++) {
		const struct fb_tree_state *s = &tree->states[i];
		fb_autofree char *name = fb_escape(s->name, strlen(s->name));
		fb_autofree char *path = fb_escape(s->path, strlen(s->path));
		bool named = strcmp(s->name, s->path) != 0;

		fb_say(ctx, "%-11s %s%s%s%s%s", i ? "" : "states", path ? path : "?",
		       named ? " [" : "", named && name ? name : "", named ? "]" : "",
		       s->flags & FB_STATE_WAS_MOUNT ? ", was a mount point" : "");
	}
}

static void show_text(const struct fb_context *ctx, const struct fb_image *image)
{
	const struct fb_origin *origin = &image->header.origin;
	char size[FB_SIZE_TEXT_MAX], room[FB_SIZE_TEXT_MAX], when[64];
	char boot[FB_UUID_TEXT_SIZE];
	struct fb_tree_totals t;

	fb_tree_count(&image->tree, &t);
	time_text(origin->wall_usec, when, sizeof(when));
	fb_uuid_text(origin->boot_id, boot);
	fb_say(ctx, "%-11s %s", "image in", image->store->name);
	fb_say(ctx, "%-11s %s", "status",
	       image->header.consumed ? "committed, already restored"
				      : "committed, not restored yet");
	fb_say(ctx, "%-11s %" PRIu64, "generation", origin->generation);
	fb_say(ctx, "%-11s %s, %" PRIu64 " s ago", "written", when,
	       age_seconds(origin->wall_usec));
	fb_say(ctx, "%-11s %s, Linux %s (%s), boot %s", "by", origin->hostname,
	       origin->release, origin->machine, boot);
	fb_say(ctx, "%-11s %s of %s", "size",
	       fb_size_text(image->header.image_length, size),
	       fb_size_text(image->store->size, room));
	fb_say(ctx,
	       "%-11s %" PRIu64 " files, %" PRIu64 " directories, %" PRIu64
	       " others, %s of data",
	       "contents", t.files, t.directories, t.others,
	       fb_size_text(t.data_bytes, size));
	say_states(ctx, &image->tree);
}

static void put_text(struct json_object *to, const char *key, const char *text)
{
	fb_autofree char *escaped = fb_escape(text, strlen(text));

	json_object_object_add(to, key, json_object_new_string(escaped ? escaped : ""));
}

static void put_number(struct json_object *to, const char *key, uint64_t value)
{
	json_object_object_add(to, key, json_object_new_uint64(value));
}

static struct json_object *states_json(const struct fb_tree *tree)
{
	struct json_object *states = json_object_new_array();

	for (size_t i = 0; i < tree->state_count; i++) {
		const struct fb_tree_state *s = &tree->states[i];
		struct json_object *o = json_object_new_object();

		put_text(o, "name", s->name);
		put_text(o, "path", s->path);
		json_object_object_add(
			o, "was_mount",
			json_object_new_boolean(!!(s->flags & FB_STATE_WAS_MOUNT)));
		json_object_array_add(states, o);
	}
	return states;
}

static void show_json(const struct fb_image *image)
{
	const struct fb_origin *origin = &image->header.origin;
	struct json_object *o = json_object_new_object();
	struct fb_tree_totals t;
	char boot[FB_UUID_TEXT_SIZE];

	fb_tree_count(&image->tree, &t);
	fb_uuid_text(origin->boot_id, boot);
	put_text(o, "image", image->store->name);
	json_object_object_add(o, "consumed",
			       json_object_new_boolean(image->header.consumed));
	put_number(o, "generation", origin->generation);
	put_number(o, "written_usec", origin->wall_usec);
	put_text(o, "hostname", origin->hostname);
	put_text(o, "release", origin->release);
	put_text(o, "machine", origin->machine);
	put_text(o, "boot_id", boot);
	put_number(o, "image_bytes", image->header.image_length);
	put_number(o, "store_bytes", image->store->size);
	put_number(o, "files", t.files);
	put_number(o, "directories", t.directories);
	put_number(o, "others", t.others);
	put_number(o, "data_bytes", t.data_bytes);
	json_object_object_add(o, "states", states_json(&image->tree));
	fb_json_print(o);
}

static int show(const struct fb_context *ctx, const struct fb_image *image,
		const struct options *o, struct fb_err *err)
{
	(void)o, (void)err;
	if (ctx->json)
		show_json(image);
	else
		show_text(ctx, image);
	return 0;
}

/* ---- list ------------------------------------------------------------------------ */

static const char *type_text(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "link";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "character";
	case S_IFBLK:
		return "block";
	default:
		return "file";
	}
}

/* "-rwsr-xr-x" as ls writes it. */
static void mode_text(mode_t mode, char text[11])
{
	static const struct {
		mode_t bit, execute;
		size_t at;
		char set, unset;
	} special[] = { { S_ISUID, S_IXUSR, 3, 's', 'S' },
			{ S_ISGID, S_IXGRP, 6, 's', 'S' },
			{ S_ISVTX, S_IXOTH, 9, 't', 'T' } };
	static const char letters[] = "rwxrwxrwx";
	char type = type_text(mode)[0];

	text[0] = type == 'f' ? (S_ISFIFO(mode) ? 'p' : '-') : type;
	for (size_t i = 0; i < 9; i++)
		text[1 + i] = mode & (0400u >> i) ? letters[i] : '-';
	for (size_t i = 0; i < FB_ARRAY_SIZE(special); i++)
		if (mode & special[i].bit)
			text[special[i].at] = mode & special[i].execute
						      ? special[i].set
						      : special[i].unset;
	text[10] = '\0';
}

static void list_line(const struct fb_inode *inode, const char *path)
{
	char mode[11], size[32], when[32] = "?";
	time_t t = (time_t)inode->mtime_sec;
	struct tm tm;

	mode_text(inode->mode, mode);
	if (S_ISCHR(inode->mode) || S_ISBLK(inode->mode))
		snprintf(size, sizeof(size), "%u,%u", major(inode->rdev),
			 minor(inode->rdev));
	else
		snprintf(size, sizeof(size), "%" PRIu64, inode->size);
	if (gmtime_r(&t, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%s %3u %u/%u %12s %s %s", mode, inode->nlink, inode->uid, inode->gid,
	       size, when, path);
	if (S_ISLNK(inode->mode)) {
		fb_autofree char *target =
			fb_escape(inode->target, strlen(inode->target));

		printf(" -> %s", target ? target : "?");
	}
	putchar('\n');
}

static struct json_object *list_object(const struct fb_inode *inode, uint32_t number,
				       const char *path)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "path", json_object_new_string(path));
	json_object_object_add(o, "type",
			       json_object_new_string(type_text(inode->mode)));
	put_number(o, "inode", number);
	put_number(o, "mode", inode->mode & 07777);
	put_number(o, "uid", inode->uid);
	put_number(o, "gid", inode->gid);
	put_number(o, "links", inode->nlink);
	put_number(o, "size", inode->size);
	json_object_object_add(o, "mtime_sec", json_object_new_int64(inode->mtime_sec));
	put_number(o, "mtime_nsec", inode->mtime_nsec);
	put_number(o, "xattrs", inode->xattr_count);
	if (S_ISLNK(inode->mode))
		put_text(o, "target", inode->target);
	if (S_ISCHR(inode->mode) || S_ISBLK(inode->mode)) {
		put_number(o, "major", major(inode->rdev));
		put_number(o, "minor", minor(inode->rdev));
	}
	return o;
}

static void list_one(const struct fb_tree *tree, uint32_t inode, const char *path,
		     struct json_object *array)
{
	fb_autofree char *text = fb_escape(path, strlen(path));

	if (array)
		json_object_array_add(array, list_object(&tree->inodes[inode], inode,
							 text ? text : "?"));
	else
		list_line(&tree->inodes[inode], text ? text : "?");
}

/* A directory that is being listed. */
struct level {
	uint32_t inode, next;
	size_t length; /* of its path */
};

/* Every name, a directory's before what it holds; names are in byte order. */
static int list_tree(const struct fb_tree *tree, struct json_object *array)
{
	fb_autofree struct level *stack = calloc(tree->inode_count, sizeof(*stack));
	fb_autofree char *path = NULL;
	size_t depth = 1, capacity = 0;

	if (!stack || fb_array_grow(&path, &capacity, 1, 1))
		return -ENOMEM;
	while (depth) {
		struct level *top = &stack[depth - 1];
		const struct fb_inode *dir = &tree->inodes[top->inode];
		const struct fb_dirent *entry;
		size_t length;

		if (top->next == dir->entry_count) {
			depth--;
			continue;
		}
		entry = &dir->entries[top->next++];
		length = top->length + 1 + strlen(entry->name);
		if (fb_array_grow(&path, &capacity, length + 1, 1))
			return -ENOMEM;
		path[top->length] = '/';
		strcpy(path + top->length + 1, entry->name);
		list_one(tree, entry->inode, path, array);
		if (S_ISDIR(tree->inodes[entry->inode].mode) &&
		    depth < tree->inode_count)
			stack[depth++] = (struct level){ entry->inode, 0, length };
	}
	return 0;
}

static int list(const struct fb_context *ctx, const struct fb_image *image,
		const struct options *o, struct fb_err *err)
{
	struct json_object *array = ctx->json ? json_object_new_array() : NULL;
	int rc = list_tree(&image->tree, array);

	(void)o;
	if (array)
		fb_json_print(array);
	return rc ? fb_err_set(err, -rc, "out of memory") : 0;
}

/* ---- verify ------------------------------------------------------------------------
 */

struct verification {
	const struct fb_image *image;
	struct fb_bar bar;
	struct fb_unpack_result found;
};

static int note_damaged(void *context, uint32_t inode, const char *why,
			struct fb_err *err)
{
	struct verification *v = context;

	fb_bar_end(&v->bar);
	return fb_unpack_damaged(v->image, inode, why, "", &v->found, err);
}

static void report_verification(const struct fb_context *ctx,
				const struct verification *v)
{
	struct json_object *o, *damaged;

	if (!v->found.damaged_count)
		fb_say(ctx, "%s: every byte is as it was written",
		       v->image->store->name);
	if (!ctx->json)
		return;
	o = json_object_new_object();
	damaged = json_object_new_array();
	for (size_t i = 0; i < v->found.damaged_count; i++)
		json_object_array_add(damaged,
				      json_object_new_string(v->found.damaged[i]));
	put_text(o, "image", v->image->store->name);
	json_object_object_add(o, "damaged", damaged);
	fb_json_print(o);
}

static int verify(const struct fb_context *ctx, const struct fb_image *image,
		  const struct options *o, struct fb_err *err)
{
	struct verification v = { .image = image };
	struct fb_progress progress = fb_bar_start(&v.bar, ctx, "verifying", true);
	int rc = fb_image_verify(image, note_damaged, &v, 0, &progress, err);

	(void)o;
	fb_bar_end(&v.bar);
	rc = fb_interruption(rc, err);
	if (!rc || v.found.damaged_count)
		report_verification(ctx, &v);
	if (rc == -EBADMSG)
		err->status = FB_EXIT_NO_IMAGE;
	fb_unpack_result_free(&v.found);
	return rc;
}

/* ---- extract ------------------------------------------------------------------------
 */

/* Is `inode` the same as `above`, or below it? */
static bool is_below(const struct fb_tree *tree, uint32_t inode, uint32_t above)
{
	while (inode && inode != above)
		inode = tree->inodes[inode].parent;
	return inode == above;
}

/* Drop what another root brings along anyway. */
static size_t drop_nested(const struct fb_tree *tree, uint32_t *roots, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		bool nested = false;

		for (size_t k = 0; k < count && !nested; k++)
			nested = roots[k] == roots[i]
					 ? k < i
					 : is_below(tree, roots[i], roots[k]);
		if (!nested)
			roots[kept++] = roots[i];
	}
	return kept;
}

static int find_roots(const struct fb_tree *tree, const struct options *o,
		      uint32_t *roots, size_t *count, struct fb_err *err)
{
	*count = o->path_count ? (size_t)o->path_count : tree->state_count;
	for (size_t i = 0; i < *count; i++) {
		if (!o->path_count) {
			roots[i] = tree->states[i].inode;
			continue;
		}
		roots[i] = fb_tree_lookup(tree, o->paths[i]);
		if (roots[i] == FB_INODE_NONE)
			return fb_err_set(err, ENOENT, "the image has no '%s'",
					  o->paths[i]);
	}
	/* In place, and stable: comparing with what was dropped is right too. */
	*count = drop_nested(tree, roots, *count);
	return 0;
}

static void report_extraction(const struct fb_context *ctx, const struct options *o,
			      const struct fb_unpack_result *result)
{
	fb_autofree char *text = fb_unpack_text(result);
	struct json_object *object;

	fb_say(ctx, "extracted to %s: %s", o->to, text ? text : "");
	if (!ctx->json)
		return;
	object = json_object_new_object();
	put_text(object, "to", o->to);
	fb_unpack_json(result, object);
	fb_json_print(object);
}

static int extract(const struct fb_context *ctx, const struct fb_image *image,
		   const struct options *o, struct fb_err *err)
{
	size_t count = (size_t)o->path_count + image->tree.state_count;
	fb_autofree uint32_t *roots = calloc(count + 1, sizeof(*roots));
	struct fb_unpack_result result;
	int rc = roots ? find_roots(&image->tree, o, roots, &count, err)
		       : fb_err_set(err, ENOMEM, "out of memory");

	if (rc)
		return rc;
	if (ctx->dry_run) {
		fb_say(ctx, "would extract %zu directories or files to %s", count,
		       o->to);
		return 0;
	}
	rc = fb_unpack(ctx, image, o->to, roots, count, "extracting", &result, err);
	if (!rc)
		report_extraction(ctx, o, &result);
	if (!rc && result.damaged_count)
		rc = fb_err_exit(err, FB_EXIT_UNDO, EBADMSG,
				 "%zu damaged files were withheld, the rest is in %s",
				 result.damaged_count, o->to);
	fb_unpack_result_free(&result);
	return rc;
}

/* ---- the command
 * ---------------------------------------------------------------------- */

static const struct verb verbs[] = {
	{ "show", show },
	{ "list", list },
	{ "verify", verify },
	{ "extract", extract },
};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; name && i < FB_ARRAY_SIZE(verbs); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

/* An operand: the verb, then FILE, and behind --to the paths in the image. */
static int take_operand(struct options *o, char *operand, struct fb_err *err)
{
	if (!o->verb)
		o->verb = operand;
	else if (o->to)
		o->paths[o->path_count++] = operand;
	else if (!o->file)
		o->file = operand;
	else
		return fb_usage(err,
				"'%s': one FILE is enough; what to extract is "
				"named behind --to DIR",
				operand);
	return 0;
}

static int parse(int argc, char **argv, struct options *o, struct fb_err *err)
{
	static const struct option options[] = {
		{ "to", required_argument, NULL, 't' },
		{ NULL, 0, NULL, 0 },
	};
	int c, rc = 0;

	opterr = 0;
	/* "-": operands come in their place, as option 1. */
	while (!rc && (c = getopt_long(argc, argv, "-:", options, NULL)) != -1) {
		if (c == 1)
			rc = take_operand(o, optarg, err);
		else if (c == 't')
			o->to = optarg;
		else
			rc = fb_usage_option(err, argv, c);
	}
	for (; !rc && optind < argc; optind++)
		rc = take_operand(o, argv[optind], err);
	return rc;
}

static int check_options(const struct options *o, struct fb_err *err)
{
	bool extracts = o->verb && !strcmp(o->verb, "extract");

	if (!find_verb(o->verb))
		return fb_usage(err, "image %s: one of show, list, verify, extract",
				o->verb ? o->verb : "what?");
	if (extracts && !o->to)
		return fb_usage(err, "image extract needs --to DIR");
	if (!extracts && o->to)
		return fb_usage(err, "--to is for image extract");
	return 0;
}

static int with_image(const struct fb_context *ctx, const struct options *o,
		      struct fb_err *err)
{
	struct fb_store store = { .fd = -1 };
	struct fb_image image;
	int rc = fb_regionstore_open_image(ctx, o->file, false, &store, err);

	if (rc)
		return rc;
	rc = fb_image_open(&store, &image, err);
	if (!rc) {
		rc = find_verb(o->verb)->run(ctx, &image, o, err);
		fb_image_close(&image);
	}
	fb_store_close(&store);
	return rc;
}

static int run(const struct fb_context *ctx, int argc, char **argv, struct fb_err *err)
{
	fb_autofree char **paths = calloc((size_t)argc, sizeof(*paths));
	struct options o = { .paths = paths };
	int rc;

	if (!paths)
		return fb_err_set(err, ENOMEM, "out of memory");
	rc = parse(argc, argv, &o, err);
	if (!rc)
		rc = check_options(&o, err);
	return rc ? rc : with_image(ctx, &o, err);
}

const struct fb_command fb_cmd_image = {
	.name = "image",
	.arguments = "show|list|verify|extract [FILE] [--to DIR [PATH…]]",
	.summary = "look at an image, in the region or in FILE",
	.help = "  show                its header\n"
		"  list                every name in it, as tar -tv\n"
		"  verify              read all of it, name the files that are "
		"damaged\n"
		"  extract --to DIR    write it below DIR, which is made or empty; "
		"with\n"
		"                      PATH only what is there, as list prints it\n",
	.run = run,
};
