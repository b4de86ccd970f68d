/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "cmd/tables.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "engine/carve.h"
#include "format/cmdline.h"
#include "machine/acpi.h"
#include "machine/arch.h"
#include "machine/dtree.h"
#include "machine/file.h"
#include "machine/iomem.h"
#include "machine/kconfig.h"

bool fb_tables_machine(const struct fb_context *ctx)
{
	return fb_arch_is_arm64(&ctx->sys) && fb_acpi_present(&ctx->sys) &&
	       !fb_dtree_present(&ctx->sys);
}

/* ---- is it possible? ------------------------------------------------------- */

static int check_config(const struct fb_context *ctx, struct fb_err *err)
{
	static const char *const needed[] = { "ACPI_TABLE_UPGRADE", "ACPI_NFIT" };
	fb_autofree char *kconfig = NULL;

	/* Unknown: the next boot shows it. */
	if (fb_kconfig_read(&ctx->sys, &kconfig, NULL))
		return 0;
	for (size_t i = 0; i < FB_ARRAY_SIZE(needed); i++)
		if (fb_kconfig_value(kconfig, needed[i]) == 'n')
			return fb_err_exit(err, FB_EXIT_IMPOSSIBLE, ENOTSUP,
					   "this kernel cannot be told of a region by "
					   "ACPI tables: use one with CONFIG_%s",
					   needed[i]);
	return 0;
}

int fb_tables_possible(const struct fb_context *ctx, struct fb_err *err)
{
	struct fb_acpi acpi;
	int rc = check_config(ctx, err);

	if (!rc)
		rc = fb_acpi_read(&ctx->sys, &acpi, err);
	if (rc)
		return rc;
	if (acpi.foreign_nfit || acpi.foreign_root)
		return fb_err_exit(
			err, FB_EXIT_IMPOSSIBLE, EBUSY,
			"the firmware describes NVDIMMs itself (%s), and the "
			"kernel takes its description only",
			acpi.foreign_nfit ? "an NFIT" : "ACPI0012");
	return 0;
}

/* ---- archive and initrd ---------------------------------------------------- */

int fb_tables_make(const struct fb_context *ctx, struct fb_range region,
		   struct fb_acpi_tables *tables, struct fb_err *err)
{
	struct fb_acpi acpi;
	int rc = fb_acpi_read(&ctx->sys, &acpi, err);

	if (rc)
		return rc;
	tables->region = region;
	tables->srat = !acpi.foreign_srat;
	return 0;
}

/* The whole file, mapped; *bytes is NULL for one that is not there or empty. */
static int map_file(const char *path, void **bytes, size_t *size, struct fb_err *err)
{
	fb_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *p;

	*bytes = NULL;
	*size = 0;
	if (fd < 0 || fstat(fd, &st))
		return fb_err_sys(err, errno, "cannot open %s", path);
	if (!S_ISREG(st.st_mode))
		return fb_err_set(err, EINVAL, "%s is not a file", path);
	if (!st.st_size)
		return 0;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return fb_err_sys(err, errno, "cannot read %s", path);
	*bytes = p;
	*size = (size_t)st.st_size;
	return 0;
}

int fb_tables_find(const char *initrd, struct fb_acpi_found *found, struct fb_err *err)
{
	size_t size = 0;
	void *bytes = NULL;
	int rc = initrd ? map_file(initrd, &bytes, &size, err) : 0;

	if (rc)
		return rc;
	fb_acpi_find(bytes, size, found);
	if (bytes)
		munmap(bytes, size);
	return 0;
}

/* Is it an archive of ours, and nothing else? */
static bool is_archive(const void *bytes, size_t size)
{
	fb_autofree void *same = NULL;
	struct fb_acpi_found found;
	size_t same_size;

	fb_acpi_find(bytes, size, &found);
	return found.tables.region.size &&
	       !fb_acpi_archive(&found.tables, &same, &same_size, NULL) &&
	       same_size == size && !memcmp(same, bytes, size);
}

static int check_replace(const char *path, struct fb_err *err)
{
	void *bytes;
	size_t size;
	bool good;
	int rc;

	if (access(path, F_OK))
		return 0;
	rc = map_file(path, &bytes, &size, err);
	if (rc)
		return rc;
	good = is_archive(bytes, size);
	if (bytes)
		munmap(bytes, size);
	if (good)
		return 0;
	return fb_err_set(err, EEXIST,
			  "%s exists and is something else than tables of fastboot: "
			  "name another file",
			  path);
}

int fb_tables_write(const char *path, const struct fb_acpi_tables *tables,
		    struct fb_err *err)
{
	fb_autofree void *archive = NULL;
	size_t size;
	int rc = check_replace(path, err);

