/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reading half of erofs.h. Nothing in the buffer is trusted: `meta` may be
 * anything, and the work stays proportional to its size.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

#include "format/erofs.h"
#include "format/erofs_disk.h"

struct decoder {
	const uint8_t *meta;
	size_t size;
	uint32_t meta_block; /* data lies below it */
	uint32_t *numbers;   /* inode number by nid, FB_INODE_NONE not seen */
	size_t number_count;
	/*
	 * Bytes of xattrs, maps, links and directories that are still
	 * possible: an image that uses the same bytes for many inodes runs out.
	 */
	uint64_t budget;
	struct fb_tree tree;
	uint64_t *nids;
	size_t nid_capacity;
	struct fb_err *err;
};

static int bad(struct decoder *d, uint64_t nid, const char *what)
{
	return fb_err_set(d->err, EBADMSG, "damaged metadata: inode %llu: %s",
			  (unsigned long long)nid, what);
}

static int foreign(struct decoder *d, uint64_t nid, const char *what)
{
	return fb_err_set(d->err, EOPNOTSUPP, "inode %llu: %s: not written by fastboot",
			  (unsigned long long)nid, what);
}

static int no_memory(struct decoder *d)
{
	return fb_err_sys(d->err, ENOMEM, "metadata of %zu bytes", d->size);
}

/* Are `length` bytes at `offset` in the metadata, and not yet used up? */
static bool take(struct decoder *d, uint64_t offset, uint64_t length)
{
	if (offset > d->size || length > d->size - offset || length > d->budget)
		return false;
	d->budget -= length;
	return true;
}

/* ---- one inode ---------------------------------------------------------------- */

/* What is behind the fixed fields of an inode. */
struct raw {
	uint64_t nid;
	uint64_t offset; /* of the inode in the metadata */
	uint64_t behind; /* of what follows the xattrs */
	unsigned int layout;
	uint32_t value; /* i_u */
	uint32_t xattr_size;
};

static const struct fb_erofs_xattr_prefix *prefix_by_index(uint8_t index)
{
	for (size_t i = 0; i < FB_ARRAY_SIZE(fb_erofs_xattr_prefixes); i++)
		if (fb_erofs_xattr_prefixes[i].index == index)
			return &fb_erofs_xattr_prefixes[i];
	return NULL;
}

static int decode_xattr(struct decoder *d, const struct raw *r, const uint8_t *at,
			size_t left, struct fb_xattr *x, size_t *used)
{
	const struct fb_erofs_xattr_prefix *p;
	size_t length, value;

	if (left < XATTR_ENTRY)
		return bad(d, r->nid, "an extended attribute is cut off");
	length = at[XE_NAME_LENGTH];
	value = fb_le16(at + XE_VALUE_SIZE);
	p = prefix_by_index(at[XE_INDEX]);
	if (!p)
		return foreign(d, r->nid, "an extended attribute's namespace");
	*used = (size_t)fb_erofs_xattr_entry_size(length, value);
	if (*used > left || p->whole != !length || memchr(at + XATTR_ENTRY, 0, length))
		return bad(d, r->nid, "an extended attribute is not possible");
	x->name = fb_asprintf("%s%.*s", p->text, (int)length,
			      (const char *)at + XATTR_ENTRY);
	x->value = value ? malloc(value) : NULL;
	x->size = value;
	if (!x->name || (value && !x->value))
		return no_memory(d);
	if (value)
		memcpy(x->value, at + XATTR_ENTRY + length, value);
	return 0;
}

static int decode_xattrs(struct decoder *d, const struct raw *r, struct fb_inode *in)
{
	const uint8_t *at = d->meta + r->offset + INODE_SIZE;
	size_t left, used = 0, capacity = 0;

	if (!r->xattr_size)
		return 0;
	if (!take(d, r->offset + INODE_SIZE, r->xattr_size))
		return bad(d, r->nid, "its extended attributes are out of bounds");
	if (at[XATTR_SHARED_AT])
		return foreign(d, r->nid, "shared extended attributes");
	at += XATTR_HEADER;
	for (left = r->xattr_size - XATTR_HEADER; left; left -= used, at += used) {
		struct fb_xattr *x;
		int ret;

		if (fb_array_grow(&in->xattrs, &capacity, in->xattr_count + 1,
				  sizeof(*x)))
			return no_memory(d);
		x = &in->xattrs[in->xattr_count++];
		memset(x, 0, sizeof(*x));
		ret = decode_xattr(d, r, at, left, x, &used);
		if (ret)
			return ret;
	}
	return 0;
}

/* Are `blocks` blocks at `block` in the data area? */
static bool data_blocks_ok(const struct decoder *d, uint64_t block, uint64_t blocks)
{
	return block >= FB_EROFS_FIRST_BLOCK && block <= d->meta_block &&
	       blocks <= d->meta_block - block;
}

