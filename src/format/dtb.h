/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dtb - device-tree blobs: what memory a tree gives the kernel, and the overlay
 * that takes a region out of it. Pure; with dtb_overlay.c the only user of
 * libfdt. A blob may hold anything: whatever is damaged is refused, never
 * followed.
 *
 *	struct fb_dtb dtb;
 *
 *	fb_dtb_parse(blob, size, &dtb, err)
 *	fb_dtb_iomem(&dtb, &iomem, err)        facts for fb_carve_choose()
 *	fb_dtb_overlay_make(&dtb, region, &overlay, err)
 *	fb_dtb_overlay_blob(&overlay, ...)     what `dtc` would make of
 *	fb_dtb_overlay_text(&overlay, ...)     this source
 *	fb_dtb_apply(blob, size, ...)          what `fdtoverlay` would make of both
 *
 * Sources: the Devicetree Specification 0.4; drivers/of/fdt.c
 * (early_init_dt_scan_memory), drivers/of/of_reserved_mem.c,
 * drivers/nvdimm/of_pmem.c, Documentation/devicetree/bindings/pmem/, Linux 6.12.
 */
#ifndef FB_FORMAT_DTB_H
#define FB_FORMAT_DTB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/facts.h"
#include "base/range.h"

/* What an arm64 kernel takes at most (MAX_FDT_SIZE, arch/arm64/include/asm/boot.h). */
#define FB_DTB_SIZE_MAX ((size_t)2 << 20)

#define FB_DTB_NAME_MAX 64

struct fb_dtb_ranges {
	struct fb_range *list; /* owned */
	size_t count, capacity;
};

/* A child of the root with device_type "memory" that is not disabled. */
struct fb_dtb_memory {
	char name[FB_DTB_NAME_MAX];  /* "memory@40000000" */
	int numa_node;		     /* -1: none said */
	struct fb_dtb_ranges all;    /* reg; entries that touch are one bank */
	struct fb_dtb_ranges usable; /* linux,usable-memory, else reg */
};

/* What lies, or will lie, in memory and must be kept clear of. */
struct fb_dtb_taken {
	struct fb_range range; /* size 0: anywhere, see `need` */
	char name[FB_NAME_MAX];
	/* Placed by the kernel at boot: a child of reserved-memory without reg. */
	uint64_t need, align;
	struct fb_dtb_ranges within; /* alloc-ranges; none: anywhere */
};

/* A child of the root that drivers/nvdimm/of_pmem.c takes, one range. */
struct fb_dtb_region {
	char name[FB_DTB_NAME_MAX]; /* "pmem@13f000000" */
	struct fb_range range;
	int numa_node; /* -1: none, so kmem refuses it */
	/* The child of reserved-memory with the same range; "" there is none. */
	char reserved[FB_DTB_NAME_MAX];
};

struct fb_dtb {
	uint32_t address_cells, size_cells; /* of the root, 1 or 2 */
	struct fb_dtb_memory *memory;	    /* at least one with a bank; owned */
	size_t memory_count, memory_capacity;
	struct fb_dtb_taken *taken; /* in no order; owned */
	size_t taken_count, taken_capacity;
	struct fb_dtb_region *regions; /* the volatile ones; owned */
	size_t region_count, region_capacity;
	bool uefi; /* /chosen has UEFI's memory map, which the kernel takes instead */
};

/*
 * Read a tree. -EINVAL: damaged, not what the specification says, or memory
 * without an address (firmware fills it in at boot); -ENOTSUP: cells other than
 * 1 and 2; -E2BIG: larger than FB_DTB_SIZE_MAX; -ENOMEM. *dtb does not point
 * into the blob; on success free it with fb_dtb_free().
 */
int fb_dtb_parse(const void *blob, size_t size, struct fb_dtb *dtb, struct fb_err *err);
void fb_dtb_free(struct fb_dtb *dtb);

