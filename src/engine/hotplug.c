/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "engine/hotplug.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/util.h"
#include "machine/iomem.h"
#include "machine/namespace.h"
#include "machine/watch.h"

#define AUTO_ONLINE FB_MEMBLK_DIR "/auto_online_blocks"
#define DROP_CACHES "/proc/sys/vm/drop_caches"
#define DAX_DRIVERS "/sys/bus/dax/drivers"
#define DAX_DEVICES "/sys/bus/dax/devices"

/* nd_pfn_init(), PFN_MODE_RAM: room for the info block, aligned. */
#define DEVDAX_ALIGN (2 * FB_MIB)
#define INFO_RESERVE (8 * FB_KIB)

#define OFFLINE_TRIES	  4
#define OWNER_BUDGET_USEC 5000000

/* ---- facts ----------------------------------------------------------- */

int fb_hotplug_read(const struct fb_sys *sys, const struct fb_region *region,
		    struct fb_hotplug_facts *facts, struct fb_err *err)
{
	struct fb_hotplug_facts f = { .region = *region };
	int rc = fb_sys_attr_read(sys, AUTO_ONLINE, f.auto_online,
				  sizeof(f.auto_online), err);

	if (rc == -ENOENT)
		return fb_err_exit(err, FB_EXIT_IMPOSSIBLE, ENOENT,
				   "this kernel has no memory hotplug "
				   "(CONFIG_MEMORY_HOTPLUG): no " AUTO_ONLINE);
	if (!rc)
		rc = fb_meminfo_read(sys, &f.memory, err);
	if (!rc)
		rc = fb_memblk_list(sys, region->hotadded, &f.blocks, err);
	if (rc)
		return rc;
	fb_memblk_count(sys, &f.blocks, &f.usage);
	*facts = f;
	return 0;
}

void fb_hotplug_facts_free(struct fb_hotplug_facts *facts)
{
	fb_memblks_free(&facts->blocks);
}

struct fb_range fb_hotadd_range(const struct fb_region *region, uint64_t block_size)
{
	struct fb_range r = region->range;
	uint64_t overhead = region->dax_overhead;

	if (!overhead)
		overhead = fb_align_up(r.start + INFO_RESERVE, DEVDAX_ALIGN) - r.start;
	if (overhead >= r.size)
		return (struct fb_range){ 0, 0 };
	r.start += overhead;
	r.size -= overhead;
	return fb_range_shrink(r, block_size);
}

uint64_t fb_hotadd_lost(const struct fb_region *region, uint64_t block_size)
{
	return region->range.size - fb_hotadd_range(region, block_size).size;
}

/* ---- steps ----------------------------------------------------------- */

/* What a plan is being made from and into; `step` is the latest. */
struct draft {
	const struct fb_hotplug_facts *facts;
	struct fb_plan *plan;
	char dax[FB_NAME_MAX];
	bool no_memory;
	struct fb_step nowhere; /* stands in for a step when memory is out */
};

static struct fb_step *add(struct draft *d, const char *what, const char *name)
{
	struct fb_step *step = fb_plan_add(d->plan, "%s%s", what, name);

	if (step)
		return step;
	/* Written to and never read: the plan is thrown away. */
	d->no_memory = true;
	return &d->nowhere;
}

/*
 * daxN.0 for regionN: a pmem namespace is one dax device, and its number is
 * that of libnvdimm's region (drivers/dax/pmem.c).
 */
static void draft_begin(struct draft *d, const struct fb_hotplug_facts *facts,
			struct fb_plan *plan)
{
	const struct fb_region *r = &facts->region;

	memset(d, 0, sizeof(*d));
	d->facts = facts;
	d->plan = plan;
	plan->region = r->range;
	plan->block_size = facts->blocks.block_size;
	plan->guarded =
		r->hotadded.size ? r->hotadded : fb_hotadd_range(r, plan->block_size);
	if (r->dax[0])
		strcpy(d->dax, r->dax);
	else
		snprintf(d->dax, sizeof(d->dax), "dax%.32s.0",
			 r->nd_region[0] ? r->nd_region + 6 : "0");
}

static int draft_end(struct draft *d, struct fb_err *err)
{
	if (!d->no_memory)
		return 0;
	fb_plan_free(d->plan);
	return fb_err_sys(err, ENOMEM, "the plan");
}

static void check_driver(const struct draft *d, struct fb_write *write,
			 const char *driver)
{
	char path[FB_STEP_PATH_MAX];

	snprintf(path, sizeof(path), DAX_DEVICES "/%.40s/driver", d->dax);
	fb_check_set(&write->checks[0], true, path, driver);
}

