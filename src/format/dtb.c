/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "format/dtb.h"

#include <errno.h>
#include <inttypes.h>
#include <libfdt.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

/* No board comes near: what has more is no description of memory. */
#define MEMORY_MAX 256
#define RANGES_MAX 1024
#define TAKEN_MAX  4096
#define DEPTH_MAX  8

#define RESERVED "reserved-memory"

/* At the start of RAM: 32-bit places, the kernel, its tree and its initrd. */
#define KERNEL_ROOM (128 * FB_MIB)

struct reader {
	const void *fdt;
	struct fb_dtb *dtb;
	struct fb_err *err;
};

/* ---- ranges ------------------------------------------------------------------ */

int fb_dtb_ranges_add(struct fb_dtb_ranges *r, struct fb_range range)
{
	if (!range.size)
		return 0;
	if (fb_array_grow(&r->list, &r->capacity, r->count + 1, sizeof(*r->list)))
		return -ENOMEM;
	r->list[r->count++] = range;
	return 0;
}

int fb_dtb_ranges_subtract(struct fb_dtb_ranges *r, struct fb_range range)
{
	struct fb_dtb_ranges left = { NULL, 0, 0 };

	for (size_t i = 0; i < r->count; i++) {
		struct fb_range in = fb_range_intersect(r->list[i], range);
		struct fb_range below = r->list[i], above = { 0, 0 };

		if (in.size) {
			below.size = in.start - r->list[i].start;
			above.start = fb_range_end(in);
			above.size = r->list[i].size - below.size - in.size;
		}
		if (fb_dtb_ranges_add(&left, below) ||
		    fb_dtb_ranges_add(&left, above)) {
			fb_dtb_ranges_free(&left);
			return -ENOMEM;
		}
	}
	fb_dtb_ranges_free(r);
	*r = left;
	return 0;
}

void fb_dtb_ranges_free(struct fb_dtb_ranges *r)
{
	free(r->list);
	memset(r, 0, sizeof(*r));
}

static int compare_ranges(const void *a, const void *b)
{
	const struct fb_range *x = a, *y = b;

	return (x->start > y->start) - (x->start < y->start);
}

static void sort_ranges(struct fb_dtb_ranges *r)
{
	if (r->count)
		qsort(r->list, r->count, sizeof(*r->list), compare_ranges);
}

/* Of a sorted list: memblock_add() makes one of two that touch, so do we. */
static void join_ranges(struct fb_dtb_ranges *r)
{
	size_t n = 0;

	for (size_t i = 1; i < r->count; i++) {
		if (fb_range_end(r->list[n]) == r->list[i].start)
			r->list[n].size += r->list[i].size;
		else
			r->list[++n] = r->list[i];
	}
	if (r->count)
		r->count = n + 1;
}

/* ---- properties -------------------------------------------------------------- */

static int damaged(struct reader *r, int node, const char *what)
{
	const char *name = fdt_get_name(r->fdt, node, NULL);
	fb_autofree char *text = fb_escape(name ? name : "", strlen(name ? name : ""));

	return fb_err_set(r->err, EINVAL, "damaged device tree: node %s: %s",
			  text && *text ? text : "/", what);
}

static int no_memory(struct reader *r)
{
	return fb_err_sys(r->err, ENOMEM, "device tree");
}

static bool has(const void *fdt, int node, const char *name)
{
	return fdt_getprop(fdt, node, name, NULL);
}

/* The property is exactly this string. */
static bool is(const void *fdt, int node, const char *name, const char *value)
{
	int length;
	const char *p = fdt_getprop(fdt, node, name, &length);

	return p && length == (int)strlen(value) + 1 && !memcmp(p, value, length);
}

/* drivers/of/fdt.c, of_fdt_device_is_available() */
static bool available(const void *fdt, int node)
{
	return !has(fdt, node, "status") || is(fdt, node, "status", "okay") ||
	       is(fdt, node, "status", "ok");
}

static uint64_t read_cells(const fdt32_t *p, uint32_t cells)
{
	uint64_t value = fdt32_ld(p);

	return cells == 2 ? value << 32 | fdt32_ld(p + 1) : value;
}

