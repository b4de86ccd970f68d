/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>

#include "base/util.h"
#include "engine/timeline_svg.h"
#include "engine/timeline_view.h"

/* A tick is a microsecond. */
#define HZ 1000000u

static void stamp(struct fb_timeline *t, enum fb_phase phase, uint64_t counter)
{
	t->stamps[t->stamp_count++] = (struct fb_stamp){ (uint16_t)phase, counter };
}

/* 1000 us before the blackout, 500 in it, 300 behind it. */
static struct fb_timeline sample(void)
{
	struct fb_timeline t = { .counter_hz = HZ, .image_bytes = 4096 };

	strcpy(t.from.release, "6.1");
	strcpy(t.to.release, "6.12");
	stamp(&t, FB_PHASE_START, 5000);
	stamp(&t, FB_PHASE_CHECKED, 5400);
	stamp(&t, FB_PHASE_BLACKOUT, 6000);
	stamp(&t, FB_PHASE_COPIED, 6010);
	stamp(&t, FB_PHASE_LEFT, 6020);
	stamp(&t, FB_PHASE_KERNEL, 6120);
	stamp(&t, FB_PHASE_RESTORING, 6450);
	stamp(&t, FB_PHASE_FOUND, 6480);
	stamp(&t, FB_PHASE_VISIBLE, 6500);
	stamp(&t, FB_PHASE_CONSUMED, 6510);
	stamp(&t, FB_PHASE_HOTADDING, 6700);
	stamp(&t, FB_PHASE_HOTADDED, 6800);
	return t;
}

static void mark(struct fb_timeline *t, const char *name, uint64_t usec)
{
	struct fb_timeline_mark *m = &t->marks[t->mark_count++];

	strcpy(m->name, name);
	m->usec = usec;
}

static struct fb_timeline_view view_of(const struct fb_timeline *t)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_timeline_view v;

	assert_int_equal(fb_timeline_view_make(t, &v, &err), 0);
	return v;
}

static void check_row(const struct fb_timeline_view *v, size_t i,
		      enum fb_timeline_section section, const char *label,
		      uint64_t start, uint64_t end)
{
	assert_true(i < v->row_count);
	assert_string_equal(v->rows[i].label, label);
	assert_int_equal(v->rows[i].section, section);
	assert_int_equal(v->rows[i].start_usec, start);
	assert_int_equal(v->rows[i].end_usec, end);
}

static uint64_t length(const struct fb_timeline_span *span)
{
	assert_true(span->known);
	return span->end_usec - span->start_usec;
}

static void test_sections(void **state)
{
	struct fb_timeline t = sample();
	struct fb_timeline_view v = view_of(&t);

	(void)state;
	assert_int_equal(v.clock, FB_CLOCK_THROUGH);
	assert_int_equal(length(&v.sections[FB_TIMELINE_PREPARE]), 1000);
	assert_int_equal(length(&v.sections[FB_TIMELINE_BLACKOUT]), 500);
	assert_int_equal(length(&v.sections[FB_TIMELINE_AFTER]), 300);
	assert_int_equal(length(&v.total), 1800);
	assert_int_equal(v.row_count, 11);
	check_row(&v, 0, FB_TIMELINE_PREPARE, "check", 0, 400);
	check_row(&v, 1, FB_TIMELINE_PREPARE, "sync", 400, 1000);
	check_row(&v, 2, FB_TIMELINE_BLACKOUT, "copy what changed", 1000, 1010);
	check_row(&v, 3, FB_TIMELINE_BLACKOUT, "commit and sync", 1010, 1020);
	check_row(&v, 4, FB_TIMELINE_BLACKOUT, "kexec", 1020, 1120);
	check_row(&v, 5, FB_TIMELINE_BLACKOUT, "other programs", 1120, 1450);
	assert_int_equal(v.rows[5].kind, FB_ROW_OTHER);
	check_row(&v, 7, FB_TIMELINE_BLACKOUT, "restore", 1480, 1500);
	check_row(&v, 8, FB_TIMELINE_AFTER, "mark the image", 1500, 1510);
	check_row(&v, 10, FB_TIMELINE_AFTER, "hot-add", 1700, 1800);
}

/*
 * The order of the file does not matter, the first of a phase counts, and those
 * of a later version do not.
 */
