/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/memblk.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/kernel-page-flags.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "machine/kpage.h"

#define FLAG(bit) ((uint64_t)1 << (bit))

/* Not in the exported header: fs/proc/page.c, linux/kernel-page-flags.h. */
#define KPF_RESERVED_BIT 32

/* ---- which blocks ---------------------------------------------------- */

int fb_memblk_size(const struct fb_sys *sys, uint64_t *size, struct fb_err *err)
{
	char text[32];
	uint64_t v;
	int rc = fb_sys_attr_read(sys, FB_MEMBLK_DIR "/block_size_bytes", text,
				  sizeof(text), err);

	if (rc)
		return rc;
	/* Hexadecimal without 0x. */
	if (fb_parse_base(text, 16, &v) || !fb_is_power_of_2(v))
		return fb_err_set(err, EINVAL,
				  FB_MEMBLK_DIR "/block_size_bytes: '%s' is no size",
				  text);
	*size = v;
	return 0;
}

static enum fb_memblk_state parse_state(const char *text)
{
	static const enum fb_memblk_state states[] = { FB_BLK_ONLINE, FB_BLK_OFFLINE,
						       FB_BLK_GOING_OFFLINE };

	for (size_t i = 0; i < FB_ARRAY_SIZE(states); i++)
		if (!strcmp(text, fb_memblk_state_text(states[i])))
			return states[i];
	return FB_BLK_UNKNOWN;
}

/* The block's directory has a link nodeN. */
static int read_node(const struct fb_sys *sys, const char *dir)
{
	char **names;
	int node = -1;

	if (fb_sys_list(sys, dir, &names, NULL))
		return -1;
	for (char **n = names; *n; n++) {
		uint64_t v;

		if (!strncmp(*n, "node", 4) && !fb_parse_u64(*n + 4, &v) && v < INT_MAX)
			node = (int)v;
	}
	fb_sys_list_free(names);
	return node;
}

void fb_memblk_read(const struct fb_sys *sys, uint64_t number, uint64_t block_size,
		    struct fb_memblk *block)
{
	char dir[96], path[128], state[32];

	memset(block, 0, sizeof(*block));
	block->number = number;
	block->range.start = number * block_size;
	block->range.size = block_size;
	snprintf(dir, sizeof(dir), FB_MEMBLK_DIR "/memory%" PRIu64, number);
	snprintf(path, sizeof(path), "%s/state", dir);
	if (!fb_sys_attr_read(sys, path, state, sizeof(state), NULL))
		block->state = parse_state(state);
	snprintf(path, sizeof(path), "%s/valid_zones", dir);
	if (fb_sys_attr_read(sys, path, block->zones, sizeof(block->zones), NULL))
		block->zones[0] = '\0';
	block->movable = !strncmp(block->zones, "Movable", 7);
	block->node = read_node(sys, dir);
}

int fb_memblk_list(const struct fb_sys *sys, struct fb_range range,
		   struct fb_memblks *blocks, struct fb_err *err)
{
	struct fb_memblks found = { 0, NULL, 0 };
	size_t capacity = 0;
	struct fb_range whole;
	int rc = fb_memblk_size(sys, &found.block_size, err);

	if (rc)
		return rc;
	whole = fb_range_shrink(range, found.block_size);
	for (uint64_t at = 0; at < whole.size; at += found.block_size) {
		uint64_t number = (whole.start + at) / found.block_size;
		char path[96];

		snprintf(path, sizeof(path), FB_MEMBLK_DIR "/memory%" PRIu64, number);
		if (!fb_sys_exists(sys, path))
			continue;
		if (fb_array_grow(&found.blocks, &capacity, found.count + 1,
				  sizeof(*found.blocks))) {
			fb_memblks_free(&found);
			return fb_err_sys(err, ENOMEM, "memory blocks");
		}
		fb_memblk_read(sys, number, found.block_size,
			       &found.blocks[found.count++]);
	}
	*blocks = found;
	return 0;
}

char *fb_memblk_text(const struct fb_memblk *block, char buf[FB_MEMBLK_TEXT_MAX])
{
	snprintf(buf, FB_MEMBLK_TEXT_MAX, "%s%s%s", fb_memblk_state_text(block->state),
		 block->zones[0] ? ", zone " : "", block->zones);
	return buf;
}

/* ---- what is in them ------------------------------------------------- */

/* The page cache that writing 1 to drop_caches takes away (fs/drop_caches.c). */
static bool droppable(uint64_t flags)
{
	const uint64_t busy = FLAG(KPF_ANON) | FLAG(KPF_SWAPBACKED) | FLAG(KPF_MMAP) |
			      FLAG(KPF_DIRTY) | FLAG(KPF_WRITEBACK) |
			      FLAG(KPF_UNEVICTABLE) | FLAG(KPF_LOCKED);

	return (flags & FLAG(KPF_LRU)) && !(flags & busy);
}

