/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "cmd/early.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "cmd/lazyrestore.h"
#include "cmd/restore.h"
#include "engine/region.h"
#include "engine/state.h"
#include "engine/timeline.h"
#include "engine/timeline_file.h"
#include "format/cmdline.h"
#include "machine/clock.h"
#include "machine/mount.h"
#include "machine/store.h"

/* libnvdimm probes in the background: how long, how often to look. */
#define DEVICE_WAIT_USEC 2000000
#define DEVICE_POLL_USEC 2000

struct work {
	const struct fb_early *early;
	struct fb_context ctx;
	struct fb_store store;
	struct fb_image image;
	struct fb_origin stamps;
	bool lazy, expected;
	bool foreign; /* a state lies in a file system that was there before */
};

/* ---- how -------------------------------------------------------------------- */

char *fb_early_word(const char *name)
{
	const struct fb_sys sys = { "" };
	fb_autofree char *cmdline = NULL;
	struct fb_cmdline_arg arg;

	if (fb_sys_read(&sys, "/proc/cmdline", &cmdline, NULL, NULL) ||
	    !fb_cmdline_last(cmdline, name, &arg) || !arg.value)
		return NULL;
	return strndup(arg.value, arg.value_length);
}

static int choose_mode(struct work *w, const char *mode, const char *said_by,
		       struct fb_err *err)
{
	w->lazy = !strcmp(mode, "lazy");
	if (w->lazy || !strcmp(mode, "eager"))
		return 0;
	return fb_err_exit(err, FB_EXIT_USAGE, EINVAL,
			   "%s: there is no restore mode '%s': only 'eager' and "
			   "'lazy'",
			   said_by, mode);
}

static int read_mode(struct work *w, struct fb_err *err)
{
	const char *given = w->early->mode, *configured = w->ctx.config.restore_mode;
	fb_autofree char *word = NULL;

	w->lazy = true;
	if (given)
		return choose_mode(w, given, "--mode", err);
	word = fb_early_word("fastboot.mode");
	if (word)
		return choose_mode(w, word, "fastboot.mode=", err);
	if (configured)
		return choose_mode(w, configured, "[restore] mode", err);
	return 0;
}

bool fb_early_has_drivers(void)
{
	const struct fb_sys sys = { "" };

	return fb_sys_exists(&sys, "/sys/bus/nd/drivers/nd_pmem") &&
	       (fb_sys_exists(&sys, "/sys/bus/platform/drivers/e820_pmem") ||
		fb_sys_exists(&sys, "/sys/bus/platform/drivers/of_pmem"));
}

/* ---- the image --------------------------------------------------------------- */

static const struct fb_range *wanted_region(const struct work *w)
{
	return w->ctx.config.region_set ? &w->ctx.config.region : NULL;
}

/* 0, -EAGAIN: not yet. */
static int try_device(struct work *w, struct fb_err *err)
{
	const struct fb_range *wanted = wanted_region(w);
	struct fb_region region;
	char path[PATH_MAX];
	int rc = 0;

	if (!fb_region_find_raw(&w->ctx.sys, wanted, &region))
		rc = fb_region_find(&w->ctx.sys, wanted, &region, err);
	if (rc)
		return rc;
	if (region.mode == FB_NS_NONE || (region.mode == FB_NS_RAW && !region.block[0]))
		return -EAGAIN;
	rc = fb_region_device(&region, path, sizeof(path), err);
	if (rc == -ENXIO) {
		/* Somebody else's, or hot-added memory that lost its contents. */
		w->expected = true;
		err->status = FB_EXIT_NO_IMAGE;
		return fb_err_prefix(err, "no image");
	}
	if (!rc)
		rc = fb_store_open_block(path, true, &w->store, err);
	/* The kernel makes the node a moment later. */
	return rc == -ENOENT ? -EAGAIN : rc;
}

