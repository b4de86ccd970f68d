/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "cmd/hotplug.h"

#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "engine/region.h"
#include "format/header.h"
#include "machine/clock.h"
#include "machine/modules.h"
#include "machine/namespace.h"
#include "machine/store.h"

int fb_hotplug_find(const struct fb_context *ctx, struct fb_region *region,
		    struct fb_err *err)
{
	const struct fb_config *c = &ctx->config;
	const struct fb_range *wanted = c->region_set ? &c->region : NULL;
	int rc = fb_region_find(&ctx->sys, wanted, region, err);

	/* No drivers for a machine without a region. */
	if (rc || ctx->dry_run || !fb_sys_live(&ctx->sys))
		return rc;
	rc = fb_modules_load(&ctx->sys, err);
	if (rc || region->mode != FB_NS_NONE)
		return rc;
	rc = fb_namespace_settle(err);
	return rc ? rc : fb_region_find(&ctx->sys, wanted, region, err);
}

/* ---- an image in the way --------------------------------------------- */

static int read_first_block(const char *path, uint8_t *block, uint64_t *size,
			    struct fb_err *err)
{
	struct fb_store store;
	int rc = fb_store_open_block(path, false, &store, err);

	if (rc)
		return rc;
	*size = store.size;
	rc = store.ops->read(&store, block, FB_STORE_BLOCK, 0, err);
	fb_store_close(&store);
	return rc;
}

