/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/util.h"

struct number_case {
	const char *text;
	int rc;
	uint64_t value;
};

static void parse_u64_is_strict(void **state)
{
	static const struct number_case cases[] = {
		{ "0", 0, 0 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "", -EINVAL, 0 },	{ " 1", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },	{ "+1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },	{ "1x", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(cases); i++) {
		uint64_t v = 0;

		assert_int_equal(fb_parse_u64(cases[i].text, &v), cases[i].rc);
		assert_int_equal(v, cases[i].value);
	}
}

static void parse_size_takes_what_people_write(void **state)
{
	static const struct number_case cases[] = {
		{ "2G", 0, 2 * FB_GIB },    { "2g", 0, 2 * FB_GIB },
		{ "2GiB", 0, 2 * FB_GIB },  { "2050M", 0, 2050 * FB_MIB },
		{ "4096", 0, 4096 },	    { "0x100000000", 0, 4 * FB_GIB },
		{ "0x80M", 0, 128 * FB_MIB }, { "15E", 0, 15ull << 60 },
		{ "16E", -ERANGE, 0 },	    { "2GB", -EINVAL, 0 },
		{ "G", -EINVAL, 0 },	    { "-1G", -EINVAL, 0 },
		{ "1.5G", -EINVAL, 0 },	    { "2G ", -EINVAL, 0 },
		{ "", -EINVAL, 0 },	    { "0x", -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(cases); i++) {
		uint64_t v = 0;

		assert_int_equal(fb_parse_size(cases[i].text, &v), cases[i].rc);
		assert_int_equal(v, cases[i].value);
	}
}

static void parse_seconds_gives_microseconds(void **state)
{
	static const struct number_case cases[] = {
		{ "30", 0, 30000000 },	 { "0.25", 0, 250000 },
		{ "1.5", 0, 1500000 },	 { "0.001", 0, 1000 },
		{ "0.0001", -EINVAL, 0 }, { "1.", -EINVAL, 0 },
		{ ".5", -EINVAL, 0 },	 { "-1", -EINVAL, 0 },
		{ "1s", -EINVAL, 0 },	 { "99999999999999999999", -ERANGE, 0 },
		{ "18446744073710", -ERANGE, 0 },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(cases); i++) {
		uint64_t v = 0;
		int rc = fb_parse_seconds(cases[i].text, &v);

		assert_int_equal(rc, cases[i].rc);
		if (!rc)
			assert_int_equal(v, cases[i].value);
	}
}

static void size_text_is_exact_or_one_decimal(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {
		{ 0, "0 B" },
		{ 17, "17 B" },
		{ 1023, "1,023 B" },
		{ 4096, "4 KiB" },
		{ 2 * FB_GIB, "2 GiB" },
		{ 1920 * FB_MIB, "1,920 MiB" },
		{ 12 * FB_MIB + FB_MIB / 2, "12,800 KiB" },
		{ 12 * FB_MIB + FB_MIB / 2 + 1, "12.4 MiB" },
		{ 2 * FB_GIB - 1, "1.9 GiB" },
		{ UINT64_MAX, "16,777,215.9 TiB" },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(cases); i++) {
		char buf[FB_SIZE_TEXT_MAX];

		assert_string_equal(fb_size_text(cases[i].bytes, buf),
				    cases[i].text);
	}
}

static void escape_leaves_only_printable_ascii(void **state)
{
	char *text = fb_escape("a b\n\\\xff", 6);

	(void)state;
	assert_string_equal(text, "a b\\012\\134\\377");
	free(text);
}

static void overflow_is_seen(void **state)
{
	uint64_t v;

	(void)state;
	assert_true(fb_add_overflow(UINT64_MAX, 1, &v));
	assert_false(fb_add_overflow(UINT64_MAX - 1, 1, &v));
	assert_true(fb_mul_overflow(UINT64_MAX / 2, 3, &v));
	assert_int_equal(fb_align_up(4097, 4096), 8192);
	assert_int_equal(fb_align_down(4097, 4096), 4096);
	assert_false(fb_is_power_of_2(0));
	assert_true(fb_is_power_of_2(4096));
	assert_false(fb_is_power_of_2(4097));
}

static void arrays_grow_and_keep_their_content(void **state)
{
	int *array = NULL;
	size_t capacity = 0;

	(void)state;
	for (size_t i = 0; i < 1000; i++) {
		assert_int_equal(fb_array_grow(&array, &capacity, i + 1,
					       sizeof(*array)), 0);
		array[i] = (int)i;
	}
	for (int i = 0; i < 1000; i++)
		assert_int_equal(array[i], i);
	assert_int_equal(fb_array_grow(&array, &capacity, SIZE_MAX, sizeof(*array)),
			 -ENOMEM);
	assert_int_equal(array[999], 999);
	free(array);
}

static void uuids_have_one_form(void **state)
{
	static const char good[] = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";
	static const char *const bad[] = {
		"", "3f2504e0", "3f2504e04f8941d39a0c0305e82c3301",
		"3f2504e0-4f89-41d3-9a0c-0305e82c330",
		"3f2504e0-4f89-41d3-9a0c-0305e82c33011",
		"3F2504e0-4f89-41d3-9a0c-0305e82c3301",
		"3f2504e0-4f89-41d3-9a0c0-305e82c3301",
	};
	uint8_t uuid[16], none[16] = { 0 }, zero[16] = { 0 };
	char text[FB_UUID_TEXT_SIZE];

	(void)state;
	assert_int_equal(fb_uuid_parse(good, uuid), 0);
	assert_int_equal(uuid[0], 0x3f);
	assert_int_equal(uuid[15], 0x01);
	fb_uuid_text(uuid, text);
	assert_string_equal(text, good);
	for (size_t i = 0; i < FB_ARRAY_SIZE(bad); i++)
		assert_int_equal(fb_uuid_parse(bad[i], none), -EINVAL);
	assert_memory_equal(none, zero, 16);
}

static int by_value(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return x < y ? -1 : x > y;
}

static void array_sort_leaves_what_is_in_order(void **state)
{
	int ordered[] = { 1, 2, 2, 3 }, last[] = { 1, 2, 4, 3 };
	const int same[] = { 1, 2, 2, 3 }, want[] = { 1, 2, 3, 4 };

	(void)state;
	fb_array_sort(ordered, 4, sizeof(int), by_value);
	assert_memory_equal(ordered, same, sizeof(same));
	fb_array_sort(last, 4, sizeof(int), by_value);
	assert_memory_equal(last, want, sizeof(want));
	fb_array_sort(last, 0, sizeof(int), by_value);
	assert_memory_equal(last, want, sizeof(want));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(array_sort_leaves_what_is_in_order),
		cmocka_unit_test(parse_u64_is_strict),
		cmocka_unit_test(parse_size_takes_what_people_write),
		cmocka_unit_test(parse_seconds_gives_microseconds),
		cmocka_unit_test(size_text_is_exact_or_one_decimal),
		cmocka_unit_test(escape_leaves_only_printable_ascii),
		cmocka_unit_test(overflow_is_seen),
		cmocka_unit_test(uuids_have_one_form),
		cmocka_unit_test(arrays_grow_and_keep_their_content),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