static enum fb_page_kind user_kind(uint64_t flags)
{
	if (flags & FLAG(KPF_HUGE))
		return FB_PAGE_HUGETLB;
	if (flags & FLAG(KPF_ANON))
		return FB_PAGE_ANON;
	if (flags & FLAG(KPF_SWAPBACKED))
		return FB_PAGE_SHMEM;
	if (droppable(flags))
		return FB_PAGE_DROPPABLE;
	if (flags & (FLAG(KPF_LRU) | FLAG(KPF_MMAP) | FLAG(KPF_UNEVICTABLE)))
		return FB_PAGE_FILE;
	return FB_PAGE_KERNEL;
}

enum fb_page_kind fb_page_kind(uint64_t flags, enum fb_page_kind head)
{
	if (flags & (FLAG(KPF_NOPAGE) | FLAG(KPF_HWPOISON) | FLAG(KPF_OFFLINE)))
		return FB_PAGE_ABSENT;
	if (flags & FLAG(KPF_BUDDY))
		return FB_PAGE_FREE;
	if (flags & FLAG(KPF_COMPOUND_TAIL))
		return head;
	if (flags & FLAG(KPF_SLAB))
		return FB_PAGE_SLAB;
	if (flags & FLAG(KPF_PGTABLE))
		return FB_PAGE_TABLE;
	if (flags & FLAG(KPF_RESERVED_BIT))
		return FB_PAGE_KERNEL;
	/* A page on a CPU's free list keeps no flag but traces of its last use. */
	if (!(flags & ~(FLAG(KPF_REFERENCED) | FLAG(KPF_UPTODATE) | FLAG(KPF_IDLE))))
		return FB_PAGE_PLAIN;
	return user_kind(flags);
}

const char *fb_page_kind_text(enum fb_page_kind kind)
{
	static const char *const texts[FB_PAGE_KINDS] = {
		[FB_PAGE_ABSENT] = "absent",
		[FB_PAGE_FREE] = "free",
		[FB_PAGE_DROPPABLE] = "clean page cache",
		[FB_PAGE_PLAIN] = "kernel or driver memory (no flags)",
		[FB_PAGE_ANON] = "anonymous memory",
		[FB_PAGE_SHMEM] = "tmpfs or shared memory",
		[FB_PAGE_FILE] = "page cache",
		[FB_PAGE_HUGETLB] = "hugetlb",
		[FB_PAGE_SLAB] = "slab",
		[FB_PAGE_TABLE] = "page tables",
		[FB_PAGE_KERNEL] = "kernel memory",
	};

	return kind < FB_PAGE_KINDS ? texts[kind] : "unknown";
}

static bool in_use(enum fb_page_kind kind)
{
	return kind >= FB_PAGE_ANON;
}

/* The flags of all pages of a block; malloc'ed, NULL where they can't be read. */
static uint64_t *block_flags(const struct fb_sys *sys, const struct fb_memblk *block,
			     size_t *pages)
{
	uint64_t *flags;

	*pages = (size_t)(block->range.size / fb_kpage_size());
	flags = malloc(*pages * sizeof(*flags));
	if (flags && fb_kpage_flags(sys, block->range.start / fb_kpage_size(), *pages,
				    flags, NULL)) {
		free(flags);
		return NULL;
	}
	return flags;
}

static bool count_block(const struct fb_sys *sys, const struct fb_memblk *block,
			uint64_t counts[FB_PAGE_KINDS])
{
	enum fb_page_kind head = FB_PAGE_KERNEL;
	size_t pages;
	fb_autofree uint64_t *flags = block_flags(sys, block, &pages);

	if (!flags)
		return false;
	for (size_t i = 0; i < pages; i++) {
		head = fb_page_kind(flags[i], head);
		counts[head]++;
	}
	return true;
}

void fb_memblk_count(const struct fb_sys *sys, struct fb_memblks *blocks,
		     struct fb_memblk_usage *usage)
{
	uint64_t page = fb_kpage_size();

	memset(usage, 0, sizeof(*usage));
	usage->known = fb_kpage_available(sys);
	for (size_t i = 0; i < blocks->count; i++) {
		struct fb_memblk *b = &blocks->blocks[i];
		uint64_t counts[FB_PAGE_KINDS] = { 0 };

		if (b->state == FB_BLK_OFFLINE)
			continue;
		b->usage_known = usage->known && count_block(sys, b, counts);
		usage->known = usage->known && b->usage_known;
		for (int k = 0; k < FB_PAGE_KINDS; k++)
			if (in_use((enum fb_page_kind)k))
				b->used_pages += counts[k];
		usage->used += b->used_pages * page;
		usage->droppable += counts[FB_PAGE_DROPPABLE] * page;
		usage->free += (counts[FB_PAGE_FREE] + counts[FB_PAGE_PLAIN]) * page;
	}
	if (!usage->known)
		memset(usage, 0, sizeof(*usage));
}

