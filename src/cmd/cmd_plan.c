/* SPDX-License-Identifier: GPL-2.0-or-later */
/* plan - chooses a region on this machine and says how to get it. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <string.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "engine/carve.h"
#include "machine/memblk.h"
#include "format/cmdline.h"
#include "machine/dtree.h"
#include "machine/iomem.h"

struct options {
	uint64_t size, at;
	bool at_set;
};

/* Everything that is printed, as text or as JSON. */
struct result {
	struct fb_carve_request request;
	struct fb_carve carve;
	bool device_tree; /* no memmap= there: a node */
	char memmap[FB_MEMMAP_TEXT_MAX];
	struct fb_range existing; /* a region that is there already */
	struct fb_err kaslr;	  /* error 0: all right */
};

static int parse(int argc, char **argv, struct options *o, struct fb_err *err)
{
	static const struct option options[] = {
		{ "size", required_argument, NULL, 's' },
		{ "at", required_argument, NULL, 'a' },
		{ NULL, 0, NULL, 0 },
	};
	bool size_set = false;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":s:a:", options, NULL)) != -1) {
		uint64_t *value = c == 'a' ? &o->at : &o->size;

		if (c != 'a' && c != 's')
			return fb_usage_option(err, argv, c);
		if (fb_parse_size(optarg, value))
			return fb_usage(err,
					"'%s' is not a size or an address: write "
					"2G, 2048M or 0x80000000",
					optarg);
		size_set |= c == 's';
		o->at_set |= c == 'a';
	}
	if (optind < argc)
		return fb_usage(err, "plan takes no operand, not '%s'", argv[optind]);
	if (!size_set)
		return fb_usage(err, "how large? say `fastboot plan --size 2G`");
	return 0;
}

static int find_existing(const struct fb_sys *sys, const struct fb_iomem *iomem,
			 struct fb_range *existing, struct fb_err *err)
{
	struct fb_dtree_regions nodes = { NULL, 0 };
	int rc = fb_dtree_regions(sys, &nodes, err);

	if (!rc && nodes.count)
		*existing = nodes.list[0].range;
	free(nodes.list);
	for (size_t i = 0; i < iomem->count && !existing->size; i++)
		if (!iomem->entries[i].depth &&
		    (!strcmp(iomem->entries[i].name, FB_IOMEM_PMEM) ||
		     !strcmp(iomem->entries[i].name, FB_IOMEM_PMEM_LEGACY)))
			*existing = iomem->entries[i].range;
	return rc;
}

/* Would KASLR keep out of it once the text is on the command line? */
static int check_kaslr(const struct fb_sys *sys, struct result *r, struct fb_err *err)
{
	fb_autofree char *now = NULL, *next = NULL;
	int rc = fb_sys_read(sys, "/proc/cmdline", &now, NULL, err);

	if (!rc)
		rc = fb_cmdline_append(now, r->memmap, &next, err);
	if (!rc)
		fb_cmdline_kaslr_avoids(next, r->carve.region, &r->kaslr);
	return rc;
}

static int make(const struct fb_sys *sys, const struct options *o, struct result *r,
		struct fb_err *err)
{
	struct fb_iomem iomem = { NULL, 0 };
	int rc = fb_memblk_size(sys, &r->request.block_size, err);

	if (!rc)
		rc = fb_iomem_read(sys, &iomem, err);
	if (rc)
		return rc;
	r->device_tree = fb_dtree_present(sys);
	r->request.size = o->size;
	r->request.at = o->at;
	r->request.at_set = o->at_set;
	r->request.overhead =
		r->device_tree ? FB_CARVE_OVERHEAD_ARM64 : FB_CARVE_OVERHEAD_X86;
	rc = find_existing(sys, &iomem, &r->existing, err);
	if (!rc)
		rc = fb_carve_choose(&iomem, &r->request, &r->carve, err);
	fb_iomem_free(&iomem);
	if (rc)
		return rc;
	fb_memmap_text(r->carve.region, r->memmap);
	return r->device_tree ? 0 : check_kaslr(sys, r, err);
}

/* ---- for people ---------------------------------------------------------- */