static void test_order(void **state)
{
	struct fb_timeline t = sample(), other = sample();
	struct fb_timeline_view v = view_of(&t), w;

	(void)state;
	for (size_t i = 0; i < t.stamp_count; i++)
		other.stamps[i] = t.stamps[t.stamp_count - 1 - i];
	stamp(&other, FB_PHASE_VISIBLE, 6790);
	stamp(&other, (enum fb_phase)999, 5500);
	stamp(&other, (enum fb_phase)999, UINT64_MAX);
	w = view_of(&other);
	assert_memory_equal(&v, &w, sizeof(v));
}

static void test_kernel(void **state)
{
	struct fb_timeline t = sample();
	struct fb_timeline_view v;

	(void)state;
	mark(&t, "setup", 50);
	mark(&t, "cpus", 60);
	mark(&t, "unpack", 80);
	mark(&t, "subsystems", 100);
	mark(&t, "unpacked", 150);
	mark(&t, "drivers", 200);
	mark(&t, "init", 300);
	v = view_of(&t);
	check_row(&v, 5, FB_TIMELINE_BLACKOUT, "kernel", 1120, 1420);
	assert_int_equal(v.rows[5].phase, FB_PHASE_INIT);
	check_row(&v, 6, FB_TIMELINE_BLACKOUT, "set-up on one CPU", 1120, 1170);
	check_row(&v, 9, FB_TIMELINE_BLACKOUT, "drivers", 1220, 1320);
	check_row(&v, 10, FB_TIMELINE_BLACKOUT, "first program", 1320, 1420);
	check_row(&v, 11, FB_TIMELINE_BLACKOUT, "initramfs (meanwhile)", 1200, 1270);
	assert_int_equal(v.rows[11].kind, FB_ROW_PARALLEL);
	check_row(&v, 12, FB_TIMELINE_BLACKOUT, "other programs", 1420, 1450);
	/* One that was there to stamp it knows better than the log. */
	stamp(&t, FB_PHASE_INIT, 6425);
	v = view_of(&t);
	check_row(&v, 5, FB_TIMELINE_BLACKOUT, "kernel", 1120, 1425);
	check_row(&v, 10, FB_TIMELINE_BLACKOUT, "first program", 1320, 1425);
}

/* The first program started beside the drivers: they are not the kernel's last step. */
static void test_early(void **state)
{
	struct fb_timeline t = sample();
	struct fb_timeline_view v;

	(void)state;
	mark(&t, "setup", 50);
	mark(&t, "init", 300);
	mark(&t, "drivers", 360);
	stamp(&t, FB_PHASE_INIT, 6425);
	v = view_of(&t);
	check_row(&v, 5, FB_TIMELINE_BLACKOUT, "kernel", 1120, 1425);
	check_row(&v, 6, FB_TIMELINE_BLACKOUT, "set-up on one CPU", 1120, 1170);
	check_row(&v, 7, FB_TIMELINE_BLACKOUT, "first program and before", 1170, 1425);
	check_row(&v, 8, FB_TIMELINE_BLACKOUT, "drivers (meanwhile)", 1425, 1480);
	assert_int_equal(v.rows[8].kind, FB_ROW_PARALLEL);
	check_row(&v, 9, FB_TIMELINE_BLACKOUT, "other programs", 1425, 1450);
	assert_int_equal(length(&v.sections[FB_TIMELINE_BLACKOUT]), 500);
}

/* A mark that is missing, or cannot be true, leaves its step to the next. */
static void test_kernel_gaps(void **state)
{
	struct fb_timeline t = sample();
	struct fb_timeline_view v;

	(void)state;
	mark(&t, "cpus", 60);
	mark(&t, "subsystems", 50);
	mark(&t, "setup", UINT64_MAX);
	mark(&t, "drivers", 40000);
	mark(&t, "unpack", 10);
	mark(&t, "unpacked", UINT64_MAX);
	mark(&t, "init", 300);
	v = view_of(&t);
	check_row(&v, 6, FB_TIMELINE_BLACKOUT, "other CPUs and before", 1120, 1180);
	check_row(&v, 7, FB_TIMELINE_BLACKOUT, "first program and before", 1180, 1420);
	check_row(&v, 8, FB_TIMELINE_BLACKOUT, "other programs", 1420, 1450);
}

