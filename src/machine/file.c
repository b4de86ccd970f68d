/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"

int fb_file_write_all(int fd, const void *data, size_t size)
{
	const char *at = data;

	while (size) {
		ssize_t n = write(fd, at, size);

		if (n < 0)
			return -errno;
		at += n;
		size -= (size_t)n;
	}
	return 0;
}

int fb_file_write(const char *path, const void *data, size_t size, struct fb_err *err)
{
	fb_autofree char *temporary = fb_asprintf("%s.XXXXXX", path);
	struct stat st;
	bool plain = stat(path, &st) || S_ISREG(st.st_mode);
	fb_autoclose int fd = -1;
	int rc;

	if (!temporary)
		return fb_err_sys(err, ENOMEM, "%s", path);
	fd = plain ? mkostemp(temporary, O_CLOEXEC) : open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return fb_err_sys(err, errno, "cannot write %s", path);
	rc = fb_file_write_all(fd, data, size);
	if (!rc && plain && (fchmod(fd, 0644) || fsync(fd) || rename(temporary, path)))
		rc = -errno;
	if (!rc)
		return 0;
	if (plain)
		unlink(temporary);
	return fb_err_sys(err, -rc, "cannot write %s", path);
}
