/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#include "base/util.h"
#include "cmd/inplace.h"
#include "engine/state.h"
#include "machine/clock.h"
#include "machine/holders.h"
#include "machine/iomem.h"
#include "machine/mounts.h"
#include "machine/store.h"

/* There while a copy is made: one that was killed left a part of it below. */
#define COPYING FB_INPLACE_DIR "/copying"

#define POLL_USEC    100000u
#define HOLDERS_TEXT 768

/* How long a file system may take to go when its last mount is gone. */
#define GONE_USEC 2000000u

struct release {
	const struct fb_context *ctx;
	const struct fb_inplace *place;
	struct fb_state_scan scan;
	struct fb_state_restore *restore; /* the copy; NULL: none */
	int home, bare; /* namespaces: this process's own, and the one without */
	struct fb_inplace_result result;
};

static void sleep_usec(unsigned int usec)
{
	const struct timespec t = { 0, (long)usec * 1000 };

	nanosleep(&t, NULL);
}

/* ---- who uses it -------------------------------------------------------------------
 */

static int check_holders(const struct fb_inplace *place, struct fb_err *err)
{
	char text[HOLDERS_TEXT];

	if (place->foreign)
		return fb_err_set(err, EBUSY,
				  "'%s' is mounted from or above what is in place: "
				  "unmount that first",
				  place->foreign);
	if (!fb_holders_find(place->devices, place->device_count, text, sizeof(text)))
		return 0;
	return fb_err_set(err, EBUSY, "in use by %s: stop that first", text);
}

static int wait_for_holders(const struct fb_inplace *place, uint64_t wait_usec,
			    struct fb_err *err)
{
	uint64_t until = fb_clock_usec() + wait_usec;
	struct fb_err why = FB_ERR_INIT;
	int rc;

	while ((rc = check_holders(place, &why)) && fb_clock_usec() < until) {
		rc = fb_interrupted(err);
		if (rc)
			return rc;
		sleep_usec(POLL_USEC);
	}
	if (rc && err)
		*err = why;
	return rc;
}

/* An EBUSY of the kernel, with who it is where that can be known. */
static int explain_busy(const struct fb_inplace *place, int rc, struct fb_err *err)
{
	struct fb_err why = FB_ERR_INIT;

	if (rc != -EBUSY)
		return rc;
	if (check_holders(place, &why))
		fb_err_append(err, ": %s", why.text);
	else
		fb_err_append(err, ": no process, but perhaps a mount below it, a "
				   "loop device or a swap file");
	return rc;
}

/* ---- read-only, and back ------------------------------------------------------------
 */

static int freeze(const struct fb_inplace *place, struct fb_err *err)
{
	int rc = fb_mount_make(NULL, NULL, FB_INPLACE_DIR "/tree",
			       MS_REMOUNT | MS_RDONLY, NULL, err);

	return explain_busy(place, rc, err);
}

static void thaw(struct fb_err *err)
{
	struct fb_err undo = FB_ERR_INIT;

	if (!fb_mount_make(NULL, NULL, FB_INPLACE_DIR "/tree", MS_REMOUNT, NULL, &undo))
		return;
	fb_err_append(err, "; the undo is incomplete: %s", undo.text);
	if (err)
		err->status = FB_EXIT_UNDO;
}

/* ---- the directories below
 * ----------------------------------------------------------- */

/* For this process alone the states are not mounted. */
static int go_bare(const struct fb_inplace *place, int *home, int *bare,
		   struct fb_err *err)
{
	int rc = fb_mounts_leave_home(home, bare, err);

	for (size_t i = 0; i < place->state_count && !rc; i++) {
		rc = fb_mount_remove(place->states[i], MNT_DETACH, err);
		if (rc)
			fb_mounts_enter(*home, NULL);
	}
	return rc;
}

static bool takes_memory(const struct fb_inplace *place)
{
	struct statfs fs;

	for (size_t i = 0; i < place->state_count; i++)
		if (!statfs(place->states[i], &fs) &&
		    (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC))
			return true;
	return false;
}

/* As fb_memblk_room(): a margin stays. */
static int compare_room(uint64_t bytes, struct fb_err *err)
{
	static const struct fb_sys live = { "" };
	char need[FB_SIZE_TEXT_MAX], room[FB_SIZE_TEXT_MAX];
	struct fb_meminfo memory;
	int rc = fb_meminfo_read(&live, &memory, err);

	if (rc || bytes + bytes / 32 + 64 * FB_MIB <= memory.available)
		return rc;
	return fb_err_set(err, ENOMEM,
			  "a copy of the state needs %s, but only %s of memory are "
			  "available (64 MiB and 3 %% are kept as a margin): free "
			  "memory first",
			  fb_size_text(fb_align_up(bytes, FB_MIB), need),
			  fb_size_text(fb_align_down(memory.available, FB_MIB), room));
}