	if (!rc)
		rc = fb_acpi_archive(tables, &archive, &size, err);
	return rc ? rc : fb_file_write(path, archive, size, err);
}

static int append_file(int to, const char *path, struct fb_err *err)
{
	fb_autoclose int from = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (from < 0)
		return fb_err_sys(err, errno, "cannot open %s", path);
	do
		n = sendfile(to, from, NULL, (size_t)64 * FB_MIB);
	while (n > 0);
	return n ? fb_err_sys(err, errno, "cannot copy %s", path) : 0;
}

int fb_tables_join(const char *initrd, const struct fb_acpi_tables *tables, int *fd,
		   struct fb_err *err)
{
	fb_autoclose int memory = memfd_create("fastboot-initrd", MFD_CLOEXEC);
	fb_autofree void *archive = NULL;
	size_t size;
	int rc;

	if (memory < 0)
		return fb_err_sys(err, errno, "memfd_create");
	rc = fb_acpi_archive(tables, &archive, &size, err);
	if (rc)
		return rc;
	rc = fb_file_write_all(memory, archive, size);
	if (rc)
		return fb_err_sys(err, -rc, "cannot write ACPI tables");
	if (initrd)
		rc = append_file(memory, initrd, err);
	if (!rc)
		*fd = fb_steal_fd(&memory);
	return rc;
}

/* ---- the next command line ------------------------------------------------- */

char *fb_tables_mem_text(const struct fb_iomem *iomem, uint64_t start,
			 char buf[FB_TABLES_MEM_MAX])
{
	snprintf(buf, FB_TABLES_MEM_MAX, "mem=%" PRIu64 "K",
		 fb_carve_mem(iomem, start) / FB_KIB);
	return buf;
}

int fb_tables_prove_taken(const char *running, const char *next, struct fb_err *err)
{
	struct fb_cmdline_arg now, then;

	if (!fb_cmdline_last(next, "lockdown", &then))
		return 0;
	if (fb_cmdline_last(running, "lockdown", &now) && now.length == then.length &&
	    !memcmp(now.text, then.text, now.length))
		return 0;
	return fb_err_set(err, EPERM,
			  "a kernel with %.*s on its command line may refuse the ACPI "
			  "tables of the region: take that away",
			  (int)then.length, then.text);
}

/* Where RAM of a kernel with this command line ends; UINT64_MAX: where it is all. */
static int end_of_ram(const struct fb_iomem *iomem, const char *command_line,
		      uint64_t *end, struct fb_err *err)
{
	fb_autofree char *value = NULL;
	struct fb_cmdline_arg mem;
	uint64_t total;

	*end = UINT64_MAX;
	if (!fb_cmdline_last(command_line, "mem", &mem) || !mem.value)
		return 0;
	value = strndup(mem.value, mem.value_length);
	if (!value)
		return fb_err_sys(err, ENOMEM, "mem=");
	if (fb_parse_size(value, &total))
		return fb_err_set(err, EINVAL,
				  "%.*s on the command line is not a size: write it "
				  "as mem=6G or mem=5947392K",
				  (int)mem.length, mem.text);
	*end = fb_carve_mem_end(iomem, total);
	return 0;
}

static bool has_ram(const struct fb_iomem *iomem, struct fb_range region)
{
	for (size_t i = 0; i < iomem->count; i++)
		if (!iomem->entries[i].depth &&
		    !strcmp(iomem->entries[i].name, FB_IOMEM_RAM) &&
		    fb_range_overlaps(iomem->entries[i].range, region))
			return true;
	return false;
}

static int prove_mem(const struct fb_iomem *iomem, const char *command_line,
		     struct fb_range region, struct fb_err *err)
{
	char mem[FB_TABLES_MEM_MAX], text[FB_RANGE_TEXT_MAX];
	uint64_t end;
	int rc = end_of_ram(iomem, command_line, &end, err);

	if (rc || end <= region.start || (end == UINT64_MAX && !has_ram(iomem, region)))
		return rc;
	return fb_err_set(err, ENOENT,
			  "the next kernel would take the region %s as RAM: --append "
			  "%s",
			  fb_range_text(region, text),
			  fb_tables_mem_text(iomem, region.start, mem));
}

int fb_tables_prove_new(const struct fb_context *ctx, const char *command_line,
			struct fb_range region, struct fb_err *err)
{
	struct fb_iomem iomem = { NULL, 0 };
	int rc = fb_iomem_read(&ctx->sys, &iomem, err);

	if (!rc)
		rc = prove_mem(&iomem, command_line, region, err);
	fb_iomem_free(&iomem);
	return rc;
}
