/* SPDX-License-Identifier: GPL-2.0-or-later */
/* EROFS metadata: layout rules, limits, fragments, and hostile bytes. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "format/erofs_disk.h"
#include "image_help.h"

#define META_BLOCK 100u

/* The encoded metadata of a tree whose extents have their blocks. */
struct encoded {
	struct fb_erofs_layout layout;
	struct fb_erofs_super super;
	uint8_t *meta;
};

static void encode(const struct fb_tree *tree, struct encoded *e)
{
	struct fb_err err = FB_ERR_INIT;

	memset(e, 0, sizeof(*e));
	if (fb_erofs_layout_make(tree, &e->layout, &err))
		print_error("%s\n", err.text);
	assert_non_null(e->layout.places);
	e->meta = malloc(e->layout.size);
	e->super.meta_block = META_BLOCK;
	fb_erofs_encode(tree, &e->layout, META_BLOCK, e->meta);
}

static void encoded_free(struct encoded *e)
{
	fb_erofs_layout_free(&e->layout);
	free(e->meta);
}

static int decode(const struct encoded *e, struct fb_tree *tree, struct fb_err *err)
{
	return fb_erofs_decode(e->meta, e->layout.size, &e->super, tree, NULL, err);
}

/* ---- superblock ----------------------------------------------------------------- */

static void test_super(void **state)
{
	struct fb_erofs_super super = { .uuid = { 1, 2 },
					.inodes = 5,
					.blocks = 300,
					.meta_block = 200,
					.root_nid = 36,
					.build_sec = -1,
					.build_nsec = 7 };
	struct fb_erofs_super got;
	uint8_t block[4096], again[4096];

	(void)state;
	memset(block, 0x77, sizeof(block));
	fb_erofs_super_encode(&super, block);
	assert_int_equal(block[1023], 0x77);
	assert_memory_equal(block + 1024, "\xe2\xe1\xf5\xe0", 4);
	assert_int_equal(fb_erofs_super_decode(block, &got, NULL), 0);
	memset(again, 0x77, sizeof(again));
	fb_erofs_super_encode(&got, again);
	assert_memory_equal(block, again, sizeof(block));
	for (size_t at = 1024; at < 4096; at++) {
		block[at] ^= 4;
		assert_true(fb_erofs_super_decode(block, &got, NULL) < 0);
		block[at] ^= 4;
	}
}

static void test_super_foreign(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
	} table[] = { { SB_BLOCK_BITS, 9 },
		      { SB_EXT_SLOTS, 1 },
		      { SB_INCOMPAT, 0x8 },
		      { SB_EXTRA_DEVICES, 1 },
		      { SB_DIR_BLOCK_BITS, 1 } };
	struct fb_erofs_super super = { .blocks = 10 };
	uint8_t block[4096], copy[4096];

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(table); i++) {
		fb_erofs_super_encode(&super, block);
		block[1024 + table[i].at] = table[i].value;
		memcpy(copy, block, sizeof(copy));
		fb_put_le32(copy + 1028, 0);
		fb_put_le32(block + 1028, fb_crc32c(~0u, copy + 1024, 3072));
		assert_int_equal(fb_erofs_super_decode(block, &super, NULL),
				 -EOPNOTSUPP);
	}
}

/* ---- layout ------------------------------------------------------------------------
 */

/* The kernel's rules, for every inode of the sample. */
static void test_layout_rules(void **state)
{
	struct fb_tree tree = FB_TREE_INIT;
	struct encoded e;

	(void)state;
	help_sample(&tree);
	for (size_t i = 0; i < tree.inode_count; i++)
		assert_int_equal(fb_erofs_fit_extents(&tree.inodes[i]), 0);
	encode(&tree, &e);
	assert_int_equal(fb_erofs_nid(&e.layout, 0), 0);
	for (uint32_t i = 0; i < tree.inode_count; i++) {
		const struct fb_erofs_place *p = &e.layout.places[i];
		uint64_t at = p->offset % 4096;

		assert_int_equal(p->offset % 32, 0);
		assert_true(at + INODE_SIZE <= 4096);
		if (i)
			assert_true(p->offset > e.layout.places[i - 1].offset);
		if (p->layout == LAYOUT_INLINE)
			assert_true(at + INODE_SIZE + p->xattr_size + p->size <= 4096);
		if (S_ISREG(tree.inodes[i].mode))
			assert_true(p->layout != LAYOUT_INLINE);
	}
	encoded_free(&e);
	fb_tree_free(&tree);
}

