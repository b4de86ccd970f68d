/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_sys.h"

#include "machine/plan.h"

static enum fb_action acted[8];
static size_t act_count;

static int act(enum fb_action action, struct fb_range region, struct fb_err *err)
{
	(void)region;
	acted[act_count++] = action;
	return fake_operation() ? fb_err_set(err, EIO, "action") : 0;
}

static const struct fb_plan_ops ops = { .action = act };

/* A step that writes `value` over "old" and checks both ways. */
static struct fb_step *add(struct fb_plan *plan, const char *path, const char *value)
{
	struct fb_step *s = fb_plan_add(plan, "set %s", path);

	fb_write_set(&s->forward, path, value);
	fb_check_set(&s->forward.checks[0], false, path, value);
	fb_write_set(&s->undo, path, "old");
	fb_check_set(&s->undo.checks[0], false, path, "old");
	return s;
}

static struct fb_plan three(void)
{
	struct fb_plan plan = { 0 };

	fake_reset();
	act_count = 0;
	for (const char *p = "abc"; *p; p++) {
		char path[] = { '/', *p, '\0' };

		fake_put(path, "old");
		add(&plan, path, "new");
	}
	return plan;
}

static void expect_write(size_t i, const char *path, const char *value)
{
	assert_true(i < fake.write_count);
	assert_string_equal(fake.writes[i].path, path);
	assert_string_equal(fake.writes[i].value, value);
}

static void runs_in_order(void **state)
{
	struct fb_plan plan = three();
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	assert_int_equal(fb_plan_run(&fake_machine, &plan, &ops, &err), 0);
	expect_write(0, "/a", "new");
	expect_write(1, "/b", "new");
	expect_write(2, "/c", "new");
	assert_int_equal(fake.write_count, 3);
	fb_plan_free(&plan);
}

static void leaves_what_is_so(void **state)
{
	struct fb_plan plan = three();

	(void)state;
	fake_put("/b", "new and more words\n");
	assert_int_equal(fb_plan_run(&fake_machine, &plan, &ops, NULL), 0);
	assert_int_equal(fake.write_count, 2);
	expect_write(1, "/c", "new");
	fb_plan_free(&plan);
}

static void undoes_backwards(void **state)
{
	struct fb_plan plan = three();
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	fake.fail_at = 3;
	assert_int_equal(fb_plan_run(&fake_machine, &plan, &ops, &err), -EIO);
	/* /c was never changed: its undo has nothing to do. */
	expect_write(3, "/b", "old");
	expect_write(4, "/a", "old");
	assert_int_equal(fake.write_count, 5);
	assert_int_equal(err.status, FB_EXIT_FAILED);
	assert_non_null(strstr(err.text, "set /c: cannot write"));
	fb_plan_free(&plan);
}

static int no_effect(const char *path, const char *value)
{
	if (strcmp(path, "/b"))
		fake_put(path, value);
	return 0;
}

/* A write that returns success but reads back as before has failed. */
static void believes_the_readback(void **state)
{
	struct fb_plan plan = three();
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	fake.kernel = no_effect;
	assert_int_equal(fb_plan_run(&fake_machine, &plan, &ops, &err), -EIO);
	assert_non_null(strstr(err.text, "'new' was written to /b, but /b is 'old'"));
	assert_string_equal(fake_get("/a"), "old");
	fb_plan_free(&plan);
}

/* And one that fails but reads back as wanted has not. */
static void accepts_a_late_effect(void **state)
{
	struct fb_plan plan = three();

	(void)state;
	fake.fail_at = 2;
	fake.fail_late = true;
	fake.fail_errno = EINTR;
	assert_int_equal(fb_plan_run(&fake_machine, &plan, &ops, NULL), 0);
	fb_plan_free(&plan);
}

static void tries_a_busy_one_again(void **state)
{
	struct fb_plan plan = three();

	(void)state;
	plan.steps[1].tries = 2;
	fake.fail_at = 2;
	fake.fail_errno = EBUSY;
	assert_int_equal(fb_plan_run(&fake_machine, &plan, &ops, NULL), 0);
	expect_write(1, "/b", "new");
	expect_write(2, "/b", "new");
	fb_plan_free(&plan);
}

