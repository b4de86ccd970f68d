/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inplace - `restore --mode inplace` and its end: the image itself is mounted,
 * read-only, with DAX where it is memory; an overlay whose upper layer is a
 * tmpfs takes what is written; a bind mount of that is each state's directory.
 *
 *	FB_INPLACE_DIR/image   the EROFS
 *	FB_INPLACE_DIR/rw      the tmpfs
 *	FB_INPLACE_DIR/tree    the overlay of the whole image: one for all states, so
 *	                       that hard links between them stay what they are
 *
 * The mount table is the only record of it. The image is marked consumed first:
 * what is written belongs to the state from then on and does not survive a
 * crash, and a state without it must not be taken for the whole one later.
 */
#ifndef FB_CMD_INPLACE_H
#define FB_CMD_INPLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/tree.h"
#include "cmd/cmd.h"
#include "engine/image.h"

#define FB_INPLACE_DIR "/run/fastboot/inplace"

struct fb_inplace {
	bool there;	/* the image is mounted; else all below is empty */
	bool dax;	/* ... without a copy in the page cache */
	bool of_region; /* not from a file, through a loop device */
	char from[256]; /* "/dev/pmem0", or the file */
	char **states;	/* paths where it is seen; owned */
	size_t state_count;
	char *foreign;	  /* a mount of it that is not ours, or NULL; owned */
	dev_t devices[3]; /* of the file systems */
	size_t device_count;
};

/* What is in place now. -errno of the mount table. Freed, also after a failure. */
int fb_inplace_read(struct fb_inplace *place, struct fb_err *err);
void fb_inplace_free(struct fb_inplace *place);

/*
 * -EBUSY while the region's image is in place, with the way out. Commands that
 * change the region ask first.
 */
int fb_inplace_refuse(const struct fb_context *ctx, struct fb_err *err);

/*
 * Put all states of the image in place, each on its directory, which must be
 * there and empty. `of_region`: the image is in the region and is marked
 * consumed. On failure all is as before.
 *
 *   -EBUSY	    something is in place already
 *   -EOPNOTSUPP    FB_EXIT_IMPOSSIBLE: the kernel cannot, or the state has what an
 *		    overlay takes for its own (device 0:0, trusted.overlay.*)
 *   errors of fb_state_open_empty(), mount(2)
 */
int fb_inplace_mount(const struct fb_context *ctx, const struct fb_image *image,
		     bool of_region, bool *dax, struct fb_err *err);

/*
 * Is there room for a copy of `bytes` where the states' directories are without
 * what is in place? -ENOMEM with both sizes. Only memory is looked at: what is on
 * a disk finds out when it is written.
 */
int fb_inplace_check_room(const struct fb_inplace *place, uint64_t bytes,
			  struct fb_err *err);

struct fb_inplace_result {
	struct fb_tree_totals totals;
	uint64_t copy_usec, total_usec;
};

/*
 * Copy the states into their directories, below what is mounted there, and
 * unmount that: the copy is seen from one moment to the next. It is
 * read-only meanwhile. Waits `wait_usec` for those who use it.
 *
 *   -EBUSY   somebody still does: the text names processes or a mount
 *   -ENOMEM, -ENOSPC   no room for the copy, with both sizes
 *   others of fb_state_scan(), _create(), _copy(), _finish(); -EINTR
 *
 * After these all is as before. FB_EXIT_UNDO: an undo failed, or the states are
 * released and the region is still held.
 */
int fb_inplace_release(const struct fb_context *ctx, const struct fb_inplace *place,
		       uint64_t wait_usec, struct fb_inplace_result *result,
		       struct fb_err *err);

/* For `fastboot status`: a line, and an object or NULL. */
struct json_object;
void fb_inplace_say(const struct fb_context *ctx, const struct fb_inplace *place);
struct json_object *fb_inplace_json(const struct fb_inplace *place);

#endif
