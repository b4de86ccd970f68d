/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/range.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/util.h"

bool fb_range_valid(struct fb_range r)
{
	return r.size == 0 || r.size - 1 <= UINT64_MAX - r.start;
}

bool fb_range_contains(struct fb_range outer, struct fb_range inner)
{
	return outer.size && inner.size && inner.start >= outer.start &&
	       fb_range_last(inner) <= fb_range_last(outer);
}

bool fb_range_overlaps(struct fb_range a, struct fb_range b)
{
	return a.size && b.size && a.start <= fb_range_last(b) &&
	       b.start <= fb_range_last(a);
}

bool fb_range_equal(struct fb_range a, struct fb_range b)
{
	return a.start == b.start && a.size == b.size;
}

struct fb_range fb_range_intersect(struct fb_range a, struct fb_range b)
{
	struct fb_range r = { 0, 0 };
	uint64_t last;

	if (!fb_range_overlaps(a, b))
		return r;
	r.start = a.start > b.start ? a.start : b.start;
	last = fb_range_last(a) < fb_range_last(b) ? fb_range_last(a)
						   : fb_range_last(b);
	r.size = last - r.start + 1;
	return r;
}

struct fb_range fb_range_shrink(struct fb_range r, uint64_t align)
{
	struct fb_range out = { 0, 0 };
	uint64_t start = fb_align_up(r.start, align);
	uint64_t end = fb_align_down(fb_range_end(r), align);

	/* An end of 0 is 2^64; a start that wrapped is behind every end. */
	if (!r.size || start < r.start || (end && end <= start))
		return out;
	out.start = start;
	out.size = end - start;
	return out;
}

char *fb_range_text(struct fb_range r, char buf[FB_RANGE_TEXT_MAX])
{
	if (r.size)
		snprintf(buf, FB_RANGE_TEXT_MAX, "%#" PRIx64 "-%#" PRIx64, r.start,
			 fb_range_last(r));
	else
		snprintf(buf, FB_RANGE_TEXT_MAX, "empty");
	return buf;
}