static int open_device(struct work *w, struct fb_err *err)
{
	uint64_t end = fb_clock_usec() + DEVICE_WAIT_USEC;
	int rc;

	while ((rc = try_device(w, err)) == -EAGAIN && fb_clock_usec() < end)
		usleep(DEVICE_POLL_USEC);
	if (rc != -EAGAIN)
		return rc;
	return fb_err_exit(
		err, FB_EXIT_IMPOSSIBLE, ETIMEDOUT,
		"no driver makes a block device of the region: nd_e820 (with "
		"a device tree of_pmem) and nd_pmem must be built in or "
		"loaded before");
}

/* There is none, or the region itself is not good: then that is the reason. */
static int no_image(struct work *w, int rc, struct fb_err *err)
{
	struct fb_err bad = FB_ERR_INIT;
	struct fb_region region;
	enum fb_image_kind kind;
	int found = fb_region_find(&w->ctx.sys, wanted_region(w), &region, &bad);

	if (found) {
		*err = bad;
		return found;
	}
	if (!fb_image_identify(&w->store, &kind, NULL))
		w->expected = kind != FB_IMAGE_PRESENT && kind != FB_IMAGE_NEWER &&
			      kind != FB_IMAGE_TORN;
	return rc;
}

static int open_image(struct work *w, struct fb_err *err)
{
	int rc = fb_image_open(&w->store, &w->image, err);

	if (rc)
		return no_image(w, rc, err);
	rc = fb_restore_check(&w->image, err);
	w->expected = rc != 0;
	return rc;
}

/* ---- the directories ----------------------------------------------------------- */

static dev_t device_of(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : st.st_dev;
}

/* Of an inode of the image, or of a directory that the image does not have. */
static void metadata(const struct fb_tree *tree, const char *path, size_t length,
		     struct fb_mount_ramdisk *like)
{
	fb_autofree char *part = strndup(path, length);
	uint32_t inode =
		part && tree->inode_count ? fb_tree_lookup(tree, part) : FB_INODE_NONE;

	*like = (struct fb_mount_ramdisk){ .mode = 0755 };
	if (inode == FB_INODE_NONE)
		return;
	like->mode = tree->inodes[inode].mode & 07777;
	like->uid = tree->inodes[inode].uid;
	like->gid = tree->inodes[inode].gid;
}

static int make_directory(const struct work *w, const char *path, size_t length,
			  struct fb_err *err)
{
	fb_autofree char *at = fb_asprintf("%s%.*s", w->early->root, (int)length, path);
	struct fb_mount_ramdisk like;
	struct stat st;

	if (!at)
		return fb_err_set(err, ENOMEM, "out of memory");
	if (!lstat(at, &st))
		return S_ISDIR(st.st_mode)
			       ? 0
			       : fb_err_set(err, ENOTDIR,
					    "'%s' is in the way: no directory", at);
	metadata(&w->image.tree, path, length, &like);
	if (mkdir(at, like.mode) || chown(at, like.uid, like.gid) ||
	    chmod(at, like.mode))
		return fb_err_sys(err, errno, "cannot make '%s'", at);
	return 0;
}

/* With all that is above it. */
static int make_directories(const struct work *w, const char *path, struct fb_err *err)
{
	int rc = 0;

	for (size_t i = 1; !rc && path[i - 1]; i++)
		if (path[i] == '/' || (!path[i] && path[i - 1] != '/'))
			rc = make_directory(w, path, i, err);
	return rc;
}

static uint64_t bytes_needed(const struct work *w)
{
	struct fb_tree_totals totals;

	fb_tree_count(&w->image.tree, &totals);
	/* Room to work in: an eighth, and what each inode takes at least. */
	return totals.data_bytes + totals.data_bytes / 8 +
	       (uint64_t)w->image.tree.inode_count * 8192 + 16 * FB_MIB;
}

/* 1: mounted. 0: it lies in a file system that was there, or is a mount already. */
static int mount_state(const struct work *w, const char *path, bool was_mount,
		       struct fb_err *err)
{
	const char *top = w->early->root[0] ? w->early->root : "/";
	fb_autofree char *at = fb_asprintf("%s%s", w->early->root, path);
	struct fb_mount_ramdisk ramdisk;
	int rc = make_directories(w, path, err);

