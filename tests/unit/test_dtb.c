/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <libfdt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/util.h"
#include "engine/carve.h"
#include "format/dtb.h"

#define M FB_MIB
#define G FB_GIB

/* ---- trees made here: begin(), nodes, end() -------------------------------- */

static char tree[65536];
static uint32_t acells, scells;

#define DO(call) assert_int_equal(call, 0)

static void cells_into(fdt32_t **p, uint32_t cells, uint64_t value)
{
	if (cells == 2)
		*(*p)++ = cpu_to_fdt32((uint32_t)(value >> 32));
	*(*p)++ = cpu_to_fdt32((uint32_t)value);
}

static void begin(uint32_t a, uint32_t s, uint64_t reserve)
{
	acells = a;
	scells = s;
	DO(fdt_create(tree, sizeof(tree)));
	if (reserve)
		DO(fdt_add_reservemap_entry(tree, reserve, M));
	DO(fdt_finish_reservemap(tree));
	DO(fdt_begin_node(tree, ""));
	DO(fdt_property_u32(tree, "#address-cells", a));
	DO(fdt_property_u32(tree, "#size-cells", s));
}

/* start, size, start, size, ..., ended by a size of 0 */
static void ranges_v(const char *name, va_list ap)
{
	fdt32_t value[64], *p = value;

	for (;;) {
		uint64_t start = va_arg(ap, uint64_t);
		uint64_t size = va_arg(ap, uint64_t);

		if (!size)
			break;
		cells_into(&p, acells, start);
		cells_into(&p, scells, size);
	}
	DO(fdt_property(tree, name, value, (int)((char *)p - (char *)value)));
}

static void ranges(const char *name, ...)
{
	va_list ap;

	va_start(ap, name);
	ranges_v(name, ap);
	va_end(ap);
}

#define END (uint64_t)0, (uint64_t)0

static void memory(const char *name, int numa, ...)
{
	va_list ap;

	DO(fdt_begin_node(tree, name));
	DO(fdt_property_string(tree, "device_type", "memory"));
	if (numa >= 0)
		DO(fdt_property_u32(tree, "numa-node-id", (uint32_t)numa));
	va_start(ap, numa);
	ranges_v("reg", ap);
	va_end(ap);
	DO(fdt_end_node(tree));
}

static void node(const char *name, uint64_t start, uint64_t size)
{
	DO(fdt_begin_node(tree, name));
	if (size)
		ranges("reg", start, size, END);
}

static void leaf(const char *name, uint64_t start, uint64_t size)
{
	node(name, start, size);
	DO(fdt_end_node(tree));
}

static void bus(const char *name)
{
	DO(fdt_begin_node(tree, name));
	DO(fdt_property_u32(tree, "#address-cells", acells));
	DO(fdt_property_u32(tree, "#size-cells", scells));
	DO(fdt_property(tree, "ranges", NULL, 0));
}

static void pmem(uint64_t start, uint64_t size, int numa)
{
	char name[32];

	snprintf(name, sizeof(name), "pmem@%llx", (unsigned long long)start);
	node(name, start, size);
	DO(fdt_property_string(tree, "compatible", "pmem-region"));
	DO(fdt_property(tree, "volatile", NULL, 0));
	if (numa >= 0)
		DO(fdt_property_u32(tree, "numa-node-id", (uint32_t)numa));
	DO(fdt_end_node(tree));
}

static void end_node(void)
{
	DO(fdt_end_node(tree));
}

static size_t end(void)
{
	end_node();
	DO(fdt_finish(tree));
	return fdt_totalsize(tree);
}

/* ---- what is done with them ------------------------------------------------ */

static struct fb_dtb parse(const void *blob, size_t size)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_dtb d;

	if (fb_dtb_parse(blob, size, &d, &err))
		fail_msg("%s", err.text);
	return d;
}

static void refuse(const void *blob, size_t size, int error, const char *text)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_dtb d;

	assert_int_equal(fb_dtb_parse(blob, size, &d, &err), -error);
	if (!strstr(err.text, text))
		fail_msg("%s", err.text);
}

