/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "engine/carve.h"
#include "machine/iomem.h"

#define M FB_MIB
#define G FB_GIB

/* A PC with 8 GiB. */
static const char pc[] = "00001000-0009fbff : System RAM\n"
			 "000f0000-000fffff : System ROM\n"
			 "00100000-7ffdcfff : System RAM\n"
			 "  01000000-01ffffff : Kernel code\n"
			 "  02000000-02bfffff : Kernel rodata\n"
			 "  02c00000-02ffffff : Kernel data\n"
			 "b0000000-bfffffff : PCI ECAM 0000 [bus 00-ff]\n"
			 "100000000-27fffffff : System RAM\n";

/* The same; KASLR put the kernel high, and there is a crash kernel. */
static const char kaslr[] = "00100000-7ffdcfff : System RAM\n"
			    "  5b000000-6affffff : Crash kernel\n"
			    "100000000-27fffffff : System RAM\n"
			    "  142000000-1437fffff : Kernel code\n"
			    "  143800000-144ffffff : Kernel data\n"
			    "  270000000-27fffffff : Crash kernel\n";

static const char crash[] = "00100000-7ffdcfff : System RAM\n"
			    "100000000-27fffffff : System RAM\n"
			    "  150000000-15fffffff : Crash kernel\n"
			    "    151000000-151000fff : inner\n";

static const char with_region[] = "00100000-7ffdcfff : System RAM\n"
				  "100000000-17fffffff : Persistent Memory (legacy)\n"
				  "  100000000-17fffffff : namespace0.0\n"
				  "180000000-27fffffff : System RAM\n";

static const char small_pc[] = "00001000-0009fbff : System RAM\n"
			       "00100000-bfffffff : System RAM\n"
			       "  01000000-02ffffff : Kernel code\n";

static const char tiny[] = "00100000-3fffffff : System RAM\n"
			   "  01000000-02ffffff : Kernel code\n";

/* RAM starts at 1 GiB, and the kernel with it; two banks above 4 GiB. */
static const char board[] = "09000000-09000fff : pl011@9000000\n"
			    "40000000-bfffffff : System RAM\n"
			    "  40210000-41ffffff : Kernel code\n"
			    "100000000-13fffffff : System RAM\n"
			    "880000000-97fffffff : System RAM\n";

static const char small_board[] = "40000000-9fffffff : System RAM\n"
				  "  40210000-41ffffff : Kernel code\n";

