/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/kernel-page-flags.h>

#include "fake_sys.h"

#include "machine/memblk.h"
#include "machine/kpage.h"

#define BIT(n) ((uint64_t)1 << (n))
#define DIR    "/sys/devices/system/memory"

/* Blocks of 64 KiB: 16 pages each, so that flags fit into a table. */
#define PAGES 16
static uint64_t page_flags[8 * PAGES];
static bool have_kpageflags;

uint64_t fb_kpage_size(void)
{
	return 4096;
}

bool fb_kpage_available(const struct fb_sys *sys)
{
	(void)sys;
	return have_kpageflags;
}

int fb_kpage_flags(const struct fb_sys *sys, uint64_t first, size_t count,
		   uint64_t *flags, struct fb_err *err)
{
	(void)sys;
	if (!have_kpageflags)
		return fb_err_set(err, ENOENT, "no kpageflags");
	assert_true(first + count <= FB_ARRAY_SIZE(page_flags));
	memcpy(flags, page_flags + first, count * sizeof(*flags));
	return 0;
}

void fb_kpage_owners(const uint64_t *pfns, size_t count, uint64_t budget_usec,
		     char *text, size_t size)
{
	(void)budget_usec;
	snprintf(text, size, "owner of %zu from %llu", count,
		 (unsigned long long)(count ? pfns[0] : 0));
}

static int setup(void **state)
{
	static const char *const states[] = { "online", "offline", "going-offline",
					      "ERROR-UNKNOWN-9", "online" };
	static const char *const zones[] = { "Movable", "Normal Movable", "none", "",
					     "Normal" };

	(void)state;
	fake_reset();
	have_kpageflags = true;
	for (size_t i = 0; i < FB_ARRAY_SIZE(page_flags); i++)
		page_flags[i] = BIT(KPF_BUDDY);
	fake_put(DIR "/block_size_bytes", "10000\n");
	for (int n = 0; n < 5; n++) {
		char path[128];

		snprintf(path, sizeof(path), DIR "/memory%d/state", n + 1);
		fake_put(path, states[n]);
		snprintf(path, sizeof(path), DIR "/memory%d/valid_zones", n + 1);
		fake_put(path, zones[n]);
		snprintf(path, sizeof(path), DIR "/memory%d/node%d", n + 1, n);
		fake_put(path, "");
	}
	return 0;
}

static struct fb_memblks list(uint64_t start, uint64_t size)
{
	struct fb_memblks blocks = { 0, NULL, 0 };
	struct fb_range range = { start, size };

	assert_int_equal(fb_memblk_list(&fake_machine, range, &blocks, NULL), 0);
	return blocks;
}

static void lists(void **state)
{
	struct fb_memblks b = list(0, 0x80000);
	char text[FB_MEMBLK_TEXT_MAX];

	(void)state;
	assert_int_equal(b.block_size, 0x10000);
	assert_int_equal(b.count, 5);
	assert_int_equal(b.blocks[0].number, 1);
	assert_int_equal(b.blocks[0].range.start, 0x10000);
	assert_int_equal(b.blocks[0].state, FB_BLK_ONLINE);
	assert_true(b.blocks[0].movable);
	assert_int_equal(b.blocks[1].state, FB_BLK_OFFLINE);
	assert_false(b.blocks[1].movable);
	assert_int_equal(b.blocks[2].state, FB_BLK_GOING_OFFLINE);
	assert_int_equal(b.blocks[3].state, FB_BLK_UNKNOWN);
	assert_int_equal(b.blocks[4].node, 4);
	assert_string_equal(fb_memblk_text(&b.blocks[4], text), "online, zone Normal");
	fb_memblks_free(&b);
	/* Only blocks that lie wholly inside. */
	b = list(0x18000, 0x20000);
	assert_int_equal(b.count, 1);
	assert_int_equal(b.blocks[0].number, 2);
	fb_memblks_free(&b);
	b = list(0, 0);
	assert_int_equal(b.count, 0);
}

