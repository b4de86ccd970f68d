/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/dtree.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "format/dtb.h"

#define BLOB "/sys/firmware/fdt"

/* The second is a link to the first, absolute: of no use in a captured tree. */
static const char *const bases[] = { "/sys/firmware/devicetree/base",
				     "/proc/device-tree" };

/* The root node; NULL: there is none, or the kernel's own empty one. */
static const char *base_of(const struct fb_sys *sys)
{
	char path[64];

	for (size_t i = 0; i < FB_ARRAY_SIZE(bases); i++) {
		snprintf(path, sizeof(path), "%s/compatible", bases[i]);
		if (fb_sys_exists(sys, path))
			return bases[i];
	}
	return NULL;
}

/* Without a directory only, and not under ACPI: there it means nothing. */
static bool blob_counts(const struct fb_sys *sys)
{
	return !fb_sys_exists(sys, bases[0]) && !fb_sys_exists(sys, bases[1]) &&
	       !fb_sys_exists(sys, "/sys/firmware/acpi/tables") &&
	       fb_sys_exists(sys, BLOB);
}

bool fb_dtree_present(const struct fb_sys *sys)
{
	return base_of(sys) || blob_counts(sys);
}

/* ---- nodes as directories ---------------------------------------------------- */

struct property {
	char *bytes; /* owned; NULL: the node has it not */
	size_t size;
};

static struct property get(const struct fb_sys *sys, const char *node, const char *name)
{
	struct property p = { NULL, 0 };
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", node, name) < (int)sizeof(path) &&
	    fb_sys_read(sys, path, &p.bytes, &p.size, NULL))
		p.bytes = NULL;
	return p;
}

static bool node_has(const struct fb_sys *sys, const char *node, const char *name)
{
	char path[PATH_MAX];

	return snprintf(path, sizeof(path), "%s/%s", node, name) < (int)sizeof(path) &&
	       fb_sys_exists(sys, path);
}

/* Is `value` one of the property's strings? */
static bool has_string(const struct fb_sys *sys, const char *node, const char *name,
		       const char *value)
{
	struct property p = get(sys, node, name);
	size_t length = strlen(value) + 1;
	bool found = false;

	/* fb_sys_read() ends every text with a NUL. */
	for (const char *s = p.bytes; s && s < p.bytes + p.size; s += strlen(s) + 1)
		found |= strlen(s) + 1 == length && !memcmp(s, value, length);
	free(p.bytes);
	return found;
}

static uint64_t cells_at(const char *bytes, size_t cells)
{
	uint64_t value = 0;

	for (size_t i = 0; i < cells * 4; i++)
		value = value << 8 | (uint8_t)bytes[i];
	return value;
}

/* A property of one cell; `otherwise` where it is missing or longer. */
static uint32_t get_cell(const struct fb_sys *sys, const char *node, const char *name,
			 uint32_t otherwise)
{
	struct property p = get(sys, node, name);

	if (p.bytes && p.size == 4)
		otherwise = (uint32_t)cells_at(p.bytes, 1);
	free(p.bytes);
	return otherwise;
}

static bool is_region(const struct fb_sys *sys, const char *node)
{
	return (has_string(sys, node, "compatible", "pmem-region") ||
		has_string(sys, node, "compatible", "pmem-region-v2")) &&
	       node_has(sys, node, "volatile") &&
	       (!node_has(sys, node, "status") ||
		has_string(sys, node, "status", "okay") ||
		has_string(sys, node, "status", "ok"));
}

static int add(struct fb_dtree_regions *r, struct fb_range range, int numa_node,
	       struct fb_err *err)
{
	struct fb_dtree_region *list =
		reallocarray(r->list, r->count + 1, sizeof(*list));

	if (!list)
		return fb_err_sys(err, ENOMEM, "device tree");
	r->list = list;
	list[r->count].range = range;
	list[r->count++].numa_node = numa_node;
	return 0;
}

static int add_node(const struct fb_sys *sys, const char *base, const char *node,
		    struct fb_dtree_regions *r, struct fb_err *err)
{
	uint32_t a = get_cell(sys, base, "#address-cells", 2);
	uint32_t s = get_cell(sys, base, "#size-cells", 1);
	uint32_t numa = get_cell(sys, node, "numa-node-id", UINT32_MAX);
	struct property reg = get(sys, node, "reg");
	struct fb_range range = { 0, 0 };
	bool one = a >= 1 && a <= 2 && s >= 1 && s <= 2 && reg.bytes &&
		   reg.size == (a + s) * 4;
	bool many = one || reg.size > (a + s) * 4;

	if (one) {
		range.start = cells_at(reg.bytes, a);
		range.size = cells_at(reg.bytes + 4 * a, s);
	}
	free(reg.bytes);
	if (!many || (one && (!range.size || !fb_range_valid(range))))
		return fb_err_set(err, EINVAL, "%s: its reg is not a range", node);
	return one ? add(r, range, numa > INT_MAX ? -1 : (int)numa, err) : 0;
}

static int read_nodes(const struct fb_sys *sys, const char *base,
		      struct fb_dtree_regions *r, struct fb_err *err)
{
	char **names, node[PATH_MAX];
	int rc = fb_sys_list(sys, base, &names, err);

	if (rc)
		return rc;
	for (char **n = names; *n && !rc; n++)
		if (snprintf(node, sizeof(node), "%s/%s", base, *n) <
			    (int)sizeof(node) &&
		    is_region(sys, node))
			rc = add_node(sys, base, node, r, err);
	fb_sys_list_free(names);
	return rc;
}

/* ---- the blob ---------------------------------------------------------------- */

/* A static program is linked without libfdt: its kernel has the nodes as files. */
#pragma weak fb_dtb_parse
#pragma weak fb_dtb_free

static int read_blob(const struct fb_sys *sys, struct fb_dtree_regions *r,
		     struct fb_err *err)
{
	fb_autofree char *blob = NULL;
	struct fb_dtb dtb;
	size_t size;
	int rc;

	if (!fb_dtb_parse)
		return 0;
	rc = fb_sys_read(sys, BLOB, &blob, &size, err);
	if (rc)
		return rc;
	rc = fb_dtb_parse(blob, size, &dtb, err);
	if (rc)
		return fb_err_prefix(err, BLOB);
	for (size_t i = 0; i < dtb.region_count && !rc; i++)
		rc = add(r, dtb.regions[i].range, dtb.regions[i].numa_node, err);
	fb_dtb_free(&dtb);
	return rc;
}

int fb_dtree_regions(const struct fb_sys *sys, struct fb_dtree_regions *regions,
		     struct fb_err *err)
{
	struct fb_dtree_regions r = { NULL, 0 };
	const char *base = base_of(sys);
	int rc = 0;

	if (base)
		rc = read_nodes(sys, base, &r, err);
	else if (blob_counts(sys))
		rc = read_blob(sys, &r, err);
	if (rc)
		free(r.list);
	else
		*regions = r;
	return rc;
}