static struct fb_carve choose(const struct fb_dtb *d, uint64_t size,
			      const struct fb_dtb_region *without)
{
	struct fb_carve_request rq = { .size = size,
				       .block_size = 128 * M,
				       .overhead = 16 * M };
	struct fb_iomem iomem = { NULL, 0 };
	struct fb_err err = FB_ERR_INIT;
	struct fb_carve c;

	assert_int_equal(fb_dtb_iomem(d, without, &iomem, &err), 0);
	if (fb_carve_choose(&iomem, &rq, &c, &err))
		fail_msg("%s", err.text);
	fb_iomem_free(&iomem);
	return c;
}

/* The merged tree; its size in *size. */
static void *merge(const void *base, size_t base_size, struct fb_range region,
		   const struct fb_dtb *d, const struct fb_dtb_region *old,
		   size_t *size)
{
	struct fb_dtb_overlay o;
	struct fb_err err = FB_ERR_INIT;
	void *blob, *merged;
	size_t blob_size;

	assert_int_equal(fb_dtb_overlay_make(d, region, old, &o, &err), 0);
	assert_int_equal(fb_dtb_overlay_blob(&o, &blob, &blob_size, &err), 0);
	assert_int_equal(fdt_check_full(blob, blob_size), 0);
	if (fb_dtb_apply(base, base_size, blob, blob_size, &merged, size, &err))
		fail_msg("%s", err.text);
	fb_dtb_overlay_free(&o);
	free(blob);
	return merged;
}

static void expect_list(const void *blob, const char *path, const char *name,
			uint32_t a, uint32_t s, ...)
{
	fdt32_t want[64], *p = want;
	int length, offset = fdt_path_offset(blob, path);
	const void *got;
	va_list ap;

	assert_true(offset > 0);
	got = fdt_getprop(blob, offset, name, &length);
	assert_non_null(got);
	va_start(ap, s);
	for (;;) {
		uint64_t start = va_arg(ap, uint64_t);
		uint64_t size = va_arg(ap, uint64_t);

		if (!size)
			break;
		cells_into(&p, a, start);
		cells_into(&p, s, size);
	}
	va_end(ap);
	assert_int_equal(length, (char *)p - (char *)want);
	assert_memory_equal(got, want, (size_t)length);
}

/* ---- tests ----------------------------------------------------------------- */

/* Every combination of cells: the region is in place, the rest is still RAM. */
static void all_cells(void **state)
{
	(void)state;
	for (uint32_t a = 1; a <= 2; a++)
		for (uint32_t s = 1; s <= 2; s++) {
			struct fb_err err = FB_ERR_INIT;
			struct fb_range region;
			struct fb_dtb d, again;
			size_t base_size, size;
			void *merged;

			begin(a, s, 0);
			memory("memory@40000000", -1, G, G, 3 * G, 512 * M, END);
			base_size = end();
			d = parse(tree, base_size);
			region = choose(&d, 256 * M, NULL).region;
			/* Above the first GiB of RAM only the small bank is. */
			assert_int_equal(region.start, 3 * G + 112 * M);
			assert_int_equal(region.size, 272 * M);
			merged = merge(tree, base_size, region, &d, NULL, &size);
			expect_list(merged, "/memory@40000000", "linux,usable-memory",
				    a, s, G, G, 3 * G, 112 * M, 3 * G + 384 * M,
				    128 * M, END);
			expect_list(merged, "/pmem@c7000000", "reg", a, s, region.start,
				    region.size, END);
			expect_list(merged, "/reserved-memory/pmem@c7000000", "reg", a,
				    s, region.start, region.size, END);
			again = parse(merged, size);
			assert_int_equal(fb_dtb_carries(&again, region, false, &err),
					 0);
			assert_int_equal(again.regions[0].numa_node, 0);
			assert_string_equal(again.regions[0].reserved, "pmem@c7000000");
			fb_dtb_free(&again);
			fb_dtb_free(&d);
			free(merged);
		}
}

