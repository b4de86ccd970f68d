/* SPDX-License-Identifier: GPL-2.0-or-later */
/* status - the region, its mode, what is in use, and the image in it. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "cmd/inplace.h"
#include "cmd/lazystatus.h"
#include "engine/hotplug.h"
#include "engine/region.h"
#include "format/header.h"
#include "machine/kexec_method.h"
#include "machine/kpage.h"
#include "machine/store.h"

struct image_status {
	bool known; /* the region is raw and could be read */
	enum fb_header_kind kind;
	struct fb_header header;     /* FB_HEADER_VALID */
	char error[FB_ERR_TEXT_MAX]; /* why it could not be read or is not valid */
	uint64_t age_usec;	     /* 0 unknown */
};

struct status {
	struct fb_region region;
	struct fb_hotplug_facts facts;
	struct image_status image;
	struct fb_lazystatus restore;
	struct fb_inplace place;
};

/* ---- reading --------------------------------------------------------- */

static uint64_t age_of(uint64_t wall_usec)
{
	struct timespec t;
	uint64_t now;

	clock_gettime(CLOCK_REALTIME, &t);
	now = (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
	return wall_usec && now > wall_usec ? now - wall_usec : 0;
}

static void decode(struct image_status *image, const uint8_t *block, uint64_t size)
{
	struct fb_err why = FB_ERR_INIT;

	image->known = true;
	image->kind = fb_header_classify(block);
	if (image->kind == FB_HEADER_NONE || image->kind == FB_HEADER_OPEN)
		return;
	if (fb_header_decode(block, size, &image->header, &why)) {
		if (image->kind == FB_HEADER_VALID)
			image->kind = FB_HEADER_TORN;
		strcpy(image->error, why.text);
		return;
	}
	image->age_usec = age_of(image->header.origin.wall_usec);
}

/* A status never fails because of the image: it says why there is nothing to say. */
static void read_image(const struct fb_context *ctx, const struct fb_region *region,
		       struct image_status *image)
{
	struct fb_err why = FB_ERR_INIT;
	struct fb_store store;
	char path[PATH_MAX];
	void *block;

	memset(image, 0, sizeof(*image));
	if (!fb_sys_live(&ctx->sys) ||
	    fb_region_device(region, path, sizeof(path), NULL) ||
	    posix_memalign(&block, FB_STORE_BLOCK, FB_STORE_BLOCK))
		return;
	if (fb_store_open_block(path, false, &store, &why)) {
		strcpy(image->error, why.text);
	} else {
		if (store.ops->read(&store, block, FB_STORE_BLOCK, 0, &why))
			strcpy(image->error, why.text);
		else
			decode(image, block, store.size);
		fb_store_close(&store);
	}
	free(block);
}

static int read_status(const struct fb_context *ctx, struct status *s,
		       struct fb_err *err)
{
	const struct fb_config *c = &ctx->config;
	int rc = fb_region_find(&ctx->sys, c->region_set ? &c->region : NULL,
				&s->region, err);

	if (!rc)
		rc = fb_hotplug_read(&ctx->sys, &s->region, &s->facts, err);
	if (!rc)
		read_image(ctx, &s->region, &s->image);
	return rc;
}

/* ---- words for it ---------------------------------------------------- */

static const char *use_text(const struct fb_region *r)
{
	if (r->hotadded.size)
		return !strcmp(r->dax_driver, "kmem") ? "hot-added" : "stuck";
	switch (r->mode) {
	case FB_NS_NONE:
		return "drivers not loaded";
	case FB_NS_RAW:
		return "free for an image";
	case FB_NS_DEVDAX:
		return "devdax, not hot-added";
	case FB_NS_FSDAX:
	case FB_NS_SECTOR:
		break;
	}
	return "used by something else";
}

static const char *image_text(const struct image_status *image)
{
	if (!image->known)
		return image->error[0] ? "unreadable" : "none";
	switch (image->kind) {
	case FB_HEADER_NONE:
	case FB_HEADER_OPEN:
		return "none";
	case FB_HEADER_NEWER:
		return "newer";
	case FB_HEADER_TORN:
		return "damaged";
	case FB_HEADER_VALID:
		break;
	}
	return image->header.consumed ? "consumed" : "present";
}

/* "3 s", "5 min", "2 h", "4 days": one unit is enough for an age. */
static void age_text(uint64_t usec, char *text, size_t size)
{
	uint64_t s = usec / 1000000;

	if (s < 120)
		snprintf(text, size, "%" PRIu64 " s", s);
	else if (s < 7200)
		snprintf(text, size, "%" PRIu64 " min", s / 60);
	else if (s < 172800)
		snprintf(text, size, "%" PRIu64 " h", s / 3600);
	else
		snprintf(text, size, "%" PRIu64 " days", s / 86400);
}

/* ---- text ------------------------------------------------------------ */

static void say_region(const struct fb_context *ctx, const struct fb_region *r)
{
	char size[FB_SIZE_TEXT_MAX], range[FB_RANGE_TEXT_MAX];

	fb_say(ctx, "region     %s, %s, from %s", fb_size_text(r->range.size, size),
	       fb_range_text(r->range, range), fb_region_origin_text(r->origin));
	fb_say(ctx, "namespace  %s%s%s%s%s", r->ns[0] ? r->ns : "none",
	       r->ns[0] ? ", " : "", r->ns[0] ? fb_namespace_mode_text(r->mode) : "",
	       r->block[0] ? ", /dev/"
	       : r->dax[0] ? ", "
			   : "",
	       r->block[0] ? r->block : r->dax);
	fb_say(ctx, "use        %s", use_text(r));
}

static void say_blocks(const struct fb_context *ctx, const struct fb_hotplug_facts *f)
{
	char size[FB_SIZE_TEXT_MAX], used[FB_SIZE_TEXT_MAX], text[FB_MEMBLK_TEXT_MAX];
	size_t good = 0;

	if (!f->blocks.count)
		return;
	for (size_t i = 0; i < f->blocks.count; i++)
		good += f->blocks.blocks[i].state == FB_BLK_ONLINE &&
			f->blocks.blocks[i].movable;
	fb_say(ctx, "memory     %s, %zu of %zu blocks online and movable%s%s",
	       fb_size_text(f->region.hotadded.size, size), good, f->blocks.count,
	       f->usage.known ? ", in use: " : "",
	       f->usage.known ? fb_size_text(f->usage.used, used) : "");
	for (size_t i = 0; i < f->blocks.count; i++) {
		const struct fb_memblk *b = &f->blocks.blocks[i];

		if (b->state != FB_BLK_ONLINE || !b->movable)
			fb_say(ctx, "           block %" PRIu64 ": %s", b->number,
			       fb_memblk_text(b, text));
	}
}

static void say_image(const struct fb_context *ctx, const struct image_status *image)
{
	const struct fb_origin *o = &image->header.origin;
	char size[FB_SIZE_TEXT_MAX], age[32];

	if (image->error[0]) {
		fb_say(ctx, "image      %s: %s", image_text(image), image->error);
		return;
	}
	if (!image->known || image->kind != FB_HEADER_VALID) {
		fb_say(ctx, "image      %s", image_text(image));
		return;
	}
	age_text(image->age_usec, age, sizeof(age));
	fb_say(ctx, "image      %s, %s, generation %" PRIu64 ", %s old, by %s (%s)",
	       image_text(image), fb_size_text(image->header.image_length, size),
	       o->generation, image->age_usec ? age : "unknown time", o->hostname,
	       o->release);
}

/* ---- JSON ------------------------------------------------------------ */

static void add_string(struct json_object *to, const char *key, const char *text)
{
	json_object_object_add(to, key, text[0] ? json_object_new_string(text) : NULL);
}

static struct json_object *region_json(const struct fb_region *r)
{
	struct json_object *o = json_object_new_object();

	fb_json_number(o, "start", r->range.start);
	fb_json_number(o, "bytes", r->range.size);
	add_string(o, "origin", fb_region_origin_text(r->origin));
	add_string(o, "mode", fb_namespace_mode_text(r->mode));
	add_string(o, "use", use_text(r));
	add_string(o, "nd_region", r->nd_region);
	add_string(o, "namespace", r->ns);
	add_string(o, "block_device", r->block);
	add_string(o, "dax", r->dax);
	add_string(o, "dax_driver", r->dax_driver);
	fb_json_number(o, "hotadded_bytes", r->hotadded.size);
	json_object_object_add(o, "node", json_object_new_int(r->node));
	return o;
}

static struct json_object *block_json(const struct fb_memblk *b)
{
	struct json_object *o = json_object_new_object();

	fb_json_number(o, "number", b->number);
	fb_json_number(o, "start", b->range.start);
	fb_json_number(o, "bytes", b->range.size);
	add_string(o, "state", fb_memblk_state_text(b->state));
	add_string(o, "zones", b->zones);
	if (b->usage_known)
		fb_json_number(o, "used_bytes", b->used_pages * fb_kpage_size());
	return o;
}

static struct json_object *image_json(const struct image_status *image)
{
	struct json_object *o = json_object_new_object();
	const struct fb_header *h = &image->header;

	add_string(o, "state", image_text(image));
	if (image->error[0])
		add_string(o, "error", image->error);
	if (!image->known || image->error[0] || image->kind != FB_HEADER_VALID)
		return o;
	fb_json_number(o, "bytes", h->image_length);
	fb_json_number(o, "generation", h->origin.generation);
	fb_json_number(o, "written_usec", h->origin.wall_usec);
	fb_json_number(o, "age_usec", image->age_usec);
	add_string(o, "hostname", h->origin.hostname);
	add_string(o, "release", h->origin.release);
	return o;
}

/* ---- by which call the next kernel would be loaded --------------------- */

/* The choice's name, or NULL, and why. */
static const char *read_method(const struct fb_context *ctx, char why[FB_ERR_TEXT_MAX])
{
	struct fb_kexec_choice choice;
	struct fb_kexec_facts facts;
	struct fb_err err = FB_ERR_INIT;
	int rc;

	fb_kexec_facts_read(&ctx->sys, &facts);
	rc = fb_kexec_choose(&facts, ctx->config.method, &choice, &err);
	snprintf(why, FB_ERR_TEXT_MAX, "%s", rc ? err.text : choice.why);
	return rc ? NULL : fb_kexec_method_text(choice.method);
}

static void say_method(const struct fb_context *ctx)
{
	char why[FB_ERR_TEXT_MAX];
	const char *method = read_method(ctx, why);

	fb_say(ctx, "kexec      by %s: %s", method ? method : "no call", why);
}

static struct json_object *method_json(const struct fb_context *ctx)
{
	struct json_object *o = json_object_new_object();
	char why[FB_ERR_TEXT_MAX];
	const char *method = read_method(ctx, why);

	add_string(o, "method", method ? method : "");
	add_string(o, "why", why);
	return o;
}

static void add_restore(struct json_object *to, const struct status *s)
{
	if (s->restore.state != FB_LAZY_NONE)
		json_object_object_add(to, "restore", fb_lazystatus_json(&s->restore));
	if (s->place.there)
		json_object_object_add(to, "inplace", fb_inplace_json(&s->place));
}

static void print_json(const struct fb_context *ctx, const struct status *s)
{
	struct json_object *o = json_object_new_object();
	struct json_object *blocks = json_object_new_array();

	for (size_t i = 0; i < s->facts.blocks.count; i++)
		json_object_array_add(blocks, block_json(&s->facts.blocks.blocks[i]));
	json_object_object_add(o, "region", region_json(&s->region));
	fb_json_number(o, "block_bytes", s->facts.blocks.block_size);
	json_object_object_add(o, "blocks", blocks);
	if (s->facts.usage.known)
		fb_json_number(o, "used_bytes", s->facts.usage.used);
	json_object_object_add(o, "image", image_json(&s->image));
	json_object_object_add(o, "kexec", method_json(ctx));
	add_restore(o, s);
	fb_json_print(o);
}

static bool is_news(const struct status *s)
{
	return s->restore.state == FB_LAZY_FILLING ||
	       s->restore.state == FB_LAZY_STOPPED ||
	       s->restore.state == FB_LAZY_DAMAGED || s->place.there;
}

/* From a file, on a machine without a region. */
static int print_restore_only(const struct fb_context *ctx, const struct status *s)
{
	struct json_object *o;

	fb_lazystatus_say(ctx, &s->restore);
	fb_inplace_say(ctx, &s->place);
	if (!ctx->json)
		return 0;
	o = json_object_new_object();
	add_restore(o, s);
	fb_json_print(o);
	return 0;
}

static void print_status(const struct fb_context *ctx, const struct status *s)
{
	if (ctx->json) {
		print_json(ctx, s);
		return;
	}
	say_region(ctx, &s->region);
	say_blocks(ctx, &s->facts);
	say_image(ctx, &s->image);
	say_method(ctx);
	fb_lazystatus_say(ctx, &s->restore);
	fb_inplace_say(ctx, &s->place);
}

static int run(const struct fb_context *ctx, int argc, char **argv, struct fb_err *err)
{
	struct status s;
	int rc = 0;

	if (argc > 1)
		return fb_usage(err, "status takes no option or operand, not '%s'",
				argv[1]);
	memset(&s, 0, sizeof(s));
	if (fb_sys_live(&ctx->sys)) {
		fb_lazystatus_read(&s.restore);
		rc = fb_inplace_read(&s.place, err);
	}
	if (!rc)
		rc = read_status(ctx, &s, err);
	if (!rc)
		print_status(ctx, &s);
	else if (is_news(&s))
		rc = print_restore_only(ctx, &s);
	fb_lazystatus_free(&s.restore);
	fb_inplace_free(&s.place);
	fb_hotplug_facts_free(&s.facts);
	return rc;
}

const struct fb_command fb_cmd_status = {
	.name = "status",
	.arguments = "",
	.summary = "show the region, its mode, what is in use, and the image in it",
	.help = "",
	.run = run,
};
