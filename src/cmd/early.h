/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * early - the state given back before the system starts: find the region,
 * verify the image, mount the directories, restore. What fastboot-init does,
 * without being the first process.
 */
#ifndef FB_CMD_EARLY_H
#define FB_CMD_EARLY_H

#include <stdbool.h>

#include "base/err.h"
#include "cmd/cmd.h"
#include "format/header.h"

struct fb_early {
	const char *root; /* "" or the directory that will be "/": "/sysroot" */
	const char *mode; /* "eager", "lazy"; NULL: the kernel's command line,
			     the configuration, "lazy" */
	struct fb_origin stamps; /* only the stamps: those made before */
};

/*
 * 0: the state is there, in lazy mode with a process behind it that fills it.
 * Reads `root`/etc/fastboot.conf and .conf.d, where there is a configuration.
 *
 * Each state's directory is made where it is missing and gets a tmpfs where
 * nothing is mounted on it; so does that of each [state] of the configuration,
 * also when there is no image. Takes fb_lock(). With a `root` the process is
 * in it afterwards (fb_mount_enter()). Begins /run/fastboot/timeline and stamps
 * FB_PHASE_RESTORING, _FOUND and _VISIBLE there.
 *
 * `*expected`: there is no image, as on every boot that no `fastboot save` came
 * before; -errno with FB_EXIT_NO_IMAGE then. Other failures: errors of
 * fb_config_load(), fb_region_find(), fb_store_open_block(), fb_image_open(),
 * fb_mount_ramdisk(), fb_lazyrestore(), fb_restore_eager(),
 * fb_restore_damaged(). -ETIMEDOUT with FB_EXIT_IMPOSSIBLE where no driver
 * makes a block device of the region.
 */
int fb_early_restore(const struct fb_early *early, bool *expected, struct fb_err *err);

/* The value of the last NAME= on the kernel's command line; malloc'ed, or NULL. */
char *fb_early_word(const char *name);

/* The drivers that make a block device of a region are registered: with nd_pmem either
 * e820_pmem or of_pmem. Needs /sys. */
bool fb_early_has_drivers(void);

#endif
