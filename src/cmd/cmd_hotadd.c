/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hotadd - the region becomes System RAM. */
#define _GNU_SOURCE
#include <getopt.h>
#include <json-c/json.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "cmd/hotplug.h"
#include "cmd/inplace.h"
#include "engine/timeline_kernel.h"

struct options {
	bool discard;
};

static int parse(int argc, char **argv, struct options *o, struct fb_err *err)
{
	static const struct option options[] = {
		{ "discard", no_argument, NULL, 'D' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (c != 'D')
			return fb_usage_option(err, argv, c);
		o->discard = true;
	}
	if (optind < argc)
		return fb_usage(err, "hotadd takes no operand, not '%s'", argv[optind]);
	return 0;
}

static void report_json(const struct fb_context *ctx, const struct fb_region *region,
			const struct fb_hotplug_report *report)
{
	uint64_t lost = fb_hotadd_lost(region, report->facts.blocks.block_size);
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "dry_run", json_object_new_boolean(ctx->dry_run));
	json_object_object_add(o, "already",
			       json_object_new_boolean(!report->plan.count));
	fb_json_number(o, "region_start", region->range.start);
	fb_json_number(o, "region_bytes", region->range.size);
	fb_json_number(o, "gained_bytes", region->range.size - lost);
	fb_json_number(o, "lost_bytes", lost);
	json_object_object_add(o, "steps", fb_hotplug_steps_json(report));
	if (!ctx->dry_run)
		fb_json_number(o, "total_usec", report->total_usec);
	fb_json_print(o);
}

static void report_text(const struct fb_context *ctx, const struct fb_region *region,
			const struct fb_hotplug_report *report)
{
	uint64_t lost = fb_hotadd_lost(region, report->facts.blocks.block_size);
	char gained[FB_SIZE_TEXT_MAX], text[FB_SIZE_TEXT_MAX];

	fb_size_text(region->range.size - lost, gained);
	if (!report->plan.count)
		fb_say(ctx, "already hot-added: %s, every block online and movable",
		       gained);
	else if (ctx->dry_run)
		fb_hotplug_say_plan(ctx, report);
	else
		fb_say(ctx, "hot-added %s in %.3f s", gained,
		       (double)report->total_usec / 1e6);
	/* The few MiB that devdax itself needs are lost anywhere. */
	if (lost >= report->facts.blocks.block_size / 2)
		fb_say(ctx,
		       "%s of the region are lost to its placement; `fastboot plan` "
		       "chooses a better one",
		       fb_size_text(lost, text));
}

/* Where a timeline of this boot was begun, this is its end. */
static void note_timeline(const struct fb_context *ctx,
			  const struct fb_hotplug_report *report,
			  struct fb_origin *stamps)
{
	if (ctx->dry_run || !report->plan.count)
		return;
	fb_timeline_stamp(stamps, FB_PHASE_HOTADDED);
	if (!fb_timeline_append_stamps(FB_TIMELINE_PATH, stamps))
		fb_timeline_append_log(FB_TIMELINE_PATH);
}

static int run(const struct fb_context *ctx, int argc, char **argv, struct fb_err *err)
{
	struct options o = { false };
	struct fb_origin stamps = { .stamp_count = 0 };
	struct fb_hotplug_report report;
	struct fb_region region;
	int rc = parse(argc, argv, &o, err);

	fb_timeline_stamp(&stamps, FB_PHASE_HOTADDING);
	if (!rc)
		rc = fb_require_live_root(ctx, err);
	if (!rc && !ctx->dry_run)
		rc = fb_lock(err);
	if (!rc)
		rc = fb_inplace_refuse(ctx, err);
	if (!rc)
		rc = fb_hotplug_find(ctx, &region, err);
	if (!rc && !o.discard)
		rc = fb_hotplug_check_image(ctx, &region, "--discard gives it up", err);
	if (!rc)
		rc = fb_hotadd_run(ctx, &region, &report, err);
	if (rc)
		return rc;
	note_timeline(ctx, &report, &stamps);
	if (ctx->json)
		report_json(ctx, &region, &report);
	else
		report_text(ctx, &region, &report);
	fb_hotplug_report_free(&report);
	return 0;
}

const struct fb_command fb_cmd_hotadd = {
	.name = "hotadd",
	.arguments = "[--discard]",
	.summary = "make the region System RAM",
	.help = "      --discard   also when the region holds an image that was never "
		"restored\n",
	.run = run,
};