/* After a reset nothing is said of what lies between. */
static void test_reset(void **state)
{
	struct fb_timeline t = sample(), anew = sample();
	struct fb_timeline_view v;

	(void)state;
	t.stamps[4].phase = FB_PHASE_SCANNED;
	v = view_of(&t);
	assert_int_equal(v.clock, FB_CLOCK_RESET);
	assert_int_equal(length(&v.sections[FB_TIMELINE_PREPARE]), 1000);
	assert_false(v.sections[FB_TIMELINE_BLACKOUT].known);
	assert_false(v.total.known);
	assert_int_equal(length(&v.sections[FB_TIMELINE_AFTER]), 300);
	check_row(&v, 3, FB_TIMELINE_BLACKOUT, "read the tree", 1010, 1020);
	check_row(&v, 4, FB_TIMELINE_BLACKOUT, "what lies between", 1020, 1020);
	assert_int_equal(v.rows[4].kind, FB_ROW_UNKNOWN);
	check_row(&v, 5, FB_TIMELINE_BLACKOUT, "other programs", 1020, 1350);
	check_row(&v, 10, FB_TIMELINE_AFTER, "hot-add", 1600, 1700);

	for (size_t i = 5; i < anew.stamp_count; i++)
		anew.stamps[i].counter -= 4000;
	v = view_of(&anew);
	assert_int_equal(v.clock, FB_CLOCK_ANEW);
	assert_false(v.sections[FB_TIMELINE_BLACKOUT].known);
	assert_false(v.total.known);
	check_row(&v, v.row_count - 1, FB_TIMELINE_AFTER, "hot-add", 1600, 1700);
}

/* A stamp of the old kernel behind the next one's first: one of them is wrong. */
static void test_crossed(void **state)
{
	struct fb_timeline t = sample();
	struct fb_timeline_view v;

	(void)state;
	t.stamps[3].counter = 6300;
	v = view_of(&t);
	assert_int_equal(v.clock, FB_CLOCK_ANEW);
	for (size_t i = 0; i < v.row_count; i++)
		assert_true(v.rows[i].start_usec <= v.rows[i].end_usec);
}

/* An image of `fastboot save`, or a restore that did not end. */
static void test_parts(void **state)
{
	struct fb_timeline t = { .counter_hz = HZ }, cut = sample();
	struct fb_timeline_view v = view_of(&t);

	(void)state;
	assert_int_equal(v.row_count, 0);
	assert_false(v.total.known);
	stamp(&t, FB_PHASE_KERNEL, 100);
	stamp(&t, FB_PHASE_FOUND, 300);
	stamp(&t, FB_PHASE_VISIBLE, 400);
	v = view_of(&t);
	assert_int_equal(v.clock, FB_CLOCK_RESET);
	assert_int_equal(v.row_count, 2);
	check_row(&v, 1, FB_TIMELINE_BLACKOUT, "restore", 200, 300);
	assert_false(v.sections[FB_TIMELINE_PREPARE].known);
	assert_false(v.sections[FB_TIMELINE_BLACKOUT].known);

	cut.stamp_count = 8;
	v = view_of(&cut);
	assert_int_equal(v.clock, FB_CLOCK_THROUGH);
	assert_int_equal(length(&v.sections[FB_TIMELINE_PREPARE]), 1000);
	assert_false(v.sections[FB_TIMELINE_BLACKOUT].known);
	assert_false(v.sections[FB_TIMELINE_AFTER].known);
	assert_false(v.total.known);
	check_row(&v, v.row_count - 1, FB_TIMELINE_BLACKOUT, "find the image", 1450,
		  1480);
	cut.stamp_count = 5;
	v = view_of(&cut);
	check_row(&v, v.row_count - 1, FB_TIMELINE_BLACKOUT, "commit and sync", 1010,
		  1020);
}

static void test_refused(void **state)
{
	struct fb_timeline t = sample(), far = sample();
	struct fb_err err = FB_ERR_INIT;
	struct fb_timeline_view v;

	(void)state;
	t.counter_hz = 0;
	assert_int_equal(fb_timeline_view_make(&t, &v, &err), -ENODATA);
	assert_int_equal(err.status, FB_EXIT_IMPOSSIBLE);
	t.counter_hz = 1;
	assert_int_equal(fb_timeline_view_make(&t, &v, &err), -EBADMSG);
	far.stamps[11].counter = UINT64_MAX;
	assert_int_equal(fb_timeline_view_make(&far, &v, &err), -EBADMSG);
	assert_int_equal(err.status, FB_EXIT_FAILED);
}

