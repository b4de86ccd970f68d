/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a device tree. Besides memory errors: a region that was chosen
 * in a tree is in the merged tree, out of the kernel's RAM, and the overlay for
 * the merged tree changes nothing.
 */
#include <inttypes.h>
#include <libfdt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "engine/carve.h"
#include "format/dtb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

/* The merged tree, or NULL where libfdt refuses; the source is made as well. */
static void *merge(const void *base, size_t base_size, const struct fb_dtb *d,
		   struct fb_range region, const struct fb_dtb_region *old,
		   size_t *size)
{
	struct fb_dtb_overlay o;
	fb_autofree char *text = NULL;
	fb_autofree void *blob = NULL;
	void *merged = NULL;
	size_t blob_size;

	require(!fb_dtb_overlay_make(d, region, old, &o, NULL));
	require(!fb_dtb_overlay_text(&o, &text, NULL));
	require(!fb_dtb_overlay_blob(&o, &blob, &blob_size, NULL));
	fb_dtb_overlay_free(&o);
	if (fb_dtb_apply(base, base_size, blob, blob_size, &merged, size, NULL))
		return NULL;
	return merged;
}

/*
 * Has something else the name that the region's nodes will get? Then the
 * command finds the merged tree wrong, and refuses.
 */
static bool name_is_taken(const void *base, struct fb_range region)
{
	char path[64];

	snprintf(path, sizeof(path), "/reserved-memory/pmem@%" PRIx64, region.start);
	return fdt_path_offset(base, path) >= 0 ||
	       fdt_path_offset(base, strrchr(path, '/')) >= 0;
}

static void judge(const void *merged, size_t size, struct fb_range region)
{
	fb_autofree void *again = NULL;
	struct fb_dtb d;
	size_t again_size;

	require(!fb_dtb_parse(merged, size, &d, NULL));
	require(!fb_dtb_carries(&d, region, false, NULL));
	for (size_t i = 0; i < d.region_count; i++) {
		if (!fb_range_equal(d.regions[i].range, region))
			continue;
		again = merge(merged, size, &d, region, &d.regions[i], &again_size);
		require(again && again_size == size && !memcmp(again, merged, size));
		break;
	}
	fb_dtb_free(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fb_carve_request rq = { .size = FB_MIB,
				       .block_size = 2 * FB_MIB,
				       .overhead = FB_CARVE_ALIGN };
	struct fb_iomem iomem = { NULL, 0 };
	fb_autofree void *merged = NULL;
	const struct fb_dtb_region *old;
	struct fb_carve carve;
	struct fb_dtb d;
	size_t merged_size;

	if (fb_dtb_parse(data, size, &d, NULL))
		return 0;
	old = d.region_count == 1 ? &d.regions[0] : NULL;
	require(!fb_dtb_iomem(&d, old, &iomem, NULL));
	if (!fb_carve_choose(&iomem, &rq, &carve, NULL)) {
		merged = merge(data, size, &d, carve.region, old, &merged_size);
		if (merged && !name_is_taken(data, carve.region))
			judge(merged, merged_size, carve.region);
	}
	fb_iomem_free(&iomem);
	fb_dtb_free(&d);
	return 0;
}
