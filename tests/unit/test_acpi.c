/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fake_sys.h"

#include "format/acpi.h"
#include "machine/acpi.h"

#define TABLES "/sys/firmware/acpi/tables/"

static const struct fb_acpi_tables request = {
	.region = { 0x1a7000000, 0x81000000 },
	.srat = true,
};

static int setup(void **state)
{
	(void)state;
	fake_reset();
	return 0;
}

static void make(const struct fb_acpi_tables *tables, uint8_t **archive, size_t *size)
{
	void *bytes;

	assert_int_equal(fb_acpi_archive(tables, &bytes, size, NULL), 0);
	*archive = bytes;
}

/* The table of that kind in the archive: what follows the file's name. */
static uint8_t *table_in(uint8_t *archive, size_t size, const char *signature,
			 size_t *length)
{
	for (uint8_t *p = archive; p + 36 <= archive + size; p += 4) {
		if (memcmp(p, signature, 4))
			continue;
		*length = p[4] | (size_t)p[5] << 8;
		return p;
	}
	fail_msg("no %s", signature);
	return NULL;
}

/* As the kernel adds it up. */
static uint8_t add_up(const uint8_t *p, size_t size)
{
	uint8_t sum = 0;

	while (size--)
		sum = (uint8_t)(sum + *p++);
	return sum;
}

static void test_archive(void **state)
{
	static const char *const kinds[] = { "NFIT", "SSDT", "SRAT" };
	static const size_t lengths[] = { 96, 65, 88 };
	uint8_t *archive;
	size_t size, length;

	(void)state;
	make(&request, &archive, &size);
	assert_int_equal(size % 512, 0);
	assert_memory_equal(archive, "070701", 6);
	for (size_t i = 0; i < FB_ARRAY_SIZE(kinds); i++) {
		uint8_t *t = table_in(archive, size, kinds[i], &length);

		assert_int_equal(length, lengths[i]);
		assert_int_equal(add_up(t, length), 0);
		assert_true(fb_acpi_is_table(t, length, kinds[i]));
		assert_false(fb_acpi_is_table(t, length - 1, kinds[i]));
		assert_true(fb_acpi_is_ours(t));
	}
	free(archive);
}

static void test_find(void **state)
{
	struct fb_acpi_tables without = request;
	struct fb_acpi_found found;
	uint8_t *archive;
	size_t size;

	(void)state;
	make(&request, &archive, &size);
	fb_acpi_find(archive, size, &found);
	assert_true(found.any && found.ssdt && found.tables.srat && !found.foreign);
	assert_true(fb_range_equal(found.tables.region, request.region));
	free(archive);
	without.srat = false;
	make(&without, &archive, &size);
	fb_acpi_find(archive, size, &found);
	assert_true(found.any && found.ssdt && !found.tables.srat);
	free(archive);
}

/* Two parts, each in a buffer of exactly its size, so that a step too far shows. */
static void find_in(const void *a, size_t a_size, const void *b, size_t b_size,
		    struct fb_acpi_found *found)
{
	uint8_t *both = malloc(a_size + b_size);

	memcpy(both, a, a_size);
	memcpy(both + a_size, b, b_size);
	fb_acpi_find(both, a_size + b_size, found);
	free(both);
}

static void test_find_where(void **state)
{
	static const uint8_t gzip[512] = { 0x1f, 0x8b, 8 };
	static const uint8_t zeros[512] = { 0 };
	struct fb_acpi_tables other = { { 0x200000000, 0x10000000 }, false };
	struct fb_acpi_found found;
	uint8_t *archive, *second;
	size_t size, second_size;

	(void)state;
	make(&request, &archive, &size);
	make(&other, &second, &second_size);
	find_in(archive, size, gzip, sizeof(gzip), &found);
	assert_true(fb_range_equal(found.tables.region, request.region));
	find_in(zeros, sizeof(zeros), archive, size, &found);
	assert_true(fb_range_equal(found.tables.region, request.region));
	/* Behind the compressed part the kernel does not look. */
	find_in(gzip, sizeof(gzip), archive, size, &found);
	assert_false(found.any);
	/* The first counts. */
	find_in(second, second_size, archive, size, &found);
	assert_true(fb_range_equal(found.tables.region, other.region));
	free(second);
	free(archive);
}

