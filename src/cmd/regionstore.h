/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * regionstore - the store that a command reads an image from or writes one
 * to: the region's block device, or a file.
 */
#ifndef FB_CMD_REGIONSTORE_H
#define FB_CMD_REGIONSTORE_H

#include <stdbool.h>

#include "base/err.h"
#include "base/facts.h"
#include "cmd/cmd.h"
#include "machine/store.h"

/*
 * Find the region ([region] of the configuration, else the only one) and open
 * its block device. On the live machine drivers that are not loaded yet are
 * loaded. -ENXIO where the namespace is not raw, with the command that makes
 * it so; a usage error with --sysroot; errors of fb_region_find() and
 * fb_store_open_block(). `region` may be NULL. The caller closes the store.
 */
int fb_regionstore_open(const struct fb_context *ctx, bool writable,
			struct fb_region *region, struct fb_store *store,
			struct fb_err *err);

/*
 * A store to read an image from: `file`, or the region where it is NULL. A
 * region that is not raw has no image: FB_EXIT_NO_IMAGE then.
 */
int fb_regionstore_open_image(const struct fb_context *ctx, const char *file,
			      bool writable, struct fb_store *store,
			      struct fb_err *err);

#endif
