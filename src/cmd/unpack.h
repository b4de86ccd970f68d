/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * unpack - an image into directories, for `restore` and `image extract`: make
 * the tree, fill it on all cores, withhold what is damaged, set the metadata.
 */
#ifndef FB_CMD_UNPACK_H
#define FB_CMD_UNPACK_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "engine/image.h"

struct json_object;

struct fb_unpack_result {
	struct fb_tree_totals totals; /* without what was withheld */
	char **damaged; /* escaped paths of files that were withheld; owned */
	size_t damaged_count;
	uint64_t create_usec, copy_usec, finish_usec;
};

/*
 * Unpack the inodes `roots` and all below them under the directory `under`
 * ("/": to the original places). A damaged file is named on stderr and
 * withheld, and that is no failure. After any failure what was made is
 * removed again: errors of fb_state_create(), fb_image_read_data() and
 * fb_state_finish(), -EINTR after a signal; FB_EXIT_UNDO where the removal
 * failed as well. `result` is freed with fb_unpack_result_free(), also after
 * a failure.
 */
int fb_unpack(const struct fb_context *ctx, const struct fb_image *image,
	      const char *under, const uint32_t *roots, size_t count, const char *label,
	      struct fb_unpack_result *result, struct fb_err *err);
void fb_unpack_result_free(struct fb_unpack_result *result);

/* "N files, N directories and N others, 1.9 GiB in 1.234 s (1.5 GiB/s)". */
char *fb_unpack_text(const struct fb_unpack_result *result);

/* The same as JSON, added to an object. */
void fb_unpack_json(const struct fb_unpack_result *result, struct json_object *to);

/*
 * Note a damaged file: "fastboot: '<path>' is damaged ..." on stderr, and its
 * escaped path into the list. 0 or -ENOMEM.
 */
int fb_unpack_damaged(const struct fb_image *image, uint32_t inode, const char *why,
		      const char *consequence, struct fb_unpack_result *result,
		      struct fb_err *err);

#endif
