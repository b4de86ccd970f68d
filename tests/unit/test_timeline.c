/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "engine/timeline.h"

static void test_usec(void **state)
{
	struct fb_origin o = { .counter_hz = 2000000000, .stamp_count = 3 };

	(void)state;
	o.stamps[0] = (struct fb_stamp){ FB_PHASE_START, 1000 };
	o.stamps[1] = (struct fb_stamp){ FB_PHASE_LOADED, 2000001000 };
	o.stamps[2] = (struct fb_stamp){ FB_PHASE_SYNCED, 2000003000 };
	assert_int_equal(fb_timeline_usec(&o, FB_PHASE_START, FB_PHASE_LOADED),
			 1000000);
	assert_int_equal(fb_timeline_usec(&o, FB_PHASE_LOADED, FB_PHASE_SYNCED), 1);
	assert_int_equal(fb_timeline_usec(&o, FB_PHASE_LOADED, FB_PHASE_START), 0);
	assert_int_equal(fb_timeline_usec(&o, FB_PHASE_START, FB_PHASE_QUIESCED), 0);
	o.counter_hz = 0;
	assert_int_equal(fb_timeline_usec(&o, FB_PHASE_START, FB_PHASE_LOADED), 0);
}

static void test_stamp(void **state)
{
	struct fb_origin o = { .stamp_count = 0 };

	(void)state;
	for (unsigned int i = 0; i < FB_HEADER_PHASES + 5; i++)
		fb_timeline_stamp(&o, FB_PHASE_START);
	assert_int_equal(o.stamp_count, FB_HEADER_PHASES);
}

/* The numbers are in images: each has its words for ever. */
static void test_text(void **state)
{
	(void)state;
	assert_string_equal(fb_phase_text(1), "start");
	assert_string_equal(fb_phase_text(4), "hot-remove");
	assert_string_equal(fb_phase_text(0), "unknown");
	assert_string_equal(fb_phase_text(999), "unknown");
	for (unsigned int i = FB_PHASE_START; i <= FB_PHASE_COPIED; i++)
		assert_string_not_equal(fb_phase_text(i), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usec),
		cmocka_unit_test(test_stamp),
		cmocka_unit_test(test_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
