/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lazystatus - what is known of a lazy restore outside of its processes:
 * /run/fastboot/restore.json, rewritten while it goes on, and
 * restore.lock beside it, locked for as long as a process of it lives.
 */
#ifndef FB_CMD_LAZYSTATUS_H
#define FB_CMD_LAZYSTATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cmd/cmd.h"

#define FB_LAZYSTATUS_DIR "/run/fastboot"

struct json_object;

enum fb_lazystate {
	FB_LAZY_NONE,	  /* there was none since the boot */
	FB_LAZY_FILLING,  /* it goes on */
	FB_LAZY_STOPPED,  /* its processes were killed: files are not filled */
	FB_LAZY_DONE,	  /* all files are there */
	FB_LAZY_DAMAGED,  /* all but those that are damaged */
};

struct fb_lazystatus {
	enum fb_lazystate state;
	uint8_t image[16]; /* the uuid of the image */
	bool consume;	   /* the image is marked consumed in the end */
	uint64_t files, files_left, bytes, bytes_left, rate; /* bytes a second */
	uint64_t elapsed_usec;
	uint64_t deaths; /* of workers */
	bool full;	 /* waits for room in the file system */
	int keeper, worker;
	char from[256];
	struct json_object *damaged; /* escaped paths; owned; may be NULL */
};

/* Held until the process and those it made end: -EBUSY while another is. */
int fb_lazystatus_lock(struct fb_err *err);

/* FB_LAZY_NONE where there is nothing to read. Free it. */
void fb_lazystatus_read(struct fb_lazystatus *status);
void fb_lazystatus_free(struct fb_lazystatus *status);

/* The state FB_LAZY_STOPPED is never written. -errno of the files. */
int fb_lazystatus_write(const struct fb_lazystatus *status, struct fb_err *err);

/* For `fastboot status`: lines, nothing where there is none; an object or NULL. */
void fb_lazystatus_say(const struct fb_context *ctx, const struct fb_lazystatus *status);
struct json_object *fb_lazystatus_json(const struct fb_lazystatus *status);

#endif
