/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lease - proof that files were not written to: read leases (fcntl(2),
 * F_SETLEASE, F_RDLCK), one a file, and a thread that gives way at once when
 * one is broken.
 *
 * The kernel (fs/locks.c, Linux 6.12) refuses a read lease while the file is
 * open for writing anywhere, which a writable shared mapping of it counts as,
 * and breaks it on every open for writing and on truncate(2). So a lease that
 * was taken before the file was read, and is still held, says that the bytes
 * are what was read. What it does not see: memory of a file that a device or
 * io_uring has pinned and writes to after the last descriptor and mapping are
 * gone.
 *
 * The one who breaks a lease waits until it is given up (or
 * /proc/sys/fs/lease-break-time is over): the thread does that within
 * milliseconds. An open with O_NONBLOCK does not wait but fails once with
 * EWOULDBLOCK.
 *
 *	fb_leases_start(&leases, file_count, err);
 *	lease = fb_lease_take(leases, fd);   then read the file
 *	fb_leases_limit_restore(leases);     before other programs are started
 *	... fb_lease_held(leases, lease) ...
 *	fb_leases_stop(leases);
 *
 * A held lease also keeps the inode alive: its number is not used again.
 */
#ifndef FB_MACHINE_LEASE_H
#define FB_MACHINE_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct fb_leases;

/* One lease; no number is ever used twice. FB_LEASE_NONE: no lease. */
typedef uint64_t fb_lease;
#define FB_LEASE_NONE ((fb_lease)0)

/*
 * Start the thread, and raise RLIMIT_NOFILE for `count` leases as far as that
 * is allowed (the hard limit, too, with CAP_SYS_RESOURCE). Leases have
 * descriptors above those that the rest of the program uses. The thread takes
 * SIGRTMIN + 3 and SIGIO, sent to it alone; all other threads and the
 * program's signal handlers are left alone. -ENOMEM, -errno of
 * pthread_create.
 */
int fb_leases_start(struct fb_leases **leases, size_t count, struct fb_err *err);

/* Put RLIMIT_NOFILE back; leases stay. The next fb_lease_take() raises it again. */
void fb_leases_limit_restore(struct fb_leases *leases);

/*
 * A read lease on the file that `fd` (O_RDONLY) has open; `fd` stays the
 * caller's. FB_LEASE_NONE where somebody
 * has it open for writing, the file system has no leases or is not one that is written to through this
 * kernel alone (tmpfs, ramfs, ext4, XFS and Btrfs are), or no descriptor is
 * left. Not an error: such a file is simply not known to be clean.
 */
fb_lease fb_lease_take(struct fb_leases *leases, int fd);

/* Is it held, and not being broken? FB_LEASE_NONE is not. */
bool fb_lease_held(struct fb_leases *leases, fb_lease lease);

/* Give one up; nothing if it was broken or is FB_LEASE_NONE. */
void fb_lease_drop(struct fb_leases *leases, fb_lease lease);

/* How many there are now, and how many were broken since the start. */
void fb_leases_count(struct fb_leases *leases, size_t *held, size_t *broken);

/* Give all up, end the thread, put RLIMIT_NOFILE back, free. NULL is fine. */
void fb_leases_stop(struct fb_leases *leases);

#endif
