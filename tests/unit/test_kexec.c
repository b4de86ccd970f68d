/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "machine/iomem.h"
#include "machine/kexec.h"

#define X86   "x86_64"
#define ARM64 "aarch64"

struct head {
	uint8_t b[FB_KEXEC_HEAD];
};

static void put(struct head *h, size_t offset, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		h->b[offset + i] = (uint8_t)(value >> (8 * i));
}

/* What Debian's 6.12 kernel has; 8 sectors and 64 KiB in all. */
static struct head bzimage(void)
{
	struct head h = { { 'M', 'Z' } };

	put(&h, 0x1f1, 7, 1);
	put(&h, 0x1f4, (65536 - 8 * 512) / 16, 4);
	put(&h, 0x1fe, 0xaa55, 2);
	memcpy(h.b + 0x202, "HdrS", 4);
	put(&h, 0x206, 0x020f, 2);
	put(&h, 0x211, 0x01, 1);
	put(&h, 0x236, 0x7f, 2);
	put(&h, 0x238, 2047, 4);
	return h;
}

static struct head arm64_image(void)
{
	struct head h = { { 'M', 'Z' } };

	put(&h, 16, 0x2000000, 8);
	memcpy(h.b + 56, "ARM\x64", 4);
	return h;
}

static void test_good(void **state)
{
	struct head bz = bzimage(), arm = arm64_image();
	struct fb_kexec_image image;

	(void)state;
	assert_int_equal(
		fb_kexec_image_check("k", bz.b, sizeof(bz), 65536, X86, &image, NULL),
		0);
	assert_int_equal(image.format, FB_KEXEC_BZIMAGE);
	assert_int_equal(image.command_line_max, 2047 - 30 - 1);
	assert_int_equal(fb_kexec_image_check("k", arm.b, sizeof(arm), 65536, ARM64,
					      &image, NULL),
			 0);
	assert_int_equal(image.format, FB_KEXEC_ARM64_IMAGE);
	assert_int_equal(image.command_line_max, 0);
}

/* A signed kernel is longer than its header says; a truncated one shorter. */
static void test_length(void **state)
{
	struct head bz = bzimage();
	struct fb_kexec_image image;
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	assert_int_equal(
		fb_kexec_image_check("k", bz.b, sizeof(bz), 67008, X86, &image, NULL),
		0);
	assert_int_equal(
		fb_kexec_image_check("k", bz.b, sizeof(bz), 65535, X86, &image, &err),
		-ENOEXEC);
	assert_string_equal(err.text,
			    "k: truncated: 65535 bytes, its header says 65536");
	put(&bz, 0x1f1, 0, 1); /* 0 sectors mean 4 */
	assert_int_equal(fb_kexec_image_check("k", bz.b, sizeof(bz), 65536 - 3 * 512,
					      X86, &image, NULL),
			 0);
}

static void expect_refused(const struct head *h, size_t size, const char *machine,
			   const char *words)
{
	struct fb_kexec_image image = { FB_KEXEC_ARM64_IMAGE, 77 };
	struct fb_err err = FB_ERR_INIT;

	assert_int_equal(
		fb_kexec_image_check("file", h->b, size, 65536, machine, &image, &err),
		-ENOEXEC);
	assert_int_equal(image.command_line_max, 77); /* untouched */
	if (strncmp(err.text, "file: ", 6) || !strstr(err.text, words))
		fail_msg("'%s' does not say '%s'", err.text, words);
}

static void test_damaged_header(void **state)
{
	static const struct {
		size_t offset;
		uint8_t value;
		const char *words;
	} cases[] = {
		{ 0x1fe, 0, "no x86 boot sector" }, { 0x202, 'X', "not a kernel" },
		{ 0x206, 0x0b, "too old" },	    { 0x211, 0, "zImage" },
		{ 0x236, 0x7e, "32-bit" },	    { 0x236, 0x7d, "above 4 GiB" },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(cases); i++) {
		struct head h = bzimage();

		h.b[cases[i].offset] = cases[i].value;
		expect_refused(&h, sizeof(h), X86, cases[i].words);
	}
}

