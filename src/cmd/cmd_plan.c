/* SPDX-License-Identifier: GPL-2.0-or-later */
/* plan - chooses a region on this machine and says how to get it. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "cmd/tables.h"
#include "engine/carve.h"
#include "format/cmdline.h"
#include "machine/acpi.h"
#include "machine/dtree.h"
#include "machine/iomem.h"
#include "machine/memblk.h"

struct options {
	uint64_t size, at;
	bool at_set;
	const char *tables; /* --acpi-tables; NULL: not given */
};

/* How a machine is told of the region. */
enum way {
	BY_MEMMAP,
	BY_TREE,   /* a node */
	BY_TABLES, /* ACPI tables in front of the initrd, and mem= */
};

/* Everything that is printed, as text or as JSON. */
struct result {
	struct fb_carve_request request;
	struct fb_carve carve;
	enum way way;
	char memmap[FB_MEMMAP_TEXT_MAX];
	char mem[FB_TABLES_MEM_MAX];
	char overlay[96];	  /* the command that makes the node's overlay */
	struct fb_range existing; /* a region that is there already */
	bool kept;		  /* and it is what is asked for: BY_TABLES */
	struct fb_err kaslr;	  /* error 0: all right */
};

static int parse(int argc, char **argv, struct options *o, struct fb_err *err)
{
	static const struct option options[] = {
		{ "size", required_argument, NULL, 's' },
		{ "at", required_argument, NULL, 'a' },
		{ "acpi-tables", required_argument, NULL, 't' },
		{ NULL, 0, NULL, 0 },
	};
	bool size_set = false;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":s:a:", options, NULL)) != -1) {
		uint64_t *value = c == 'a' ? &o->at : &o->size;

		if (c == 't') {
			o->tables = optarg;
			continue;
		}
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
	struct fb_acpi acpi = { .foreign_nfit = false };
	int rc = fb_dtree_regions(sys, &nodes, err);

	if (!rc)
		rc = fb_acpi_read(sys, &acpi, err);
	if (!rc)
		*existing = nodes.count ? nodes.list[0].range : acpi.region;
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

/* Is the region of this boot's tables what is asked for? Then it stays. */
static bool keep_existing(const struct fb_iomem *iomem, struct result *r)
{
	const struct fb_carve_request *rq = &r->request;
	struct fb_range region = r->existing;

	if (r->way != BY_TABLES || (rq->at_set && rq->at != region.start) ||
	    !fb_carve_fits(rq, region, &r->carve))
		return false;
	r->carve.bank = region;
	r->carve.ram = fb_carve_mem(iomem, region.start);
	return true;
}

static enum way choose_way(const struct fb_context *ctx)
{
	if (fb_dtree_present(&ctx->sys))
		return BY_TREE;
	return fb_tables_machine(ctx) ? BY_TABLES : BY_MEMMAP;
}

static int check_way(const struct fb_context *ctx, const struct options *o,
		     const struct result *r, struct fb_err *err)
{
	if (r->way == BY_TABLES)
		return fb_tables_possible(ctx, err);
	if (!o->tables)
		return 0;
	return fb_err_set(err, EINVAL,
			  "--acpi-tables is for arm64 machines without a "
			  "device tree; this one needs %s",
			  r->way == BY_TREE ? "an overlay: `fastboot overlay`"
					    : "memmap= only: leave the option out");
}

static int choose(const struct fb_context *ctx, const struct fb_iomem *iomem,
		  struct result *r, struct fb_err *err)
{
	int rc = find_existing(&ctx->sys, iomem, &r->existing, err);

	if (rc)
		return rc;
	r->kept = keep_existing(iomem, r);
	if (!r->kept)
		rc = fb_carve_choose(iomem, &r->request, &r->carve, err);
	if (rc)
		return rc;
	fb_memmap_text(r->carve.region, r->memmap);
	fb_tables_mem_text(iomem, r->carve.region.start, r->mem);
	snprintf(r->overlay, sizeof(r->overlay),
		 "fastboot overlay --size %" PRIu64 "M --at %#" PRIx64
		 " -o region.dtbo",
		 r->carve.usable.size / FB_MIB, r->carve.region.start);
	return r->way == BY_MEMMAP ? check_kaslr(&ctx->sys, r, err) : 0;
}

static int make(const struct fb_context *ctx, const struct options *o, struct result *r,
		struct fb_err *err)
{
	struct fb_iomem iomem = { NULL, 0 };
	int rc;

	r->way = choose_way(ctx);
	r->request.size = o->size;
	r->request.at = o->at;
	r->request.at_set = o->at_set;
	r->request.top = r->way == BY_TABLES;
	r->request.overhead =
		r->way == BY_MEMMAP ? FB_CARVE_OVERHEAD_X86 : FB_CARVE_OVERHEAD_ARM64;
	rc = check_way(ctx, o, r, err);
	if (!rc)
		rc = fb_memblk_size(&ctx->sys, &r->request.block_size, err);
	if (!rc)
		rc = fb_iomem_read(&ctx->sys, &iomem, err);
	if (!rc)
		rc = choose(ctx, &iomem, r, err);
	fb_iomem_free(&iomem);
	return rc;
}

static int write_tables(const struct fb_context *ctx, const char *path,
			const struct result *r, struct fb_err *err)
{
	struct fb_acpi_tables tables;
	int rc = fb_tables_make(ctx, r->carve.region, &tables, err);

	return rc ? rc : fb_tables_write(path, &tables, err);
}

/* ---- for people ---------------------------------------------------------- */

static uint64_t ram_left(const struct result *r)
{
	const struct fb_carve *c = &r->carve;

	if (r->kept)
		return c->ram;
	return c->ram - c->region.size - (r->way == BY_TABLES ? c->above : 0);
}

static void say_choice(const struct fb_context *ctx, const struct result *r)
{
	const struct fb_carve *c = &r->carve;
	uint64_t lost = c->region.size - c->usable.size;
	char range[FB_RANGE_TEXT_MAX], bank[FB_RANGE_TEXT_MAX];
	char a[FB_SIZE_TEXT_MAX], b[FB_SIZE_TEXT_MAX];

	if (r->kept)
		fb_say(ctx, "region     %s, %s: there already",
		       fb_range_text(c->region, range),
		       fb_size_text(c->region.size, a));
	else
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
	if (r->kept)
		return;
	fb_say(ctx, "RAM        %s now; %s beside the region", fb_size_text(c->ram, a),
	       fb_size_text(ram_left(r), b));
	if (r->way == BY_TABLES && c->above)
		fb_say(ctx,
		       "lost       %s above the region: with mem= RAM ends where the "
		       "region begins",
		       fb_size_text(fb_align_down(c->above, FB_MIB), a));
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

static void say_overlay(const struct fb_context *ctx, const char *overlay)
{
	fb_say(ctx,
	       "\nMake the overlay that takes it out of the device tree:\n\n    %s\n",
	       overlay);
	fb_say(ctx, "and give it to the boot loader: dts/README.md says how for each.");
}

static void say_tables_to_make(const struct fb_context *ctx, const struct result *r)
{
	fb_say(ctx,
	       "\nThe firmware has ACPI and no device tree. Make the tables that "
	       "declare the region:\n\n"
	       "    fastboot plan --size %" PRIu64 "M --at %#" PRIx64
	       " --acpi-tables /boot/fastboot-acpi.img",
	       r->carve.usable.size / FB_MIB, r->carve.region.start);
}

static void say_tables(const struct fb_context *ctx, const struct options *o,
		       const struct result *r)
{
	fb_say(ctx, "tables     %s%s", o->tables, ctx->dry_run ? ": not written" : "");
	fb_say(ctx,
	       "\nPut them in front of the initrd and start the kernel by kexec, with "
	       "RAM that\nends below the region:\n\n"
	       "    cat %s /boot/initrd.img-\"$(uname -r)\" >/run/initrd\n"
	       "    fastboot load --initrd /run/initrd --append %s\n"
	       "    systemctl kexec\n",
	       o->tables, r->mem);
	fb_say(ctx,
	       "From then on `load` and `reboot` put them in front of every initrd. "
	       "Neither firmware\nnor boot loader keeps out of the region: what is in "
	       "it survives a kexec only.\n");
	fb_say(ctx,
	       "To have the region after a power-on, too: %s on the command "
	       "line, and\n"
	       "GRUB: the file in /boot, its name in GRUB_EARLY_INITRD_LINUX_CUSTOM\n"
	       "      in /etc/default/grub, then run `update-grub`.\n"
	       "systemd-boot: a line `initrd` with it in front of the other.\n"
	       "If firmware put the kernel into the region `check` says so; the two "
	       "commands above\nbring it then.",
	       r->mem);
}

/* Above all RAM only an SRAT gives a region a node. */
static bool without_node(const struct fb_context *ctx, const struct result *r)
{
	return r->way == BY_MEMMAP && !r->carve.above &&
	       !fb_sys_exists(&ctx->sys, "/sys/firmware/acpi/tables/SRAT");
}

static void say(const struct fb_context *ctx, const struct options *o,
		const struct result *r)
{
	char range[FB_RANGE_TEXT_MAX];

	say_choice(ctx, r);
	if (r->way == BY_TREE)
		say_overlay(ctx, r->overlay);
	else if (r->way == BY_MEMMAP)
		say_memmap(ctx, r->memmap);
	else if (o->tables)
		say_tables(ctx, o, r);
	else
		say_tables_to_make(ctx, r);
	if (r->existing.size && !r->kept)
		fb_warn(ctx, "there is a region already, at %s; this would %s",
			fb_range_text(r->existing, range),
			r->way == BY_MEMMAP ? "be another" : "move it");
	if (r->kaslr.error)
		fb_warn(ctx, "%s", r->kaslr.text);
	if (without_node(ctx, r))
		fb_warn(ctx,
			"the region ends where RAM ends, and the firmware has no "
			"SRAT: kmem refuses to hot-add it; choose a smaller one, or "
			"a lower address with --at");
}

/* ---- for programs -------------------------------------------------------- */

static struct json_object *text_or_null(bool is, const char *text)
{
	return is ? json_object_new_string(text) : NULL;
}

static void print_json(const struct options *options, const struct result *r)
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
	fb_json_number(o, "ram_left", ram_left(r));
	json_object_object_add(o, "memmap",
			       text_or_null(r->way == BY_MEMMAP, r->memmap));
	json_object_object_add(o, "overlay",
			       text_or_null(r->way == BY_TREE, r->overlay));
	json_object_object_add(o, "mem", text_or_null(r->way == BY_TABLES, r->mem));
	json_object_object_add(o, "acpi_tables",
			       text_or_null(options->tables, options->tables));
	json_object_object_add(o, "kaslr_keeps_out",
			       json_object_new_boolean(!r->kaslr.error));
	json_object_object_add(o, "existing_region",
			       r->existing.size ? fb_json_range(r->existing) : NULL);
	fb_json_print(o);
}

static int run(const struct fb_context *ctx, int argc, char **argv, struct fb_err *err)
{
	struct options o = { .size = 0 };
	struct result r = { .kaslr = FB_ERR_INIT };
	int rc = parse(argc, argv, &o, err);

	if (!rc)
		rc = make(ctx, &o, &r, err);
	if (!rc && o.tables && !ctx->dry_run)
		rc = write_tables(ctx, o.tables, &r, err);
	if (rc)
		return rc;
	if (ctx->json)
		print_json(&o, &r);
	else
		say(ctx, &o, &r);
	return 0;
}

const struct fb_command fb_cmd_plan = {
	.name = "plan",
	.arguments = "--size SIZE [--at ADDRESS] [--acpi-tables FILE]",
	.summary = "choose a region on this machine and say how to get it",
	.help = "  -s, --size SIZE     how much of it shall be usable as RAM: 2G\n"
		"  -a, --at ADDRESS    where it begins, instead of the best place\n"
		"      --acpi-tables FILE  firmware with ACPI, without a device tree:\n"
		"                      write what goes in front of the initrd\n",
	.run = run,
};