/* A number of `cells` cells; false: missing or of another length. */
static bool read_number(const void *fdt, int node, const char *name, uint32_t cells,
			uint64_t *value)
{
	int length;
	const fdt32_t *p = fdt_getprop(fdt, node, name, &length);

	if (!p || length != (int)(cells * sizeof(*p)))
		return false;
	*value = read_cells(p, cells);
	return true;
}

/* A list of address and size; a missing property is an empty one. */
static int read_ranges(struct reader *r, int node, const char *name,
		       struct fb_dtb_ranges *out)
{
	uint32_t a = r->dtb->address_cells, s = r->dtb->size_cells;
	int length = 0;
	const fdt32_t *p = fdt_getprop(r->fdt, node, name, &length);
	size_t entry = (a + s) * sizeof(*p);

	if (!p)
		return 0;
	if ((size_t)length % entry || (size_t)length / entry > RANGES_MAX)
		return damaged(r, node, "a list of ranges is not made of whole ones");
	for (size_t i = 0; i < (size_t)length / entry; i++, p += a + s) {
		struct fb_range range = { read_cells(p, a), read_cells(p + a, s) };

		if (!fb_range_valid(range) ||
		    (a == 1 && range.size && fb_range_last(range) > UINT32_MAX))
			return damaged(r, node,
				       "a range reaches past the last address");
		if (fb_dtb_ranges_add(out, range))
			return no_memory(r);
	}
	return 0;
}

static int read_numa(const void *fdt, int node)
{
	uint64_t id;

	return read_number(fdt, node, "numa-node-id", 1, &id) && id < INT32_MAX
		       ? (int)id
		       : -1;
}

/*
 * The name of a node that the overlay will target or make again: as the
 * specification has them, so that it can be written in a source, and the first
 * that a path with this name leads to.
 */
static int read_name(struct reader *r, int node, const char *below,
		     char out[FB_DTB_NAME_MAX])
{
	static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWX"
				   "YZ0123456789,._+-@";
	char path[2 * FB_DTB_NAME_MAX];
	const char *name = fdt_get_name(r->fdt, node, NULL);

	if (!name || !*name || strlen(name) >= FB_DTB_NAME_MAX ||
	    name[strspn(name, good)])
		return damaged(r, node, "not the name of a node");
	snprintf(path, sizeof(path), "%s/%s", below, name);
	if (fdt_path_offset(r->fdt, path) != node)
		return damaged(r, node, "its path leads to another node");
	snprintf(out, FB_DTB_NAME_MAX, "%s", name);
	return 0;
}

/* ---- memory ------------------------------------------------------------------ */

static bool is_memory(const void *fdt, int node)
{
	return is(fdt, node, "device_type", "memory") && available(fdt, node);
}

static int add_memory(struct reader *r, int node)
{
	struct fb_dtb *d = r->dtb;
	struct fb_dtb_memory *m;
	int rc;

	if (d->memory_count == MEMORY_MAX ||
	    fb_array_grow(&d->memory, &d->memory_capacity, d->memory_count + 1,
			  sizeof(*m)))
		return no_memory(r);
	m = &d->memory[d->memory_count++];
	memset(m, 0, sizeof(*m));
	m->numa_node = read_numa(r->fdt, node);
	rc = read_ranges(r, node, "reg", &m->all);
	if (!rc)
		rc = read_ranges(r, node,
				 has(r->fdt, node, "linux,usable-memory")
					 ? "linux,usable-memory"
					 : "reg",
				 &m->usable);
	sort_ranges(&m->all);
	sort_ranges(&m->usable);
	join_ranges(&m->all);
	join_ranges(&m->usable);
	return rc || !m->all.count ? rc : read_name(r, node, "", m->name);
}

/* Every bank, ascending. */
static int all_banks(const struct fb_dtb *d, struct fb_dtb_ranges *banks)
{
	for (size_t i = 0; i < d->memory_count; i++)
		for (size_t k = 0; k < d->memory[i].all.count; k++)
			if (fb_dtb_ranges_add(banks, d->memory[i].all.list[k]))
				return -ENOMEM;
	sort_ranges(banks);
	return 0;
}

