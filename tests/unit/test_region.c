/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_sys.h"

#include "engine/region.h"
#include "format/acpi.h"
#include "machine/iomem.h"

#define ND  "/sys/bus/nd/devices"
#define DAX "/sys/bus/dax/devices"
#define FW  "/sys/firmware/memmap"

static const char iomem_raw[] = "00000000-00000fff : Reserved\n"
				"00001000-0009fbff : System RAM\n"
				"000a0000-000bffff : PCI Bus 0000:00\n"
				"00100000-bffdefff : System RAM\n"
				"  01000000-01ffffff : Kernel code\n"
				"100000000-17fffffff : Persistent Memory (legacy)\n"
				"  100000000-17fffffff : namespace0.0\n"
				"180000000-27fffffff : System RAM\n";

static const char iomem_hotadded[] =
	"00001000-0009fbff : System RAM\n"
	"100000000-17fffffff : Persistent Memory (legacy)\n"
	"  100000000-1001fffff : namespace0.0\n"
	"  108000000-17fffffff : dax0.0\n"
	"    108000000-17fffffff : System RAM (kmem)\n"
	"180000000-27fffffff : System RAM\n";

static const char iomem_none[] = "00001000-0009fbff : System RAM\n"
				 "00100000-27fffffff : System RAM\n";

static int setup(void **state)
{
	(void)state;
	fake_reset();
	fake_put("/proc/iomem", iomem_raw);
	fake_put("/proc/cmdline", "console=ttyS0 memmap=2G!4G quiet\n");
	fake_put(FW "/0/start", "0x100000");
	fake_put(FW "/0/end", "0x27fffffff");
	fake_put(FW "/0/type", "System RAM");
	return 0;
}

static void put_nd(void)
{
	fake_put(ND "/ndbus0/provider", "e820");
	fake_put(ND "/region0/resource", "0x100000000");
	fake_put(ND "/region0/size", "2147483648");
	fake_put(ND "/region0/target_node", "0");
	fake_put(ND "/namespace0.0/size", "2147483648");
	fake_put(ND "/namespace0.0/holder", "");
	fake_link(ND "/namespace0.0/driver", "../../../bus/nd/drivers/nd_pmem");
	fake_put(ND "/namespace0.0/block/pmem0", "");
	fake_put(ND "/dax0.0/holder", "");
}

static void put_dax(const char *driver)
{
	put_nd();
	fake_put(ND "/namespace0.0/holder", "dax0.0");
	fake_remove(ND "/namespace0.0/driver");
	fake_remove(ND "/namespace0.0/block");
	fake_put(DAX "/dax0.0/resource", "0x100200000");
	fake_put(DAX "/dax0.0/size", "2145386496");
	if (driver[0])
		fake_link(DAX "/dax0.0/driver", driver);
}

static struct fb_region find(const struct fb_range *wanted)
{
	struct fb_region region;
	struct fb_err err = FB_ERR_INIT;
	int rc = fb_region_find(&fake_machine, wanted, &region, &err);

	if (rc)
		print_error("%s\n", err.text);
	assert_int_equal(rc, 0);
	return region;
}

static void expect_error(const struct fb_range *wanted, int error, enum fb_exit status,
			 const char *text)
{
	struct fb_region region;
	struct fb_err err = FB_ERR_INIT;

	assert_int_equal(fb_region_find(&fake_machine, wanted, &region, &err), -error);
	assert_int_equal(err.status, status);
	if (!strstr(err.text, text)) {
		print_error("%s\n", err.text);
		fail();
	}
}

static void without_drivers(void **state)
{
	struct fb_region r = find(NULL);

	(void)state;
	assert_int_equal(r.range.start, 4 * FB_GIB);
	assert_int_equal(r.range.size, 2 * FB_GIB);
	assert_int_equal(r.origin, FB_ORIGIN_MEMMAP);
	assert_int_equal(r.mode, FB_NS_NONE);
	assert_string_equal(r.nd_region, "");
	assert_int_equal(r.node, -1);
}

