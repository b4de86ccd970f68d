/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dtree - the device tree that the machine was booted with: is there one, and
 * which regions does it declare? Reads only; works on a captured tree: from
 * the nodes below /sys/firmware/devicetree/base or /proc/device-tree, else from
 * the blob /sys/firmware/fdt.
 *
 * Sources: Documentation/ABI/testing/sysfs-firmware-ofw, drivers/of/fdt.c,
 * drivers/nvdimm/of_pmem.c, Linux 6.12.
 */
#ifndef FB_MACHINE_DTREE_H
#define FB_MACHINE_DTREE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/range.h"
#include "machine/sys.h"

/*
 * Does a tree describe this machine? Since 6.10 a kernel with CONFIG_OF makes an
 * empty one where there is none (drivers/of/empty_root.dts): that is not it.
 */
bool fb_dtree_present(const struct fb_sys *sys);

struct fb_dtree_region {
	struct fb_range range;
	int numa_node; /* numa-node-id; -1: none, so kmem refuses the region */
};

struct fb_dtree_regions {
	struct fb_dtree_region *list; /* owned: free(list) */
	size_t count;
};

/*
 * The volatile pmem-region nodes below the root that have one range. No tree is
 * success with count 0. -EINVAL: a node that is one and is damaged; -ENOMEM;
 * -errno of a blob that is there and cannot be read.
 */
int fb_dtree_regions(const struct fb_sys *sys, struct fb_dtree_regions *regions,
		     struct fb_err *err);

#endif
