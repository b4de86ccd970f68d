/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "base/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"

static void inode_free(struct fb_inode *inode)
{
	for (size_t i = 0; i < inode->xattr_count; i++) {
		free(inode->xattrs[i].name);
		free(inode->xattrs[i].value);
	}
	free(inode->xattrs);
	free(inode->target);
	free(inode->extents);
	for (size_t i = 0; i < inode->entry_count; i++)
		free(inode->entries[i].name);
	free(inode->entries);
}

void fb_tree_free(struct fb_tree *tree)
{
	static const struct fb_tree empty = FB_TREE_INIT;

	for (size_t i = 0; i < tree->inode_count; i++)
		inode_free(&tree->inodes[i]);
	free(tree->inodes);
	for (size_t i = 0; i < tree->state_count; i++) {
		free(tree->states[i].name);
		free(tree->states[i].path);
	}
	free(tree->states);
	*tree = empty;
}

int fb_tree_add(struct fb_tree *tree, uint32_t *inode)
{
	if (tree->inode_count >= FB_INODE_NONE)
		return -EFBIG;
	if (fb_array_grow(&tree->inodes, &tree->inode_capacity,
			  tree->inode_count + 1, sizeof(*tree->inodes)))
		return -ENOMEM;
	memset(&tree->inodes[tree->inode_count], 0, sizeof(*tree->inodes));
	*inode = (uint32_t)tree->inode_count++;
	return 0;
}

static const char *inode_name(const struct fb_tree *tree, uint32_t inode)
{
	const struct fb_inode *i = &tree->inodes[inode];

	return tree->inodes[i->parent].entries[i->name].name;
}

char *fb_tree_path(const struct fb_tree *tree, uint32_t inode)
{
	size_t length = 0;
	char *path, *p;

	for (uint32_t i = inode; i; i = tree->inodes[i].parent)
		length += strlen(inode_name(tree, i)) + 1;
	if (!length)
		return strdup("/");
	path = malloc(length + 1);
	if (!path)
		return NULL;
	p = path + length;
	*p = '\0';
	for (uint32_t i = inode; i; i = tree->inodes[i].parent) {
		size_t n = strlen(inode_name(tree, i));

		p -= n;
		memcpy(p, inode_name(tree, i), n);
		*--p = '/';
	}
	return path;
}

static int compare_names(const void *a, const void *b)
{
	const struct fb_dirent *x = a, *y = b;

	/* strcmp compares as unsigned char, like EROFS does. */
	return strcmp(x->name, y->name);
}

void fb_tree_sort(struct fb_tree *tree, uint32_t directory)
{
	struct fb_inode *d = &tree->inodes[directory];

	if (d->entry_count)
		qsort(d->entries, d->entry_count, sizeof(*d->entries),
		      compare_names);
}

uint32_t fb_tree_lookup(const struct fb_tree *tree, const char *path)
{
	uint32_t at = 0;

	if (!tree->inode_count)
		return FB_INODE_NONE;
	for (;;) {
		const struct fb_inode *d = &tree->inodes[at];
		char name[256];
		struct fb_dirent key = { name, 0 }, *found;
		size_t n;

		path += strspn(path, "/");
		n = strcspn(path, "/");
		if (!n)
			return at;
		if (n >= sizeof(name) || !d->entry_count)
			return FB_INODE_NONE;
		memcpy(name, path, n);
		name[n] = '\0';
		found = bsearch(&key, d->entries, d->entry_count,
				sizeof(*d->entries), compare_names);
		if (!found)
			return FB_INODE_NONE;
		at = found->inode;
		path += n;
	}
}

void fb_tree_count(const struct fb_tree *tree, struct fb_tree_totals *totals)
{
	struct fb_tree_totals t = { 0, 0, 0, 0 };

	for (size_t i = 0; i < tree->inode_count; i++) {
		const struct fb_inode *inode = &tree->inodes[i];

		if (S_ISDIR(inode->mode))
			t.directories++;
		else if (S_ISREG(inode->mode))
			t.files++;
		else
			t.others++;
		for (size_t e = 0; e < inode->extent_count; e++)
			t.data_bytes += inode->extents[e].length;
	}
	*totals = t;
}

#define HUGE (2 * FB_MIB)

static uint64_t file_huge_bytes(const struct fb_inode *file)
{
	uint64_t whole = fb_align_down(file->size, HUGE), bytes = 0;
	uint64_t counted = 0; /* all below this */

	for (size_t e = 0; e < file->extent_count; e++) {
		const struct fb_extent *x = &file->extents[e];
		uint64_t start = fb_align_down(x->offset, HUGE);
		uint64_t end = fb_align_up(x->offset + x->length, HUGE);

		if (start < counted)
			start = counted;
		if (end > whole)
			end = whole;
		if (end > start) {
			bytes += end - start;
			counted = end;
		}
		/* What lies behind the last whole part stays small pages. */
		if (x->offset + x->length > whole)
			bytes += x->offset + x->length -
				 (x->offset > whole ? x->offset : whole);
	}
	return bytes;
}

uint64_t fb_tree_huge_bytes(const struct fb_tree *tree)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < tree->inode_count; i++)
		bytes += file_huge_bytes(&tree->inodes[i]);
	return bytes;
}
