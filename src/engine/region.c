/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "engine/region.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "format/cmdline.h"
#include "machine/acpi.h"
#include "machine/dtree.h"
#include "machine/iomem.h"

#define ND_DEVICES  "/sys/bus/nd/devices"
#define DAX_DEVICES "/sys/bus/dax/devices"
#define FW_MEMMAP   "/sys/firmware/memmap"

static const char how_to_get_one[] =
	"choose one with `fastboot plan --size 2G` and boot with what it prints";

/* What one listing works on. */
struct listing {
	const struct fb_sys *sys;
	struct fb_iomem iomem;
	struct fb_memmap *memmaps;
	size_t memmap_count;
	struct fb_regions found;
	size_t capacity;
};

static int path_join(char out[PATH_MAX], const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int path_join(char out[PATH_MAX], const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(out, PATH_MAX, fmt, ap);
	va_end(ap);
	return n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* An attribute of a device; "" where it is missing or cannot be read. */
static void device_text(const struct fb_sys *sys, const char *dir, const char *device,
			const char *attr, char *buf, size_t size)
{
	char path[PATH_MAX];

	if (path_join(path, "%s/%s/%s", dir, device, attr) ||
	    fb_sys_attr_read(sys, path, buf, size, NULL))
		buf[0] = '\0';
}

static bool device_u64(const struct fb_sys *sys, const char *dir, const char *device,
		       const char *attr, uint64_t *value)
{
	char path[PATH_MAX];

	return !path_join(path, "%s/%s/%s", dir, device, attr) &&
	       !fb_sys_attr_u64(sys, path, value, NULL);
}

static void device_driver(const struct fb_sys *sys, const char *dir, const char *device,
			  char *buf, size_t size)
{
	char path[PATH_MAX];

	if (path_join(path, "%s/%s/driver", dir, device) ||
	    fb_sys_link_name(sys, path, buf, size, NULL))
		buf[0] = '\0';
}

static bool device_range(const struct fb_sys *sys, const char *dir, const char *device,
			 struct fb_range *range)
{
	struct fb_range r;

	if (!device_u64(sys, dir, device, "resource", &r.start) ||
	    !device_u64(sys, dir, device, "size", &r.size) || !r.size ||
	    !fb_range_valid(r))
		return false;
	*range = r;
	return true;
}

/* ---- candidates ------------------------------------------------------ */

static struct fb_region *find_overlap(struct fb_regions *found, struct fb_range range)
{
	for (size_t i = 0; i < found->count; i++)
		if (fb_range_overlaps(found->regions[i].range, range))
			return &found->regions[i];
	return NULL;
}

/* The candidate for a range: the one that is there, or a new one. */
static struct fb_region *candidate(struct listing *l, struct fb_range range)
{
	struct fb_region *region = find_overlap(&l->found, range);

	if (region)
		return region;
	if (fb_array_grow(&l->found.regions, &l->capacity, l->found.count + 1,
			  sizeof(*region)))
		return NULL;
	region = &l->found.regions[l->found.count++];
	memset(region, 0, sizeof(*region));
	region->range = range;
	region->node = -1;
	return region;
}

static int add_from_iomem(struct listing *l, struct fb_err *err)
{
	for (size_t i = 0; i < l->iomem.count; i++) {
		const struct fb_iomem_entry *e = &l->iomem.entries[i];

		if (strcmp(e->name, FB_IOMEM_PMEM) &&
		    strcmp(e->name, FB_IOMEM_PMEM_LEGACY))
			continue;
		if (!candidate(l, e->range))
			return fb_err_sys(err, ENOMEM, "regions");
	}
	return 0;
}

/*
 * Of the memory that the kernel knows nothing may be in the region, not even
 * reserved: nd_pmem then fails, and making a namespace crashes the kernel. What
 * is there, or NULL.
 */
static const char *covered_by(const struct listing *l, struct fb_range range)
{
	for (size_t i = 0; i < l->iomem.count; i++) {
		const struct fb_iomem_entry *e = &l->iomem.entries[i];

		if (!e->depth && fb_range_overlaps(e->range, range) &&
		    (!strcmp(e->name, FB_IOMEM_RAM) || !strcmp(e->name, "reserved")))
			return e->name;
	}
	return NULL;
}

/* Is the range free? If not the region is lost; the text says why, and the fix. */
static bool check_free(struct listing *l, struct fb_range range, const char *origin,
		       const char *advice)
{
	const char *name = covered_by(l, range);
	char text[FB_RANGE_TEXT_MAX];

	if (!name)
		return true;
	l->found.covered = range;
	snprintf(l->found.lost, sizeof(l->found.lost),
		 "the region %s of the %s cannot be used: the kernel has \"%.60s\" "
		 "there%s",
		 fb_range_text(range, text), origin, name, advice);
	return false;
}

/* Where the drivers are not loaded nothing else tells of these. */
static int add_from_tree(struct listing *l, struct fb_err *err)
{
	struct fb_dtree_regions nodes = { NULL, 0 };
	int rc = fb_dtree_regions(l->sys, &nodes, err);

	for (size_t i = 0; i < nodes.count && !rc; i++) {
		struct fb_region *region = candidate(l, nodes.list[i].range);

		if (!region) {
			rc = fb_err_sys(err, ENOMEM, "regions");
			break;
		}
		region->origin = FB_ORIGIN_DEVICE_TREE;
		region->node = nodes.list[i].numa_node;
		check_free(l, region->range, "device tree",
			   "; take the range out of linux,usable-memory as "
			   "`fastboot overlay` does, and see that the boot loader "
			   "keeps it, or boot with mem=");
	}
	free(nodes.list);
	return rc;
}

static int add_from_tables(struct listing *l, struct fb_err *err)
{
	struct fb_region *region;
	struct fb_acpi acpi;
	int rc = fb_acpi_read(l->sys, &acpi, err);

	if (rc || !acpi.region.size)
		return rc;
	region = candidate(l, acpi.region);
	if (!region)
		return fb_err_sys(err, ENOMEM, "regions");
	region->origin = FB_ORIGIN_TABLES;
	/* Firmware and its boot loader put kernel and initrd where they like. */
	if (!check_free(l, region->range, "ACPI tables",
			", because mem= is missing or firmware put the kernel or its "
			"initrd there; `fastboot load` keeps them out and `systemctl "
			"kexec` starts it"))
		l->found.reloadable = true;
	return 0;
}

static int compare_regions(const void *a, const void *b)
{
	const struct fb_region *x = a, *y = b;

	return (x->range.start > y->range.start) - (x->range.start < y->range.start);
}

/* ---- what libnvdimm made of it --------------------------------------- */

/* "region0" but not "region0x" or "regions". */
static bool is_nd_region(const char *name)
{
	uint64_t id;

	return !strncmp(name, "region", 6) && !fb_parse_u64(name + 6, &id);
}

static enum fb_namespace_mode mode_of_holder(const char *holder)
{
	if (!strncmp(holder, "dax", 3))
		return FB_NS_DEVDAX;
	if (!strncmp(holder, "pfn", 3))
		return FB_NS_FSDAX;
	if (!strncmp(holder, "btt", 3))
		return FB_NS_SECTOR;
	return FB_NS_RAW;
}

/* The name of the only (first) entry of a directory, "" where there is none. */
static void first_entry(const struct fb_sys *sys, const char *path, char *buf,
			size_t size)
{
	char **names;

	buf[0] = '\0';
	if (fb_sys_list(sys, path, &names, NULL))
		return;
	if (names[0] && strlen(names[0]) < size)
		strcpy(buf, names[0]);
	fb_sys_list_free(names);
}

/* The block device of a raw namespace or of the pfn device that holds it. */
static void read_block_device(const struct fb_sys *sys, const char *holder,
			      struct fb_region *region)
{
	char path[PATH_MAX];
	const char *owner = region->mode == FB_NS_RAW ? region->ns : holder;

	if (region->mode != FB_NS_RAW && region->mode != FB_NS_FSDAX)
		return;
	if (!path_join(path, ND_DEVICES "/%s/block", owner))
		first_entry(sys, path, region->block, sizeof(region->block));
}

/*
 * A namespace that nothing holds and no driver has is raw only if its driver
 * could make /dev/pmemN of it: without one it is not usable yet.
 */
static void read_namespace(const struct fb_sys *sys, const char *ns,
			   struct fb_region *region)
{
	char holder[FB_NAME_MAX], driver[FB_NAME_MAX];

	snprintf(region->ns, sizeof(region->ns), "%s", ns);
	device_text(sys, ND_DEVICES, ns, "holder", holder, sizeof(holder));
	device_driver(sys, ND_DEVICES, ns, driver, sizeof(driver));
	region->mode = mode_of_holder(holder);
	if (region->mode == FB_NS_RAW && !driver[0])
		region->mode = FB_NS_NONE;
	read_block_device(sys, holder, region);
}

/* The first namespace of that nd region with a size: "namespace0.0". */
static void find_namespace(struct listing *l, char **devices, struct fb_region *region)
{
	char prefix[FB_NAME_MAX + 16];
	uint64_t size;

	snprintf(prefix, sizeof(prefix), "namespace%s.", region->nd_region + 6);
	for (char **d = devices; *d; d++)
		if (!strncmp(*d, prefix, strlen(prefix)) &&
		    device_u64(l->sys, ND_DEVICES, *d, "size", &size) && size) {
			read_namespace(l->sys, *d, region);
			return;
		}
}

static int read_nd_region(struct listing *l, char **devices, const char *name,
			  struct fb_err *err)
{
	char path[PATH_MAX], node[16];
	struct fb_region *region;
	struct fb_range range;

	if (!device_range(l->sys, ND_DEVICES, name, &range))
		return 0;
	region = candidate(l, range);
	if (!region)
		return fb_err_sys(err, ENOMEM, "regions");
	snprintf(region->nd_region, sizeof(region->nd_region), "%s", name);
	device_text(l->sys, ND_DEVICES, name, "target_node", node, sizeof(node));
	if (node[0])
		region->node = atoi(node);
	if (!path_join(path, ND_DEVICES "/%s/of_node", name) &&
	    fb_sys_exists(l->sys, path))
		region->origin = FB_ORIGIN_DEVICE_TREE;
	find_namespace(l, devices, region);
	return 0;
}

static int add_from_nd(struct listing *l, struct fb_err *err)
{
	char **devices;
	int rc = 0;

	/* No libnvdimm, no directory: nothing to add. */
	if (fb_sys_list(l->sys, ND_DEVICES, &devices, NULL))
		return 0;
	for (char **d = devices; *d && !rc; d++)
		if (is_nd_region(*d))
			rc = read_nd_region(l, devices, *d, err);
	fb_sys_list_free(devices);
	return rc;
}

/* ---- what the dax bus made of it ------------------------------------- */

static void read_dax(struct listing *l, const char *name)
{
	struct fb_region *region;
	struct fb_range range;

	if (!device_range(l->sys, DAX_DEVICES, name, &range))
		return;
	region = find_overlap(&l->found, range);
	if (!region)
		return;
	snprintf(region->dax, sizeof(region->dax), "%s", name);
	device_driver(l->sys, DAX_DEVICES, name, region->dax_driver,
		      sizeof(region->dax_driver));
	if (range.start >= region->range.start)
		region->dax_overhead = range.start - region->range.start;
}

static void add_dax(struct listing *l)
{
	char **devices;

	if (fb_sys_list(l->sys, DAX_DEVICES, &devices, NULL))
		return;
	for (char **d = devices; *d; d++)
		read_dax(l, *d);
	fb_sys_list_free(devices);
}

/* kmem adds one range a device: from the first such entry to the last. */
static void add_hotadded(struct listing *l)
{
	for (size_t i = 0; i < l->iomem.count; i++) {
		const struct fb_iomem_entry *e = &l->iomem.entries[i];
		struct fb_region *region;

		if (strcmp(e->name, FB_IOMEM_KMEM))
			continue;
		region = find_overlap(&l->found, e->range);
		if (!region)
			continue;
		if (!region->hotadded.size)
			region->hotadded.start = e->range.start;
		region->hotadded.size = fb_range_end(e->range) - region->hotadded.start;
	}
}

/* ---- who says so: the command line ----------------------------------- */

/* What may lie under a region: memory that memmap= took, or firmware's own. */
static bool is_memory(const char *type)
{
	return !strcmp(type, FB_IOMEM_RAM) || !strcmp(type, FB_IOMEM_PMEM) ||
	       !strcmp(type, FB_IOMEM_PMEM_LEGACY);
}

/* Does firmware's own map have memory for all of the range? Unknown is yes. */
static bool firmware_has_ram(const struct fb_sys *sys, struct fb_range range)
{
	uint64_t covered = 0, start, last;
	char type[64], **names;

	if (fb_sys_list(sys, FW_MEMMAP, &names, NULL))
		return true;
	for (char **n = names; *n; n++) {
		struct fb_range r;

		device_text(sys, FW_MEMMAP, *n, "type", type, sizeof(type));
		if (!is_memory(type) ||
		    !device_u64(sys, FW_MEMMAP, *n, "start", &start) ||
		    !device_u64(sys, FW_MEMMAP, *n, "end", &last) || last < start)
			continue;
		r.start = start;
		r.size = last - start + 1;
		covered += fb_range_intersect(r, range).size;
	}
	fb_sys_list_free(names);
	return covered >= range.size;
}

/* What is in the region's place, for the message. */
static const char *name_at(const struct fb_iomem *iomem, uint64_t address)
{
	for (size_t i = 0; i < iomem->count; i++)
		if (!iomem->entries[i].depth &&
		    fb_range_contains(iomem->entries[i].range,
				      (struct fb_range){ address, 1 }))
			return iomem->entries[i].name;
	return NULL;
}

static void lose(struct listing *l, const struct fb_memmap *m, const char *why)
{
	if (!l->found.lost[0])
		snprintf(l->found.lost, sizeof(l->found.lost),
			 "memmap=%.*s on the kernel's command line is not good: %s",
			 (int)m->length, m->text, why);
}

/* Malformed, and yet meant as a region: it has the exclamation mark. */
static bool meant_persistent(const struct fb_memmap *m)
{
	return m->kind == FB_MEMMAP_MALFORMED && memchr(m->text, '!', m->length);
}

static void explain_lost(struct listing *l, const struct fb_memmap *m)
{
	char why[160];
	const char *name = name_at(&l->iomem, m->range.start);

	if (meant_persistent(m))
		lose(l, m, "it is malformed; the form is memmap=SIZE!START");
	else if (!name)
		lose(l, m, "there is no memory at that address");
	else {
		snprintf(why, sizeof(why), "/proc/iomem has \"%.*s\" there%s", 60, name,
			 strcmp(name, FB_IOMEM_RAM)
				 ? ""
				 : ", another argument took it back");
		lose(l, m, why);
	}
}

static void check_memmap(struct listing *l, const struct fb_memmap *m)
{
	struct fb_region *region;

	if (meant_persistent(m)) {
		explain_lost(l, m);
		return;
	}
	if (m->kind != FB_MEMMAP_PERSISTENT)
		return;
	region = find_overlap(&l->found, m->range);
	if (!region) {
		explain_lost(l, m);
		return;
	}
	if (region->origin == FB_ORIGIN_UNKNOWN)
		region->origin = FB_ORIGIN_MEMMAP;
	if (!fb_range_equal(region->range, m->range)) {
		lose(l, m, "the kernel gave it another size or place in /proc/iomem");
	} else if (!firmware_has_ram(l->sys, m->range)) {
		lose(l, m, "it reaches past the memory that the firmware reports");
		l->found.hollow = m->range;
	}
}

static int read_memmaps(struct listing *l, struct fb_err *err)
{
	fb_autofree char *text = NULL;
	int rc = fb_sys_read(l->sys, "/proc/cmdline", &text, NULL, err);

	if (!rc)
		rc = fb_memmap_parse(text, &l->memmaps, &l->memmap_count, err);
	if (rc)
		return rc;
	/* The entries point into `text`: use them while it is there. */
	for (size_t i = 0; i < l->memmap_count; i++)
		check_memmap(l, &l->memmaps[i]);
	free(l->memmaps);
	for (size_t i = 0; i < l->found.count; i++)
		if (l->found.regions[i].origin == FB_ORIGIN_UNKNOWN)
			l->found.regions[i].origin = FB_ORIGIN_FIRMWARE;
	return 0;
}

static int fill(struct listing *l, struct fb_err *err)
{
	int rc = fb_iomem_read(l->sys, &l->iomem, err);

	if (!rc)
		rc = add_from_iomem(l, err);
	if (!rc)
		rc = add_from_tree(l, err);
	if (!rc)
		rc = add_from_tables(l, err);
	if (!rc)
		rc = add_from_nd(l, err);
	if (rc)
		return rc;
	if (l->found.count)
		qsort(l->found.regions, l->found.count, sizeof(*l->found.regions),
		      compare_regions);
	add_dax(l);
	add_hotadded(l);
	return read_memmaps(l, err);
}

int fb_region_list(const struct fb_sys *sys, struct fb_regions *regions,
		   struct fb_err *err)
{
	struct listing l = { .sys = sys };
	int rc = fill(&l, err);

	fb_iomem_free(&l.iomem);
	if (rc)
		fb_regions_free(&l.found);
	else
		*regions = l.found;
	return rc;
}

void fb_regions_free(struct fb_regions *regions)
{
	free(regions->regions);
	memset(regions, 0, sizeof(*regions));
}

/* ---- the one that is meant ------------------------------------------- */

static int none(const struct fb_regions *regions, struct fb_err *err)
{
	fb_err_exit(err, FB_EXIT_IMPOSSIBLE, ENODEV, "no region: %s",
		    regions->lost[0] ? regions->lost : how_to_get_one);
	if (regions->lost[0])
		fb_err_append(err, "; `fastboot plan --size 2G` tells one that works");
	return -ENODEV;
}

static void append_all(const struct fb_regions *regions, struct fb_err *err)
{
	for (size_t i = 0; i < regions->count; i++) {
		const struct fb_region *r = &regions->regions[i];
		char size[FB_SIZE_TEXT_MAX];

		fb_err_append(err, "%s%s at %#llx", i ? ", " : "",
			      fb_size_text(r->range.size, size),
			      (unsigned long long)r->range.start);
	}
}

static int several(const struct fb_regions *regions, struct fb_err *err)
{
	const struct fb_range *first = &regions->regions[0].range;

	fb_err_set(err, ENOTUNIQ, "more than one region (");
	append_all(regions, err);
	fb_err_append(err,
		      "): name one in /etc/fastboot.conf, [region] at = %#llx, "
		      "size = %lluM",
		      (unsigned long long)first->start,
		      (unsigned long long)(first->size / FB_MIB));
	return -ENOTUNIQ;
}

static int reaches_out(struct fb_range range, struct fb_err *err)
{
	char text[FB_RANGE_TEXT_MAX];

	return fb_err_exit(err, FB_EXIT_IMPOSSIBLE, EFAULT,
			   "the region %s reaches past the memory that the firmware "
			   "reports; `fastboot plan --size 2G` tells one that works",
			   fb_range_text(range, text));
}

static int is_covered(const struct fb_regions *regions, struct fb_err *err)
{
	if (regions->reloadable)
		return fb_err_set(err, EADDRINUSE, "%s", regions->lost);
	return fb_err_exit(err, FB_EXIT_IMPOSSIBLE, EFAULT, "%s", regions->lost);
}

static int not_that(const struct fb_regions *regions, const struct fb_range *wanted,
		    struct fb_err *err)
{
	char text[FB_RANGE_TEXT_MAX];

	fb_err_set(err, ENOENT, "the configured region %s is not there; there is ",
		   fb_range_text(*wanted, text));
	append_all(regions, err);
	return -ENOENT;
}

int fb_region_choose(const struct fb_regions *regions, const struct fb_range *wanted,
		     struct fb_region *region, struct fb_err *err)
{
	if (!regions->count)
		return none(regions, err);
	if (!wanted && regions->count > 1)
		return several(regions, err);
	for (size_t i = 0; i < regions->count; i++)
		if (!wanted || fb_range_equal(regions->regions[i].range, *wanted)) {
			if (fb_range_equal(regions->regions[i].range, regions->hollow))
				return reaches_out(regions->hollow, err);
			if (fb_range_equal(regions->regions[i].range, regions->covered))
				return is_covered(regions, err);
			*region = regions->regions[i];
			return 0;
		}
	return not_that(regions, wanted, err);
}

int fb_region_find(const struct fb_sys *sys, const struct fb_range *wanted,
		   struct fb_region *region, struct fb_err *err)
{
	struct fb_regions regions;
	int rc = fb_region_list(sys, &regions, err);

	if (rc)
		return rc;
	rc = fb_region_choose(&regions, wanted, region, err);
	fb_regions_free(&regions);
	return rc;
}

bool fb_region_find_raw(const struct fb_sys *sys, const struct fb_range *wanted,
			struct fb_region *region)
{
	struct listing l = { .sys = sys };
	bool found = !add_from_nd(&l, NULL) &&
		     !fb_region_choose(&l.found, wanted, region, NULL) &&
		     region->mode == FB_NS_RAW && region->block[0];

	fb_regions_free(&l.found);
	return found;
}

int fb_region_device(const struct fb_region *region, char *path, size_t size,
		     struct fb_err *err)
{
	if (region->mode != FB_NS_RAW || !region->block[0])
		return fb_err_set(
			err, ENXIO, "the region is %s now, not raw%s",
			region->hotadded.size ? "hot-added as System RAM"
					      : fb_namespace_mode_text(region->mode),
			region->mode == FB_NS_DEVDAX ? ": `fastboot hotremove` first"
						     : "");
	if (snprintf(path, size, "/dev/%s", region->block) >= (int)size)
		return fb_err_sys(err, EOVERFLOW, "/dev/%s", region->block);
	return 0;
}
