/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sys - sysfs and procfs relative to a root directory, so that the whole
 * program also runs on a tree captured from another machine (--sysroot DIR).
 *
 * All paths are absolute as on a live machine ("/sys/bus/nd/devices"); the
 * root is put in front. The attribute functions are the only door through
 * which fastboot changes sysfs: tests replace them at link time by ones that
 * record the writes in order and fail the n-th.
 */
#ifndef FB_MACHINE_SYS_H
#define FB_MACHINE_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct fb_sys {
	const char *root; /* "" for the live machine; no trailing slash; not owned */
};

/* Is this the machine we run on (root is "")? */
bool fb_sys_live(const struct fb_sys *sys);

/*
 * The whole file as a NUL-terminated string, malloc'ed to *text; *size (may be
 * NULL) is its length without that NUL. -errno of open or read; nothing is
 * trimmed.
 */
int fb_sys_read(const struct fb_sys *sys, const char *path, char **text,
		size_t *size, struct fb_err *err);

/*
 * A sysfs attribute: the content without the trailing white space, into
 * buf[size], always terminated. -errno of open or read, -EOVERFLOW where it
 * does not fit.
 */
int fb_sys_attr_read(const struct fb_sys *sys, const char *path, char *buf,
		     size_t size, struct fb_err *err);

/* An attribute that holds one number; 0x in front means hexadecimal. */
int fb_sys_attr_u64(const struct fb_sys *sys, const char *path, uint64_t *value,
		    struct fb_err *err);

/*
 * Write an attribute with one write(2), opened O_WRONLY|O_TRUNC|O_CLOEXEC
 * (never O_CREAT). A blocked write that a signal interrupts fails with
 * -EINTR and is not restarted; whether it had an effect must be read back.
 * -errno of open or write.
 */
int fb_sys_attr_write(const struct fb_sys *sys, const char *path,
		      const char *value, struct fb_err *err);

/* Does the path exist (symbolic links followed)? */
bool fb_sys_exists(const struct fb_sys *sys, const char *path);

/*
 * The last component of a symbolic link's target ("kmem" for a device's
 * `driver`). -ENOENT where the link is missing.
 */
int fb_sys_link_name(const struct fb_sys *sys, const char *path, char *buf,
		     size_t size, struct fb_err *err);

/*
 * The names in a directory, without those that begin with a dot, sorted with
 * numbers in numerical order (memory9 before memory10): a NULL-terminated
 * array, freed by fb_sys_list_free(). -errno of opendir or readdir.
 */
int fb_sys_list(const struct fb_sys *sys, const char *path, char ***names,
		struct fb_err *err);
void fb_sys_list_free(char **names);

#endif