/* A write to an attribute of a driver on the dax bus, e.g. "kmem", "unbind". */
static void driver_write(const struct draft *d, struct fb_write *write,
			 const char *driver, const char *attr)
{
	char path[FB_STEP_PATH_MAX];

	snprintf(path, sizeof(path), DAX_DRIVERS "/%s/%s", driver, attr);
	fb_write_set(write, path, d->dax);
}

static void attr_write(struct fb_write *write, const char *path, const char *value)
{
	fb_write_set(write, path, value);
	fb_check_set(&write->checks[0], false, path, value);
}

static void hold_auto_online(struct draft *d)
{
	struct fb_step *s;

	if (!strcmp(d->facts->auto_online, "offline"))
		return;
	s = add(d, "new memory blocks stay offline", "");
	attr_write(&s->forward, AUTO_ONLINE, "offline");
	attr_write(&s->undo, AUTO_ONLINE, d->facts->auto_online);
}

static void release_auto_online(struct draft *d)
{
	struct fb_step *s;

	if (!strcmp(d->facts->auto_online, "offline"))
		return;
	s = add(d, "new memory blocks as before", "");
	attr_write(&s->forward, AUTO_ONLINE, d->facts->auto_online);
}

static void block_online(struct fb_write *write, uint64_t number)
{
	char path[FB_STEP_PATH_MAX];

	snprintf(path, sizeof(path), FB_MEMBLK_DIR "/memory%" PRIu64 "/state", number);
	fb_write_set(write, path, "online_movable");
	fb_check_set(&write->checks[0], false, path, "online");
	snprintf(path, sizeof(path), FB_MEMBLK_DIR "/memory%" PRIu64 "/valid_zones",
		 number);
	fb_check_set(&write->checks[1], false, path, "Movable");
}

static void block_offline(struct fb_write *write, uint64_t number)
{
	char path[FB_STEP_PATH_MAX];

	snprintf(path, sizeof(path), FB_MEMBLK_DIR "/memory%" PRIu64 "/state", number);
	attr_write(write, path, "offline");
}

/* As it was before, where that was online in another zone. */
static void block_online_kernel(struct fb_write *write, uint64_t number)
{
	char path[FB_STEP_PATH_MAX];

	snprintf(path, sizeof(path), FB_MEMBLK_DIR "/memory%" PRIu64 "/state", number);
	fb_write_set(write, path, "online");
	fb_check_set(&write->checks[0], false, path, "online");
}

static void step_online(struct draft *d, uint64_t number)
{
	char name[32];
	struct fb_step *s;

	snprintf(name, sizeof(name), "%" PRIu64 " online, movable", number);
	s = add(d, "memory block ", name);
	block_online(&s->forward, number);
	block_offline(&s->undo, number);
}

static void step_offline(struct draft *d, const struct fb_memblk *block)
{
	char name[32];
	struct fb_step *s;

	snprintf(name, sizeof(name), "%" PRIu64 " offline", block->number);
	s = add(d, "memory block ", name);
	block_offline(&s->forward, block->number);
	if (block->movable)
		block_online(&s->undo, block->number);
	else
		block_online_kernel(&s->undo, block->number);
	s->block = block->number;
	s->tries = OFFLINE_TRIES;
}

/* What both directions refuse. */
static int refuse(const struct fb_hotplug_facts *facts, struct fb_err *err)
{
	const struct fb_region *r = &facts->region;

	if (r->mode == FB_NS_FSDAX || r->mode == FB_NS_SECTOR)
		return fb_err_set(
			err, EBUSY,
			"%s is in mode %s, which fastboot does not use: save "
			"what is in it, then `ndctl create-namespace --mode raw "
			"-e %s -f`",
			r->ns, fb_namespace_mode_text(r->mode), r->ns);
	if (r->hotadded.size && strcmp(r->dax_driver, "kmem"))
		return fb_err_set(
			err, ENOTRECOVERABLE,
			"the kernel keeps the region as System RAM until the "
			"next reboot: kmem was unbound while memory blocks were "
			"online");
	return 0;
}

/* ---- hotadd ---------------------------------------------------------- */

static void add_devdax(struct draft *d)
{
	struct fb_step *s;

	if (d->facts->region.mode == FB_NS_DEVDAX && d->facts->region.dax[0])
		return;
	s = add(d, "namespace to devdax", "");
	s->forward_action = FB_ACTION_DEVDAX;
	s->undo_action = FB_ACTION_RAW;
}

/*
 * new_id also binds every device of that name without a driver, but says
 * nothing if that fails; `bind` does, and is skipped where it worked.
 */
