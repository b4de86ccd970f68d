/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The header and the tables: round trips, then one damaged field at a time. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/util.h"
#include "format/header.h"
#include "format/le.h"

#define STORE_SIZE FB_MIB

static struct fb_header sample(void)
{
	struct fb_header h;

	memset(&h, 0, sizeof(h));
	h.image_length = 100 * 4096;
	h.meta = (struct fb_section){ 50 * 4096, 3 * 4096, { 1, 2, 3 } };
	h.states = (struct fb_section){ 53 * 4096, 100, { 4, 5, 6 } };
	h.digests = (struct fb_section){ 54 * 4096, 240, { 7, 8, 9 } };
	h.origin.generation = 42;
	memset(h.origin.uuid, 0xaa, 16);
	memset(h.origin.boot_id, 0xbb, 16);
	h.origin.wall_usec = 1700000000123456;
	h.origin.counter_hz = 2400000000;
	h.origin.stamp_count = FB_HEADER_PHASES;
	for (uint32_t i = 0; i < FB_HEADER_PHASES; i++)
		h.origin.stamps[i] =
			(struct fb_stamp){ (uint16_t)(i + 1), i * 1000003 };
	memset(h.origin.release, 'r', sizeof(h.origin.release) - 1);
	strcpy(h.origin.hostname, "host");
	strcpy(h.origin.machine, "aarch64");
	return h;
}

static void test_vectors(void **state)
{
	static const uint8_t empty[] = {
		0xef, 0x46, 0xdb, 0x37, 0x51, 0xd8, 0xe9, 0x99
	};
	uint8_t digest[FB_DIGEST_SIZE];

	(void)state;
	/* RFC 3720, B.4, and the check value of CRC-32C */
	assert_int_equal(~fb_crc32c(~0u, "123456789", 9), 0xe3069283);
	/* `xxh64sum </dev/null` */
	fb_digest("", 0, digest);
	assert_memory_equal(digest, empty, sizeof(digest));
}

/* Whatever this CPU does it with, it is what the library says. */
static void test_digest_parts(void **state)
{
	enum { PARTS = 9, LARGEST = 40000 };
	static const size_t sizes[] = { 0, 1, 31, 32, 33, 64, 4095, 4096, 12288, LARGEST };
	fb_autofree uint8_t *bytes = malloc(PARTS * LARGEST + 1);
	uint8_t digests[PARTS + 1][FB_DIGEST_SIZE], one[FB_DIGEST_SIZE];
	uint32_t seed = 1;

	(void)state;
	for (size_t i = 0; i <= PARTS * LARGEST; i++)
		bytes[i] = (uint8_t)((seed = seed * 1103515245 + 12345) >> 16);
	for (size_t i = 0; i < FB_ARRAY_SIZE(sizes); i++) {
		for (size_t count = 0; count <= PARTS; count++) {
			memset(digests, 0xa5, sizeof(digests));
			/* not aligned */
			fb_digest_parts(bytes + 1, sizes[i], count, digests);
			for (size_t n = 0; n < count; n++) {
				XXH64_canonical_t wanted;

				XXH64_canonicalFromHash(
					&wanted, XXH64(bytes + 1 + n * sizes[i],
						       sizes[i], 0));
				assert_memory_equal(digests[n], &wanted,
						    FB_DIGEST_SIZE);
			}
			assert_int_equal(digests[count][0], 0xa5);
		}
		fb_digest(bytes + 1, sizes[i], one);
		assert_memory_equal(one, digests[0], FB_DIGEST_SIZE);
	}
}

/*
 * What memory does to data: bits flip, a line or a page is zero, of another
 * place or of another time, two words change places.
 */
