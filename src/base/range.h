/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * range - physical address ranges. `start` and `size` are bytes; a range with
 * size 0 is empty; start + size never exceeds 2^64 (fb_range_valid).
 */
#ifndef FB_BASE_RANGE_H
#define FB_BASE_RANGE_H

#include <stdbool.h>
#include <stdint.h>

struct fb_range {
	uint64_t start;
	uint64_t size;
};

/* First byte behind the range; 0 where it ends at 2^64. */
static inline uint64_t fb_range_end(struct fb_range r)
{
	return r.start + r.size;
}

/* Last byte of a range that is not empty. */
static inline uint64_t fb_range_last(struct fb_range r)
{
	return r.start + r.size - 1;
}

/* Does start + size fit (a range may end exactly at 2^64)? */
bool fb_range_valid(struct fb_range r);

/* Every byte of `inner` lies in `outer`; an empty `inner` never does. */
bool fb_range_contains(struct fb_range outer, struct fb_range inner);

/* The two have a byte in common. */
bool fb_range_overlaps(struct fb_range a, struct fb_range b);

bool fb_range_equal(struct fb_range a, struct fb_range b);

/* What the two have in common; size 0 where nothing. */
struct fb_range fb_range_intersect(struct fb_range a, struct fb_range b);

/*
 * The largest range inside `r` whose start and end are multiples of `align`
 * (a power of two); size 0 where there is none.
 */
struct fb_range fb_range_shrink(struct fb_range r, uint64_t align);

#define FB_RANGE_TEXT_MAX 48

/* "0x100000000-0x17fffffff", or "empty". Writes to buf, returns buf. */
char *fb_range_text(struct fb_range r, char buf[FB_RANGE_TEXT_MAX]);

#endif