static void numa(void **state)
{
	struct fb_range region;
	struct fb_dtb d, again;
	size_t base_size, size;
	void *merged;

	(void)state;
	begin(2, 2, 0);
	memory("memory@140000000", 1, 5 * G, 4 * G, END);
	memory("memory@40000000", 0, G, 4 * G, END);
	base_size = end();
	d = parse(tree, base_size);
	/* 256 MiB are left of the first node above 4 GiB: the second is larger. */
	region = choose(&d, 2 * G, NULL).region;
	assert_int_equal(region.start, 5 * G + 112 * M);
	merged = merge(tree, base_size, region, &d, NULL, &size);
	again = parse(merged, size);
	assert_int_equal(again.regions[0].numa_node, 1);
	assert_int_equal(fdt_path_offset(merged, "/memory@40000000/x") < 0, 1);
	assert_null(fdt_getprop(merged, fdt_path_offset(merged, "/memory@40000000"),
				"linux,usable-memory", NULL));
	fb_dtb_free(&again);
	fb_dtb_free(&d);
	free(merged);
}

/* Two nodes touch: the region is in one of them all the same. */
static void never_in_two_nodes(void **state)
{
	struct fb_dtb d;

	(void)state;
	begin(2, 2, 0);
	memory("memory@0", 0, (uint64_t)0, 5 * G, END);
	memory("memory@140000000", 1, 5 * G, G, END);
	d = parse(tree, end());
	/* 1 GiB does not fit above 4 GiB in either, nor across: so below. */
	assert_int_equal(choose(&d, G, NULL).region.start, G + 112 * M);
	fb_dtb_free(&d);

	begin(2, 2, 0);
	memory("memory@0", -1, (uint64_t)0, 5 * G, 5 * G, G, END);
	d = parse(tree, end());
	/* Entries of one node that touch are one bank. */
	assert_int_equal(choose(&d, G, NULL).region.start, 4 * G + 112 * M);
	fb_dtb_free(&d);
}

/* What may not be overlapped, one at a time, at the place chosen without it. */
static void keeps_clear(void **state)
{
	static const char *const what[] = { "nothing",	       "memreserve",
					    "reserved-memory", "a device",
					    "on a bus",	       "initrd",
					    "another region",  "disabled" };

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(what); i++) {
		uint64_t at = 4 * G + 200 * M, start;
		struct fb_dtb d;

		begin(2, 2, i == 1 ? at : 0);
		memory("memory@0", -1, (uint64_t)0, 6 * G, END);
		if (i == 2) {
			bus("reserved-memory");
			leaf("secure@1", at, M);
			end_node();
		} else if (i == 3) {
			leaf("framebuffer@1", at, M);
		} else if (i == 4) {
			bus("soc");
			leaf("sram@1", at, M);
			end_node();
		} else if (i == 5) {
			DO(fdt_begin_node(tree, "chosen"));
			DO(fdt_property_u64(tree, "linux,initrd-start", at));
			DO(fdt_property_u64(tree, "linux,initrd-end", at + M));
			end_node();
		} else if (i == 6) {
			pmem(at, M, 0);
		} else if (i == 7) {
			node("framebuffer@1", at, M);
			DO(fdt_property_string(tree, "status", "disabled"));
			end_node();
		}
		d = parse(tree, end());
		start = choose(&d, G, NULL).region.start;
		if (start != 4 * G + (i == 0 || i == 7 ? 112 : 240) * M)
			fail_msg("%s: %#llx", what[i], (unsigned long long)start);
		fb_dtb_free(&d);
	}
}