/*
 * The memory as /proc/iomem would have it: each bank "System RAM" with what is
 * taken inside of it, in ascending order. The range of `without` (NULL: none) is
 * shown as plain RAM: it is the region that is about to be moved. What the
 * kernel places at boot is put where it would be: as high as it may. -ENOMEM.
 */
int fb_dtb_iomem(const struct fb_dtb *dtb, const struct fb_dtb_region *without,
		 struct fb_iomem *iomem, struct fb_err *err);

/* The node whose bank has all of the range; NULL: none has. */
const struct fb_dtb_memory *fb_dtb_memory_of(const struct fb_dtb *dtb,
					     struct fb_range range);

/*
 * The proof that a kernel booted with this tree has that region: a node with
 * exactly that range, and none of it in the memory that the kernel takes as RAM.
 * -ENOENT and what is missing. `mem=` on a command line is not known here: with
 * `limited` true the second condition is left out.
 */
int fb_dtb_carries(const struct fb_dtb *dtb, struct fb_range region, bool limited,
		   struct fb_err *err);

/* ---- dtb_overlay.c ----------------------------------------------------------- */

/* One memory node's new list. */
struct fb_dtb_usable {
	char name[FB_DTB_NAME_MAX];
	struct fb_dtb_ranges ranges;
};

struct fb_dtb_overlay {
	uint32_t address_cells, size_cells;
	struct fb_range region;
	int numa_node;
	char node[FB_DTB_NAME_MAX];	/* below / */
	char reserved[FB_DTB_NAME_MAX]; /* below /reserved-memory */
	struct fb_dtb_usable *usable;	/* the memory nodes that change; owned */
	size_t usable_count, usable_capacity;
	/* Where it was before, to be disabled; "" nothing is. */
	char old_node[FB_DTB_NAME_MAX], old_reserved[FB_DTB_NAME_MAX];
};

/*
 * The overlay that gives `region`. `old` is the region that is there (one of
 * dtb->regions) and becomes this one; NULL: there is none. Its memory is given
 * back; where its range is the same the overlay changes nothing in the tree. The
 * caller has chosen `region` by fb_carve_choose() from fb_dtb_iomem(), or it is
 * *old. -ERANGE: the tree has no word for its size; -ENOMEM. Free with
 * fb_dtb_overlay_free().
 */
int fb_dtb_overlay_make(const struct fb_dtb *dtb, struct fb_range region,
			const struct fb_dtb_region *old, struct fb_dtb_overlay *overlay,
			struct fb_err *err);
void fb_dtb_overlay_free(struct fb_dtb_overlay *overlay);

/* As a blob: malloc'ed to *blob. Targets are paths: no tree needs __symbols__. */
int fb_dtb_overlay_blob(const struct fb_dtb_overlay *overlay, void **blob, size_t *size,
			struct fb_err *err);

/* As source, from the templates in dts/template/: malloc'ed to *text. */
int fb_dtb_overlay_text(const struct fb_dtb_overlay *overlay, char **text,
			struct fb_err *err);

/*
 * The tree with the overlay applied, packed, as fdtoverlay(1) writes it:
 * malloc'ed to *merged. The inputs are not changed. -EINVAL: libfdt refuses;
 * -E2BIG: larger than FB_DTB_SIZE_MAX; -ENOMEM.
 */
int fb_dtb_apply(const void *base, size_t base_size, const void *overlay,
		 size_t overlay_size, void **merged, size_t *size, struct fb_err *err);

/* ---- ranges ------------------------------------------------------------------ */

/* Append a range; -ENOMEM. Empty ones are left out. */
int fb_dtb_ranges_add(struct fb_dtb_ranges *ranges, struct fb_range range);
/* Take a range out of each in the list; -ENOMEM (one may become two). */
int fb_dtb_ranges_subtract(struct fb_dtb_ranges *ranges, struct fb_range range);
void fb_dtb_ranges_free(struct fb_dtb_ranges *ranges);

#endif
