/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hotplug on a model of the kernel: what is written in which order, and that
 * after a failure of any single operation the machine is as it was.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_sys.h"

#include "engine/hotplug.h"
#include "machine/iomem.h"
#include "machine/namespace.h"

#define FIRST 33
#define LAST  47
#define BLOCK (128 * FB_MIB)
#define DIR   "/sys/devices/system/memory"
#define DRV   "/sys/bus/dax/devices/dax0.0/driver"

static struct {
	bool devdax, id, stuck;
	int pinned; /* this block never goes offline */
	int writes_until_signal;
} kernel;

static const struct fb_range region_range = { 4 * FB_GIB, 2 * FB_GIB };

/* ---- the model ------------------------------------------------------- */

static void put_block(int number, const char *state, const char *zones)
{
	char path[128];

	snprintf(path, sizeof(path), DIR "/memory%d/state", number);
	fake_put(path, state);
	snprintf(path, sizeof(path), DIR "/memory%d/valid_zones", number);
	fake_put(path, zones);
}

static bool any_online(void)
{
	for (int n = FIRST; n <= LAST; n++) {
		char path[128];

		snprintf(path, sizeof(path), DIR "/memory%d/state", n);
		if (!strcmp(fake_get(path), "online"))
			return true;
	}
	return false;
}

static void remove_blocks(void)
{
	for (int n = FIRST; n <= LAST; n++) {
		char path[128];

		snprintf(path, sizeof(path), DIR "/memory%d", n);
		fake_remove(path);
	}
}

/* As kmem does it: the blocks come up as auto_online_blocks says. */
static void add_blocks(void)
{
	bool offline = !strcmp(fake_get(DIR "/auto_online_blocks"), "offline");

	for (int n = FIRST; n <= LAST; n++)
		put_block(n, offline ? "offline" : "online", "Normal");
}

static int bind_kmem(void)
{
	if (!kernel.id || !kernel.devdax || fake_find(DRV))
		return -ENODEV;
	fake_link(DRV, "../../../bus/dax/drivers/kmem");
	add_blocks();
	return 0;
}

static int unbind_kmem(void)
{
	if (strcmp(fake_get(DRV), "../../../bus/dax/drivers/kmem"))
		return -ENODEV;
	kernel.stuck |= any_online();
	fake_remove(DRV);
	if (!kernel.stuck)
		remove_blocks();
	return 0;
}

static int write_state(int number, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), DIR "/memory%d/state", number);
	if (!fake_find(path))
		return -ENOENT;
	if (!strcmp(value, "offline")) {
		if (number == kernel.pinned)
			return -EBUSY;
		put_block(number, "offline", "Normal Movable");
	} else if (!strcmp(fake_get(path), "online")) {
		return -EINVAL;
	} else {
		put_block(number, "online",
			  strcmp(value, "online_movable") ? "Normal" : "Movable");
	}
	return 0;
}

static int write_driver(const char *attr, const char *value)
{
	assert_string_equal(value, "dax0.0");
	if (!strcmp(attr, "device_dax/unbind"))
		fake_remove(DRV);
	else if (!strcmp(attr, "device_dax/bind"))
		fake_link(DRV, "../../../bus/dax/drivers/device_dax");
	else if (!strcmp(attr, "kmem/new_id")) {
		kernel.id = true;
		bind_kmem();
	} else if (!strcmp(attr, "kmem/remove_id"))
		kernel.id = false;
	else if (!strcmp(attr, "kmem/bind"))
		return bind_kmem();
	else if (!strcmp(attr, "kmem/unbind"))
		return unbind_kmem();
	else
		fail();
	return 0;
}

static int kernel_write(const char *path, const char *value)
{
	static const char drivers[] = "/sys/bus/dax/drivers/";
	int number;

	if (kernel.writes_until_signal)
		kernel.writes_until_signal--;
	if (sscanf(path, DIR "/memory%d/state", &number) == 1)
		return write_state(number, value);
	if (!strncmp(path, drivers, strlen(drivers)))
		return write_driver(path + strlen(drivers), value);
	if (!fake_find(path))
		return -ENOENT;
	fake_put(path, value);
	return 0;
}

