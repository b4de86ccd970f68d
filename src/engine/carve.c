/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/carve.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/util.h"
#include "machine/iomem.h"

/* Goes through the free gaps of all banks, in ascending order. */
struct gaps {
	const struct fb_iomem *iomem;
	size_t next;	      /* entry to look at */
	struct fb_range bank; /* size 0: none is open */
	uint64_t at;	      /* everything of the bank below is done */
};

static bool is_bank(const struct fb_iomem_entry *e)
{
	return !e->depth && !strcmp(e->name, FB_IOMEM_RAM);
}

/* From the start of RAM: there a kernel without KASLR goes. */
#define LOWEST (128 * FB_MIB)

/* Where RAM starts: 0 on a PC, 1 or 2 GiB on many boards. */
static uint64_t ram_start(const struct fb_iomem *iomem)
{
	for (size_t i = 0; i < iomem->count; i++)
		if (is_bank(&iomem->entries[i]))
			return fb_align_down(iomem->entries[i].range.start, LOWEST);
	return 0;
}

static bool is_called_kernel(const struct fb_iomem_entry *e)
{
	return !strncmp(e->name, "Kernel ", strlen("Kernel "));
}

/* arm64: between code and data lies what was for the start only, "reserved". */
static bool is_within_kernel(const struct fb_iomem *iomem,
			     const struct fb_iomem_entry *e)
{
	const struct fb_iomem_entry *last = iomem->entries + iomem->count - 1;

	return e > iomem->entries && e < last && is_called_kernel(e - 1) &&
	       is_called_kernel(e + 1) && fb_range_end(e[-1].range) == e->range.start &&
	       fb_range_end(e->range) == e[1].range.start;
}

/* "Kernel code", "Kernel data", ...: where KASLR put this one; see the header. */
static bool is_kernel(const struct fb_iomem *iomem, const struct fb_iomem_entry *e)
{
	return e->range.start - ram_start(iomem) >= LOWEST &&
	       (is_called_kernel(e) || is_within_kernel(iomem, e));
}

/* The rest of the open bank up to `end`; false where that is nothing. */
static bool take_gap(struct gaps *g, uint64_t end, struct fb_range *gap)
{
	struct fb_range r = { g->at, end - g->at };

	if (end <= g->at)
		return false;
	*gap = r;
	return true;
}

static bool next_gap(struct gaps *g, struct fb_range *gap, struct fb_range *bank)
{
	while (g->next < g->iomem->count || g->bank.size) {
		const struct fb_iomem_entry *e =
			g->next < g->iomem->count ? &g->iomem->entries[g->next] : NULL;
		bool found;

		*bank = g->bank;
		if (e && g->bank.size && e->depth) {
			/* Something inside the bank; deeper ones lie in it. */
			bool skip = is_kernel(g->iomem, e);

			found = !skip && take_gap(g, e->range.start, gap);
			if (!skip && fb_range_end(e->range) > g->at)
				g->at = fb_range_end(e->range);
			g->next++;
		} else {
			found = g->bank.size && take_gap(g, fb_range_end(g->bank), gap);
			g->bank.size = 0;
			if (e && is_bank(e)) {
				g->bank = e->range;
				g->at = e->range.start;
			}
			g->next += e != NULL;
		}
		if (found)
			return true;
	}
	return false;
}

/* The lowest region of `count` blocks in the gap that begins at `min` or above. */
static bool place(const struct fb_carve_request *rq, struct fb_range gap, uint64_t min,
		  uint64_t count, struct fb_range *region)
{
	uint64_t low = gap.start > min ? gap.start : min, first, size;

	if (fb_mul_overflow(count, rq->block_size, &size) ||
	    fb_add_overflow(size, rq->overhead, &size) ||
	    fb_add_overflow(low, rq->overhead + rq->block_size - 1, &first))
		return false;
	region->start = fb_align_down(first, rq->block_size) - rq->overhead;
	region->size = size;
	return fb_range_valid(*region) && fb_range_contains(gap, *region);
}