static void raw(void **state)
{
	char path[64];
	struct fb_region r;

	(void)state;
	put_nd();
	r = find(NULL);
	assert_int_equal(r.mode, FB_NS_RAW);
	assert_string_equal(r.nd_region, "region0");
	assert_string_equal(r.ns, "namespace0.0");
	assert_string_equal(r.block, "pmem0");
	assert_int_equal(r.node, 0);
	assert_int_equal(fb_region_device(&r, path, sizeof(path), NULL), 0);
	assert_string_equal(path, "/dev/pmem0");
}

/* The same without the rest of the machine, and never of another mode. */
static void raw_alone(void **state)
{
	const struct fb_range there = { 4 * FB_GIB, 2 * FB_GIB },
			      other = { 4 * FB_GIB, FB_GIB };
	struct fb_region r;

	(void)state;
	assert_false(fb_region_find_raw(&fake_machine, NULL, &r));
	put_nd();
	fake_remove("/proc/iomem");
	assert_true(fb_region_find_raw(&fake_machine, NULL, &r));
	assert_int_equal(r.range.start, there.start);
	assert_int_equal(r.range.size, there.size);
	assert_int_equal(r.mode, FB_NS_RAW);
	assert_string_equal(r.block, "pmem0");
	assert_true(fb_region_find_raw(&fake_machine, &there, &r));
	assert_false(fb_region_find_raw(&fake_machine, &other, &r));
	fake_remove(ND "/namespace0.0/block");
	assert_false(fb_region_find_raw(&fake_machine, NULL, &r));
	put_dax("");
	assert_false(fb_region_find_raw(&fake_machine, NULL, &r));
}

static void raw_of_several(void **state)
{
	const struct fb_range second = { 8 * FB_GIB, FB_GIB };
	struct fb_region r;

	(void)state;
	put_nd();
	fake_put(ND "/region1/resource", "0x200000000");
	fake_put(ND "/region1/size", "1073741824");
	fake_put(ND "/namespace1.0/size", "1073741824");
	fake_link(ND "/namespace1.0/driver", "../../../bus/nd/drivers/nd_pmem");
	fake_put(ND "/namespace1.0/block/pmem1", "");
	assert_false(fb_region_find_raw(&fake_machine, NULL, &r));
	assert_true(fb_region_find_raw(&fake_machine, &second, &r));
	assert_string_equal(r.block, "pmem1");
}

static void raw_without_a_driver(void **state)
{
	struct fb_region r;

	(void)state;
	put_nd();
	fake_remove(ND "/namespace0.0/driver");
	fake_remove(ND "/namespace0.0/block");
	r = find(NULL);
	assert_int_equal(r.mode, FB_NS_NONE);
	assert_string_equal(r.ns, "namespace0.0");
}

static void fsdax(void **state)
{
	struct fb_region r;

	(void)state;
	put_nd();
	fake_put(ND "/namespace0.0/holder", "pfn0.0");
	fake_put(ND "/pfn0.0/block/pmem0", "");
	r = find(NULL);
	assert_int_equal(r.mode, FB_NS_FSDAX);
	assert_string_equal(r.block, "pmem0");
	assert_int_equal(fb_region_device(&r, (char[8]){ 0 }, 8, NULL), -ENXIO);
}

static void hotadded(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_region r;

	(void)state;
	put_dax("../../../bus/dax/drivers/kmem");
	fake_put("/proc/iomem", iomem_hotadded);
	r = find(NULL);
	assert_int_equal(r.mode, FB_NS_DEVDAX);
	assert_string_equal(r.dax, "dax0.0");
	assert_string_equal(r.dax_driver, "kmem");
	assert_int_equal(r.dax_overhead, 2 * FB_MIB);
	assert_int_equal(r.hotadded.start, 0x108000000);
	assert_int_equal(r.hotadded.size, 1920 * FB_MIB);
	assert_int_equal(fb_region_device(&r, (char[16]){ 0 }, 16, &err), -ENXIO);
	assert_non_null(strstr(err.text, "fastboot hotremove"));
}

