/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "base/util.h"
#include "machine/sys.h"

/* Others may be faster to take the one that was free. */
#define TRIES 16

static int configure(int device, int file)
{
	struct loop_config config = {
		.fd = (unsigned int)file,
		.block_size = 4096,
		.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
	};

	return ioctl(device, LOOP_CONFIGURE, &config) ? -errno : 0;
}

int fb_loop_attach(const char *file, char *device, size_t size, struct fb_err *err)
{
	fb_autoclose int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	fb_autoclose int from = open(file, O_RDONLY | O_CLOEXEC);
	int rc = -EBUSY;

	if (control < 0)
		return fb_err_sys(err, errno, "/dev/loop-control");
	if (from < 0)
		return fb_err_sys(err, errno, "%s", file);
	for (int i = 0; i < TRIES && rc == -EBUSY; i++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);
		fb_autoclose int fd = -1;

		if (number < 0)
			return fb_err_sys(err, errno, "no free loop device");
		snprintf(device, size, "/dev/loop%d", number);
		fd = open(device, O_RDONLY | O_CLOEXEC);
		rc = fd < 0 ? -errno : configure(fd, from);
		if (!rc)
			return fb_steal_fd(&fd);
	}
	return fb_err_sys(err, -rc, "cannot use %s for %s", device, file);
}

bool fb_loop_file(dev_t device, char *file, size_t size)
{
	static const struct fb_sys live = { "" };
	char path[64];

	if (major(device) != LOOP_MAJOR)
		return false;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/loop/backing_file",
		 major(device), minor(device));
	if (fb_sys_attr_read(&live, path, file, size, NULL))
		snprintf(file, size, "?");
	return true;
}