static void wants_a_block_size(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	uint64_t size;

	(void)state;
	fake_put(DIR "/block_size_bytes", "10001");
	assert_int_equal(fb_memblk_size(&fake_machine, &size, &err), -EINVAL);
	fake_remove(DIR);
	assert_int_equal(fb_memblk_size(&fake_machine, &size, &err), -ENOENT);
}

static void tells_kinds(void **state)
{
	static const struct {
		uint64_t flags;
		enum fb_page_kind kind;
	} cases[] = {
		{ 0, FB_PAGE_PLAIN },
		{ BIT(KPF_NOPAGE), FB_PAGE_ABSENT },
		{ BIT(KPF_BUDDY), FB_PAGE_FREE },
		{ BIT(KPF_REFERENCED) | BIT(KPF_UPTODATE), FB_PAGE_PLAIN },
		{ BIT(KPF_SLAB), FB_PAGE_SLAB },
		{ BIT(KPF_PGTABLE), FB_PAGE_TABLE },
		{ BIT(32), FB_PAGE_KERNEL },
		{ BIT(KPF_HUGE) | BIT(KPF_COMPOUND_HEAD), FB_PAGE_HUGETLB },
		{ BIT(KPF_ANON) | BIT(KPF_MMAP) | BIT(KPF_LRU) | BIT(KPF_SWAPBACKED),
		  FB_PAGE_ANON },
		{ BIT(KPF_LRU) | BIT(KPF_SWAPBACKED) | BIT(KPF_DIRTY), FB_PAGE_SHMEM },
		{ BIT(KPF_LRU) | BIT(KPF_UPTODATE), FB_PAGE_DROPPABLE },
		{ BIT(KPF_LRU) | BIT(KPF_UPTODATE) | BIT(KPF_MMAP), FB_PAGE_FILE },
		{ BIT(KPF_LRU) | BIT(KPF_DIRTY), FB_PAGE_FILE },
		{ BIT(KPF_LRU) | BIT(KPF_WRITEBACK), FB_PAGE_FILE },
		/* a tail is what its head is */
		{ BIT(KPF_COMPOUND_TAIL) | BIT(KPF_THP), FB_PAGE_SHMEM },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(cases); i++)
		assert_int_equal(fb_page_kind(cases[i].flags, FB_PAGE_SHMEM),
				 cases[i].kind);
	for (int k = 0; k < FB_PAGE_KINDS; k++)
		assert_non_null(fb_page_kind_text((enum fb_page_kind)k));
}

/* A page of block `number`, counted from 0. */
static uint64_t *page(int number, int i)
{
	return &page_flags[number * PAGES + i];
}

static void counts_and_orders(void **state)
{
	struct fb_memblks b = list(0x10000, 0x50000);
	struct fb_memblk_usage usage;
	size_t order[8], count;

	(void)state;
	/* Block 1 has 3 used pages, 3 has 1, 5 has a compound one of 4. */
	for (int i = 0; i < 3; i++)
		*page(1, i) = BIT(KPF_ANON) | BIT(KPF_LRU);
	*page(1, 8) = BIT(KPF_LRU);
	*page(3, 0) = BIT(KPF_SLAB);
	*page(5, 0) = BIT(KPF_COMPOUND_HEAD) | BIT(KPF_LRU) | BIT(KPF_SWAPBACKED);
	for (int i = 1; i < 4; i++)
		*page(5, i) = BIT(KPF_COMPOUND_TAIL);
	/* Offline: not counted, whatever its flags say. */
	*page(2, 0) = BIT(KPF_ANON);
	fb_memblk_count(&fake_machine, &b, &usage);
	assert_true(usage.known);
	assert_int_equal(usage.used, 8 * 4096);
	assert_int_equal(usage.droppable, 4096);
	assert_int_equal(usage.free, (4 * PAGES - 9) * 4096);
	assert_int_equal(b.blocks[0].used_pages, 3);
	assert_false(b.blocks[1].usage_known);
	fb_memblk_order(&b, order, &count);
	assert_int_equal(count, 4);
	assert_int_equal(b.blocks[order[0]].number, 4);
	assert_int_equal(b.blocks[order[1]].number, 3);
	assert_int_equal(b.blocks[order[2]].number, 1);
	assert_int_equal(b.blocks[order[3]].number, 5);
	fb_memblks_free(&b);
}

