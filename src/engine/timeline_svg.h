/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * timeline_svg - a timeline as a picture, in the manner of `systemd-analyze
 * plot`: a strip with prepare, blackout and after in proportion, and below it one
 * panel for each with its own scale and one lane for each row. Pure.
 */
#ifndef FB_ENGINE_TIMELINE_SVG_H
#define FB_ENGINE_TIMELINE_SVG_H

#include "engine/timeline_view.h"

/* The document, SVG 1.1 in UTF-8; malloc'ed, NULL when memory is out. */
char *fb_timeline_svg(const struct fb_timeline *timeline,
		      const struct fb_timeline_view *view);

/* "1.234 s", "12.3 ms", "45 us"; writes to buf, returns buf. */
#define FB_USEC_TEXT_MAX 32
char *fb_timeline_usec_text(uint64_t usec, char buf[FB_USEC_TEXT_MAX]);

#endif
