/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * region - finds the carved-out physical range and says what the kernel made
 * of it. Reads only, through procfs and sysfs, so it works on a captured tree
 * (--sysroot) as on the live machine. The facts are a snapshot: find it again
 * after anything that changes the namespace.
 *
 *	struct fb_region region;
 *	const struct fb_range *wanted =
 *		config->region_set ? &config->region : NULL;
 *
 *	rc = fb_region_find(sys, wanted, &region, err);
 *
 * A candidate is a range that /proc/iomem calls "Persistent Memory" or
 * "Persistent Memory (legacy)", a volatile pmem-region node of the device tree
 * (arm64: of_pmem puts no name into /proc/iomem), the range of our own ACPI
 * tables (nor does nfit for volatile memory), or a region of libnvdimm.
 * Where a candidate comes from is told by memmap=SIZE!START on /proc/cmdline, by
 * the device tree or by those tables; else it is the firmware's. Sources:
 * arch/x86/kernel/e820.c, drivers/nvdimm/{e820,of_pmem,region_devs,
 * namespace_devs,claim}.c, drivers/acpi/nfit/core.c, drivers/dax/{bus,kmem}.c,
 * Linux 6.12.
 */
#ifndef FB_ENGINE_REGION_H
#define FB_ENGINE_REGION_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/facts.h"
#include "base/range.h"
#include "machine/sys.h"

#define FB_REGION_LOST_MAX 512

struct fb_regions {
	struct fb_region *regions; /* ascending addresses; owned */
	size_t count;
	/*
	 * What the command line, the device tree or our tables asked for and the
	 * kernel did not make, one sentence with the reason ("memmap=2G!14G on the
	 * command line is not in /proc/iomem: ..."); "" when everything is there.
	 */
	char lost[FB_REGION_LOST_MAX];
	/*
	 * The region that reaches past the memory there is: the kernel reports
	 * it all the same, and what is written there is gone. size 0: none.
	 */
	struct fb_range hollow;
	/*
	 * The region of the device tree or our tables that the kernel took into its
	 * map of memory all the same; `lost` says it. size 0: none.
	 */
	struct fb_range covered;
	bool reloadable; /* it was our tables', and a kexec would bring it */
};

/*
 * Every candidate. No candidate at all is success with count 0. -EPERM when
 * /proc/iomem shows no addresses (not root); otherwise the -errno of a file
 * that must be there. Missing sysfs directories mean that the drivers are not
 * loaded: `nd_region`, `ns`, `block`, `dax` are "" and `mode` FB_NS_NONE then.
 */
int fb_region_list(const struct fb_sys *sys, struct fb_regions *regions,
		   struct fb_err *err);
void fb_regions_free(struct fb_regions *regions);

/*
 * Pure: the one that is meant. `wanted` is [region] at=, size= of the
 * configuration; NULL: the only one there is.
 *   -ENODEV    there is none, with `lost` where that says why, else with the
 *              way to get one; status FB_EXIT_IMPOSSIBLE
 *   -ENOTUNIQ  several and `wanted` is NULL: lists them and the lines for
 *              fastboot.conf; status FB_EXIT_FAILED
 *   -ENOENT    `wanted` is none of them: lists them; status FB_EXIT_FAILED
 *   -EFAULT    it reaches past the memory there is (/sys/firmware/memmap, where
 *              the kernel has that), or the kernel has it in its map of
 *              memory; status FB_EXIT_IMPOSSIBLE
 *   -EADDRINUSE the same, but the next kernel has it if `load` starts it;
 *              status FB_EXIT_FAILED
 */
int fb_region_choose(const struct fb_regions *regions, const struct fb_range *wanted,
		     struct fb_region *region, struct fb_err *err);

/* Both in one; errors of both. */
int fb_region_find(const struct fb_sys *sys, const struct fb_range *wanted,
		   struct fb_region *region, struct fb_err *err);

/*
 * From libnvdimm alone, a third of the reading: the only region that it has, or `wanted`,
 * where that is raw and has its block device. Its origin is not filled in, and
 * whether the region is good is not known: where it has no image fb_region_find()
 * may say why. False: that one tells more.
 */
bool fb_region_find_raw(const struct fb_sys *sys, const struct fb_range *wanted,
			struct fb_region *region);

/* "/dev/pmem0": where an image can be read and written; -ENXIO where not raw. */
int fb_region_device(const struct fb_region *region, char *path, size_t size,
		     struct fb_err *err);

#endif
