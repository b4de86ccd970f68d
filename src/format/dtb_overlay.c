/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The overlay that takes a region out of a device tree; see dtb.h. */
#define _GNU_SOURCE
#include "format/dtb.h"

#include <errno.h>
#include <inttypes.h>
#include <libfdt.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

/* dts/template/, as strings (Makefile). */
static const char region_template[] =
#include "region.dtso.inc"
	;
static const char memory_template[] =
#include "memory.dtso.inc"
	;
static const char disable_template[] =
#include "disable.dtso.inc"
	;

/* ---- what it says ------------------------------------------------------------ */

/* What is left of a memory node: what is RAM now, the old region, not the new. */
static int left_over(const struct fb_dtb_memory *m, struct fb_range region,
		     const struct fb_dtb_region *old, struct fb_dtb_ranges *left)
{
	struct fb_dtb_ranges holes = { NULL, 0, 0 }, other = { NULL, 0, 0 };
	int rc = 0;

	for (size_t i = 0; !rc && i < m->all.count; i++)
		if (fb_dtb_ranges_add(&holes, m->all.list[i]) ||
		    fb_dtb_ranges_add(left, m->all.list[i]))
			rc = -ENOMEM;
	for (size_t i = 0; !rc && i < m->usable.count; i++)
		if (fb_dtb_ranges_subtract(&holes, m->usable.list[i]) ||
		    fb_dtb_ranges_add(&other, m->usable.list[i]))
			rc = -ENOMEM;
	if (!rc && old)
		rc = fb_dtb_ranges_subtract(&holes, old->range);
	for (size_t i = 0; !rc && i < holes.count; i++)
		rc = fb_dtb_ranges_subtract(left, holes.list[i]);
	/* What the kernel was told beyond reg stays. */
	for (size_t i = 0; !rc && i < m->all.count; i++)
		rc = fb_dtb_ranges_subtract(&other, m->all.list[i]);
	for (size_t i = 0; !rc && i < other.count; i++)
		rc = fb_dtb_ranges_add(left, other.list[i]);
	if (!rc)
		rc = fb_dtb_ranges_subtract(left, region);
	fb_dtb_ranges_free(&holes);
	fb_dtb_ranges_free(&other);
	return rc;
}

/*
 * One cell for sizes cannot say 4 GiB: in pieces then. They touch, so to the
 * kernel, and to fb_dtb_parse(), they are one.
 */
static int split(struct fb_dtb_ranges *r)
{
	const uint64_t most = 2 * FB_GIB;
	struct fb_dtb_ranges pieces = { NULL, 0, 0 };

	for (size_t i = 0; i < r->count; i++) {
		struct fb_range rest = r->list[i], piece = rest;

		for (; rest.size > UINT32_MAX; rest.size -= piece.size) {
			piece.start = rest.start;
			piece.size =
				fb_align_down(rest.start, most) + most - rest.start;
			if (fb_dtb_ranges_add(&pieces, piece))
				return -ENOMEM;
			rest.start += piece.size;
		}
		if (fb_dtb_ranges_add(&pieces, rest))
			return -ENOMEM;
	}
	fb_dtb_ranges_free(r);
	*r = pieces;
	return 0;
}

static bool touches(const struct fb_dtb_memory *m, struct fb_range range)
{
	for (size_t i = 0; i < m->all.count; i++)
		if (fb_range_overlaps(m->all.list[i], range))
			return true;
	return false;
}

static int add_usable(struct fb_dtb_overlay *o, const struct fb_dtb_memory *m,
		      const struct fb_dtb_region *old)
{
	struct fb_dtb_usable *u;
	int rc;

	if (fb_array_grow(&o->usable, &o->usable_capacity, o->usable_count + 1,
			  sizeof(*u)))
		return -ENOMEM;
	u = &o->usable[o->usable_count++];
	memset(u, 0, sizeof(*u));
	snprintf(u->name, sizeof(u->name), "%s", m->name);
	rc = left_over(m, o->region, old, &u->ranges);
	return rc || o->size_cells == 2 ? rc : split(&u->ranges);
}

static void name_nodes(struct fb_dtb_overlay *o, const struct fb_dtb_region *old)
{
	bool same = old && old->range.start == o->region.start;

	snprintf(o->node, sizeof(o->node), "pmem@%" PRIx64, o->region.start);
	snprintf(o->reserved, sizeof(o->reserved), "%s", o->node);
	if (!old)
		return;
	/* A node at the same address is changed; at another one it is left behind. */
	snprintf(same ? o->node : o->old_node, FB_DTB_NAME_MAX, "%s", old->name);
	if (old->reserved[0])
		snprintf(same ? o->reserved : o->old_reserved, FB_DTB_NAME_MAX, "%s",
			 old->reserved);
}

