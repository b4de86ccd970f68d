/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "machine/hook.h"

static char path[64];

static void script(const char *body)
{
	FILE *f;

	snprintf(path, sizeof(path), "/tmp/test_hook.%d", (int)getpid());
	f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "#!/bin/sh\n%s\n", body);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, 0700), 0);
}

static int run(const char *body, struct fb_err *err)
{
	int rc;

	script(body);
	rc = fb_hook_run(path, "quiesce", NULL, err);
	unlink(path);
	return rc;
}

static void test_status(void **state)
{
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	assert_int_equal(run("[ \"$1\" = quiesce ] && [ $# = 1 ]", &err), 0);
	assert_int_equal(run("! read -r line", &err), 0); /* stdin is empty */
	assert_int_equal(run("exit 7", &err), -ECANCELED);
	assert_non_null(strstr(err.text, "quiesce hook /tmp/"));
	assert_non_null(strstr(err.text, "failed with status 7"));
	assert_int_equal(run("kill -KILL $$", &err), -ECANCELED);
	assert_non_null(strstr(err.text, "SIGKILL"));
}

static void test_cannot_start(void **state)
{
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	assert_int_equal(fb_hook_run("/nowhere", "resume", NULL, &err), -ENOENT);
	assert_non_null(strstr(err.text, "cannot run the resume hook /nowhere"));
	assert_int_equal(fb_hook_run("/tmp", "resume", NULL, &err), -EACCES);
}

static void on_alarm(int signal)
{
	(void)signal;
}

static int interrupted(struct fb_err *err)
{
	return fb_err_set(err, EINTR, "interrupted by SIGALRM");
}

/* A signal ends the program, and it is waited for. */
static void test_interrupt(void **state)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	sigaction(SIGALRM, &action, NULL);
	script("exec sleep 60");
	ualarm(100000, 0);
	assert_int_equal(fb_hook_run(path, "quiesce", interrupted, &err), -EINTR);
	unlink(path);
	assert_non_null(strstr(err.text, "interrupted by SIGALRM"));
}

/* An ignored SIGPIPE would be inherited. */
static void test_sigpipe(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(run("kill -PIPE $$; exit 0", NULL), -ECANCELED);
	signal(SIGPIPE, SIG_DFL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_cannot_start),
		cmocka_unit_test(test_interrupt),
		cmocka_unit_test(test_sigpipe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
