/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "cmd/save.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "base/util.h"
#include "engine/timeline.h"
#include "machine/clock.h"

/* ---- which directories ----------------------------------------------------- */

static void from_config(const struct fb_config_state *state, struct fb_state_dir *dir)
{
	dir->name = state->name;
	dir->path = state->path;
	dir->excludes = state->excludes;
	dir->exclude_count = state->exclude_count;
}

static size_t path_length(const char *path)
{
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		n--;
	return n;
}

static void from_operand(const struct fb_config *config, const char *path,
			 struct fb_state_dir *dir)
{
	size_t n = path_length(path);

	*dir = (struct fb_state_dir){ NULL, path, NULL, 0 };
	for (size_t i = 0; i < config->state_count; i++) {
		const char *known = config->states[i].path;

		if (path_length(known) == n && !strncmp(known, path, n))
			from_config(&config->states[i], dir);
	}
}

int fb_save_dirs(const struct fb_context *ctx, int argc, char **argv,
		 struct fb_save_dirs *dirs, struct fb_err *err)
{
	const struct fb_config *config = &ctx->config;
	size_t count = argc ? (size_t)argc : config->state_count;

	if (!count)
		return fb_usage(err, "which directories? Name them, or add to "
				     "/etc/fastboot.conf a section '[state NAME]' with "
				     "a line 'path = DIR'");
	dirs->dirs = calloc(count, sizeof(*dirs->dirs));
	if (!dirs->dirs)
		return fb_err_set(err, ENOMEM, "out of memory");
	dirs->count = count;
	for (size_t i = 0; i < count; i++) {
		if (argc)
			from_operand(config, argv[i], &dirs->dirs[i]);
		else
			from_config(&config->states[i], &dirs->dirs[i]);
	}
	return 0;
}

void fb_save_dirs_free(struct fb_save_dirs *dirs)
{
	free(fb_steal_ptr(dirs->dirs));
	dirs->count = 0;
}

/* ---- the first half: nothing is changed -------------------------------------- */

int fb_save_prepare(const struct fb_context *ctx, const struct fb_save_dirs *dirs,
		    uint64_t capacity, struct fb_save *save, struct fb_err *err)
{
	static const struct fb_state_scan empty = FB_STATE_SCAN_INIT;
	uint64_t started = fb_clock_usec();
	int rc;

	memset(save, 0, sizeof(*save));
	save->scan = empty;
	rc = fb_state_scan(dirs->dirs, dirs->count, &fb_signals, &save->scan, err);
	if (rc)
		return fb_interruption(rc, err);
	fb_tree_count(&save->scan.tree, &save->totals);
	rc = fb_image_plan_make(&save->scan.tree, capacity, &save->plan, err);
	if (rc)
		fb_save_free(save);
	else
		fb_say_verbose(ctx, "read the tree of %zu inodes in %.3f s",
			       save->scan.tree.inode_count,
			       (double)(fb_clock_usec() - started) / 1e6);
	return rc;
}

void fb_save_free(struct fb_save *save)
{
	fb_image_plan_free(&save->plan);
	fb_state_scan_free(&save->scan);
}

/* An image is somebody's until it was restored. */
static int check_image(const struct fb_store *store, struct fb_err *err)
{
	void *block = NULL;
	struct fb_header header;
	int rc;

	if (posix_memalign(&block, FB_STORE_BLOCK, FB_STORE_BLOCK))
		return fb_err_set(err, ENOMEM, "out of memory");
	rc = store->ops->read(store, block, FB_STORE_BLOCK, 0, err);
	if (!rc && !fb_header_decode(block, store->size, &header, NULL) &&
	    !header.consumed)
		rc = fb_err_set(err, EEXIST,
				"%s holds an image that was not restored yet "
				"(generation %llu): `fastboot restore` first, or "
				"--replace it",
				store->name,
				(unsigned long long)header.origin.generation);
	free(block);
	return rc;
}

