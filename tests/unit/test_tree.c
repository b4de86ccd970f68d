/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/stat.h>

#include "base/tree.h"
#include "base/util.h"

static uint32_t add(struct fb_tree *tree, uint32_t parent, const char *name,
		    mode_t mode)
{
	struct fb_inode *d;
	uint32_t inode;

	assert_int_equal(fb_tree_add(tree, &inode), 0);
	tree->inodes[inode].mode = mode;
	if (!inode)
		return 0;
	d = &tree->inodes[parent];
	d->entries = reallocarray(d->entries, d->entry_count + 1, sizeof(*d->entries));
	assert_non_null(d->entries);
	d->entries[d->entry_count].name = strdup(name);
	d->entries[d->entry_count].inode = inode;
	tree->inodes[inode].parent = parent;
	tree->inodes[inode].name = (uint32_t)d->entry_count++;
	return inode;
}

static void paths_and_lookup(void **state)
{
	struct fb_tree tree = FB_TREE_INIT;
	uint32_t srv, b, high, file;
	char *path;

	(void)state;
	assert_int_equal(fb_tree_lookup(&tree, "/"), FB_INODE_NONE);
	add(&tree, 0, "", S_IFDIR | 0755);
	srv = add(&tree, 0, "srv", S_IFDIR | 0755);
	b = add(&tree, srv, "b", S_IFDIR | 0755);
	/* 0xff sorts behind letters only when compared as unsigned. */
	high = add(&tree, srv, "\xff", S_IFREG | 0644);
	add(&tree, srv, "a", S_IFREG | 0644);
	file = add(&tree, b, "f", S_IFREG | 0644);
	tree.inodes[file].extents = calloc(1, sizeof(struct fb_extent));
	tree.inodes[file].extent_count = 1;
	tree.inodes[file].extents[0].length = 17;

	path = fb_tree_path(&tree, file);
	assert_string_equal(path, "/srv/b/f");
	free(path);
	path = fb_tree_path(&tree, 0);
	assert_string_equal(path, "/");
	free(path);

	fb_tree_sort(&tree, srv);
	assert_string_equal(tree.inodes[srv].entries[0].name, "a");
	assert_int_equal(fb_tree_lookup(&tree, "/srv/\xff"), high);
	assert_int_equal(fb_tree_lookup(&tree, "/srv/b/f"), file);
	assert_int_equal(fb_tree_lookup(&tree, "//srv//b/"), b);
	assert_int_equal(fb_tree_lookup(&tree, "/srv/c"), FB_INODE_NONE);
	assert_int_equal(fb_tree_lookup(&tree, "/srv/a/x"), FB_INODE_NONE);
	fb_tree_free(&tree);
	assert_int_equal(tree.inode_count, 0);
}

static void totals(void **state)
{
	struct fb_tree tree = FB_TREE_INIT;
	struct fb_tree_totals t;
	uint32_t file;

	(void)state;
	add(&tree, 0, "", S_IFDIR | 0755);
	add(&tree, 0, "fifo", S_IFIFO | 0644);
	file = add(&tree, 0, "file", S_IFREG | 0644);
	tree.inodes[file].extents = calloc(2, sizeof(struct fb_extent));
	tree.inodes[file].extent_count = 2;
	tree.inodes[file].extents[0].length = 4096;
	tree.inodes[file].extents[1].length = 5;
	fb_tree_count(&tree, &t);
	assert_int_equal(t.directories, 1);
	assert_int_equal(t.files, 1);
	assert_int_equal(t.others, 1);
	assert_int_equal(t.data_bytes, 4101);
	fb_tree_free(&tree);
}

#define KIB 1024ull
#define MIB (1024 * KIB)

/* What huge pages take for one file. */
static void huge_bytes(void **state)
{
	static const struct {
		uint64_t size;
		struct fb_extent extents[3];
		uint64_t bytes;
	} table[] = {
		{ 0, { { 0 } }, 0 },
		{ 5, { { 0, 5, 0 } }, 5 },
		{ 2 * MIB, { { 0, 2 * MIB, 0 } }, 2 * MIB },
		{ 3 * MIB, { { 0, 3 * MIB, 0 } }, 3 * MIB },
		/* one block in a hole */
		{ 8 * MIB, { { 5 * MIB, 4 * KIB, 0 } }, 2 * MIB },
		{ 3 * MIB, { { 2 * MIB, 4 * KIB, 0 } }, 4 * KIB },
		/* two in one part, one in the next */
		{ 8 * MIB,
		  { { 0, 4 * KIB, 0 }, { MIB, 4 * KIB, 0 }, { 3 * MIB, MIB, 0 } },
		  4 * MIB },
		/* an extent in two parts, and one at the end that is no whole part */
		{ 5 * MIB, { { MIB, 2 * MIB, 0 }, { 4 * MIB, MIB, 0 } }, 5 * MIB },
		{ 5 * MIB, { { 3 * MIB, 2 * MIB, 0 } }, 3 * MIB },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(table); i++) {
		struct fb_extent extents[3];
		struct fb_inode inode = { .mode = S_IFREG, .size = table[i].size };
		const struct fb_tree tree = { &inode, 1, 1, NULL, 0 };

		memcpy(extents, table[i].extents, sizeof(extents));
		inode.extents = extents;
		while (inode.extent_count < 3 && extents[inode.extent_count].length)
			inode.extent_count++;
		assert_int_equal(fb_tree_huge_bytes(&tree), table[i].bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_and_lookup),
		cmocka_unit_test(totals),
		cmocka_unit_test(huge_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