static int check_banks(struct reader *r)
{
	struct fb_dtb_ranges banks = { NULL, 0, 0 };
	char a[FB_RANGE_TEXT_MAX], b[FB_RANGE_TEXT_MAX];
	int rc = all_banks(r->dtb, &banks) ? no_memory(r) : 0;

	if (!rc && !banks.count)
		rc = fb_err_set(r->err, EINVAL,
				"no memory node with a size: the boot loader fills it "
				"in; take the tree of the running machine, "
				"/sys/firmware/fdt");
	if (!rc && banks.count > RANGES_MAX)
		rc = fb_err_set(r->err, E2BIG, "more than %d banks of memory",
				RANGES_MAX);
	for (size_t i = 1; !rc && i < banks.count; i++)
		if (fb_range_overlaps(banks.list[i - 1], banks.list[i]))
			rc = fb_err_set(
				r->err, EINVAL,
				"damaged device tree: the memory %s overlaps %s",
				fb_range_text(banks.list[i], a),
				fb_range_text(banks.list[i - 1], b));
	fb_dtb_ranges_free(&banks);
	return rc;
}

/* ---- regions ----------------------------------------------------------------- */

/* One of libnvdimm's, whoever made it. */
static bool is_pmem(const void *fdt, int node)
{
	int length;
	const char *p = fdt_getprop(fdt, node, "compatible", &length);

	return p &&
	       (fdt_stringlist_contains(p, length, "pmem-region") ||
		fdt_stringlist_contains(p, length, "pmem-region-v2")) &&
	       available(fdt, node);
}

static int add_region(struct reader *r, int node)
{
	struct fb_dtb_ranges ranges = { NULL, 0, 0 };
	struct fb_dtb *d = r->dtb;
	struct fb_dtb_region *region;
	int rc = read_ranges(r, node, "reg", &ranges);
	struct fb_range range = { 0, 0 };
	bool one = !rc && ranges.count == 1;

	if (one)
		range = ranges.list[0];
	fb_dtb_ranges_free(&ranges);
	if (!one)
		return rc;
	if (d->region_count == MEMORY_MAX ||
	    fb_array_grow(&d->regions, &d->region_capacity, d->region_count + 1,
			  sizeof(*region)))
		return no_memory(r);
	region = &d->regions[d->region_count++];
	memset(region, 0, sizeof(*region));
	region->range = range;
	region->numa_node = read_numa(r->fdt, node);
	return read_name(r, node, "", region->name);
}

/* The region that this node below the root is; NULL: it is another node. */
static struct fb_dtb_region *region_named(struct fb_dtb *d, const char *name)
{
	for (size_t i = 0; i < d->region_count; i++)
		if (name && !strcmp(d->regions[i].name, name))
			return &d->regions[i];
	return NULL;
}

static struct fb_dtb_region *region_at(struct fb_dtb *d, struct fb_range range)
{
	for (size_t i = 0; i < d->region_count; i++)
		if (fb_range_equal(d->regions[i].range, range))
			return &d->regions[i];
	return NULL;
}

/* ---- what is taken ----------------------------------------------------------- */

static struct fb_dtb_taken *new_taken(struct reader *r, const char *name)
{
	struct fb_dtb *d = r->dtb;
	struct fb_dtb_taken *t;

	if (d->taken_count == TAKEN_MAX ||
	    fb_array_grow(&d->taken, &d->taken_capacity, d->taken_count + 1,
			  sizeof(*t))) {
		no_memory(r);
		return NULL;
	}
	t = &d->taken[d->taken_count++];
	memset(t, 0, sizeof(*t));
	snprintf(t->name, sizeof(t->name), "%s", name ? name : "");
	for (char *c = t->name; *c; c++)
		if (*c < 0x20 || *c > 0x7e)
			*c = '?';
	return t;
}

static int add_taken(struct reader *r, struct fb_range range, const char *name)
{
	struct fb_dtb_taken *t;

	if (!range.size || !fb_range_valid(range))
		return 0;
	t = new_taken(r, name);
	if (!t)
		return -ENOMEM;
	t->range = range;
	return 0;
}

