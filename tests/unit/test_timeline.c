/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/util.h"
#include "engine/timeline.h"
#include "engine/timeline_file.h"
#include "machine/clock.h"

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
	for (unsigned int i = FB_PHASE_START; i <= FB_PHASE_RELEASED; i++)
		assert_string_not_equal(fb_phase_text(i), "unknown");
}

/* ---- the file ----------------------------------------------------------------------- */

static const char sample[] =
	"fastboot timeline 1\n"
	"counter_hz 2000000000\n"
	"image 00010203-0405-0607-0809-0a0b0c0d0e0f\n"
	"generation 7\n"
	"image_bytes 1048576\n"
	"wall_usec 1700000000000000\n"
	"from 3f2504e0-4f89-41d3-9a0c-0305e82c3301 6.1.0\n"
	"to 3f2504e0-4f89-41d3-9a0c-0305e82c3302 6.12.1 (own)\n"
	"stamp 1 1000\n"
	"stamp 19 5000\n"
	"stamp 65535 18446744073709551615\n"
	"kernel memory 345\n"
	"kernel init 1234567\n";

static void test_parse(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_timeline t;
	fb_autofree char *text = NULL, *longer = NULL;

	(void)state;
	assert_int_equal(fb_timeline_parse(sample, &t, &err), 0);
	assert_int_equal(t.counter_hz, 2000000000);
	assert_int_equal(t.image[15], 0x0f);
	assert_int_equal(t.generation, 7);
	assert_int_equal(t.image_bytes, 1048576);
	assert_int_equal(t.to.id[15], 2);
	assert_string_equal(t.to.release, "6.12.1 (own)");
	assert_int_equal(t.stamp_count, 3);
	assert_int_equal(fb_timeline_find(&t, FB_PHASE_LEFT)->counter, 5000);
	assert_null(fb_timeline_find(&t, FB_PHASE_FOUND));
	assert_int_equal(t.mark_count, 2);
	assert_string_equal(t.marks[1].name, "init");
	assert_int_equal(t.marks[1].usec, 1234567);

	strcpy(t.to.release, "6.12.1");
	text = fb_timeline_format(&t);
	assert_non_null(strstr(text, "\nto 3f2504e0-4f89-41d3-9a0c-0305e82c3302 6.12.1\n"));
	assert_int_equal(fb_timeline_parse(text, &t, &err), 0);
	longer = fb_asprintf("%sof a later version\n", text);
	assert_int_equal(fb_timeline_parse(longer, &t, &err), 0);
	free(text);
	text = fb_timeline_format(&t);
	assert_int_equal(strncmp(text, longer, strlen(text)), 0);
}

/* No release of a header becomes a line of its own. */
static void test_format_is_lines(void **state)
{
	struct fb_timeline t = { 0 };
	fb_autofree char *text = NULL;

	(void)state;
	strcpy(t.from.release, "a\nstamp 1 1\x7f\xff b");
	text = fb_timeline_format(&t);
	assert_non_null(strstr(text, " a?stamp?1?1???b\n"));
}

static void test_parse_refuses(void **state)
{
	static const struct {
		const char *text;
		int rc;
		const char *why;
	} table[] = {
		{ "", -EBADMSG, "empty" },
		{ "\n", -EBADMSG, "not a timeline" },
		{ "something else\n", -EBADMSG, "not a timeline" },
		{ "fastboot timeline\n", -EBADMSG, "not a timeline" },
		{ "fastboot timeline 0\n", -EBADMSG, "not a timeline" },
		{ "fastboot timeline 1x\n", -EBADMSG, "not a timeline" },
		{ "fastboot timeline 2\nstamp\n", -EPROTONOSUPPORT, "version 2" },
		{ "fastboot timeline 1", -EBADMSG, "line 1 is cut off" },
		{ "fastboot timeline 1\nstamp 1 10", -EBADMSG, "line 2 is cut off" },
		{ "fastboot timeline 1\nstamp 1\n", -EBADMSG, "line 2 is damaged" },
		{ "fastboot timeline 1\n\nstamp -1 1\n", -EBADMSG, "line 3" },
		{ "fastboot timeline 1\nstamp 65536 1\n", -EBADMSG, "line 2" },
		{ "fastboot timeline 1\nstamp 1 1 1\n", -EBADMSG, "line 2" },
		{ "fastboot timeline 1\nkernel  1\n", -EBADMSG, "line 2" },
		{ "fastboot timeline 1\nkernel a-name-too-long-x 1\n", -EBADMSG, "line 2" },
		{ "fastboot timeline 1\nfrom 3f25 6.1\n", -EBADMSG, "line 2" },
		{ "fastboot timeline 1\nimage 3f25\n", -EBADMSG, "line 2" },
		{ "fastboot timeline 1\ncounter_hz many\n", -EBADMSG, "line 2" },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(table); i++) {
		struct fb_err err = FB_ERR_INIT;
		struct fb_timeline t = { .generation = 99 };

		assert_int_equal(fb_timeline_parse(table[i].text, &t, &err),
				 table[i].rc);
		assert_non_null(strstr(err.text, table[i].why));
		assert_int_equal(t.generation, 99);
	}
}

