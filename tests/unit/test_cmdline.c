/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "format/cmdline.h"

/* ---- splitting ---------------------------------------------------------- */

/* "name|value;..." ; "-" where there is no value; '!' in front behind "--". */
static const struct {
	const char *cmdline, *expected;
} splits[] = {
	{ "", "" },
	{ "  \t ", "" },
	{ "quiet", "quiet|-;" },
	{ " a=b  c\td=\n", "a|b;c|-;d|;" },
	{ "a=b=c", "a|b=c;" },
	{ "a=\"b c\" d", "a|b c;d|-;" },
	{ "\"a=b c\" d", "a|b c;d|-;" },
	{ "\"a b\"", "a b|-;" },
	{ "a=b\" \"c", "a|b\" \"c;" },
	{ "a=\"", "a|;" },
	{ "a=\"b c", "a|b c;" },
	{ "\"", "|-;" },
	{ "\"\"", "|-;" },
	{ "=a", "=a|-;" },
	{ "==a", "=|a;" },
	{ "a\xa0"
	  "b",
	  "a|-;b|-;" },
	{ "a -- b=c", "a|-;!--|-;!b|c;" },
	{ "--a -- --", "--a|-;!--|-;!--|-;" },
	{ "\"--\" a", "!--|-;!a|-;" },
	{ "--=x a", "--|x;a|-;" },
	{ "dyndbg=\"file a.c +p; file b.c +p\" x=1",
	  "dyndbg|file a.c +p; file b.c +p;x|1;" },
};

static void test_split(void **state)
{
	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(splits); i++) {
		struct fb_cmdline_iter it = fb_cmdline_begin(splits[i].cmdline);
		struct fb_cmdline_arg a;
		char got[256] = "";

		while (fb_cmdline_next(&it, &a))
			snprintf(got + strlen(got), sizeof(got) - strlen(got),
				 "%s%.*s|%.*s;", a.init ? "!" : "", (int)a.name_length,
				 a.name, a.value ? (int)a.value_length : 1,
				 a.value ? a.value : "-");
		assert_string_equal(got, splits[i].expected);
	}
}

static void test_find(void **state)
{
	const char *line = "a=1 log-level=3 a=2 log_level=4 -- a=3";
	struct fb_cmdline_iter it = fb_cmdline_begin(line);
	struct fb_cmdline_arg a;

	(void)state;
	assert_true(fb_cmdline_find(&it, "a", &a));
	assert_memory_equal(a.text, "a=1", 3);
	assert_true(fb_cmdline_find(&it, "a", &a));
	assert_memory_equal(a.value, "2", 1);
	assert_false(fb_cmdline_find(&it, "a", &a));
	assert_memory_equal(a.value, "2", 1); /* untouched */
	assert_true(fb_cmdline_last(line, "a", &a));
	assert_memory_equal(a.value, "2", 1);
	assert_true(fb_cmdline_last(line, "log_level", &a));
	assert_memory_equal(a.value, "4", 1);
	assert_true(fb_cmdline_last(line, "log-level", &a));
	assert_false(fb_cmdline_last(line, "b", &a));
}

/* ---- changing ----------------------------------------------------------- */

static const struct {
	const char *cmdline, *text, *expected;
} appends[] = {
	{ "", "", "" },
	{ "", "a", "a" },
	{ "a\n", "", "a" },
	{ "a b", "c=d", "a b c=d" },
	{ " a  b \n", " c ", "a  b c" },
	{ "a -- b", "c", "a c -- b" },
	{ "-- b", "c", "c -- b" },
	{ "a --", "c", "a c --" },
	{ "a=\"x -- y\" z", "c", "a=\"x -- y\" z c" },
};

static void test_append(void **state)
{
	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(appends); i++) {
		fb_autofree char *out = NULL;

		assert_int_equal(fb_cmdline_append(appends[i].cmdline, appends[i].text,
						   &out, NULL),
				 0);
		assert_string_equal(out, appends[i].expected);
	}
}

static void test_append_missing(void **state)
{
	static const struct {
		const char *cmdline, *text, *expected;
	} cases[] = {
		{ "a b=1", "b=1 c", "a b=1 c" },
		{ "b=1 b=2", "b=1", "b=1 b=2 b=1" },
		{ "b=1 b=2", "b=2", "b=1 b=2" },
		{ "memmap=1G!4G memmap=1G!8G", "memmap=1G!4G",
		  "memmap=1G!4G memmap=1G!8G" },
		{ "console=a console=b x -- y", "console=a y",
		  "console=a console=b x y -- y" },
		{ "a", "q=\"b c\" a a", "a q=\"b c\"" },
		{ "", "", "" },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(cases); i++) {
		fb_autofree char *out = NULL;

		assert_int_equal(fb_cmdline_append_missing(cases[i].cmdline,
							   cases[i].text, &out, NULL),
				 0);
		assert_string_equal(out, cases[i].expected);
	}
}

