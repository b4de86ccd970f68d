/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/sys.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "base/util.h"

static int full_path(const struct fb_sys *sys, const char *path,
		     char out[PATH_MAX], struct fb_err *err)
{
	if (snprintf(out, PATH_MAX, "%s%s", sys->root, path) >= PATH_MAX)
		return fb_err_set(err, ENAMETOOLONG, "%s%s: path too long",
				  sys->root, path);
	return 0;
}

bool fb_sys_live(const struct fb_sys *sys)
{
	return !sys->root[0];
}

int fb_sys_read(const struct fb_sys *sys, const char *path, char **text,
		size_t *size, struct fb_err *err)
{
	fb_autoclose int fd = -1;
	fb_autofree char *buf = NULL;
	char full[PATH_MAX];
	size_t used = 0, capacity = 0;
	int rc = full_path(sys, path, full, err);

	if (rc)
		return rc;
	fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fb_err_sys(err, errno, "cannot open %s", full);
	for (;;) {
		ssize_t n;

		if (fb_array_grow(&buf, &capacity, used + 4096, 1))
			return fb_err_sys(err, ENOMEM, "reading %s", full);
		n = read(fd, buf + used, capacity - used - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fb_err_sys(err, errno, "cannot read %s", full);
		if (n == 0)
			break;
		used += (size_t)n;
	}
	buf[used] = '\0';
	*text = fb_steal_ptr(buf);
	if (size)
		*size = used;
	return 0;
}

int fb_sys_attr_read(const struct fb_sys *sys, const char *path, char *buf,
		     size_t size, struct fb_err *err)
{
	fb_autofree char *text = NULL;
	size_t n;
	int rc = fb_sys_read(sys, path, &text, &n, err);

	if (rc)
		return rc;
	while (n && isspace((unsigned char)text[n - 1]))
		n--;
	if (n >= size)
		return fb_err_sys(err, EOVERFLOW, "%s%s", sys->root, path);
	memcpy(buf, text, n);
	buf[n] = '\0';
	return 0;
}

int fb_sys_attr_u64(const struct fb_sys *sys, const char *path, uint64_t *value,
		    struct fb_err *err)
{
	char text[64];
	int rc = fb_sys_attr_read(sys, path, text, sizeof(text), err);

	if (rc)
		return rc;
	rc = strncmp(text, "0x", 2) ? fb_parse_u64(text, value)
				    : fb_parse_base(text, 16, value);
	if (rc)
		return fb_err_set(err, EINVAL, "%s%s: '%s' is not a number",
				  sys->root, path, text);
	return 0;
}

int fb_sys_attr_write(const struct fb_sys *sys, const char *path,
		      const char *value, struct fb_err *err)
{
	fb_autoclose int fd = -1;
	char full[PATH_MAX];
	size_t size = strlen(value);
	ssize_t n;
	int rc = full_path(sys, path, full, err);

	if (rc)
		return rc;
	fd = open(full, O_WRONLY | O_TRUNC | O_CLOEXEC);
	if (fd < 0)
		return fb_err_sys(err, errno, "cannot open %s", full);
	n = write(fd, value, size);
	if (n < 0)
		return fb_err_sys(err, errno, "cannot write '%s' to %s", value, full);
	if ((size_t)n != size)
		return fb_err_sys(err, EIO, "short write of '%s' to %s", value, full);
	return 0;
}

bool fb_sys_exists(const struct fb_sys *sys, const char *path)
{
	char full[PATH_MAX];

	return !full_path(sys, path, full, NULL) && !access(full, F_OK);
}

int fb_sys_link_name(const struct fb_sys *sys, const char *path, char *buf,
		     size_t size, struct fb_err *err)
{
	char full[PATH_MAX], target[PATH_MAX];
	const char *name;
	ssize_t n;
	int rc = full_path(sys, path, full, err);

	if (rc)
		return rc;
	n = readlink(full, target, sizeof(target) - 1);
	if (n < 0)
		return fb_err_sys(err, errno, "cannot read the link %s", full);
	target[n] = '\0';
	name = strrchr(target, '/') ? strrchr(target, '/') + 1 : target;
	if (strlen(name) >= size)
		return fb_err_sys(err, EOVERFLOW, "%s", full);
	strcpy(buf, name);
	return 0;
}

static int by_version(const void *a, const void *b)
{
	return strverscmp(*(char *const *)a, *(char *const *)b);
}

int fb_sys_list(const struct fb_sys *sys, const char *path, char ***names,
		struct fb_err *err)
{
	fb_autoclosedir DIR *dir = NULL;
	char full[PATH_MAX];
	char **list = NULL;
	size_t count = 0, capacity = 0;
	struct dirent *entry;
	int rc = full_path(sys, path, full, err);

	if (rc)
		return rc;
	dir = opendir(full);
	if (!dir)
		return fb_err_sys(err, errno, "cannot open %s", full);
	for (;;) {
		/* Room for this name and the terminator. */
		if (fb_array_grow(&list, &capacity, count + 2, sizeof(*list)))
			goto out_of_memory;
		list[count] = NULL;
		errno = 0;
		entry = readdir(dir);
		if (!entry)
			break;
		if (entry->d_name[0] == '.')
			continue;
		list[count] = strdup(entry->d_name);
		if (!list[count])
			goto out_of_memory;
		count++;
	}
	if (errno) {
		rc = fb_err_sys(err, errno, "cannot read %s", full);
		fb_sys_list_free(list);
		return rc;
	}
	qsort(list, count, sizeof(*list), by_version);
	*names = list;
	return 0;

out_of_memory:
	fb_sys_list_free(list);
	return fb_err_sys(err, ENOMEM, "reading %s", full);
}

void fb_sys_list_free(char **names)
{
	for (char **n = names; n && *n; n++)
		free(*n);
	free(names);
}
