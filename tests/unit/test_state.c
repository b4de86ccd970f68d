/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tree of a real directory, and a directory made from a tree. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/util.h"
#include "engine/state.h"

static char base[PATH_MAX]; /* of the test at hand */

/* "<base>/<name>"; four at a time. */
static const char *at(const char *name)
{
	static char paths[4][PATH_MAX * 2];
	static unsigned int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", base, name);
	return path;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static int setup(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	snprintf(base, sizeof(base), "%s/fastboot-state.XXXXXX", tmp ? tmp : "/tmp");
	return !mkdtemp(base) || mkdir(at("s"), 0750) ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	return nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *name, const char *text)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static bool exists(const char *name)
{
	struct stat st;

	return !lstat(at(name), &st);
}

static int scan_one(const char *path, char *const *excludes, size_t exclude_count,
		    struct fb_state_scan *scan, struct fb_err *err)
{
	struct fb_state_dir dir = { NULL, path, excludes, exclude_count };

	return fb_state_scan(&dir, 1, NULL, scan, err);
}

/* The inode of "s/<name>" in a scan of "s". */
static const struct fb_inode *find(const struct fb_state_scan *scan, const char *name)
{
	fb_autofree char *path = fb_asprintf("%s%s%s", at("s"), *name ? "/" : "", name);
	uint32_t inode = fb_tree_lookup(&scan->tree, path);

	return inode == FB_INODE_NONE ? NULL : &scan->tree.inodes[inode];
}

/* What image and store do between the two halves of a restore. */
static void fill(struct fb_state_scan *scan, struct fb_state_restore *restore)
{
	for (uint32_t i = 0; i < scan->tree.inode_count; i++) {
		const struct fb_inode *inode = &scan->tree.inodes[i];

		for (size_t e = 0; e < inode->extent_count; e++) {
			const struct fb_extent *x = &inode->extents[e];
			fb_autofree char *bytes = malloc(x->length);
			struct fb_err err = FB_ERR_INIT;
			int from = fb_state_open(scan, i, &err);
			int to = fb_state_fill_open(restore, i, &err);

			assert_true(from >= 0 && to >= 0);
			assert_int_equal(pread(from, bytes, x->length, x->offset),
					 x->length);
			assert_int_equal(pwrite(to, bytes, x->length, x->offset),
					 x->length);
			assert_int_equal(fb_state_filled(restore, i, to, &err), 0);
			close(from);
			close(to);
		}
	}
}

static void make_socket(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_true(strlen(path) < sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
}

/* Every type of file, and what is special about each. */
static void make_nasty(void)
{
	const struct timespec times[2] = { { 1, 2 }, { 1234567890, 987654321 } };
	int fd;

	put("s/plain", "hello");
	put("s/empty", "");
	put("s/set", "x");
	put("s/new\nline\xff\\", "bytes");
	assert_int_equal(chmod(at("s/set"), 06751), 0);
	assert_int_equal(mkdir(at("s/dir"), 01777), 0);
	assert_int_equal(mkdir(at("s/dir/none"), 0500), 0);
	assert_int_equal(link(at("s/plain"), at("s/dir/again")), 0);
	assert_int_equal(symlink("/nowhere/at all", at("s/link")), 0);
	assert_int_equal(mkfifo(at("s/fifo"), 0620), 0);
	make_socket(at("s/socket"));
	fd = open(at("s/sparse"), O_WRONLY | O_CREAT, 0600);
	assert_int_equal(pwrite(fd, "mid", 3, 1 << 20), 3);
	assert_int_equal(ftruncate(fd, 3 << 20), 0);
	close(fd);
	setxattr(at("s/plain"), "user.note", "a\0b", 3, 0);
	setxattr(at("s/dir"), "user.empty", "", 0, 0);
	assert_int_equal(utimensat(AT_FDCWD, at("s/link"), times, AT_SYMLINK_NOFOLLOW),
			 0);
	assert_int_equal(utimensat(AT_FDCWD, at("s/dir"), times, 0), 0);
	assert_int_equal(utimensat(AT_FDCWD, at("s"), times, 0), 0);
}

static void make_privileged(void)
{
	if (geteuid())
		return;
	assert_int_equal(mknod(at("s/null"), S_IFCHR | 0666, makedev(1, 3)), 0);
	assert_int_equal(mknod(at("s/disk"), S_IFBLK | 0660, makedev(259, 70000)), 0);
	assert_int_equal(lchown(at("s/link"), 12, 70000), 0);
	assert_int_equal(chown(at("s/plain"), 4000000000u, 34), 0);
	setxattr(at("s/plain"), "trusted.t", "1", 1, 0);
}

static void test_scan_types(void **state)
{
	struct fb_state_scan scan = FB_STATE_SCAN_INIT;
	struct fb_err err = FB_ERR_INIT;
	const struct fb_inode *i;

	(void)state;
	make_nasty();
	assert_int_equal(scan_one(at("s"), NULL, 0, &scan, &err), 0);
	assert_int_equal(scan.tree.state_count, 1);
	assert_string_equal(scan.tree.states[0].path, at("s"));
	assert_int_equal(scan.tree.states[0].flags, 0);

	i = find(&scan, "plain");
	assert_non_null(i);
	assert_ptr_equal(i, find(&scan, "dir/again"));
	assert_int_equal(i->nlink, 2);
	assert_int_equal(i->size, 5);
	assert_int_equal(i->extent_count, 1);
	assert_int_equal(i->extents[0].length, 5);
	assert_int_equal(find(&scan, "empty")->extent_count, 0);
	assert_int_equal(find(&scan, "set")->mode, S_IFREG | 06751);
	assert_int_equal(find(&scan, "fifo")->mode & S_IFMT, S_IFIFO);
	assert_int_equal(find(&scan, "socket")->mode & S_IFMT, S_IFSOCK);
	assert_string_equal(find(&scan, "link")->target, "/nowhere/at all");
	assert_int_equal(find(&scan, "link")->mtime_nsec, 987654321);
	assert_int_equal(find(&scan, "dir")->nlink, 3);
	assert_non_null(find(&scan, "new\nline\xff\\"));

	i = find(&scan, "sparse");
	assert_int_equal(i->size, 3 << 20);
	assert_int_equal(i->extent_count, 1);
	assert_int_equal(i->extents[0].offset, 1 << 20);
	assert_int_equal(i->extents[0].length, 4096);
	fb_state_scan_free(&scan);
	assert_int_equal(scan.root, -1);
}

/* The directories above are there, and nothing beside the way down. */
static void test_scan_ways(void **state)
{
	struct fb_state_dir dirs[2];
	struct fb_state_scan scan = FB_STATE_SCAN_INIT;
	struct fb_err err = FB_ERR_INIT;
	char a[PATH_MAX + 32], z[PATH_MAX + 32];
	uint32_t up;

	(void)state;
	assert_int_equal(mkdir(at("s/z"), 0700), 0);
	assert_int_equal(mkdir(at("s/a"), 0700), 0);
	put("s/beside", "not kept");
	put("s/z/file", "kept");
	assert_int_equal(link(at("s/z/file"), at("s/a/file")), 0);
	snprintf(z, sizeof(z), "%s//z/./", at("s"));
	snprintf(a, sizeof(a), "%s/a", at("s"));
	dirs[0] = (struct fb_state_dir){ "last", z, NULL, 0 };
	dirs[1] = (struct fb_state_dir){ "first", a, NULL, 0 };
	assert_int_equal(fb_state_scan(dirs, 2, NULL, &scan, &err), 0);
	assert_string_equal(scan.tree.states[0].name, "last");
	assert_string_equal(scan.tree.states[0].path, at("s/z"));
	assert_null(find(&scan, "beside"));
	assert_ptr_equal(find(&scan, "a/file"), find(&scan, "z/file"));
	up = fb_tree_lookup(&scan.tree, at("s"));
	assert_int_equal(scan.tree.inodes[up].mode, S_IFDIR | 0750);
	assert_int_equal(scan.tree.inodes[up].entry_count, 2);
	assert_int_equal(scan.tree.inodes[up].nlink, 4);
	for (uint32_t i = 1; i < scan.tree.inode_count; i++) {
		fb_autofree char *path = fb_tree_path(&scan.tree, i);

		assert_int_equal(fb_tree_lookup(&scan.tree, path), i);
	}
	fb_state_scan_free(&scan);
}

static void test_scan_excludes(void **state)
{
	char *excludes[] = { (char *)"dir/cache", (char *)"*.tmp" };
	struct fb_state_scan scan = FB_STATE_SCAN_INIT;
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	assert_int_equal(mkdir(at("s/dir"), 0700), 0);
	assert_int_equal(mkdir(at("s/dir/cache"), 0700), 0);
	put("s/dir/cache/file", "1");
	put("s/dir/x.tmp", "2");
	put("s/cache", "3");
	assert_int_equal(scan_one(at("s"), excludes, 2, &scan, &err), 0);
	assert_non_null(find(&scan, "dir"));
	assert_non_null(find(&scan, "cache"));
	assert_null(find(&scan, "dir/cache"));
	assert_null(find(&scan, "dir/x.tmp"));
	assert_int_equal(find(&scan, "dir")->nlink, 2);
	fb_state_scan_free(&scan);
}

static void expect_refused(const struct fb_state_dir *dirs, size_t count, int rc,
			   const char *text)
{
	struct fb_state_scan scan = FB_STATE_SCAN_INIT;
	struct fb_err err = FB_ERR_INIT;

	assert_int_equal(fb_state_scan(dirs, count, NULL, &scan, &err), rc);
	assert_non_null(strstr(err.text, text));
	assert_null(scan.tree.inodes);
}

static void test_scan_refusals(void **state)
{
	struct fb_state_dir d[2] = { { NULL, at("s"), NULL, 0 } };
	char inner[PATH_MAX];

	(void)state;
	d[1].path = at("s");
	expect_refused(d, 2, -EINVAL, "the same directory");
	assert_int_equal(mkdir(at("s/in"), 0700), 0);
	snprintf(inner, sizeof(inner), "%s", at("s/in"));
	d[1].path = inner;
	expect_refused(d, 2, -EINVAL, "inside the other");
	d[1].path = at("s/missing");
	expect_refused(d + 1, 1, -ENOENT, "missing");
	put("s/file", "");
	d[1].path = at("s/file");
	expect_refused(d + 1, 1, -ENOTDIR, "not a directory");
	assert_int_equal(symlink("s", at("alias")), 0);
	d[1].path = at("alias/in");
	expect_refused(d + 1, 1, -ELOOP, inner);
	d[1].path = "s";
	expect_refused(d + 1, 1, -EINVAL, "absolute");
	d[1].path = "/run/../run";
	expect_refused(d + 1, 1, -EINVAL, "..");
	d[1].path = "//";
	expect_refused(d + 1, 1, -EINVAL, "'/'");
	d[1].path = "/";
	expect_refused(d, 0, -EINVAL, "no state");
}

static int remove_below(void *context, uint64_t done, uint64_t total)
{
	(void)context, (void)done, (void)total;
	/* "s" was read: "s/gone" is known, and to be read next. */
	rmdir(at("s/gone"));
	rename(at("s/replaced"), at("s/other"));
	return symlink("/etc", at("s/replaced")) && errno != EEXIST ? -errno : 0;
}

/* What vanishes while it is read is left out, or empty; that is no failure. */
static void test_scan_vanishing(void **state)
{
	struct fb_state_scan scan = FB_STATE_SCAN_INIT;
	struct fb_progress progress = { remove_below, NULL };
	fb_autofree char *path = strdup(at("s")); /* at() has four at a time */
	struct fb_state_dir dir = { NULL, path, NULL, 0 };
	struct fb_err err = FB_ERR_INIT;
	uint32_t example;

	(void)state;
	assert_int_equal(mkdir(at("s/gone"), 0700), 0);
	assert_int_equal(mkdir(at("s/replaced"), 0700), 0);
	assert_int_equal(mkdir(at("s/replaced/in"), 0700), 0);
	assert_int_equal(fb_state_scan(&dir, 1, &progress, &scan, &err), 0);
	assert_int_equal(find(&scan, "replaced")->entry_count, 0);
	/* And it is known that this is not the tree as it is. */
	assert_true(fb_state_changed(&scan, &example) > 0);
	assert_int_equal(fb_state_check_unchanged(&scan, &err), -ESTALE);
	fb_state_scan_free(&scan);
}

/* A later scan finds what has another name, and not what is new. */
static void test_index(void **state)
{
	struct fb_state_scan a = FB_STATE_SCAN_INIT, b = FB_STATE_SCAN_INIT;
	struct fb_state_index *index;
	struct fb_err err = FB_ERR_INIT;
	uint32_t n = 0;

	(void)state;
	for (unsigned int i = 0; i < 300; i++) {
		fb_autofree char *name = fb_asprintf("s/%u", i);

		close(open(at(name), O_WRONLY | O_CREAT, 0600));
	}
	assert_int_equal(scan_one(at("s"), NULL, 0, &a, &err), 0);
	assert_int_equal(rename(at("s/7"), at("s/renamed")), 0);
	close(open(at("s/new"), O_WRONLY | O_CREAT, 0600));
	assert_int_equal(scan_one(at("s"), NULL, 0, &b, &err), 0);
	assert_int_equal(fb_state_index_make(&a, &index, &err), 0);
	for (uint32_t i = 0; i < b.tree.inode_count; i++) {
		fb_autofree char *path = fb_tree_path(&b.tree, i);
		uint32_t old = fb_state_index_find(index, &b, i);
		const char *was = !strcmp(path, at("s/renamed")) ? at("s/7") : path;

		n += old != FB_INODE_NONE;
		assert_int_equal(old, fb_tree_lookup(&a.tree, was));
	}
	assert_int_equal(n, b.tree.inode_count - 1);
	free(index);
	fb_state_scan_free(&a);
	fb_state_scan_free(&b);
}

/* /dev/pts, /proc and the like are mounted on some directory everywhere. */
static void test_scan_mount_below(void **state)
{
	struct fb_state_dir dir = { NULL, "/dev", NULL, 0 };
	struct stat dev, pts;

	(void)state;
	if (stat("/dev", &dev) || stat("/dev/pts", &pts) || dev.st_dev == pts.st_dev)
		skip();
	expect_refused(&dir, 1, -EXDEV, "mounted on '/dev/");
}

static void test_open_changed(void **state)
{
	struct fb_state_scan scan = FB_STATE_SCAN_INIT;
	struct fb_err err = FB_ERR_INIT;
	uint32_t inode, example;

	(void)state;
	put("s/a", "1");
	put("s/b", "1");
	assert_int_equal(scan_one(at("s"), NULL, 0, &scan, &err), 0);
	assert_int_equal(fb_state_changed(&scan, &example), 0);
	assert_int_equal(example, FB_INODE_NONE);
	inode = fb_tree_lookup(&scan.tree, at("s/a"));
	put("s/c", "2");
	assert_int_equal(rename(at("s/c"), at("s/a")), 0);
	assert_int_equal(fb_state_open(&scan, inode, &err), -ESTALE);
	assert_non_null(strstr(err.text, "s/a"));
	/* the directory and the file */
	assert_int_equal(fb_state_changed(&scan, &example), 2);
	put("s/b", "22");
	inode = fb_tree_lookup(&scan.tree, at("s/b"));
	assert_int_equal(fb_state_open(&scan, inode, &err), -ESTALE);
	fb_state_scan_free(&scan);
}

static void assert_same_xattrs(const struct fb_inode *a, const struct fb_inode *b)
{
	assert_int_equal(a->xattr_count, b->xattr_count);
	for (size_t i = 0; i < a->xattr_count; i++) {
		size_t k = 0;

		while (k < b->xattr_count &&
		       strcmp(a->xattrs[i].name, b->xattrs[k].name))
			k++;
		assert_true(k < b->xattr_count);
		assert_int_equal(a->xattrs[i].size, b->xattrs[k].size);
		if (a->xattrs[i].size)
			assert_memory_equal(a->xattrs[i].value, b->xattrs[k].value,
					    a->xattrs[i].size);
	}
}

static void assert_same_inode(const struct fb_inode *a, const struct fb_inode *b)
{
	assert_int_equal(a->mode, b->mode);
	assert_int_equal(a->uid, b->uid);
	assert_int_equal(a->gid, b->gid);
	assert_int_equal(a->nlink, b->nlink);
	assert_int_equal(a->rdev, b->rdev);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->mtime_sec, b->mtime_sec);
	assert_int_equal(a->mtime_nsec, b->mtime_nsec);
	assert_int_equal(a->entry_count, b->entry_count);
	assert_int_equal(a->extent_count, b->extent_count);
	if (S_ISLNK(a->mode))
		assert_string_equal(a->target, b->target);
	assert_same_xattrs(a, b);
}

/* Compare "s" of a scan with "out/<path of s>" on disk, by name. */
static void compare(const struct fb_state_scan *scan, const char *copy)
{
	struct fb_state_scan again = FB_STATE_SCAN_INIT;
	struct fb_err err = FB_ERR_INIT;

	assert_int_equal(scan_one(copy, NULL, 0, &again, &err), 0);
	for (uint32_t i = scan->ways - 1; i < scan->tree.inode_count; i++) {
		fb_autofree char *path = fb_tree_path(&scan->tree, i);
		fb_autofree char *there =
			fb_asprintf("%s%s", copy, path + strlen(at("s")));
		uint32_t inode = fb_tree_lookup(&again.tree, there);

		assert_true(inode != FB_INODE_NONE);
		assert_same_inode(&scan->tree.inodes[i], &again.tree.inodes[inode]);
	}
	fb_state_scan_free(&again);
}

static void test_restore_elsewhere(void **state)
{
	struct fb_state_scan scan = FB_STATE_SCAN_INIT;
	struct fb_state_restore *restore = NULL;
	struct fb_err err = FB_ERR_INIT;
	char out[PATH_MAX], copy[PATH_MAX * 2];

	(void)state;
	make_nasty();
	make_privileged();
	assert_int_equal(scan_one(at("s"), NULL, 0, &scan, &err), 0);
	snprintf(out, sizeof(out), "%s", at("out"));
	assert_int_equal(fb_state_create(&scan.tree, out, &scan.tree.states[0].inode, 1,
					 &restore, &err),
			 0);
	fill(&scan, restore);
	assert_int_equal(fb_state_finish(restore, NULL, &err), 0);
	fb_state_restore_free(restore);
	snprintf(copy, sizeof(copy), "%s%s", out, at("s"));
	compare(&scan, copy);
	fb_state_scan_free(&scan);
}

/* Files that are made when they are filled: the same tree, and the same undo. */
static void test_restore_late(void **state)
{
	struct fb_state_scan scan = FB_STATE_SCAN_INIT;
	struct fb_state_restore *restore = NULL;
	fb_autofree uint8_t *late = NULL;
	struct fb_err err = FB_ERR_INIT;
	char out[PATH_MAX], copy[PATH_MAX * 2];
	uint32_t *root;

	(void)state;
	make_nasty();
	make_privileged();
	assert_int_equal(scan_one(at("s"), NULL, 0, &scan, &err), 0);
	late = calloc(scan.tree.inode_count, 1);
	for (uint32_t i = 0; i < scan.tree.inode_count; i++)
		late[i] = scan.tree.inodes[i].extent_count == 1;
	snprintf(out, sizeof(out), "%s", at("out"));
	snprintf(copy, sizeof(copy), "%s%s", out, at("s"));
	root = &scan.tree.states[0].inode;
	for (int round = 0; round < 3; round++) {
		assert_int_equal(fb_state_create_late(&scan.tree, out, root, 1, late,
						      &restore, &err),
				 0);
		if (round)
			fill(&scan, restore);
		if (round == 2)
			assert_int_equal(fb_state_finish(restore, NULL, &err), 0);
		if (round < 2)
			assert_int_equal(fb_state_undo(restore, &err), 0);
		fb_state_restore_free(restore);
		assert_int_equal(exists("out"), round == 2);
	}
	compare(&scan, copy);
	fb_state_scan_free(&scan);
}

/* What take_one() was given. */
struct taken {
	const struct fb_tree *tree;
	atomic_uint count;
	uint32_t refuse;
};

static int take_one(void *context, uint32_t inode, int fd, const struct stat *st,
		    struct fb_err *err)
{
	struct taken *t = context;
	const struct fb_inode *in = &t->tree->inodes[inode];
	struct stat now;

	assert_int_equal(fstat(fd, &now), 0);
	assert_int_equal(now.st_ino, st->st_ino);
	assert_int_equal(now.st_dev, st->st_dev);
	assert_int_equal(now.st_size, in->size);
	assert_int_equal(now.st_blocks, 0);
	assert_int_equal(now.st_mode, in->mode);
	assert_int_equal(now.st_uid, in->uid);
	assert_int_equal(now.st_gid, in->gid);
	assert_int_equal(now.st_mtim.tv_sec, in->mtime_sec);
	assert_int_equal(now.st_mtim.tv_nsec, in->mtime_nsec);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
	close(fd);
	atomic_fetch_add(&t->count, 1);
	return inode == t->refuse ? fb_err_set(err, EDOM, "refused") : 0;
}

/* Made all together: whole but for the contents when it is given away. */
static void test_make_late(void **state)
{
	struct fb_state_scan scan = FB_STATE_SCAN_INIT;
	struct fb_state_restore *restore = NULL;
	fb_autofree uint8_t *late = NULL;
	struct fb_err err = FB_ERR_INIT;
	struct taken taken = { .refuse = FB_INODE_NONE };
	const struct fb_state_take take = { take_one, &taken };
	uint32_t wanted = 0, filled, refused = FB_INODE_NONE;

	(void)state;
	make_nasty();
	make_privileged();
	/* More in one directory than a thread takes at once. */
	assert_int_equal(mkdir(at("s/many"), 0755), 0);
	for (int i = 0; i < 2500; i++) {
		char name[32];

		snprintf(name, sizeof(name), "s/many/%d", i);
		put(name, "one of many");
	}
	put("s/filled", "before");
	assert_int_equal(scan_one(at("s"), NULL, 0, &scan, &err), 0);
	taken.tree = &scan.tree;
	filled = fb_tree_lookup(&scan.tree, at("s/filled"));
	late = calloc(scan.tree.inode_count, 1);
	for (uint32_t i = 0; i < scan.tree.inode_count; i++) {
		const struct fb_inode *in = &scan.tree.inodes[i];

		late[i] = S_ISREG(in->mode);
		if (!late[i] || in->nlink > 1)
			continue;
		wanted++;
		refused = i == filled ? refused : i;
	}
	for (int round = 0; round < 3; round++) {
		int fd;

		assert_int_equal(fb_state_create_late(&scan.tree, at("out"),
						      &scan.tree.states[0].inode, 1,
						      late, &restore, &err),
				 0);
		fd = fb_state_fill_open(restore, filled, &err);
		assert_int_equal(pwrite(fd, "before", 6, 0), 6);
		assert_int_equal(fb_state_filled(restore, filled, fd, &err), 0);
		close(fd);
		taken.refuse = round ? FB_INODE_NONE : refused;
		atomic_store(&taken.count, 0);
		assert_int_equal(fb_state_make_late(restore, &take, &err),
				 round ? 0 : -EDOM);
		if (round) {
			assert_int_equal(atomic_load(&taken.count), wanted - 1);
			assert_int_equal(fb_state_make_late(restore, &take, &err), 0);
			assert_int_equal(atomic_load(&taken.count), wanted - 1);
		}
		if (round == 2)
			assert_int_equal(fb_state_finish(restore, NULL, &err), 0);
		else
			assert_int_equal(fb_state_undo(restore, &err), 0);
		fb_state_restore_free(restore);
		assert_int_equal(exists("out"), round == 2);
	}
	fb_state_scan_free(&scan);
}

/* It was never opened: it is damaged. */
static void test_restore_late_withheld(void **state)
{
	struct fb_state_scan scan = FB_STATE_SCAN_INIT;
	struct fb_state_restore *restore = NULL;
	struct fb_err err = FB_ERR_INIT;
	uint8_t late[8] = { 0 };
	uint32_t inode;

	(void)state;
	put("s/damaged", "1");
	put("s/whole", "2");
	assert_int_equal(scan_one(at("s"), NULL, 0, &scan, &err), 0);
	assert_int_equal(rename(at("s"), at("aside")), 0);
	inode = fb_tree_lookup(&scan.tree, at("s/damaged"));
	assert_true(inode < sizeof(late));
	late[inode] = 1;
	assert_int_equal(fb_state_create_late(&scan.tree, "/",
					      &scan.tree.states[0].inode, 1, late,
					      &restore, &err),
			 0);
	assert_true(fb_state_made(restore, inode));
	assert_true(exists("s/whole"));
	assert_false(exists("s/damaged"));
	assert_int_equal(fb_state_withhold(restore, inode, &err), 0);
	assert_int_equal(fb_state_finish(restore, NULL, &err), 0);
	fb_state_restore_free(restore);
	assert_false(exists("s/damaged"));
	fb_state_scan_free(&scan);
}

/* Without an image between: pieces of more than one, and what goes wrong. */
static void test_copy(void **state)
{
	struct fb_state_scan scan = FB_STATE_SCAN_INIT;
	struct fb_state_restore *restore = NULL;
	struct fb_err err = FB_ERR_INIT;
	char out[PATH_MAX], copy[PATH_MAX * 2], path[PATH_MAX * 2];
	int fd;

	(void)state;
	make_nasty();
	make_privileged();
	snprintf(path, sizeof(path), "%s", at("s/large"));
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	for (off_t n = 0; n < 9 * 1024; n++)
		assert_int_equal(pwrite(fd, &n, sizeof(n), n * 1024 + 7), sizeof(n));
	close(fd);
	assert_int_equal(scan_one(at("s"), NULL, 0, &scan, &err), 0);
	snprintf(out, sizeof(out), "%s", at("out"));
	assert_int_equal(fb_state_create(&scan.tree, out, &scan.tree.states[0].inode, 1,
					 &restore, &err),
			 0);
	assert_int_equal(fb_state_copy(&scan, restore, 3, NULL, &err), 0);
	assert_int_equal(fb_state_finish(restore, NULL, &err), 0);
	snprintf(copy, sizeof(copy), "%s%s", out, at("s"));
	compare(&scan, copy);
	assert_int_equal(truncate(path, 5), 0);
	assert_int_equal(fb_state_copy(&scan, restore, 3, NULL, &err), -ESTALE);
	assert_non_null(strstr(err.text, "large"));
	fb_state_restore_free(restore);
	fb_state_scan_free(&scan);
}

static void test_open_empty(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	int fd;

	(void)state;
	put("s/file", "x");
	assert_int_equal(mkdir(at("empty"), 0700), 0);
	assert_int_equal(symlink("empty", at("link")), 0);
	fd = fb_state_open_empty(at("empty"), &err);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(fb_state_open_empty(at("s"), &err), -ENOTEMPTY);
	assert_non_null(strstr(err.text, "'file'"));
	assert_int_equal(fb_state_open_empty(at("none"), &err), -ENOENT);
	assert_int_equal(fb_state_open_empty(at("s/file"), &err), -ENOTDIR);
	assert_int_equal(fb_state_open_empty(at("link"), &err), -ELOOP);
}

/* Into the directory itself, after it was emptied; then all is taken back. */
static void test_restore_in_place_and_undo(void **state)
{
	struct fb_state_scan scan = FB_STATE_SCAN_INIT, empty = FB_STATE_SCAN_INIT;
	struct fb_state_restore *restore = NULL;
	struct fb_err err = FB_ERR_INIT;
	uint32_t *root = NULL;

	(void)state;
	make_nasty();
	make_privileged();
	assert_int_equal(scan_one(at("s"), NULL, 0, &scan, &err), 0);
	root = &scan.tree.states[0].inode;
	assert_int_equal(rename(at("s"), at("aside")), 0);
	assert_int_equal(mkdir(at("s"), 0711), 0);
	setxattr(at("s"), "user.before", "1", 1, 0);
	assert_int_equal(scan_one(at("s"), NULL, 0, &empty, &err), 0);

	for (int round = 0; round < 2; round++) {
		assert_int_equal(
			fb_state_create(&scan.tree, "/", root, 1, &restore, &err), 0);
		if (round)
			assert_int_equal(fb_state_finish(restore, NULL, &err), 0);
		assert_true(exists("s/dir/again"));
		assert_int_equal(fb_state_undo(restore, &err), 0);
		fb_state_restore_free(restore);
		compare(&empty, at("s"));
	}
	fb_state_scan_free(&scan);
	fb_state_scan_free(&empty);
}

static void test_restore_withheld(void **state)
{
	struct fb_state_scan scan = FB_STATE_SCAN_INIT;
	struct fb_state_restore *restore = NULL;
	struct fb_err err = FB_ERR_INIT;
	uint32_t inode;

	(void)state;
	make_nasty();
	assert_int_equal(scan_one(at("s"), NULL, 0, &scan, &err), 0);
	inode = fb_tree_lookup(&scan.tree, at("s/plain"));
	assert_int_equal(rename(at("s"), at("aside")), 0);
	assert_int_equal(fb_state_create(&scan.tree, "/", &scan.tree.states[0].inode, 1,
					 &restore, &err),
			 0);
	assert_true(fb_state_made(restore, inode));
	assert_int_equal(fb_state_withhold(restore, inode, &err), 0);
	assert_int_equal(fb_state_finish(restore, NULL, &err), 0);
	fb_state_restore_free(restore);
	assert_false(exists("s/plain"));
	assert_false(exists("s/dir/again"));
	assert_true(exists("s/empty"));
	fb_state_scan_free(&scan);
}

static void expect_no_restore(const struct fb_state_scan *scan, int rc,
			      const char *text)
{
	struct fb_state_restore *restore = NULL;
	struct fb_err err = FB_ERR_INIT;

	assert_int_equal(fb_state_create(&scan->tree, "/", &scan->tree.states[0].inode,
					 1, &restore, &err),
			 rc);
	assert_null(restore);
	assert_non_null(strstr(err.text, text));
	assert_int_equal(err.status, FB_EXIT_FAILED);
}

static void test_restore_refusals(void **state)
{
	struct fb_state_scan scan = FB_STATE_SCAN_INIT;
	struct fb_err err = FB_ERR_INIT;
	uint32_t inode;

	(void)state;
	put("s/a\nb", "1");
	assert_int_equal(scan_one(at("s"), NULL, 0, &scan, &err), 0);
	expect_no_restore(&scan, -ENOTEMPTY, "a\\012b");

	assert_int_equal(rename(at("s"), at("aside")), 0);
	inode = fb_tree_lookup(&scan.tree, at("s")) + 1;
	scan.tree.inodes[inode].extents[0].length = UINT64_C(1) << 60;
	expect_no_restore(&scan, -ENOSPC, "1,048,576 TiB");
	assert_false(exists("s"));
	scan.tree.inodes[inode].extents[0].length = 1;

	/* A link where the state was: nothing is written to where it leads. */
	assert_int_equal(mkdir(at("elsewhere"), 0700), 0);
	assert_int_equal(symlink("elsewhere", at("s")), 0);
	expect_no_restore(&scan, -ELOOP, "symbolic link");
	assert_int_equal(unlink(at("s")), 0);

	/* The file cannot be made: the state's directory is gone again. */
	scan.tree.inodes[inode].mode = 0;
	expect_no_restore(&scan, -EINVAL, "cannot make");
	assert_false(exists("s"));
	fb_state_scan_free(&scan);
}

/* Paths longer than PATH_MAX, names of 255 bytes. */
static void test_deep(void **state)
{
	struct fb_state_scan scan = FB_STATE_SCAN_INIT;
	struct fb_state_restore *restore = NULL;
	struct fb_err err = FB_ERR_INIT;
	char name[NAME_MAX + 1], out[PATH_MAX];
	fb_autoclose int dir = open(at("s"), O_RDONLY | O_DIRECTORY);

	(void)state;
	memset(name, 'n', NAME_MAX);
	name[NAME_MAX] = '\0';
	for (int depth = 0; depth < 40; depth++) {
		int next;

		assert_int_equal(mkdirat(dir, name, 0700), 0);
		next = openat(dir, name, O_RDONLY | O_DIRECTORY);
		assert_true(next >= 0);
		close(dir);
		dir = next;
	}
	assert_int_equal(symlinkat("end", dir, "deep"), 0);
	assert_int_equal(scan_one(at("s"), NULL, 0, &scan, &err), 0);
	assert_string_equal(scan.tree.inodes[scan.tree.inode_count - 1].target, "end");
	snprintf(out, sizeof(out), "%s", at("out"));
	assert_int_equal(fb_state_create(&scan.tree, out, &scan.tree.states[0].inode, 1,
					 &restore, &err),
			 0);
	assert_int_equal(fb_state_finish(restore, NULL, &err), 0);
	assert_int_equal(fb_state_undo(restore, &err), 0);
	assert_false(exists("out"));
	fb_state_restore_free(restore);
	fb_state_scan_free(&scan);
}

/* nftw() cannot remove what is deeper than PATH_MAX. */
static int teardown_deep(void **state)
{
	fb_autofree char *command = fb_asprintf("rm -rf '%s'", base);

	(void)state;
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_scan_types, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scan_ways, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scan_excludes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scan_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_scan_vanishing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_index, setup, teardown),
		cmocka_unit_test(test_scan_mount_below),
		cmocka_unit_test_setup_teardown(test_open_changed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restore_elsewhere, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_restore_late, setup, teardown),
		cmocka_unit_test_setup_teardown(test_make_late, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restore_late_withheld, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_copy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_open_empty, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restore_in_place_and_undo, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_restore_withheld, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restore_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deep, setup, teardown_deep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
