/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/acpi.h"

#include <stdio.h>

#include "base/util.h"
#include "format/acpi.h"

#define TABLES "/sys/firmware/acpi/tables"
/* The NVDIMM root device, by which the kernel's nfit driver is bound. */
#define ROOT "/sys/bus/acpi/devices/ACPI0012:00"

struct table {
	char *bytes; /* owned; NULL: there is none */
	size_t size;
	bool ours;
};

bool fb_acpi_present(const struct fb_sys *sys)
{
	return fb_sys_exists(sys, TABLES);
}

/* The first of its kind, which is the one that the kernel takes. Where there are
 * several its name has a number. */
static int read_table(const struct fb_sys *sys, const char *signature, struct table *t,
		      struct fb_err *err)
{
	char path[64];
	int rc;

	*t = (struct table){ .bytes = NULL };
	snprintf(path, sizeof(path), TABLES "/%s", signature);
	if (!fb_sys_exists(sys, path))
		snprintf(path, sizeof(path), TABLES "/%s1", signature);
	if (!fb_sys_exists(sys, path))
		return 0;
	rc = fb_sys_read(sys, path, &t->bytes, &t->size, err);
	if (rc)
		return rc;
	t->ours = fb_acpi_is_table(t->bytes, t->size, signature) &&
		  fb_acpi_is_ours(t->bytes);
	return 0;
}

int fb_acpi_read(const struct fb_sys *sys, struct fb_acpi *acpi, struct fb_err *err)
{
	struct fb_acpi a = { .foreign_nfit = false };
	struct table nfit, srat;
	int rc = read_table(sys, "NFIT", &nfit, err);

	if (rc)
		return rc;
	if (nfit.bytes && nfit.ours)
		fb_acpi_nfit_range(nfit.bytes, nfit.size, 0, &a.region);
	a.foreign_nfit = nfit.bytes && !nfit.ours;
	a.foreign_root = !a.region.size && fb_sys_exists(sys, ROOT);
	free(nfit.bytes);
	rc = read_table(sys, "SRAT", &srat, err);
	if (rc)
		return rc;
	a.foreign_srat = srat.bytes && !srat.ours;
	free(srat.bytes);
	*acpi = a;
	return 0;
}

int fb_acpi_firmware_has(const struct fb_sys *sys, struct fb_range range, bool *has,
			 struct fb_err *err)
{
	struct fb_range one;
	struct table nfit;
	int rc = read_table(sys, "NFIT", &nfit, err);

	if (rc)
		return rc;
	*has = false;
	for (size_t n = 0; nfit.bytes && !nfit.ours && !*has &&
			   fb_acpi_nfit_range(nfit.bytes, nfit.size, n, &one);
	     n++)
		*has = fb_range_contains(one, range);
	free(nfit.bytes);
	return 0;
}
