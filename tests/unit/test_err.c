/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/err.h"

static void set_records_and_negates(void **state)
{
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	assert_int_equal(fb_err_set(&err, EBUSY, "block %d", 33), -EBUSY);
	assert_int_equal(err.error, EBUSY);
	assert_int_equal(err.status, FB_EXIT_FAILED);
	assert_string_equal(err.text, "block 33");
}

static void status_is_kept_by_prefix(void **state)
{
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	fb_err_exit(&err, FB_EXIT_NO_IMAGE, ENODATA, "zeros");
	assert_int_equal(fb_err_prefix(&err, "/dev/%s", "pmem0"), -ENODATA);
	assert_int_equal(err.status, FB_EXIT_NO_IMAGE);
	assert_string_equal(err.text, "/dev/pmem0: zeros");
	fb_err_append(&err, " (%s)", "hint");
	assert_string_equal(err.text, "/dev/pmem0: zeros (hint)");
}

static void sys_appends_the_description(void **state)
{
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	assert_int_equal(fb_err_sys(&err, ENOENT, "open %s", "x"), -ENOENT);
	assert_string_equal(err.text, "open x: No such file or directory");
}

static void a_text_may_be_built_from_the_old_one(void **state)
{
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	fb_err_set(&err, EIO, "inner");
	fb_err_set(&err, EIO, "outer of %s", err.text);
	assert_string_equal(err.text, "outer of inner");
}

static void long_texts_are_cut_not_overrun(void **state)
{
	struct { struct fb_err err; char guard[8]; } s = { FB_ERR_INIT, "guarded" };
	char big[2 * FB_ERR_TEXT_MAX];

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	fb_err_set(&s.err, EIO, "%s", big);
	fb_err_prefix(&s.err, "%s", big);
	fb_err_append(&s.err, "%s", big);
	assert_int_equal(strlen(s.err.text), FB_ERR_TEXT_MAX - 1);
	assert_string_equal(s.guard, "guarded");
}

static void null_is_allowed(void **state)
{
	(void)state;
	assert_int_equal(fb_err_set(NULL, EIO, "x"), -EIO);
	assert_int_equal(fb_err_sys(NULL, EPERM, "x"), -EPERM);
	assert_int_equal(fb_err_prefix(NULL, "x"), -EIO);
	fb_err_append(NULL, "x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_records_and_negates),
		cmocka_unit_test(status_is_kept_by_prefix),
		cmocka_unit_test(sys_appends_the_description),
		cmocka_unit_test(a_text_may_be_built_from_the_old_one),
		cmocka_unit_test(long_texts_are_cut_not_overrun),
		cmocka_unit_test(null_is_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
