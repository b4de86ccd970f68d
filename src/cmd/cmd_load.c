/* SPDX-License-Identifier: GPL-2.0-or-later */
/* load - loads the next kernel with the region carried, or unloads it. */
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "cmd/load.h"
#include "engine/region.h"
#include "machine/kexec.h"

struct options {
	struct fb_load_options load;
	bool unload;
};

static int parse(int argc, char **argv, struct options *o, struct fb_err *err)
{
	static const struct option options[] = {
		FB_LOAD_OPTIONS,
		{ "unload", no_argument, NULL, 'u' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":u", options, NULL)) != -1) {
		if (c == 'u')
			o->unload = true;
		else if (!fb_load_option(&o->load, c))
			return fb_usage_option(err, argv, c);
	}
	if (optind < argc)
		return fb_usage(err,
				"load takes no operand, not '%s'; the kernel is "
				"given with --kernel",
				argv[optind]);
	if (o->unload && o->load.any)
		return fb_usage(err, "--unload goes with no other option");
	return 0;
}

static void print_json(const struct fb_load *load, const struct fb_kexec_loaded *loaded)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "kernel", json_object_new_string(load->kernel));
	json_object_object_add(o, "initrd",
			       load->initrd ? json_object_new_string(load->initrd)
					    : NULL);
	json_object_object_add(o, "command_line",
			       json_object_new_string(load->command_line));
	json_object_object_add(
		o, "dtb", load->dtb ? json_object_new_string(load->dtb) : NULL);
	json_object_object_add(o, "region_start",
			       json_object_new_uint64(load->region.start));
	json_object_object_add(o, "region_size",
			       json_object_new_uint64(load->region.size));
	json_object_object_add(o, "carried_by",
			       json_object_new_string(fb_carry_text(load->carry)));
	json_object_object_add(
		o, "method",
		json_object_new_string(fb_kexec_method_text(load->choice.method)));
	json_object_object_add(o, "method_why",
			       json_object_new_string(load->choice.why));
	json_object_object_add(o, "loaded", json_object_new_boolean(loaded != NULL));
	if (loaded) {
		json_object_object_add(
			o, "proof",
			json_object_new_string(fb_proof_text(loaded->proof)));
		json_object_object_add(o, "decompressed_ahead",
				       json_object_new_boolean(loaded->ahead));
		json_object_object_add(o, "segments",
				       json_object_new_int((int)loaded->segments));
		json_object_object_add(o, "replaced",
				       json_object_new_boolean(loaded->replaced));
	}
	fb_json_print(o);
}

/* The region, or NULL in *region where there is none. */
static int find_region(const struct fb_context *ctx, struct fb_region *found,
		       const struct fb_region **region, struct fb_err *err)
{
	const struct fb_range *wanted =
		ctx->config.region_set ? &ctx->config.region : NULL;
	int rc = fb_region_find(&ctx->sys, wanted, found, err);

	*region = rc ? NULL : found;
	/* Not an error: the first kernel with a region can be loaded so. */
	return (rc == -ENODEV && !wanted) || rc == -EADDRINUSE ? 0 : rc;
}

static int perform(const struct fb_context *ctx, struct fb_load *load,
		   struct fb_err *err)
{
	struct fb_kexec_loaded loaded;
	int rc = fb_load_perform(ctx, load, &loaded, err);

	if (rc)
		return rc;
	if (loaded.replaced)
		fb_warn(ctx, "this replaces a kernel that was loaded before");
	fb_load_say_loaded(ctx, &loaded);
	if (ctx->json)
		print_json(load, &loaded);
	return 0;
}

static int load(const struct fb_context *ctx, const struct options *o,
		struct fb_err *err)
{
	const struct fb_region *region;
	struct fb_region found;
	struct fb_load l;
	int rc = find_region(ctx, &found, &region, err);

	if (!rc)
		rc = fb_load_prepare(ctx, &o->load, region, &l, err);
	if (rc)
		return rc;
	fb_load_say(ctx, &l);
	if (!ctx->dry_run)
		rc = perform(ctx, &l, err);
	else if (ctx->json)
		print_json(&l, NULL);
	fb_load_free(&l);
	return rc;
}

static int run(const struct fb_context *ctx, int argc, char **argv, struct fb_err *err)
{
	struct options o = { .unload = false };
	int rc = parse(argc, argv, &o, err);

	if (!rc)
		rc = fb_require_live_root(ctx, err);
	if (!rc && !ctx->dry_run)
		rc = fb_lock(err);
	if (rc)
		return rc;
	if (!o.unload)
		return load(ctx, &o, err);
	return ctx->dry_run ? 0 : fb_kexec_unload(err);
}

const struct fb_command fb_cmd_load = {
	.name = "load",
	.arguments = "[OPTION…]",
	.summary = "load the next kernel with the region carried",
	.help = FB_LOAD_HELP
	"      --unload              take the loaded kernel away again\n",
	.run = run,
};
