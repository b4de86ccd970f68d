/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * iomem - the two texts of procfs that say what memory there is:
 * /proc/iomem and /proc/meminfo. Reads only; works on a captured tree.
 *
 *	struct fb_iomem iomem = { NULL, 0 };
 *
 *	rc = fb_iomem_read(sys, &iomem, err);
 *	...
 *	fb_iomem_free(&iomem);
 */
#ifndef FB_MACHINE_IOMEM_H
#define FB_MACHINE_IOMEM_H

#include "base/err.h"
#include "base/facts.h"
#include "machine/sys.h"

/*
 * Parse the text of /proc/iomem (kernel/resource.c, r_show(), 6.12): lines
 * "START-LAST : NAME", two blanks a level. Pure. `iomem` is released with
 * fb_iomem_free(). -EINVAL with the number of the line that is not of that
 * form, -ENOMEM.
 */
int fb_iomem_parse(const char *text, struct fb_iomem *iomem, struct fb_err *err);

/*
 * Read and parse /proc/iomem. For anyone but root the kernel prints every
 * address as zero (since 4.6): that is -EPERM and says so. Otherwise as
 * fb_iomem_parse(), or the -errno of the file.
 */
int fb_iomem_read(const struct fb_sys *sys, struct fb_iomem *iomem, struct fb_err *err);

/*
 * Parse the text of /proc/meminfo (fs/proc/meminfo.c, 6.12); kB become bytes.
 * Pure. -EINVAL where MemTotal, MemFree or MemAvailable is missing or is no
 * number.
 */
int fb_meminfo_parse(const char *text, struct fb_meminfo *info, struct fb_err *err);

/* Read and parse /proc/meminfo. */
int fb_meminfo_read(const struct fb_sys *sys, struct fb_meminfo *info,
		    struct fb_err *err);

#endif