/* A device's registers, or a reservation: `reg` in its parent's cells. */
static int take_reg(struct reader *r, int node, uint32_t a, uint32_t s)
{
	int length, rc = 0;
	const fdt32_t *p = fdt_getprop(r->fdt, node, "reg", &length);
	size_t count = p ? (size_t)length / ((a + s) * sizeof(*p)) : 0;

	for (size_t i = 0; !rc && i < count; i++, p += a + s)
		rc = add_taken(
			r, (struct fb_range){ read_cells(p, a), read_cells(p + a, s) },
			fdt_get_name(r->fdt, node, NULL));
	return rc;
}

/* A child of reserved-memory: here or anywhere, or a region's own. */
static int take_reserved(struct reader *r, int node)
{
	uint32_t a = r->dtb->address_cells, s = r->dtb->size_cells;
	struct fb_dtb_region *region = NULL;
	struct fb_dtb_taken *t;
	struct fb_range range = { 0, 0 };
	uint64_t number[2];
	int length;
	const fdt32_t *p = fdt_getprop(r->fdt, node, "reg", &length);

	if (p && length == (int)((a + s) * sizeof(*p))) {
		range.start = read_cells(p, a);
		range.size = read_cells(p + a, s);
		region = region_at(r->dtb, range);
	}
	if (region && !region->reserved[0])
		return read_name(r, node, "/" RESERVED, region->reserved);
	if (p || !read_number(r->fdt, node, "size", s, &number[0]))
		return take_reg(r, node, a, s);
	t = new_taken(r, fdt_get_name(r->fdt, node, NULL));
	if (!t)
		return -ENOMEM;
	t->need = number[0];
	if (read_number(r->fdt, node, "alignment", a, &number[1]))
		t->align = number[1];
	return read_ranges(r, node, "alloc-ranges", &t->within);
}

/* Children's addresses are the parent's: there is nothing to translate. */
static bool same_addresses(const void *fdt, int node)
{
	int length;

	return fdt_getprop(fdt, node, "ranges", &length) && !length;
}

static int take_children(struct reader *r, int parent, int depth)
{
	int a = fdt_address_cells(r->fdt, parent), s = fdt_size_cells(r->fdt, parent);
	int node, rc = 0;
	bool known = a >= 1 && a <= 2 && s >= 1 && s <= 2;

	fdt_for_each_subnode(node, r->fdt, parent)
	{
		if (!available(r->fdt, node) ||
		    (!depth &&
		     (is_memory(r->fdt, node) ||
		      region_named(r->dtb, fdt_get_name(r->fdt, node, NULL)))))
			continue;
		if (known)
			rc = take_reg(r, node, (uint32_t)a, (uint32_t)s);
		if (!rc && depth < DEPTH_MAX && same_addresses(r->fdt, node) &&
		    (depth || fdt_path_offset(r->fdt, "/" RESERVED) != node))
			rc = take_children(r, node, depth + 1);
		if (rc)
			return rc;
	}
	return 0;
}

/* What the kernel demands, __reserved_mem_check_root(); `ranges` can be added. */
static int check_reserved(struct reader *r, int node)
{
	static const char *const names[] = { "#address-cells", "#size-cells" };
	const uint32_t root[] = { r->dtb->address_cells, r->dtb->size_cells };
	uint64_t cells;

	for (size_t i = 0; i < FB_ARRAY_SIZE(names); i++)
		if (has(r->fdt, node, names[i]) &&
		    (!read_number(r->fdt, node, names[i], 1, &cells) ||
		     cells != root[i]))
			return damaged(r, node,
				       "its cells are not those of the root, so the "
				       "kernel ignores it");
	if (has(r->fdt, node, "ranges") && !same_addresses(r->fdt, node))
		return damaged(r, node, "its ranges are not empty");
	return 0;
}

