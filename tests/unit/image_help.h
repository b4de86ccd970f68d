/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_help - a store in memory whose power can be cut, trees with every kind
 * of file, and their contents, for the tests of the image. Include it last.
 */
#ifndef FB_TESTS_IMAGE_HELP_H
#define FB_TESTS_IMAGE_HELP_H

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/util.h"
#include "engine/image.h"

#define SECTOR 512u

static inline uint32_t help_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* ---- a store in memory ------------------------------------------------------ */

struct memory_store {
	struct fb_store store;
	uint8_t *bytes;		 /* what a reader of the running machine sees */
	uint8_t *durable;	 /* what is there after a power cut */
	uint8_t *dirty;		 /* one byte a sector: written since the flush */
	unsigned int operations; /* writes and flushes */
	unsigned int cut_at;	 /* fails from this one on; 0 never */
	uint32_t seed;		 /* which sectors survive the cut */
	uint64_t bad_block;	 /* reading it is an EIO; 0 none */
};

static inline struct memory_store *memory_of(const struct fb_store *store)
{
	return store->context;
}

/* The power fails: of all that was not flushed any sectors may have arrived. */
static inline void memory_cut(struct memory_store *m)
{
	for (uint64_t s = 0; s < m->store.size / SECTOR; s++)
		if (m->dirty[s] && (help_random(&m->seed) & 4))
			memcpy(m->durable + s * SECTOR, m->bytes + s * SECTOR, SECTOR);
	memset(m->dirty, 0, m->store.size / SECTOR);
}

static inline bool memory_powered(struct memory_store *m)
{
	m->operations++;
	return !m->cut_at || m->operations < m->cut_at;
}

static inline int memory_read(const struct fb_store *store, void *buf, size_t size,
			      uint64_t offset, struct fb_err *err)
{
	struct memory_store *m = memory_of(store);

	if (offset % 4096 || size % 4096 || (uintptr_t)buf % 4096 ||
	    offset > store->size || size > store->size - offset)
		return fb_err_set(err, EINVAL, "read %zu at %llu", size,
				  (unsigned long long)offset);
	if (m->bad_block && m->bad_block * 4096 >= offset &&
	    m->bad_block * 4096 < offset + size)
		return fb_err_set(err, EIO, "poison");
	memcpy(buf, m->bytes + offset, size);
	return 0;
}

static inline int memory_write(const struct fb_store *store, const void *buf,
			       size_t size, uint64_t offset, struct fb_err *err)
{
	struct memory_store *m = memory_of(store);
	bool powered;

	if (offset % 4096 || size % 4096 || (uintptr_t)buf % 4096 ||
	    offset > store->size || size > store->size - offset)
		return fb_err_set(err, EINVAL, "write %zu at %llu", size,
				  (unsigned long long)offset);
	if (m->cut_at && m->operations >= m->cut_at)
		return fb_err_set(err, EIO, "no power");
	powered = memory_powered(m);
	memcpy(m->bytes + offset, buf, size);
	memset(m->dirty + offset / SECTOR, 1, size / SECTOR);
	if (powered)
		return 0;
	memory_cut(m);
	return fb_err_set(err, EIO, "the power went");
}

static inline int memory_flush(const struct fb_store *store, struct fb_err *err)
{
	struct memory_store *m = memory_of(store);

	if (m->cut_at && m->operations >= m->cut_at)
		return fb_err_set(err, EIO, "no power");
	if (!memory_powered(m)) {
		memory_cut(m);
		return fb_err_set(err, EIO, "the power went");
	}
	for (uint64_t s = 0; s < store->size / SECTOR; s++)
		if (m->dirty[s])
			memcpy(m->durable + s * SECTOR, m->bytes + s * SECTOR, SECTOR);
	memset(m->dirty, 0, store->size / SECTOR);
	return 0;
}

static inline void memory_close(struct fb_store *store)
{
	struct memory_store *m = memory_of(store);

	free(m->bytes);
	free(m->durable);
	free(m->dirty);
}

/* Filled with `fill`, as RAM is with what was there before. */
static inline void memory_store_make(struct memory_store *m, uint64_t size, int fill)
{
	static const struct fb_store_ops ops = { memory_read, memory_write,
						 memory_flush, memory_close };

	memset(m, 0, sizeof(*m));
	m->bytes = malloc(size);
	m->durable = malloc(size);
	m->dirty = calloc(1, size / SECTOR);
	memset(m->bytes, fill, size);
	memset(m->durable, fill, size);
	m->seed = 1;
	m->store.ops = &ops;
	m->store.size = size;
	m->store.fd = -1;
	m->store.context = m;
	snprintf(m->store.name, sizeof(m->store.name), "memory");
}