int fb_inplace_check_room(const struct fb_inplace *place, uint64_t bytes,
			  struct fb_err *err)
{
	fb_autoclose int home = -1;
	fb_autoclose int bare = -1;
	int rc = go_bare(place, &home, &bare, err);
	bool memory;

	if (rc)
		return rc;
	memory = takes_memory(place);
	rc = fb_mounts_enter(home, err);
	return rc || !memory ? rc : compare_room(bytes, err);
}

/* ---- the copy
 * ------------------------------------------------------------------------ */

static int scan(struct release *r, struct fb_err *err)
{
	size_t count = r->place->state_count;
	fb_autofree struct fb_state_dir *dirs = calloc(count, sizeof(*dirs));
	int rc;

	if (!dirs)
		return fb_err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++)
		dirs[i].path = r->place->states[i];
	rc = fb_state_scan(dirs, count, &fb_signals, &r->scan, err);
	if (!rc)
		fb_tree_count(&r->scan.tree, &r->result.totals);
	return fb_interruption(rc, err);
}

static int fill(struct release *r, struct fb_err *err)
{
	struct fb_bar bar;
	struct fb_progress progress = fb_bar_start(&bar, r->ctx, "releasing", true);
	uint64_t started = fb_clock_usec();
	int rc = fb_state_copy(&r->scan, r->restore, 0, &progress, err);

	r->result.copy_usec = fb_clock_usec() - started;
	fb_bar_end(&bar);
	return rc ? rc : fb_state_finish(r->restore, &fb_signals, err);
}

static void drop_copy(struct release *r, struct fb_err *err)
{
	if (!r->restore)
		return;
	if (!fb_state_undo(r->restore, err))
		unlink(COPYING);
	fb_state_restore_free(r->restore);
	r->restore = NULL;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *walk)
{
	(void)st;
	(void)type;
	return walk->level ? remove(path) : 0;
}

/* The directories were empty when they were covered, and nobody sees them since. */
static int remove_leftovers(const struct fb_inplace *place, struct fb_err *err)
{
	for (size_t i = 0; i < place->state_count && !access(COPYING, F_OK); i++)
		if (nftw(place->states[i], remove_one, 64,
			 FTW_DEPTH | FTW_PHYS | FTW_MOUNT))
			return fb_err_sys(
				err, errno,
				"cannot remove what a release that was killed "
				"left in '%s'",
				place->states[i]);
	return 0;
}

static int note_copying(struct fb_err *err)
{
	fb_autoclose int fd = open(COPYING, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	return fd < 0 ? fb_err_sys(err, errno, "cannot make " COPYING) : 0;
}

static int make_tree(struct release *r, const uint32_t *roots, struct fb_err *err)
{
	const struct fb_tree *tree = &r->scan.tree;
	int rc = remove_leftovers(r->place, err);

	if (!rc)
		rc = note_copying(err);
	if (rc)
		return rc;
	rc = fb_state_create(tree, "/", roots, tree->state_count, &r->restore, err);
	if (rc && err && err->status != FB_EXIT_UNDO)
		unlink(COPYING);
	return rc;
}

/* The scan keeps seeing what is in place: its root is a directory at home. */
static int copy_bare(struct release *r, struct fb_err *err)
{
	const struct fb_tree *tree = &r->scan.tree;
	fb_autofree uint32_t *roots = calloc(tree->state_count, sizeof(*roots));
	int rc;

	if (!roots)
		return fb_err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < tree->state_count; i++)
		roots[i] = tree->states[i].inode;
	rc = make_tree(r, roots, err);
	if (!rc)
		rc = fill(r, err);
	if (!rc)
		rc = fb_interrupted(err);
	if (rc) {
		rc = fb_interruption(rc, err);
		drop_copy(r, err);
	}
	return rc;
}

static int copy(struct release *r, struct fb_err *err)
{
	struct fb_err back = FB_ERR_INIT;
	int rc = go_bare(r->place, &r->home, &r->bare, err);

	if (rc)
		return rc;
	rc = copy_bare(r, err);
	if (!fb_mounts_enter(r->home, &back))
		return rc;
	if (!rc)
		drop_copy(r, err);
	return fb_err_exit(err, FB_EXIT_UNDO, EIO, "%s", back.text);
}