static uint32_t chunk_bits_of(uint64_t size, const uint64_t *extents, size_t count)
{
	struct fb_tree tree = FB_TREE_INIT;
	struct encoded e;
	uint32_t i, bits;

	help_root(&tree);
	i = help_add(&tree, 0, "f", S_IFREG);
	tree.inodes[i].size = size;
	for (size_t k = 0; k < count; k++)
		help_extent(&tree, i, extents[2 * k], extents[2 * k + 1]);
	help_finish(&tree);
	encode(&tree, &e);
	bits = e.layout.places[i].layout == LAYOUT_CHUNKED
		       ? e.layout.places[i].chunk_bits
		       : 99;
	encoded_free(&e);
	fb_tree_free(&tree);
	return bits;
}

static void test_chunk_bits(void **state)
{
	static const struct {
		uint64_t size;
		uint64_t extents[4];
		size_t count;
		uint32_t bits; /* 99: not chunked */
	} table[] = {
		{ 0, { 0 }, 0, 99 },
		{ 5000, { 0, 5000 }, 1, 99 },
		{ 5000, { 0 }, 0, 19 },
		{ 8192, { 0, 4096 }, 1, 0 },
		{ 8192, { 4096, 4096 }, 1, 0 },
		{ 16384, { 8192, 8192 }, 1, 1 },
		{ 16385, { 8192, 8193 }, 1, 1 },
		{ 1 << 30, { 0, 1 << 20, 1 << 22, 1 << 20 }, 2, 8 },
		{ 3ull << 31, { 1ull << 31, 1ull << 31 }, 1, 19 },
		{ 3ull << 33, { 1ull << 33, 1ull << 33 }, 1, 19 },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(table); i++)
		assert_int_equal(
			chunk_bits_of(table[i].size, table[i].extents, table[i].count),
			table[i].bits);
}

static void test_fit_extents(void **state)
{
	struct fb_extent extents[3] = { { 0, 4096, 0 },
					{ 4096, 8192, 0 },
					{ 1 << 20, 4096, 0 } };
	struct fb_inode in = {
		.mode = S_IFREG, .size = 2 << 20, .extents = extents, .extent_count = 3
	};

	(void)state;
	/* Small maps stay exact; what touches is merged. */
	assert_int_equal(fb_erofs_fit_extents(&in), 0);
	assert_int_equal(in.extent_count, 2);
	assert_int_equal(in.extents[0].length, 12288);
	assert_int_equal(in.extents[1].offset, 1 << 20);
	assert_int_equal(in.extents[1].length, 4096);
	/* 1 TiB with 1 MiB and 4 KiB: 4 MiB of map and zeros, not 1 GiB. */
	in.size = 1ull << 40;
	assert_int_equal(fb_erofs_fit_extents(&in), 0);
	assert_int_equal(in.extent_count, 1);
	assert_int_equal(in.extents[0].length, 2 << 20);
	/* Nothing helps: 2^63 bytes in chunks of 2 GiB */
	in.size = INT64_MAX;
	assert_int_equal(fb_erofs_fit_extents(&in), -EFBIG);
}

/* A fragmented file: its pieces are where they are. */
static void test_fragments(void **state)
{
	static const struct fb_extent pieces[] = {
		{ 0, 8192, 50 },
		{ 8192, 4096, 10 },
		{ 12288, 4096, 11 },
		{ 20480, 100, 90 },
	};
	struct fb_tree tree = FB_TREE_INIT, got;
	struct fb_err err = FB_ERR_INIT;
	struct encoded e;
	uint32_t i;

	(void)state;
	help_root(&tree);
	i = help_add(&tree, 0, "f", S_IFREG);
	tree.inodes[i].size = 20580;
	for (size_t k = 0; k < 4; k++) {
		help_extent(&tree, i, pieces[k].offset, pieces[k].length);
		tree.inodes[i].extents[k].block = pieces[k].block;
	}
	help_finish(&tree);
	encode(&tree, &e);
	assert_int_equal(decode(&e, &got, &err), 0);
	assert_int_equal(got.inodes[1].extent_count, 3);
	assert_int_equal(got.inodes[1].extents[0].block, 50);
	assert_int_equal(got.inodes[1].extents[1].block, 10);
	assert_int_equal(got.inodes[1].extents[1].length, 8192);
	assert_int_equal(got.inodes[1].extents[2].block, 90);
	assert_int_equal(got.inodes[1].extents[2].length, 100);
	fb_tree_free(&got);
	encoded_free(&e);
	fb_tree_free(&tree);
}