int fb_namespace_to_devdax(struct fb_range region, struct fb_err *err)
{
	int rc = fake_operation();

	assert_true(fb_range_equal(region, region_range));
	fake_record("devdax", "");
	if (rc)
		return fb_err_sys(err, -rc, "devdax");
	if (!kernel.devdax)
		fake_link(DRV, "../../../bus/dax/drivers/device_dax");
	kernel.devdax = true;
	return 0;
}

int fb_namespace_to_raw(struct fb_range region, struct fb_err *err)
{
	int rc = fake_operation();

	assert_true(fb_range_equal(region, region_range));
	fake_record("raw", "");
	if (rc)
		return fb_err_sys(err, -rc, "raw");
	assert_false(any_online());
	kernel.devdax = false;
	fake_remove(DRV);
	return 0;
}

/* ---- fixtures -------------------------------------------------------- */

static void machine(bool hotadded)
{
	fake_reset();
	memset(&kernel, 0, sizeof(kernel));
	fake.kernel = kernel_write;
	fake_put(DIR "/auto_online_blocks", "online");
	fake_put(DIR "/block_size_bytes", "8000000\n");
	fake_put("/proc/sys/vm/drop_caches", "0");
	fake_put("/proc/meminfo", "MemTotal: 8000000 kB\nMemFree: 7000000 kB\n"
				  "MemAvailable: 7000000 kB\n");
	if (!hotadded)
		return;
	kernel.devdax = kernel.id = true;
	fake_link(DRV, "../../../bus/dax/drivers/kmem");
	for (int n = FIRST; n <= LAST; n++)
		put_block(n, "online", "Movable");
}

static struct fb_region region_of(bool hotadded)
{
	struct fb_region r = { .range = region_range, .mode = FB_NS_RAW };

	strcpy(r.nd_region, "region0");
	strcpy(r.ns, "namespace0.0");
	if (!hotadded) {
		strcpy(r.block, "pmem0");
		return r;
	}
	r.mode = FB_NS_DEVDAX;
	strcpy(r.dax, "dax0.0");
	strcpy(r.dax_driver, "kmem");
	r.dax_overhead = 2 * FB_MIB;
	r.hotadded = (struct fb_range){ FIRST * BLOCK, 15 * BLOCK };
	return r;
}

/* A machine's whole state as text, to compare. */
static char *machine_text(void)
{
	char *text = fb_asprintf("devdax %d id %d stuck %d auto %.8s driver %s",
				 kernel.devdax, kernel.id, kernel.stuck,
				 fake_get(DIR "/auto_online_blocks"), fake_get(DRV));

	for (int n = FIRST; n <= LAST; n++) {
		char path[128], zones[128], *more;

		snprintf(path, sizeof(path), DIR "/memory%d/state", n);
		snprintf(zones, sizeof(zones), DIR "/memory%d/valid_zones", n);
		more = fb_asprintf("%s %s/%.6s", text, fake_get(path), fake_get(zones));
		free(text);
		text = more;
	}
	return text;
}

static int signal_after_writes(struct fb_err *err)
{
	return kernel.writes_until_signal == 1
		       ? fb_err_set(err, EINTR, "interrupted by SIGTERM")
		       : 0;
}

static int perform(bool add, bool hotadded, const struct fb_hotplug_options *options,
		   struct fb_err *err)
{
	static const struct fb_hotplug_options none = { 0 };
	struct fb_region region = region_of(hotadded);
	struct fb_hotplug_facts facts;
	struct fb_plan plan = { 0 };
	int rc = fb_hotplug_read(&fake_machine, &region, &facts, err);

	assert_int_equal(rc, 0);
	rc = add ? fb_hotadd_plan(&facts, &plan, err)
		 : fb_hotremove_plan(&facts, &plan, err);
	if (!rc)
		rc = fb_hotplug_run(&fake_machine, &facts, &plan,
				    options ? options : &none, err);
	fb_plan_free(&plan);
	fb_hotplug_facts_free(&facts);
	return rc;
}

static void expect_write(size_t i, const char *path, const char *value)
{
	assert_true(i < fake.write_count);
	assert_string_equal(fake.writes[i].path, path);
	assert_string_equal(fake.writes[i].value, value);
}

/* ---- tests ----------------------------------------------------------- */

