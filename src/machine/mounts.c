/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "base/util.h"
#include "machine/sys.h"

/* ---- reading ------------------------------------------------------------------- */

/* A field with "\040" and the like; NULL: no memory. */
static char *unescape(const char *field)
{
	char *out = malloc(strlen(field) + 1), *to = out;

	while (out && *field) {
		unsigned int byte;

		if (*field == '\\' && sscanf(field + 1, "%3o", &byte) == 1) {
			*to++ = (char)byte;
			field += 4;
		} else {
			*to++ = *field++;
		}
	}
	if (out)
		*to = '\0';
	return out;
}

static void mount_free(struct fb_mount *m)
{
	free(m->root);
	free(m->point);
	free(m->type);
	free(m->source);
	free(m->options);
}

/* Number, parent, device, root, point, options, tags …, "-", type, source, options. */
enum { ROOT = 3, POINT, FIRST_TAG = 6, FIELDS_AT_LEAST = 10 };

static size_t split(char *line, char **fields, size_t most)
{
	char *save = NULL;
	size_t n = 0;

	for (char *f = strtok_r(line, " ", &save); f && n < most;
	     f = strtok_r(NULL, " ", &save))
		fields[n++] = f;
	return n;
}

/* 0, -EINVAL (not such a line) or -ENOMEM. */
static int parse_line(char *line, struct fb_mount *m)
{
	char *fields[64];
	size_t n = split(line, fields, FB_ARRAY_SIZE(fields)), at = FIRST_TAG;
	unsigned int major, minor;

	while (at < n && strcmp(fields[at], "-"))
		at++;
	if (n < FIELDS_AT_LEAST || at + 3 >= n ||
	    sscanf(fields[2], "%u:%u", &major, &minor) != 2)
		return -EINVAL;
	*m = (struct fb_mount){
		.dev = makedev(major, minor),
		.root = unescape(fields[ROOT]),
		.point = unescape(fields[POINT]),
		.type = unescape(fields[at + 1]),
		.source = unescape(fields[at + 2]),
		.options = unescape(fields[at + 3]),
	};
	if (m->root && m->point && m->type && m->source && m->options)
		return 0;
	mount_free(m);
	return -ENOMEM;
}

int fb_mounts_parse(const char *text, struct fb_mounts *mounts, struct fb_err *err)
{
	fb_autofree char *copy = strdup(text);
	struct fb_mounts all = { NULL, 0 };
	size_t capacity = 0;
	char *save = NULL;

	for (char *line = copy ? strtok_r(copy, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save)) {
		int rc = fb_array_grow(&all.mounts, &capacity, all.count + 1,
				       sizeof(*all.mounts));

		if (!rc)
			rc = parse_line(line, &all.mounts[all.count]);
		if (rc == -ENOMEM) {
			fb_mounts_free(&all);
			return fb_err_set(err, ENOMEM, "out of memory");
		}
		all.count += !rc;
	}
	if (!copy)
		return fb_err_set(err, ENOMEM, "out of memory");
	*mounts = all;
	return 0;
}

int fb_mounts_read(struct fb_mounts *mounts, struct fb_err *err)
{
	static const struct fb_sys live = { "" };
	fb_autofree char *text = NULL;
	int rc = fb_sys_read(&live, "/proc/self/mountinfo", &text, NULL, err);

	return rc ? rc : fb_mounts_parse(text, mounts, err);
}

void fb_mounts_free(struct fb_mounts *mounts)
{
	for (size_t i = 0; i < mounts->count; i++)
		mount_free(&mounts->mounts[i]);
	free(mounts->mounts);
	*mounts = (struct fb_mounts){ NULL, 0 };
}

const struct fb_mount *fb_mounts_at(const struct fb_mounts *mounts, const char *point)
{
	for (size_t i = mounts->count; i; i--)
		if (!strcmp(mounts->mounts[i - 1].point, point))
			return &mounts->mounts[i - 1];
	return NULL;
}

bool fb_mount_has(const struct fb_mount *mount, const char *option)
{
	size_t length = strlen(option);

	for (const char *at = mount->options; *at;) {
		size_t n = strcspn(at, ",");

		if (n == length && !memcmp(at, option, n))
			return true;
		at += n + (at[n] == ',');
	}
	return false;
}

/* ---- changing -------------------------------------------------------------------- */

int fb_mount_make(const char *type, const char *source, const char *point,
		  unsigned long flags, const char *options, struct fb_err *err)
{
	if (mount(source, point, type, flags, options))
		return fb_err_sys(err, errno, "cannot %s %s on '%s'",
				  flags & MS_REMOUNT ? "change the mount of" : "mount",
				  source ? source : "what is", point);
	return 0;
}

int fb_mount_remove(const char *point, int flags, struct fb_err *err)
{
	if (umount2(point, flags | UMOUNT_NOFOLLOW))
		return fb_err_sys(err, errno, "cannot unmount '%s'", point);
	return 0;
}

int fb_mount_bind(const char *from, int to, const char *shown, struct fb_err *err)
{
	fb_autoclose int tree =
		open_tree(AT_FDCWD, from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0)
		return fb_err_sys(err, errno, "cannot mount '%s'", from);
	if (move_mount(tree, "", to, "",
		       MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH))
		return fb_err_sys(err, errno, "cannot mount on '%s'", shown);
	return 0;
}

int fb_mount_set(const char *point, const char *option, const char *value,
		 struct fb_err *err)
{
	fb_autoclose int fs = fspick(AT_FDCWD, point, FSPICK_CLOEXEC);

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, option, value, 0) ||
	    fsconfig(fs, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0))
		return fb_err_sys(err, errno, "cannot set %s=%s on '%s'", option, value,
				  point);
	return 0;
}

/* ---- namespaces --------------------------------------------------------------------
 */

static int open_namespace(struct fb_err *err)
{
	int fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? fb_err_sys(err, errno, "cannot open /proc/self/ns/mnt") : fd;
}

int fb_mounts_enter(int ns, struct fb_err *err)
{
	/* A thread that was joined may not have let go of its share yet: -EINVAL. */
	if (unshare(CLONE_FS) || setns(ns, CLONE_NEWNS))
		return fb_err_sys(err, errno, "cannot enter a mount namespace");
	return 0;
}

int fb_mounts_leave_home(int *home, int *own, struct fb_err *err)
{
	fb_autoclose int before = open_namespace(err);
	fb_autoclose int after = -1;
	int rc = 0;

	if (before < 0)
		return before;
	if (unshare(CLONE_NEWNS))
		return fb_err_sys(err, errno, "cannot make a mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		rc = fb_err_sys(err, errno, "cannot make the mounts private");
	if (!rc) {
		after = open_namespace(err);
		rc = after < 0 ? after : 0;
	}
	if (!rc && chdir("/"))
		rc = fb_err_sys(err, errno, "cannot change to '/'");
	if (rc) {
		fb_mounts_enter(before, NULL);
		return rc;
	}
	*home = fb_steal_fd(&before);
	*own = fb_steal_fd(&after);
	return 0;
}