/* Most blocks that any gap has room for. */
static uint64_t largest(const struct fb_iomem *iomem, const struct fb_carve_request *rq,
			uint64_t min, struct fb_range *where)
{
	struct gaps g = { .iomem = iomem };
	struct fb_range gap, bank;
	uint64_t best = 0;

	while (next_gap(&g, &gap, &bank)) {
		struct fb_range one;
		uint64_t count;

		if (!place(rq, gap, min, 1, &one))
			continue;
		count = (fb_range_end(gap) - one.start - rq->overhead) / rq->block_size;
		if (count <= best)
			continue;
		best = count;
		*where = bank;
	}
	return best;
}

static int nothing_fits(const struct fb_iomem *iomem, const struct fb_carve_request *rq,
			struct fb_err *err)
{
	char want[FB_SIZE_TEXT_MAX], most[FB_SIZE_TEXT_MAX], bank[FB_RANGE_TEXT_MAX];
	struct fb_range where = { 0, 0 };
	uint64_t blocks = largest(iomem, rq, ram_start(iomem) + LOWEST, &where);

	if (!blocks)
		return fb_err_set(err, ENOSPC,
				  "no bank of System RAM has room for a region of one "
				  "memory block (%s)",
				  fb_size_text(rq->block_size, want));
	return fb_err_set(
		err, ENOSPC,
		"no bank of System RAM has room for %s: the largest region is "
		"%s, in %s",
		fb_size_text(rq->size, want),
		fb_size_text(blocks * rq->block_size, most),
		fb_range_text(where, bank));
}

/* The lowest place above `min` in the largest bank that has one. */
static bool choose_above(const struct fb_iomem *iomem,
			 const struct fb_carve_request *rq, uint64_t min,
			 uint64_t count, struct fb_carve *carve)
{
	struct gaps g = { .iomem = iomem };
	struct fb_range gap, bank, region;
	bool found = false;

	while (next_gap(&g, &gap, &bank)) {
		if ((found && bank.size <= carve->bank.size) ||
		    !place(rq, gap, min, count, &region))
			continue;
		carve->bank = bank;
		carve->region = region;
		found = true;
	}
	return found;
}

/* The highest place above `min`; one that ends on the boundary of a block. */
static int choose_top(const struct fb_iomem *iomem, const struct fb_carve_request *rq,
		      uint64_t min, uint64_t count, struct fb_carve *carve,
		      struct fb_err *err)
{
	struct gaps g = { .iomem = iomem };
	struct fb_range gap, bank, region;
	bool found = false;

	if (fb_mul_overflow(count, rq->block_size, &region.size) ||
	    fb_add_overflow(region.size, rq->overhead, &region.size))
		return nothing_fits(iomem, rq, err);
	while (next_gap(&g, &gap, &bank)) {
		uint64_t end = fb_align_down(fb_range_end(gap), rq->block_size);

		region.start = end - region.size;
		if (end < region.size || region.start < min ||
		    !fb_range_contains(gap, region))
			continue;
		/* Banks and gaps come in ascending order. */
		carve->bank = bank;
		carve->region = region;
		found = true;
	}
	return found ? 0 : nothing_fits(iomem, rq, err);
}

static int choose_best(const struct fb_iomem *iomem, const struct fb_carve_request *rq,
		       uint64_t count, struct fb_carve *carve, struct fb_err *err)
{
	uint64_t ram = ram_start(iomem);
	const uint64_t tiers[] = { 4 * FB_GIB, ram + FB_GIB, ram + LOWEST };

	if (rq->top)
		return choose_top(iomem, rq, ram + LOWEST, count, carve, err);
	for (size_t i = 0; i < FB_ARRAY_SIZE(tiers); i++)
		if (choose_above(iomem, rq, tiers[i], count, carve))
			return 0;
	return nothing_fits(iomem, rq, err);
}

/* What in /proc/iomem does not leave `region` to us. */
static int in_the_way(const struct fb_iomem *iomem, struct fb_range region,
		      struct fb_err *err)
{
	char a[FB_RANGE_TEXT_MAX], b[FB_RANGE_TEXT_MAX];

	for (size_t i = 0; i < iomem->count; i++) {
		const struct fb_iomem_entry *e = &iomem->entries[i];

		if (!is_bank(e) && !is_kernel(iomem, e) &&
		    fb_range_overlaps(e->range, region))
			return fb_err_set(err, ENOSPC,
					  "a region at %s would overlap %s (%s)",
					  fb_range_text(region, a),
					  fb_range_text(e->range, b), e->name);
	}
	return fb_err_set(err, ENOSPC,
			  "a region at %s is not in one bank of System RAM",
			  fb_range_text(region, a));
}

