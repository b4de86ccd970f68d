/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * carve - chooses where a region goes, so that no memory block is lost. Pure:
 * facts in, a range out.
 *
 * A devdax namespace with --map mem keeps the first bytes of the region for
 * itself (2 MiB on x86-64: the start of the data is aligned to a huge page,
 * drivers/nvdimm/pfn_devs.c, nd_pfn_init()), and kmem adds only whole memory
 * blocks (drivers/dax/kmem.c, dax_kmem_range()); Linux 6.12. So the region
 * begins that much below a block boundary and is that much longer.
 */
#ifndef FB_ENGINE_CARVE_H
#define FB_ENGINE_CARVE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/facts.h"
#include "base/range.h"

struct fb_carve_request {
	uint64_t size; /* bytes that shall come up as RAM; rounded up to blocks */
	bool at_set;   /* the region begins at `at`, a multiple of FB_CARVE_ALIGN */
	uint64_t at;
	uint64_t block_size; /* a power of two */
	uint64_t overhead;   /* what devdax keeps, a multiple of FB_CARVE_ALIGN */
	bool top; /* RAM will end where the region begins: the highest place */
};

/* The kernel maps and adds persistent memory in pieces of 2 MiB
 * (SUBSECTION_SIZE, include/linux/mmzone.h). */
#define FB_CARVE_ALIGN ((uint64_t)2 << 20)

/*
 * What devdax keeps: up to the next multiple of the namespace's alignment.
 * libnvdimm wants regions on arm64 to begin at 16 MiB
 * (memremap_compat_align(), mm/memremap.c, 6.12).
 */
#define FB_CARVE_OVERHEAD_X86	((uint64_t)2 << 20)
#define FB_CARVE_OVERHEAD_ARM64 ((uint64_t)16 << 20)

struct fb_carve {
	struct fb_range region; /* what memmap= or the device tree must say */
	struct fb_range usable; /* what becomes RAM: whole blocks */
	uint64_t first_block;	/* memoryN */
	uint64_t block_count;
	struct fb_range bank; /* the System RAM it is taken from */
	uint64_t ram;	      /* System RAM now, all banks */
	uint64_t above;	      /* of it above the region: with `top` nobody has it */
};

/*
 * Choose the region. It lies in one bank of System RAM and clear of what
 * /proc/iomem shows inside: a crash kernel, what firmware reserved. The running
 * kernel itself counts only in the first 128 MiB of RAM, where a kernel without
 * KASLR goes: one with KASLR sits elsewhere at every boot, and the next one keeps
 * out of the region (fb_cmdline_kaslr_avoids()). So the choice is the same at
 * every boot. The lowest address above 4 GiB that fits, in the largest bank that
 * has one, is taken (devices with 32-bit DMA need what is below; boot loaders and
 * kexec fill memory from the top), else above the first GiB of RAM, else above
 * its first 128 MiB; with `at_set` only that one address. There the blocks
 * begin at the first boundary behind the overhead.
 *
 * With `top` it is the highest place above the first 128 MiB instead, for mem=,
 * which takes everything above away. What firmware and this kernel have at the
 * end of RAM cannot be told apart in /proc/iomem, and the next kernel reads
 * some of it, so the region ends below all of that.
 *
 * The facts need not come from /proc/iomem: a device tree's do as well
 * (fb_dtb_iomem()).
 *
 * -EINVAL: the size is 0, or `at` is not aligned; -ENOSPC: nothing fits, *err
 * names the largest size that does, or what is in the way of `at`.
 */
int fb_carve_choose(const struct fb_iomem *iomem,
		    const struct fb_carve_request *request, struct fb_carve *carve,
		    struct fb_err *err);

/*
 * Has a region that exists, in no bank, exactly the blocks that are asked for? Then
 * *carve tells of it, with `bank`, `ram` and `above` zero. The request's `at`
 * is not looked at. Pure.
 */
bool fb_carve_fits(const struct fb_carve_request *request, struct fb_range region,
		   struct fb_carve *carve);

/*
 * The number behind mem= with which RAM ends at `start` on arm64. It is a total:
 * what the kernel knows of memory below, "System RAM" and what firmware keeps of
 * it, "reserved" at the top level (memblock_mem_limit_remove_map(), mm/memblock.c;
 * request_standard_resources(), arch/arm64/kernel/setup.c; 6.12).
 */
uint64_t fb_carve_mem(const struct fb_iomem *iomem, uint64_t start);

/* The other way: where RAM ends with mem=`total`; UINT64_MAX: it is not cut. */
uint64_t fb_carve_mem_end(const struct fb_iomem *iomem, uint64_t total);

#endif
