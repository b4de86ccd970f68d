/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "machine/clock.h"

#define RETRY_PAUSE_NSEC 100000000
#define UNDO_TRIES	 5

struct run {
	const struct fb_sys *sys;
	const struct fb_plan *plan;
	const struct fb_plan_ops *ops;
};

/* ---- making a plan --------------------------------------------------- */

struct fb_step *fb_plan_add(struct fb_plan *plan, const char *what, ...)
{
	struct fb_step *step;
	va_list ap;

	if (fb_array_grow(&plan->steps, &plan->capacity, plan->count + 1,
			  sizeof(*plan->steps)))
		return NULL;
	step = &plan->steps[plan->count++];
	memset(step, 0, sizeof(*step));
	step->block = FB_STEP_NO_BLOCK;
	step->tries = 1;
	va_start(ap, what);
	vsnprintf(step->what, sizeof(step->what), what, ap);
	va_end(ap);
	return step;
}

void fb_plan_free(struct fb_plan *plan)
{
	free(plan->steps);
	memset(plan, 0, sizeof(*plan));
}

void fb_write_set(struct fb_write *write, const char *path, const char *value)
{
	snprintf(write->path, sizeof(write->path), "%s", path);
	snprintf(write->value, sizeof(write->value), "%s", value);
}

void fb_check_set(struct fb_check *check, bool link, const char *path,
		  const char *expect)
{
	check->link = link;
	snprintf(check->path, sizeof(check->path), "%s", path);
	snprintf(check->expect, sizeof(check->expect), "%s", expect);
}

bool fb_step_acts(const struct fb_step *step)
{
	return step->forward.path[0] || step->forward_action != FB_ACTION_NONE;
}

char *fb_step_text(const struct fb_plan *plan, const struct fb_step *step,
		   char buf[FB_STEP_TEXT_MAX])
{
	char range[FB_RANGE_TEXT_MAX];

	if (step->forward_action != FB_ACTION_NONE)
		snprintf(buf, FB_STEP_TEXT_MAX, "make the namespace of %s %s",
			 fb_range_text(plan->region, range),
			 step->forward_action == FB_ACTION_RAW ? "raw" : "devdax");
	else if (step->forward.path[0])
		snprintf(buf, FB_STEP_TEXT_MAX, "write '%s' to %s", step->forward.value,
			 step->forward.path);
	else
		snprintf(buf, FB_STEP_TEXT_MAX, "nothing");
	return buf;
}

/* ---- reading back ---------------------------------------------------- */

/* What a check sees now; "" for a link that is not there. */
static int check_read(const struct fb_sys *sys, const struct fb_check *check, char *got,
		      size_t size, struct fb_err *err)
{
	int rc;

	if (!check->link) {
		rc = fb_sys_attr_read(sys, check->path, got, size, err);
		if (!rc)
			got[strcspn(got, " \t\n")] = '\0';
		return rc;
	}
	rc = fb_sys_link_name(sys, check->path, got, size, err);
	if (rc == -ENOENT) {
		got[0] = '\0';
		return 0;
	}
	return rc;
}

static bool check_holds(const struct fb_sys *sys, const struct fb_check *check,
			char *got, size_t size)
{
	got[0] = '\0';
	return !check_read(sys, check, got, size, NULL) && !strcmp(got, check->expect);
}

/* Is it so already? Never, where nothing can be read back. */
static bool as_wanted(const struct fb_sys *sys, const struct fb_write *write)
{
	char got[128];

	if (!write->checks[0].path[0])
		return false;
	for (size_t i = 0; i < FB_STEP_CHECKS && write->checks[i].path[0]; i++)
		if (!check_holds(sys, &write->checks[i], got, sizeof(got)))
			return false;
	return true;
}

static int verify(const struct fb_sys *sys, const struct fb_write *write,
		  struct fb_err *err)
{
	char got[128];

	for (size_t i = 0; i < FB_STEP_CHECKS && write->checks[i].path[0]; i++) {
		const struct fb_check *c = &write->checks[i];

		if (!check_holds(sys, c, got, sizeof(got)))
			return fb_err_set(err, EIO,
					  "'%s' was written to %s, but %s is '%s', not "
					  "'%s'",
					  write->value, write->path, c->path, got,
					  c->expect);
	}
	return 0;
}

/* Every block of the guarded range that exists must read "offline". */
static int guard(const struct run *r, struct fb_err *err)
{
	const struct fb_plan *p = r->plan;
	struct fb_range whole = fb_range_shrink(p->guarded, p->block_size);

	for (uint64_t at = 0; at < whole.size; at += p->block_size) {
		uint64_t number = (whole.start + at) / p->block_size;
		char path[FB_STEP_PATH_MAX], state[32];
		int rc;

		snprintf(path, sizeof(path),
			 "/sys/devices/system/memory/memory%" PRIu64 "/state", number);
		if (!fb_sys_exists(r->sys, path))
			continue;
		rc = fb_sys_attr_read(r->sys, path, state, sizeof(state), err);
		if (rc)
			return rc;
		if (strcmp(state, "offline"))
			return fb_err_set(err, EBUSY,
					  "memory block %" PRIu64
					  " is %s: unbinding now "
					  "would lose the region until the next reboot",
					  number, state);
	}
	return 0;
}