/* arm64: of_pmem leaves no name in /proc/iomem. */
static void device_tree(void **state)
{
	struct fb_region r;

	(void)state;
	put_nd();
	fake_put("/proc/iomem", "40000000-bfffffff : System RAM\n"
				"100000000-17fffffff : namespace0.0\n");
	fake_put("/proc/cmdline", "console=ttyAMA0\n");
	fake_link(ND "/region0/of_node", "../../../firmware/devicetree/base/pmem");
	r = find(NULL);
	assert_int_equal(r.origin, FB_ORIGIN_DEVICE_TREE);
	assert_int_equal(r.mode, FB_NS_RAW);
}

#define TREE	     "/sys/firmware/devicetree/base"
#define BYTES(s)     s, sizeof(s) - 1
#define PUT(path, s) fake_set_bytes(path, BYTES(s), false)

/* 2 GiB at 4 GiB, in NUMA node 1. */
static void put_tree(void)
{
	fake_put("/proc/iomem", "40000000-bfffffff : System RAM\n"
				"180000000-27fffffff : System RAM\n");
	fake_put("/proc/cmdline", "console=ttyAMA0\n");
	PUT(TREE "/compatible", "board\0soc\0");
	PUT(TREE "/#address-cells", "\0\0\0\2");
	PUT(TREE "/#size-cells", "\0\0\0\2");
	PUT(TREE "/pmem@100000000/compatible", "pmem-region\0");
	PUT(TREE "/pmem@100000000/volatile", "");
	PUT(TREE "/pmem@100000000/numa-node-id", "\0\0\0\1");
	PUT(TREE "/pmem@100000000/reg", "\0\0\0\1\0\0\0\0\0\0\0\0\200\0\0\0");
}

/* Nothing but the tree tells of it. */
static void device_tree_alone(void **state)
{
	struct fb_region r;

	(void)state;
	put_tree();
	r = find(NULL);
	assert_int_equal(r.origin, FB_ORIGIN_DEVICE_TREE);
	assert_int_equal(r.range.start, 4 * FB_GIB);
	assert_int_equal(r.range.size, 2 * FB_GIB);
	assert_int_equal(r.node, 1);
	assert_int_equal(r.mode, FB_NS_NONE);
	put_nd();
	r = find(NULL);
	assert_int_equal(r.origin, FB_ORIGIN_DEVICE_TREE);
	assert_int_equal(r.mode, FB_NS_RAW);
	/* What the kernel made of it counts more. */
	assert_int_equal(r.node, 0);
}

/* The boot loader lost linux,usable-memory, or there was none. */
static void device_tree_lost(void **state)
{
	(void)state;
	put_tree();
	fake_put("/proc/iomem", "40000000-27fffffff : System RAM\n");
	expect_error(NULL, EFAULT, FB_EXIT_IMPOSSIBLE,
		     "0x100000000-0x17fffffff of the device tree cannot be used: the "
		     "kernel has \"System RAM\" there");
	put_nd();
	fake_put("/proc/iomem", "40000000-ffffffff : System RAM\n"
				"100000000-17fffffff : reserved\n"
				"180000000-27fffffff : System RAM\n");
	expect_error(NULL, EFAULT, FB_EXIT_IMPOSSIBLE, "\"reserved\" there");
}

static void device_tree_damaged(void **state)
{
	(void)state;
	put_tree();
	PUT(TREE "/pmem@100000000/reg", "\0\0\0\1");
	expect_error(NULL, EINVAL, FB_EXIT_FAILED, "pmem@100000000: its reg");
	PUT(TREE "/pmem@100000000/status", "disabled\0");
	expect_error(NULL, ENODEV, FB_EXIT_IMPOSSIBLE, "no region");
}