int fb_dtb_overlay_make(const struct fb_dtb *dtb, struct fb_range region,
			const struct fb_dtb_region *old, struct fb_dtb_overlay *overlay,
			struct fb_err *err)
{
	const struct fb_dtb_memory *home = fb_dtb_memory_of(dtb, region);
	struct fb_dtb_overlay o = {
		.address_cells = dtb->address_cells,
		.size_cells = dtb->size_cells,
		.region = region,
		.numa_node = home  ? home->numa_node
			     : old ? old->numa_node
				   : 0,
	};
	char text[FB_SIZE_TEXT_MAX];
	int rc = 0;

	if (dtb->size_cells == 1 && region.size > UINT32_MAX)
		return fb_err_set(err, ERANGE,
				  "a region of %s cannot be said in a tree with "
				  "#size-cells = <1>: it must be less than 4 GiB",
				  fb_size_text(region.size, text));
	if (o.numa_node < 0)
		o.numa_node = 0;
	name_nodes(&o, old);
	for (size_t i = 0; !rc && i < dtb->memory_count; i++)
		if (touches(&dtb->memory[i], region) ||
		    (old && touches(&dtb->memory[i], old->range)))
			rc = add_usable(&o, &dtb->memory[i], old);
	if (rc) {
		fb_dtb_overlay_free(&o);
		return fb_err_sys(err, -rc, "overlay");
	}
	*overlay = o;
	return 0;
}

void fb_dtb_overlay_free(struct fb_dtb_overlay *o)
{
	for (size_t i = 0; i < o->usable_count; i++)
		fb_dtb_ranges_free(&o->usable[i].ranges);
	free(o->usable);
	memset(o, 0, sizeof(*o));
}

/* ---- as a blob --------------------------------------------------------------- */

static fdt32_t *put_cells(fdt32_t *p, uint32_t cells, uint64_t value)
{
	if (cells == 2)
		*p++ = cpu_to_fdt32((uint32_t)(value >> 32));
	*p++ = cpu_to_fdt32((uint32_t)value);
	return p;
}

/* One that is empty says so with a range of size 0: the kernel passes over it. */
static int write_ranges(void *fdt, const struct fb_dtb_overlay *o, const char *name,
			const struct fb_range *list, size_t count)
{
	static const struct fb_range none = { 0, 0 };
	size_t entry = (o->address_cells + o->size_cells) * sizeof(fdt32_t);
	fdt32_t *p;
	void *value;
	int rc;

	if (!count) {
		list = &none;
		count = 1;
	}
	rc = fdt_property_placeholder(fdt, name, (int)(count * entry), &value);
	p = value;
	for (size_t i = 0; !rc && i < count; i++) {
		p = put_cells(p, o->address_cells, list[i].start);
		p = put_cells(p, o->size_cells, list[i].size);
	}
	return rc;
}

/* libfdt's -FDT_ERR_ of the first call that failed stays. */
#define TRY(rc, call)                                                                  \
	do {                                                                           \
		if (!(rc))                                                             \
			rc = call;                                                     \
	} while (0)

/* Up to the properties of __overlay__; *number counts the fragments. */
static int begin_fragment(void *fdt, unsigned int *number, const char *below,
			  const char *target)
{
	char name[32], path[2 * FB_DTB_NAME_MAX];
	int rc = 0;

	snprintf(name, sizeof(name), "fragment@%u", (*number)++);
	snprintf(path, sizeof(path), "%s/%s", below, target);
	TRY(rc, fdt_begin_node(fdt, name));
	TRY(rc, fdt_property_string(fdt, "target-path", path));
	TRY(rc, fdt_begin_node(fdt, "__overlay__"));
	return rc;
}

static int end_fragment(void *fdt)
{
	int rc = fdt_end_node(fdt);

	return rc ? rc : fdt_end_node(fdt);
}

static int write_reserved(void *fdt, const struct fb_dtb_overlay *o)
{
	int rc = 0;

	TRY(rc, fdt_begin_node(fdt, "reserved-memory"));
	TRY(rc, fdt_property_u32(fdt, "#address-cells", o->address_cells));
	TRY(rc, fdt_property_u32(fdt, "#size-cells", o->size_cells));
	TRY(rc, fdt_property(fdt, "ranges", NULL, 0));
	TRY(rc, fdt_begin_node(fdt, o->reserved));
	TRY(rc, fdt_property(fdt, "no-map", NULL, 0));
	TRY(rc, write_ranges(fdt, o, "reg", &o->region, 1));
	TRY(rc, fdt_property_string(fdt, "status", "okay"));
	TRY(rc, fdt_end_node(fdt));
	TRY(rc, fdt_end_node(fdt));
	return rc;
}

