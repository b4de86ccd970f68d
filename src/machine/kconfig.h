/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kconfig - what the running kernel was built with: /boot/config-RELEASE,
 * /lib/modules/RELEASE/config, or /proc/config.gz (CONFIG_IKCONFIG_PROC).
 * Reads only; works on a captured tree.
 */
#ifndef FB_MACHINE_KCONFIG_H
#define FB_MACHINE_KCONFIG_H

#include "base/err.h"
#include "machine/sys.h"

/*
 * The whole text, malloc'ed. -ENOENT where none of the files is there, the
 * -errno of one that cannot be read, -EBADMSG for a /proc/config.gz that is none.
 */
int fb_kconfig_read(const struct fb_sys *sys, char **text, struct fb_err *err);

/* Pure: "MEMORY_HOTREMOVE" without CONFIG_; 'y', 'm', or 'n' for not set. */
char fb_kconfig_value(const char *text, const char *option);

#endif
