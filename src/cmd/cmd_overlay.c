/* SPDX-License-Identifier: GPL-2.0-or-later */
/* overlay - takes a region out of a device tree: the overlay, and the result. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "engine/carve.h"
#include "format/dtb.h"
#include "machine/file.h"
#include "machine/memblk.h"

/* The tree that this kernel was booted with (drivers/of/fdt.c, root only). */
#define RUNNING_TREE "/sys/firmware/fdt"

struct options {
	const char *base, *output, *apply, *dts;
	uint64_t size, at, block_size;
	bool at_set;
};

struct result {
	char *blob; /* the base; owned */
	size_t blob_size;
	char base[PATH_MAX]; /* its name, for messages */
	struct fb_dtb dtb;
	const struct fb_dtb_region *old; /* NULL: there is none */
	bool kept;			 /* and it is right as it is */
	struct fb_carve_request request;
	struct fb_carve carve;
	struct fb_dtb_overlay overlay;
};

enum { OPT_BLOCK = 256 };

static int parse_number(const char *text, uint64_t *value, struct fb_err *err)
{
	if (!fb_parse_size(text, value))
		return 0;
	return fb_usage(err,
			"'%s' is not a size or an address: write 2G, 2048M or "
			"0x80000000",
			text);
}

static int check_options(int argc, char **argv, const struct fb_context *ctx,
			 const struct options *o, struct fb_err *err)
{
	if (optind < argc)
		return fb_usage(err,
				"overlay takes no operand, not '%s'; the tree is given "
				"with --base",
				argv[optind]);
	if (!o->size)
		return fb_usage(err, "how large? say `fastboot overlay --size 2G`");
	if (!fb_is_power_of_2(o->block_size) || o->block_size < FB_CARVE_ALIGN)
		return fb_usage(err,
				"--block-size must be a power of two and at least 2 "
				"MiB, as in /sys/devices/system/memory/"
				"block_size_bytes");
	if (!o->output && !o->apply && !o->dts && !ctx->dry_run)
		return fb_usage(err, "where to? give -o FILE.dtbo, --apply FILE.dtb or "
				     "--dts FILE; --dry-run only chooses");
	return 0;
}

static int parse(int argc, char **argv, const struct fb_context *ctx, struct options *o,
		 struct fb_err *err)
{
	static const struct option options[] = {
		{ "base", required_argument, NULL, 'b' },
		{ "size", required_argument, NULL, 's' },
		{ "at", required_argument, NULL, 'a' },
		{ "output", required_argument, NULL, 'o' },
		{ "apply", required_argument, NULL, 'p' },
		{ "dts", required_argument, NULL, 'd' },
		{ "block-size", required_argument, NULL, OPT_BLOCK },
		{ NULL, 0, NULL, 0 },
	};
	int c, rc = 0;

	opterr = 0;
	while (!rc && (c = getopt_long(argc, argv, ":b:s:a:o:", options, NULL)) != -1) {
		if (c == 'b')
			o->base = optarg;
		else if (c == 'o')
			o->output = optarg;
		else if (c == 'p')
			o->apply = optarg;
		else if (c == 'd')
			o->dts = optarg;
		else if (c == 's')
			rc = parse_number(optarg, &o->size, err);
		else if (c == OPT_BLOCK)
			rc = parse_number(optarg, &o->block_size, err);
		else if (c == 'a')
			rc = parse_number(optarg, &o->at, err);
		else
			rc = fb_usage_option(err, argv, c);
		o->at_set |= c == 'a';
	}
	return rc ? rc : check_options(argc, argv, ctx, o, err);
}

/* ---- the tree -------------------------------------------------------------- */

static int read_base(const struct fb_context *ctx, const struct options *o,
		     struct result *r, struct fb_err *err)
{
	static const struct fb_sys here = { "" };
	const struct fb_sys *sys = o->base ? &here : &ctx->sys;
	int rc;

	snprintf(r->base, sizeof(r->base), "%s%s", sys->root,
		 o->base ? o->base : RUNNING_TREE);
	if (!o->base && !fb_sys_exists(sys, RUNNING_TREE))
		return fb_err_exit(err, FB_EXIT_IMPOSSIBLE, ENOENT,
				   "this machine was not booted with a device tree (no "
				   "%s): give a board's with --base; on x86-64 use "
				   "`fastboot plan`",
				   r->base);
	rc = fb_sys_read(sys, o->base ? o->base : RUNNING_TREE, &r->blob, &r->blob_size,
			 err);
	if (!rc) {
		rc = fb_dtb_parse(r->blob, r->blob_size, &r->dtb, err);
		if (rc)
			fb_err_prefix(err, "%s", r->base);
	}
	return rc;
}

/* Blocks are the running kernel's; a file says nothing about its kernel. */
static void choose_block_size(const struct fb_context *ctx, const struct options *o,
			      struct fb_carve_request *request)
{
	request->block_size = o->block_size;
	if (!o->base)
		fb_memblk_size(&ctx->sys, &request->block_size, NULL);
}