static const struct {
	const char *name, *iomem;
	uint64_t size, at; /* at 1: not given */
	uint64_t block, overhead;
	int rc;
	uint64_t start, region_size, first_block, blocks;
	const char *message;
} cases[] = {
	{ "2G", pc, 2 * G, 1, 128 * M, 2 * M, 0, 4222 * M, 2050 * M, 33, 16, NULL },
	{ "one byte", pc, 1, 1, 128 * M, 2 * M, 0, 4222 * M, 130 * M, 33, 1, NULL },
	{ "rounded", pc, 2 * G - 1, 1, 128 * M, 2 * M, 0, 4222 * M, 2050 * M, 33, 16,
	  NULL },
	{ "all there is", pc, 6 * G - 128 * M, 1, 128 * M, 2 * M, 0, 4222 * M,
	  6 * G - 126 * M, 33, 47, NULL },
	{ "a block more", pc, 6 * G, 1, 128 * M, 2 * M, -ENOSPC, 0, 0, 0, 0,
	  "largest region is 6,016 MiB, in 0x100000000-0x27fffffff" },
	{ "nothing", pc, 0, 1, 128 * M, 2 * M, -EINVAL, 0, 0, 0, 0, "size 0" },
	{ "huge", pc, UINT64_MAX, 1, 128 * M, 2 * M, -ENOSPC, 0, 0, 0, 0, "largest" },
	{ "large blocks", pc, 2 * G, 1, 2 * G, 2 * M, 0, 6 * G - 2 * M, 2050 * M, 3, 1,
	  NULL },
	{ "arm64's overhead", pc, 2 * G, 1, 128 * M, 16 * M, 0, 4208 * M, 2064 * M, 33,
	  16, NULL },
	{ "no overhead", pc, 2 * G, 1, 128 * M, 0, 0, 4 * G, 2 * G, 32, 16, NULL },
	{ "the larger bank", board, 512 * M, 1, 128 * M, 16 * M, 0, 0x887000000, 528 * M,
	  273, 4, NULL },
	{ "above the first GiB of RAM", small_board, 128 * M, 1, 128 * M, 16 * M, 0,
	  0x87000000, 144 * M, 17, 1, NULL },
	{ "above the kernel", small_board, G, 1, 128 * M, 16 * M, 0, 0x4f000000,
	  1040 * M, 10, 8, NULL },
	{ "on a board's kernel", small_board, G, 0x40000000, 128 * M, 16 * M, -ENOSPC, 0,
	  0, 0, 0, "Kernel code" },
	/* where KASLR put the kernel this time says nothing */
	{ "over the kernel", kaslr, 2 * G, 1, 128 * M, 2 * M, 0, 4222 * M, 2050 * M, 33,
	  16, NULL },
	/* behind it at 0x15fffffff: the boundary 0x168000000 */
	{ "around a crash kernel", crash, 2 * G, 1, 128 * M, 2 * M, 0, 0x167e00000,
	  2050 * M, 45, 16, NULL },
	{ "in front of it", crash, G, 1, 128 * M, 2 * M, 0, 4222 * M, 1026 * M, 33, 8,
	  NULL },
	{ "behind a region", with_region, 2 * G, 1, 128 * M, 2 * M, 0, 0x187e00000,
	  2050 * M, 49, 16, NULL },
	{ "below 4 GiB", small_pc, G, 1, 128 * M, 2 * M, 0, 1150 * M, 1026 * M, 9, 8,
	  NULL },
	{ "below 1 GiB", tiny, 512 * M, 1, 128 * M, 2 * M, 0, 254 * M, 514 * M, 2, 4,
	  NULL },
	{ "never at the bottom", tiny, 896 * M, 1, 128 * M, 2 * M, -ENOSPC, 0, 0, 0, 0,
	  "largest region is 768 MiB" },
	{ "no RAM", "b0000000-bfffffff : PCI ECAM\n", G, 1, 128 * M, 2 * M, -ENOSPC, 0,
	  0, 0, 0, "no bank of System RAM" },
	{ "empty", "", G, 1, 128 * M, 2 * M, -ENOSPC, 0, 0, 0, 0, "no bank" },

	{ "at a boundary", pc, 2 * G, 4 * G, 128 * M, 2 * M, 0, 4 * G, 2176 * M, 33, 16,
	  NULL },
	{ "at the best place", pc, 2 * G, 4222 * M, 128 * M, 2 * M, 0, 4222 * M,
	  2050 * M, 33, 16, NULL },
	{ "at the top", pc, 128 * M, 10 * G - 130 * M, 128 * M, 2 * M, 0,
	  10 * G - 130 * M, 130 * M, 79, 1, NULL },
	{ "over the top", pc, 256 * M, 10 * G - 130 * M, 128 * M, 2 * M, -ENOSPC, 0, 0,
	  0, 0, "not in one bank" },
	{ "unaligned", pc, G, 4 * G + 4096, 128 * M, 2 * M, -EINVAL, 0, 0, 0, 0,
	  "multiple of 2 MiB" },
	{ "at the kernel", kaslr, G, 5 * G, 128 * M, 2 * M, 0, 5 * G, 1152 * M, 41, 8,
	  NULL },
	{ "at a low kernel", pc, G, 16 * M, 128 * M, 2 * M, -ENOSPC, 0, 0, 0, 0,
	  "Kernel code" },
	{ "at a crash kernel", crash, G, 5 * G, 128 * M, 2 * M, -ENOSPC, 0, 0, 0, 0,
	  "Crash kernel" },
	{ "at a region", with_region, G, 4 * G, 128 * M, 2 * M, -ENOSPC, 0, 0, 0, 0,
	  "Persistent Memory" },
	{ "at a device", pc, G, 0xb0000000, 128 * M, 2 * M, -ENOSPC, 0, 0, 0, 0,
	  "PCI" },
	{ "at the end of the world", pc, G, 0xffffffffffe00000, 128 * M, 2 * M, -ENOSPC,
	  0, 0, 0, 0, "largest" },
};

static void test_choose(void **state)
{
	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(cases); i++) {
		struct fb_carve_request rq = {
			.size = cases[i].size,
			.at_set = cases[i].at != 1,
			.at = cases[i].at,
			.block_size = cases[i].block,
			.overhead = cases[i].overhead,
		};
		struct fb_iomem iomem = { NULL, 0 };
		struct fb_err err = FB_ERR_INIT;
		struct fb_carve c;
		int rc;

		assert_int_equal(fb_iomem_parse(cases[i].iomem, &iomem, NULL), 0);
		rc = fb_carve_choose(&iomem, &rq, &c, &err);
		fb_iomem_free(&iomem);
		if (rc != cases[i].rc)
			fail_msg("%s: %d, %s", cases[i].name, rc, err.text);
		if (rc && !strstr(err.text, cases[i].message))
			fail_msg("%s: %s", cases[i].name, err.text);
		if (rc)
			continue;
		if (c.region.start != cases[i].start ||
		    c.region.size != cases[i].region_size ||
		    c.first_block != cases[i].first_block ||
		    c.block_count != cases[i].blocks)
			fail_msg("%s: %#llx+%lluM, blocks %llu+%llu", cases[i].name,
				 (unsigned long long)c.region.start,
				 (unsigned long long)(c.region.size / M),
				 (unsigned long long)c.first_block,
				 (unsigned long long)c.block_count);
		assert_true(fb_range_contains(c.bank, c.region));
		assert_true(fb_range_contains(c.region, c.usable));
		assert_int_equal(c.usable.start % cases[i].block, 0);
		assert_true(c.usable.start - c.region.start >= cases[i].overhead);
	}
}

