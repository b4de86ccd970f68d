/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * acpi - ACPI tables that declare a region, in an archive that goes in front of
 * an initrd. Pure: buffers and structs in, buffers and structs out.
 *
 * A kernel with CONFIG_ACPI_TABLE_UPGRADE takes tables from the uncompressed
 * cpio archives that an initrd begins with, kernel/firmware/acpi/ in them
 * (Documentation/admin-guide/acpi/initrd_table_override.rst; lib/earlycpio.c,
 * drivers/acpi/tables.c, Linux 6.12). The archive has
 *
 *   NFIT  one range of volatile memory: the region
 *   SSDT  the device ACPI0012, which the kernel's nfit driver takes
 *   SRAT  where the firmware has none: all addresses are of node 0, without
 *         which kmem refuses a region that lies above all RAM
 *
 * Numbers are little-endian. Sections are those of the ACPI Specification 6.5.
 */
#ifndef FB_FORMAT_ACPI_H
#define FB_FORMAT_ACPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/range.h"

struct fb_acpi_tables {
	struct fb_range region;
	bool srat;
};

/*
 * The archive, a newc cpio whose size is a multiple of 512, so that whatever
 * follows is aligned. The same tables give the same bytes. *archive is
 * malloc'ed. -ENOMEM.
 */
int fb_acpi_archive(const struct fb_acpi_tables *tables, void **archive, size_t *size,
		    struct fb_err *err);

/* Is it a whole table with its checksum, of the kind "NFIT", "SRAT", ...? */
bool fb_acpi_is_table(const void *table, size_t size, const char *signature);

/* Does such a table say that fastboot made it (OEM ID and OEM table ID)? */
bool fb_acpi_is_ours(const void *table);

/*
 * The n-th range of memory, volatile or persistent, of an NFIT (5.2.25.2); false
 * when there are not as many. Structures in it that are damaged end it.
 */
bool fb_acpi_nfit_range(const void *nfit, size_t size, size_t n,
			struct fb_range *range);

/* What the kernel would find in an initrd; see fb_acpi_find(). */
struct fb_acpi_found {
	bool any;     /* an archive of ours, or a part of one */
	bool foreign; /* the first NFIT is not ours: it is the one that counts */
	bool ssdt;    /* ours */
	struct fb_acpi_tables tables; /* region.size 0: no NFIT of ours */
};

/*
 * The tables in the archives at the beginning of an initrd, read as the kernel
 * does it: up to the first thing that is neither a member nor padding. What is
 * no archive has none; never fails.
 */
void fb_acpi_find(const void *initrd, size_t size, struct fb_acpi_found *found);

#endif