/* CMA without an address: room for it is left where the kernel will look. */
static void leaves_room(void **state)
{
	struct fb_dtb d;

	(void)state;
	begin(2, 2, 0);
	memory("memory@0", -1, (uint64_t)0, 3 * G, END);
	bus("reserved-memory");
	DO(fdt_begin_node(tree, "linux,cma"));
	DO(fdt_property_u64(tree, "size", 512 * M));
	DO(fdt_property_u64(tree, "alignment", 256 * M));
	ranges("alloc-ranges", 2 * G, 768 * M, END);
	end_node();
	end_node();
	d = parse(tree, end());
	/* At 2 GiB + 256 MiB: a region of 1.25 GiB ends where it starts. */
	assert_int_equal(choose(&d, 1024 * M, NULL).region.start, G + 112 * M);
	assert_int_equal(choose(&d, 1152 * M, NULL).region.start, G + 112 * M);
	/* One block more does not fit above 1 GiB. */
	assert_int_equal(choose(&d, 1280 * M, NULL).region.start, 240 * M);
	fb_dtb_free(&d);
}

/* The same again changes no byte; elsewhere, the old place is RAM again. */
static void idempotent_and_moved(void **state)
{
	struct fb_range here = { 4 * G + 112 * M, G + 16 * M };
	struct fb_range there = { 5 * G + 368 * M, 512 * M + 16 * M };
	size_t base_size, size, again_size;
	struct fb_err err = FB_ERR_INIT;
	void *first, *second, *third;
	struct fb_dtb d;

	(void)state;
	begin(2, 2, 0);
	memory("memory@0", -1, (uint64_t)0, 2 * G, 4 * G, 3 * G, END);
	base_size = end();
	d = parse(tree, base_size);
	first = merge(tree, base_size, here, &d, NULL, &size);
	fb_dtb_free(&d);

	d = parse(first, size);
	assert_int_equal(choose(&d, G, &d.regions[0]).region.start, here.start);
	second = merge(first, size, here, &d, &d.regions[0], &again_size);
	assert_int_equal(again_size, size);
	assert_memory_equal(first, second, size);
	free(second);
	second = merge(first, size, there, &d, &d.regions[0], &again_size);
	fb_dtb_free(&d);

	d = parse(second, again_size);
	assert_int_equal(d.region_count, 1);
	assert_int_equal(fb_dtb_carries(&d, there, false, &err), 0);
	assert_int_equal(fb_dtb_carries(&d, here, false, &err), -ENOENT);
	expect_list(second, "/memory@0", "linux,usable-memory", 2, 2, (uint64_t)0,
		    2 * G, 4 * G, G + 368 * M, 5 * G + 896 * M, G + 128 * M, END);
	assert_int_equal(choose(&d, G, &d.regions[0]).region.start, here.start);
	/* And back again: the nodes that were disabled are used again. */
	third = merge(second, again_size, here, &d, &d.regions[0], &size);
	fb_dtb_free(&d);
	d = parse(third, size);
	assert_int_equal(d.region_count, 1);
	assert_int_equal(fb_dtb_carries(&d, here, false, &err), 0);
	fb_dtb_free(&d);
	free(first);
	free(second);
	free(third);
}

/* Others' holes in linux,usable-memory stay holes. */
static void foreign_holes(void **state)
{
	struct fb_range region = { 5 * G - 16 * M, G + 16 * M };
	size_t base_size, size;
	struct fb_dtb d;
	void *merged;

	(void)state;
	begin(2, 2, 0);
	DO(fdt_begin_node(tree, "memory@100000000"));
	DO(fdt_property_string(tree, "device_type", "memory"));
	ranges("reg", 4 * G, 4 * G, END);
	ranges("linux,usable-memory", 4 * G, 2 * G, 7 * G, G, END);
	end_node();
	base_size = end();
	d = parse(tree, base_size);
	merged = merge(tree, base_size, region, &d, NULL, &size);
	expect_list(merged, "/memory@100000000", "linux,usable-memory", 2, 2, 4 * G,
		    G - 16 * M, 7 * G, G, END);
	fb_dtb_free(&d);
	free(merged);
}