static int take_reservations(struct reader *r)
{
	int parent = fdt_path_offset(r->fdt, "/" RESERVED), node, rc;
	int count = fdt_num_mem_rsv(r->fdt);

	for (int i = 0; i < count; i++) {
		struct fb_range range;

		if (fdt_get_mem_rsv(r->fdt, i, &range.start, &range.size))
			break;
		if (add_taken(r, range, "/memreserve/"))
			return -ENOMEM;
	}
	if (parent < 0)
		return 0;
	rc = check_reserved(r, parent);
	fdt_for_each_subnode(node, r->fdt, parent)
	{
		if (!rc && available(r->fdt, node))
			rc = take_reserved(r, node);
	}
	return rc;
}

/* Where the boot loader put things, and probably will again. */
static int take_chosen(struct reader *r)
{
	int node = fdt_path_offset(r->fdt, "/chosen"), length = 0;
	struct fb_dtb_ranges header = { NULL, 0, 0 };
	const void *p;
	uint64_t start, end;
	int rc = 0;

	if (node < 0)
		return 0;
	r->dtb->uefi = has(r->fdt, node, "linux,uefi-mmap-start");
	p = fdt_getprop(r->fdt, node, "linux,initrd-start", &length);
	if (p && (length == 4 || length == 8) &&
	    read_number(r->fdt, node, "linux,initrd-start", (uint32_t)length / 4,
			&start) &&
	    read_number(r->fdt, node, "linux,initrd-end", (uint32_t)length / 4, &end) &&
	    end > start)
		rc = add_taken(r, (struct fb_range){ start, end - start }, "initrd");
	if (!rc)
		rc = read_ranges(r, node, "linux,elfcorehdr", &header);
	for (size_t i = 0; !rc && i < header.count; i++)
		rc = add_taken(r, header.list[i], "elfcorehdr");
	fb_dtb_ranges_free(&header);
	return rc;
}

/* ---- the whole --------------------------------------------------------------- */

static int read_root(struct reader *r)
{
	static const char *const names[] = { "#address-cells", "#size-cells" };
	uint32_t *const cells[] = { &r->dtb->address_cells, &r->dtb->size_cells };
	uint64_t number;

	for (size_t i = 0; i < FB_ARRAY_SIZE(names); i++) {
		if (!read_number(r->fdt, 0, names[i], 1, &number))
			return damaged(r, 0, "no #address-cells and #size-cells");
		if (number < 1 || number > 2)
			return fb_err_set(r->err, ENOTSUP,
					  "the device tree has %s = <%" PRIu64
					  ">: only 1 and 2 are known",
					  names[i], number);
		*cells[i] = (uint32_t)number;
	}
	return 0;
}

static int read_tree(struct reader *r)
{
	int node, rc = read_root(r);

	fdt_for_each_subnode(node, r->fdt, 0)
	{
		if (!rc && is_memory(r->fdt, node))
			rc = add_memory(r, node);
		else if (!rc && is_pmem(r->fdt, node) && has(r->fdt, node, "volatile"))
			rc = add_region(r, node);
	}
	if (!rc)
		rc = check_banks(r);
	if (!rc)
		rc = take_reservations(r);
	if (!rc)
		rc = take_children(r, 0, 0);
	return rc ? rc : take_chosen(r);
}

/*
 * Of versions before 16, which no kernel takes either, libfdt 1.6.1 reads past
 * what it found out to be there.
 */
static int check_blob(const void *blob, size_t size)
{
	if (size < FDT_V17_SIZE)
		return -FDT_ERR_TRUNCATED;
	if (fdt_magic(blob) == FDT_MAGIC && fdt_version(blob) < 16)
		return -FDT_ERR_BADVERSION;
	return fdt_check_full(blob, size);
}

int fb_dtb_parse(const void *blob, size_t size, struct fb_dtb *dtb, struct fb_err *err)
{
	struct fb_dtb d = { .uefi = false };
	struct reader r = { blob, &d, err };
	int rc = check_blob(blob, size);

	if (rc)
		return fb_err_set(err, EINVAL, "not a device tree, or damaged: %s",
				  fdt_strerror(rc));
	if (fdt_totalsize(blob) > FB_DTB_SIZE_MAX)
		return fb_err_set(err, E2BIG,
				  "the device tree is larger than the 2 MiB that a "
				  "kernel takes");
	rc = read_tree(&r);
	if (rc)
		fb_dtb_free(&d);
	else
		*dtb = d;
	return rc;
}