static void say_choice(const struct fb_context *ctx, const struct result *r)
{
	const struct fb_carve *c = &r->carve;
	uint64_t lost = c->region.size - c->usable.size;
	char range[FB_RANGE_TEXT_MAX], bank[FB_RANGE_TEXT_MAX];
	char a[FB_SIZE_TEXT_MAX], b[FB_SIZE_TEXT_MAX];

	fb_say(ctx, "region     %s, %s, in System RAM %s",
	       fb_range_text(c->region, range), fb_size_text(c->region.size, a),
	       fb_range_text(c->bank, bank));
	fb_say(ctx,
	       "hot-added  %s: memory blocks %" PRIu64 " to %" PRIu64 " (%" PRIu64
	       " of %s)",
	       fb_size_text(c->usable.size, a), c->first_block,
	       c->first_block + c->block_count - 1, c->block_count,
	       fb_size_text(r->request.block_size, b));
	fb_say(ctx, "not added  %s at the start: %s", fb_size_text(lost, a),
	       lost == r->request.overhead ? "device-dax keeps it"
					   : "device-dax keeps a part, up to the next "
					     "block the rest is lost");
	if (c->usable.size != r->request.size)
		fb_say(ctx, "rounded    %s up to whole memory blocks",
		       fb_size_text(r->request.size, a));
	fb_say(ctx, "RAM        %s now; %s beside the region", fb_size_text(c->ram, a),
	       fb_size_text(c->ram - c->region.size, b));
}

static void say_memmap(const struct fb_context *ctx, const char *memmap)
{
	fb_say(ctx, "\nAdd this to the kernel's command line:\n\n    %s\n", memmap);
	fb_say(ctx,
	       "GRUB: append it to GRUB_CMDLINE_LINUX in /etc/default/grub, inside "
	       "the quotes\n      (an exclamation mark needs no backslash there), "
	       "then run `update-grub`.");
	fb_say(ctx,
	       "kernel-install, systemd-boot: append it to the line in "
	       "/etc/kernel/cmdline,\n      then run `kernel-install add \"$(uname "
	       "-r)\" /boot/vmlinuz-\"$(uname -r)\"`.");
	fb_say(ctx,
	       "Now, without the boot loader: `fastboot load --append %s`, then\n"
	       "      `systemctl kexec`.",
	       memmap);
}

static void say_overlay(const struct fb_context *ctx, const struct result *r)
{
	fb_say(ctx,
	       "\nMake the overlay that takes it out of the device tree:\n\n"
	       "    fastboot overlay --size %" PRIu64 "M --at %#" PRIx64
	       " -o region.dtbo\n",
	       r->carve.usable.size / FB_MIB, r->carve.region.start);
	fb_say(ctx, "and give it to the boot loader: dts/README.md says how for each.");
}

static void say(const struct fb_context *ctx, const struct result *r)
{
	char range[FB_RANGE_TEXT_MAX];

	say_choice(ctx, r);
	if (r->device_tree)
		say_overlay(ctx, r);
	else
		say_memmap(ctx, r->memmap);
	if (r->existing.size)
		fb_warn(ctx, "there is a region already, at %s; this would %s",
			fb_range_text(r->existing, range),
			r->device_tree ? "move it" : "be another");
	if (r->kaslr.error)
		fb_warn(ctx, "%s", r->kaslr.text);
}

/* ---- for programs -------------------------------------------------------- */

static void print_json(const struct result *r)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "region", fb_json_range(r->carve.region));
	json_object_object_add(o, "hot_added", fb_json_range(r->carve.usable));
	json_object_object_add(o, "bank", fb_json_range(r->carve.bank));
	fb_json_number(o, "requested_size", r->request.size);
	fb_json_number(o, "block_size", r->request.block_size);
	fb_json_number(o, "first_block", r->carve.first_block);
	fb_json_number(o, "block_count", r->carve.block_count);
	fb_json_number(o, "ram", r->carve.ram);
	fb_json_number(o, "ram_left", r->carve.ram - r->carve.region.size);
	json_object_object_add(
		o, "memmap", r->device_tree ? NULL : json_object_new_string(r->memmap));
	json_object_object_add(o, "kaslr_keeps_out",
			       json_object_new_boolean(!r->kaslr.error));
	json_object_object_add(o, "existing_region",
			       r->existing.size ? fb_json_range(r->existing) : NULL);
	fb_json_print(o);
}

static int run(const struct fb_context *ctx, int argc, char **argv, struct fb_err *err)
{
	struct options o = { 0, 0, false };
	struct result r = { .kaslr = FB_ERR_INIT };
	int rc = parse(argc, argv, &o, err);

	if (!rc)
		rc = make(&ctx->sys, &o, &r, err);
	if (rc)
		return rc;
	if (ctx->json)
		print_json(&r);
	else
		say(ctx, &r);
	return 0;
}

const struct fb_command fb_cmd_plan = {
	.name = "plan",
	.arguments = "--size SIZE [--at ADDRESS]",
	.summary = "choose a region on this machine and say how to get it",
	.help = "  -s, --size SIZE     how much of it shall be usable as RAM: 2G\n"
		"  -a, --at ADDRESS    where it begins, instead of the best place\n",
	.run = run,
};