static void test_ram(void **state)
{
	struct fb_carve_request rq = { 2 * G, false, 0, 128 * M, 2 * M, false };
	struct fb_iomem iomem = { NULL, 0 };
	struct fb_carve c;

	(void)state;
	assert_int_equal(fb_iomem_parse(pc, &iomem, NULL), 0);
	assert_int_equal(fb_carve_choose(&iomem, &rq, &c, NULL), 0);
	assert_int_equal(c.ram, 0x9ec00 + (0x7ffdd000 - 0x100000) + 6 * G);
	fb_iomem_free(&iomem);
}

/* arm64 with UEFI and ACPI (QEMU virt): what firmware keeps is at the top level. */
static const char uefi[] = "04000000-07ffffff : reserved\n"
			   "09000000-09000fff : ARMH0011:00\n"
			   "40000000-23c43ffff : System RAM\n"
			   "  f8000000-ffffffff : reserved\n"
			   "  229600000-2317fffff : reserved\n"
			   "  231800000-2334fffff : Kernel code\n"
			   "  233500000-233e6ffff : reserved\n"
			   "  233e70000-23432ffff : Kernel data\n"
			   "  238ec0000-2399fafff : reserved\n"
			   "23c440000-23c72ffff : reserved\n"
			   "23c730000-23fbfffff : System RAM\n"
			   "23fc00000-23ffdffff : reserved\n";

/* The same; firmware put the kernel into the middle. */
static const char uefi_kaslr[] = "04000000-07ffffff : reserved\n"
				 "40000000-23c43ffff : System RAM\n"
				 "  f8000000-ffffffff : reserved\n"
				 "  1d1800000-1d34fffff : Kernel code\n"
				 "  1d3500000-1d3e6ffff : reserved\n"
				 "  1d3e70000-1d432ffff : Kernel data\n"
				 "  229600000-2317fffff : reserved\n"
				 "23c440000-23c72ffff : reserved\n";

static struct fb_carve choose_top(const char *text, struct fb_iomem *iomem)
{
	struct fb_carve_request rq = { 2 * G, false, 0, 128 * M, 16 * M, true };
	struct fb_carve c;

	assert_int_equal(fb_iomem_parse(text, iomem, NULL), 0);
	assert_int_equal(fb_carve_choose(iomem, &rq, &c, NULL), 0);
	assert_int_equal(c.region.start, 0x1a7000000);
	assert_int_equal(c.region.size, 2 * G + 16 * M);
	assert_int_equal(c.first_block, 0x1a8000000 / (128 * M));
	assert_int_equal(c.block_count, 16);
	return c;
}

/* The figures of a guest: with mem=5808M its RAM ended at 0x1a7000000. */
static void test_top(void **state)
{
	struct fb_iomem iomem = { NULL, 0 };
	struct fb_carve c = choose_top(uefi, &iomem);

	(void)state;
	assert_int_equal(c.above,
			 0x23c440000 - 0x228000000 + 0x23fc00000 - 0x23c730000);
	assert_int_equal(fb_carve_mem(&iomem, c.region.start), 5808 * M);
	assert_int_equal(fb_carve_mem_end(&iomem, 5808 * M), 0x1a7000000);
	assert_int_equal(fb_carve_mem_end(&iomem, 64 * M), 0x8000000);
	assert_int_equal(fb_carve_mem_end(&iomem, 64 * M + 1), 0x40000001);
	assert_int_equal(fb_carve_mem_end(&iomem, 64 * G), UINT64_MAX);
	fb_iomem_free(&iomem);
	choose_top(uefi_kaslr, &iomem);
	fb_iomem_free(&iomem);
}

static void test_top_full(void **state)
{
	struct fb_carve_request rq = { 4 * G, false, 0, 128 * M, 16 * M, true };
	struct fb_iomem iomem = { NULL, 0 };
	struct fb_err err = FB_ERR_INIT;
	struct fb_carve c;

	(void)state;
	assert_int_equal(fb_iomem_parse(uefi, &iomem, NULL), 0);
	assert_int_equal(fb_carve_choose(&iomem, &rq, &c, NULL), 0);
	assert_int_equal(c.region.start, 0x127000000);
	rq.size = 5 * G;
	assert_int_equal(fb_carve_choose(&iomem, &rq, &c, &err), -ENOSPC);
	rq.size = UINT64_MAX;
	assert_int_equal(fb_carve_choose(&iomem, &rq, &c, &err), -ENOSPC);
	fb_iomem_free(&iomem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choose),
		cmocka_unit_test(test_ram),
		cmocka_unit_test(test_top),
		cmocka_unit_test(test_top_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