/* As full as it can be, it stays within its rows. */
static void test_full(void **state)
{
	struct fb_timeline t = { .counter_hz = HZ };

	(void)state;
	for (unsigned int i = 0; i < FB_TIMELINE_STAMPS; i++)
		stamp(&t, (enum fb_phase)(i + 1), 1000 + i * 1000);
	mark(&t, "setup", 1);
	mark(&t, "cpus", 2);
	mark(&t, "subsystems", 3);
	mark(&t, "unpack", 4);
	mark(&t, "unpacked", 5);
	mark(&t, "drivers", 6);
	mark(&t, "init", 7);
	for (unsigned int phase = 1; phase <= FB_TIMELINE_STAMPS; phase++) {
		struct fb_timeline all = t;

		all.stamps[phase - 1].phase = 200;
		assert_true(view_of(&all).row_count <= FB_TIMELINE_ROWS);
	}
}

/* ---- the kernel's log --------------------------------------------------------- */

static void test_log(void **state)
{
	static const struct {
		uint64_t usec;
		const char *line, *name;
	} table[] = {
		{ 1, "Linux version 6.12.117 (Run by smp: Brought up)", NULL },
		{ 2, "smp: Bringing up secondary CPUs ...", "setup" },
		{ 3, "smp: Brought up 1 node, 2 CPUs", "cpus" },
		{ 4, "clocksource: Switched to clocksource tsc-early", "subsystems" },
		{ 5, "Trying to unpack rootfs image as initramfs...", "unpack" },
		{ 6, "clocksource: Switched to clocksource tsc", NULL },
		{ 7, "Freeing initrd memory: 8632K", "unpacked" },
		{ 8, "Run time of the log: as initialised", NULL },
		{ 9, "Freeing unused kernel image (initmem) memory: 4264K", "drivers" },
		{ 10, "Freeing unused kernel image (rodata) memory: 12K", NULL },
		{ 11, "Run /init as init process", "init" },
		{ 12, "Run /sbin/init as init process", NULL },
	};
	struct fb_timeline t = { 0 };
	size_t n = 0;

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(table); i++) {
		fb_timeline_log_line(&t, table[i].usec, table[i].line);
		n += table[i].name != NULL;
		assert_int_equal(t.mark_count, n);
		if (!table[i].name)
			continue;
		assert_string_equal(t.marks[n - 1].name, table[i].name);
		assert_int_equal(t.marks[n - 1].usec, table[i].usec);
	}
}

/* ---- the picture -------------------------------------------------------------- */

static void test_usec_text(void **state)
{
	char text[FB_USEC_TEXT_MAX];

	(void)state;
	assert_string_equal(fb_timeline_usec_text(0, text), "0 us");
	assert_string_equal(fb_timeline_usec_text(999, text), "999 us");
	assert_string_equal(fb_timeline_usec_text(1500, text), "1.5 ms");
	assert_string_equal(fb_timeline_usec_text(12345678, text), "12.346 s");
}

static size_t count(const char *text, const char *what)
{
	size_t n = 0;

	for (; (text = strstr(text, what)); text++)
		n++;
	return n;
}

static void test_svg(void **state)
{
	struct fb_timeline t = sample();
	struct fb_timeline_view v;
	fb_autofree char *svg = NULL;

	(void)state;
	strcpy(t.to.release, "<6.12&\"\n\xff>");
	v = view_of(&t);
	svg = fb_timeline_svg(&t, &v);
	assert_non_null(strstr(svg, "6.1 to &lt;6.12&amp;\"??&gt;</text>"));
	/* the ground, three in the strip, one a row */
	assert_int_equal(count(svg, "<rect"), 1 + 3 + v.row_count);
	assert_int_equal(count(svg, "<g "), 3);
	assert_int_equal(count(svg, "<g "), count(svg, "</g>"));
	assert_int_equal(count(svg, "<text"), count(svg, "</text>"));
	assert_non_null(strstr(svg, ">blackout: 500 us<"));
	assert_null(strstr(svg, "nan"));
	assert_string_equal(svg + strlen(svg) - 7, "</svg>\n");
}

static void test_svg_empty(void **state)
{
	struct fb_timeline t = { .counter_hz = HZ };
	struct fb_timeline_view v = view_of(&t);
	fb_autofree char *svg = fb_timeline_svg(&t, &v);

	(void)state;
	assert_int_equal(count(svg, "<g "), 0);
	assert_null(strstr(svg, "nan"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sections),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_kernel),
		cmocka_unit_test(test_early),
		cmocka_unit_test(test_kernel_gaps),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_crossed),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_log),
		cmocka_unit_test(test_usec_text),
		cmocka_unit_test(test_svg),
		cmocka_unit_test(test_svg_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