static void test_append_open_quote(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	char *out = NULL;

	(void)state;
	assert_int_equal(fb_cmdline_append("a=\"b", "c", &out, &err), -EINVAL);
	assert_null(out);
	assert_non_null(strstr(err.text, "quote"));
}

static void test_reuse(void **state)
{
	fb_autofree char *a = NULL, *b = NULL;

	(void)state;
	assert_int_equal(fb_cmdline_reuse("BOOT_IMAGE=/vmlinuz-6.12 root=/dev/sda1  ro "
					  "initrd=\\initrd.img memmap=2G!4G "
					  "-- initrd=x\n",
					  &a, NULL),
			 0);
	assert_string_equal(a, "root=/dev/sda1 ro memmap=2G!4G -- initrd=x");
	assert_int_equal(fb_cmdline_reuse("\"BOOT_IMAGE=/a b\" x=\"y z\"", &b, NULL),
			 0);
	assert_string_equal(b, "x=\"y z\"");
}

/* ---- memmap= ------------------------------------------------------------ */

static const struct {
	const char *value;
	enum fb_memmap_kind kind;
	uint64_t start, size;
	bool junk;
} entries[] = {
	{ "2G!4G", FB_MEMMAP_PERSISTENT, 4 * FB_GIB, 2 * FB_GIB, false },
	{ "2g!4g", FB_MEMMAP_PERSISTENT, 4 * FB_GIB, 2 * FB_GIB, false },
	{ "2048M!4096m", FB_MEMMAP_PERSISTENT, 4 * FB_GIB, 2 * FB_GIB, false },
	{ "2050M!4222M", FB_MEMMAP_PERSISTENT, 4222 * FB_MIB, 2050 * FB_MIB, false },
	{ "0x80000000!0x100000000", FB_MEMMAP_PERSISTENT, 4 * FB_GIB, 2 * FB_GIB,
	  false },
	{ "0X2g!0X4G", FB_MEMMAP_PERSISTENT, 4 * FB_GIB, 2 * FB_GIB, false },
	{ "020000000000!040000000000", FB_MEMMAP_PERSISTENT, 4 * FB_GIB, 2 * FB_GIB,
	  false },
	{ "2097152K!4194304k", FB_MEMMAP_PERSISTENT, 4 * FB_GIB, 2 * FB_GIB, false },
	{ "1T!2t", FB_MEMMAP_PERSISTENT, 2048 * FB_GIB, 1024 * FB_GIB, false },
	{ "1P!1E", FB_MEMMAP_PERSISTENT, (uint64_t)1 << 60, (uint64_t)1 << 50, false },
	{ "2G!", FB_MEMMAP_PERSISTENT, 0, 2 * FB_GIB, false },
	{ "2G!4Gx", FB_MEMMAP_PERSISTENT, 4 * FB_GIB, 2 * FB_GIB, true },
	{ "2G!4GB", FB_MEMMAP_PERSISTENT, 4 * FB_GIB, 2 * FB_GIB, true },
	{ "2G!4GK", FB_MEMMAP_PERSISTENT, 4 * FB_GIB, 2 * FB_GIB, true },
	{ "2G!09", FB_MEMMAP_PERSISTENT, 0, 2 * FB_GIB, true }, /* octal stops at 9 */
	{ "0x!4G", FB_MEMMAP_LIMIT, 0, 0, true },		/* "0", then 'x' */
	{ "18446744073709551617!1", FB_MEMMAP_PERSISTENT, 1, 1, false }, /* wraps */
	{ "1G@2G", FB_MEMMAP_RAM, 2 * FB_GIB, FB_GIB, false },
	{ "1G#2G", FB_MEMMAP_ACPI, 2 * FB_GIB, FB_GIB, false },
	{ "1G$2G", FB_MEMMAP_RESERVED, 2 * FB_GIB, FB_GIB, false },
	{ "1G%2G", FB_MEMMAP_RETYPE, 2 * FB_GIB, FB_GIB, false },
	{ "1G%2G-1", FB_MEMMAP_RETYPE, 2 * FB_GIB, FB_GIB, false },
	{ "1G%2G-1+12", FB_MEMMAP_RETYPE, 2 * FB_GIB, FB_GIB, false },
	{ "1G%2G+0xefffffff", FB_MEMMAP_RETYPE, 2 * FB_GIB, FB_GIB, false },
	{ "1G%2G+1-2", FB_MEMMAP_RETYPE, 2 * FB_GIB, FB_GIB, true },
	{ "3G", FB_MEMMAP_LIMIT, 0, 3 * FB_GIB, false },
	{ "3Gx", FB_MEMMAP_LIMIT, 0, 3 * FB_GIB, true },
	{ "exactmap", FB_MEMMAP_EXACT, 0, 0, false },
	{ "exactmapx", FB_MEMMAP_EXACT, 0, 0, false },
	{ "", FB_MEMMAP_MALFORMED, 0, 0, false },
	{ "!4G", FB_MEMMAP_MALFORMED, 0, 0, false },
	{ "x", FB_MEMMAP_MALFORMED, 0, 0, false },
	{ "-1G!4G", FB_MEMMAP_MALFORMED, 0, 0, false },
};

