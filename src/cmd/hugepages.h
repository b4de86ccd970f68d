/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hugepages - a ramdisk that is about to be filled gets huge pages where the
 * kernel has them: it is filled and later taken offline several times faster.
 * tmpfs(5), huge=within_size: only what lies wholly in a file, so small files
 * and ends of files take no more memory than before.
 */
#ifndef FB_CMD_HUGEPAGES_H
#define FB_CMD_HUGEPAGES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/tree.h"

struct fb_hugepages {
	const char **points; /* of the tree; which were changed; owned */
	size_t count;
};

/*
 * Set it on each state of the tree that is the mount point of a tmpfs without any
 * huge= of its own. Not where the files have so many holes that they would take
 * more than 1/8 more memory. Never fails: where the kernel has no huge pages,
 * all stays as it is.
 */
void fb_hugepages_enable(const struct fb_tree *tree, const size_t *states, size_t count,
			 struct fb_hugepages *huge);

/* After the restore; `undo`: all as it was. */
void fb_hugepages_end(struct fb_hugepages *huge, bool undo);

#endif
