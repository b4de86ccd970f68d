/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bzimage - an x86 kernel as a bzImage, taken apart and put together again so that
 * it need not decompress itself: that takes time while no application runs, and
 * can be done before. Pure.
 *
 *	struct fb_bzimage bz;
 *
 *	fb_bzimage_parse(file, size, &bz, err)
 *	fb_bzimage_unpack(file, size, &options, &out, &out_size, err)
 *
 * What comes out is a bzImage too, for a loader that enters it in 64-bit mode with
 * paging on (its entry is 512 bytes behind the setup sectors): the same setup
 * header, but the kernel stands there as the decompressor would have placed it, with
 * a virtual address chosen here (KASLR), and the entry leads straight to its
 * startup_64. Where it lies in memory is the loader's choice; 2 MiB are its grain.
 * What else the decompressor does is switching between page tables of four and five
 * levels, see FB_BZIMAGE_5LEVEL, and what encrypted guests need: such a machine
 * must not use this.
 *
 * Sources: Documentation/arch/x86/boot.rst; arch/x86/boot/compressed/misc.c
 * (parse_elf, handle_relocations), kaslr.c (find_random_virt_addr), Makefile;
 * arch/x86/tools/relocs.c; arch/x86/kernel/head_64.S ("We come here either directly
 * from a 64bit bootloader"), Linux 6.12.
 */
#ifndef FB_FORMAT_BZIMAGE_H
#define FB_FORMAT_BZIMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* xloadflags: it can run with five levels of page tables, and is told to. */
#define FB_BZIMAGE_5LEVEL ((uint16_t)(1 << 6)) /* XLF_5LEVEL_ENABLED */

struct fb_bzimage {
	uint64_t setup_size; /* bytes in front of the kernel's own part */
	uint16_t xloadflags;
	uint32_t alignment; /* of its physical and virtual address */
	/* The compressed kernel, in the file, and its size without compression. */
	uint64_t payload, payload_size, unpacked_size;
};

/*
 * file[size] is whole. -ENOEXEC: it is no bzImage of 64 bits, protocol 2.12 or
 * later; -EBADMSG: what its header says cannot be.
 */
int fb_bzimage_parse(const void *file, size_t size, struct fb_bzimage *bz,
		     struct fb_err *err);

struct fb_bzimage_options {
	/*
	 * Choose a virtual address by `random`, 64 random bits, and tell the kernel to
	 * choose those of its memory areas at random, too, as the decompressor does
	 * without nokaslr. A kernel that was built without KASLR stays where it is.
	 */
	bool kaslr;
	uint64_t random;
};

/*
 * A new file, *out of *out_size bytes, malloc'ed. -ENOTSUP: compressed in a way that
 * is not known; -EBADMSG: damaged, or not built as the kernels that this is made
 * for, so that it is better left alone; -ENOMEM; and fb_bzimage_parse()'s.
 */
int fb_bzimage_unpack(const void *file, size_t size,
		      const struct fb_bzimage_options *options, void **out,
		      size_t *out_size, struct fb_err *err);

/* Bytes of memory that the kernel in such a file takes where it starts (init_size). */
uint64_t fb_bzimage_memory(const void *file);

#endif