	if (rc)
		return rc;
	if (!at)
		return fb_err_set(err, ENOMEM, "out of memory");
	/* In another file system, where it was before, too. */
	if (fb_state_is_mount(at) || (!was_mount && device_of(at) != device_of(top)))
		return 0;
	metadata(&w->image.tree, path, strlen(path), &ramdisk);
	ramdisk.bytes = bytes_needed(w);
	rc = fb_mount_ramdisk(at, &ramdisk, err);
	return rc ? rc : 1;
}

/* Those of the image, and those of the configuration: they may be new. */
static int mount_states(struct work *w, struct fb_err *err)
{
	const struct fb_tree *tree = &w->image.tree;
	const struct fb_config *c = &w->ctx.config;
	int rc = 0;

	for (size_t i = 0; i < tree->state_count && rc >= 0; i++) {
		rc = mount_state(w, tree->states[i].path,
				 tree->states[i].flags & FB_STATE_WAS_MOUNT, err);
		w->foreign |= rc == 0;
	}
	for (size_t i = 0; i < c->state_count && rc >= 0; i++)
		rc = mount_state(w, c->states[i].path, false, err);
	return rc < 0 ? rc : 0;
}

/* ---- all of it --------------------------------------------------------------------
 */

static void begin_timeline(const struct work *w)
{
	fb_timeline_begin(FB_TIMELINE_PATH, &w->image.header, &w->stamps, NULL);
}

static int restore_eagerly(const struct work *w, const struct fb_restore *job,
			   struct fb_err *err)
{
	struct fb_restore_result result;
	int rc;

	begin_timeline(w);
	rc = fb_restore_eager(job, &result, err);
	if (!rc)
		rc = fb_restore_damaged(job, &result, err);
	fb_restore_result_free(&result);
	return rc;
}

static int restore(const struct work *w, struct fb_err *err)
{
	struct fb_restore job = {
		.ctx = &w->ctx,
		.image = &w->image,
		.region = true,
		.timeline = &w->stamps,
		.huge = !w->foreign,
	};
	struct fb_lazyrestore_result result;
	int rc = fb_restore_choose(&job, NULL, 0, err);

	if (!rc && w->lazy)
		rc = fb_lazyrestore(&job, &result, err);
	/* Slower, but the state is there. */
	if (!rc && !w->lazy)
		rc = restore_eagerly(w, &job, err);
	else if (rc && err->status == FB_EXIT_IMPOSSIBLE)
		rc = restore_eagerly(w, &job, err);
	fb_restore_free(&job);
	return rc;
}

static int restore_image(struct work *w, struct fb_err *err)
{
	struct fb_err no_mount = FB_ERR_INIT;
	int rc = open_image(w, err), mounted;
	bool found = !rc;

	if (found)
		fb_timeline_stamp(&w->stamps, FB_PHASE_FOUND);
	mounted = mount_states(w, &no_mount);
	if (!rc && mounted) {
		*err = no_mount;
		rc = mounted;
	}
	if (!rc && w->early->root[0])
		rc = fb_mount_enter(w->early->root, err);
	if (!rc)
		rc = restore(w, err);
	if (rc && found)
		begin_timeline(w);
	return rc;
}

static int find_and_restore(struct work *w, struct fb_err *err)
{
	int rc = read_mode(w, err);

	if (!rc)
		rc = fb_lock(err);
	if (!rc)
		rc = open_device(w, err);
	if (rc) {
		mount_states(w, NULL);
		return rc;
	}
	rc = restore_image(w, err);
	/* The process ends, or executes another program: that frees the image, and
	 * sooner than one file after the other. */
	fb_store_close(&w->store);
	return rc;
}

int fb_early_restore(const struct fb_early *early, bool *expected, struct fb_err *err)
{
	struct work w = {
		.early = early,
		.stamps = early->stamps,
		.ctx = { .sys = { "" }, .verbosity = -1 },
		.store = { .fd = -1 },
	};
	int rc;

	fb_timeline_stamp(&w.stamps, FB_PHASE_RESTORING);
	rc = fb_config_load(early->root, NULL, &w.ctx.config, err);
	*expected = false;
	if (rc)
		return rc;
	rc = find_and_restore(&w, err);
	*expected = w.expected;
	fb_config_free(&w.ctx.config);
	return rc;
}