static void add_kmem(struct draft *d)
{
	const char *driver = d->facts->region.dax_driver;
	struct fb_step *s;

	if (!strcmp(driver, "kmem"))
		return;
	if (driver[0] || !d->facts->region.dax[0]) {
		s = add(d, "device_dax lets go of ", d->dax);
		driver_write(d, &s->forward, "device_dax", "unbind");
		check_driver(d, &s->forward, "");
		driver_write(d, &s->undo, "device_dax", "bind");
		check_driver(d, &s->undo, "device_dax");
	}
	/* Whichever of the two binds it, this undo is in front of both. */
	s = add(d, "kmem lets go of ", d->dax);
	driver_write(d, &s->undo, "kmem", "unbind");
	check_driver(d, &s->undo, "");
	s->undo.guarded = true;
	s = add(d, "kmem may have ", d->dax);
	driver_write(d, &s->forward, "kmem", "new_id");
	driver_write(d, &s->undo, "kmem", "remove_id");
	s = add(d, "kmem takes ", d->dax);
	driver_write(d, &s->forward, "kmem", "bind");
	check_driver(d, &s->forward, "kmem");
}

static const struct fb_memblk *find_block(const struct fb_memblks *blocks,
					  uint64_t number)
{
	for (size_t i = 0; i < blocks->count; i++)
		if (blocks->blocks[i].number == number)
			return &blocks->blocks[i];
	return NULL;
}

/* Every block that is not online in the movable zone; true if there is one. */
static bool add_blocks(struct draft *d)
{
	uint64_t size = d->plan->block_size;
	size_t before = d->plan->count;

	for (uint64_t at = 0; at < d->plan->guarded.size; at += size) {
		uint64_t number = (d->plan->guarded.start + at) / size;
		const struct fb_memblk *b = find_block(&d->facts->blocks, number);

		if (b && b->state == FB_BLK_ONLINE && b->movable)
			continue;
		if (b && b->state != FB_BLK_OFFLINE)
			step_offline(d, b);
		step_online(d, number);
	}
	return d->plan->count > before;
}

static bool all_movable(const struct fb_hotplug_facts *facts)
{
	for (size_t i = 0; i < facts->blocks.count; i++)
		if (facts->blocks.blocks[i].state != FB_BLK_ONLINE ||
		    !facts->blocks.blocks[i].movable)
			return false;
	return facts->blocks.count > 0;
}

int fb_hotadd_plan(const struct fb_hotplug_facts *facts, struct fb_plan *plan,
		   struct fb_err *err)
{
	struct draft d;
	int rc = refuse(facts, err);

	if (rc)
		return rc;
	draft_begin(&d, facts, plan);
	if (!plan->guarded.size)
		return fb_err_set(
			err, ERANGE,
			"no whole memory block fits into the region: `fastboot "
			"plan` chooses one that loses nothing");
	if (facts->region.hotadded.size && all_movable(facts))
		return 0;
	add_devdax(&d);
	hold_auto_online(&d);
	add_kmem(&d);
	add_blocks(&d);
	release_auto_online(&d);
	return draft_end(&d, err);
}

/* ---- hotremove ------------------------------------------------------- */

/*
 * Dropping walks every page of every file, of tmpfs, too: 400 ms for 900 MiB
 * under emulation, where moving a page takes ten times as long as walking
 * over one. Worth it from an eighth on.
 */
static bool worth_dropping(const struct fb_memblk_usage *usage)
{
	return !usage->known || usage->droppable > usage->used / 8;
}

static void add_drop_caches(struct draft *d)
{
	struct fb_step *s;

	if (!worth_dropping(&d->facts->usage))
		return;
	/* 1: the page cache only; there is no slab in the region. */
	s = add(d, "drop the clean page cache", "");
	fb_write_set(&s->forward, DROP_CACHES, "1");
}

static void remove_blocks(struct draft *d)
{
	const struct fb_memblks *blocks = &d->facts->blocks;
	fb_autofree size_t *order = calloc(blocks->count + 1, sizeof(*order));
	size_t count;

	if (!order) {
		d->no_memory = true;
		return;
	}
	fb_memblk_order(blocks, order, &count);
	if (count)
		add_drop_caches(d);
	for (size_t i = 0; i < count; i++)
		step_offline(d, &blocks->blocks[order[i]]);
}

/*
 * The undo of "to raw" leaves the device with device_dax: an undo without a
 * way forward takes it away again before kmem is bound.
 */
static void remove_kmem(struct draft *d)
{
	struct fb_step *s = add(d, "kmem lets go of ", d->dax);

	driver_write(d, &s->forward, "kmem", "unbind");
	check_driver(d, &s->forward, "");
	s->forward.guarded = true;
	driver_write(d, &s->undo, "kmem", "bind");
	check_driver(d, &s->undo, "kmem");
	s = add(d, "kmem forgets ", d->dax);
	driver_write(d, &s->forward, "kmem", "remove_id");
	driver_write(d, &s->undo, "kmem", "new_id");
	s = add(d, "device_dax lets go of ", d->dax);
	driver_write(d, &s->undo, "device_dax", "unbind");
	check_driver(d, &s->undo, "");
}

