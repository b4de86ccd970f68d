/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/facts.h"

#include <stdlib.h>

void fb_iomem_free(struct fb_iomem *iomem)
{
	free(iomem->entries);
	iomem->entries = NULL;
	iomem->count = 0;
}

void fb_memblks_free(struct fb_memblks *blocks)
{
	free(blocks->blocks);
	blocks->blocks = NULL;
	blocks->count = 0;
}

const char *fb_namespace_mode_text(enum fb_namespace_mode mode)
{
	switch (mode) {
	case FB_NS_NONE:
		return "none";
	case FB_NS_RAW:
		return "raw";
	case FB_NS_FSDAX:
		return "fsdax";
	case FB_NS_DEVDAX:
		return "devdax";
	case FB_NS_SECTOR:
		return "sector";
	}
	return "unknown";
}

const char *fb_memblk_state_text(enum fb_memblk_state state)
{
	switch (state) {
	case FB_BLK_ONLINE:
		return "online";
	case FB_BLK_OFFLINE:
		return "offline";
	case FB_BLK_GOING_OFFLINE:
		return "going-offline";
	case FB_BLK_UNKNOWN:
		break;
	}
	return "unknown";
}

const char *fb_region_origin_text(enum fb_region_origin origin)
{
	switch (origin) {
	case FB_ORIGIN_MEMMAP:
		return "memmap";
	case FB_ORIGIN_FIRMWARE:
		return "firmware";
	case FB_ORIGIN_DEVICE_TREE:
		return "device-tree";
	case FB_ORIGIN_TABLES:
		return "acpi-tables";
	case FB_ORIGIN_UNKNOWN:
		break;
	}
	return "unknown";
}