static int decode_plain(struct decoder *d, const struct raw *r, struct fb_inode *in)
{
	if (!in->size)
		return 0;
	if (!data_blocks_ok(d, r->value, fb_erofs_blocks(in->size)))
		return bad(d, r->nid, "its data is out of bounds");
	in->extents = malloc(sizeof(*in->extents));
	if (!in->extents)
		return no_memory(d);
	in->extents[0] = (struct fb_extent){ 0, in->size, r->value };
	in->extent_count = 1;
	return 0;
}

static int add_extent(struct decoder *d, struct fb_inode *in, size_t *capacity,
		      struct fb_extent e)
{
	struct fb_extent *last =
		in->extent_count ? &in->extents[in->extent_count - 1] : NULL;

	if (last && last->offset + last->length == e.offset &&
	    last->block + last->length / FB_EROFS_BLOCK == e.block) {
		last->length += e.length;
		return 0;
	}
	if (fb_array_grow(&in->extents, capacity, in->extent_count + 1, sizeof(e)))
		return no_memory(d);
	in->extents[in->extent_count++] = e;
	return 0;
}

static int decode_map(struct decoder *d, const struct raw *r, struct fb_inode *in,
		      uint64_t chunk, uint64_t count)
{
	const uint8_t *map = d->meta + r->behind;
	size_t capacity = 0;

	for (uint64_t i = 0; i < count; i++) {
		uint32_t block = fb_le32(map + 4 * i);
		struct fb_extent e = { i * chunk, in->size - i * chunk, block };
		int ret;

		if (block == CHUNK_HOLE)
			continue;
		if (e.length > chunk)
			e.length = chunk;
		if (!data_blocks_ok(d, block, fb_erofs_blocks(e.length)))
			return bad(d, r->nid, "a chunk is out of bounds");
		ret = add_extent(d, in, &capacity, e);
		if (ret)
			return ret;
	}
	return 0;
}

static int decode_chunked(struct decoder *d, const struct raw *r, struct fb_inode *in)
{
	uint64_t chunk = (uint64_t)FB_EROFS_BLOCK << (r->value & CHUNK_BITS_MASK);
	uint64_t count = in->size / chunk + !!(in->size % chunk);

	if ((r->value & ~CHUNK_BITS_MASK) & 0xffff)
		return foreign(d, r->nid, "its chunk format");
	if (count > d->size || !take(d, r->behind, 4 * count))
		return bad(d, r->nid, "its block map is out of bounds");
	return decode_map(d, r, in, chunk, count);
}

static int decode_file(struct decoder *d, const struct raw *r, struct fb_inode *in)
{
	if (in->size > INT64_MAX)
		return bad(d, r->nid, "its size is impossible");
	if (r->layout == LAYOUT_PLAIN)
		return decode_plain(d, r, in);
	if (r->layout == LAYOUT_CHUNKED)
		return decode_chunked(d, r, in);
	return foreign(d, r->nid, "a file with inline data");
}

/* The content of a directory or link; NULL: out of bounds. */
static const uint8_t *content(struct decoder *d, const struct raw *r, uint64_t size)
{
	uint64_t at = r->behind;

	if (r->layout == LAYOUT_PLAIN) {
		if (r->value < d->meta_block)
			return NULL;
		at = (uint64_t)(r->value - d->meta_block) * FB_EROFS_BLOCK;
	} else if (r->layout != LAYOUT_INLINE ||
		   at % FB_EROFS_BLOCK + size > FB_EROFS_BLOCK) {
		return NULL;
	}
	return take(d, at, size) ? d->meta + at : NULL;
}

static int decode_link(struct decoder *d, const struct raw *r, struct fb_inode *in)
{
	const uint8_t *text = NULL;

	if (in->size && in->size <= 4095)
		text = content(d, r, in->size);
	if (!text || memchr(text, 0, in->size))
		return bad(d, r->nid, "its target is out of bounds");
	in->target = strndup((const char *)text, in->size);
	return in->target ? 0 : no_memory(d);
}

/* new_decode_dev() of include/linux/kdev_t.h */
static dev_t decode_device(uint32_t v)
{
	return makedev((v & 0xfff00) >> 8, (v & 0xff) | ((v >> 12) & 0xfff00));
}

static int decode_by_type(struct decoder *d, const struct raw *r, struct fb_inode *in)
{
	switch (in->mode & S_IFMT) {
	case S_IFREG:
		return decode_file(d, r, in);
	case S_IFLNK:
		return decode_link(d, r, in);
	case S_IFCHR:
	case S_IFBLK:
		in->rdev = decode_device(r->value);
		return 0;
	case S_IFDIR: /* its entries when its turn comes */
	case S_IFIFO:
	case S_IFSOCK:
		return 0;
	default:
		return bad(d, r->nid, "unknown type");
	}
}

