/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * inflate - takes apart what Linux's kernels are compressed with: gzip, xz, lzma,
 * LZ4 and zstd, by the libraries of their makers. Pure.
 *
 * Sources: scripts/Makefile.lib (cmd_gzip … cmd_zstd22) and lib/decompress.c, Linux
 * 6.12; lz4_Frame_format.md of LZ4 1.9.4, "Legacy frame".
 */
#ifndef FB_FORMAT_INFLATE_H
#define FB_FORMAT_INFLATE_H

#include <stddef.h>

#include "base/err.h"

/*
 * One compressed stream, the first of packed[size], into out[length]: it must have
 * exactly `length` bytes. What follows the stream is not looked at. -ENOTSUP: it
 * begins like none of these (bzip2 and lzo are not known); -EBADMSG: damaged, or
 * shorter or longer than `length`; -ENOMEM. On failure out[] has anything.
 */
int fb_inflate(const void *packed, size_t size, void *out, size_t length,
	       struct fb_err *err);

#endif