static int refuse_image(const struct fb_header *header, const char *path,
			const char *hint, struct fb_err *err)
{
	char when[64] = "an unknown time";
	time_t t = (time_t)(header->origin.wall_usec / 1000000);
	struct tm tm;

	if (t && localtime_r(&t, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	return fb_err_set(err, EEXIST,
			  "%s holds an image, written by %s on %s, that was never "
			  "restored: `fastboot restore` it first%s%s",
			  path,
			  header->origin.hostname[0] ? header->origin.hostname
						     : "an unknown host",
			  when, hint[0] ? "; " : "", hint);
}

static int judge_block(const uint8_t *block, uint64_t size, const char *path,
		       const char *hint, struct fb_err *err)
{
	enum fb_header_kind kind = fb_header_classify(block);
	struct fb_err why = FB_ERR_INIT;
	struct fb_header header;

	if (kind == FB_HEADER_NONE || kind == FB_HEADER_OPEN)
		return 0;
	if (kind == FB_HEADER_VALID && !fb_header_decode(block, size, &header, &why))
		return header.consumed ? 0 : refuse_image(&header, path, hint, err);
	/* What this program can't read may still be somebody's only copy. */
	return fb_err_set(err, EEXIST, "%s holds an image that is %s%s%s", path,
			  kind == FB_HEADER_NEWER ? "of a newer version" : "damaged",
			  hint[0] ? "; " : "", hint);
}

int fb_hotplug_check_image(const struct fb_context *ctx, const struct fb_region *region,
			   const char *discard_hint, struct fb_err *err)
{
	char path[PATH_MAX];
	uint64_t size = 0;
	void *block;
	int rc;

	if (!fb_sys_live(&ctx->sys) ||
	    fb_region_device(region, path, sizeof(path), NULL))
		return 0;
	if (posix_memalign(&block, FB_STORE_BLOCK, FB_STORE_BLOCK))
		return fb_err_sys(err, ENOMEM, "%s", path);
	rc = read_first_block(path, block, &size, err);
	if (!rc)
		rc = judge_block(block, size, path, discard_hint, err);
	free(block);
	return rc;
}

/* ---- plan and run ---------------------------------------------------- */

static void record_step(void *context, const struct fb_step *step, uint64_t usec)
{
	struct fb_hotplug_report *report = context;

	report->step_usec[step - report->plan.steps] = usec;
}

static int perform(const struct fb_context *ctx, const char *label,
		   struct fb_hotplug_report *report, struct fb_hotplug_options *options,
		   struct fb_err *err)
{
	struct fb_bar bar;
	struct fb_progress progress = fb_bar_start(&bar, ctx, label, false);
	uint64_t start = fb_clock_usec();
	int rc;

	options->progress = &progress;
	options->done = record_step;
	options->context = report;
	rc = fb_hotplug_run(&ctx->sys, &report->facts, &report->plan, options, err);
	report->total_usec = fb_clock_usec() - start;
	fb_bar_end(&bar);
	if (err && err->status == FB_EXIT_UNDO)
		fb_err_append(err, "; look at `fastboot status` and try `fastboot "
				   "hotadd` or `fastboot hotremove` again");
	return rc;
}

typedef int (*make_plan)(const struct fb_hotplug_facts *facts, struct fb_plan *plan,
			 struct fb_err *err);

static int plan_and_run(const struct fb_context *ctx, const struct fb_region *region,
			make_plan make, const char *label,
			struct fb_hotplug_options *options,
			struct fb_hotplug_report *report, struct fb_err *err)
{
	struct fb_hotplug_report r = { .step_usec = NULL };
	int rc = fb_hotplug_read(&ctx->sys, region, &r.facts, err);

	if (rc)
		return rc;
	rc = make(&r.facts, &r.plan, err);
	if (!rc) {
		r.step_usec = calloc(r.plan.count + 1, sizeof(*r.step_usec));
		if (!r.step_usec)
			rc = fb_err_sys(err, ENOMEM, "the plan");
	}
	if (!rc && !ctx->dry_run)
		rc = perform(ctx, label, &r, options, err);
	if (rc)
		fb_hotplug_report_free(&r);
	else
		*report = r;
	return rc;
}

int fb_hotadd_run(const struct fb_context *ctx, const struct fb_region *region,
		  struct fb_hotplug_report *report, struct fb_err *err)
{
	struct fb_hotplug_options options = { .interrupted = fb_interrupted };

	return plan_and_run(ctx, region, fb_hotadd_plan, "hot-adding", &options, report,
			    err);
}

int fb_hotremove_run(const struct fb_context *ctx, const struct fb_region *region,
		     uint64_t deadline_usec, struct fb_hotplug_report *report,
		     struct fb_err *err)
{
	struct fb_hotplug_options options = { .deadline_usec = deadline_usec,
					      .interrupted = fb_interrupted };

	return plan_and_run(ctx, region, fb_hotremove_plan, "hot-removing", &options,
			    report, err);
}

int fb_hotremove_undo(const struct fb_context *ctx, struct fb_err *err)
{
	struct fb_hotplug_options options = { .interrupted = NULL };
	struct fb_hotplug_report report;
	struct fb_region region;
	int rc = fb_hotplug_find(ctx, &region, err);

	if (!rc)
		rc = plan_and_run(ctx, &region, fb_hotadd_plan, "hot-adding again",
				  &options, &report, err);
	if (!rc) {
		fb_hotplug_report_free(&report);
		return 0;
	}
	fb_err_append(err, "; the region is not hot-added: `fastboot hotadd` does it");
	if (err)
		err->status = FB_EXIT_UNDO;
	return rc;
}

void fb_hotplug_report_free(struct fb_hotplug_report *report)
{
	fb_hotplug_facts_free(&report->facts);
	fb_plan_free(&report->plan);
	free(report->step_usec);
	memset(report, 0, sizeof(*report));
}

/* ---- printing -------------------------------------------------------- */

/* Without a namespace the drivers have to be loaded first. */
static void say_modules(const struct fb_context *ctx)
{
	struct fb_module modules[FB_MODULES_MAX];
	size_t count;

	fb_modules_read(&ctx->sys, modules, &count);
	for (size_t i = 0; i < count; i++)
		if (modules[i].state != FB_MODULE_PRESENT)
			fb_say(ctx, "     load the kernel module %s", modules[i].name);
}

void fb_hotplug_say_plan(const struct fb_context *ctx,
			 const struct fb_hotplug_report *report)
{
	const struct fb_plan *plan = &report->plan;
	char text[FB_STEP_TEXT_MAX];
	unsigned int number = 0;

	if (!plan->count)
		return;
	say_modules(ctx);
	for (size_t i = 0; i < plan->count; i++)
		if (fb_step_acts(&plan->steps[i]))
			fb_say(ctx, "%3u. %s", ++number,
			       fb_step_text(plan, &plan->steps[i], text));
}

static void add_string(struct json_object *to, const char *key, const char *text)
{
	json_object_object_add(to, key, json_object_new_string(text));
}

static struct json_object *step_json(const struct fb_step *step, uint64_t usec)
{
	struct json_object *o = json_object_new_object();

	add_string(o, "what", step->what);
	if (step->forward_action != FB_ACTION_NONE)
		add_string(o, "action",
			   step->forward_action == FB_ACTION_RAW ? "raw" : "devdax");
	else {
		add_string(o, "path", step->forward.path);
		add_string(o, "value", step->forward.value);
		if (step->forward.checks[0].path[0])
			add_string(o, "expect", step->forward.checks[0].expect);
	}
	if (usec)
		json_object_object_add(o, "took_usec", json_object_new_uint64(usec));
	return o;
}

struct json_object *fb_hotplug_steps_json(const struct fb_hotplug_report *report)
{
	struct json_object *steps = json_object_new_array();

	for (size_t i = 0; i < report->plan.count; i++)
		if (fb_step_acts(&report->plan.steps[i]))
			json_object_array_add(steps, step_json(&report->plan.steps[i],
							       report->step_usec[i]));
	return steps;
}