/* ---- decisions ------------------------------------------------------- */

static int compare_usage(const void *a, const void *b, void *context)
{
	const struct fb_memblks *blocks = context;
	const struct fb_memblk *x = &blocks->blocks[*(const size_t *)a];
	const struct fb_memblk *y = &blocks->blocks[*(const size_t *)b];

	if (x->usage_known && y->usage_known && x->used_pages != y->used_pages)
		return x->used_pages < y->used_pages ? -1 : 1;
	return x->number > y->number ? -1 : 1;
}

void fb_memblk_order(const struct fb_memblks *blocks, size_t *order, size_t *count)
{
	size_t n = 0;

	for (size_t i = 0; i < blocks->count; i++)
		if (blocks->blocks[i].state != FB_BLK_OFFLINE)
			order[n++] = i;
	if (n)
		qsort_r(order, n, sizeof(*order), compare_usage, (void *)blocks);
	*count = n;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t subtract(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static uint64_t online_bytes(const struct fb_memblks *blocks)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < blocks->count; i++)
		if (blocks->blocks[i].state != FB_BLK_OFFLINE)
			bytes += blocks->blocks[i].range.size;
	return bytes;
}

int fb_memblk_room(const struct fb_memblks *blocks, const struct fb_memblk_usage *usage,
		   const struct fb_meminfo *memory, struct fb_err *err)
{
	char need_text[FB_SIZE_TEXT_MAX], room_text[FB_SIZE_TEXT_MAX];
	uint64_t size = online_bytes(blocks), need, inside, room;

	if (usage->known) {
		need = usage->used;
		inside = usage->free + usage->droppable;
	} else {
		need = min_u64(size, subtract(memory->total, memory->available));
		inside = subtract(size, need);
	}
	room = subtract(memory->available, inside);
	if (!need || need + need / 32 + 64 * FB_MIB <= room)
		return 0;
	return fb_err_set(
		err, ENOMEM,
		"%s in the region must be moved, but only %s are available "
		"outside it (64 MiB and 3 %% are kept as a margin): free memory "
		"first",
		fb_size_text(fb_align_up(need, FB_MIB), need_text),
		fb_size_text(fb_align_down(room, FB_MIB), room_text));
}

/* ---- what pins a block ----------------------------------------------- */

static void append_counts(const uint64_t counts[FB_PAGE_KINDS], char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (int k = FB_PAGE_KINDS - 1; k >= FB_PAGE_ANON; k--)
		if (counts[k] && used < size)
			used += (size_t)snprintf(
				text + used, size - used, "%s%" PRIu64 " page%s of %s",
				used ? ", " : "", counts[k], counts[k] == 1 ? "" : "s",
				fb_page_kind_text((enum fb_page_kind)k));
	/* Free pages on a CPU's list look the same: only if nothing else is left. */
	if (!used && counts[FB_PAGE_PLAIN])
		snprintf(text, size, "%" PRIu64 " pages of %s", counts[FB_PAGE_PLAIN],
			 fb_page_kind_text(FB_PAGE_PLAIN));
}

/* The frames that processes may map, ascending; *count of them. */
static void collect(const uint64_t *flags, size_t pages, uint64_t first,
		    uint64_t counts[FB_PAGE_KINDS], uint64_t *pfns, size_t *count)
{
	enum fb_page_kind head = FB_PAGE_KERNEL;

	*count = 0;
	for (size_t i = 0; i < pages; i++) {
		head = fb_page_kind(flags[i], head);
		counts[head]++;
		if (head >= FB_PAGE_ANON && head <= FB_PAGE_HUGETLB)
			pfns[(*count)++] = first + i;
	}
}

void fb_memblk_pinned(const struct fb_sys *sys, const struct fb_memblk *block,
		      uint64_t budget_usec, char *text, size_t size)
{
	uint64_t counts[FB_PAGE_KINDS] = { 0 };
	size_t pages, count, used;
	fb_autofree uint64_t *flags = block_flags(sys, block, &pages);
	fb_autofree uint64_t *pfns = malloc(pages * sizeof(*pfns));
	char owners[256];

	text[0] = '\0';
	if (!flags || !pfns)
		return;
	collect(flags, pages, block->range.start / fb_kpage_size(), counts, pfns,
		&count);
	append_counts(counts, text, size);
	if (!fb_sys_live(sys))
		return;
	fb_kpage_owners(pfns, count, budget_usec, owners, sizeof(owners));
	used = strlen(text);
	if (owners[0] && used < size)
		snprintf(text + used, size - used, ", mapped by %s", owners);
}