static void test_memmap_entry(void **state)
{
	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(entries); i++) {
		fb_autofree struct fb_memmap *list = NULL;
		fb_autofree char *line = fb_asprintf("memmap=%s", entries[i].value);
		size_t count;

		assert_int_equal(fb_memmap_parse(line, &list, &count, NULL), 0);
		assert_int_equal(count, 1);
		assert_memory_equal(list[0].text, entries[i].value, list[0].length);
		if (list[0].kind != entries[i].kind || list[0].junk != entries[i].junk)
			fail_msg("%s: kind %d junk %d", line, list[0].kind,
				 list[0].junk);
		assert_int_equal(list[0].range.start, entries[i].start);
		assert_int_equal(list[0].range.size, entries[i].size);
	}
}

static void test_memmap_several(void **state)
{
	fb_autofree struct fb_memmap *list = NULL;
	size_t count;

	(void)state;
	assert_int_equal(fb_memmap_parse("memmap=exactmap,640K@0 x memmap "
					 "memmap=\"2G!4G,,1G$8G\" -- memmap=1G!1G",
					 &list, &count, NULL),
			 0);
	assert_int_equal(count, 5);
	assert_int_equal(list[0].kind, FB_MEMMAP_EXACT);
	assert_int_equal(list[1].kind, FB_MEMMAP_RAM);
	assert_int_equal(list[2].kind, FB_MEMMAP_PERSISTENT);
	assert_int_equal(list[3].kind, FB_MEMMAP_MALFORMED);
	assert_int_equal(list[4].kind, FB_MEMMAP_RESERVED);
}

static void test_memmap_text(void **state)
{
	static const struct {
		struct fb_range range;
		const char *text;
	} cases[] = {
		{ { 4 * FB_GIB, 2 * FB_GIB }, "memmap=2G!4G" },
		{ { 4222 * FB_MIB, 2050 * FB_MIB }, "memmap=2050M!4222M" },
		{ { 0x1001, 12 }, "memmap=12!4097" },
		{ { 0, 4096 }, "memmap=4K!0" },
		{ { (uint64_t)1 << 60, (uint64_t)1 << 40 }, "memmap=1T!1E" },
	};
	char buf[FB_MEMMAP_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(cases); i++) {
		fb_memmap_text(cases[i].range, buf);
		assert_string_equal(buf, cases[i].text);
		assert_int_equal(fb_cmdline_carries(buf, cases[i].range, NULL), 0);
	}
}

/* ---- carried? The region is 2 GiB at 4 GiB. ------------------------------ */

