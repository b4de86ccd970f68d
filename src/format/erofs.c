/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "format/erofs.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

#include "format/erofs_disk.h"
#include "format/header.h"

/* ---- superblock ------------------------------------------------------------ */

static uint32_t super_checksum(const uint8_t *block)
{
	uint8_t copy[FB_EROFS_BLOCK - FB_EROFS_SUPER_OFFSET];

	memcpy(copy, block + FB_EROFS_SUPER_OFFSET, sizeof(copy));
	fb_put_le32(copy + SB_CHECKSUM, 0);
	return fb_crc32c(~0u, copy, sizeof(copy));
}

void fb_erofs_super_encode(const struct fb_erofs_super *super,
			   uint8_t block[FB_EROFS_BLOCK])
{
	uint8_t *sb = block + FB_EROFS_SUPER_OFFSET;

	memset(sb, 0, FB_EROFS_BLOCK - FB_EROFS_SUPER_OFFSET);
	fb_put_le32(sb + SB_MAGIC, FB_EROFS_MAGIC);
	fb_put_le32(sb + SB_COMPAT, COMPAT_SB_CHECKSUM | COMPAT_MTIME);
	sb[SB_BLOCK_BITS] = FB_EROFS_BLOCK_BITS;
	fb_put_le16(sb + SB_ROOT_NID, super->root_nid);
	fb_put_le64(sb + SB_INODES, super->inodes);
	fb_put_le64(sb + SB_BUILD_TIME, (uint64_t)super->build_sec);
	fb_put_le32(sb + SB_BUILD_NSEC, super->build_nsec);
	fb_put_le32(sb + SB_BLOCKS, super->blocks);
	fb_put_le32(sb + SB_META_BLOCK, super->meta_block);
	memcpy(sb + SB_UUID, super->uuid, sizeof(super->uuid));
	memcpy(sb + SB_VOLUME_NAME, "fastboot", 8);
	fb_put_le32(sb + SB_INCOMPAT, INCOMPAT_CHUNKED);
	fb_put_le32(sb + SB_CHECKSUM, super_checksum(block));
}

int fb_erofs_super_decode(const uint8_t block[FB_EROFS_BLOCK],
			  struct fb_erofs_super *super, struct fb_err *err)
{
	const uint8_t *sb = block + FB_EROFS_SUPER_OFFSET;

	if (fb_le32(sb + SB_MAGIC) != FB_EROFS_MAGIC)
		return fb_err_set(err, EINVAL, "no EROFS superblock");
	if (!(fb_le32(sb + SB_COMPAT) & COMPAT_SB_CHECKSUM) ||
	    fb_le32(sb + SB_CHECKSUM) != super_checksum(block))
		return fb_err_set(err, EBADMSG,
				  "the EROFS superblock is damaged: its checksum is "
				  "wrong");
	if (sb[SB_BLOCK_BITS] != FB_EROFS_BLOCK_BITS || sb[SB_EXT_SLOTS] ||
	    sb[SB_DIR_BLOCK_BITS] || fb_le16(sb + SB_EXTRA_DEVICES) ||
	    (fb_le32(sb + SB_INCOMPAT) & ~INCOMPAT_CHUNKED))
		return fb_err_set(err, EOPNOTSUPP,
				  "the EROFS uses features that fastboot never writes");
	super->root_nid = fb_le16(sb + SB_ROOT_NID);
	super->inodes = fb_le64(sb + SB_INODES);
	super->build_sec = (int64_t)fb_le64(sb + SB_BUILD_TIME);
	super->build_nsec = fb_le32(sb + SB_BUILD_NSEC);
	super->blocks = fb_le32(sb + SB_BLOCKS);
	super->meta_block = fb_le32(sb + SB_META_BLOCK);
	memcpy(super->uuid, sb + SB_UUID, sizeof(super->uuid));
	return 0;
}

/* ---- extents and chunks ---------------------------------------------------- */

#define MAP_SMALL   FB_MIB	 /* an exact map up to this is always taken */
#define MAP_ENTRIES (1ull << 28) /* 1 GiB of map */

