/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/mount.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/util.h"

/* True also where it is unknown: there is nothing to mount on. */
static bool is_mount(const char *path, const char *above)
{
	struct stat here, up;

	return stat(path, &here) || stat(above, &up) || here.st_dev != up.st_dev;
}

static int mount_one(const char *type, const char *path, unsigned long flags,
		     const char *options, struct fb_err *err)
{
	if (mkdir(path, 0755) && errno != EEXIST)
		return fb_err_sys(err, errno, "cannot make %s", path);
	if (is_mount(path, "/"))
		return 0;
	if (mount(type, path, type, flags, options))
		return fb_err_sys(err, errno, "cannot mount %s", path);
	return 0;
}

int fb_mount_system(struct fb_err *err)
{
	const unsigned long nothing = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	int proc = mount_one("proc", "/proc", nothing, NULL, err);
	int sys = mount_one("sysfs", "/sys", nothing, NULL, err);
	int dev = mount_one("devtmpfs", "/dev", MS_NOSUID, "mode=0755", err);
	int run = mount_one("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=0755", err);

	return proc ? proc : sys ? sys : dev ? dev : run;
}

static uint64_t half_of_memory(void)
{
	struct sysinfo info;

	return sysinfo(&info) ? 0 : (uint64_t)info.totalram * info.mem_unit / 2;
}

int fb_mount_ramdisk(const char *path, const struct fb_mount_ramdisk *ramdisk,
		     struct fb_err *err)
{
	static const char *const huge[] = { ",huge=within_size", "" };
	uint64_t half = half_of_memory();
	uint64_t bytes = ramdisk->bytes > half ? ramdisk->bytes : half;
	char options[128];

	for (size_t i = 0; i < FB_ARRAY_SIZE(huge); i++) {
		snprintf(options, sizeof(options), "size=%llu,mode=%o,uid=%u,gid=%u%s",
			 (unsigned long long)bytes,
			 (unsigned int)ramdisk->mode & 07777u, ramdisk->uid,
			 ramdisk->gid, huge[i]);
		if (!mount("tmpfs", path, "tmpfs", 0, options))
			return 0;
		if (errno != EINVAL)
			break;
	}
	return fb_err_sys(err, errno, "cannot mount a tmpfs on %s", path);
}

static int take_along(const char *root, const char *path, struct fb_err *err)
{
	char to[PATH_MAX];

	if (snprintf(to, sizeof(to), "%s%s", root, path) >= (int)sizeof(to))
		return fb_err_sys(err, ENAMETOOLONG, "%s", root);
	if (access(to, F_OK))
		return fb_err_sys(err, errno, "%s", to);
	if (!is_mount(to, root) && mount(path, to, NULL, MS_BIND | MS_REC, NULL))
		return fb_err_sys(err, errno, "cannot mount %s on %s", path, to);
	return 0;
}

int fb_mount_enter(const char *root, struct fb_err *err)
{
	static const char *const along[] = { "/proc", "/dev", "/run" };
	int rc = 0;

	if (unshare(CLONE_NEWNS))
		return fb_err_sys(err, errno, "a mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return fb_err_sys(err, errno, "a private mount namespace");
	for (size_t i = 0; i < FB_ARRAY_SIZE(along) && !rc; i++)
		rc = take_along(root, along[i], err);
	if (rc)
		return rc;
	if (chroot(root) || chdir("/"))
		return fb_err_sys(err, errno, "cannot enter %s", root);
	return 0;
}