/* After a cut: the machine comes up with what was durable. */
static inline void memory_store_reboot(struct memory_store *m)
{
	memcpy(m->bytes, m->durable, m->store.size);
	memset(m->dirty, 0, m->store.size / SECTOR);
	m->cut_at = 0;
	m->operations = 0;
}

/* ---- trees ---------------------------------------------------------------------- */

static inline struct fb_inode *help_inode(struct fb_tree *t, uint32_t i)
{
	return &t->inodes[i];
}

static inline uint32_t help_root(struct fb_tree *t)
{
	uint32_t root;

	fb_tree_add(t, &root);
	t->inodes[root].mode = S_IFDIR | 0755;
	t->inodes[root].nlink = 2;
	return root;
}

static inline void help_link(struct fb_tree *t, uint32_t dir, const char *name,
			     uint32_t inode)
{
	struct fb_inode *d = &t->inodes[dir];

	d->entries = reallocarray(d->entries, d->entry_count + 1, sizeof(*d->entries));
	d->entries[d->entry_count++] = (struct fb_dirent){ strdup(name), inode };
}

/* A new inode with a name; nlink 1 (directories 2), mtime from its number. */
static inline uint32_t help_add(struct fb_tree *t, uint32_t dir, const char *name,
				mode_t mode)
{
	uint32_t i;

	fb_tree_add(t, &i);
	t->inodes[i].mode = mode;
	t->inodes[i].nlink = S_ISDIR(mode) ? 2 : 1;
	t->inodes[i].uid = 1000 + i;
	t->inodes[i].gid = 70000 + i;
	t->inodes[i].mtime_sec = 1700000000 + (int64_t)i;
	t->inodes[i].mtime_nsec = i + 1;
	t->inodes[i].parent = dir;
	help_link(t, dir, name, i);
	return i;
}

static inline void help_extent(struct fb_tree *t, uint32_t i, uint64_t offset,
			       uint64_t length)
{
	struct fb_inode *in = &t->inodes[i];

	in->extents =
		reallocarray(in->extents, in->extent_count + 1, sizeof(*in->extents));
	in->extents[in->extent_count++] = (struct fb_extent){ offset, length, 0 };
}

/* A file without holes. */
static inline uint32_t help_file(struct fb_tree *t, uint32_t dir, const char *name,
				 uint64_t size)
{
	uint32_t i = help_add(t, dir, name, S_IFREG | 0644);

	t->inodes[i].size = size;
	if (size)
		help_extent(t, i, 0, size);
	return i;
}

static inline uint32_t help_symlink(struct fb_tree *t, uint32_t dir, const char *name,
				    const char *target)
{
	uint32_t i = help_add(t, dir, name, S_IFLNK | 0777);

	t->inodes[i].target = strdup(target);
	t->inodes[i].size = strlen(target);
	return i;
}

static inline void help_xattr(struct fb_tree *t, uint32_t i, const char *name,
			      const void *value, size_t size)
{
	struct fb_inode *in = &t->inodes[i];
	struct fb_xattr x = { strdup(name), size ? malloc(size) : NULL, size };

	if (size && value)
		memcpy(x.value, value, size);
	else if (size)
		memset(x.value, 0x5a, size);
	in->xattrs = reallocarray(in->xattrs, in->xattr_count + 1, sizeof(x));
	in->xattrs[in->xattr_count++] = x;
}

static inline void help_state(struct fb_tree *t, const char *name, const char *path,
			      uint32_t inode)
{
	t->states = reallocarray(t->states, t->state_count + 1, sizeof(*t->states));
	t->states[t->state_count++] =
		(struct fb_tree_state){ strdup(name), strdup(path), inode, 0 };
}

/* Sort all directories; `name` of each inode follows. */
static inline void help_finish(struct fb_tree *t)
{
	for (uint32_t i = 0; i < t->inode_count; i++) {
		if (!S_ISDIR(t->inodes[i].mode))
			continue;
		fb_tree_sort(t, i);
		for (size_t k = 0; k < t->inodes[i].entry_count; k++) {
			uint32_t child = t->inodes[i].entries[k].inode;

			if (t->inodes[child].parent == i)
				t->inodes[child].name = (uint32_t)k;
		}
	}
}