static void test_no_kernel(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
		const char *words;
	} cases[] = {
		{ "\177ELF", 4, "ELF" },
		{ "\x1f\x8b\x08", 3, "gzip" },
		{ "MZ\0\0zimg", 8, "zboot" },
		{ "070701", 6, "cpio" },
		{ "#!/bin/sh\n", 10, "not a kernel" },
	};
	struct head arm = arm64_image(), bz = bzimage(), none = { { 0 } };

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(cases); i++) {
		struct head h = { { 0 } };

		memcpy(h.b, cases[i].bytes, cases[i].length);
		expect_refused(&h, sizeof(h), X86, cases[i].words);
		expect_refused(&h, sizeof(h), ARM64, cases[i].words);
	}
	expect_refused(&none, 0, X86, "empty");
	expect_refused(&none, 63, X86, "too short");
	expect_refused(&none, 64, X86, "not a kernel");
	expect_refused(&bz, 0x23b, X86, "not a kernel");
	expect_refused(&arm, sizeof(arm), X86, "for arm64");
	expect_refused(&bz, sizeof(bz), ARM64, "for x86");
	put(&arm, 16, 0, 8);
	expect_refused(&arm, sizeof(arm), ARM64, "too old");
}

/* ---- segments ------------------------------------------------------------ */

static void test_segment(void **state)
{
	static const char line[] =
		"6,1204,8123456,-;kexec_file: segment[1]: buf=0x00000000cafe0000 "
		"bufsz=0x1a2b mem=0x1bfffc000 memsz=0x2000";
	struct fb_range r = { 1, 2 };

	(void)state;
	assert_true(fb_kexec_parse_segment(line, &r));
	assert_int_equal(r.start, 0x1bfffc000);
	assert_int_equal(r.size, 0x2000);
	assert_false(fb_kexec_parse_segment("kexec_file: nr_segments = 4", &r));
	assert_false(fb_kexec_parse_segment("kexec_file: segment[1]: mem=0x1", &r));
	assert_false(fb_kexec_parse_segment("segment[1]: mem=0x1 memsz=0x2", &r));
	assert_false(fb_kexec_parse_segment("kexec_file: segment[0]: mem=0x "
					    "memsz=0x2000",
					    &r));
	assert_false(fb_kexec_parse_segment("kexec_file: segment[0]: "
					    "mem=0xfffffffffffff000 memsz=0x2000",
					    &r));
	assert_int_equal(r.start, 0x1bfffc000);
}

static const struct {
	const char *iomem;
	int rc;
} proofs[] = {
	{ "00001000-0009fbff : System RAM\n"
	  "100000000-17fffffff : Persistent Memory (legacy)\n"
	  "180000000-27fffffff : System RAM\n",
	  0 },
	{ "100000000-17fffffff : Persistent Memory (legacy)\n"
	  "  100000000-17fffffff : dax0.0\n"
	  "    108000000-17fffffff : System RAM (kmem)\n",
	  0 },
	{ "100000000-27fffffff : System RAM\n", -EFAULT },
	{ "00100000-100000fff : System RAM\n", -EFAULT },
	{ "17ffff000-27fffffff : System RAM\n", -EFAULT },
	/* a kernel older than 5.8 calls it so, and would use it */
	{ "100000000-17fffffff : Persistent Memory (legacy)\n"
	  "  108000000-17fffffff : System RAM\n",
	  -EFAULT },
};

static void test_prove_iomem(void **state)
{
	struct fb_range region = { 4 * FB_GIB, 2 * FB_GIB };

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(proofs); i++) {
		struct fb_iomem iomem = { NULL, 0 };

		assert_int_equal(fb_iomem_parse(proofs[i].iomem, &iomem, NULL), 0);
		assert_int_equal(fb_kexec_prove_iomem(&iomem, region, NULL),
				 proofs[i].rc);
		fb_iomem_free(&iomem);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_damaged_header),
		cmocka_unit_test(test_no_kernel),
		cmocka_unit_test(test_segment),
		cmocka_unit_test(test_prove_iomem),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
