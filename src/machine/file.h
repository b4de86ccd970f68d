/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * file - small files that the user named, written whole or not at all.
 */
#ifndef FB_MACHINE_FILE_H
#define FB_MACHINE_FILE_H

#include <stddef.h>

#include "base/err.h"

/* All of it, or -errno of write(2). */
int fb_file_write_all(int fd, const void *data, size_t size);

/*
 * The file is complete and synced, mode 0644, or as it was: it is made beside
 * `path` under a temporary name and renamed. A device or a pipe is simply
 * written to. -errno of open, write, fsync or rename; -ENOMEM.
 */
int fb_file_write(const char *path, const void *data, size_t size, struct fb_err *err);

#endif
