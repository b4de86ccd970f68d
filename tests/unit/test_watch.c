/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <unistd.h>

#include "machine/watch.h"

static void old_handler(int signal)
{
	(void)signal;
}

static int asked(void *context)
{
	return atomic_load((atomic_int *)context);
}

/* A read that would block for ever, as an offline write can. */
static int blocked_read(void)
{
	int pipes[2], rc;
	char c;

	assert_int_equal(pipe(pipes), 0);
	rc = read(pipes[0], &c, 1) < 0 ? -errno : 0;
	close(pipes[0]);
	close(pipes[1]);
	return rc;
}

static void ends_at_the_deadline(void **state)
{
	struct fb_watch watch;

	(void)state;
	assert_int_equal(fb_watch_start(&watch, 30000, NULL, NULL, NULL), 0);
	assert_false(fb_watch_expired(&watch));
	assert_int_equal(blocked_read(), -EINTR);
	assert_true(fb_watch_expired(&watch));
	/* Not once: whatever blocks after the deadline is ended, too. */
	assert_int_equal(blocked_read(), -EINTR);
	fb_watch_stop(&watch);
}

static void ends_when_asked(void **state)
{
	atomic_int stop = 1;
	struct fb_watch watch;

	(void)state;
	assert_int_equal(fb_watch_start(&watch, 0, asked, &stop, NULL), 0);
	assert_int_equal(blocked_read(), -EINTR);
	assert_false(fb_watch_expired(&watch));
	fb_watch_stop(&watch);
}

static void puts_the_handler_back(void **state)
{
	struct sigaction action = { .sa_handler = old_handler }, now;
	struct fb_watch watch;

	(void)state;
	sigaction(SIGALRM, &action, NULL);
	assert_int_equal(fb_watch_start(&watch, 1000000, NULL, NULL, NULL), 0);
	fb_watch_stop(&watch);
	sigaction(SIGALRM, NULL, &now);
	assert_ptr_equal(now.sa_handler, old_handler);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ends_at_the_deadline),
		cmocka_unit_test(ends_when_asked),
		cmocka_unit_test(puts_the_handler_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