static const struct {
	const char *cmdline;
	int rc;
	const char *message;
} carries[] = {
	{ "memmap=2G!4G", 0, NULL },
	{ "quiet memmap=0x80000000!4096M ro", 0, NULL },
	{ "memmap=2G!4G,1G!8G", 0, NULL },
	{ "memmap=1G!8G memmap=2G!4G", 0, NULL },
	{ "memmap=2G!4G memmap=2G!4G", 0, NULL },
	{ "memmap=2G!4G,1G!6G", 0, NULL },	  /* neighbours are not merged */
	{ "memmap=3G!4G memmap=2G!4G", 0, NULL }, /* cut at 6G */
	{ "memmap=exactmap,8G@0,2G!4G", 0, NULL },
	{ "memmap=2G!4Gx", 0, NULL },
	{ "memmap=2G!4G mem=4G", 0, NULL },
	{ "memmap=2G!4G mem=6G", 0, NULL },
	{ "memmap=2G!4G mem=3G", 0, NULL },
	{ "memmap=2G!4G mem=nopentium", 0, NULL },
	{ "memmap=2G!4G memmap=1G%8G-1+2", 0, NULL },
	{ "", -ENOENT, "memmap=2G!4G" },
	{ "quiet -- memmap=2G!4G", -ENOENT, "memmap=2G!4G" },
	{ "memmap=2G!5G", -ENOENT, "memmap=2G!4G" },
	{ "memmap=1G!4G", -ENOENT, "memmap=2G!4G" },
	{ "memmap=2G@4G", -ENOENT, "memmap=2G!4G" },
	{ "memmap=2G$4G", -ENOENT, "memmap=2G!4G" },
	{ "memmap=1G!4G,1G!5G", -ENOENT, "memmap=2G!4G" },
	{ "memmap=2GB!4G", -ENOENT, "memmap=2GB!4G is malformed" },
	{ "memmap=2G!4G,exactmap", -EINVAL, "exactmap" },
	{ "memmap=2G!4G memmap=1G!5G", -EINVAL, "memmap=1G!5G" },
	{ "memmap=2G!4G memmap=1G$5G", -EINVAL, "memmap=1G$5G" },
	{ "memmap=2G!4G memmap=4G!2G", 0, NULL },
	{ "memmap=2G!4G memmap=3G!2G", -EINVAL, "memmap=3G!2G" },
	{ "memmap=2G!4G memmap=1G%4G-12+1", -EINVAL, "memmap=1G%4G-12+1" },
	{ "memmap=2G!4G memmap=5G", -EINVAL, "memmap=5G" },
	{ "memmap=2G!4G mem=5G", -EINVAL, "mem=5G" },
	{ "mem=5000M memmap=2G!4G memmap=zz", -EINVAL, "memmap=zz is malformed" },
};

static void test_carries(void **state)
{
	struct fb_range region = { 4 * FB_GIB, 2 * FB_GIB };

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(carries); i++) {
		struct fb_err err = FB_ERR_INIT;
		int rc = fb_cmdline_carries(carries[i].cmdline, region, &err);

		if (rc != carries[i].rc)
			fail_msg("%s: %d %s", carries[i].cmdline, rc, err.text);
		if (rc && !strstr(err.text, carries[i].message))
			fail_msg("%s: %s", carries[i].cmdline, err.text);
	}
}

/* ---- KASLR -------------------------------------------------------------- */

static const struct {
	const char *cmdline;
	int rc;
} kaslr[] = {
	{ "memmap=2G!4G", 0 },
	{ "memmap=1M!8G,1M!9G,1M!10G,2G!4G", 0 },
	{ "memmap=1M!8G memmap=1M!9G memmap=1M$10G memmap=2G!4G", 0 },
	/* five arguments: the fifth is not looked at and nobody gives up */
	{ "memmap=1M!8G memmap=1M!9G memmap=1M!10G memmap=1M!11G memmap=2G!4G",
	  -E2BIG },
	/* five in one: gives up placing the kernel at random */
	{ "memmap=1M!8G,1M!9G,1M!10G,1M!11G,2G!4G", 0 },
	{ "memmap=1M!8G memmap=1M!9G memmap=1M!10G memmap=1M!11G memmap=2G!4G nokaslr",
	  0 },
	/* those without a start don't take a place */
	{ "memmap=1M@8G,1M@9G,1M@10G,8G,1M@11G,2G!4G", 0 },
	/* the rest behind what it does not understand */
	{ "memmap=exactmap,8G@0,2G!4G", -E2BIG },
	{ "memmap=exactmap,8G@0 memmap=2G!4G", 0 },
	{ "memmap=x,2G!4G", -E2BIG },
	{ "mem=0 memmap=2G!4G", -E2BIG },
	{ "mem=nopentium memmap=2G!4G", 0 },
	{ "mem memmap=2G!4G", 0 },
	{ "-- nokaslr memmap=2G!4G", -E2BIG },
};

static void test_kaslr(void **state)
{
	struct fb_range region = { 4 * FB_GIB, 2 * FB_GIB };

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(kaslr); i++) {
		struct fb_err err = FB_ERR_INIT;
		int rc = fb_cmdline_kaslr_avoids(kaslr[i].cmdline, region, &err);

		if (rc != kaslr[i].rc)
			fail_msg("%s: %d", kaslr[i].cmdline, rc);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_append),
		cmocka_unit_test(test_append_missing),
		cmocka_unit_test(test_append_open_quote),
		cmocka_unit_test(test_reuse),
		cmocka_unit_test(test_memmap_entry),
		cmocka_unit_test(test_memmap_several),
		cmocka_unit_test(test_memmap_text),
		cmocka_unit_test(test_carries),
		cmocka_unit_test(test_kaslr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
