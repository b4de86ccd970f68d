/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hotplug - makes the region System RAM (hotadd) and takes it back
 * (hotremove): facts, a plan made from them by pure functions, and the run.
 *
 *	struct fb_hotplug_facts facts;
 *	struct fb_plan plan = { 0 };
 *
 *	rc = fb_hotplug_read(sys, &region, &facts, err);
 *	rc = fb_hotremove_plan(&facts, &plan, err);
 *	rc = fb_hotplug_run(sys, &facts, &plan, &options, err);
 *	fb_plan_free(&plan);
 *	fb_hotplug_facts_free(&facts);
 *
 * hotadd: namespace to devdax; auto_online_blocks to "offline" (else blocks
 * may come up in a kernel zone and never leave); device_dax lets go, kmem
 * takes over; every block online_movable, verified by state and valid_zones;
 * auto_online_blocks back.
 *
 * hotremove: auto_online_blocks to "offline" (for the undo); clean page cache
 * dropped, where there is enough of it in the region; blocks offline, the emptiest
 *first; kmem unbound only if every block reads "offline" (otherwise the kernel keeps
 *the memory until the next reboot); namespace to raw; auto_online_blocks back. Dropping
 *the cache is the one step without an undo: nothing is lost by it but time.
 *
 * Sources: drivers/dax/{bus,kmem}.c, drivers/base/memory.c,
 * mm/memory_hotplug.c, drivers/nvdimm/pfn_devs.c, Linux 6.12 and 6.1.
 */
#ifndef FB_ENGINE_HOTPLUG_H
#define FB_ENGINE_HOTPLUG_H

#include "base/err.h"
#include "base/facts.h"
#include "base/tree.h"
#include "machine/memblk.h"
#include "machine/plan.h"
#include "machine/sys.h"

struct fb_hotplug_facts {
	struct fb_region region;
	struct fb_memblks blocks; /* of region.hotadded; none when it is empty */
	struct fb_memblk_usage usage;
	struct fb_meminfo memory;
	char auto_online[32]; /* auto_online_blocks as it is */
};

/*
 * Read everything a plan is made from; `region` as fb_region_find() gave it.
 * Counting what is in the blocks needs root and /proc/kpageflags; without, the
 * plan goes by address. -ENOENT with FB_EXIT_IMPOSSIBLE: a kernel without
 * memory hotplug; else the -errno of a file.
 */
int fb_hotplug_read(const struct fb_sys *sys, const struct fb_region *region,
		    struct fb_hotplug_facts *facts, struct fb_err *err);
void fb_hotplug_facts_free(struct fb_hotplug_facts *facts);

/*
 * Pure: the part of the region that kmem makes System RAM: behind the devdax
 * overhead (known, or predicted as nd_pfn_init() computes it), whole memory
 * blocks only. Size 0 where no whole block fits.
 */
struct fb_range fb_hotadd_range(const struct fb_region *region, uint64_t block_size);

/* Pure: bytes of the region that hot-add does not gain: overhead, alignment. */
uint64_t fb_hotadd_lost(const struct fb_region *region, uint64_t block_size);

/*
 * Pure: the steps from the facts; an empty plan where it is so already. `plan`
 * must be zeroed; released with fb_plan_free().
 *   -EBUSY   the namespace is fsdax or sector: somebody else's
 *   -ENOTRECOVERABLE  kmem was unbound while blocks were online: only a reboot
 *            gets the region back
 *   -ERANGE  no whole memory block fits into the region (hotadd)
 *   -ENOMEM  what is in the region fits nowhere else (hotremove)
 */
int fb_hotadd_plan(const struct fb_hotplug_facts *facts, struct fb_plan *plan,
		   struct fb_err *err);
int fb_hotremove_plan(const struct fb_hotplug_facts *facts, struct fb_plan *plan,
		      struct fb_err *err);

struct fb_hotplug_options {
	/* For taking all blocks offline, from the first of them; 0: none. */
	uint64_t deadline_usec;
	/* 0, or -EINTR once a signal came; asked from another thread, too. */
	int (*interrupted)(struct fb_err *err);
	/* Blocks done and total; may be NULL. Its answer is not looked at. */
	const struct fb_progress *progress;
	/* After every step, with its time; may be NULL. */
	void (*done)(void *context, const struct fb_step *step, uint64_t usec);
	void *context;
};

/*
 * Perform a plan. Errors as fb_plan_run(); -ETIMEDOUT after the deadline, -EINTR
 * when interrupted; in both cases everything is undone. The error of a block
 * that would not go offline says what is left in it and, where that can be
 * found out, which process maps it.
 */
int fb_hotplug_run(const struct fb_sys *sys, const struct fb_hotplug_facts *facts,
		   const struct fb_plan *plan, const struct fb_hotplug_options *options,
		   struct fb_err *err);

#endif
