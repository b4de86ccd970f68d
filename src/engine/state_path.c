/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "engine/state_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/util.h"

static int open_whole(int root, const char *path, int flags)
{
	struct open_how how = {
		.flags = (unsigned int)flags,
		.resolve =
			RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd = syscall(SYS_openat2, root, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

static int open_step(int dir, const char *path, size_t length, int flags)
{
	char name[NAME_MAX + 1];
	int fd;

	if (length > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, path, length);
	name[length] = '\0';
	if (!strcmp(name, ".."))
		return -EXDEV;
	fd = openat(dir, name, flags | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

/* Older kernels, and paths that are too long for one call. */
static int open_steps(int root, const char *path, int flags)
{
	fb_autoclose int dir = -1;

	for (;;) {
		size_t length = strcspn(path, "/");
		const char *next = path + length + strspn(path + length, "/");
		int fd;

		if (!*next)
			return open_step(dir < 0 ? root : dir, path, length, flags);
		fd = open_step(dir < 0 ? root : dir, path, length,
			       O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return fd;
		if (dir >= 0)
			close(dir);
		dir = fd;
		path = next;
	}
}

static int open_any(int root, const char *path, int flags)
{
	int fd = -ENOSYS;

	if (strlen(path) < PATH_MAX)
		fd = open_whole(root, path, flags);
	return fd == -ENOSYS ? open_steps(root, path, flags) : fd;
}

int fb_state_beneath(int root, const char *path, int flags)
{
	int fd;

	flags |= O_CLOEXEC | O_NOFOLLOW;
	path += strspn(path, "/");
	if (!*path)
		path = ".";
	fd = open_any(root, path, flags);
	/* O_NOATIME is for the owner and for CAP_FOWNER. */
	if (fd == -EPERM && (flags & O_NOATIME))
		fd = open_any(root, path, flags & ~O_NOATIME);
	return fd;
}

int fb_state_beneath_inode(int root, const struct fb_tree *tree, uint32_t inode,
			   int flags, struct fb_err *err)
{
	fb_autofree char *path = fb_tree_path(tree, inode);
	int fd;

	if (!path)
		return fb_err_set(err, ENOMEM, "out of memory");
	fd = fb_state_beneath(root, path, flags);
	if (fd < 0)
		return fb_state_fail(err, -fd, "open", NULL, path);
	return fd;
}

int fb_state_fail(struct fb_err *err, int error, const char *verb, const char *dir,
		  const char *name)
{
	bool joined = dir && *dir && *name && *name != '/' && strcmp(dir, "/");
	fb_autofree char *path =
		fb_asprintf("%s%s%s", dir ? dir : "", joined ? "/" : "", name);
	fb_autofree char *text = path ? fb_escape(path, strlen(path)) : NULL;

	return fb_err_sys(err, error, "cannot %s '%s'", verb, text ? text : "?");
}

int fb_state_fail_entry(struct fb_err *err, int error, const char *verb,
			const struct fb_tree *tree, uint32_t dir, const char *name)
{
	fb_autofree char *path = fb_tree_path(tree, dir);

	return fb_state_fail(err, error, verb, path ? path : "?", name);
}

void fb_state_stat_store(struct fb_inode *inode, const struct statx *stx)
{
	inode->mode = stx->stx_mode;
	inode->uid = stx->stx_uid;
	inode->gid = stx->stx_gid;
	inode->mtime_sec = stx->stx_mtime.tv_sec;
	inode->mtime_nsec = stx->stx_mtime.tv_nsec;
	if (S_ISREG(inode->mode) || S_ISLNK(inode->mode))
		inode->size = stx->stx_size;
	if (S_ISCHR(inode->mode) || S_ISBLK(inode->mode))
		inode->rdev = makedev(stx->stx_rdev_major, stx->stx_rdev_minor);
}

void fb_state_inode_free(struct fb_inode *inode)
{
	for (size_t i = 0; i < inode->xattr_count; i++) {
		free(inode->xattrs[i].name);
		free(inode->xattrs[i].value);
	}
	free(inode->xattrs);
	free(inode->target);
	free(inode->extents);
}

const char *fb_state_proc_path(int dir, const char *name)
{
	static __thread char path[NAME_MAX + 48];

	/* With "" the slash makes the kernel follow the magic link. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir, name);
	return path;
}

/* One value, however often it grows meanwhile. -ENODATA: gone. */
static int read_value(const char *path, struct fb_xattr *xattr)
{
	for (;;) {
		ssize_t size = lgetxattr(path, xattr->name, NULL, 0);

		if (size <= 0)
			return size < 0 ? -errno : 0;
		xattr->value = malloc((size_t)size);
		if (!xattr->value)
			return -ENOMEM;
		size = lgetxattr(path, xattr->name, xattr->value, (size_t)size);
		if (size > 0) {
			xattr->size = (size_t)size;
			return 0;
		}
		free(fb_steal_ptr(xattr->value));
		if (size < 0 && errno != ERANGE)
			return -errno;
	}
}

static int read_one(const char *path, const char *name, struct fb_inode *inode,
		    size_t *capacity)
{
	struct fb_xattr xattr = { strdup(name), NULL, 0 };
	int rc = xattr.name ? read_value(path, &xattr) : -ENOMEM;

	if (!rc)
		rc = fb_array_grow(&inode->xattrs, capacity, inode->xattr_count + 1,
				   sizeof(xattr));
	if (rc) {
		free(xattr.name);
		free(xattr.value);
		/* Listed, but of no use here: "system.*" of some, or removed. */
		return rc == -ENODATA || rc == -EOPNOTSUPP ? 0 : rc;
	}
	inode->xattrs[inode->xattr_count++] = xattr;
	return 0;
}

/* The list of names into *names (malloc'ed). Its length or -errno. */
static ssize_t list_names(const char *path, char **names)
{
	char small[1024];
	ssize_t length = llistxattr(path, small, sizeof(small));
	bool fits = length > 0;

	if (length == 0 || (length < 0 && errno == EOPNOTSUPP))
		return 0;
	if (length < 0 && errno != ERANGE)
		return -errno;
	/* XATTR_LIST_MAX: no list is longer. */
	*names = malloc(fits ? (size_t)length : XATTR_LIST_MAX);
	if (!*names)
		return -ENOMEM;
	if (fits)
		memcpy(*names, small, (size_t)length);
	else
		length = llistxattr(path, *names, XATTR_LIST_MAX);
	return length < 0 ? -errno : length;
}

/* Most files have none or a few: give back what growing took too much. */
static void trim(struct fb_inode *inode)
{
	size_t size = inode->xattr_count * sizeof(*inode->xattrs);
	void *trimmed = size ? realloc(inode->xattrs, size) : NULL;

	if (trimmed)
		inode->xattrs = trimmed;
}

int fb_state_xattrs_read(int dir, const char *name, struct fb_inode *inode)
{
	const char *path = fb_state_proc_path(dir, name);
	fb_autofree char *names = NULL;
	ssize_t length = list_names(path, &names);
	size_t capacity = inode->xattr_count;

	if (length < 0)
		return (int)length;
	for (const char *n = names; n && n < names + length; n += strlen(n) + 1) {
		int rc = read_one(path, n, inode, &capacity);

		if (rc)
			return rc;
	}
	trim(inode);
	return 0;
}

static int copy_xattr(const struct fb_xattr *from, struct fb_xattr *to)
{
	to->name = strdup(from->name);
	to->value = from->size ? malloc(from->size) : NULL;
	if (!to->name || (from->size && !to->value)) {
		free(to->name);
		free(to->value);
		return -ENOMEM;
	}
	if (from->size)
		memcpy(to->value, from->value, from->size);
	to->size = from->size;
	return 0;
}

int fb_state_inode_take_over(const struct fb_inode *from, struct fb_inode *inode)
{
	if (from->target) {
		inode->size = from->size;
		inode->target = strdup(from->target);
		if (!inode->target)
			return -ENOMEM;
	}
	if (!from->xattr_count)
		return 0;
	inode->xattrs = calloc(from->xattr_count, sizeof(*inode->xattrs));
	if (!inode->xattrs)
		return -ENOMEM;
	for (size_t i = 0; i < from->xattr_count; i++) {
		if (copy_xattr(&from->xattrs[i], &inode->xattrs[i]))
			return -ENOMEM;
		inode->xattr_count++;
	}
	return 0;
}