/* Tables of ours: 2,064 MiB at 0x1a7000000. */
static void put_tables(void)
{
	static const struct fb_acpi_tables tables = {
		.region = { 0x1a7000000, 0x81000000 }, .srat = false
	};
	fb_autofree void *archive = NULL;
	size_t size, length = 96;
	char *nfit;

	assert_int_equal(fb_acpi_archive(&tables, &archive, &size, NULL), 0);
	nfit = memmem(archive, size, "NFIT", 4);
	assert_non_null(nfit);
	fake_set_bytes("/sys/firmware/acpi/tables/NFIT", nfit, length, false);
}

/* arm64 under ACPI: nothing but the table tells of it until nfit is loaded. */
static void tables_alone(void **state)
{
	struct fb_region r;

	(void)state;
	put_tables();
	fake_put("/proc/cmdline", "console=ttyAMA0 mem=5808M\n");
	fake_put("/proc/iomem", "04000000-07ffffff : reserved\n"
				"40000000-1a6ffffff : System RAM\n"
				"23c440000-23c72ffff : reserved\n");
	r = find(NULL);
	assert_int_equal(r.origin, FB_ORIGIN_TABLES);
	assert_int_equal(r.range.start, 0x1a7000000);
	assert_int_equal(r.range.size, 0x81000000);
	assert_int_equal(r.mode, FB_NS_NONE);
}

/* Without mem=, or where firmware put the kernel into it. */
static void tables_covered(void **state)
{
	(void)state;
	put_tables();
	fake_put("/proc/cmdline", "console=ttyAMA0 mem=5808M\n");
	fake_put("/proc/iomem", "40000000-1a6ffffff : System RAM\n"
				"1c0000000-1c2ffffff : System RAM\n");
	expect_error(NULL, EADDRINUSE, FB_EXIT_FAILED,
		     "0x1a7000000-0x227ffffff of the ACPI tables cannot be used: the "
		     "kernel has \"System RAM\" there");
}

static void firmware(void **state)
{
	(void)state;
	fake_put("/proc/cmdline", "quiet\n");
	assert_int_equal(find(NULL).origin, FB_ORIGIN_FIRMWARE);
}

static void two_regions(void **state)
{
	struct fb_range second = { 6 * FB_GIB, FB_GIB };
	struct fb_range third = { 8 * FB_GIB, FB_GIB };

	(void)state;
	fake_put("/proc/iomem", "100000000-17fffffff : Persistent Memory (legacy)\n"
				"180000000-1bfffffff : Persistent Memory (legacy)\n");
	fake_put("/proc/cmdline", "memmap=2G!4G,0x40000000!6144M\n");
	expect_error(NULL, ENOTUNIQ, FB_EXIT_FAILED,
		     "2 GiB at 0x100000000, 1 GiB at 0x180000000");
	expect_error(NULL, ENOTUNIQ, FB_EXIT_FAILED, "[region] at = 0x100000000");
	assert_int_equal(find(&second).range.start, 6 * FB_GIB);
	expect_error(&third, ENOENT, FB_EXIT_FAILED, "0x200000000-0x23fffffff is not");
}

static void no_region(void **state)
{
	(void)state;
	fake_put("/proc/iomem", iomem_none);
	fake_put("/proc/cmdline", "quiet\n");
	expect_error(NULL, ENODEV, FB_EXIT_IMPOSSIBLE, "fastboot plan --size 2G");
}

static void lost_regions(void **state)
{
	static const struct {
		const char *cmdline, *text;
	} cases[] = {
		{ "memmap=2G!14G", "there is no memory at that address" },
		{ "memmap=2G!4G", "another argument took it back" },
		{ "memmap=!4G", "malformed" },
	};

	(void)state;
	fake_put("/proc/iomem", iomem_none);
	for (size_t i = 0; i < FB_ARRAY_SIZE(cases); i++) {
		fake_put("/proc/cmdline", cases[i].cmdline);
		expect_error(NULL, ENODEV, FB_EXIT_IMPOSSIBLE, cases[i].cmdline);
		expect_error(NULL, ENODEV, FB_EXIT_IMPOSSIBLE, cases[i].text);
	}
}

