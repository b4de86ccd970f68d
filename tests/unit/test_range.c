/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/range.h"
#include "base/util.h"

#define R(start, size) ((struct fb_range){ start, size })

static void validity_ends_at_2_to_the_64(void **state)
{
	(void)state;
	assert_true(fb_range_valid(R(0, UINT64_MAX)));
	assert_true(fb_range_valid(R(UINT64_MAX, 1)));
	assert_false(fb_range_valid(R(UINT64_MAX, 2)));
	assert_true(fb_range_valid(R(UINT64_MAX, 0)));
}

static void containment_and_overlap(void **state)
{
	static const struct {
		struct fb_range a, b;
		bool contains, overlaps;
	} cases[] = {
		{ { 100, 50 }, { 100, 50 }, true, true },
		{ { 100, 50 }, { 110, 10 }, true, true },
		{ { 100, 50 }, { 140, 11 }, false, true },
		{ { 100, 50 }, { 150, 10 }, false, false },
		{ { 100, 50 }, { 90, 10 }, false, false },
		{ { 100, 50 }, { 90, 11 }, false, true },
		{ { 100, 50 }, { 110, 0 }, false, false },
		{ { 100, 0 }, { 100, 0 }, false, false },
		{ { UINT64_MAX - 9, 10 }, { UINT64_MAX, 1 }, true, true },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(cases); i++) {
		assert_int_equal(fb_range_contains(cases[i].a, cases[i].b),
				 cases[i].contains);
		assert_int_equal(fb_range_overlaps(cases[i].a, cases[i].b),
				 cases[i].overlaps);
		assert_int_equal(fb_range_overlaps(cases[i].b, cases[i].a),
				 cases[i].overlaps);
	}
}

static void intersection(void **state)
{
	(void)state;
	assert_true(fb_range_equal(fb_range_intersect(R(0, 10), R(5, 10)), R(5, 5)));
	assert_int_equal(fb_range_intersect(R(0, 5), R(5, 5)).size, 0);
	assert_true(fb_range_equal(
		fb_range_intersect(R(UINT64_MAX - 1, 2), R(UINT64_MAX, 1)),
		R(UINT64_MAX, 1)));
}

static void shrinking_to_blocks(void **state)
{
	const uint64_t block = 128 * FB_MIB;

	(void)state;
	/* 2 GiB at 4 GiB, 2 MiB of overhead: 15 blocks are left. */
	assert_true(fb_range_equal(
		fb_range_shrink(R(4 * FB_GIB + 2 * FB_MIB, 2046 * FB_MIB), block),
		R(4 * FB_GIB + block, 15 * block)));
	assert_int_equal(fb_range_shrink(R(1, block), block).size, 0);
	assert_int_equal(fb_range_shrink(R(0, 0), block).size, 0);
	assert_int_equal(fb_range_shrink(R(UINT64_MAX - 10, 11), block).size, 0);
	assert_true(fb_range_equal(
		fb_range_shrink(R(UINT64_MAX - 2 * block, 2 * block + 1), block),
		R(-2 * block, 2 * block)));
}

static void text(void **state)
{
	char buf[FB_RANGE_TEXT_MAX];

	(void)state;
	assert_string_equal(fb_range_text(R(4 * FB_GIB, 2 * FB_GIB), buf),
			    "0x100000000-0x17fffffff");
	assert_string_equal(fb_range_text(R(7, 0), buf), "empty");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(validity_ends_at_2_to_the_64),
		cmocka_unit_test(containment_and_overlap),
		cmocka_unit_test(intersection),
		cmocka_unit_test(shrinking_to_blocks),
		cmocka_unit_test(text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
