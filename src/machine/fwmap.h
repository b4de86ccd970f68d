/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fwmap - the memory map that the firmware gave, /sys/firmware/memmap
 * (Documentation/ABI/testing/sysfs-firmware-memmap; drivers/firmware/memmap.c,
 * Linux 6.12). It is not changed by memmap= and mem=, and it is what kexec
 * hands to the next kernel. Reads only; works on a captured tree.
 */
#ifndef FB_MACHINE_FWMAP_H
#define FB_MACHINE_FWMAP_H

#include <stdbool.h>

#include "base/err.h"
#include "base/range.h"
#include "machine/sys.h"

/*
 * Is all of `range` in one entry of a persistent type ("Persistent Memory",
 * "Persistent Memory (legacy)")? A machine without the map (arm64) has none.
 * -errno of an attribute that cannot be read.
 */
int fb_fwmap_persistent(const struct fb_sys *sys, struct fb_range range,
			bool *persistent, struct fb_err *err);

#endif
