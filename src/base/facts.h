/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * facts - plain structs for what was read from a machine. They are filled
 * once (src/engine/region, src/machine/memblk, src/machine/namespace), then
 * only passed on. All addresses and sizes are bytes.
 */
#ifndef FB_BASE_FACTS_H
#define FB_BASE_FACTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/range.h"

#define FB_NAME_MAX 64

/* One line of /proc/iomem (kernel/resource.c, r_show). */
struct fb_iomem_entry {
	struct fb_range range;
	unsigned int depth; /* 0: top level */
	char name[FB_NAME_MAX];
};

struct fb_iomem {
	struct fb_iomem_entry *entries; /* in the order of the file; owned */
	size_t count;
};

/* Names that the kernel gives (arch/x86/kernel/e820.c, drivers/dax/kmem.c, 6.12). */
#define FB_IOMEM_RAM	     "System RAM"
#define FB_IOMEM_KMEM	     "System RAM (kmem)"
#define FB_IOMEM_PMEM	     "Persistent Memory"
#define FB_IOMEM_PMEM_LEGACY "Persistent Memory (legacy)"

/* Who says that the region is there. */
enum fb_region_origin {
	FB_ORIGIN_UNKNOWN,
	FB_ORIGIN_MEMMAP,      /* memmap=SIZE!START on the command line */
	FB_ORIGIN_FIRMWARE,    /* the firmware's own memory map */
	FB_ORIGIN_DEVICE_TREE, /* a pmem-region node */
	FB_ORIGIN_TABLES,      /* our ACPI tables, in front of the initrd */
};

/*
 * What libnvdimm made of the region; the `mode` of the namespace or of what
 * claims it (drivers/nvdimm/namespace_devs.c, mode_show; claim.c).
 */
enum fb_namespace_mode {
	FB_NS_NONE,   /* no namespace (drivers not loaded, or not bound) */
	FB_NS_RAW,    /* /dev/pmemN, nothing in between */
	FB_NS_FSDAX,  /* a pfn device with an info block */
	FB_NS_DEVDAX, /* a dax device with an info block */
	FB_NS_SECTOR, /* a BTT */
};

struct fb_region {
	struct fb_range range; /* the physical range, as the kernel reports it */
	enum fb_region_origin origin;
	enum fb_namespace_mode mode;
	char nd_region[FB_NAME_MAX]; /* "region0"; "" while libnvdimm has none */
	char ns[FB_NAME_MAX];        /* "namespace0.0" */
	char block[FB_NAME_MAX];     /* "pmem0"; "" unless mode is raw or fsdax */
	char dax[FB_NAME_MAX];       /* "dax0.0" on the dax bus; devdax only */
	char dax_driver[FB_NAME_MAX]; /* "kmem", "device_dax" or "" */
	struct fb_range hotadded;    /* the part that is System RAM (kmem) now */
	uint64_t dax_overhead;       /* bytes devdax keeps for struct pages, 0 unknown */
	int node;                    /* NUMA node, -1 none */
};

/* drivers/base/memory.c, state_show(); closed, with the unknown in it. */
enum fb_memblk_state {
	FB_BLK_UNKNOWN,
	FB_BLK_ONLINE,
	FB_BLK_OFFLINE,
	FB_BLK_GOING_OFFLINE,
};

struct fb_memblk {
	uint64_t number; /* memoryN */
	struct fb_range range;
	enum fb_memblk_state state;
	bool movable;        /* the first zone in valid_zones is Movable */
	char zones[FB_NAME_MAX]; /* valid_zones as read, "" unreadable */
	int node;            /* -1 unknown */
	bool usage_known;    /* used_pages was counted (/proc/kpageflags) */
	uint64_t used_pages; /* pages that would have to be moved */
};

struct fb_memblks {
	uint64_t block_size; /* /sys/devices/system/memory/block_size_bytes */
	struct fb_memblk *blocks; /* ascending numbers; owned */
	size_t count;
};

/* The fields of /proc/meminfo that decisions need, in bytes. */
struct fb_meminfo {
	uint64_t total;
	uint64_t free;
	uint64_t available;
};

void fb_iomem_free(struct fb_iomem *iomem);
void fb_memblks_free(struct fb_memblks *blocks);

const char *fb_namespace_mode_text(enum fb_namespace_mode mode);
const char *fb_memblk_state_text(enum fb_memblk_state state);
const char *fb_region_origin_text(enum fb_region_origin origin);

#endif