static void test_digest_detects(void **state)
{
	enum { SIZE = 2 * 4096 };
	uint8_t page[SIZE], damaged[SIZE];
	uint8_t good[FB_DIGEST_SIZE], bad[FB_DIGEST_SIZE];

	(void)state;
	for (size_t i = 0; i < SIZE; i++)
		page[i] = (uint8_t)(i * i / 3 + i / 256);
	fb_digest(page, SIZE, good);
	for (size_t bit = 0; bit < SIZE * 8; bit++) {
		page[bit / 8] ^= (uint8_t)(1u << bit % 8);
		fb_digest(page, SIZE, bad);
		page[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_memory_not_equal(good, bad, sizeof(bad));
	}
	for (size_t size = 8; size <= 4096; size *= 8)
		for (size_t at = 0; at + size <= SIZE; at += size) {
			memcpy(damaged, page, SIZE);
			memset(damaged + at, 0, size);
			fb_digest(damaged, SIZE, bad);
			assert_memory_not_equal(good, bad, sizeof(bad));
			memcpy(damaged + at, page + (at + size) % SIZE, size);
			memcpy(damaged + (at + size) % SIZE, page + at, size);
			fb_digest(damaged, SIZE, bad);
			assert_memory_not_equal(good, bad, sizeof(bad));
		}
}

static void test_round_trip(void **state)
{
	struct fb_header h = sample(), got;
	struct fb_err err = FB_ERR_INIT;
	uint8_t block[4096], again[4096];

	(void)state;
	memset(block, 0xee, sizeof(block));
	memset(again, 0xee, sizeof(again));
	fb_header_encode(&h, block);
	assert_int_equal(block[1024], 0xee);
	assert_int_equal(fb_header_decode(block, STORE_SIZE, &got, &err), 0);
	fb_header_encode(&got, again);
	assert_memory_equal(block, again, sizeof(block));
	assert_false(got.consumed);
	assert_int_equal(got.origin.stamps[23].counter, 23 * 1000003);
	assert_int_equal(strlen(got.origin.release), sizeof(got.origin.release) - 1);
	fb_header_mark_consumed(block);
	fb_header_mark_left(block, 1234567);
	assert_int_equal(fb_header_decode(block, STORE_SIZE, &got, &err), 0);
	assert_true(got.consumed);
	assert_int_equal(got.left_usec, 1234567);
	fb_header_encode(&got, again);
	assert_memory_equal(block, again, sizeof(block));
}

/* The bytes are the format: they must never change. */
static void test_bytes(void **state)
{
	struct fb_header h = sample();
	uint8_t block[4096];

	(void)state;
	fb_header_encode(&h, block);
	assert_memory_equal(block, "fastboot\1\0\0\4\1\0\0\0", 16);
	assert_int_equal(fb_le64(block + 16), 42);
	assert_int_equal(fb_le64(block + 24), 100 * 4096);
	assert_int_equal(block[32], 0xaa);
	assert_int_equal(fb_le64(block + 48), 50 * 4096);
	assert_int_equal(fb_le64(block + 56), 3 * 4096);
	assert_int_equal(block[64], 1);
	assert_int_equal(fb_le64(block + 80), 53 * 4096);
	assert_int_equal(fb_le64(block + 112), 54 * 4096);
	assert_int_equal(block[144], 0xbb);
	assert_int_equal(fb_le64(block + 160), 1700000000123456);
	assert_int_equal(fb_le64(block + 168), 2400000000);
	assert_int_equal(fb_le32(block + 176), 24);
	assert_int_equal(fb_le16(block + 184), 1);
	assert_int_equal(fb_le64(block + 184 + 16 + 8), 1000003);
	assert_int_equal(block[568], 'r');
	assert_string_equal((char *)block + 648, "host");
	assert_string_equal((char *)block + 728, "aarch64");
	assert_int_equal(fb_le32(block + 1008), ~fb_crc32c(~0u, block, 1008));
	for (size_t i = 1012; i < 1024; i++)
		assert_int_equal(block[i], 0);
	fb_header_mark_consumed(block);
	assert_memory_equal(block + 1016, "consumed", 8);
	fb_header_mark_left(block, 0x01020304);
	assert_memory_equal(block + 1012, "\4\3\2\1consumed", 12);
}

static void reseal(uint8_t *block)
{
	fb_put_le32(block + 1008, ~fb_crc32c(~0u, block, 1008));
}

/* A field that is wrong although the checksum is right. */
static void test_fields(void **state)
{
	static const struct {
		size_t at;
		unsigned int size;
		uint64_t value;
		int ret;
		const char *text;
	} table[] = {
		{ 0, 2, 0x4141, -ENODATA, "no fastboot header" },
		{ 8, 2, 2, -EPROTONOSUPPORT, "version 2" },
		{ 8, 2, 0, -EBADMSG, "checksum" },
		{ 10, 2, 2048, -EBADMSG, "checksum" },
		{ 12, 4, 0, -ENODATA, "never committed" },
		{ 12, 4, 3, -ENODATA, "never committed" },
		{ 24, 8, 100 * 4096 + 1, -EBADMSG, "an image of" },
		{ 24, 8, 8192, -EBADMSG, "an image of" },
		{ 24, 8, STORE_SIZE + 4096, -ENOSPC, "cut off" },
		{ 24, 8, 52 * 4096, -EBADMSG, "metadata" },
		{ 48, 8, 4096, -EBADMSG, "metadata" },
		{ 48, 8, 50 * 4096 + 32, -EBADMSG, "metadata" },
		{ 48, 8, UINT64_MAX - 4095, -EBADMSG, "metadata" },
		{ 56, 8, 0, -EBADMSG, "0 bytes of metadata" },
		{ 56, 8, 4097, -EBADMSG, "4097 bytes of metadata" },
		{ 56, 8, 4 * 4096, -EBADMSG, "state table" },
		{ 80, 8, 52 * 4096, -EBADMSG, "state table" },
		{ 88, 8, 4097, -EBADMSG, "digest table" },
		{ 112, 8, 100 * 4096, -EBADMSG, "digest table" },
		{ 120, 8, UINT64_MAX, -EBADMSG, "digest table" },
		{ 176, 4, 25, -EBADMSG, "25 time stamps" },
	};
	struct fb_header h = sample(), got;
	uint8_t block[4096], value[8];

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(table); i++) {
		struct fb_err err = FB_ERR_INIT;

		fb_header_encode(&h, block);
		fb_put_le64(value, table[i].value);
		memcpy(block + table[i].at, value, table[i].size);
		if (!strstr(table[i].text, "checksum") || table[i].size == 2)
			reseal(block);
		assert_int_equal(fb_header_decode(block, STORE_SIZE, &got, &err),
				 table[i].ret);
		assert_int_equal(err.status, FB_EXIT_NO_IMAGE);
		assert_non_null(strstr(err.text, table[i].text));
	}
}