static uint64_t chunk_count(uint64_t size, unsigned int bits)
{
	uint64_t chunk = (uint64_t)FB_EROFS_BLOCK << bits;

	return size / chunk + !!(size % chunk);
}

/* log2 of the largest chunk, in blocks, that no extent begins or ends in. */
static unsigned int exact_chunk_bits(const struct fb_inode *inode)
{
	uint64_t edges = 1ull << CHUNK_BITS_MAX;

	for (size_t i = 0; i < inode->extent_count; i++) {
		const struct fb_extent *e = &inode->extents[i];

		edges |= e->offset / FB_EROFS_BLOCK;
		if (e->offset + e->length < inode->size)
			edges |= (e->offset + e->length) / FB_EROFS_BLOCK;
	}
	return (unsigned int)__builtin_ctzll(edges);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* `e` rounded out to whole chunks, but not behind the end of the file. */
static struct fb_extent widen(struct fb_extent e, unsigned int bits, uint64_t size)
{
	uint64_t chunk = (uint64_t)FB_EROFS_BLOCK << bits;
	uint64_t end = min_u64(fb_align_up(e.offset + e.length, chunk), size);

	e.offset = fb_align_down(e.offset, chunk);
	e.length = end - e.offset;
	return e;
}

/* Widen and merge extents; returns the bytes. `out` NULL: only count. */
static uint64_t widen_all(struct fb_inode *inode, unsigned int bits,
			  struct fb_extent *out, size_t *count)
{
	struct fb_extent last = { 0, 0, 0 };
	uint64_t bytes = 0;
	size_t n = 0;

	for (size_t i = 0; i < inode->extent_count; i++) {
		struct fb_extent e = widen(inode->extents[i], bits, inode->size);
		uint64_t end = e.offset + e.length;

		if (n && e.offset <= last.offset + last.length) {
			bytes += end - (last.offset + last.length);
			last.length = end - last.offset;
		} else {
			bytes += e.length;
			last = e;
			n++;
		}
		if (out)
			out[n - 1] = last;
	}
	if (count)
		*count = n;
	return bytes;
}

static unsigned int cheapest_chunk_bits(struct fb_inode *inode)
{
	uint64_t best = UINT64_MAX;
	unsigned int bits = 0;

	for (unsigned int b = 0; b <= CHUNK_BITS_MAX; b++) {
		uint64_t cost = 4 * chunk_count(inode->size, b) +
				widen_all(inode, b, NULL, NULL);

		if (cost <= best) {
			best = cost;
			bits = b;
		}
	}
	return bits;
}

int fb_erofs_fit_extents(struct fb_inode *inode)
{
	unsigned int bits = 0;
	size_t count;

	if (!S_ISREG(inode->mode) || !inode->size)
		return 0;
	if (4 * chunk_count(inode->size, exact_chunk_bits(inode)) > MAP_SMALL)
		bits = cheapest_chunk_bits(inode);
	if (inode->extent_count) {
		widen_all(inode, bits, inode->extents, &count);
		inode->extent_count = count;
	}
	if (chunk_count(inode->size, exact_chunk_bits(inode)) > MAP_ENTRIES)
		return -EFBIG;
	return 0;
}

/* ---- what the format can hold ----------------------------------------------- */

/* Record "PATH: TEXT"; returns -error. */
__attribute__((format(printf, 5, 6))) static int refuse(const struct fb_tree *tree,
							size_t inode,
							struct fb_err *err, int error,
							const char *fmt, ...)
{
	fb_autofree char *path = fb_tree_path(tree, (uint32_t)inode);
	fb_autofree char *shown = path ? fb_escape(path, strlen(path)) : NULL;
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return fb_err_set(err, error, "%s: %s", shown ? shown : "?", text);
}

static const struct fb_erofs_xattr_prefix *xattr_prefix(const char *name)
{
	for (size_t i = 0; i < FB_ARRAY_SIZE(fb_erofs_xattr_prefixes); i++) {
		const struct fb_erofs_xattr_prefix *p = &fb_erofs_xattr_prefixes[i];
		size_t n = strlen(p->text);

		if (p->whole ? !strcmp(name, p->text)
			     : !strncmp(name, p->text, n) && name[n])
			return p;
	}
	return NULL;
}

static int check_xattr(const struct fb_tree *tree, size_t inode,
		       const struct fb_xattr *x, uint64_t *size, struct fb_err *err)
{
	const struct fb_erofs_xattr_prefix *p = xattr_prefix(x->name);
	fb_autofree char *shown = fb_escape(x->name, strnlen(x->name, 300));
	size_t rest;

	if (!p)
		return refuse(tree, inode, err, EOPNOTSUPP,
			      "extended attribute %s: EROFS has no such namespace",
			      shown ? shown : "?");
	rest = strlen(x->name) - strlen(p->text);
	if (rest > FB_EROFS_NAME_MAX)
		return refuse(tree, inode, err, ENAMETOOLONG,
			      "extended attribute %s: its name is too long",
			      shown ? shown : "?");
	if (x->size > XATTR_VALUE_MAX)
		return refuse(tree, inode, err, E2BIG,
			      "extended attribute %s has %zu bytes, %u are possible",
			      shown ? shown : "?", x->size, XATTR_VALUE_MAX);
	*size += fb_erofs_xattr_entry_size(rest, x->size);
	return 0;
}

static int check_xattrs(const struct fb_tree *tree, size_t inode, uint32_t *size,
			struct fb_err *err)
{
	const struct fb_inode *in = &tree->inodes[inode];
	uint64_t total = XATTR_HEADER;

	*size = 0;
	if (!in->xattr_count)
		return 0;
	for (size_t i = 0; i < in->xattr_count; i++) {
		int ret = check_xattr(tree, inode, &in->xattrs[i], &total, err);

		if (ret)
			return ret;
	}
	if ((total - XATTR_HEADER) / 4 + 1 > XATTR_COUNT_MAX)
		return refuse(
			tree, inode, err, E2BIG,
			"its extended attributes have %llu bytes, %u are possible",
			(unsigned long long)total,
			XATTR_HEADER + 4 * (XATTR_COUNT_MAX - 1));
	*size = (uint32_t)total;
	return 0;
}

static int check_extents(const struct fb_tree *tree, size_t inode, struct fb_err *err)
{
	const struct fb_inode *in = &tree->inodes[inode];
	uint64_t at = 0;

	if (in->size > INT64_MAX)
		return refuse(tree, inode, err, EFBIG, "its size is impossible");
	for (size_t i = 0; i < in->extent_count; i++) {
		const struct fb_extent *e = &in->extents[i];
		uint64_t end;

		if (!e->length || e->offset < at || e->offset % FB_EROFS_BLOCK ||
		    fb_add_overflow(e->offset, e->length, &end) || end > in->size ||
		    (end % FB_EROFS_BLOCK && end != in->size))
			return refuse(tree, inode, err, EINVAL,
				      "extent %zu is not possible", i);
		at = end;
	}
	return 0;
}

static int check_name(const struct fb_tree *tree, size_t dir, size_t i,
		      struct fb_err *err)
{
	const struct fb_inode *d = &tree->inodes[dir];
	const struct fb_dirent *e = &d->entries[i];
	size_t length = strlen(e->name);

	if (length > FB_EROFS_NAME_MAX)
		return refuse(tree, dir, err, ENAMETOOLONG,
			      "a name of %zu bytes, %u are possible", length,
			      FB_EROFS_NAME_MAX);
	if (!length || strchr(e->name, '/') || !strcmp(e->name, ".") ||
	    !strcmp(e->name, ".."))
		return refuse(tree, dir, err, EINVAL, "entry %zu has no valid name", i);
	if (i && strcmp(d->entries[i - 1].name, e->name) >= 0)
		return refuse(tree, dir, err, EINVAL, "entry %zu is not in order", i);
	return 0;
}

static int check_directory(const struct fb_tree *tree, size_t dir, struct fb_err *err)
{
	const struct fb_inode *d = &tree->inodes[dir];

	for (size_t i = 0; i < d->entry_count; i++) {
		uint32_t child = d->entries[i].inode;
		int ret = check_name(tree, dir, i, err);

		if (ret)
			return ret;
		if (child == 0 || child >= tree->inode_count ||
		    (S_ISDIR(tree->inodes[child].mode) &&
		     tree->inodes[child].parent != dir))
			return refuse(tree, dir, err, EINVAL,
				      "entry %zu names inode %u", i, child);
	}
	return 0;
}

static int check_inode(const struct fb_tree *tree, size_t inode, struct fb_err *err)
{
	const struct fb_inode *in = &tree->inodes[inode];

	if (in->mtime_nsec > 999999999)
		return refuse(tree, inode, err, EINVAL, "its mtime is impossible");
	switch (in->mode & S_IFMT) {
	case S_IFREG:
		return check_extents(tree, inode, err);
	case S_IFDIR:
		return check_directory(tree, inode, err);
	case S_IFLNK:
		if (!in->target || !*in->target || strlen(in->target) > 4095)
			return refuse(tree, inode, err, EINVAL,
				      "a symbolic link needs 1 to 4095 bytes");
		return 0;
	case S_IFCHR:
	case S_IFBLK:
		if (major(in->rdev) > 0xfff || minor(in->rdev) > 0xfffff)
			return refuse(tree, inode, err, EOPNOTSUPP,
				      "device number %u:%u does not fit",
				      major(in->rdev), minor(in->rdev));
		return 0;
	case S_IFIFO:
	case S_IFSOCK:
		return 0;
	default:
		return refuse(tree, inode, err, EINVAL, "unknown type, mode %o",
			      in->mode);
	}
}

/* Every inode but the root is where parent and name say. */
static int check_links(const struct fb_tree *tree, struct fb_err *err)
{
	if (!tree->inode_count || !S_ISDIR(tree->inodes[0].mode))
		return fb_err_set(err, EINVAL, "a tree without a root directory");
	for (size_t i = 1; i < tree->inode_count; i++) {
		const struct fb_inode *in = &tree->inodes[i];
		const struct fb_inode *p = in->parent < tree->inode_count
						   ? &tree->inodes[in->parent]
						   : NULL;

		if (!p || in->name >= p->entry_count || p->entries[in->name].inode != i)
			return fb_err_set(err, EINVAL,
					  "inode %zu is not in its directory", i);
	}
	return 0;
}

/* ---- directories ------------------------------------------------------------ */

/* A directory's entries with "." and ".." where they sort. */
struct names {
	const struct fb_inode *dir;
	uint32_t self;
	size_t next;
	unsigned int dots; /* how many of "." and ".." have been given */
};

static bool names_next(struct names *n, const char **name, uint32_t *inode)
{
	static const char *const dots[] = { ".", ".." };
	const struct fb_inode *d = n->dir;

	if (n->dots < 2 && (n->next == d->entry_count ||
			    strcmp(d->entries[n->next].name, dots[n->dots]) > 0)) {
		*inode = n->dots ? d->parent : n->self;
		*name = dots[n->dots++];
		return true;
	}
	if (n->next == d->entry_count)
		return false;
	*name = d->entries[n->next].name;
	*inode = d->entries[n->next++].inode;
	return true;
}

#define DIRENTS_MAX (FB_EROFS_BLOCK / (DIRENT_SIZE + 1))

struct dir_block {
	const char *names[DIRENTS_MAX];
	uint32_t inodes[DIRENTS_MAX];
	unsigned int count;
	uint32_t used; /* bytes */
};

/* Fill a block with what fits; false when there was nothing left. */
static bool dir_block_fill(struct names *names, struct dir_block *b)
{
	struct names before = *names;
	const char *name;
	uint32_t inode;

	b->count = 0;
	b->used = 0;
	while (names_next(names, &name, &inode)) {
		uint32_t need = DIRENT_SIZE + (uint32_t)strlen(name);

		if (b->used + need > FB_EROFS_BLOCK) {
			*names = before;
			break;
		}
		b->names[b->count] = name;
		b->inodes[b->count++] = inode;
		b->used += need;
		before = *names;
	}
	return b->count;
}

static uint64_t dir_size(const struct fb_tree *tree, uint32_t dir)
{
	struct names names = { &tree->inodes[dir], dir, 0, 0 };
	struct dir_block b;
	uint64_t size = 0;

	while (dir_block_fill(&names, &b))
		size = fb_align_up(size, FB_EROFS_BLOCK) + b.used;
	return size;
}

static void dir_block_encode(const struct fb_tree *tree,
			     const struct fb_erofs_layout *layout,
			     const struct dir_block *b, uint8_t *out)
{
	uint32_t at = b->count * DIRENT_SIZE;

	for (unsigned int i = 0; i < b->count; i++) {
		uint8_t *de = out + i * DIRENT_SIZE;
		size_t length = strlen(b->names[i]);

		fb_put_le64(de + DE_NID, fb_erofs_nid(layout, b->inodes[i]));
		fb_put_le16(de + DE_NAME, (uint16_t)at);
		de[DE_TYPE] = fb_erofs_file_type(tree->inodes[b->inodes[i]].mode);
		memcpy(out + at, b->names[i], length);
		at += (uint32_t)length;
	}
}

static void dir_encode(const struct fb_tree *tree, const struct fb_erofs_layout *layout,
		       uint32_t dir, uint8_t *out)
{
	struct names names = { &tree->inodes[dir], dir, 0, 0 };
	struct dir_block b;

	for (; dir_block_fill(&names, &b); out += FB_EROFS_BLOCK)
		dir_block_encode(tree, layout, &b, out);
}

/* ---- layout ------------------------------------------------------------------ */

static bool one_extent(const struct fb_inode *in)
{
	return in->extent_count == 1 && in->extents[0].offset == 0 &&
	       in->extents[0].length == in->size;
}

static void choose_file(const struct fb_inode *in, struct fb_erofs_place *p)
{
	p->size = in->size;
	p->layout = LAYOUT_PLAIN;
	if (!in->size || one_extent(in))
		return;
	p->layout = LAYOUT_CHUNKED;
	p->chunk_bits = (uint8_t)exact_chunk_bits(in);
}

/* How the inode is laid out, without its place. */
static void choose_layout(const struct fb_tree *tree, uint32_t inode,
			  struct fb_erofs_place *p)
{
	const struct fb_inode *in = &tree->inodes[inode];

	p->layout = LAYOUT_PLAIN;
	p->size = 0;
	if (S_ISREG(in->mode))
		choose_file(in, p);
	else if (S_ISDIR(in->mode))
		p->size = dir_size(tree, inode);
	else if (S_ISLNK(in->mode))
		p->size = strlen(in->target);
	if (!S_ISREG(in->mode) && p->size &&
	    INODE_SIZE + p->xattr_size + p->size <= FB_EROFS_BLOCK)
		p->layout = LAYOUT_INLINE;
}

/* Bytes of inode, xattrs and what follows them. */
static uint64_t inode_bytes(const struct fb_erofs_place *p)
{
	uint64_t bytes = INODE_SIZE + p->xattr_size;

	if (p->layout == LAYOUT_INLINE)
		bytes += p->size;
	if (p->layout == LAYOUT_CHUNKED)
		bytes += 4 * chunk_count(p->size, p->chunk_bits);
	return bytes;
}

/* First-come placement; only what must not cross a block may leave a gap. */
static uint64_t place_at(const struct fb_erofs_place *p, uint64_t at)
{
	uint64_t whole = p->layout == LAYOUT_INLINE ? inode_bytes(p) : INODE_SIZE;

	if (at % FB_EROFS_BLOCK + whole > FB_EROFS_BLOCK)
		return fb_align_up(at, FB_EROFS_BLOCK);
	return at;
}

static bool has_meta_blocks(const struct fb_inode *in, const struct fb_erofs_place *p)
{
	return (S_ISDIR(in->mode) || S_ISLNK(in->mode)) && p->layout == LAYOUT_PLAIN;
}

/* Blocks of large directories go behind all inodes. */
static int place_meta_blocks(const struct fb_tree *tree, struct fb_erofs_layout *l,
			     uint64_t at, struct fb_err *err)
{
	uint64_t block = fb_erofs_blocks(at);

	for (size_t i = 0; i < tree->inode_count; i++) {
		struct fb_erofs_place *p = &l->places[i];

		if (!has_meta_blocks(&tree->inodes[i], p))
			continue;
		p->block = (uint32_t)block;
		block += fb_erofs_blocks(p->size);
		if (block >= UINT32_MAX)
			break;
	}
	if (block >= UINT32_MAX)
		return fb_err_set(err, EFBIG, "the metadata would need %llu blocks",
				  (unsigned long long)block);
	l->size = block * FB_EROFS_BLOCK;
	return 0;
}

static int place_inodes(const struct fb_tree *tree, struct fb_erofs_layout *l,
			struct fb_err *err)
{
	uint64_t at = 0;

	for (size_t i = 0; i < tree->inode_count; i++) {
		struct fb_erofs_place *p = &l->places[i];
		int ret = check_inode(tree, i, err);

		if (!ret)
			ret = check_xattrs(tree, i, &p->xattr_size, err);
		if (ret)
			return ret;
		choose_layout(tree, (uint32_t)i, p);
		if (p->layout == LAYOUT_CHUNKED &&
		    chunk_count(p->size, p->chunk_bits) > MAP_ENTRIES)
			return refuse(tree, i, err, EFBIG,
				      "its holes need a block map above 1 GiB");
		p->offset = place_at(p, at);
		at = fb_align_up(p->offset + inode_bytes(p), FB_EROFS_NID_SIZE);
	}
	return place_meta_blocks(tree, l, at, err);
}

int fb_erofs_layout_make(const struct fb_tree *tree, struct fb_erofs_layout *layout,
			 struct fb_err *err)
{
	struct fb_erofs_layout l = { NULL, tree->inode_count, 0 };
	int ret = check_links(tree, err);

	if (ret)
		return ret;
	l.places = calloc(tree->inode_count, sizeof(*l.places));
	if (!l.places)
		return fb_err_sys(err, ENOMEM, "layout of %zu inodes",
				  tree->inode_count);
	ret = place_inodes(tree, &l, err);
	if (ret)
		fb_erofs_layout_free(&l);
	else
		*layout = l;
	return ret;
}

void fb_erofs_layout_free(struct fb_erofs_layout *layout)
{
	free(layout->places);
	memset(layout, 0, sizeof(*layout));
}

uint64_t fb_erofs_nid(const struct fb_erofs_layout *layout, uint32_t inode)
{
	return layout->places[inode].offset / FB_EROFS_NID_SIZE;
}

/* ---- encoding ---------------------------------------------------------------- */

/* new_encode_dev() of include/linux/kdev_t.h */
static uint32_t encode_device(dev_t dev)
{
	uint32_t ma = major(dev), mi = minor(dev);

	return (mi & 0xff) | (ma << 8) | ((mi & ~0xffu) << 12);
}

static uint32_t inode_union(const struct fb_inode *in, const struct fb_erofs_place *p,
			    uint32_t meta_block)
{
	if (S_ISCHR(in->mode) || S_ISBLK(in->mode))
		return encode_device(in->rdev);
	if (p->layout == LAYOUT_CHUNKED)
		return p->chunk_bits;
	if (has_meta_blocks(in, p))
		return meta_block + p->block;
	if (S_ISREG(in->mode) && in->extent_count)
		return (uint32_t)in->extents[0].block;
	return 0;
}

static void encode_inode(const struct fb_inode *in, const struct fb_erofs_place *p,
			 uint32_t meta_block, uint32_t number, uint8_t *out)
{
	uint32_t count = p->xattr_size ? (p->xattr_size - XATTR_HEADER) / 4 + 1 : 0;

	fb_put_le16(out + IN_FORMAT,
		    (uint16_t)(INODE_EXTENDED | (p->layout << INODE_LAYOUT_BIT)));
	fb_put_le16(out + IN_XATTR_COUNT, (uint16_t)count);
	fb_put_le16(out + IN_MODE, (uint16_t)in->mode);
	fb_put_le64(out + IN_SIZE, p->size);
	fb_put_le32(out + IN_UNION, inode_union(in, p, meta_block));
	fb_put_le32(out + IN_INO, number + 1);
	fb_put_le32(out + IN_UID, in->uid);
	fb_put_le32(out + IN_GID, in->gid);
	fb_put_le64(out + IN_MTIME, (uint64_t)in->mtime_sec);
	fb_put_le32(out + IN_MTIME_NSEC, in->mtime_nsec);
	fb_put_le32(out + IN_NLINK, in->nlink);
}

static void encode_xattrs(const struct fb_inode *in, uint8_t *out)
{
	out += XATTR_HEADER;
	for (size_t i = 0; i < in->xattr_count; i++) {
		const struct fb_xattr *x = &in->xattrs[i];
		const struct fb_erofs_xattr_prefix *p = xattr_prefix(x->name);
		const char *rest = x->name + strlen(p->text);
		size_t length = strlen(rest);

		out[XE_NAME_LENGTH] = (uint8_t)length;
		out[XE_INDEX] = p->index;
		fb_put_le16(out + XE_VALUE_SIZE, (uint16_t)x->size);
		memcpy(out + XATTR_ENTRY, rest, length);
		if (x->size)
			memcpy(out + XATTR_ENTRY + length, x->value, x->size);
		out += fb_erofs_xattr_entry_size(length, x->size);
	}
}

static void encode_map(const struct fb_inode *in, const struct fb_erofs_place *p,
		       uint8_t *out)
{
	uint64_t chunk = (uint64_t)FB_EROFS_BLOCK << p->chunk_bits;

	memset(out, 0xff, 4 * chunk_count(p->size, p->chunk_bits));
	for (size_t i = 0; i < in->extent_count; i++) {
		const struct fb_extent *e = &in->extents[i];

		for (uint64_t done = 0; done < e->length; done += chunk)
			fb_put_le32(out + 4 * ((e->offset + done) / chunk),
				    (uint32_t)(e->block + done / FB_EROFS_BLOCK));
	}
}

/* A directory's or link's content, inline or in its own blocks. */
static void encode_content(const struct fb_tree *tree,
			   const struct fb_erofs_layout *layout, uint32_t inode,
			   uint8_t *out)
{
	const struct fb_inode *in = &tree->inodes[inode];

	if (S_ISDIR(in->mode))
		dir_encode(tree, layout, inode, out);
	else if (S_ISLNK(in->mode))
		memcpy(out, in->target, strlen(in->target));
}

void fb_erofs_encode(const struct fb_tree *tree, const struct fb_erofs_layout *layout,
		     uint32_t meta_block, uint8_t *meta)
{
	memset(meta, 0, layout->size);
	for (uint32_t i = 0; i < layout->count; i++) {
		const struct fb_erofs_place *p = &layout->places[i];
		const struct fb_inode *in = &tree->inodes[i];
		uint8_t *at = meta + p->offset;
		uint8_t *behind = at + INODE_SIZE + p->xattr_size;

		encode_inode(in, p, meta_block, i, at);
		if (p->xattr_size)
			encode_xattrs(in, at + INODE_SIZE);
		if (p->layout == LAYOUT_CHUNKED)
			encode_map(in, p, behind);
		else if (has_meta_blocks(in, p))
			encode_content(tree, layout, i,
				       meta + (uint64_t)p->block * FB_EROFS_BLOCK);
		else if (p->layout == LAYOUT_INLINE)
			encode_content(tree, layout, i, behind);
	}
}