static int find_old(struct result *r, struct fb_err *err)
{
	if (r->dtb.region_count > 1) {
		fb_err_set(err, ENOTUNIQ, "%s has %zu regions already: leave one of ",
			   r->base, r->dtb.region_count);
		for (size_t i = 0; i < r->dtb.region_count; i++)
			fb_err_append(err, "%s/%s", i ? ", " : "",
				      r->dtb.regions[i].name);
		return -ENOTUNIQ;
	}
	r->old = r->dtb.region_count ? &r->dtb.regions[0] : NULL;
	return 0;
}

/*
 * A region that is in no bank was carved by a smaller `reg`: it is right if the
 * blocks in it are as many as asked for.
 */
static bool outside_is_right(struct result *r)
{
	return !fb_dtb_memory_of(&r->dtb, r->old->range) &&
	       fb_carve_fits(&r->request, r->old->range, &r->carve);
}

/* Is the region that is there what was asked for? Then it stays. */
static bool keep_old(const struct fb_iomem *iomem, struct result *r)
{
	struct fb_carve_request here = r->request;

	if (!r->old || (here.at_set && here.at != r->old->range.start))
		return false;
	here.at_set = true;
	here.at = r->old->range.start;
	if (!fb_carve_choose(iomem, &here, &r->carve, NULL))
		return fb_range_equal(r->carve.region, r->old->range);
	return outside_is_right(r);
}

static int choose(const struct fb_context *ctx, const struct options *o,
		  struct result *r, struct fb_err *err)
{
	struct fb_iomem iomem = { NULL, 0 };
	int rc = find_old(r, err);

	r->request.size = o->size;
	r->request.at = o->at;
	r->request.at_set = o->at_set;
	r->request.overhead = FB_CARVE_OVERHEAD_ARM64;
	choose_block_size(ctx, o, &r->request);
	if (!rc)
		rc = fb_dtb_iomem(&r->dtb, r->old, &iomem, err);
	if (rc)
		return rc;
	r->kept = keep_old(&iomem, r);
	if (!r->kept)
		rc = fb_carve_choose(&iomem, &r->request, &r->carve, err);
	fb_iomem_free(&iomem);
	return rc ? rc
		  : fb_dtb_overlay_make(&r->dtb, r->carve.region, r->old, &r->overlay,
					err);
}

/* ---- writing --------------------------------------------------------------- */

/* A node that has the region's name and is something else would spoil it. */
static int prove(const void *merged, size_t size, struct fb_range region,
		 struct fb_err *err)
{
	struct fb_dtb dtb;
	int rc = fb_dtb_parse(merged, size, &dtb, err);

	if (!rc) {
		rc = fb_dtb_carries(&dtb, region, false, err);
		fb_dtb_free(&dtb);
	}
	return rc ? fb_err_prefix(err, "with the overlay applied") : 0;
}

/* A tree, an overlay or a source that has a region, as an earlier run writes them. */
static bool has_region(const char *bytes, size_t size)
{
	static const char blob[] = { (char)0xd0, 0x0d, (char)0xfe, (char)0xed };
	static const char text[] = "/dts-v1/;\n/plugin/;";

	bool known = (size >= sizeof(blob) && !memcmp(bytes, blob, sizeof(blob))) ||
		     (size >= strlen(text) && !memcmp(bytes, text, strlen(text)));

	return known && memmem(bytes, size, "pmem-region", strlen("pmem-region"));
}

/* Nobody's tree is lost by a slip; what has no length is no loss. */
static int check_replace(const char *path, struct fb_err *err)
{
	static const struct fb_sys here = { "" };
	fb_autofree char *bytes = NULL;
	struct stat st;
	size_t size;
	int rc;

	if (!path || stat(path, &st) || !S_ISREG(st.st_mode))
		return 0;
	rc = fb_sys_read(&here, path, &bytes, &size, err);
	if (rc || !size || has_region(bytes, size))
		return rc;
	return fb_err_set(err, EEXIST,
			  "%s exists and is something else than an overlay or a tree "
			  "with a region: name another file",
			  path);
}

static int check_outputs(const struct options *o, struct fb_err *err)
{
	int rc = check_replace(o->output, err);

	if (!rc)
		rc = check_replace(o->apply, err);
	return rc ? rc : check_replace(o->dts, err);
}

/* Everything is made before anything is written. */
static int write_files(const struct options *o, const struct result *r,
		       struct fb_err *err)
{
	fb_autofree void *blob = NULL, *merged = NULL;
	fb_autofree char *text = NULL;
	size_t blob_size = 0, merged_size = 0;
	int rc = fb_dtb_overlay_blob(&r->overlay, &blob, &blob_size, err);