static void goes_on_undoing(void **state)
{
	struct fb_plan plan = three();
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	plan.steps[2].undo.path[0] = '\0';
	fake.fail_at = 3;
	fake.fail_on = true;
	assert_int_equal(fb_plan_run(&fake_machine, &plan, &ops, &err), -EIO);
	assert_int_equal(err.status, FB_EXIT_UNDO);
	assert_non_null(strstr(err.text, "undo is incomplete (2 steps)"));
	expect_write(3, "/b", "old");
	expect_write(4, "/a", "old");
	fb_plan_free(&plan);
}

static void undoes_actions(void **state)
{
	struct fb_plan plan = three();
	struct fb_step *s = fb_plan_add(&plan, "convert");

	(void)state;
	s->forward_action = FB_ACTION_DEVDAX;
	s->undo_action = FB_ACTION_RAW;
	add(&plan, "/missing", "new");
	assert_true(fb_plan_run(&fake_machine, &plan, &ops, NULL) < 0);
	assert_int_equal(act_count, 2);
	assert_int_equal(acted[0], FB_ACTION_DEVDAX);
	assert_int_equal(acted[1], FB_ACTION_RAW);
	assert_string_equal(fake_get("/a"), "old");
	fb_plan_free(&plan);
}

#define MEMORY "/sys/devices/system/memory"

/* Two blocks of 128 MiB at 0; one is online: nothing may be written. */
static void guards(void **state)
{
	struct fb_plan plan = three();
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	plan.guarded = (struct fb_range){ 0, 256 * FB_MIB };
	plan.block_size = 128 * FB_MIB;
	plan.steps[0].forward.guarded = true;
	fake_put(MEMORY "/memory0/state", "offline\n");
	fake_put(MEMORY "/memory1/state", "going-offline\n");
	assert_int_equal(fb_plan_run(&fake_machine, &plan, &ops, &err), -EBUSY);
	assert_int_equal(fake.write_count, 0);
	assert_non_null(strstr(err.text, "memory block 1 is going-offline"));
	fake_put(MEMORY "/memory1/state", "offline\n");
	assert_int_equal(fb_plan_run(&fake_machine, &plan, &ops, &err), 0);
	fb_plan_free(&plan);
}

static int stop_at_b(void *context, const struct fb_step *step, struct fb_err *err)
{
	(void)context;
	return strcmp(step->forward.path, "/b") ? 0 : fb_err_set(err, EINTR, "enough");
}

static void stops(void **state)
{
	const struct fb_plan_ops stopping = { .action = act, .stop = stop_at_b };
	struct fb_plan plan = three();
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	assert_int_equal(fb_plan_run(&fake_machine, &plan, &stopping, &err), -EINTR);
	assert_non_null(strstr(err.text, "enough"));
	assert_string_equal(fake_get("/a"), "old");
	fb_plan_free(&plan);
}

static void says_steps(void **state)
{
	struct fb_plan plan = three();
	char text[FB_STEP_TEXT_MAX];
	struct fb_step *s;

	(void)state;
	plan.region = (struct fb_range){ 4 * FB_GIB, 2 * FB_GIB };
	assert_string_equal(fb_step_text(&plan, &plan.steps[0], text),
			    "write 'new' to /a");
	s = fb_plan_add(&plan, "raw");
	assert_false(fb_step_acts(s));
	s->forward_action = FB_ACTION_RAW;
	assert_true(fb_step_acts(s));
	assert_string_equal(fb_step_text(&plan, s, text),
			    "make the namespace of 0x100000000-0x17fffffff raw");
	fb_plan_free(&plan);
}

static int cleanup(void **state)
{
	(void)state;
	fake_reset();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(runs_in_order),
		cmocka_unit_test(leaves_what_is_so),
		cmocka_unit_test(undoes_backwards),
		cmocka_unit_test(believes_the_readback),
		cmocka_unit_test(accepts_a_late_effect),
		cmocka_unit_test(tries_a_busy_one_again),
		cmocka_unit_test(goes_on_undoing),
		cmocka_unit_test(undoes_actions),
		cmocka_unit_test(guards),
		cmocka_unit_test(stops),
		cmocka_unit_test(says_steps),
	};

	return cmocka_run_group_tests(tests, NULL, cleanup);
}
