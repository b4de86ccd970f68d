/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "machine/run.h"

static char *shell(const char *script, int *status)
{
	char *argv[] = { (char *)"/bin/sh", (char *)"-c", (char *)script, NULL };
	char *output = NULL;

	assert_int_equal(fb_run_output(argv, &output, status, NULL), 0);
	return output;
}

static void test_output(void **state)
{
	int status = 0;
	char *text = shell("echo out; echo err >&2; cat; exit 3", &status);

	(void)state;
	assert_string_equal(text, "out\nerr\n");
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 3);
	free(text);
	text = shell("kill -9 $$", &status);
	assert_string_equal(text, "");
	assert_true(WIFSIGNALED(status));
	free(text);
}

/* More than is kept: the program must still come to its end. */
static void test_much(void **state)
{
	int status = 0;
	char *text = shell("head -c 3000000 /dev/zero | tr '\\0' x; exit 4", &status);

	(void)state;
	assert_int_equal(strlen(text), FB_RUN_OUTPUT_MAX - 1);
	assert_int_equal(WEXITSTATUS(status), 4);
	free(text);
}

static void test_missing(void **state)
{
	char *argv[] = { (char *)"/nowhere/kexec", NULL }, *output = NULL;
	struct fb_err err = FB_ERR_INIT;
	int status = 0;

	(void)state;
	assert_int_equal(fb_run_output(argv, &output, &status, &err), -ENOENT);
	assert_null(output);
	assert_string_equal(err.text,
			    "cannot run /nowhere/kexec: No such file or directory");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_much),
		cmocka_unit_test(test_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
