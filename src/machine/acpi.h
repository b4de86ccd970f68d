/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * acpi - what the ACPI tables of this boot say of regions: the firmware's own,
 * and those that came in front of the initrd (format/acpi). Reads only; works
 * on a captured tree.
 *
 * Sources: Documentation/ABI/testing/sysfs-firmware-acpi, drivers/acpi/sysfs.c,
 * drivers/acpi/nfit/core.c, Linux 6.12.
 */
#ifndef FB_MACHINE_ACPI_H
#define FB_MACHINE_ACPI_H

#include <stdbool.h>

#include "base/err.h"
#include "base/range.h"
#include "machine/sys.h"

/* Was this kernel booted with ACPI? */
bool fb_acpi_present(const struct fb_sys *sys);

struct fb_acpi {
	struct fb_range region; /* that our tables declare; size 0: none */
	bool foreign_nfit;	/* the firmware declares ranges itself */
	bool foreign_root;	/* and has ACPI0012, the device for them */
	bool foreign_srat;	/* the firmware says which node memory is of */
};

/*
 * No ACPI is success with nothing found. -errno of a table that is there and
 * cannot be read: only root may.
 */
int fb_acpi_read(const struct fb_sys *sys, struct fb_acpi *acpi, struct fb_err *err);

/* Is all of `range` one that the firmware's own NFIT declares? Errors as above. */
int fb_acpi_firmware_has(const struct fb_sys *sys, struct fb_range range, bool *has,
			 struct fb_err *err);

#endif
