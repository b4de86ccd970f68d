/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * digest - the digest of everything in an image: XXH64 with seed 0 (the xxHash
 * project's doc/xxhash_spec.md) in its canonical (big-endian) form, as
 * `xxh64sum` prints it. Pure.
 *
 * libxxhash computes it without vector instructions, so that it is nearly as fast
 * where those are slow (an emulator, a small ARM core). An x86-64 CPU that
 * multiplies 64-bit words in vectors (AVX512DQ and AVX512VL) does it at twice the
 * rate, and where several digests are wanted at three times, as fast as
 * memory is.
 */
#ifndef FB_FORMAT_DIGEST_H
#define FB_FORMAT_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define FB_DIGEST_SIZE 8u

/* More than so many at a time are not faster. */
#define FB_DIGEST_LANES 4u

void fb_digest(const void *bytes, size_t size, uint8_t digest[FB_DIGEST_SIZE]);

/* The digests of `count` parts of `size` bytes each that follow each other. */
void fb_digest_parts(const void *bytes, size_t size, size_t count,
		     uint8_t (*digests)[FB_DIGEST_SIZE]);

#endif
