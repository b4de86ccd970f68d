/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kexec_tools - the next kernel through kexec(8), the program of kexec-tools:
 * kexec_load(2), whose purgatory it brings, without the digest that
 * kexec_file_load(2) makes on x86. fb_kexec_load() is what callers use.
 *
 * On x86 the program places segments by the firmware's map
 * (/sys/firmware/memmap), in which a region made by memmap= is plain RAM: left
 * alone it may put a kernel into the region. So it gets a window of plain
 * System RAM of /proc/iomem (--mem-min, --mem-max), and the addresses that it
 * prints are looked at again.
 *
 * Source: kexec(8), kexec/kexec.c of kexec-tools 2.0.25.
 */
#ifndef FB_MACHINE_KEXEC_TOOLS_H
#define FB_MACHINE_KEXEC_TOOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/facts.h"
#include "base/range.h"
#include "machine/sys.h"

struct fb_kexec_ahead;
struct fb_kexec_request;

/* The program in PATH, /usr/sbin or /sbin, below the root: without the root in
 * path[size]. */
bool fb_kexec_tools_find(const struct fb_sys *sys, char *path, size_t size);

/*
 * Pure: a range at the top level of /proc/iomem that is called System RAM, and
 * so is neither a region nor "System RAM (kmem)", less what `region` has of
 * it: the upper half of the largest below 4 GiB if that has `enough` bytes and
 * enough is not 0, otherwise the largest of all. -ENOENT: there is none
 * outside of `region`.
 *
 * Below 4 GiB, because kexec-tools puts the initramfs at the window's end and
 * the next kernel takes its first memory right below that. At the end of all
 * memory, where Linux begins to hand it out (zone Normal before DMA32), are
 * the programs that have just run: nothing to a processor, but an emulator
 * that has translated them drops them block by block while the kernel waits.
 * The upper half, because a kernel without KASLR runs in the lower one.
 */
int fb_kexec_tools_window(const struct fb_iomem *iomem, struct fb_range region,
			  uint64_t enough, struct fb_range *window, struct fb_err *err);

/*
 * Pure: do all segments that `kexec -d` printed lie outside of the region?
 * *count of them. -EFAULT: one does not, or the text has none, or not as many
 * as it announces ("nr_segments = 5").
 */
int fb_kexec_tools_prove(const char *output, struct fb_range region,
			 unsigned int *count, struct fb_err *err);

/*
 * Pure: the window without some of its end, so much that `enough` bytes are left and
 * `random` decides where kexec-tools, which begins at the end, puts the kernel: in
 * steps of 2 MiB, as its decompressor would.
 */
struct fb_range fb_kexec_tools_shift(struct fb_range window, uint64_t enough,
				     uint64_t random);

/*
 * Run request->tools, with ahead->fd for the kernel where there is one; if that fails for
 * want of room or for what the program says, again with the file, and *ahead becomes none.
 * *segments is 0 where no region was given, otherwise
 * their number, and none is in the region. On -EFAULT a kernel is loaded that
 * the caller must unload. Else nothing was loaded: -EPERM, -EACCES, -ENOSYS,
 * -EBUSY, -ENOMEM, -EADDRNOTAVAIL as the kernel said; -EIO for all else that
 * the program complained of, its words in *err; -errno of starting it.
 */
int fb_kexec_tools_load(const struct fb_sys *sys,
			const struct fb_kexec_request *request,
			struct fb_kexec_ahead *ahead, unsigned int *segments,
			struct fb_err *err);

#endif
