/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>

#include "machine/clock.h"

static void test_ticks(void **state)
{
	(void)state;
	assert_int_equal(fb_clock_ticks_usec(0, 0), 0);
	assert_int_equal(fb_clock_ticks_usec(5, 0), 0);
	assert_int_equal(fb_clock_ticks_usec(3000, 3000000000u), 1);
	assert_int_equal(fb_clock_ticks_usec(2999, 3000000000u), 0);
	/* a product that does not fit in 64 bits: 100 days at 4 GHz */
	assert_int_equal(fb_clock_ticks_usec(8640000ull * 4000000000ull, 4000000000u),
			 8640000000000ull);
}

/* The counter and the clock agree over 20 ms within a hundredth. */
static void test_frequency(void **state)
{
	struct timespec pause = { 0, 20000000 };
	uint64_t hz = fb_clock_frequency(), usec, counted;

	(void)state;
	if (!hz)
		skip();
	usec = fb_clock_usec();
	counted = fb_clock_counter();
	nanosleep(&pause, NULL);
	counted = fb_clock_ticks_usec(fb_clock_counter() - counted, hz);
	usec = fb_clock_usec() - usec;
	assert_true(counted >= 20000 - 200);
	assert_in_range(counted * 100 / usec, 95, 105);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ticks),
		cmocka_unit_test(test_frequency),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
