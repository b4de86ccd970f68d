/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * holders - which processes use a file system: open files, mappings, working
 * and root directories, programs. Reads /proc of the live machine; needs root
 * to see other users' processes. Sources: proc_pid_fd(5), proc_pid_maps(5).
 */
#ifndef FB_MACHINE_HOLDERS_H
#define FB_MACHINE_HOLDERS_H

#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

/*
 * How many processes, this one left out, use what lies on one of the devices
 * (st_dev)? The first of them to text[size] as
 * "redis-server (pid 12), bash (pid 33) and 3 more", "" where there is none.
 * Never fails: what cannot be read is not counted.
 */
size_t fb_holders_find(const dev_t *devices, size_t count, char *text, size_t size);

/*
 * The processes in whose mount namespace, another than this process's, one of
 * the devices is mounted. Otherwise the same.
 */
size_t fb_holders_mounted(const dev_t *devices, size_t count, char *text, size_t size);

#endif