static int read_raw(struct decoder *d, uint64_t nid, struct raw *r)
{
	const uint8_t *at = d->meta + nid * FB_EROFS_NID_SIZE;
	uint32_t xattrs = fb_le16(at + IN_XATTR_COUNT);
	uint16_t format = fb_le16(at + IN_FORMAT);

	r->nid = nid;
	r->offset = nid * FB_EROFS_NID_SIZE;
	r->layout = format >> INODE_LAYOUT_BIT;
	r->value = fb_le32(at + IN_UNION);
	r->xattr_size = xattrs ? XATTR_HEADER + 4 * (xattrs - 1) : 0;
	r->behind = r->offset + INODE_SIZE + r->xattr_size;
	if (!(format & INODE_EXTENDED) ||
	    (r->layout != LAYOUT_PLAIN && r->layout != LAYOUT_INLINE &&
	     r->layout != LAYOUT_CHUNKED))
		return foreign(d, nid, "its layout");
	return 0;
}

static int decode_inode(struct decoder *d, uint64_t nid, struct fb_inode *in)
{
	const uint8_t *at = d->meta + nid * FB_EROFS_NID_SIZE;
	struct raw r;
	int ret = read_raw(d, nid, &r);

	if (ret)
		return ret;
	in->mode = fb_le16(at + IN_MODE);
	in->size = fb_le64(at + IN_SIZE);
	in->uid = fb_le32(at + IN_UID);
	in->gid = fb_le32(at + IN_GID);
	in->mtime_sec = (int64_t)fb_le64(at + IN_MTIME);
	in->mtime_nsec = fb_le32(at + IN_MTIME_NSEC);
	in->nlink = fb_le32(at + IN_NLINK);
	if (in->mtime_nsec > 999999999)
		return bad(d, nid, "its mtime is impossible");
	ret = decode_xattrs(d, &r, in);
	if (!ret)
		ret = decode_by_type(d, &r, in);
	return ret;
}

/* The number of the inode at `nid`, decoded if it is new. */
static int get_inode(struct decoder *d, uint64_t nid, uint32_t *number, bool *added)
{
	if (nid >= d->number_count || nid * FB_EROFS_NID_SIZE + INODE_SIZE > d->size)
		return bad(d, nid, "there is no such inode");
	*added = d->numbers[nid] == FB_INODE_NONE;
	*number = d->numbers[nid];
	if (!*added)
		return 0;
	if (fb_tree_add(&d->tree, number) ||
	    fb_array_grow(&d->nids, &d->nid_capacity, d->tree.inode_count,
			  sizeof(*d->nids)))
		return no_memory(d);
	d->numbers[nid] = *number;
	d->nids[*number] = nid;
	return decode_inode(d, nid, &d->tree.inodes[*number]);
}

/* ---- directories ---------------------------------------------------------------- */

struct entry {
	const char *name; /* not terminated */
	size_t length;
	uint64_t nid;
	uint8_t type;
};

/* A directory while it is read. */
struct walk {
	uint32_t dir;
	uint64_t nid;
	struct entry last; /* the entry before, for the order; length 0: none */
	unsigned int dots; /* how many of "." and ".." were there */
	size_t capacity;
};

static int compare(const struct entry *a, const struct entry *b)
{
	size_t n = a->length < b->length ? a->length : b->length;
	int ret = memcmp(a->name, b->name, n);

	if (ret)
		return ret;
	return a->length < b->length ? -1 : a->length > b->length;
}

static bool is_dots(const struct entry *e, size_t length)
{
	return e->length == length && !memcmp(e->name, "..", length);
}

static int check_dots(struct decoder *d, struct walk *w, uint64_t nid, uint64_t want)
{
	w->dots++;
	if (nid != want)
		return bad(d, w->nid, "\".\" or \"..\" leads elsewhere");
	return 0;
}

static int append(struct decoder *d, struct walk *w, const struct entry *e,
		  uint32_t child)
{
	struct fb_inode *dir = &d->tree.inodes[w->dir];
	char *name;

	if (fb_array_grow(&dir->entries, &w->capacity, dir->entry_count + 1,
			  sizeof(*dir->entries)))
		return no_memory(d);
	name = strndup(e->name, e->length);
	if (!name)
		return no_memory(d);
	dir->entries[dir->entry_count++] = (struct fb_dirent){ name, child };
	return 0;
}

static int add_entry(struct decoder *d, struct walk *w, const struct entry *e)
{
	struct fb_inode *in;
	uint32_t child;
	bool added;
	int ret = get_inode(d, e->nid, &child, &added);

	if (ret)
		return ret;
	in = &d->tree.inodes[child];
	if (fb_erofs_file_type(in->mode) != e->type)
		return bad(d, e->nid, "its type is not the directory entry's");
	if (!added && S_ISDIR(in->mode))
		return bad(d, e->nid, "a directory with two names");
	if (added) {
		in->parent = w->dir;
		in->name = (uint32_t)d->tree.inodes[w->dir].entry_count;
	}
	return append(d, w, e, child);
}

