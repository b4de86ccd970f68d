/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * save - the state into a store, in two halves, for `save` and `reboot`:
 *
 *	fb_save_dirs(ctx, argc, argv, &dirs, err);
 *	fb_save_prepare(ctx, &dirs, store.size, &save, err);    changes nothing
 *	fb_save_replaceable(&store, err);                       changes nothing
 *	fb_save_write(ctx, &store, &save, NULL, &result, err);
 *	fb_save_free(&save); fb_save_dirs_free(&dirs);
 *
 * `reboot` prepares once before anything is taken away, to know that the state
 * fits (with the region's size as capacity), and frees that. Then it copies
 * ahead (cmd/precopy.h); with --no-precopy it prepares again in the blackout,
 * because the state has changed, and writes.
 */
#ifndef FB_CMD_SAVE_H
#define FB_CMD_SAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "engine/image.h"
#include "engine/state.h"
#include "machine/store.h"

/* The directories to save; paths and patterns belong to ctx and argv. */
struct fb_save_dirs {
	struct fb_state_dir *dirs; /* owned */
	size_t count;
};

/*
 * The operands, or where there are none the configured states in the order of
 * their priorities. An operand that is the path of a configured state has its
 * name and excludes. Usage error where there are neither.
 */
int fb_save_dirs(const struct fb_context *ctx, int argc, char **argv,
		 struct fb_save_dirs *dirs, struct fb_err *err);
void fb_save_dirs_free(struct fb_save_dirs *dirs);

struct fb_save {
	struct fb_state_scan scan;
	struct fb_image_plan plan;
	struct fb_tree_totals totals;
};

/*
 * Read the tree and place it in `capacity` bytes (UINT64_MAX: a file). Changes
 * nothing. Errors of fb_state_scan() and fb_image_plan_make(): among them
 * -ENOSPC with both sizes. Free with fb_save_free(), also an image that was
 * not written.
 */
int fb_save_prepare(const struct fb_context *ctx, const struct fb_save_dirs *dirs,
		    uint64_t capacity, struct fb_save *save, struct fb_err *err);
void fb_save_free(struct fb_save *save);

/*
 * May what is in the store be replaced? -EEXIST when it is somebody's data:
 * an image that was committed and not restored, one of a later version, or a
 * file system. Reads only.
 */
int fb_save_replaceable(const struct fb_store *store, struct fb_err *err);

struct fb_save_result {
	uint64_t generation;
	uint64_t image_bytes, data_bytes;
	uint64_t copy_usec;   /* the data alone */
	uint64_t commit_usec; /* metadata, tables and the last block */
};

/*
 * Write and commit. The image that was there is gone from the first write on,
 * the new one is there when this returns 0, and none in between. `stamps` may
 * be NULL: the origin's time stamps, put into the header at the commit;
 * FB_PHASE_COPIED is added.
 *
 * -ESTALE: something was changed while it was saved; the store has no image.
 * -EINTR: a signal; errors of fb_image_begin(), _copy() and _commit().
 */
int fb_save_write(const struct fb_context *ctx, const struct fb_store *store,
		  struct fb_save *save, struct fb_origin *stamps,
		  struct fb_save_result *result, struct fb_err *err);

/*
 * The last part of fb_save_write() alone: all data was copied after
 * fb_image_begin(). Errors of fb_image_commit().
 */
int fb_save_commit(const struct fb_context *ctx, const struct fb_store *store,
		   const struct fb_save *save, uint64_t generation,
		   const struct fb_origin *stamps, struct fb_err *err);

#endif