/* ---- one write ------------------------------------------------------- */

static int write_once(const struct run *r, const struct fb_write *write,
		      struct fb_err *err)
{
	int rc = write->guarded ? guard(r, err) : 0;

	if (!rc)
		rc = fb_sys_attr_write(r->sys, write->path, write->value, err);
	/* The kernel may have finished what a signal seemed to interrupt. */
	if (rc)
		return as_wanted(r->sys, write) ? 0 : rc;
	return verify(r->sys, write, err);
}

static bool worth_another(int rc)
{
	return rc == -EBUSY || rc == -EAGAIN;
}

static void pause_a_little(void)
{
	const struct timespec t = { 0, RETRY_PAUSE_NSEC };

	nanosleep(&t, NULL);
}

static int stop_asked(const struct run *r, const struct fb_step *step,
		      struct fb_err *err)
{
	return r->ops->stop ? r->ops->stop(r->ops->context, step, err) : 0;
}

static int forward_write(const struct run *r, const struct fb_step *step,
			 struct fb_err *err)
{
	int rc = 0;

	if (as_wanted(r->sys, &step->forward))
		return 0;
	for (unsigned int i = 0; i < step->tries; i++) {
		if (i)
			pause_a_little();
		if (stop_asked(r, step, err))
			return -err->error;
		rc = write_once(r, &step->forward, err);
		/* A signal of ours: the reason says more than EINTR. */
		if (rc == -EINTR && stop_asked(r, step, err))
			return -err->error;
		if (!worth_another(rc))
			break;
	}
	return rc;
}

static int forward(const struct run *r, const struct fb_step *step, struct fb_err *err)
{
	int rc = stop_asked(r, step, err);

	if (rc)
		return rc;
	if (step->forward_action != FB_ACTION_NONE)
		return r->ops->action(step->forward_action, r->plan->region, err);
	return step->forward.path[0] ? forward_write(r, step, err) : 0;
}

/* ---- undo ------------------------------------------------------------ */

static int undo_write(const struct run *r, const struct fb_write *write,
		      struct fb_err *err)
{
	int rc = 0;

	if (as_wanted(r->sys, write))
		return 0;
	for (int i = 0; i < UNDO_TRIES; i++) {
		if (i)
			pause_a_little();
		rc = write_once(r, write, err);
		if (rc != -EINTR && !worth_another(rc))
			break;
	}
	return rc;
}

static int undo_step(const struct run *r, const struct fb_step *step,
		     struct fb_err *err)
{
	if (step->undo_action != FB_ACTION_NONE)
		return r->ops->action(step->undo_action, r->plan->region, err);
	return step->undo.path[0] ? undo_write(r, &step->undo, err) : 0;
}

static void undo_all(const struct run *r, size_t from, struct fb_err *err)
{
	struct fb_err first = FB_ERR_INIT;
	size_t failed = 0;

	for (size_t i = from + 1; i-- > 0;) {
		struct fb_err e = FB_ERR_INIT;

		if (undo_step(r, &r->plan->steps[i], &e) && !failed++)
			first = e;
	}
	if (!failed || !err)
		return;
	err->status = FB_EXIT_UNDO;
	fb_err_append(err, "; and the undo is incomplete (%zu step%s): %s", failed,
		      failed == 1 ? "" : "s", first.text);
}

/* ---- all of it ------------------------------------------------------- */

static int run_step(const struct run *r, const struct fb_step *step, struct fb_err *err)
{
	uint64_t start = fb_clock_usec();
	int rc = forward(r, step, err);

	if (!rc && r->ops->done)
		r->ops->done(r->ops->context, step, fb_clock_usec() - start);
	return rc;
}

int fb_plan_run(const struct fb_sys *sys, const struct fb_plan *plan,
		const struct fb_plan_ops *ops, struct fb_err *err)
{
	const struct run r = { sys, plan, ops };
	struct fb_err own = FB_ERR_INIT;

	/* The runner itself needs the reason, whether the caller does or not. */
	for (size_t i = 0; i < plan->count; i++) {
		const struct fb_step *step = &plan->steps[i];
		int rc = run_step(&r, step, &own);

		if (!rc)
			continue;
		fb_err_prefix(&own, "%s", step->what);
		if (ops->explain)
			ops->explain(ops->context, step, &own);
		if (ops->undoing)
			ops->undoing(ops->context);
		undo_all(&r, i, &own);
		if (err)
			*err = own;
		return rc;
	}
	return 0;
}
