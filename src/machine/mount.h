/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mount - the few mounts of an early boot (mount(2), Linux; kernel files
 * Documentation/filesystems/{tmpfs.rst,ramfs-rootfs-initramfs.rst}).
 */
#ifndef FB_MACHINE_MOUNT_H
#define FB_MACHINE_MOUNT_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/*
 * For the first process of an initramfs: /proc, /sys, /dev and /run, where
 * they are not mounted yet; the directories are made where they are missing.
 * -errno of mkdir(2) and mount(2), the others are mounted all the same.
 */
int fb_mount_system(struct fb_err *err);

struct fb_mount_ramdisk {
	uint64_t bytes; /* what must fit; half of the memory where that is more */
	mode_t mode;	/* of the topmost directory */
	uid_t uid;
	gid_t gid;
};

/*
 * A tmpfs on a directory that exists, with huge pages for the files that fill
 * them (huge=within_size) where the kernel has that. -errno of mount(2).
 */
int fb_mount_ramdisk(const char *path, const struct fb_mount_ramdisk *ramdisk,
		     struct fb_err *err);

/*
 * From here on `root` is "/" for this process and those it starts, with
 * /proc, /dev and /run in it: those that are mounted there, else the ones of
 * the root until now. In a mount namespace of its own, so nobody else sees
 * it, and a later switch_root(8) does not matter. -errno of unshare(2), mount(2)
 * and chroot(2); the process is good for nothing then.
 */
int fb_mount_enter(const char *root, struct fb_err *err);

#endif