/* Lookup in a directory of many blocks as erofs_namei() does it. */
static void test_directory_blocks(void **state)
{
	struct fb_tree tree = FB_TREE_INIT;
	struct encoded e;
	const struct fb_erofs_place *p;
	char last[256] = "";

	(void)state;
	help_root(&tree);
	help_many(&tree, 0, 1000);
	help_finish(&tree);
	for (size_t i = 0; i < tree.inode_count; i++)
		tree.inodes[i].extent_count = 0;
	encode(&tree, &e);
	p = &e.layout.places[0];
	assert_int_equal(p->layout, LAYOUT_PLAIN);
	for (uint64_t at = 0; at < p->size; at += 4096) {
		const uint8_t *b = e.meta + p->block * 4096 + at;
		char name[256] = "";
		size_t from = fb_le16(b + DE_NAME);
		size_t to = fb_le16(b + DIRENT_SIZE + DE_NAME);

		memcpy(name, b + from, to - from);
		assert_true(strcmp(name, last) > 0);
		strcpy(last, name);
	}
	encoded_free(&e);
	fb_tree_free(&tree);
}

/* ---- limits -------------------------------------------------------------------------
 */

static uint32_t odd;

static void odd_name_length(struct fb_tree *t)
{
	char name[257];

	memset(name, 'n', 256);
	name[256] = '\0';
	help_file(t, odd, name, 0);
}

static void odd_dot(struct fb_tree *t)
{
	help_file(t, odd, "..", 0);
}

static void odd_slash(struct fb_tree *t)
{
	help_file(t, odd, "a/b", 0);
}

static void odd_twice(struct fb_tree *t)
{
	help_file(t, odd, "a", 0);
	help_file(t, odd, "a", 0);
}

static void odd_xattr_name(struct fb_tree *t)
{
	help_xattr(t, odd, "system.nfs4_acl", "x", 1);
}

static void odd_xattr_size(struct fb_tree *t)
{
	help_xattr(t, odd, "user.huge", NULL, 65536);
}

static void odd_xattrs(struct fb_tree *t)
{
	help_xattr(t, odd, "user.1", NULL, 65535);
	help_xattr(t, odd, "user.2", NULL, 65535);
	help_xattr(t, odd, "user.3", NULL, 65535);
	help_xattr(t, odd, "user.4", NULL, 65535);
}

static void odd_device(struct fb_tree *t)
{
	t->inodes[help_add(t, odd, "dev", S_IFCHR)].rdev = makedev(4096, 0);
}

static void odd_type(struct fb_tree *t)
{
	help_add(t, odd, "type", 0);
}

static void odd_time(struct fb_tree *t)
{
	t->inodes[odd].mtime_nsec = 1000000000;
}

static void odd_link(struct fb_tree *t)
{
	help_symlink(t, odd, "l", "");
}

static void odd_extent(struct fb_tree *t)
{
	t->inodes[help_file(t, odd, "e", 5000)].extents[0].length = 4999;
}

static void odd_extents(struct fb_tree *t)
{
	uint32_t i = help_file(t, odd, "e", 8192);

	help_extent(t, i, 4096, 4096);
}

/* What cannot be kept is refused by name. */
static void test_limits(void **state)
{
	static const struct {
		void (*make)(struct fb_tree *);
		int ret;
		const char *text;
	} table[] = {
		{ odd_name_length, -ENAMETOOLONG, "/odd\\012: a name of 256" },
		{ odd_dot, -EINVAL, "no valid name" },
		{ odd_slash, -EINVAL, "no valid name" },
		{ odd_twice, -EINVAL, "not in order" },
		{ odd_xattr_name, -EOPNOTSUPP,
		  "/odd\\012: extended attribute system.nfs4" },
		{ odd_xattr_size, -E2BIG, "attribute user.huge has 65536 bytes" },
		{ odd_xattrs, -E2BIG, "attributes have" },
		{ odd_device, -EOPNOTSUPP, "device number 4096:0" },
		{ odd_type, -EINVAL, "unknown type" },
		{ odd_time, -EINVAL, "mtime" },
		{ odd_link, -EINVAL, "symbolic link" },
		{ odd_extent, -EINVAL, "extent 0" },
		{ odd_extents, -EINVAL, "extent 1" },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(table); i++) {
		struct fb_tree tree = FB_TREE_INIT;
		struct fb_err err = FB_ERR_INIT;
		struct fb_erofs_layout layout;

		help_root(&tree);
		odd = help_add(&tree, 0, "odd\n", S_IFDIR | 0755);
		table[i].make(&tree);
		help_finish(&tree);
		assert_int_equal(fb_erofs_layout_make(&tree, &layout, &err),
				 table[i].ret);
		if (!strstr(err.text, table[i].text))
			print_error("%s\n", err.text);
		assert_non_null(strstr(err.text, table[i].text));
		fb_tree_free(&tree);
	}
}

