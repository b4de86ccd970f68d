/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * timeline_view - a timeline as rows to be shown: one a phase, in the order of
 * time, with the kernel's steps below its own. Pure.
 */
#ifndef FB_ENGINE_TIMELINE_VIEW_H
#define FB_ENGINE_TIMELINE_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/timeline_kernel.h"

/* Which of the three clocks a row is part of. */
enum fb_timeline_section {
	FB_TIMELINE_PREPARE,  /* the applications run */
	FB_TIMELINE_BLACKOUT, /* they don't */
	FB_TIMELINE_AFTER,    /* they run under the next kernel */
	FB_TIMELINE_SECTIONS,
};

/* "prepare" */
const char *fb_timeline_section_text(enum fb_timeline_section section);

enum fb_timeline_kind {
	FB_ROW_PHASE,
	FB_ROW_OTHER,	 /* a phase in which not fastboot is at work */
	FB_ROW_STEP,	 /* a part of the kernel's row above */
	FB_ROW_PARALLEL, /* a part that goes on beside the others */
	FB_ROW_UNKNOWN,	 /* nobody knows how long it took: start and end are one */
};

struct fb_timeline_row {
	enum fb_timeline_section section;
	enum fb_timeline_kind kind;
	unsigned int phase; /* 0 for a part of the kernel's start */
	char label[80];
	uint64_t start_usec, end_usec; /* since the first stamp */
};

/* Does the counter tell of both sides of the reboot? */
enum fb_timeline_clock {
	FB_CLOCK_THROUGH, /* it ran on */
	FB_CLOCK_RESET,	  /* not left by a kexec of `fastboot reboot`, as far as
			     is known: what lies between is not */
	FB_CLOCK_ANEW,	  /* it began anew */
};

/* "the counter ran on through the kexec" */
const char *fb_timeline_clock_text(enum fb_timeline_clock clock);

#define FB_TIMELINE_ROWS (FB_TIMELINE_STAMPS + FB_TIMELINE_STEPS + 3)

struct fb_timeline_span {
	bool known;
	uint64_t start_usec, end_usec;
};

/*
 * Where the clock did not run through, what was stamped under the next kernel
 * follows the last stamp of the one before, with a row of FB_ROW_UNKNOWN between
 * them, and the blackout and the total are not known.
 *
 * Where the first program was started beside the drivers (rdinit_early), these
 * follow the kernel's row as one of FB_ROW_PARALLEL.
 */
struct fb_timeline_view {
	enum fb_timeline_clock clock;
	struct fb_timeline_span sections[FB_TIMELINE_SECTIONS], total;
	struct fb_timeline_row rows[FB_TIMELINE_ROWS]; /* ascending by section */
	size_t row_count;
};

/*
 * -ENODATA with FB_EXIT_IMPOSSIBLE: the frequency of the counter is not known,
 * so no time can be told. -EBADMSG: stamps that cannot be true.
 */
int fb_timeline_view_make(const struct fb_timeline *timeline,
			  struct fb_timeline_view *view, struct fb_err *err);

#endif