void fb_dtb_free(struct fb_dtb *d)
{
	for (size_t i = 0; i < d->memory_count; i++) {
		fb_dtb_ranges_free(&d->memory[i].all);
		fb_dtb_ranges_free(&d->memory[i].usable);
	}
	for (size_t i = 0; i < d->taken_count; i++)
		fb_dtb_ranges_free(&d->taken[i].within);
	free(d->memory);
	free(d->taken);
	free(d->regions);
	memset(d, 0, sizeof(*d));
}

/* ---- as facts ---------------------------------------------------------------- */

/* What the list of /proc/iomem is made from. */
struct map {
	struct fb_iomem_entry *pieces; /* owned */
	size_t count, capacity;
	struct fb_dtb_ranges free; /* RAM that no piece is in */
};

static int add_piece(struct map *m, struct fb_range range, const char *name)
{
	struct fb_iomem_entry *e;

	if (fb_array_grow(&m->pieces, &m->capacity, m->count + 1, sizeof(*e)))
		return -ENOMEM;
	e = &m->pieces[m->count++];
	e->range = range;
	e->depth = 1;
	snprintf(e->name, sizeof(e->name), "%s", name);
	return fb_dtb_ranges_subtract(&m->free, range);
}

/* What of the banks the kernel does not take as RAM already. */
static int add_holes(struct map *m, const struct fb_dtb *d,
		     const struct fb_dtb_region *without)
{
	struct fb_dtb_ranges holes = { NULL, 0, 0 };
	int rc = all_banks(d, &holes);

	for (size_t i = 0; !rc && i < d->memory_count; i++)
		for (size_t k = 0; !rc && k < d->memory[i].usable.count; k++)
			rc = fb_dtb_ranges_subtract(&holes,
						    d->memory[i].usable.list[k]);
	if (!rc && without)
		rc = fb_dtb_ranges_subtract(&holes, without->range);
	for (size_t i = 0; !rc && i < holes.count; i++)
		rc = add_piece(m, holes.list[i], "not in linux,usable-memory");
	fb_dtb_ranges_free(&holes);
	return rc;
}

/* The highest place in `within` that is free, as memblock looks for it. */
static bool find_high(const struct fb_dtb_ranges *free, struct fb_range within,
		      const struct fb_dtb_taken *t, struct fb_range *place)
{
	uint64_t align = t->align ? t->align : 1;
	bool found = false;

	for (size_t i = 0; i < free->count; i++) {
		struct fb_range in = fb_range_intersect(free->list[i], within);
		uint64_t start;

		if (!t->need || in.size < t->need)
			continue;
		start = in.start + (in.size - t->need);
		start -= start % align;
		if (start < in.start || (found && start < place->start))
			continue;
		*place = (struct fb_range){ start, t->need };
		found = true;
	}
	return found;
}

/* One that has no room has none without the region either: nothing is lost. */
static int add_dynamic(struct map *m, const struct fb_dtb_taken *t)
{
	static const struct fb_range anywhere = { 0, UINT64_MAX };
	struct fb_range place;

	if (!t->within.count && find_high(&m->free, anywhere, t, &place))
		return add_piece(m, place, t->name);
	for (size_t i = 0; i < t->within.count; i++)
		if (find_high(&m->free, t->within.list[i], t, &place))
			return add_piece(m, place, t->name);
	return 0;
}

static int add_pieces(struct map *m, const struct fb_dtb *d,
		      const struct fb_dtb_region *without)
{
	struct fb_range kernel = { m->free.list[0].start, KERNEL_ROOM };
	int rc = add_holes(m, d, without);

	if (!rc && fb_range_valid(kernel))
		rc = add_piece(m, kernel, "where boot loaders put the kernel");
	for (size_t i = 0; !rc && i < d->region_count; i++)
		if (&d->regions[i] != without)
			rc = add_piece(m, d->regions[i].range, d->regions[i].name);
	for (size_t i = 0; !rc && i < d->taken_count; i++)
		if (d->taken[i].range.size)
			rc = add_piece(m, d->taken[i].range, d->taken[i].name);
	for (size_t i = 0; !rc && i < d->taken_count; i++)
		if (!d->taken[i].range.size)
			rc = add_dynamic(m, &d->taken[i]);
	return rc;
}