/* ---- hostile metadata
 * -------------------------------------------------------------------- */

/* Root (nid 0) with "a" (a file of 2 blocks at 5), "d" (directory), "s" (link). */
static void small_tree(struct fb_tree *t)
{
	uint32_t a, d;

	help_root(t);
	a = help_file(t, 0, "a", 5000);
	t->inodes[a].extents[0].block = 5;
	d = help_add(t, 0, "d", S_IFDIR | 0755);
	help_symlink(t, 0, "s", "target");
	help_xattr(t, d, "user.x", "y", 1);
	help_finish(t);
}

static void test_hostile_fields(void **state)
{
	enum { ROOT, A, D, S };
	static const struct {
		unsigned int inode;
		size_t at;
		unsigned int size;
		uint64_t value;
		int ret;
		const char *text;
	} table[] = {
		{ ROOT, IN_FORMAT, 2, 0, -EOPNOTSUPP, "layout" },
		{ A, IN_FORMAT, 2, 3, -EOPNOTSUPP, "layout" },
		{ A, IN_FORMAT, 2, 5, -EOPNOTSUPP, "inline data" },
		{ ROOT, IN_MODE, 2, S_IFIFO, -EBADMSG, "root is not" },
		{ ROOT, IN_SIZE, 8, 0, -EBADMSG, "entries are out" },
		{ ROOT, IN_SIZE, 8, 1 << 20, -EBADMSG, "entries are out" },
		{ ROOT, IN_SIZE, 8, 13, -EBADMSG, "no entries" },
		{ A, IN_MODE, 2, 0, -EBADMSG, "unknown type" },
		{ A, IN_MODE, 2, S_IFIFO, -EBADMSG, "type is not" },
		{ A, IN_SIZE, 8, UINT64_MAX, -EBADMSG, "size is impossible" },
		{ A, IN_SIZE, 8, 96 * 4096, -EBADMSG, "data is out" },
		{ A, IN_UNION, 4, 1, -EBADMSG, "data is out" },
		{ A, IN_UNION, 4, 99, -EBADMSG, "data is out" },
		{ A, IN_UNION, 4, UINT32_MAX, -EBADMSG, "data is out" },
		{ A, IN_MTIME_NSEC, 4, UINT32_MAX, -EBADMSG, "mtime" },
		{ D, IN_XATTR_COUNT, 2, 65535, -EBADMSG, "attributes are out" },
		{ D, INODE_SIZE + XATTR_SHARED_AT, 1, 1, -EOPNOTSUPP, "shared" },
		{ D, INODE_SIZE + 12 + XE_NAME_LENGTH, 1, 200, -EBADMSG, "attribute" },
		{ D, INODE_SIZE + 12 + XE_NAME_LENGTH, 1, 0, -EBADMSG, "attribute" },
		{ D, INODE_SIZE + 12 + XE_INDEX, 1, 5, -EOPNOTSUPP, "namespace" },
		{ D, INODE_SIZE + 12 + XE_VALUE_SIZE, 2, 65535, -EBADMSG, "attribute" },
		{ S, IN_SIZE, 8, 0, -EBADMSG, "target" },
		{ S, IN_SIZE, 8, 4096, -EBADMSG, "target" },
		{ S, IN_SIZE, 8, 7, -EBADMSG, "target" },
	};
	struct fb_tree tree = FB_TREE_INIT, got;

	(void)state;
	small_tree(&tree);
	for (size_t i = 0; i < FB_ARRAY_SIZE(table); i++) {
		struct fb_err err = FB_ERR_INIT;
		struct encoded e;
		uint8_t value[8];

		encode(&tree, &e);
		fb_put_le64(value, table[i].value);
		memcpy(e.meta + e.layout.places[table[i].inode].offset + table[i].at,
		       value, table[i].size);
		assert_int_equal(decode(&e, &got, &err), table[i].ret);
		if (!strstr(err.text, table[i].text))
			print_error("%zu: %s\n", i, err.text);
		assert_non_null(strstr(err.text, table[i].text));
		encoded_free(&e);
	}
	fb_tree_free(&tree);
}

