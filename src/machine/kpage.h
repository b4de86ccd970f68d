/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kpage - what the kernel tells about single page frames: /proc/kpageflags,
 * and /proc/PID/pagemap the other way round. Reads only; needs root.
 * Sources: fs/proc/page.c, fs/proc/task_mmu.c, Linux 6.12 and 6.1;
 * Documentation/admin-guide/mm/pagemap.rst.
 */
#ifndef FB_MACHINE_KPAGE_H
#define FB_MACHINE_KPAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/sys.h"

/* Bytes in a page of this machine. */
uint64_t fb_kpage_size(void);

/* Is there a /proc/kpageflags (CONFIG_PROC_PAGE_MONITOR)? */
bool fb_kpage_available(const struct fb_sys *sys);

/*
 * The KPF_* flags (linux/kernel-page-flags.h) of `count` page frames from
 * number `first`. -ENOENT without /proc/kpageflags, -EPERM or -EACCES without
 * root, -ENXIO where frames lie behind the end of memory.
 */
int fb_kpage_flags(const struct fb_sys *sys, uint64_t first, size_t count,
		   uint64_t *flags, struct fb_err *err);

/*
 * Which processes map any of the `count` page frames `pfns` (ascending)? Their
 * names and numbers as "name (pid 123), name (pid 456)" to text[size], "" when
 * none is found: a page may be held by the kernel alone, and the search ends
 * after `budget_usec`, since it reads the page tables of every process. Works
 * on the live machine only. Never fails.
 */
void fb_kpage_owners(const uint64_t *pfns, size_t count, uint64_t budget_usec,
		     char *text, size_t size);

#endif