static void orders_by_address(void **state)
{
	struct fb_memblks b = list(0x10000, 0x50000);
	struct fb_memblk_usage usage;
	size_t order[8], count;

	(void)state;
	have_kpageflags = false;
	fb_memblk_count(&fake_machine, &b, &usage);
	assert_false(usage.known);
	fb_memblk_order(&b, order, &count);
	assert_int_equal(count, 4);
	assert_int_equal(b.blocks[order[0]].number, 5);
	assert_int_equal(b.blocks[order[3]].number, 1);
	fb_memblks_free(&b);
}

static void asks_for_room(void **state)
{
	struct fb_memblk block = { .state = FB_BLK_ONLINE, .range = { 0, 2 * FB_GIB } };
	struct fb_memblks b = { 2 * FB_GIB, &block, 1 };
	struct fb_memblk_usage usage = { true, FB_GIB, 0, FB_GIB };
	struct fb_meminfo memory = { 8 * FB_GIB, 0, 2 * FB_GIB + 96 * FB_MIB };
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	/* 1 GiB of what is available is in the region itself. */
	assert_int_equal(fb_memblk_room(&b, &usage, &memory, &err), 0);
	memory.available -= FB_MIB;
	assert_int_equal(fb_memblk_room(&b, &usage, &memory, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "1 GiB in the region must be moved, but only "
					 "1,119 MiB are available"));
	/* Unknown: as much as the machine uses may be in it. */
	usage.known = false;
	memory.available = 7 * FB_GIB;
	assert_int_equal(fb_memblk_room(&b, &usage, &memory, &err), 0);
	memory.available = 2 * FB_GIB;
	assert_int_equal(fb_memblk_room(&b, &usage, &memory, &err), -ENOMEM);
	/* Nothing to move needs no room. */
	usage = (struct fb_memblk_usage){ true, 0, 0, 2 * FB_GIB };
	memory.available = 0;
	assert_int_equal(fb_memblk_room(&b, &usage, &memory, &err), 0);
}

static void tells_what_pins(void **state)
{
	static const struct fb_sys live = { "" };
	struct fb_memblks b = list(0x10000, 0x10000);
	char text[256];

	(void)state;
	*page(1, 2) = BIT(KPF_ANON) | BIT(KPF_LRU);
	*page(1, 4) = BIT(KPF_SLAB);
	fb_memblk_pinned(&fake_machine, &b.blocks[0], 1000, text, sizeof(text));
	assert_string_equal(text, "1 page of slab, 1 page of anonymous memory");
	fb_memblk_pinned(&live, &b.blocks[0], 1000, text, sizeof(text));
	assert_string_equal(text,
			    "1 page of slab, 1 page of anonymous memory, mapped by "
			    "owner of 1 from 18");
	have_kpageflags = false;
	fb_memblk_pinned(&fake_machine, &b.blocks[0], 1000, text, sizeof(text));
	assert_string_equal(text, "");
	fb_memblks_free(&b);
}

static int cleanup(void **state)
{
	(void)state;
	fake_reset();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(lists, setup),
		cmocka_unit_test_setup(wants_a_block_size, setup),
		cmocka_unit_test_setup(tells_kinds, setup),
		cmocka_unit_test_setup(counts_and_orders, setup),
		cmocka_unit_test_setup(orders_by_address, setup),
		cmocka_unit_test_setup(asks_for_room, setup),
		cmocka_unit_test_setup(tells_what_pins, setup),
	};

	return cmocka_run_group_tests(tests, NULL, cleanup);
}