/* Entries of the root: ".", "..", "a", "d", "s". */
static void test_hostile_entries(void **state)
{
	static const struct {
		size_t entry, at;
		unsigned int size;
		uint64_t value;
		const char *text;
	} table[] = {
		{ 0, DE_NAME, 2, 0, "no entries" },
		{ 0, DE_NAME, 2, 61, "no entries" },
		{ 0, DE_NAME, 2, 60 * 40, "no entries" },
		{ 0, DE_NID, 8, 4, "leads elsewhere" },
		{ 1, DE_NID, 8, 4, "leads elsewhere" },
		{ 2, DE_NID, 8, 1 << 20, "no such inode" },
		{ 2, DE_NID, 8, UINT64_MAX, "no such inode" },
		{ 2, DE_TYPE, 1, 7, "type is not" },
		{ 2, DE_NAME, 2, 59, "out of bounds" },
		{ 2, DE_NAME, 2, 64, "two names" },
		{ 2, DE_NAME, 2, UINT16_MAX, "out of bounds" },
		{ 5, 0, 1, 'x', "two names" },	  /* the name of "." */
		{ 5, 3, 1, '/', "not possible" }, /* the name of "a" */
		{ 5, 3, 1, 'e', "not in order" },
		{ 5, 0, 1, '-', "two names" },
	};
	struct fb_tree tree = FB_TREE_INIT, got;

	(void)state;
	small_tree(&tree);
	for (size_t i = 0; i < FB_ARRAY_SIZE(table); i++) {
		struct fb_err err = FB_ERR_INIT;
		struct encoded e;
		uint8_t value[8];

		encode(&tree, &e);
		fb_put_le64(value, table[i].value);
		memcpy(e.meta + INODE_SIZE + table[i].entry * DIRENT_SIZE + table[i].at,
		       value, table[i].size);
		assert_int_equal(decode(&e, &got, &err), -EBADMSG);
		if (!strstr(err.text, table[i].text))
			print_error("%zu: %s\n", i, err.text);
		assert_non_null(strstr(err.text, table[i].text));
		encoded_free(&e);
	}
	fb_tree_free(&tree);
}

/* "d" twice: a directory must have one parent. */
static void test_directory_loop(void **state)
{
	struct fb_tree tree = FB_TREE_INIT, got;
	struct fb_err err = FB_ERR_INIT;
	struct encoded e;
	uint8_t *root;

	(void)state;
	small_tree(&tree);
	encode(&tree, &e);
	root = e.meta + INODE_SIZE;
	memcpy(root + 4 * DIRENT_SIZE + DE_NID, root + 3 * DIRENT_SIZE + DE_NID, 8);
	root[4 * DIRENT_SIZE + DE_TYPE] = 2;
	assert_int_equal(decode(&e, &got, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "two names"));
	fb_put_le64(root + 4 * DIRENT_SIZE + DE_NID, 0);
	assert_int_equal(decode(&e, &got, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "two names"));
	encoded_free(&e);
	fb_tree_free(&tree);
}

/* Cut off anywhere, and every single byte changed: no crash, no leak. */
static void test_hostile_bytes(void **state)
{
	struct fb_tree tree = FB_TREE_INIT, got;
	struct encoded e;

	(void)state;
	small_tree(&tree);
	encode(&tree, &e);
	for (size_t cut = 0; cut < 700; cut++) {
		uint8_t *exact = malloc(cut + 1);

		memcpy(exact, e.meta, cut);
		if (!fb_erofs_decode(exact, cut, &e.super, &got, NULL, NULL))
			fb_tree_free(&got);
		free(exact);
	}
	for (size_t at = 0; at < 700; at++) {
		for (unsigned int v = 1; v < 256; v = v * 2 + 1) {
			e.meta[at] ^= (uint8_t)v;
			if (!decode(&e, &got, NULL))
				fb_tree_free(&got);
			e.meta[at] ^= (uint8_t)v;
		}
	}
	encoded_free(&e);
	fb_tree_free(&tree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_super),
		cmocka_unit_test(test_super_foreign),
		cmocka_unit_test(test_layout_rules),
		cmocka_unit_test(test_chunk_bits),
		cmocka_unit_test(test_fit_extents),
		cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_directory_blocks),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_hostile_fields),
		cmocka_unit_test(test_hostile_entries),
		cmocka_unit_test(test_directory_loop),
		cmocka_unit_test(test_hostile_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
