/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "engine/timeline_svg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

/* All in pixels. */
enum {
	WIDTH = 1120,
	MARGIN = 24,
	LABELS = 210, /* their column; the plot begins behind it */
	PLOT = WIDTH - 2 * MARGIN - LABELS - 80, /* the rest is for the last time */
	LANE = 20,
	BAR = 14,
	HEAD = 44,  /* above a panel's lanes: its name and the axis */
	STRIP = 92, /* where the strip is */
	TOP = 150,  /* where the first panel begins */
};

static const struct {
	const char *bar, *step, *title;
} looks[FB_TIMELINE_SECTIONS] = {
	[FB_TIMELINE_PREPARE] = { "#3b7ea1", "#9cc3d5", "the applications run" },
	[FB_TIMELINE_BLACKOUT] = { "#c23b32", "#e8a49f", "they do not run" },
	[FB_TIMELINE_AFTER] = { "#3f8f5b", "#a3cfb2",
				"they run under the next kernel" },
};

char *fb_timeline_usec_text(uint64_t usec, char buf[FB_USEC_TEXT_MAX])
{
	if (usec >= 1000000)
		snprintf(buf, FB_USEC_TEXT_MAX, "%.3f s", (double)usec / 1e6);
	else if (usec >= 1000)
		snprintf(buf, FB_USEC_TEXT_MAX, "%.1f ms", (double)usec / 1e3);
	else
		snprintf(buf, FB_USEC_TEXT_MAX, "%u us", (unsigned int)usec);
	return buf;
}

/* Text of a file, so it may hold anything. */
static void put_escaped(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '<')
			fputs("&lt;", out);
		else if (*text == '>')
			fputs("&gt;", out);
		else if (*text == '&')
			fputs("&amp;", out);
		else
			fputc(*text >= ' ' && *text < 0x7f ? *text : '?', out);
	}
}

/* ---- scales ------------------------------------------------------------------- */

struct scale {
	uint64_t start_usec, length_usec;
};

static struct scale scale_of(const struct fb_timeline_span *span)
{
	uint64_t length = span->end_usec - span->start_usec;

	return (struct scale){ span->start_usec, length ? length : 1 };
}

static double x_at(const struct scale *scale, uint64_t usec)
{
	return (double)(usec - scale->start_usec) * PLOT / (double)scale->length_usec;
}

/* 1, 2 or 5 times a power of ten, so that there are at most ten of them. */
static uint64_t tick_usec(uint64_t length_usec)
{
	static const unsigned int steps[] = { 1, 2, 5 };

	for (uint64_t ten = 1; ten < UINT64_MAX / 100; ten *= 10)
		for (size_t i = 0; i < FB_ARRAY_SIZE(steps); i++)
			if (length_usec / (ten * steps[i]) < 10)
				return ten * steps[i];
	return length_usec;
}

static char *tick_text(uint64_t usec, uint64_t tick, char buf[FB_USEC_TEXT_MAX])
{
	if (tick >= 1000000)
		snprintf(buf, FB_USEC_TEXT_MAX, "%u s", (unsigned int)(usec / 1000000));
	else if (tick >= 100000)
		snprintf(buf, FB_USEC_TEXT_MAX, "%.1f s", (double)usec / 1e6);
	else if (tick >= 1000)
		snprintf(buf, FB_USEC_TEXT_MAX, "%u ms", (unsigned int)(usec / 1000));
	else
		snprintf(buf, FB_USEC_TEXT_MAX, "%u us", (unsigned int)usec);
	return buf;
}

/* ---- a panel ------------------------------------------------------------------ */

static void put_axis(FILE *out, const struct scale *scale, size_t lanes)
{
	uint64_t tick = tick_usec(scale->length_usec);
	char text[FB_USEC_TEXT_MAX];

	for (uint64_t at = 0; at <= scale->length_usec; at += tick) {
		double x = x_at(scale, scale->start_usec + at);

		fprintf(out, "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" ",
			x, HEAD - 6, x);
		fprintf(out, "y2=\"%zu\"/>\n", HEAD + lanes * LANE);
		fprintf(out, "<text class=\"tick\" x=\"%.1f\" y=\"%d\">%s</text>\n", x,
			HEAD - 10, tick_text(at, tick, text));
	}
}

static void put_lane(FILE *out, const struct fb_timeline_row *row,
		     const struct scale *scale, size_t lane)
{
	bool part = row->kind == FB_ROW_STEP || row->kind == FB_ROW_PARALLEL;
	const char *fill = part ? looks[row->section].step
			   : row->kind == FB_ROW_OTHER || row->kind == FB_ROW_UNKNOWN
				   ? "#b5b5b5"
				   : looks[row->section].bar;
	double x = x_at(scale, row->start_usec);
	double width = x_at(scale, row->end_usec) - x;
	int y = HEAD + (int)lane * LANE;
	char text[FB_USEC_TEXT_MAX];

	fprintf(out, "<text class=\"%s\" x=\"-10\" y=\"%d\">", part ? "part" : "label",
		y + 14);
	put_escaped(out, row->label);
	fprintf(out, "</text>\n<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" ",
		x, y + (LANE - BAR) / 2, width < 1 ? 1 : width, BAR);
	fprintf(out, "fill=\"%s\"/>\n", fill);
	fprintf(out, "<text class=\"time\" x=\"%.1f\" y=\"%d\">%s</text>\n",
		x + (width < 1 ? 1 : width) + 5, y + 14,
		row->kind == FB_ROW_UNKNOWN
			? "not known"
			: fb_timeline_usec_text(row->end_usec - row->start_usec, text));
}

static size_t count_lanes(const struct fb_timeline_view *view,
			  enum fb_timeline_section section)
{
	size_t lanes = 0;

