/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/inflate.h"

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdint.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/util.h"
#include "format/le.h"

/* Of xz: the kernel's own needs no more for its 32 MiB of dictionary. */
#define LZMA_MEMORY_MAX (256 * FB_MIB)
/* A block of LZ4's legacy frame has so many bytes, the last one fewer. */
#define LZ4_BLOCK ((size_t)8 << 20)

/* Each: 0, -EBADMSG, -ENOMEM. */
typedef int inflate_fn(const uint8_t *packed, size_t size, uint8_t *out, size_t length);

static int inflate_gzip(const uint8_t *packed, size_t size, uint8_t *out, size_t length)
{
	z_stream z = { .next_in = (Bytef *)packed,
		       .avail_in = (uInt)size,
		       .next_out = out,
		       .avail_out = (uInt)length };
	int rc;

	/* 16: a gzip header and its checksum. */
	if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return -ENOMEM;
	rc = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return rc == Z_STREAM_END && z.total_out == length ? 0 : -EBADMSG;
}

static int run_lzma(lzma_stream *z, lzma_ret ready, const uint8_t *packed, size_t size,
		    uint8_t *out, size_t length)
{
	lzma_ret rc = ready;

	z->next_in = packed;
	z->avail_in = size;
	z->next_out = out;
	z->avail_out = length;
	if (rc == LZMA_OK)
		rc = lzma_code(z, LZMA_RUN);
	/* Its end may only be seen by one who looks for more. */
	if (rc == LZMA_OK)
		rc = lzma_code(z, LZMA_FINISH);
	lzma_end(z);
	if (rc == LZMA_MEM_ERROR)
		return -ENOMEM;
	return rc == LZMA_STREAM_END && !z->avail_out ? 0 : -EBADMSG;
}

static int inflate_xz(const uint8_t *packed, size_t size, uint8_t *out, size_t length)
{
	lzma_stream z = LZMA_STREAM_INIT;

	return run_lzma(&z, lzma_stream_decoder(&z, LZMA_MEMORY_MAX, 0), packed, size,
			out, length);
}

static int inflate_lzma(const uint8_t *packed, size_t size, uint8_t *out, size_t length)
{
	lzma_stream z = LZMA_STREAM_INIT;

	return run_lzma(&z, lzma_alone_decoder(&z, LZMA_MEMORY_MAX), packed, size, out,
			length);
}

static int inflate_lz4(const uint8_t *packed, size_t size, uint8_t *out, size_t length)
{
	size_t at = 4, done = 0;

	while (done < length) {
		size_t want = length - done < LZ4_BLOCK ? length - done : LZ4_BLOCK;
		size_t block = size - at >= 4 ? fb_le32(packed + at) : 0;

		at += 4;
		if (!block || at > size || block > size - at ||
		    LZ4_decompress_safe((const char *)packed + at, (char *)out + done,
					(int)block, (int)want) != (int)want)
			return -EBADMSG;
		at += block;
		done += want;
	}
	return 0;
}

static int inflate_zstd(const uint8_t *packed, size_t size, uint8_t *out, size_t length)
{
	size_t frame = ZSTD_findFrameCompressedSize(packed, size);

	if (ZSTD_isError(frame) || ZSTD_decompress(out, length, packed, frame) != length)
		return -EBADMSG;
	return 0;
}

static const struct {
	const char *magic;
	size_t size;
	inflate_fn *inflate;
} known[] = {
	{ "\x1f\x8b\x08", 3, inflate_gzip },
	{ "\xfd\x37zXZ", 6, inflate_xz }, /* with its NUL */
	{ "\x5d\x00\x00", 3, inflate_lzma },
	{ "\x02\x21\x4c\x18", 4, inflate_lz4 },
	{ "\x28\xb5\x2f\xfd", 4, inflate_zstd },
};

int fb_inflate(const void *packed, size_t size, void *out, size_t length,
	       struct fb_err *err)
{
	int rc = -ENOTSUP;

	/* The libraries' own numbers are of 31 bits. */
	if (size > INT32_MAX || length > INT32_MAX)
		return fb_err_set(err, EBADMSG, "too large for a kernel");
	for (size_t i = 0; i < FB_ARRAY_SIZE(known) && rc == -ENOTSUP; i++)
		if (size >= known[i].size &&
		    !memcmp(packed, known[i].magic, known[i].size))
			rc = known[i].inflate(packed, size, out, length);
	if (rc == -ENOTSUP)
		return fb_err_set(err, ENOTSUP,
				  "compressed in a way that is not known (gzip, xz, "
				  "lzma, lz4 and zstd are)");
	if (rc == -ENOMEM)
		return fb_err_set(err, ENOMEM, "out of memory");
	return rc ? fb_err_set(err, EBADMSG, "the compressed data is damaged") : 0;
}
