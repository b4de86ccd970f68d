/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hotplug - hot-add and hot-remove as the commands `hotadd`, `hotremove` and
 * `reboot` use them: find the region, make the plan, perform or print it.
 *
 *	struct fb_region region;
 *	struct fb_hotplug_report report;
 *
 *	rc = fb_hotplug_find(ctx, &region, err);
 *	rc = fb_hotremove_run(ctx, &region, ctx->config.deadline_usec, &report, err);
 *	...
 *	fb_hotplug_report_free(&report);
 *
 * A later step that fails undoes a finished hotremove with fb_hotadd_run():
 * the machine is then as it was, but for the clean page cache. The caller
 * holds the lock (fb_lock()).
 */
#ifndef FB_CMD_HOTPLUG_H
#define FB_CMD_HOTPLUG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/facts.h"
#include "cmd/cmd.h"
#include "engine/hotplug.h"
#include "machine/plan.h"

struct fb_hotplug_report {
	struct fb_hotplug_facts facts; /* before; owned */
	struct fb_plan plan;	       /* owned; empty: it was so already */
	uint64_t *step_usec;	       /* of each step, 0: not made; owned */
	uint64_t total_usec;
};

/*
 * The region of the configuration, or the only one. On the live machine as
 * root, and without --dry-run, the drivers it needs are loaded first, so that
 * `region` has a namespace. Errors of fb_region_find() and fb_modules_load().
 */
int fb_hotplug_find(const struct fb_context *ctx, struct fb_region *region,
		    struct fb_err *err);

/*
 * Refuse where the region, raw, holds an image that was never marked
 * consumed: hot-add overwrites it. -EEXIST, status FB_EXIT_FAILED. A region in
 * another mode holds none: 0. `discard_hint` ends the message ("--discard
 * gives it up").
 */
int fb_hotplug_check_image(const struct fb_context *ctx, const struct fb_region *region,
			   const char *discard_hint, struct fb_err *err);

/*
 * Plan and, without --dry-run, perform. `region` is a snapshot: find it again
 * afterwards. On failure the machine is as before (or status FB_EXIT_UNDO),
 * and `report` is untouched. fb_hotadd_run() does not look for an image.
 * SIGINT, SIGTERM and SIGHUP interrupt with -EINTR and undo.
 */
int fb_hotadd_run(const struct fb_context *ctx, const struct fb_region *region,
		  struct fb_hotplug_report *report, struct fb_err *err);

/* `deadline_usec` for taking the blocks offline; 0: none. */
int fb_hotremove_run(const struct fb_context *ctx, const struct fb_region *region,
		     uint64_t deadline_usec, struct fb_hotplug_report *report,
		     struct fb_err *err);

/*
 * The undo of fb_hotremove_run() for a caller that was interrupted or failed
 * later: finds the region again and hot-adds it; signals are not asked for.
 * A failure has the status FB_EXIT_UNDO and says what to do.
 */
int fb_hotremove_undo(const struct fb_context *ctx, struct fb_err *err);

void fb_hotplug_report_free(struct fb_hotplug_report *report);

/* The plan, a line a step, as --dry-run prints it ("  1. write ..."). */
void fb_hotplug_say_plan(const struct fb_context *ctx,
			 const struct fb_hotplug_report *report);

/*
 * An array of steps: what, action or path and value, expect, *_usec where made.
 * The caller owns it (json_object_put()).
 */
struct json_object *fb_hotplug_steps_json(const struct fb_hotplug_report *report);

#endif
