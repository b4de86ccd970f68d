/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_sys.h"

#include <libfdt.h>

#include "machine/dtree.h"

#define BASE	     "/sys/firmware/devicetree/base"
#define PUT(path, s) fake_set_bytes(path, s, sizeof(s) - 1, false)

static int setup(void **state)
{
	(void)state;
	fake_reset();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_reset();
	return 0;
}

static void put_node(const char *base)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/compatible", base);
	PUT(path, "board\0");
	snprintf(path, sizeof(path), "%s/#address-cells", base);
	PUT(path, "\0\0\0\1");
	snprintf(path, sizeof(path), "%s/#size-cells", base);
	PUT(path, "\0\0\0\1");
	snprintf(path, sizeof(path), "%s/pmem@40000000/compatible", base);
	PUT(path, "fastboot,x\0pmem-region\0");
	snprintf(path, sizeof(path), "%s/pmem@40000000/volatile", base);
	PUT(path, "");
	snprintf(path, sizeof(path), "%s/pmem@40000000/reg", base);
	PUT(path, "\100\0\0\0\20\0\0\0");
}

static void expect(size_t count, uint64_t start, uint64_t size, int numa)
{
	struct fb_dtree_regions r = { NULL, 0 };
	struct fb_err err = FB_ERR_INIT;

	if (fb_dtree_regions(&fake_machine, &r, &err))
		fail_msg("%s", err.text);
	assert_int_equal(r.count, count);
	if (count) {
		assert_int_equal(r.list[0].range.start, start);
		assert_int_equal(r.list[0].range.size, size);
		assert_int_equal(r.list[0].numa_node, numa);
	}
	free(r.list);
}

/* A PC, with the empty root that kernels since 6.10 make. */
static void none(void **state)
{
	(void)state;
	assert_false(fb_dtree_present(&fake_machine));
	PUT(BASE "/#address-cells", "\0\0\0\2");
	PUT(BASE "/#size-cells", "\0\0\0\2");
	assert_false(fb_dtree_present(&fake_machine));
	expect(0, 0, 0, 0);
}

static void nodes(void **state)
{
	static const char *const bases[] = { BASE, "/proc/device-tree" };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		fake_reset();
		put_node(bases[i]);
		assert_true(fb_dtree_present(&fake_machine));
		expect(1, 0x40000000, 0x10000000, -1);
	}
	PUT("/proc/device-tree/pmem@40000000/numa-node-id", "\0\0\0\3");
	expect(1, 0x40000000, 0x10000000, 3);
	PUT("/proc/device-tree/pmem@40000000/status", "disabled\0");
	expect(0, 0, 0, 0);
	PUT("/proc/device-tree/pmem@40000000/status", "okay\0");
	expect(1, 0x40000000, 0x10000000, 3);
	fake_remove("/proc/device-tree/pmem@40000000/volatile");
	expect(0, 0, 0, 0);
}

/* Two ranges are not one region; half a range is none at all. */
static void ranges(void **state)
{
	struct fb_dtree_regions r;
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	put_node(BASE);
	PUT(BASE "/pmem@40000000/reg", "\100\0\0\0\20\0\0\0\140\0\0\0\20\0\0\0");
	expect(0, 0, 0, 0);
	PUT(BASE "/pmem@40000000/reg", "\100\0\0\0");
	assert_int_equal(fb_dtree_regions(&fake_machine, &r, &err), -EINVAL);
	PUT(BASE "/pmem@40000000/reg", "\100\0\0\0\0\0\0\0");
	assert_int_equal(fb_dtree_regions(&fake_machine, &r, &err), -EINVAL);
	fake_remove(BASE "/pmem@40000000/reg");
	assert_int_equal(fb_dtree_regions(&fake_machine, &r, &err), -EINVAL);
}

static void put_blob(void)
{
	static const char memory[] = "\0\0\0\0\200\0\0\0";
	char t[4096];
	int rc = fdt_create(t, sizeof(t)) | fdt_finish_reservemap(t) |
		 fdt_begin_node(t, "") | fdt_property_u32(t, "#address-cells", 1) |
		 fdt_property_u32(t, "#size-cells", 1) | fdt_begin_node(t, "memory@0") |
		 fdt_property_string(t, "device_type", "memory") |
		 fdt_property(t, "reg", memory, 8) | fdt_end_node(t) |
		 fdt_begin_node(t, "pmem@40000000") |
		 fdt_property_string(t, "compatible", "pmem-region") |
		 fdt_property(t, "volatile", NULL, 0) |
		 fdt_property_u64(t, "reg", 0x4000000010000000) | fdt_end_node(t) |
		 fdt_end_node(t) | fdt_finish(t);

	assert_int_equal(rc, 0);
	fake_set_bytes("/sys/firmware/fdt", t, fdt_totalsize(t), false);
}

static void blob(void **state)
{
	struct fb_dtree_regions r;
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	put_blob();
	assert_true(fb_dtree_present(&fake_machine));
	expect(1, 0x40000000, 0x10000000, -1);
	/* Under ACPI it is there and means nothing. */
	fake_put("/sys/firmware/acpi/tables/DSDT", "");
	fake_put("/sys/firmware/acpi/tables", "");
	assert_false(fb_dtree_present(&fake_machine));
	expect(0, 0, 0, 0);
	fake_remove("/sys/firmware/acpi/tables");
	fake_put("/sys/firmware/fdt", "no tree");
	assert_int_equal(fb_dtree_regions(&fake_machine, &r, &err), -EINVAL);
	assert_non_null(strstr(err.text, "/sys/firmware/fdt: not a device tree"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(none, setup, teardown),
		cmocka_unit_test_setup_teardown(nodes, setup, teardown),
		cmocka_unit_test_setup_teardown(ranges, setup, teardown),
		cmocka_unit_test_setup_teardown(blob, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