static void adds_in_order(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	size_t i = 0;

	(void)state;
	machine(false);
	assert_int_equal(perform(true, false, NULL, &err), 0);
	expect_write(i++, "devdax", "");
	expect_write(i++, DIR "/auto_online_blocks", "offline");
	expect_write(i++, "/sys/bus/dax/drivers/device_dax/unbind", "dax0.0");
	/* new_id has bound it: no write to `bind`. */
	expect_write(i++, "/sys/bus/dax/drivers/kmem/new_id", "dax0.0");
	for (int n = FIRST; n <= LAST; n++) {
		char path[128];

		snprintf(path, sizeof(path), DIR "/memory%d/state", n);
		expect_write(i++, path, "online_movable");
	}
	expect_write(i++, DIR "/auto_online_blocks", "online");
	assert_int_equal(fake.write_count, i);
	assert_true(kernel.devdax && kernel.id && any_online());
}

static void removes_in_order(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	size_t i = 0;

	(void)state;
	machine(true);
	assert_int_equal(perform(false, true, NULL, &err), 0);
	expect_write(i++, DIR "/auto_online_blocks", "offline");
	expect_write(i++, "/proc/sys/vm/drop_caches", "1");
	/* Without page flags: from the highest address down. */
	for (int n = LAST; n >= FIRST; n--) {
		char path[128];

		snprintf(path, sizeof(path), DIR "/memory%d/state", n);
		expect_write(i++, path, "offline");
	}
	expect_write(i++, "/sys/bus/dax/drivers/kmem/unbind", "dax0.0");
	expect_write(i++, "/sys/bus/dax/drivers/kmem/remove_id", "dax0.0");
	expect_write(i++, "raw", "");
	expect_write(i++, DIR "/auto_online_blocks", "online");
	assert_int_equal(fake.write_count, i);
	assert_false(kernel.devdax || kernel.id || kernel.stuck);
}

/* Cut at every operation: the machine must be as it was before. */
static void fails_anywhere(bool add, bool hotadded, int error, bool late)
{
	struct fb_err err = FB_ERR_INIT;
	size_t operations;

	machine(hotadded);
	assert_int_equal(perform(add, hotadded, NULL, &err), 0);
	operations = fake.operations;
	assert_true(operations > 15);
	for (size_t n = 1; n <= operations; n++) {
		fb_autofree char *before = NULL, *after = NULL;
		int rc;

		machine(hotadded);
		before = machine_text();
		fake.fail_at = n;
		fake.fail_errno = error;
		fake.fail_late = late;
		rc = perform(add, hotadded, NULL, &err);
		/* A write with its effect, or a busy one made again, is none. */
		if (!rc)
			continue;
		after = machine_text();
		assert_string_equal(after, before);
		assert_int_equal(err.status, FB_EXIT_FAILED);
	}
}

static void undoes_hotadd(void **state)
{
	(void)state;
	fails_anywhere(true, false, EIO, false);
	fails_anywhere(true, false, EIO, true);
}

static void undoes_hotremove(void **state)
{
	(void)state;
	fails_anywhere(false, true, EIO, false);
	fails_anywhere(false, true, EINTR, true);
}

/* When the undo fails as well it says so, and never loses the region. */
static void says_incomplete(void **state)
{
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	for (size_t n = 2; n < 20; n++) {
		machine(true);
		fake.fail_at = n;
		fake.fail_on = true;
		assert_true(perform(false, true, NULL, &err) < 0);
		assert_int_equal(err.status, FB_EXIT_UNDO);
		assert_non_null(strstr(err.text, "undo is incomplete"));
		assert_false(kernel.stuck);
	}
}

static void puts_back_when_pinned(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	fb_autofree char *before = NULL, *after = NULL;

	(void)state;
	machine(true);
	before = machine_text();
	kernel.pinned = 40;
	assert_int_equal(perform(false, true, NULL, &err), -EBUSY);
	after = machine_text();
	assert_string_equal(after, before);
	assert_non_null(strstr(err.text, "memory block 40 offline"));
	assert_int_equal(err.status, FB_EXIT_FAILED);
}

static void keeps_the_deadline(void **state)
{
	const struct fb_hotplug_options options = { .deadline_usec = 1000 };
	struct fb_err err = FB_ERR_INIT;
	fb_autofree char *before = NULL, *after = NULL;

	(void)state;
	machine(true);
	before = machine_text();
	kernel.pinned = 40;
	assert_int_equal(perform(false, true, &options, &err), -ETIMEDOUT);
	after = machine_text();
	assert_string_equal(after, before);
	assert_non_null(strstr(err.text, "deadline"));
}