	if (!rc)
		rc = fb_dtb_apply(r->blob, r->blob_size, blob, blob_size, &merged,
				  &merged_size, err);
	if (!rc)
		rc = prove(merged, merged_size, r->carve.region, err);
	if (!rc)
		rc = fb_dtb_overlay_text(&r->overlay, &text, err);
	if (!rc)
		rc = check_outputs(o, err);
	if (!rc && o->output)
		rc = fb_file_write(o->output, blob, blob_size, err);
	if (!rc && o->apply)
		rc = fb_file_write(o->apply, merged, merged_size, err);
	if (!rc && o->dts)
		rc = fb_file_write(o->dts, text, strlen(text), err);
	return rc;
}

/* ---- printing -------------------------------------------------------------- */

static const char *what_happens(const struct result *r)
{
	if (r->kept)
		return "there already";
	if (!r->old)
		return "new";
	return r->old->range.start == r->carve.region.start ? "resized" : "moved";
}

static void say(const struct fb_context *ctx, const struct options *o,
		const struct result *r)
{
	const struct fb_carve *c = &r->carve;
	char range[FB_RANGE_TEXT_MAX], a[FB_SIZE_TEXT_MAX], b[FB_SIZE_TEXT_MAX];

	fb_say(ctx, "region     %s, %s, NUMA node %d: %s",
	       fb_range_text(c->region, range), fb_size_text(c->region.size, a),
	       r->overlay.numa_node, what_happens(r));
	if (r->old && !r->kept)
		fb_say(ctx, "before     %s", fb_range_text(r->old->range, range));
	for (size_t i = 0; i < r->overlay.usable_count; i++)
		fb_say(ctx, "memory     /%s: linux,usable-memory",
		       r->overlay.usable[i].name);
	fb_say(ctx,
	       "hot-added  %s: memory blocks %" PRIu64 " to %" PRIu64 " (%" PRIu64
	       " of %s)",
	       fb_size_text(c->usable.size, a), c->first_block,
	       c->first_block + c->block_count - 1, c->block_count,
	       fb_size_text(r->request.block_size, b));
	if (ctx->dry_run)
		return;
	if (o->output)
		fb_say(ctx, "overlay    %s", o->output);
	if (o->apply)
		fb_say(ctx, "merged     %s", o->apply);
	if (o->dts)
		fb_say(ctx, "source     %s", o->dts);
}

static void warn(const struct fb_context *ctx, const struct result *r)
{
	if (r->dtb.uefi)
		fb_warn(ctx,
			"%s came from UEFI, whose memory map the kernel takes "
			"instead of the memory nodes: add mem= to its command "
			"line, and choose the region at the end of RAM",
			r->base);
}

static void print_json(const struct result *r)
{
	struct json_object *o = json_object_new_object(), *nodes;

	json_object_object_add(o, "region", fb_json_range(r->carve.region));
	json_object_object_add(o, "hot_added", fb_json_range(r->carve.usable));
	fb_json_number(o, "block_size", r->request.block_size);
	fb_json_number(o, "numa_node", (uint64_t)r->overlay.numa_node);
	json_object_object_add(o, "result", json_object_new_string(what_happens(r)));
	json_object_object_add(o, "existing_region",
			       r->old ? fb_json_range(r->old->range) : NULL);
	nodes = json_object_new_array();
	for (size_t i = 0; i < r->overlay.usable_count; i++)
		json_object_array_add(
			nodes, json_object_new_string(r->overlay.usable[i].name));
	json_object_object_add(o, "memory_nodes", nodes);
	fb_json_print(o);
}

static int run(const struct fb_context *ctx, int argc, char **argv, struct fb_err *err)
{
	struct options o = { .block_size = 128 * FB_MIB };
	struct result r = { .kept = false };
	int rc = parse(argc, argv, ctx, &o, err);

	if (!rc)
		rc = read_base(ctx, &o, &r, err);
	if (!rc)
		rc = choose(ctx, &o, &r, err);
	if (!rc && !ctx->dry_run)
		rc = write_files(&o, &r, err);
	if (!rc) {
		warn(ctx, &r);
		if (ctx->json)
			print_json(&r);
		else
			say(ctx, &o, &r);
	}
	fb_dtb_overlay_free(&r.overlay);
	fb_dtb_free(&r.dtb);
	free(r.blob);
	return rc;
}

const struct fb_command fb_cmd_overlay = {
	.name = "overlay",
	.arguments = "--size SIZE [--base FILE.dtb] [--at ADDRESS] -o FILE.dtbo",
	.summary = "take a region out of a device tree, by an overlay",
	.help = "  -b, --base FILE.dtb     the board's tree; without it the running "
		"one\n"
		"  -s, --size SIZE         how much shall be usable as RAM: 2G\n"
		"  -a, --at ADDRESS        where it begins, instead of the best place\n"
		"  -o, --output FILE.dtbo  write the overlay\n"
		"      --apply FILE.dtb    write the tree with the overlay applied\n"
		"      --dts FILE.dtso     write the overlay's source\n"
		"      --block-size SIZE   the kernel's memory blocks: 128M, the "
		"default,\n"
		"                          or 512M with pages of 64 KiB\n",
	.run = run,
};