/* As many as fit, and one more. */
static void test_parse_counts(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_timeline t;
	char text[4096] = "fastboot timeline 1\n";

	(void)state;
	for (unsigned int i = 0; i < FB_TIMELINE_STAMPS; i++)
		sprintf(text + strlen(text), "stamp %u 1\n", i);
	for (unsigned int i = 0; i < FB_TIMELINE_MARKS; i++)
		sprintf(text + strlen(text), "kernel m%u 1\n", i);
	assert_int_equal(fb_timeline_parse(text, &t, &err), 0);
	assert_int_equal(t.stamp_count, FB_TIMELINE_STAMPS);
	strcat(text, "kernel x 1\n");
	assert_int_equal(fb_timeline_parse(text, &t, &err), -EBADMSG);
}

/* Every prefix of a file is refused or has fewer facts; none is read past. */
static void test_parse_cut(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_timeline t;

	(void)state;
	for (size_t n = 0; n < strlen(sample); n++) {
		fb_autofree char *text = strndup(sample, n);
		int rc = fb_timeline_parse(text, &t, &err);

		assert_int_equal(rc, n && text[n - 1] == '\n' ? 0 : -EBADMSG);
	}
}

static char directory[] = "/tmp/fastboot-timeline.XXXXXX";

static char *in_directory(const char *name)
{
	return fb_asprintf("%s/%s", directory, name);
}

static void make_header(struct fb_header *h)
{
	memset(h, 0, sizeof(*h));
	h->image_length = 1 << 20;
	h->left_usec = 2000;
	h->origin.counter_hz = fb_clock_frequency();
	h->origin.generation = 3;
	memset(h->origin.boot_id, 0xbb, 16);
	strcpy(h->origin.release, "6.1.0");
	fb_timeline_stamp(&h->origin, FB_PHASE_START);
	fb_timeline_stamp(&h->origin, FB_PHASE_COPIED);
}

/*
 * The frequency of a counter that has run as many times as long as this kernel's
 * clock. The real one does not do: where the kernel began right after the counter, as in a
 * virtual machine, their distance drowns in the error of the measured frequency.
 */
static uint64_t frequency_for(unsigned int times)
{
	return fb_clock_counter() / times / (fb_clock_usec() / 1000) * 1000;
}

static void begin(const char *path, const struct fb_header *h,
		  const struct fb_origin *mine, struct fb_timeline *t)
{
	struct fb_err err = FB_ERR_INIT;

	assert_int_equal(fb_timeline_begin(path, h, mine, &err), 0);
	assert_int_equal(fb_timeline_load(path, t, &err), 0);
}