static void stops_for_a_signal(void **state)
{
	const struct fb_hotplug_options options = { .interrupted =
							    signal_after_writes };

	(void)state;
	for (int n = 2; n < 20; n++) {
		struct fb_err err = FB_ERR_INIT;
		fb_autofree char *before = NULL, *after = NULL;

		machine(true);
		before = machine_text();
		kernel.writes_until_signal = n;
		assert_int_equal(perform(false, true, &options, &err), -EINTR);
		after = machine_text();
		assert_string_equal(after, before);
		assert_non_null(strstr(err.text, "SIGTERM"));
	}
}

static void nothing_to_do(void **state)
{
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	machine(true);
	assert_int_equal(perform(true, true, NULL, &err), 0);
	assert_int_equal(fake.write_count, 0);
	machine(false);
	assert_int_equal(perform(false, false, NULL, &err), 0);
	assert_int_equal(fake.write_count, 0);
}

/* Somebody put a block online in a kernel zone: it is moved over. */
static void repairs_a_zone(void **state)
{
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	machine(true);
	put_block(35, "online", "Normal");
	put_block(36, "offline", "Normal");
	assert_int_equal(perform(true, true, NULL, &err), 0);
	expect_write(1, DIR "/memory35/state", "offline");
	expect_write(2, DIR "/memory35/state", "online_movable");
	expect_write(3, DIR "/memory36/state", "online_movable");
}

static void refuses(void **state)
{
	struct fb_hotplug_facts facts = { .region = region_of(false) };
	struct fb_plan plan = { 0 };
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	facts.blocks.block_size = BLOCK;
	facts.region.mode = FB_NS_FSDAX;
	assert_int_equal(fb_hotadd_plan(&facts, &plan, &err), -EBUSY);
	assert_int_equal(fb_hotremove_plan(&facts, &plan, &err), -EBUSY);
	facts.region = region_of(true);
	facts.region.dax_driver[0] = '\0';
	assert_int_equal(fb_hotadd_plan(&facts, &plan, &err), -ENOTRECOVERABLE);
	assert_int_equal(fb_hotremove_plan(&facts, &plan, &err), -ENOTRECOVERABLE);
	facts.region = region_of(false);
	facts.blocks.block_size = 4 * FB_GIB;
	assert_int_equal(fb_hotadd_plan(&facts, &plan, &err), -ERANGE);
	assert_int_equal(plan.count, 0);
}

static void predicts_the_range(void **state)
{
	static const struct {
		struct fb_range region, usable;
	} cases[] = {
		{ { 4 * FB_GIB, 2 * FB_GIB }, { FIRST * BLOCK, 15 * BLOCK } },
		/* plan's choice: the overhead lies in front of a boundary */
		{ { 4 * FB_GIB - 2 * FB_MIB, 2 * FB_GIB + 2 * FB_MIB },
		  { 4 * FB_GIB, 2 * FB_GIB } },
		{ { 4 * FB_GIB, BLOCK }, { 0, 0 } },
		{ { 4 * FB_GIB, FB_MIB }, { 0, 0 } },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(cases); i++) {
		struct fb_region r = { .range = cases[i].region };
		struct fb_range got = fb_hotadd_range(&r, BLOCK);

		assert_int_equal(got.size, cases[i].usable.size);
		if (got.size)
			assert_int_equal(got.start, cases[i].usable.start);
		assert_int_equal(fb_hotadd_lost(&r, BLOCK),
				 cases[i].region.size - got.size);
	}
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
		cmocka_unit_test(adds_in_order),
		cmocka_unit_test(removes_in_order),
		cmocka_unit_test(undoes_hotadd),
		cmocka_unit_test(undoes_hotremove),
		cmocka_unit_test(says_incomplete),
		cmocka_unit_test(puts_back_when_pinned),
		cmocka_unit_test(keeps_the_deadline),
		cmocka_unit_test(stops_for_a_signal),
		cmocka_unit_test(nothing_to_do),
		cmocka_unit_test(repairs_a_zone),
		cmocka_unit_test(refuses),
		cmocka_unit_test(predicts_the_range),
	};

	return cmocka_run_group_tests(tests, NULL, cleanup);
}
