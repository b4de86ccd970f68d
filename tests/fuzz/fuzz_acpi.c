/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as an initrd and as an NFIT; and an archive of our own, changed in
 * some places (three bytes of input each: where, and to what), in a buffer of
 * exactly its size. Besides memory errors: a region that is found is one.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "format/acpi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

static void find(const void *bytes, size_t size)
{
	struct fb_acpi_found found;

	fb_acpi_find(bytes, size, &found);
	require(fb_range_valid(found.tables.region));
	require(!found.tables.region.size || (found.any && !found.foreign));
}

static void read_ranges(const uint8_t *data, size_t size)
{
	struct fb_range range;

	for (size_t n = 0; fb_acpi_nfit_range(data, size, n, &range); n++)
		require(range.size && fb_range_valid(range));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fb_acpi_tables tables = { { 0x1a7000000, 0x81000000 },
						      true };
	fb_autofree void *archive = NULL;
	fb_autofree uint8_t *exact = NULL;
	size_t length;

	find(data, size);
	read_ranges(data, size);
	require(!fb_acpi_archive(&tables, &archive, &length, NULL));
	exact = malloc(length);
	memcpy(exact, archive, length);
	for (size_t i = 0; i + 3 <= size; i += 3)
		exact[(data[i] | (size_t)data[i + 1] << 8) % length] = data[i + 2];
	find(exact, length);
	return 0;
}