static void test_begin(void **state)
{
	fb_autofree char *path = in_directory("run/timeline");
	struct fb_origin mine = { .stamp_count = 0 };
	struct fb_err err = FB_ERR_INIT;
	const struct fb_stamp *kernel;
	struct fb_timeline t;
	struct fb_header h;
	uint64_t left, now;
	size_t count;

	(void)state;
	make_header(&h);
	now = fb_clock_counter();
	h.origin.counter_hz = frequency_for(2);
	fb_timeline_stamp(&mine, FB_PHASE_RESTORING);
	fb_timeline_stamp(&mine, FB_PHASE_FOUND);
	assert_int_equal(fb_timeline_append(path, FB_PHASE_VISIBLE), -ENOENT);
	begin(path, &h, &mine, &t);
	assert_int_equal(t.generation, 3);
	assert_int_equal(t.image_bytes, 1 << 20);
	assert_string_equal(t.from.release, "6.1.0");
	assert_true(strlen(t.to.release) > 0);
	assert_memory_equal(t.from.id, h.origin.boot_id, 16);
	left = fb_timeline_find(&t, FB_PHASE_LEFT)->counter -
	       fb_timeline_find(&t, FB_PHASE_COPIED)->counter;
	assert_in_range(fb_clock_ticks_usec(left, t.counter_hz), 1999, 2000);
	/* The kernel's clock began half way. */
	kernel = fb_timeline_find(&t, FB_PHASE_KERNEL);
	assert_non_null(kernel);
	assert_in_range(kernel->counter, now / 2 - now / 16, now / 2 + now / 16);

	/* The first of a phase counts, and the first timeline of a boot. */
	assert_int_equal(fb_timeline_append(path, FB_PHASE_VISIBLE), 0);
	assert_int_equal(fb_timeline_load(path, &t, &err), 0);
	left = fb_timeline_find(&t, FB_PHASE_VISIBLE)->counter;
	count = t.stamp_count;
	assert_int_equal(fb_timeline_append(path, FB_PHASE_VISIBLE), 0);
	begin(path, &h, NULL, &t);
	assert_int_equal(fb_timeline_find(&t, FB_PHASE_VISIBLE)->counter, left);
	assert_int_equal(t.stamp_count, count);
}

/* A counter that is younger than the kernel's clock (set back): that phase is left out. */
static void test_begin_counter_set_back(void **state)
{
	fb_autofree char *path = in_directory("back");
	struct fb_timeline t;
	struct fb_header h;

	(void)state;
	make_header(&h);
	h.origin.counter_hz = 2 * frequency_for(1);
	begin(path, &h, NULL, &t);
	assert_null(fb_timeline_find(&t, FB_PHASE_KERNEL));
	assert_non_null(fb_timeline_find(&t, FB_PHASE_COPIED));
}

/* An image of this very boot: there was no reboot. */
static void test_begin_same_boot(void **state)
{
	fb_autofree char *path = in_directory("same");
	struct fb_err err = FB_ERR_INIT;
	struct fb_timeline t;
	struct fb_header h;
	char *other = in_directory("run/timeline");

	(void)state;
	make_header(&h);
	assert_int_equal(fb_timeline_load(other, &t, &err), 0);
	memcpy(h.origin.boot_id, t.to.id, 16);
	assert_int_equal(fb_timeline_begin(path, &h, NULL, &err), -EALREADY);
	assert_int_equal(access(path, F_OK), -1);
	free(other);
}

/* What an earlier boot left, or a damaged file, is replaced. */
static void test_begin_replaces(void **state)
{
	fb_autofree char *path = in_directory("old");
	struct fb_timeline t;
	struct fb_header h;

	(void)state;
	make_header(&h);
	h.left_usec = 0;
	for (int damaged = 0; damaged < 2; damaged++) {
		FILE *f = fopen(path, "w");

		fputs(damaged ? "what" : sample, f);
		fclose(f);
		begin(path, &h, NULL, &t);
		assert_int_equal(t.generation, 3);
		assert_null(fb_timeline_find(&t, FB_PHASE_LEFT));
	}
}

static int make_directory(void **state)
{
	(void)state;
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	static const char *const names[] = { "run/timeline", "run", "back",
					     "old", "" };

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(names); i++) {
		fb_autofree char *path = in_directory(names[i]);

		if (remove(path))
			return -1;
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_usec),
		cmocka_unit_test(test_stamp),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_format_is_lines),
		cmocka_unit_test(test_parse_refuses),
		cmocka_unit_test(test_parse_counts),
		cmocka_unit_test(test_parse_cut),
		cmocka_unit_test(test_begin),
		cmocka_unit_test(test_begin_counter_set_back),
		cmocka_unit_test(test_begin_same_boot),
		cmocka_unit_test(test_begin_replaces),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