	for (size_t i = 0; i < view->row_count; i++)
		lanes += view->rows[i].section == section;
	return lanes;
}

static void put_heading(FILE *out, const struct fb_timeline_view *view,
			enum fb_timeline_section section)
{
	const struct fb_timeline_span *span = &view->sections[section];
	char text[FB_USEC_TEXT_MAX];

	fprintf(out, "<text class=\"head\" x=\"%d\" y=\"14\" style=\"fill: %s\">%s: ",
		-LABELS, looks[section].bar, fb_timeline_section_text(section));
	if (span->known)
		fputs(fb_timeline_usec_text(span->end_usec - span->start_usec, text),
		      out);
	else
		fputs("not known", out);
	fprintf(out, "<tspan class=\"note\" dx=\"10\">%s</tspan></text>\n",
		looks[section].title);
}

/* Returns its height. */
static size_t put_panel(FILE *out, const struct fb_timeline_view *view,
			enum fb_timeline_section section, size_t y)
{
	const struct scale scale = scale_of(&view->sections[section]);
	size_t lanes = count_lanes(view, section), lane = 0;

	if (!lanes)
		return 0;
	fprintf(out, "<g transform=\"translate(%d,%zu)\">\n", MARGIN + LABELS, y);
	put_heading(out, view, section);
	put_axis(out, &scale, lanes);
	for (size_t i = 0; i < view->row_count; i++)
		if (view->rows[i].section == section)
			put_lane(out, &view->rows[i], &scale, lane++);
	fputs("</g>\n", out);
	return HEAD + lanes * LANE + 24;
}

/* ---- above them --------------------------------------------------------------- */

static void put_strip(FILE *out, const struct fb_timeline_view *view)
{
	double all = WIDTH - 2 * MARGIN;
	uint64_t length = view->total.end_usec ? view->total.end_usec : 1;

	for (int s = 0; s < FB_TIMELINE_SECTIONS; s++) {
		const struct fb_timeline_span *span = &view->sections[s];
		double x = (double)span->start_usec * all / (double)length;
		double width = (double)span->end_usec * all / (double)length - x;
		const char *name =
			fb_timeline_section_text((enum fb_timeline_section)s);

		fprintf(out, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"24\" ",
			MARGIN + x, STRIP, width);
		fprintf(out, "fill=\"%s\"/>\n", looks[s].bar);
		if (width > 9.0 * (double)strlen(name))
			fprintf(out,
				"<text class=\"strip\" x=\"%.1f\" y=\"%d\">%s</text>\n",
				MARGIN + x + width / 2, STRIP + 17, name);
	}
}

static void put_title(FILE *out, const struct fb_timeline *t,
		      const struct fb_timeline_view *view)
{
	char size[FB_SIZE_TEXT_MAX], total[FB_USEC_TEXT_MAX];

	fprintf(out, "<text class=\"title\" x=\"%d\" y=\"36\">fastboot: ", MARGIN);
	put_escaped(out, t->from.release);
	fputs(" to ", out);
	put_escaped(out, t->to.release);
	fprintf(out, "</text>\n<text class=\"note\" x=\"%d\" y=\"58\">image of %s",
		MARGIN, fb_size_text(t->image_bytes, size));
	if (view->total.known)
		fprintf(out, ", all in all %s",
			fb_timeline_usec_text(view->total.end_usec, total));
	fprintf(out, "</text>\n<text class=\"note\" x=\"%d\" y=\"76\">", MARGIN);
	put_escaped(out, fb_timeline_clock_text(view->clock));
	fputs("</text>\n", out);
}

static void put_begin(FILE *out, size_t height)
{
	fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n", out);
	fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" ");
	fprintf(out, "width=\"%d\" height=\"%zu\" ", WIDTH, height);
	fprintf(out, "viewBox=\"0 0 %d %zu\">\n", WIDTH, height);
	fputs("<style type=\"text/css\">\n"
	      "text { font-family: sans-serif; font-size: 12px; fill: #222222; }\n"
	      ".title { font-size: 20px; font-weight: bold; }\n"
	      ".head { font-size: 15px; font-weight: bold; }\n"
	      ".note { font-size: 12px; font-weight: normal; fill: #666666; }\n"
	      ".tick { font-size: 10px; fill: #777777; text-anchor: middle; }\n"
	      ".label { text-anchor: end; }\n"
	      ".part { text-anchor: end; font-size: 11px; fill: #666666; }\n"
	      ".time { font-size: 11px; stroke: #ffffff; stroke-width: 3; "
	      "paint-order: stroke; }\n"
	      ".strip { text-anchor: middle; fill: #ffffff; }\n"
	      ".grid { stroke: #dddddd; stroke-width: 1; }\n"
	      "</style>\n",
	      out);
	fputs("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n", out);
}

static size_t height_of(const struct fb_timeline_view *view)
{
	size_t height = TOP;

	for (int s = 0; s < FB_TIMELINE_SECTIONS; s++) {
		size_t lanes = count_lanes(view, (enum fb_timeline_section)s);

		height += lanes ? HEAD + lanes * LANE + 24 : 0;
	}
	return height;
}

char *fb_timeline_svg(const struct fb_timeline *timeline,
		      const struct fb_timeline_view *view)
{
	char *text = NULL;
	size_t size, y = TOP;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	put_begin(out, height_of(view));
	put_title(out, timeline, view);
	put_strip(out, view);
	for (int s = 0; s < FB_TIMELINE_SECTIONS; s++)
		y += put_panel(out, view, (enum fb_timeline_section)s, y);
	fputs("</svg>\n", out);
	if (!fclose(out))
		return text;
	free(text);
	return NULL;
}