/* A whole node taken: its list says so, and is not missing. */
static void nothing_left(void **state)
{
	static const char zero[16];
	struct fb_range region = { 4 * G, G };
	size_t base_size, size;
	struct fb_dtb d;
	void *merged;
	int length;

	(void)state;
	begin(2, 2, 0);
	memory("memory@0", -1, (uint64_t)0, G, END);
	memory("memory@100000000", -1, 4 * G, G, END);
	base_size = end();
	d = parse(tree, base_size);
	merged = merge(tree, base_size, region, &d, NULL, &size);
	assert_memory_equal(fdt_getprop(merged,
					fdt_path_offset(merged, "/memory@100000000"),
					"linux,usable-memory", &length),
			    zero, sizeof(zero));
	assert_int_equal(length, sizeof(zero));
	fb_dtb_free(&d);
	free(merged);
}

/* One cell for sizes: what is 4 GiB or more is said in pieces. */
static void large_in_one_cell(void **state)
{
	struct fb_range region = { G, 512 * M }, huge = { 4 * G, 4 * G };
	struct fb_err err = FB_ERR_INIT;
	struct fb_dtb_overlay o;
	size_t base_size, size;
	struct fb_dtb d;
	void *merged;

	(void)state;
	begin(2, 1, 0);
	memory("memory@0", -1, (uint64_t)0, 2 * G, 4 * G + M, 2 * G - M, 6 * G, 3 * G,
	       END);
	base_size = end();
	d = parse(tree, base_size);
	assert_int_equal(d.memory[0].all.count, 2);
	merged = merge(tree, base_size, region, &d, NULL, &size);
	expect_list(merged, "/memory@0", "linux,usable-memory", 2, 1, (uint64_t)0, G,
		    G + 512 * M, 512 * M, 4 * G + M, 2 * G - M, 6 * G, 3 * G, END);
	free(merged);
	assert_int_equal(fb_dtb_overlay_make(&d, huge, NULL, &o, &err), -ERANGE);
	assert_non_null(strstr(err.text, "less than 4 GiB"));
	fb_dtb_free(&d);
}

static void carries(void **state)
{
	struct fb_range region = { 4 * G, G };
	struct fb_err err = FB_ERR_INIT;
	struct fb_dtb d;

	(void)state;
	begin(2, 2, 0);
	memory("memory@0", -1, (uint64_t)0, 8 * G, END);
	pmem(4 * G, G, -1);
	d = parse(tree, end());
	assert_int_equal(fb_dtb_carries(&d, region, false, &err), -ENOENT);
	assert_non_null(
		strstr(err.text, "0x100000000-0x13fffffff to the kernel as RAM"));
	assert_int_equal(fb_dtb_carries(&d, region, true, &err), 0);
	assert_int_equal(d.regions[0].numa_node, -1);
	region.size -= M;
	assert_int_equal(fb_dtb_carries(&d, region, true, &err), -ENOENT);
	assert_non_null(strstr(err.text, "no pmem-region node"));
	fb_dtb_free(&d);
}

static void refused(void **state)
{
	size_t size;

	(void)state;
	refuse("", 0, EINVAL, "not a device tree");
	refuse("\177ELF and some more of it that is long enough for a header", 58,
	       EINVAL, "not a device tree");
	begin(2, 2, 0);
	size = end();
	fdt_set_version(tree, 2);
	refuse(tree, size, EINVAL, "FDT_ERR_BADVERSION");
	begin(2, 2, 0);
	refuse(tree, end(), EINVAL, "no memory node with a size");
	begin(2, 2, 0);
	memory("memory@0", -1, END);
	refuse(tree, end(), EINVAL, "the boot loader fills it in");
	begin(2, 2, 0);
	memory("memory@0", -1, (uint64_t)0, 2 * G, END);
	memory("memory@1", -1, G, 2 * G, END);
	refuse(tree, end(), EINVAL, "overlaps");
	begin(2, 2, 0);
	memory("memory@0", -1, UINT64_MAX - M, 2 * M, END);
	refuse(tree, end(), EINVAL, "past the last address");
	begin(1, 1, 0);
	memory("memory@0", -1, 3 * G, G + 4096, END);
	refuse(tree, end(), EINVAL, "past the last address");
	begin(3, 2, 0);
	refuse(tree, end(), ENOTSUP, "#address-cells = <3>");
	begin(2, 2, 0);
	memory("memory@0", -1, (uint64_t)0, G, END);
	memory("memory", -1, G, G, END);
	refuse(tree, end(), EINVAL, "leads to another node");
	begin(2, 2, 0);
	memory("memory@{*/", -1, (uint64_t)0, G, END);
	refuse(tree, end(), EINVAL, "not the name of a node");
	begin(2, 2, 0);
	memory("memory@0", -1, (uint64_t)0, 2 * G, END);
	DO(fdt_begin_node(tree, "reserved-memory"));
	DO(fdt_property_u32(tree, "#address-cells", 1));
	end_node();
	refuse(tree, end(), EINVAL, "the kernel ignores it");
	begin(2, 2, 0);
	DO(fdt_begin_node(tree, "memory@0"));
	DO(fdt_property_string(tree, "device_type", "memory"));
	DO(fdt_property_u64(tree, "reg", 5));
	end_node();
	size = end();
	refuse(tree, size, EINVAL, "whole ones");
}

