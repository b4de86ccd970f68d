/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * loop - a file as a block device, read-only, that goes away with its last user
 * (loop(4), LOOP_CONFIGURE, Linux 5.8).
 */
#ifndef FB_MACHINE_LOOP_H
#define FB_MACHINE_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

/*
 * A device for the file, its path ("/dev/loop3") to device[size]. A descriptor
 * of it, to be closed when it is mounted. -errno.
 */
int fb_loop_attach(const char *file, char *device, size_t size, struct fb_err *err);

/* Is this device one? The file behind it to file[size], "?" where that is unknown. */
bool fb_loop_file(dev_t device, char *file, size_t size);

#endif