int fb_hotremove_plan(const struct fb_hotplug_facts *facts, struct fb_plan *plan,
		      struct fb_err *err)
{
	const struct fb_region *r = &facts->region;
	bool kmem = !strcmp(r->dax_driver, "kmem");
	struct fb_step *s;
	struct draft d;
	int rc = refuse(facts, err);

	if (!rc)
		rc = fb_memblk_room(&facts->blocks, &facts->usage, &facts->memory, err);
	if (rc || r->mode != FB_NS_DEVDAX)
		return rc;
	draft_begin(&d, facts, plan);
	if (kmem) {
		hold_auto_online(&d);
		remove_blocks(&d);
		remove_kmem(&d);
	}
	s = add(&d, "namespace to raw", "");
	s->forward_action = FB_ACTION_RAW;
	s->undo_action = FB_ACTION_DEVDAX;
	if (kmem)
		release_auto_online(&d);
	return draft_end(&d, err);
}

/* ---- the run --------------------------------------------------------- */

struct session {
	const struct fb_sys *sys;
	const struct fb_hotplug_facts *facts;
	const struct fb_hotplug_options *options;
	struct fb_watch watch;
	bool watching, expired;
	uint64_t blocks_done, blocks_total;
};

static int act(enum fb_action action, struct fb_range region, struct fb_err *err)
{
	return action == FB_ACTION_RAW ? fb_namespace_to_raw(region, err)
				       : fb_namespace_to_devdax(region, err);
}

static int interrupted(void *context)
{
	const struct session *s = context;

	return s->options->interrupted ? s->options->interrupted(NULL) : 0;
}

static void unwatch(struct session *s)
{
	if (s->watching)
		fb_watch_stop(&s->watch);
	s->watching = false;
}

/*
 * The watch runs only while blocks go offline: its signals would disturb
 * what comes after, and once all are offline finishing is the shorter way.
 */
static int watch_block(struct session *s, struct fb_err *err)
{
	int rc = 0;

	if (!s->watching) {
		rc = fb_watch_start(&s->watch, s->options->deadline_usec, interrupted,
				    s, err);
		s->watching = !rc;
	}
	if (!rc && fb_watch_expired(&s->watch)) {
		s->expired = true;
		rc = fb_err_set(err, ETIMEDOUT, "the deadline of %.3g s has passed",
				(double)s->options->deadline_usec / 1e6);
	}
	return rc;
}

static int stop(void *context, const struct fb_step *step, struct fb_err *err)
{
	struct session *s = context;

	if (s->options->interrupted && s->options->interrupted(err))
		return -EINTR;
	if (step->block != FB_STEP_NO_BLOCK)
		return watch_block(s, err);
	unwatch(s);
	return 0;
}

static void done(void *context, const struct fb_step *step, uint64_t usec)
{
	struct session *s = context;
	const struct fb_progress *p = s->options->progress;

	if (s->options->done)
		s->options->done(s->options->context, step, usec);
	if (strncmp(step->what, "memory block", 12))
		return;
	s->blocks_done++;
	if (p && p->report)
		p->report(p->context, s->blocks_done, s->blocks_total);
}

static void explain(void *context, const struct fb_step *step, struct fb_err *err)
{
	struct session *s = context;
	struct fb_memblk block;
	char text[512];

	unwatch(s);
	if (step->block == FB_STEP_NO_BLOCK || err->error == EINTR)
		return;
	fb_memblk_read(s->sys, step->block, s->facts->blocks.block_size, &block);
	fb_memblk_pinned(s->sys, &block, OWNER_BUDGET_USEC, text, sizeof(text));
	if (text[0])
		fb_err_append(err, "; still in it: %s", text);
}

static void undoing(void *context)
{
	unwatch(context);
}

static uint64_t count_blocks(const struct fb_plan *plan)
{
	uint64_t n = 0;

	for (size_t i = 0; i < plan->count; i++)
		n += !strncmp(plan->steps[i].what, "memory block", 12);
	return n;
}

int fb_hotplug_run(const struct fb_sys *sys, const struct fb_hotplug_facts *facts,
		   const struct fb_plan *plan, const struct fb_hotplug_options *options,
		   struct fb_err *err)
{
	struct session s = { .sys = sys,
			     .facts = facts,
			     .options = options,
			     .blocks_total = count_blocks(plan) };
	const struct fb_plan_ops ops = { .action = act,
					 .stop = stop,
					 .done = done,
					 .explain = explain,
					 .undoing = undoing,
					 .context = &s };
	int rc = fb_plan_run(sys, plan, &ops, err);

	unwatch(&s);
	return rc;
}