static inline void help_names(struct fb_tree *t, uint32_t dir)
{
	static const char *const names[] = {
		"!before-dot", "-minus",  ".hidden",  "..two",	   "...",
		"zz",	       "\x01ctl", "\xff\xfe", "new\nline", "sp ace",
		"\xc3\xa4",    "A",	  "a",
	};
	char longest[256];

	for (size_t i = 0; i < FB_ARRAY_SIZE(names); i++)
		help_file(t, dir, names[i], i);
	memset(longest, 'n', 255);
	longest[255] = '\0';
	help_file(t, dir, longest, 1);
}

static inline void help_sparse(struct fb_tree *t, uint32_t dir)
{
	uint32_t i = help_add(t, dir, "hole-end", S_IFREG | 0600);

	t->inodes[i].size = 1 << 20;
	help_extent(t, i, 0, 4096);
	i = help_add(t, dir, "hole-begin", S_IFREG | 0600);
	t->inodes[i].size = (1 << 20) + 77;
	help_extent(t, i, 1 << 19, (1 << 19) + 77);
	i = help_add(t, dir, "hole-only", S_IFREG | 0600);
	t->inodes[i].size = 12345678;
	i = help_add(t, dir, "holes", S_IFREG | 0600);
	t->inodes[i].size = 100 * 4096 + 1;
	for (uint64_t b = 1; b < 90; b += 7)
		help_extent(t, i, b * 4096, 4096 * (1 + b % 3));
	help_extent(t, i, 100 * 4096, 1);
	i = help_add(t, dir, "far", S_IFREG | 0600);
	t->inodes[i].size = 1ull << 40;
	help_extent(t, i, 0, 123 * 4096);
}

static inline void help_special(struct fb_tree *t, uint32_t dir)
{
	char target[4096];
	uint32_t i;

	help_add(t, dir, "fifo", S_IFIFO | 0600);
	help_add(t, dir, "socket", S_IFSOCK | 0700);
	i = help_add(t, dir, "tty", S_IFCHR | 0620);
	t->inodes[i].rdev = makedev(5, 1);
	i = help_add(t, dir, "disk", S_IFBLK | 0660);
	t->inodes[i].rdev = makedev(259, 0xabcde);
	help_symlink(t, dir, "short", "../a");
	memset(target, 't', 4095);
	target[4095] = '\0';
	help_symlink(t, dir, "longest", target);
	target[3000] = '\0';
	i = help_symlink(t, dir, "with-xattr", target);
	help_xattr(t, i, "trusted.big", NULL, 2000);
	i = help_file(t, dir, "two-names", 10);
	t->inodes[i].nlink = 2;
	help_link(t, dir, "other-name", i);
	i = help_file(t, dir, "before-1970", 3);
	t->inodes[i].mtime_sec = -2;
	t->inodes[i].mtime_nsec = 500000000;
	i = help_file(t, dir, "setuid", 0);
	t->inodes[i].mode = S_IFREG | 06755;
}

static inline void help_xattrs(struct fb_tree *t, uint32_t dir)
{
	static const uint8_t acl[] = { 2,   0,	 0, 0, 1,   0,	 6,   0,   255, 255,
				       255, 255, 4, 0, 4,   0,	 255, 255, 255, 255,
				       32,  0,	 4, 0, 255, 255, 255, 255 };
	static const uint8_t capability[20] = { 1, 0, 0, 2, 0, 4 };
	uint32_t i = help_file(t, dir, "attributes", 100);

	help_xattr(t, i, "user.empty", NULL, 0);
	help_xattr(t, i, "user.mime", "text/plain", 10);
	help_xattr(t, i, "user.largest", NULL, 65535);
	help_xattr(t, i, "trusted.overlay.opaque", "y", 1);
	help_xattr(t, i, "security.capability", capability, sizeof(capability));
	help_xattr(t, i, "system.posix_acl_access", acl, sizeof(acl));
	i = help_add(t, dir, "acl-dir", S_IFDIR | 02770);
	help_xattr(t, i, "system.posix_acl_default", acl, sizeof(acl));
}

static inline void help_many(struct fb_tree *t, uint32_t dir, unsigned int count)
{
	char name[32];

	for (unsigned int n = 0; n < count; n++) {
		snprintf(name, sizeof(name), "file-%05u", n * 7919 % 100000);
		help_file(t, dir, name, n % 9000);
	}
}