/* Any flipped bit is noticed but in the two words outside the checksum. */
static void test_flips(void **state)
{
	struct fb_header h = sample(), got;
	uint8_t block[4096];

	(void)state;
	fb_header_encode(&h, block);
	for (size_t bit = 0; bit < 1024 * 8; bit++) {
		int ret;

		block[bit / 8] ^= (uint8_t)(1u << bit % 8);
		ret = fb_header_decode(block, STORE_SIZE, &got, NULL);
		block[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(!ret, bit / 8 >= 1012);
	}
}

/* ---- state table -------------------------------------------------------------- */

static struct fb_tree_state states[] = {
	{ (char *)(uintptr_t) "redis", (char *)(uintptr_t) "/srv/redis", 3, 1 },
	{ (char *)(uintptr_t) "/x", (char *)(uintptr_t) "/x", 7, 0 },
};

static void test_states(void **state)
{
	struct fb_tree tree = { NULL, 0, 0, states, 2 };
	uint64_t nids[] = { 0x123456789, 5 }, size;
	struct fb_state_entry *entries;
	uint8_t table[256];
	size_t count;

	(void)state;
	assert_int_equal(fb_state_table_size(&tree, &size, NULL), 0);
	assert_int_equal(size, 8 + 32 + 24);
	fb_state_table_encode(&tree, nids, table);
	assert_int_equal(fb_state_table_decode(table, size, &entries, &count, NULL), 0);
	assert_int_equal(count, 2);
	assert_string_equal(entries[0].name, "redis");
	assert_string_equal(entries[0].path, "/srv/redis");
	assert_int_equal(entries[0].nid, 0x123456789);
	assert_int_equal(entries[0].flags, 1);
	assert_string_equal(entries[1].path, "/x");
	fb_state_entries_free(entries, count);
	/* Every shorter table is refused. */
	for (uint64_t cut = 0; cut < size; cut++)
		assert_int_equal(
			fb_state_table_decode(table, cut, &entries, &count, NULL),
			-EBADMSG);
}

static void test_states_damaged(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
	} table[] = {
		{ 0, 200 },   /* more entries than fit */
		{ 20, 0 },    /* an empty name */
		{ 22, 0 },    /* an empty path */
		{ 22, 255 },  /* a path behind the end */
		{ 21, 0x10 }, /* a name of more than 4095 bytes */
		{ 24, 0 },    /* a NUL in a name */
	};
	struct fb_tree tree = { NULL, 0, 0, states, 2 };
	uint64_t nids[] = { 1, 2 }, size;

	(void)state;
	assert_int_equal(fb_state_table_size(&tree, &size, NULL), 0);
	for (size_t i = 0; i < FB_ARRAY_SIZE(table); i++) {
		struct fb_state_entry *entries;
		uint8_t bytes[256];
		size_t count;

		fb_state_table_encode(&tree, nids, bytes);
		bytes[table[i].at] = table[i].value;
		assert_int_equal(
			fb_state_table_decode(bytes, size, &entries, &count, NULL),
			-EBADMSG);
	}
}

