/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a bzImage; a kernel inside of one, changed in some places (three
 * bytes of input each: where, and to what) before it is packed; and any bytes as
 * what a compressor made. Each in a buffer of exactly its size.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/bzimage_help.h"

#include "base/util.h"
#include "format/bzimage.h"
#include "format/inflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void unpack(const uint8_t *file, size_t size)
{
	const struct fb_bzimage_options options = { true, 77 };
	fb_autofree void *out = NULL;
	fb_autofree uint8_t *exact = malloc(size + 1);
	size_t length;

	memcpy(exact, file, size);
	if (!fb_bzimage_unpack(exact, size, &options, &out, &length, NULL) &&
	    fb_bzimage_memory(out) > 1u << 30)
		abort();
}

static void change(uint8_t *bytes, size_t length, const uint8_t *data, size_t size)
{
	for (size_t i = 0; i + 3 <= size; i += 3)
		bytes[(data[i] | (size_t)data[i + 1] << 8) % length] = data[i + 2];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t file[HELP_FILE_MAX], packed[HELP_ELF_MAX], out[4096];
	struct help_elf e;
	size_t length;

	unpack(data, size);
	fb_inflate(data, size, out, sizeof(out), NULL);
	length = help_bzimage(file, 3);
	change(file, length, data, size);
	unpack(file, length);
	help_make_elf(&e, 3);
	change(e.bytes, e.size, data, size);
	length = help_wrap(file, packed, help_gzip(e.bytes, e.size, packed), e.size);
	unpack(file, length);
	return 0;
}
