/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tables - what `plan`, `check`, `load` and `reboot` share about machines whose
 * firmware has ACPI and no device tree: the region is declared by tables in
 * front of the initrd (format/acpi.h), and mem= keeps RAM out of it.
 *
 * Firmware and boot loader know of neither, and put the kernel and its initrd
 * where they like: only kexec brings the region for sure, and keeps what is in
 * it.
 */
#ifndef FB_CMD_TABLES_H
#define FB_CMD_TABLES_H

#include <stdbool.h>

#include "base/err.h"
#include "base/facts.h"
#include "base/range.h"
#include "cmd/cmd.h"
#include "format/acpi.h"

/* Is it such a machine: arm64, ACPI, no device tree? x86-64 has memmap=. */
bool fb_tables_machine(const struct fb_context *ctx);

/*
 * Would its kernel take the tables? FB_EXIT_IMPOSSIBLE: it was built without what
 * is needed, or the firmware has an NFIT or ACPI0012 itself. -errno of a table that
 * cannot be read.
 */
int fb_tables_possible(const struct fb_context *ctx, struct fb_err *err);

/* The tables for a region on this machine. Errors as fb_acpi_read(). */
int fb_tables_make(const struct fb_context *ctx, struct fb_range region,
		   struct fb_acpi_tables *tables, struct fb_err *err);

/*
 * The archive as a file; one that is there is only replaced if it is such an
 * archive itself, and nothing else. -EEXIST; errors as fb_file_write().
 */
int fb_tables_write(const char *path, const struct fb_acpi_tables *tables,
		    struct fb_err *err);

/* What the kernel would find in the initrd; NULL: nothing. -errno of the file. */
int fb_tables_find(const char *initrd, struct fb_acpi_found *found, struct fb_err *err);

/*
 * A file in memory, *fd: the archive, and behind it the initrd, or nothing where
 * that is NULL. The caller closes it. -errno of the initrd; -ENOMEM, -EIO.
 */
int fb_tables_join(const char *initrd, const struct fb_acpi_tables *tables, int *fd,
		   struct fb_err *err);

#define FB_TABLES_MEM_MAX 32

/* "mem=5947392K", with which RAM of this machine ends at `start`. Returns buf. */
char *fb_tables_mem_text(const struct fb_iomem *iomem, uint64_t start,
			 char buf[FB_TABLES_MEM_MAX]);

/*
 * Does RAM of a kernel that is booted with this command line end at or below the
 * region? For one that this kernel does not have yet. -ENOENT: mem= must be added,
 * *err has the text; errors of reading /proc/iomem.
 */
int fb_tables_prove_new(const struct fb_context *ctx, const char *command_line,
			struct fb_range region, struct fb_err *err);

/*
 * -EPERM: lockdown= on the next command line may make it refuse the tables
 * (LOCKDOWN_ACPI_TABLES, drivers/acpi/tables.c; Debian's 6.12 takes them all the
 * same), and the running kernel, which took them, has not the same word.
 */
int fb_tables_prove_taken(const char *running, const char *next, struct fb_err *err);

#endif
