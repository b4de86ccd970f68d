/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memblk - memory blocks: which there are, in what state, and what is in
 * them. Reads only. Sources: drivers/base/memory.c, mm/memory_hotplug.c,
 * fs/proc/page.c, Linux 6.12 and 6.1.
 *
 *	struct fb_memblks blocks;
 *	struct fb_memblk_usage usage;
 *
 *	rc = fb_memblk_list(sys, region.hotadded, &blocks, err);
 *	fb_memblk_count(sys, &blocks, &usage);
 *	...
 *	fb_memblks_free(&blocks);
 */
#ifndef FB_MACHINE_MEMBLK_H
#define FB_MACHINE_MEMBLK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/facts.h"
#include "machine/sys.h"

#define FB_MEMBLK_DIR "/sys/devices/system/memory"

/* Bytes in a memory block. -ENOENT: a kernel without memory hotplug. */
int fb_memblk_size(const struct fb_sys *sys, uint64_t *size, struct fb_err *err);

/*
 * The blocks that lie wholly in `range` and are there (hot-added, or RAM from
 * boot), ascending. An empty range gives none. `blocks` is released with
 * fb_memblks_free(); usage is not counted. A state that cannot be read or is
 * none of the kernel's is FB_BLK_UNKNOWN, not an error.
 */
int fb_memblk_list(const struct fb_sys *sys, struct fb_range range,
		   struct fb_memblks *blocks, struct fb_err *err);

/* One block again, by its number. */
void fb_memblk_read(const struct fb_sys *sys, uint64_t number, uint64_t block_size,
		    struct fb_memblk *block);

/* Online in ZONE_MOVABLE, or offline: "online, Movable" (for messages). */
#define FB_MEMBLK_TEXT_MAX 128
char *fb_memblk_text(const struct fb_memblk *block, char buf[FB_MEMBLK_TEXT_MAX]);

/* ---- usage ----------------------------------------------------------- */

/* What a page frame is used for, from its KPF_* flags. */
enum fb_page_kind {
	FB_PAGE_ABSENT, /* a hole, offline, or memory that failed */
	FB_PAGE_FREE,
	FB_PAGE_DROPPABLE, /* clean page cache that nobody maps */
	FB_PAGE_PLAIN,	   /* no flag at all: free on a CPU's list, or a driver's */
	FB_PAGE_ANON,
	FB_PAGE_SHMEM, /* tmpfs and shared memory */
	FB_PAGE_FILE,  /* other page cache: mapped, dirty, under write-back */
	FB_PAGE_HUGETLB,
	FB_PAGE_SLAB,
	FB_PAGE_TABLE,	/* page tables */
	FB_PAGE_KERNEL, /* reserved or otherwise the kernel's own */
	FB_PAGE_KINDS
};

/*
 * Pure. Tail pages of compound pages have few flags of their own (6.1): they
 * are what their head is, given in `head` (FB_PAGE_KERNEL if it is not known).
 */
enum fb_page_kind fb_page_kind(uint64_t flags, enum fb_page_kind head);
const char *fb_page_kind_text(enum fb_page_kind kind);

/* Bytes in all blocks that were counted. */
struct fb_memblk_usage {
	bool known;	    /* false: no /proc/kpageflags, the rest is 0 */
	uint64_t used;	    /* must be moved to other memory */
	uint64_t droppable; /* goes away with the clean page cache */
	uint64_t free;
};

/*
 * Fill used_pages and usage_known of every online block from /proc/kpageflags,
 * and the sums. Where that file is missing or cannot be read nothing is
 * known; that is not an error.
 */
void fb_memblk_count(const struct fb_sys *sys, struct fb_memblks *blocks,
		     struct fb_memblk_usage *usage);

/*
 * Pure: the order in which to take blocks offline, as indices into
 * blocks->blocks: the emptiest first, so that no page is moved into a block that
 * goes next; between equals, and where usage is not known, the highest address
 * first. Blocks that are offline are left out. `order` has room for
 * blocks->count; *count is set.
 */
void fb_memblk_order(const struct fb_memblks *blocks, size_t *order, size_t *count);

/*
 * Pure: can what is in `blocks` be moved elsewhere? Compares what is used with
 * what is available outside (MemAvailable less what of it lies in the
 * blocks), keeping a margin of 64 MiB and 1/32. Unknown usage counts as the
 * smaller of the blocks' size and of what the machine uses. -ENOMEM with both
 * sizes.
 */
int fb_memblk_room(const struct fb_memblks *blocks, const struct fb_memblk_usage *usage,
		   const struct fb_meminfo *memory, struct fb_err *err);

/*
 * What keeps a block from going offline: kinds and numbers of pages left in
 * it, and the processes that map them where that can be found out within
 * `budget_usec`: "1 anonymous page, mapped by pin (pid 77)". "" where nothing
 * can be said.
 */
void fb_memblk_pinned(const struct fb_sys *sys, const struct fb_memblk *block,
		      uint64_t budget_usec, char *text, size_t size);

#endif