static void past_the_end(void **state)
{
	struct fb_regions regions;

	(void)state;
	fake_put(FW "/0/end", "0x13fffffff");
	assert_int_equal(fb_region_list(&fake_machine, &regions, NULL), 0);
	assert_int_equal(regions.count, 1);
	assert_non_null(strstr(regions.lost, "past the memory"));
	fb_regions_free(&regions);
	expect_error(NULL, EFAULT, FB_EXIT_IMPOSSIBLE, "past the memory");
	/* The second half is persistent by the firmware's own word. */
	fake_put(FW "/1/start", "0x140000000");
	fake_put(FW "/1/end", "0x17fffffff");
	fake_put(FW "/1/type", "Persistent Memory (legacy)");
	find(NULL);
}

static void not_root(void **state)
{
	(void)state;
	fake_put("/proc/iomem", "00000000-00000000 : System RAM\n"
				"00000000-00000000 : Persistent Memory (legacy)\n");
	expect_error(NULL, EPERM, FB_EXIT_FAILED, "root");
}

static void parses_iomem(void **state)
{
	struct fb_iomem iomem;
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	assert_int_equal(fb_iomem_parse(iomem_hotadded, &iomem, &err), 0);
	assert_int_equal(iomem.count, 6);
	assert_int_equal(iomem.entries[4].depth, 2);
	assert_string_equal(iomem.entries[4].name, FB_IOMEM_KMEM);
	assert_int_equal(iomem.entries[1].range.size, 2 * FB_GIB);
	fb_iomem_free(&iomem);
	assert_int_equal(fb_iomem_parse("0-1 : a\nnonsense\n", &iomem, &err), -EINVAL);
	assert_non_null(strstr(err.text, "line 2"));
	assert_int_equal(fb_iomem_parse("2-1 : a\n", &iomem, &err), -EINVAL);
	assert_int_equal(fb_iomem_parse("", &iomem, &err), 0);
	assert_int_equal(iomem.count, 0);
}

static void parses_meminfo(void **state)
{
	struct fb_meminfo m;
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	assert_int_equal(fb_meminfo_parse("MemTotal:  8000 kB\nMemFree: 7 kB\n"
					  "MemAvailable:\t6 kB\n",
					  &m, &err),
			 0);
	assert_int_equal(m.total, 8000 * 1024);
	assert_int_equal(m.free, 7 * 1024);
	assert_int_equal(m.available, 6 * 1024);
	assert_int_equal(fb_meminfo_parse("MemTotal: 1 kB\n", &m, &err), -EINVAL);
	assert_non_null(strstr(err.text, "MemFree"));
}

static int cleanup(void **state)
{
	(void)state;
	fake_reset();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(without_drivers, setup),
		cmocka_unit_test_setup(raw, setup),
		cmocka_unit_test_setup(raw_alone, setup),
		cmocka_unit_test_setup(raw_of_several, setup),
		cmocka_unit_test_setup(raw_without_a_driver, setup),
		cmocka_unit_test_setup(fsdax, setup),
		cmocka_unit_test_setup(hotadded, setup),
		cmocka_unit_test_setup(device_tree, setup),
		cmocka_unit_test_setup(device_tree_alone, setup),
		cmocka_unit_test_setup(device_tree_lost, setup),
		cmocka_unit_test_setup(device_tree_damaged, setup),
		cmocka_unit_test_setup(tables_alone, setup),
		cmocka_unit_test_setup(tables_covered, setup),
		cmocka_unit_test_setup(firmware, setup),
		cmocka_unit_test_setup(two_regions, setup),
		cmocka_unit_test_setup(no_region, setup),
		cmocka_unit_test_setup(lost_regions, setup),
		cmocka_unit_test_setup(past_the_end, setup),
		cmocka_unit_test_setup(not_root, setup),
		cmocka_unit_test(parses_iomem),
		cmocka_unit_test(parses_meminfo),
	};

	return cmocka_run_group_tests(tests, NULL, cleanup);
}