/* ---- the exchange
 * ---------------------------------------------------------------------- */

static void show_again(const struct release *r, size_t count, struct fb_err *err)
{
	for (size_t i = 0; i < count; i++) {
		const char *path = r->place->states[i];
		fb_autofree char *from = fb_asprintf(FB_INPLACE_DIR "/tree%s", path);
		fb_autoclose int to =
			open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (!from || to < 0 || fb_mount_bind(from, to, path, NULL)) {
			fb_err_append(err, "; '%s' could not be mounted again", path);
			err->status = FB_EXIT_UNDO;
		}
	}
}

/* What was copied is seen from here on. */
static int unmount_states(struct release *r, struct fb_err *err)
{
	for (size_t i = 0; i < r->place->state_count; i++) {
		int rc = fb_mount_remove(r->place->states[i], 0, err);

		if (!rc)
			continue;
		explain_busy(r->place, rc, err);
		show_again(r, i, err);
		return rc;
	}
	return 0;
}

/* The last word has the block device: can it be had alone? */
static int check_free(const struct fb_inplace *place, struct fb_err *err)
{
	uint64_t until = fb_clock_usec() + GONE_USEC;
	char text[HOLDERS_TEXT];
	struct fb_store store;
	int rc;

	if (!place->of_region)
		return 0;
	while ((rc = fb_store_open_block(place->from, true, &store, err)) == -EBUSY &&
	       fb_clock_usec() < until)
		sleep_usec(POLL_USEC);
	if (!rc) {
		fb_store_close(&store);
		return 0;
	}
	if (!fb_holders_find(place->devices, place->device_count, text, sizeof(text)))
		fb_holders_mounted(place->devices, place->device_count, text,
				   sizeof(text));
	return fb_err_exit(err, FB_EXIT_UNDO, EBUSY,
			   "the states are released, but %s is still held by %s: "
			   "it is free when that ends",
			   place->from, text[0] ? text : "the kernel");
}

static void unmount_rest(void)
{
	static const char *const points[] = { FB_INPLACE_DIR "/tree",
					      FB_INPLACE_DIR "/rw",
					      FB_INPLACE_DIR "/image" };

	for (size_t i = 0; i < FB_ARRAY_SIZE(points); i++) {
		fb_mount_remove(points[i], MNT_DETACH, NULL);
		rmdir(points[i]);
	}
	unlink(COPYING);
	rmdir(FB_INPLACE_DIR);
}

static void close_namespaces(struct release *r)
{
	if (r->home >= 0)
		close(r->home);
	if (r->bare >= 0)
		close(r->bare);
	r->home = r->bare = -1;
}

/* ---- all of it
 * ---------------------------------------------------------------------------- */

static int copy_frozen(struct release *r, struct fb_err *err)
{
	int rc = scan(r, err);

	if (!rc)
		rc = fb_inplace_check_room(r->place, r->result.totals.data_bytes, err);
	if (!rc)
		rc = copy(r, err);
	if (!rc)
		rc = unmount_states(r, err);
	if (rc)
		drop_copy(r, err);
	return rc;
}

static int perform(struct release *r, struct fb_err *err)
{
	int rc = freeze(r->place, err);

	if (rc)
		return rc;
	if (r->place->state_count)
		rc = copy_frozen(r, err);
	if (rc)
		thaw(err);
	/* All that could still hold the image. */
	fb_state_restore_free(r->restore);
	r->restore = NULL;
	fb_state_scan_free(&r->scan);
	close_namespaces(r);
	if (rc)
		return rc;
	unmount_rest();
	return check_free(r->place, err);
}

int fb_inplace_release(const struct fb_context *ctx, const struct fb_inplace *place,
		       uint64_t wait_usec, struct fb_inplace_result *result,
		       struct fb_err *err)
{
	struct release r = {
		.ctx = ctx,
		.place = place,
		.scan = FB_STATE_SCAN_INIT,
		.home = -1,
		.bare = -1,
	};
	uint64_t started = fb_clock_usec();
	int rc = wait_for_holders(place, wait_usec, err);

	if (!rc)
		rc = perform(&r, err);
	r.result.total_usec = fb_clock_usec() - started;
	if (!rc)
		*result = r.result;
	return rc;
}
