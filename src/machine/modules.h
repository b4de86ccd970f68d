/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * modules - the kernel modules that hot-add needs: are they there, and load
 * them. The only user of libkmod. What is built in or loaded is told by
 * sysfs, so a kernel without modules is fine; loading is not undone (a loaded
 * module changes nothing by itself).
 */
#ifndef FB_MACHINE_MODULES_H
#define FB_MACHINE_MODULES_H

#include <stddef.h>

#include "base/err.h"
#include "machine/sys.h"

enum fb_module_state {
	FB_MODULE_MISSING,   /* neither */
	FB_MODULE_AVAILABLE, /* in /lib/modules, not loaded */
	FB_MODULE_PRESENT,   /* loaded or built in: its driver is in sysfs */
};

struct fb_module {
	const char *name;   /* "nd_pmem" */
	const char *config; /* "CONFIG_BLK_DEV_PMEM" */
	const char *driver; /* the directory in sysfs that says it is there */
	enum fb_module_state state;
};

#define FB_MODULES_MAX 8

/*
 * The modules in the order of loading, FB_MODULES_MAX at most: nd_e820 (of_pmem
 * where the machine has a device tree, nfit on arm64 without one), nd_pmem,
 * dax_pmem, device_dax, kmem.
 * `modules` is filled, *count set. Never fails: what cannot be read is missing.
 */
void fb_modules_read(const struct fb_sys *sys, struct fb_module *modules,
		     size_t *count);

/*
 * Load what is not present, with everything it depends on, as modprobe does
 * (configuration in modprobe.d included). -ENOENT with FB_EXIT_IMPOSSIBLE
 * names the missing ones; otherwise the -errno of the module that failed.
 */
int fb_modules_load(const struct fb_sys *sys, struct fb_err *err);

#endif