static int decode_entry(struct decoder *d, struct walk *w, const struct entry *e)
{
	if (!e->length || e->length > FB_EROFS_NAME_MAX ||
	    memchr(e->name, 0, e->length) || memchr(e->name, '/', e->length))
		return bad(d, w->nid, "a name in it is not possible");
	if (w->last.length && compare(&w->last, e) >= 0)
		return bad(d, w->nid, "its names are not in order");
	w->last = *e;
	if (is_dots(e, 1))
		return check_dots(d, w, e->nid, w->nid);
	if (is_dots(e, 2))
		return check_dots(d, w, e->nid, d->nids[d->tree.inodes[w->dir].parent]);
	return add_entry(d, w, e);
}

static int decode_dir_block(struct decoder *d, struct walk *w, const uint8_t *block,
			    size_t size)
{
	size_t first = size < DIRENT_SIZE ? 0 : fb_le16(block + DE_NAME);

	if (!first || first % DIRENT_SIZE || first >= size)
		return bad(d, w->nid, "a block of it has no entries");
	for (size_t i = 0; i < first; i += DIRENT_SIZE) {
		const uint8_t *de = block + i;
		size_t at = fb_le16(de + DE_NAME), end = size;
		struct entry e = { NULL, 0, fb_le64(de + DE_NID), de[DE_TYPE] };
		int ret;

		if (i + DIRENT_SIZE < first)
			end = fb_le16(de + DIRENT_SIZE + DE_NAME);
		if (at < first || at >= end || end > size)
			return bad(d, w->nid, "a name in it is out of bounds");
		e.name = (const char *)block + at;
		e.length = end - at;
		if (i + DIRENT_SIZE == first)
			e.length = strnlen(e.name, e.length);
		ret = decode_entry(d, w, &e);
		if (ret)
			return ret;
	}
	return 0;
}

static int decode_directory(struct decoder *d, uint32_t dir)
{
	struct walk w = { .dir = dir, .nid = d->nids[dir] };
	uint64_t size = d->tree.inodes[dir].size;
	const uint8_t *at = NULL;
	struct raw r;
	int ret = read_raw(d, w.nid, &r);

	if (ret)
		return ret;
	if (size)
		at = content(d, &r, size);
	if (!at)
		return bad(d, w.nid, "its entries are out of bounds");
	for (uint64_t done = 0; done < size; done += FB_EROFS_BLOCK) {
		size_t n = size - done < FB_EROFS_BLOCK ? size - done : FB_EROFS_BLOCK;

		ret = decode_dir_block(d, &w, at + done, n);
		if (ret)
			return ret;
	}
	if (w.dots != 2)
		return bad(d, w.nid, "\".\" or \"..\" is missing");
	d->tree.inodes[dir].size = 0;
	return 0;
}

/* ---- the whole ---------------------------------------------------------------- */

static int walk_tree(struct decoder *d, uint64_t root_nid)
{
	uint32_t root;
	bool added;
	int ret = get_inode(d, root_nid, &root, &added);

	if (ret)
		return ret;
	if (!S_ISDIR(d->tree.inodes[root].mode))
		return bad(d, root_nid, "the root is not a directory");
	/* The array is the queue: a directory adds what it names at the end. */
	for (size_t i = 0; i < d->tree.inode_count; i++) {
		if (!S_ISDIR(d->tree.inodes[i].mode))
			continue;
		ret = decode_directory(d, (uint32_t)i);
		if (ret)
			return ret;
	}
	return 0;
}

int fb_erofs_decode(const uint8_t *meta, size_t size,
		    const struct fb_erofs_super *super, struct fb_tree *tree,
		    uint64_t **nids, struct fb_err *err)
{
	struct decoder d = {
		.meta = meta,
		.size = size,
		.meta_block = super->meta_block,
		.number_count = size / FB_EROFS_NID_SIZE,
		.budget = size,
		.tree = FB_TREE_INIT,
		.err = err,
	};
	int ret;

	d.numbers = malloc(d.number_count * sizeof(*d.numbers) + 1);
	if (!d.numbers)
		return no_memory(&d);
	memset(d.numbers, 0xff, d.number_count * sizeof(*d.numbers));
	ret = walk_tree(&d, super->root_nid);
	free(d.numbers);
	if (ret || !nids)
		free(d.nids);
	if (ret) {
		fb_tree_free(&d.tree);
		return ret;
	}
	if (nids)
		*nids = d.nids;
	*tree = d.tree;
	return 0;
}
