/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * timeline - the phases of a reboot. A time stamp (struct fb_stamp in
 * format/header.h) with one of these numbers says when the phase ended, on the
 * counter that runs on through a kexec (machine/clock.h). The numbers are in
 * images: never change one, only add.
 */
#ifndef FB_ENGINE_TIMELINE_H
#define FB_ENGINE_TIMELINE_H

#include <stdint.h>

#include "format/header.h"

enum fb_phase {
	FB_PHASE_START = 1,	 /* the command begins */
	FB_PHASE_CHECKED = 2,	 /* region found, the state fits */
	FB_PHASE_LOADED = 3,	 /* the next kernel is loaded */
	FB_PHASE_HOTREMOVED = 4, /* the region is raw */
	FB_PHASE_BLACKOUT = 5,	 /* from here on the applications don't run */
	FB_PHASE_QUIESCED = 6,	 /* they have stopped */
	FB_PHASE_SCANNED = 7,	 /* the state's tree was read again */
	FB_PHASE_COMMITTED = 8,	 /* the image is complete; never in the header */
	FB_PHASE_SYNCED = 9,	 /* other file systems, too; never in the header */
	FB_PHASE_PRECOPIED = 10, /* copied while the applications run: before
				    FB_PHASE_BLACKOUT */
	FB_PHASE_COPIED = 11,	 /* what changed since: before _COMMITTED */
	/* In no header: what happens under the next kernel. */
	FB_PHASE_KERNEL = 12,	 /* the next kernel's own clock begins */
	FB_PHASE_INIT = 13,	 /* its first program starts */
	FB_PHASE_FOUND = 14,	 /* region and image found, metadata verified */
	FB_PHASE_VISIBLE = 15,	 /* the state stands: the blackout ends */
	FB_PHASE_DRAINED = 16,	 /* every file is filled */
	FB_PHASE_CONSUMED = 17,	 /* the image is marked as used */
	FB_PHASE_HOTADDED = 18,	 /* the region is System RAM again */
	FB_PHASE_LEFT = 19,	 /* right before reboot(2) starts the next kernel;
				    in the header as a word of its own */
	FB_PHASE_RESTORING = 20, /* the restore begins: before _FOUND */
	FB_PHASE_HOTADDING = 21, /* the hot-add begins: before _HOTADDED */
	/* In the header again. */
	FB_PHASE_RELEASED = 22, /* what was in place is an ordinary copy: after
				   FB_PHASE_QUIESCED */
};

/* "load the next kernel": what was done from the stamp before to this one. */
const char *fb_phase_text(unsigned int phase);

/*
 * Add a stamp for the counter now. Past FB_HEADER_PHASES it is dropped.
 */
void fb_timeline_stamp(struct fb_origin *origin, enum fb_phase phase);

/*
 * Microseconds from the first stamp of phase `from` to the first of phase
 * `to`; 0 where one is missing, they are the wrong way round, or the
 * frequency is unknown. Pure.
 */
uint64_t fb_timeline_usec(const struct fb_origin *origin, enum fb_phase from,
			  enum fb_phase to);

#endif