static int compare_entries(const void *a, const void *b)
{
	const struct fb_iomem_entry *x = a, *y = b;

	return compare_ranges(&x->range, &y->range);
}

static int add_entry(struct fb_iomem *iomem, size_t *capacity, struct fb_range range,
		     unsigned int depth, const char *name)
{
	struct fb_iomem_entry *e;

	if (fb_array_grow(&iomem->entries, capacity, iomem->count + 1, sizeof(*e)))
		return -ENOMEM;
	e = &iomem->entries[iomem->count++];
	e->range = range;
	e->depth = depth;
	snprintf(e->name, sizeof(e->name), "%s", name);
	return 0;
}

/* Each bank, and the part of each piece that is in it. */
static int nest(const struct fb_dtb *d, const struct map *m, struct fb_iomem *iomem)
{
	struct fb_dtb_ranges banks = { NULL, 0, 0 };
	size_t capacity = 0;
	int rc = all_banks(d, &banks);

	if (m->count)
		qsort(m->pieces, m->count, sizeof(*m->pieces), compare_entries);
	for (size_t i = 0; !rc && i < banks.count; i++) {
		rc = add_entry(iomem, &capacity, banks.list[i], 0, FB_IOMEM_RAM);
		for (size_t k = 0; !rc && k < m->count; k++) {
			struct fb_range in =
				fb_range_intersect(m->pieces[k].range, banks.list[i]);

			if (in.size)
				rc = add_entry(iomem, &capacity, in, 1,
					       m->pieces[k].name);
		}
	}
	fb_dtb_ranges_free(&banks);
	return rc;
}

int fb_dtb_iomem(const struct fb_dtb *d, const struct fb_dtb_region *without,
		 struct fb_iomem *iomem, struct fb_err *err)
{
	struct fb_iomem list = { NULL, 0 };
	struct map m = { .count = 0 };
	int rc = all_banks(d, &m.free);

	if (!rc)
		rc = add_pieces(&m, d, without);
	if (!rc)
		rc = nest(d, &m, &list);
	free(m.pieces);
	fb_dtb_ranges_free(&m.free);
	if (rc) {
		fb_iomem_free(&list);
		return fb_err_sys(err, -rc, "device tree");
	}
	*iomem = list;
	return 0;
}

const struct fb_dtb_memory *fb_dtb_memory_of(const struct fb_dtb *d,
					     struct fb_range range)
{
	for (size_t i = 0; i < d->memory_count; i++)
		for (size_t k = 0; k < d->memory[i].all.count; k++)
			if (fb_range_contains(d->memory[i].all.list[k], range))
				return &d->memory[i];
	return NULL;
}

int fb_dtb_carries(const struct fb_dtb *d, struct fb_range region, bool limited,
		   struct fb_err *err)
{
	char text[FB_RANGE_TEXT_MAX], ram[FB_RANGE_TEXT_MAX];
	bool found = false;

	for (size_t i = 0; i < d->region_count; i++)
		found |= fb_range_equal(d->regions[i].range, region);
	if (!found)
		return fb_err_set(err, ENOENT,
				  "the device tree has no pmem-region node for %s: "
				  "make one with `fastboot overlay`",
				  fb_range_text(region, text));
	for (size_t i = 0; !limited && i < d->memory_count; i++)
		for (size_t k = 0; k < d->memory[i].usable.count; k++)
			if (fb_range_overlaps(d->memory[i].usable.list[k], region))
				return fb_err_set(
					err, ENOENT,
					"the device tree gives the region %s to the "
					"kernel as RAM, in %s of /%s: take it out with "
					"`fastboot overlay`",
					fb_range_text(region, text),
					fb_range_text(d->memory[i].usable.list[k], ram),
					d->memory[i].name);
	return 0;
}