static int choose_at(const struct fb_iomem *iomem, const struct fb_carve_request *rq,
		     uint64_t count, struct fb_carve *carve, struct fb_err *err)
{
	struct gaps g = { .iomem = iomem };
	struct fb_range gap;
	uint64_t first, size;

	if (rq->at % FB_CARVE_ALIGN)
		return fb_err_set(err, EINVAL,
				  "a region cannot begin at %#" PRIx64
				  ": not a multiple of 2 MiB",
				  rq->at);
	if (fb_add_overflow(rq->at, rq->overhead + rq->block_size - 1, &first) ||
	    fb_mul_overflow(count, rq->block_size, &size))
		return nothing_fits(iomem, rq, err);
	first = fb_align_down(first, rq->block_size);
	carve->region.start = rq->at;
	carve->region.size = first + size - rq->at;
	while (next_gap(&g, &gap, &carve->bank))
		if (fb_range_contains(gap, carve->region))
			return 0;
	return in_the_way(iomem, carve->region, err);
}

/* System RAM from `start` on. */
static uint64_t ram_from(const struct fb_iomem *iomem, uint64_t start)
{
	struct fb_range rest = { start, UINT64_MAX - start };
	uint64_t sum = 0;

	for (size_t i = 0; i < iomem->count; i++)
		if (is_bank(&iomem->entries[i]))
			sum += fb_range_intersect(iomem->entries[i].range, rest).size;
	return sum;
}

int fb_carve_choose(const struct fb_iomem *iomem, const struct fb_carve_request *rq,
		    struct fb_carve *carve, struct fb_err *err)
{
	struct fb_carve c = { .ram = ram_from(iomem, 0) };
	uint64_t count;
	int rc;

	if (!rq->size)
		return fb_err_set(err, EINVAL, "a region of size 0 holds nothing");
	count = rq->size / rq->block_size + (rq->size % rq->block_size != 0);
	rc = rq->at_set ? choose_at(iomem, rq, count, &c, err)
			: choose_best(iomem, rq, count, &c, err);
	if (rc)
		return rc;
	c.usable.size = count * rq->block_size;
	c.usable.start = fb_range_end(c.region) - c.usable.size;
	c.first_block = c.usable.start / rq->block_size;
	c.block_count = count;
	c.above = ram_from(iomem, fb_range_end(c.region));
	*carve = c;
	return 0;
}

/* What memblock has: arch/arm64/kernel/setup.c gives both names. */
static bool is_memory(const struct fb_iomem_entry *e)
{
	return is_bank(e) || (!e->depth && !strcmp(e->name, "reserved"));
}

bool fb_carve_fits(const struct fb_carve_request *request, struct fb_range region,
		   struct fb_carve *carve)
{
	struct fb_range usable;

	if (region.size <= request->overhead)
		return false;
	usable.start = region.start + request->overhead;
	usable.size = region.size - request->overhead;
	usable = fb_range_shrink(usable, request->block_size);
	if (usable.size != fb_align_up(request->size, request->block_size))
		return false;
	*carve = (struct fb_carve){ .region = region,
				    .usable = usable,
				    .first_block = usable.start / request->block_size,
				    .block_count = usable.size / request->block_size };
	return true;
}

uint64_t fb_carve_mem(const struct fb_iomem *iomem, uint64_t start)
{
	struct fb_range below = { 0, start };
	uint64_t total = 0;

	for (size_t i = 0; i < iomem->count; i++)
		if (is_memory(&iomem->entries[i]))
			total +=
				fb_range_intersect(iomem->entries[i].range, below).size;
	return total;
}

uint64_t fb_carve_mem_end(const struct fb_iomem *iomem, uint64_t total)
{
	for (size_t i = 0; i < iomem->count; i++) {
		const struct fb_iomem_entry *e = &iomem->entries[i];

		if (!is_memory(e))
			continue;
		if (total <= e->range.size)
			return e->range.start + total;
		total -= e->range.size;
	}
	return UINT64_MAX;
}