static int write_region(void *fdt, const struct fb_dtb_overlay *o, unsigned int *number)
{
	int rc = 0;

	TRY(rc, begin_fragment(fdt, number, "", ""));
	TRY(rc, fdt_property_u32(fdt, "#address-cells", o->address_cells));
	TRY(rc, fdt_property_u32(fdt, "#size-cells", o->size_cells));
	TRY(rc, fdt_begin_node(fdt, o->node));
	TRY(rc, fdt_property_string(fdt, "compatible", "pmem-region"));
	TRY(rc, fdt_property(fdt, "volatile", NULL, 0));
	TRY(rc, fdt_property_u32(fdt, "numa-node-id", (uint32_t)o->numa_node));
	TRY(rc, write_ranges(fdt, o, "reg", &o->region, 1));
	TRY(rc, fdt_property_string(fdt, "status", "okay"));
	TRY(rc, fdt_end_node(fdt));
	TRY(rc, write_reserved(fdt, o));
	TRY(rc, end_fragment(fdt));
	return rc;
}

static int write_disabled(void *fdt, const char *below, const char *name,
			  unsigned int *number)
{
	int rc = 0;

	if (!name[0])
		return 0;
	TRY(rc, begin_fragment(fdt, number, below, name));
	TRY(rc, fdt_property_string(fdt, "status", "disabled"));
	TRY(rc, end_fragment(fdt));
	return rc;
}

static int write_blob(void *fdt, int size, const struct fb_dtb_overlay *o)
{
	unsigned int number = 0;
	int rc = 0;

	TRY(rc, fdt_create(fdt, size));
	TRY(rc, fdt_finish_reservemap(fdt));
	TRY(rc, fdt_begin_node(fdt, ""));
	TRY(rc, write_region(fdt, o, &number));
	for (size_t i = 0; !rc && i < o->usable_count; i++) {
		const struct fb_dtb_usable *u = &o->usable[i];

		TRY(rc, begin_fragment(fdt, &number, "", u->name));
		TRY(rc, write_ranges(fdt, o, "linux,usable-memory", u->ranges.list,
				     u->ranges.count));
		TRY(rc, end_fragment(fdt));
	}
	TRY(rc, write_disabled(fdt, "", o->old_node, &number));
	TRY(rc, write_disabled(fdt, "/reserved-memory", o->old_reserved, &number));
	TRY(rc, fdt_end_node(fdt));
	TRY(rc, fdt_finish(fdt));
	return rc;
}

int fb_dtb_overlay_blob(const struct fb_dtb_overlay *o, void **blob, size_t *size,
			struct fb_err *err)
{
	size_t room = 4096;
	void *fdt;
	int rc;

	for (size_t i = 0; i < o->usable_count; i++)
		room += 512 + o->usable[i].ranges.count * 16;
	fdt = calloc(1, room);
	if (!fdt)
		return fb_err_sys(err, ENOMEM, "overlay");
	rc = write_blob(fdt, (int)room, o);
	if (rc) {
		free(fdt);
		return fb_err_set(err, EINVAL, "overlay: %s", fdt_strerror(rc));
	}
	*blob = fdt;
	*size = fdt_totalsize(fdt);
	return 0;
}

/* ---- as source --------------------------------------------------------------- */

/* "0x1 0x3f000000 0x0 0x81000000" */
static void print_range(FILE *f, const struct fb_dtb_overlay *o, struct fb_range range)
{
	if (o->address_cells == 2)
		fprintf(f, "0x%" PRIx64 " ", range.start >> 32);
	fprintf(f, "0x%" PRIx32 " ", (uint32_t)range.start);
	if (o->size_cells == 2)
		fprintf(f, "0x%" PRIx64 " ", range.size >> 32);
	fprintf(f, "0x%" PRIx32, (uint32_t)range.size);
}

static void print_list(FILE *f, const struct fb_dtb_overlay *o,
		       const struct fb_dtb_ranges *r)
{
	static const struct fb_range none = { 0, 0 };

	for (size_t i = 0; i < (r->count ? r->count : 1); i++) {
		fputs(i ? ",\n\t\t\t      <" : "<", f);
		print_range(f, o, r->count ? r->list[i] : none);
		putc('>', f);
	}
}

/* The names of all the memory nodes. */
static void print_memory(FILE *f, const struct fb_dtb_overlay *o)
{
	for (size_t i = 0; i < o->usable_count; i++)
		fprintf(f, "%s/%s", i ? ", " : "", o->usable[i].name);
	if (!o->usable_count)
		fputs("no memory node: none has it", f);
}

/* What one template is filled with. */
struct filling {
	const struct fb_dtb_overlay *o;
	const char *below, *name;	    /* PATH */
	const struct fb_dtb_ranges *ranges; /* LIST */
};

