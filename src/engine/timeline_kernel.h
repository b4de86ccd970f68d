/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * timeline_kernel - the next kernel's own share: points of its start, found in
 * its log by lines that kernels 5.10 to 6.12 print on every architecture. A line
 * that a kernel does not print, or that was overwritten, is left out.
 */
#ifndef FB_ENGINE_TIMELINE_KERNEL_H
#define FB_ENGINE_TIMELINE_KERNEL_H

#include <stdint.h>

#include "engine/timeline_file.h"

/* One line of the log: a mark in *timeline if it is the first of its kind. Pure. */
void fb_timeline_log_line(struct fb_timeline *timeline, uint64_t usec,
			  const char *line);

/* The steps of a start in their order: the mark ends what the text says. */
#define FB_TIMELINE_STEPS 5u

struct fb_timeline_step {
	const char *name; /* the mark's */
	const char *text;
};

extern const struct fb_timeline_step fb_timeline_steps[FB_TIMELINE_STEPS];

/* The marks of the initramfs, which is unpacked beside the last steps. */
#define FB_TIMELINE_UNPACK   "unpack"
#define FB_TIMELINE_UNPACKED "unpacked"

/* The first mark of a name, or NULL. */
const struct fb_timeline_mark *fb_timeline_mark(const struct fb_timeline *timeline,
						const char *name);

/* All of the running kernel's log, where *timeline has no marks yet. */
void fb_timeline_read_log(struct fb_timeline *timeline);

/*
 * The same into the file, for later, when the log may be overwritten: some
 * milliseconds. -ENOENT where no timeline was begun, -errno of the file.
 */
int fb_timeline_append_log(const char *path);

#endif
