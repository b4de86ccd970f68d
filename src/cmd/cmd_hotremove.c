/* SPDX-License-Identifier: GPL-2.0-or-later */
/* hotremove - the region stops being System RAM and is raw again. */
#define _GNU_SOURCE
#include <json-c/json.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "cmd/hotplug.h"

static void report_json(const struct fb_context *ctx, const struct fb_region *region,
			const struct fb_hotplug_report *report)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "dry_run", json_object_new_boolean(ctx->dry_run));
	json_object_object_add(o, "already",
			       json_object_new_boolean(!report->plan.count));
	fb_json_number(o, "region_start", region->range.start);
	fb_json_number(o, "region_bytes", region->range.size);
	fb_json_number(o, "removed_bytes", region->hotadded.size);
	if (report->facts.usage.known)
		fb_json_number(o, "moved_bytes", report->facts.usage.used);
	json_object_object_add(o, "steps", fb_hotplug_steps_json(report));
	if (!ctx->dry_run)
		fb_json_number(o, "total_usec", report->total_usec);
	fb_json_print(o);
}

static void report_text(const struct fb_context *ctx, const struct fb_region *region,
			const struct fb_hotplug_report *report)
{
	char size[FB_SIZE_TEXT_MAX], used[FB_SIZE_TEXT_MAX];

	if (!report->plan.count) {
		fb_say(ctx, "already hot-removed: the region is raw");
		return;
	}
	if (ctx->dry_run) {
		fb_hotplug_say_plan(ctx, report);
		return;
	}
	fb_say(ctx, "hot-removed %s in %.3f s (%s were in use and moved)",
	       fb_size_text(region->hotadded.size, size),
	       (double)report->total_usec / 1e6,
	       report->facts.usage.known ? fb_size_text(report->facts.usage.used, used)
					 : "an unknown part");
}

static int run(const struct fb_context *ctx, int argc, char **argv, struct fb_err *err)
{
	uint64_t deadline_usec = ctx->config.deadline_usec;
	struct fb_hotplug_report report;
	struct fb_region region;
	int rc = fb_options_deadline(argc, argv, false, &deadline_usec, err);

	if (!rc)
		rc = fb_require_live_root(ctx, err);
	if (!rc && !ctx->dry_run)
		rc = fb_lock(err);
	if (!rc)
		rc = fb_hotplug_find(ctx, &region, err);
	if (!rc)
		rc = fb_hotremove_run(ctx, &region, deadline_usec, &report, err);
	if (rc)
		return rc;
	if (ctx->json)
		report_json(ctx, &region, &report);
	else
		report_text(ctx, &region, &report);
	fb_hotplug_report_free(&report);
	return 0;
}

const struct fb_command fb_cmd_hotremove = {
	.name = "hotremove",
	.arguments = "[--deadline SECONDS]",
	.summary = "take the region back from System RAM",
	.help = "      --deadline SECONDS   give up and put everything back after "
		"that; "
		"default\n"
		"                           [hotremove] deadline=, 60\n",
	.run = run,
};