int fb_save_replaceable(const struct fb_store *store, struct fb_err *err)
{
	enum fb_image_kind kind;
	int rc = fb_image_identify(store, &kind, err);

	if (rc)
		return rc;
	switch (kind) {
	case FB_IMAGE_PRESENT:
		return check_image(store, err);
	case FB_IMAGE_NEWER:
	case FB_IMAGE_EROFS:
	case FB_IMAGE_EXT:
	case FB_IMAGE_XFS:
		return fb_err_set(err, EEXIST, "%s holds %s: --replace overwrites it",
				  store->name, fb_image_kind_text(kind));
	case FB_IMAGE_UNKNOWN:
	case FB_IMAGE_ZERO:
	case FB_IMAGE_TORN:
	case FB_IMAGE_INFO_BLOCK:
		break;
	}
	return 0;
}

/* ---- the second half ------------------------------------------------------------- */

static void copy_text(char *to, size_t size, const char *from)
{
	size_t n = strlen(from);

	if (n > size - 1)
		n = size - 1;
	memcpy(to, from, n);
	to[n] = '\0';
}

/* Where the image comes from; the time stamps are the caller's. */
static void origin_fill(const struct fb_context *ctx, const struct fb_origin *stamps,
			struct fb_origin *origin)
{
	struct utsname uts;
	struct timespec now;
	char boot_id[64];

	memset(origin, 0, sizeof(*origin));
	if (stamps)
		*origin = *stamps;
	if (!fb_sys_attr_read(&ctx->sys, "/proc/sys/kernel/random/boot_id", boot_id,
			      sizeof(boot_id), NULL))
		fb_uuid_parse(boot_id, origin->boot_id);
	if (!origin->counter_hz)
		origin->counter_hz = fb_clock_frequency();
	clock_gettime(CLOCK_REALTIME, &now);
	origin->wall_usec =
		(uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	if (uname(&uts))
		return;
	copy_text(origin->release, sizeof(origin->release), uts.release);
	copy_text(origin->hostname, sizeof(origin->hostname), uts.nodename);
	copy_text(origin->machine, sizeof(origin->machine), uts.machine);
}

static int copy_data(const struct fb_context *ctx, const struct fb_store *store,
		     struct fb_save *save, struct fb_err *err)
{
	const struct fb_image_source source = { fb_state_open, &save->scan, false };
	struct fb_bar bar;
	struct fb_progress progress = fb_bar_start(&bar, ctx, "saving", true);
	int rc = fb_image_copy(store, &save->scan.tree, &save->plan, &source, 0,
			       &progress, err);

	fb_bar_end(&bar);
	return rc ? rc : fb_state_check_unchanged(&save->scan, err);
}

int fb_save_commit(const struct fb_context *ctx, const struct fb_store *store,
		   const struct fb_save *save, uint64_t generation,
		   const struct fb_origin *stamps, struct fb_err *err)
{
	struct fb_origin origin;

	origin_fill(ctx, stamps, &origin);
	origin.generation = generation;
	return fb_image_commit(store, &save->scan.tree, &save->plan, &origin, err);
}

int fb_save_write(const struct fb_context *ctx, const struct fb_store *store,
		  struct fb_save *save, struct fb_origin *stamps,
		  struct fb_save_result *result, struct fb_err *err)
{
	uint64_t generation, started, copied;
	int rc = fb_interrupted(err);

	if (!rc)
		rc = fb_image_begin(store, &generation, err);
	if (rc)
		return rc;
	started = fb_clock_usec();
	rc = copy_data(ctx, store, save, err);
	if (!rc)
		rc = fb_interrupted(err);
	if (rc)
		return fb_interruption(rc, err);
	copied = fb_clock_usec();
	if (stamps)
		fb_timeline_stamp(stamps, FB_PHASE_COPIED);
	rc = fb_save_commit(ctx, store, save, generation, stamps, err);
	if (rc)
		return rc;
	*result = (struct fb_save_result){
		.generation = generation,
		.image_bytes = save->plan.size,
		.data_bytes = save->plan.data_bytes,
		.copy_usec = copied - started,
		.commit_usec = fb_clock_usec() - copied,
	};
	return 0;
}
