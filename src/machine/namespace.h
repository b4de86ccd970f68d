/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * namespace - changes the mode of the region's namespace, raw <-> devdax.
 * The only user of libndctl. It changes; facts about namespaces are read
 * from sysfs by engine/region, also on captured trees.
 *
 * A region is named by its physical range, not by "namespace0.0": the names
 * are given out in the order of probing and may differ after a boot.
 *
 * Sources: drivers/nvdimm/{namespace_devs,pfn_devs,dax_devs,pmem}.c, Linux
 * 6.12 and 6.1; libndctl(3) 76.
 */
#ifndef FB_MACHINE_NAMESPACE_H
#define FB_MACHINE_NAMESPACE_H

#include "base/err.h"
#include "base/range.h"

/*
 * Wait until libnvdimm has probed its devices: after modules were loaded the
 * namespaces appear a little later. -errno of libndctl.
 */
int fb_namespace_settle(struct fb_err *err);

/*
 * raw -> devdax, struct pages in RAM ("--map mem"). Afterwards daxN.0 is on
 * the dax bus, bound to device_dax. Clears the first 4 KiB of the region, so
 * that no image is found later whose data the hot-add has overwritten; the
 * kernel writes an info block at 4 KiB. A region that is devdax already is
 * left alone (0).
 *   -EBUSY   the block device is mounted or held; nothing changed
 *   -ENODEV  no such region, no namespace in it, or no dax support
 *   other    as the kernel says; the raw namespace was enabled again
 */
int fb_namespace_to_devdax(struct fb_range region, struct fb_err *err);

/*
 * devdax (or fsdax, sector) -> raw. Clears the first 8 KiB: the info block of
 * the old mode and what lies in front of it. Afterwards /dev/pmemN is there.
 * A region that is raw already is left alone, nothing is cleared (0).
 *   -EBUSY   memory blocks of it are online, or it is held; nothing changed
 *   -ENODEV  no such region or namespace
 *   other    as the kernel says; the region may be left without a driver
 */
int fb_namespace_to_raw(struct fb_range region, struct fb_err *err);

#endif
