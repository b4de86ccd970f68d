/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a timeline, up to its picture. Besides memory errors: what is
 * accepted is written as something that is accepted, and no row ends before it
 * begins or lies outside of its section.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "engine/timeline_svg.h"
#include "engine/timeline_view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

static void check_view(const struct fb_timeline_view *v)
{
	for (size_t i = 0; i < v->row_count; i++) {
		const struct fb_timeline_row *row = &v->rows[i];
		const struct fb_timeline_span *span = &v->sections[row->section];

		require(row->start_usec <= row->end_usec);
		require(row->start_usec >= span->start_usec);
		require(row->start_usec <= span->end_usec);
	}
	for (int s = 0; s < FB_TIMELINE_SECTIONS; s++)
		require(v->sections[s].start_usec <= v->sections[s].end_usec);
}

static void check_format(const struct fb_timeline *t)
{
	fb_autofree char *text = fb_timeline_format(t);
	struct fb_timeline again;

	require(text && !fb_timeline_parse(text, &again, NULL));
	require(again.stamp_count == t->stamp_count);
	require(again.mark_count == t->mark_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fb_autofree char *text = strndup((const char *)data, size);
	fb_autofree char *svg = NULL;
	struct fb_timeline_view view;
	struct fb_timeline t;

	if (fb_timeline_parse(text, &t, NULL))
		return 0;
	check_format(&t);
	if (fb_timeline_view_make(&t, &view, NULL))
		return 0;
	check_view(&view);
	svg = fb_timeline_svg(&t, &view);
	require(svg);
	return 0;
}