/* Cut off anywhere, and any one byte changed: no crash, and no surprise. */
static void damaged(void **state)
{
	size_t size;
	char *copy;

	(void)state;
	begin(2, 2, 5 * G);
	memory("memory@0", 0, (uint64_t)0, 8 * G, END);
	bus("reserved-memory");
	leaf("secure@1", 5 * G, M);
	end_node();
	pmem(6 * G, G, 0);
	size = end();
	copy = malloc(size);
	assert_non_null(copy);
	for (size_t i = 0; i < size; i++) {
		struct fb_dtb d;

		memcpy(copy, tree, i);
		assert_int_not_equal(fb_dtb_parse(copy, i, &d, NULL), 0);
	}
	for (size_t i = 0; i < size * 8; i++) {
		struct fb_iomem iomem = { NULL, 0 };
		struct fb_dtb d;

		memcpy(copy, tree, size);
		copy[i / 8] = (char)(copy[i / 8] ^ (1 << i % 8));
		if (fb_dtb_parse(copy, size, &d, NULL))
			continue;
		assert_int_equal(fb_dtb_iomem(&d, NULL, &iomem, NULL), 0);
		fb_iomem_free(&iomem);
		fb_dtb_free(&d);
	}
	free(copy);
}

static void source(void **state)
{
	struct fb_range region = { 4 * G, G };
	struct fb_dtb_overlay o;
	struct fb_err err = FB_ERR_INIT;
	struct fb_dtb d;
	char *text;

	(void)state;
	begin(2, 1, 0);
	memory("memory@0", 3, (uint64_t)0, 2 * G, 4 * G, 3 * G, END);
	d = parse(tree, end());
	assert_int_equal(fb_dtb_overlay_make(&d, region, NULL, &o, &err), 0);
	assert_int_equal(fb_dtb_overlay_text(&o, &text, &err), 0);
	assert_non_null(strstr(text, "\tpmem@100000000 {\n"));
	assert_non_null(strstr(text, "numa-node-id = <3>;\n"));
	assert_non_null(strstr(text, "reg = <0x1 0x0 0x40000000>;\n"));
	assert_non_null(strstr(text, "<0x1 0x40000000 0x80000000>;\n"));
	assert_null(strstr(text, "SPDX"));
	/* Every placeholder was filled. */
	for (char *at = text; (at = strchr(at, '@')); at++)
		assert_false(at[1] >= 'A' && at[1] <= 'Z');
	free(text);
	fb_dtb_overlay_free(&o);
	fb_dtb_free(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_cells),
		cmocka_unit_test(numa),
		cmocka_unit_test(never_in_two_nodes),
		cmocka_unit_test(keeps_clear),
		cmocka_unit_test(leaves_room),
		cmocka_unit_test(idempotent_and_moved),
		cmocka_unit_test(foreign_holes),
		cmocka_unit_test(nothing_left),
		cmocka_unit_test(large_in_one_cell),
		cmocka_unit_test(carries),
		cmocka_unit_test(refused),
		cmocka_unit_test(damaged),
		cmocka_unit_test(source),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
