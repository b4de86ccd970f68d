/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mounts - the mount table of the live machine, and the few changes to it
 * that an image in place needs. Sources: proc_pid_mountinfo(5), mount(2),
 * open_tree(2), fspick(2); Linux 5.10 and later.
 */
#ifndef FB_MACHINE_MOUNTS_H
#define FB_MACHINE_MOUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* One mount; all strings as they are, not escaped. */
struct fb_mount {
	dev_t dev;     /* of the file system: st_dev of what is in it */
	char *root;    /* what of the file system is mounted: "/", or a bind's */
	char *point;   /* where, in this process's root directory */
	char *type;    /* "tmpfs" */
	char *source;  /* "/dev/pmem0" */
	char *options; /* the file system's: "rw,huge=always" */
};

struct fb_mounts {
	struct fb_mount *mounts; /* as they were mounted, later ones on top; owned */
	size_t count;
};

/*
 * Parse the text of /proc/PID/mountinfo. Pure; lines it does not understand
 * are left out. -ENOMEM. Freed with fb_mounts_free(), which also takes a
 * zeroed struct.
 */
int fb_mounts_parse(const char *text, struct fb_mounts *mounts, struct fb_err *err);

/* The mounts of this process's mount namespace. -errno of the file. */
int fb_mounts_read(struct fb_mounts *mounts, struct fb_err *err);
void fb_mounts_free(struct fb_mounts *mounts);

/* The topmost mount at exactly this path, or NULL. */
const struct fb_mount *fb_mounts_at(const struct fb_mounts *mounts, const char *point);

/* Is `option` ("huge=always") one of the file system's options? */
bool fb_mount_has(const struct fb_mount *mount, const char *option);

/* mount(2) and umount2(2). -errno with the path. */
int fb_mount_make(const char *type, const char *source, const char *point,
		  unsigned long flags, const char *options, struct fb_err *err);
int fb_mount_remove(const char *point, int flags, struct fb_err *err);

/*
 * Show the directory `from` at the directory that `to` (a descriptor, O_PATH
 * is enough) is. `shown` is for messages. -errno.
 */
int fb_mount_bind(const char *from, int to, const char *shown, struct fb_err *err);

/*
 * Change one option of the file system mounted at `point`, and nothing else of
 * it (fsconfig(2), FSCONFIG_CMD_RECONFIGURE). -errno.
 */
int fb_mount_set(const char *point, const char *option, const char *value,
		 struct fb_err *err);

/*
 * A mount namespace of its own for this process, whose mounts begin as a copy
 * and do not spread from or to others (mount_namespaces(7)). *home and *own
 * are descriptors of the two, for fb_mounts_enter(); the caller closes them,
 * and the new one is gone when neither a process nor a descriptor has it.
 * Relative paths begin at "/" afterwards. On failure the process is where it
 * was. -errno.
 */
int fb_mounts_leave_home(int *home, int *own, struct fb_err *err);
int fb_mounts_enter(int ns, struct fb_err *err);

#endif
