/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * plan - ordered steps that change the machine, each with the value it must
 * read back and with its undo, and the one runner that performs them. What a
 * dry run prints is this list; the real run does nothing else.
 *
 *	facts -> pure function (engine/hotplug) -> struct fb_plan -> fb_plan_run()
 *
 * Rules of the runner:
 *   - A write whose read-back is already as wanted is not made, neither
 *     forward nor as undo: every step is idempotent.
 *   - After a write its read-back must be as wanted; a write that "succeeded"
 *     without effect is a failure, one that "failed" with effect is not.
 *   - When a step fails, the undo runs from that step back to the first, goes
 *     on past an undo that fails, and is never interrupted.
 *   - Only fb_sys_attr_write() changes sysfs; the two namespace conversions are
 *     actions, given by function so that tests can replace them.
 */
#ifndef FB_MACHINE_PLAN_H
#define FB_MACHINE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/range.h"
#include "base/tree.h"
#include "machine/sys.h"

#define FB_STEP_PATH_MAX  96
#define FB_STEP_VALUE_MAX 48
#define FB_STEP_CHECKS	  2

/*
 * A read-back. For an attribute its first word must be `expect`; for a
 * symbolic link the last component of its target, and an empty `expect`
 * means that the link must not be there. No path: no check.
 */
struct fb_check {
	bool link;
	char path[FB_STEP_PATH_MAX];
	char expect[FB_STEP_VALUE_MAX];
};

/* One attribute write. No path: nothing is written. */
struct fb_write {
	char path[FB_STEP_PATH_MAX];
	char value[FB_STEP_VALUE_MAX];
	struct fb_check checks[FB_STEP_CHECKS];
	bool guarded; /* only while every block in plan->guarded reads "offline" */
};

enum fb_action {
	FB_ACTION_NONE,
	FB_ACTION_DEVDAX, /* the region's namespace becomes devdax */
	FB_ACTION_RAW,	  /* ... becomes raw */
};

#define FB_STEP_NO_BLOCK UINT64_MAX

/* Forward and undo are a write or an action each, or nothing. */
struct fb_step {
	char what[64]; /* for messages: "memory block 40 offline" */
	struct fb_write forward, undo;
	enum fb_action forward_action, undo_action;
	uint64_t block;	    /* the memory block it takes offline, for the diagnosis */
	unsigned int tries; /* how often a busy write is made, at least 1 */
};

struct fb_plan {
	struct fb_step *steps; /* owned */
	size_t count, capacity;
	struct fb_range region;	 /* what actions work on */
	struct fb_range guarded; /* hot-added memory */
	uint64_t block_size;	 /* of memory blocks, bytes */
};

/*
 * Append an empty step (tries 1, no block) and return it; valid until the
 * next one is added. NULL when memory is out. `what` as printf.
 */
struct fb_step *fb_plan_add(struct fb_plan *plan, const char *what, ...)
	__attribute__((format(printf, 2, 3)));
void fb_plan_free(struct fb_plan *plan);

/* Fill a write and its first check ("" path: none); all are copied. */
void fb_write_set(struct fb_write *write, const char *path, const char *value);
void fb_check_set(struct fb_check *check, bool link, const char *path,
		  const char *expect);

/* Does the step do anything on the way forward (some only have an undo)? */
bool fb_step_acts(const struct fb_step *step);

#define FB_STEP_TEXT_MAX 192

/* "write 'offline' to /sys/...", "make the namespace of ... raw". Returns buf. */
char *fb_step_text(const struct fb_plan *plan, const struct fb_step *step,
		   char buf[FB_STEP_TEXT_MAX]);

/* What a run needs from outside; every function may be NULL but `action`. */
struct fb_plan_ops {
	/* Perform an action on a region; as in machine/namespace.h. */
	int (*action)(enum fb_action action, struct fb_range region,
		      struct fb_err *err);
	/*
	 * Asked before every forward step, before every retry and after an
	 * interrupted write: 0 to go on, or -errno with the reason.
	 */
	int (*stop)(void *context, const struct fb_step *step, struct fb_err *err);
	/* A forward step is done (or was already so): its time. */
	void (*done)(void *context, const struct fb_step *step, uint64_t usec);
	/* Add to the error of the step that failed, before the undo. */
	void (*explain)(void *context, const struct fb_step *step, struct fb_err *err);
	/* The undo begins; nothing interrupts from here on. */
	void (*undoing)(void *context);
	void *context;
};

/*
 * Perform the plan. 0, or the -errno of the step that failed with everything
 * undone; where the undo is incomplete the status is FB_EXIT_UNDO and the text
 * says what is left.
 */
int fb_plan_run(const struct fb_sys *sys, const struct fb_plan *plan,
		const struct fb_plan_ops *ops, struct fb_err *err);

#endif