static void test_state_names(void **state)
{
	struct fb_tree_state one = { calloc(1, 5000), states[0].path, 0, 0 };
	struct fb_tree tree = { NULL, 0, 0, &one, 1 };
	uint64_t size;

	(void)state;
	assert_int_equal(fb_state_table_size(&tree, &size, NULL), -EINVAL);
	memset(one.name, 'n', 4096);
	assert_int_equal(fb_state_table_size(&tree, &size, NULL), -EINVAL);
	one.name[4095] = '\0';
	assert_int_equal(fb_state_table_size(&tree, &size, NULL), 0);
	free(one.name);
}

/* ---- digest table --------------------------------------------------------------- */

static void test_runs(void **state)
{
	struct fb_run_entry in[] = { { 2, 256, { 9 } }, { 258, 1, { 8 } } }, *out;
	uint8_t table[2 * FB_RUN_ENTRY_SIZE];
	size_t count;

	(void)state;
	fb_run_encode(&in[0], table);
	fb_run_encode(&in[1], table + FB_RUN_ENTRY_SIZE);
	assert_int_equal(
		fb_run_table_decode(table, sizeof(table), 259, &out, &count, NULL), 0);
	assert_int_equal(count, 2);
	assert_memory_equal(&out[0], &in[0], sizeof(in[0]));
	assert_memory_equal(&out[1], &in[1], sizeof(in[1]));
	free(out);
	assert_int_equal(fb_run_table_decode(table, 0, 259, &out, &count, NULL), 0);
	assert_int_equal(count, 0);
	free(out);
	assert_int_equal(
		fb_run_table_decode(table, sizeof(table) - 1, 259, &out, &count, NULL),
		-EBADMSG);
}

static void test_runs_damaged(void **state)
{
	static const struct {
		uint32_t block, blocks;
	} second[] = {
		{ 257, 1 }, { 258, 0 }, { 258, 257 },	   { 1, 1 },
		{ 258, 3 }, { 260, 1 }, { UINT32_MAX, 1 }, { 259, UINT32_MAX },
	};
	struct fb_run_entry first = { 2, 256, { 9 } }, *out;
	struct fb_err err = FB_ERR_INIT;
	uint8_t table[2 * FB_RUN_ENTRY_SIZE];
	size_t count;

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(second); i++) {
		struct fb_run_entry e = { second[i].block, second[i].blocks, { 0 } };

		fb_run_encode(&first, table);
		fb_run_encode(&e, table + FB_RUN_ENTRY_SIZE);
		assert_int_equal(fb_run_table_decode(table, sizeof(table), 260, &out,
						     &count, &err),
				 -EBADMSG);
		assert_non_null(strstr(err.text, "entry 1"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_digest_parts),
		cmocka_unit_test(test_digest_detects),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_flips),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_states_damaged),
		cmocka_unit_test(test_state_names),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_runs_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