/* Every kind of file that there is. */
static inline void help_sample(struct fb_tree *t)
{
	uint32_t root = help_root(t);
	uint32_t srv = help_add(t, root, "srv", S_IFDIR | 0711);
	uint32_t redis = help_add(t, srv, "redis", S_IFDIR | 0700);
	uint32_t var = help_add(t, root, "var", S_IFDIR | 0755);
	uint32_t i;

	help_file(t, redis, "a", 1);
	help_file(t, redis, "block", 4096);
	help_file(t, redis, "5000", 5000);
	help_file(t, redis, "large", (3 << 20) + 123);
	help_file(t, redis, "large-2", 2 << 20);
	help_special(t, redis);
	i = help_add(t, redis, "names", S_IFDIR | 0755);
	help_names(t, i);
	i = help_add(t, redis, "sparse", S_IFDIR | 0755);
	help_sparse(t, i);
	i = help_add(t, var, "xattrs", S_IFDIR | 0755);
	help_xattrs(t, i);
	i = help_add(t, var, "many", S_IFDIR | 01777);
	help_many(t, i, 1000);
	help_add(t, var, "empty", S_IFDIR | 0);
	help_state(t, "redis", "/srv/redis", redis);
	help_state(t, "/var", "/var", var);
	help_finish(t);
}

/* ---- contents
 * ------------------------------------------------------------------------ */

/* A descriptor for each regular file, -1 for the others. */
struct contents {
	int *fds;
	size_t count;
	const struct fb_tree *tree;
};

static inline void contents_fill(int fd, uint32_t inode, const struct fb_extent *e,
				 uint32_t salt)
{
	uint8_t *bytes = malloc(e->length);
	uint32_t seed = inode * 2654435761u + (uint32_t)e->offset + salt + 1;

	for (uint64_t i = 0; i < e->length; i++)
		bytes[i] = (uint8_t)(help_random(&seed) >> 8);
	if (pwrite(fd, bytes, e->length, (off_t)e->offset) != (ssize_t)e->length)
		abort();
	free(bytes);
}

static inline int contents_file(const struct fb_inode *in, uint32_t inode,
				uint32_t salt)
{
	struct timespec times[2] = { { 0, UTIME_OMIT },
				     { in->mtime_sec, (long)in->mtime_nsec } };
	int fd = memfd_create("content", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)in->size))
		abort();
	for (size_t k = 0; k < in->extent_count; k++)
		contents_fill(fd, inode, &in->extents[k], salt);
	if (futimens(fd, times))
		abort();
	return fd;
}

/* Bytes that depend on inode and salt; before a plan widens the extents. */
static inline void contents_make(struct contents *c, const struct fb_tree *t,
				 uint32_t salt)
{
	c->tree = t;
	c->count = t->inode_count;
	c->fds = calloc(c->count, sizeof(*c->fds));
	for (uint32_t i = 0; i < c->count; i++)
		c->fds[i] = S_ISREG(t->inodes[i].mode)
				    ? contents_file(&t->inodes[i], i, salt)
				    : -1;
}

/* Empty files of the right size, to be written to. */
static inline void contents_empty(struct contents *c, const struct fb_tree *t)
{
	c->tree = t;
	c->count = t->inode_count;
	c->fds = calloc(c->count, sizeof(*c->fds));
	for (uint32_t i = 0; i < c->count; i++) {
		c->fds[i] = -1;
		if (!S_ISREG(t->inodes[i].mode))
			continue;
		c->fds[i] = memfd_create("content", MFD_CLOEXEC);
		if (ftruncate(c->fds[i], (off_t)t->inodes[i].size))
			abort();
	}
}

static inline void contents_free(struct contents *c)
{
	for (size_t i = 0; i < c->count; i++)
		if (c->fds[i] >= 0)
			close(c->fds[i]);
	free(c->fds);
}

static inline int contents_open(void *context, uint32_t inode, struct fb_err *err)
{
	struct contents *c = context;
	int fd = fcntl(c->fds[inode], F_DUPFD_CLOEXEC, 0);

	return fd >= 0 ? fd : fb_err_sys(err, errno, "dup");
}

static inline bool contents_equal(int a, int b, uint64_t offset, uint64_t length)
{
	uint8_t *x = malloc(2 * length), *y = x + length;
	bool equal = pread(a, x, length, (off_t)offset) == (ssize_t)length &&
		     pread(b, y, length, (off_t)offset) == (ssize_t)length &&
		     !memcmp(x, y, length);

	free(x);
	return equal;
}

#endif
