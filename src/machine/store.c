/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/store.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"

/* What fb_store_create_file() has to remember. */
struct new_file {
	char *path; /* where it goes */
	char *temporary;
};

static int fd_read(const struct fb_store *store, void *buf, size_t size,
		   uint64_t offset, struct fb_err *err)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pread(store->fd, (char *)buf + done, size - done,
				  (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fb_err_sys(err, errno, "%s: reading at %llu",
					  store->name,
					  (unsigned long long)(offset + done));
		if (!n)
			return fb_err_set(err, EIO, "%s: ends at %llu", store->name,
					  (unsigned long long)(offset + done));
		done += (size_t)n;
	}
	return 0;
}

static int fd_write(const struct fb_store *store, const void *buf, size_t size,
		    uint64_t offset, struct fb_err *err)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pwrite(store->fd, (const char *)buf + done, size - done,
				   (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fb_err_sys(err, n ? errno : ENOSPC,
					  "%s: writing at %llu", store->name,
					  (unsigned long long)(offset + done));
		done += (size_t)n;
	}
	return 0;
}

static int fd_flush(const struct fb_store *store, struct fb_err *err)
{
	if (fdatasync(store->fd))
		return fb_err_sys(err, errno, "%s: flushing", store->name);
	return 0;
}

static void fd_close(struct fb_store *store)
{
	struct new_file *new_file = store->context;

	close(store->fd);
	if (!new_file)
		return;
	if (new_file->temporary)
		unlink(new_file->temporary);
	free(new_file->temporary);
	free(new_file->path);
	free(new_file);
}

static const struct fb_store_ops fd_ops = {
	.read = fd_read,
	.write = fd_write,
	.flush = fd_flush,
	.close = fd_close,
};

static void fd_store(struct fb_store *store, const char *path, int fd, uint64_t size)
{
	memset(store, 0, sizeof(*store));
	store->ops = &fd_ops;
	store->fd = fd;
	store->size = fb_align_down(size, FB_STORE_BLOCK);
	snprintf(store->name, sizeof(store->name), "%s", path);
}

/* O_EXCL on a block device keeps mounts out, and fails while there is one. */
static int open_block(const char *path, bool writable, struct fb_err *err)
{
	int flags = O_DIRECT | O_CLOEXEC | (writable ? O_RDWR | O_EXCL : O_RDONLY);
	fb_autoclose int fd = open(path, flags);
	struct stat st;
	int sector;

	if (fd < 0 && errno == EBUSY)
		return fb_err_set(err, EBUSY, "%s is mounted or in use", path);
	if (fd < 0)
		return fb_err_sys(err, errno, "%s", path);
	if (fstat(fd, &st))
		return fb_err_sys(err, errno, "%s", path);
	if (!S_ISBLK(st.st_mode))
		return fb_err_set(err, ENOTBLK, "%s is not a block device", path);
	if (ioctl(fd, BLKSSZGET, &sector))
		return fb_err_sys(err, errno, "%s: sector size", path);
	if (sector <= 0 || FB_STORE_BLOCK % (unsigned int)sector)
		return fb_err_set(err, EINVAL, "%s: sectors of %d bytes", path, sector);
	return fb_steal_fd(&fd);
}

int fb_store_open_block(const char *path, bool writable, struct fb_store *store,
			struct fb_err *err)
{
	fb_autoclose int fd = open_block(path, writable, err);
	uint64_t size;

	if (fd < 0)
		return fd;
	if (ioctl(fd, BLKGETSIZE64, &size))
		return fb_err_sys(err, errno, "%s: size", path);
	fd_store(store, path, fb_steal_fd(&fd), size);
	return 0;
}

static int open_file(const char *path, int flags, struct fb_store *store,
		     struct fb_err *err)
{
	fb_autoclose int fd = open(path, flags | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return fb_err_sys(err, errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return fb_err_set(err, S_ISDIR(st.st_mode) ? EISDIR : EINVAL,
				  "%s is not a file", path);
	fd_store(store, path, fb_steal_fd(&fd), (uint64_t)st.st_size);
	return 0;
}

int fb_store_open_file(const char *path, bool writable, struct fb_store *store,
		       struct fb_err *err)
{
	return open_file(path, writable ? O_RDWR : O_RDONLY, store, err);
}

static int check_target(const char *path, struct fb_err *err)
{
	struct stat st;

	if (stat(path, &st)) {
		if (errno == ENOENT)
			return 0;
		return fb_err_sys(err, errno, "%s", path);
	}
	if (!S_ISREG(st.st_mode))
		return fb_err_set(err, S_ISDIR(st.st_mode) ? EISDIR : EEXIST,
				  "%s exists and is not a file", path);
	return 0;
}

static struct new_file *new_file_make(const char *path)
{
	struct new_file *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->path = strdup(path);
	n->temporary = fb_asprintf("%s.XXXXXX", path);
	if (n->path && n->temporary)
		return n;
	free(n->path);
	free(n->temporary);
	free(n);
	return NULL;
}

static void new_file_drop(struct new_file *n)
{
	free(n->temporary);
	free(n->path);
	free(n);
}

int fb_store_create_file(const char *path, uint64_t size, struct fb_store *store,
			 struct fb_err *err)
{
	struct new_file *n;
	int fd, ret = check_target(path, err);

	if (ret)
		return ret;
	n = new_file_make(path);
	if (!n)
		return fb_err_sys(err, ENOMEM, "%s", path);
	fd = mkostemp(n->temporary, O_CLOEXEC);
	if (fd < 0) {
		ret = fb_err_sys(err, errno, "%s", n->temporary);
		new_file_drop(n);
		return ret;
	}
	fd_store(store, path, fd, size);
	store->context = n;
	if (ftruncate(fd, (off_t)store->size)) {
		ret = fb_err_sys(err, errno, "%s: %llu bytes", n->temporary,
				 (unsigned long long)size);
		fb_store_close(store);
	}
	return ret;
}

static int sync_directory(const char *path, struct fb_err *err)
{
	fb_autofree char *copy = strdup(path);
	fb_autoclose int fd = -1;

	if (!copy)
		return fb_err_sys(err, ENOMEM, "%s", path);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd))
		return fb_err_sys(err, errno, "%s: flushing its directory", path);
	return 0;
}

int fb_store_commit_file(struct fb_store *store, struct fb_err *err)
{
	struct new_file *n = store->context;

	if (fsync(store->fd))
		return fb_err_sys(err, errno, "%s: flushing", n->temporary);
	if (rename(n->temporary, n->path))
		return fb_err_sys(err, errno, "%s", n->path);
	free(n->temporary);
	n->temporary = NULL;
	return sync_directory(n->path, err);
}

void fb_store_close(struct fb_store *store)
{
	if (store->ops)
		store->ops->close(store);
	memset(store, 0, sizeof(*store));
	store->fd = -1;
}