static bool key_is(const char *key, size_t length, const char *name)
{
	return strlen(name) == length && !memcmp(key, name, length);
}

static void fill_key(FILE *f, const struct filling *with, const char *key,
		     size_t length)
{
	char text[FB_RANGE_TEXT_MAX], size[FB_SIZE_TEXT_MAX];
	const struct fb_dtb_overlay *o = with->o;

	if (key_is(key, length, "REGION"))
		fputs(fb_range_text(o->region, text), f);
	else if (key_is(key, length, "SIZE"))
		fputs(fb_size_text(o->region.size, size), f);
	else if (key_is(key, length, "MEMORY"))
		print_memory(f, o);
	else if (key_is(key, length, "ADDRESS_CELLS"))
		fprintf(f, "%" PRIu32, o->address_cells);
	else if (key_is(key, length, "SIZE_CELLS"))
		fprintf(f, "%" PRIu32, o->size_cells);
	else if (key_is(key, length, "NODE"))
		fputs(o->node, f);
	else if (key_is(key, length, "RESERVED_NODE"))
		fputs(o->reserved, f);
	else if (key_is(key, length, "NUMA"))
		fprintf(f, "%d", o->numa_node);
	else if (key_is(key, length, "REG"))
		print_range(f, o, o->region);
	else if (key_is(key, length, "PATH"))
		fprintf(f, "%s/%s", with->below, with->name);
	else if (key_is(key, length, "LIST"))
		print_list(f, o, with->ranges);
}

/* A template with each @KEY@ replaced. */
static void fill(FILE *f, const char *template, const struct filling *with)
{
	for (const char *key; (key = strchr(template, '@'));) {
		size_t length = strspn(key + 1, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");

		fwrite(template, 1, (size_t)(key - template), f);
		if (length && key[1 + length] == '@') {
			fill_key(f, with, key + 1, length);
			template = key + length + 2;
		} else {
			putc('@', f);
			template = key + 1;
		}
	}
	fputs(template, f);
}

static void write_text(FILE *f, const struct fb_dtb_overlay *o)
{
	fill(f, region_template, &(struct filling){ .o = o });
	for (size_t i = 0; i < o->usable_count; i++)
		fill(f, memory_template,
		     &(struct filling){ o, "", o->usable[i].name,
					&o->usable[i].ranges });
	if (o->old_node[0])
		fill(f, disable_template,
		     &(struct filling){ .o = o, .below = "", .name = o->old_node });
	if (o->old_reserved[0])
		fill(f, disable_template,
		     &(struct filling){ .o = o,
					.below = "/reserved-memory",
					.name = o->old_reserved });
}

int fb_dtb_overlay_text(const struct fb_dtb_overlay *o, char **text, struct fb_err *err)
{
	char *buffer = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&buffer, &size);

	if (!f)
		return fb_err_sys(err, ENOMEM, "overlay");
	write_text(f, o);
	if (ferror(f) | fclose(f)) {
		free(buffer);
		return fb_err_sys(err, ENOMEM, "overlay");
	}
	*text = buffer;
	return 0;
}

/* ---- applied ----------------------------------------------------------------- */

/* Once, in a buffer of that size; a failure leaves nothing of use behind. */
static int apply_in(void *tree, size_t room, const void *base, void *overlay)
{
	int rc = fdt_open_into(base, tree, (int)room);

	if (!rc)
		rc = fdt_overlay_apply(tree, overlay);
	return rc ? rc : fdt_pack(tree);
}

int fb_dtb_apply(const void *base, size_t base_size, const void *overlay,
		 size_t overlay_size, void **merged, size_t *size, struct fb_err *err)
{
	/* An overlay's strings may come twice; 4 KiB for what libfdt rounds. */
	size_t room = base_size + 2 * overlay_size + 4096;
	/* fdt_overlay_apply() damages what it is given. */
	fb_autofree void *copy = malloc(overlay_size);
	fb_autofree void *tree = malloc(room);
	int rc;

	if (!copy || !tree)
		return fb_err_sys(err, ENOMEM, "device tree");
	memcpy(copy, overlay, overlay_size);
	rc = apply_in(tree, room, base, copy);
	if (rc)
		return fb_err_set(err, EINVAL, "the overlay cannot be applied: %s",
				  fdt_strerror(rc));
	if (fdt_totalsize(tree) > FB_DTB_SIZE_MAX)
		return fb_err_set(err, E2BIG,
				  "the merged tree is larger than the 2 MiB that a "
				  "kernel takes");
	*size = fdt_totalsize(tree);
	*merged = fb_steal_ptr(tree);
	return 0;
}