static void test_find_foreign(void **state)
{
	struct fb_acpi_found found;
	uint8_t *archive, *ours, *nfit;
	size_t size, ours_size, length;

	(void)state;
	make(&request, &archive, &size);
	make(&request, &ours, &ours_size);
	nfit = table_in(archive, size, "NFIT", &length);
	nfit[10]++;
	find_in(archive, size, ours, ours_size, &found);
	assert_false(found.foreign); /* the checksum is wrong now: it is none */
	nfit[9]--;
	find_in(archive, size, ours, ours_size, &found);
	assert_true(found.foreign);
	assert_int_equal(found.tables.region.size, 0);
	free(ours);
	free(archive);
}

/* Cut anywhere, it is no archive or a shorter one, and nothing is read behind it. */
static void test_find_cut(void **state)
{
	uint8_t *archive;
	size_t size;

	(void)state;
	make(&request, &archive, &size);
	for (size_t n = 0; n < size; n++) {
		struct fb_acpi_found found;

		find_in(archive, n, "", 0, &found);
		if (n < 600)
			assert_false(found.tables.srat);
	}
	free(archive);
}

static void test_nfit_damaged(void **state)
{
	struct fb_range range;
	uint8_t *archive, *nfit;
	size_t size, length;

	(void)state;
	make(&request, &archive, &size);
	nfit = table_in(archive, size, "NFIT", &length);
	assert_true(fb_acpi_nfit_range(nfit, length, 0, &range));
	assert_false(fb_acpi_nfit_range(nfit, length, 1, &range));
	nfit[42] = 0; /* the structure's length */
	assert_false(fb_acpi_nfit_range(nfit, length, 0, &range));
	nfit[42] = 57;
	assert_false(fb_acpi_nfit_range(nfit, length, 0, &range));
	nfit[42] = 56;
	memset(nfit + 80, 0xff, 8); /* the range's length */
	assert_false(fb_acpi_nfit_range(nfit, length, 0, &range));
	free(archive);
}

/* ---- the machine --------------------------------------------------------- */

static void put_table(const char *path, const char *signature, bool foreign)
{
	uint8_t *archive, *t;
	size_t size, length;

	make(&request, &archive, &size);
	t = table_in(archive, size, signature, &length);
	if (foreign) {
		t[10]++;
		t[9]--;
	}
	fake_set_bytes(path, (const char *)t, length, false);
	free(archive);
}

static void test_machine_none(void **state)
{
	struct fb_acpi acpi;

	(void)state;
	assert_false(fb_acpi_present(&fake_machine));
	assert_int_equal(fb_acpi_read(&fake_machine, &acpi, NULL), 0);
	assert_int_equal(acpi.region.size, 0);
	assert_false(acpi.foreign_nfit || acpi.foreign_root || acpi.foreign_srat);
}

static void test_machine_ours(void **state)
{
	struct fb_acpi acpi;
	bool has;

	(void)state;
	put_table(TABLES "NFIT", "NFIT", false);
	put_table(TABLES "SRAT", "SRAT", false);
	fake_set("/sys/bus/acpi/devices/ACPI0012:00", "", false);
	assert_int_equal(fb_acpi_read(&fake_machine, &acpi, NULL), 0);
	assert_true(fb_range_equal(acpi.region, request.region));
	assert_false(acpi.foreign_nfit || acpi.foreign_root || acpi.foreign_srat);
	assert_int_equal(
		fb_acpi_firmware_has(&fake_machine, request.region, &has, NULL), 0);
	assert_false(has);
}

static void test_machine_foreign(void **state)
{
	struct fb_range more = request.region;
	struct fb_acpi acpi;
	bool has;

	(void)state;
	put_table(TABLES "NFIT1", "NFIT", true);
	put_table(TABLES "SRAT", "SRAT", true);
	fake_set("/sys/bus/acpi/devices/ACPI0012:00", "", false);
	assert_int_equal(fb_acpi_read(&fake_machine, &acpi, NULL), 0);
	assert_int_equal(acpi.region.size, 0);
	assert_true(acpi.foreign_nfit && acpi.foreign_root && acpi.foreign_srat);
	assert_int_equal(
		fb_acpi_firmware_has(&fake_machine, request.region, &has, NULL), 0);
	assert_true(has);
	more.size++;
	assert_int_equal(fb_acpi_firmware_has(&fake_machine, more, &has, NULL), 0);
	assert_false(has);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_archive),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_find_where),
		cmocka_unit_test(test_find_foreign),
		cmocka_unit_test(test_find_cut),
		cmocka_unit_test(test_nfit_damaged),
		cmocka_unit_test_setup(test_machine_none, setup),
		cmocka_unit_test_setup(test_machine_ours, setup),
		cmocka_unit_test_setup(test_machine_foreign, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
