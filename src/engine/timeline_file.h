/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * timeline_file - the time stamps of a reboot in a file that lasts as long as
 * the boot: those of the image's header and those made since. Whoever restores
 * begins it, whoever does the next thing appends:
 *
 *	fb_timeline_stamp(&mine, FB_PHASE_RESTORING);
 *	... find the image ...
 *	fb_timeline_stamp(&mine, FB_PHASE_FOUND);
 *	fb_timeline_begin(FB_TIMELINE_PATH, &header, &mine, NULL);
 *	... restore ...
 *	fb_timeline_append(FB_TIMELINE_PATH, FB_PHASE_VISIBLE);
 *
 * `mine` is a struct fb_origin of which only the stamps are used. No failure
 * here is a reason for the work not to go on. Programs without json-c or a C
 * library's locale may use it, also statically linked and as pid 1; /proc must
 * be mounted for fb_timeline_begin(), /dev/kmsg should be there.
 *
 * The file is text, a line for each fact, the first line first, the others in
 * any order; lines with another first word are passed over. SPEC.md has them all.
 */
#ifndef FB_ENGINE_TIMELINE_FILE_H
#define FB_ENGINE_TIMELINE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/timeline.h"
#include "format/header.h"

#define FB_TIMELINE_PATH   "/run/fastboot/timeline"
#define FB_TIMELINE_STAMPS 64u
#define FB_TIMELINE_MARKS  16u

/* A point in the next kernel's start, from its log. */
struct fb_timeline_mark {
	char name[16];
	uint64_t usec; /* since FB_PHASE_KERNEL */
};

struct fb_timeline_boot {
	uint8_t id[16];
	char release[80]; /* uname -r */
};

struct fb_timeline {
	uint64_t counter_hz; /* 0 unknown */
	uint8_t image[16];   /* its uuid */
	uint64_t generation, image_bytes;
	uint64_t wall_usec; /* of the commit */
	struct fb_timeline_boot from, to;
	struct fb_stamp stamps[FB_TIMELINE_STAMPS]; /* in the order of the file */
	size_t stamp_count;
	struct fb_timeline_mark marks[FB_TIMELINE_MARKS];
	size_t mark_count;
};

/*
 * The first stamp of a phase, or NULL.
 */
const struct fb_stamp *fb_timeline_find(const struct fb_timeline *timeline,
					enum fb_phase phase);

/*
 * Begin the file, unless it was begun in this boot already. Adds to the
 * stamps of header and `mine` (may be NULL) FB_PHASE_LEFT, from the header's
 * word, and FB_PHASE_KERNEL: a line is written into the kernel's log for that,
 * whose time is compared with the counter; where the log takes none it is the
 * start of CLOCK_MONOTONIC, which is a little later. Makes the directory the
 * file is in, not those above.
 *
 * -EALREADY: the image was written in this very boot: there was no reboot, and
 * the file is left alone. -errno of the files.
 */
int fb_timeline_begin(const char *path, const struct fb_header *header,
		      const struct fb_origin *mine, struct fb_err *err);

/*
 * Stamp a phase now. What was stamped already stays as it is: the first time
 * counts. -ENOENT: no timeline was begun in this boot; -errno of the file.
 */
int fb_timeline_append(const char *path, enum fb_phase phase);

/* The same for stamps that were made before. */
int fb_timeline_append_stamps(const char *path, const struct fb_origin *mine);

/*
 * The file. -ENOENT where there is none; else as fb_timeline_parse(), with
 * `path` in front.
 */
int fb_timeline_load(const char *path, struct fb_timeline *timeline,
		     struct fb_err *err);

/*
 * Text to struct and back. Pure. -EPROTONOSUPPORT: of a later version; -EBADMSG:
 * not a timeline, cut off, a line that is wrong (the text has its number), more
 * than fits. The text is malloc'ed, NULL when memory is out; in a release what
 * is not printable becomes '?'.
 */
int fb_timeline_parse(const char *text, struct fb_timeline *timeline,
		      struct fb_err *err);
char *fb_timeline_format(const struct fb_timeline *timeline);

#endif
