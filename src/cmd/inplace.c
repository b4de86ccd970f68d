/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "cmd/inplace.h"

#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "base/util.h"
#include "engine/state.h"
#include "machine/loop.h"
#include "machine/mounts.h"
#include "machine/store.h"

#define IMAGE FB_INPLACE_DIR "/image"
#define RW    FB_INPLACE_DIR "/rw"
#define TREE  FB_INPLACE_DIR "/tree"

/* ---- what is in place ------------------------------------------------------------ */

static int add_state(struct fb_inplace *place, const char *path)
{
	char **grown =
		reallocarray(place->states, place->state_count + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	place->states = grown;
	grown[place->state_count] = strdup(path);
	return grown[place->state_count++] ? 0 : -ENOMEM;
}

/* A state's own mount shows the directory of the same path, and nothing covers it. */
static bool is_state(const struct fb_mounts *mounts, const struct fb_mount *m)
{
	return !strcmp(m->root, m->point) && fb_mounts_at(mounts, m->point) == m;
}

static int read_states(const struct fb_mounts *mounts, const struct fb_mount *tree,
		       struct fb_inplace *place)
{
	for (size_t i = 0; i < mounts->count; i++) {
		const struct fb_mount *m = &mounts->mounts[i];
		int rc = 0;

		if (m->dev != tree->dev || !strcmp(m->point, TREE))
			continue;
		if (is_state(mounts, m))
			rc = add_state(place, m->point);
		else if (!place->foreign)
			rc = (place->foreign = strdup(m->point)) ? 0 : -ENOMEM;
		if (rc)
			return rc;
	}
	return 0;
}

static int read_mounts(const struct fb_mounts *mounts, struct fb_inplace *place)
{
	const struct fb_mount *image = fb_mounts_at(mounts, IMAGE);
	const struct fb_mount *rw = fb_mounts_at(mounts, RW);
	const struct fb_mount *tree = fb_mounts_at(mounts, TREE);

	if (!image)
		return 0;
	place->there = true;
	place->dax = fb_mount_has(image, "dax=always");
	place->of_region = !fb_loop_file(image->dev, place->from, sizeof(place->from));
	if (place->of_region)
		snprintf(place->from, sizeof(place->from), "%s", image->source);
	place->devices[place->device_count++] = image->dev;
	if (rw)
		place->devices[place->device_count++] = rw->dev;
	if (tree)
		place->devices[place->device_count++] = tree->dev;
	return tree ? read_states(mounts, tree, place) : 0;
}

int fb_inplace_read(struct fb_inplace *place, struct fb_err *err)
{
	struct fb_mounts mounts;
	int rc;

	memset(place, 0, sizeof(*place));
	rc = fb_mounts_read(&mounts, err);
	if (rc)
		return rc;
	rc = read_mounts(&mounts, place);
	fb_mounts_free(&mounts);
	return rc ? fb_err_set(err, -rc, "out of memory") : 0;
}

void fb_inplace_free(struct fb_inplace *place)
{
	for (size_t i = 0; i < place->state_count; i++)
		free(place->states[i]);
	free(place->states);
	free(place->foreign);
	memset(place, 0, sizeof(*place));
}

static int refuse(const struct fb_inplace *place, struct fb_err *err)
{
	return fb_err_set(err, EBUSY,
			  "the image in %s is in place, mounted for the "
			  "applications: `fastboot release` gives it back",
			  place->from);
}

int fb_inplace_refuse(const struct fb_context *ctx, struct fb_err *err)
{
	struct fb_inplace place;
	int rc;

	if (!fb_sys_live(&ctx->sys))
		return 0;
	rc = fb_inplace_read(&place, err);
	if (!rc && place.there && place.of_region)
		rc = refuse(&place, err);
	fb_inplace_free(&place);
	return rc;
}

/* ---- putting it there: what is looked at first ------------------------------------
 */

static bool is_overlays_own(const struct fb_inode *inode)
{
	static const char prefix[] = "trusted.overlay.";

	for (size_t i = 0; i < inode->xattr_count; i++)
		if (!strncmp(inode->xattrs[i].name, prefix, sizeof(prefix) - 1))
			return true;
	return S_ISCHR(inode->mode) && !inode->rdev;
}

static int check_tree(const struct fb_tree *tree, struct fb_err *err)
{
	for (uint32_t i = 0; i < tree->inode_count; i++) {
		fb_autofree char *path = NULL, *text = NULL;

		if (!is_overlays_own(&tree->inodes[i]))
			continue;
		path = fb_tree_path(tree, i);
		text = path ? fb_escape(path, strlen(path)) : NULL;
		return fb_err_exit(err, FB_EXIT_IMPOSSIBLE, EOPNOTSUPP,
				   "'%s' has a mark that an overlay takes for its own: "
				   "restore it with --mode eager",
				   text ? text : "?");
	}
	return 0;
}

/* The directories of the states, by descriptors that are the caller's. */
static int open_targets(const struct fb_tree *tree, int *targets, struct fb_err *err)
{
	for (size_t i = 0; i < tree->state_count; i++) {
		targets[i] = fb_state_open_empty(tree->states[i].path, err);
		if (targets[i] == -ENOENT)
			fb_err_append(err, ": in place needs the directory; make it "
					   "first (mkdir -p)");
		if (targets[i] < 0)
			return targets[i];
	}
	return 0;
}

static int mark(const char *path, bool consumed, struct fb_err *err)
{
	struct fb_store store;
	int rc = fb_store_open_block(path, true, &store, err);

	if (rc)
		return rc;
	rc = consumed ? fb_image_mark_consumed(&store, err)
		      : fb_image_unmark_consumed(&store, err);
	fb_store_close(&store);
	return rc;
}

/* ---- the mounts -------------------------------------------------------------------
 */

static int make_dir(const char *path, mode_t mode, struct fb_err *err)
{
	if (mkdir(path, mode) && errno != EEXIST)
		return fb_err_sys(err, errno, "cannot make '%s'", path);
	return 0;
}

static int make_dirs(struct fb_err *err)
{
	static const char *const inner[] = { FB_INPLACE_DIR, IMAGE, RW, TREE };
	int rc = make_dir("/run/fastboot", 0755, err);

	for (size_t i = 0; i < FB_ARRAY_SIZE(inner) && !rc; i++)
		rc = make_dir(inner[i], 0700, err);
	return rc;
}

static void remove_dirs(void)
{
	rmdir(TREE);
	rmdir(RW);
	rmdir(IMAGE);
	rmdir(FB_INPLACE_DIR);
}

static int explain(int rc, struct fb_err *err)
{
	if (rc != -ENODEV)
		return rc;
	fb_err_append(err, ": the kernel has no such file system");
	if (err)
		err->status = FB_EXIT_IMPOSSIBLE;
	return rc;
}

/* Where the kernel or the device has no DAX it is mounted without. */
static int mount_device(const char *from, struct fb_err *err)
{
	int rc = fb_mount_make("erofs", from, IMAGE, MS_RDONLY, "dax=always", err);

	if (rc == -EINVAL)
		rc = fb_mount_make("erofs", from, IMAGE, MS_RDONLY, NULL, err);
	return rc;
}

static int mount_image(const char *from, bool of_region, struct fb_err *err)
{
	char device[32];
	int fd, rc;

	if (of_region)
		return mount_device(from, err);
	fd = fb_loop_attach(from, device, sizeof(device), err);
	if (fd < 0)
		return fd;
	rc = mount_device(device, err);
	close(fd);
	return rc;
}

/* Huge pages where the kernel has them. */
static int mount_rw(struct fb_err *err)
{
	int rc = fb_mount_make("tmpfs", "fastboot", RW, 0, "mode=0700,huge=within_size",
			       err);

	if (rc == -EINVAL)
		rc = fb_mount_make("tmpfs", "fastboot", RW, 0, "mode=0700", err);
	if (!rc)
		rc = make_dir(RW "/upper", 0755, err);
	return rc ? rc : make_dir(RW "/work", 0700, err);
}

/*
 * As much like one file system as there is: hard links stay together when one of
 * their names is written to (index), directories can be renamed, and device and
 * inode numbers are the same before and after a write (xino). Not metacopy: an
 * open for writing would change the mtime of a file whose mode was changed before.
 * Not nfs_export, for file handles: files that were written to would have one link
 * more (both seen on Linux 6.18).
 */
static int mount_tree(struct fb_err *err)
{
	return fb_mount_make("overlay", "fastboot", TREE, 0,
			     "lowerdir=" IMAGE ",upperdir=" RW "/upper,workdir=" RW
			     "/work,index=on,redirect_dir=on,xino=on",
			     err);
}

static int show(const struct fb_tree *tree, size_t state, int target,
		struct fb_err *err)
{
	const char *path = tree->states[state].path;
	fb_autofree char *from = fb_asprintf(TREE "%s", path);

	return from ? fb_mount_bind(from, target, path, err)
		    : fb_err_set(err, ENOMEM, "out of memory");
}

static void hide(const struct fb_tree *tree, size_t count)
{
	while (count)
		fb_mount_remove(tree->states[--count].path, MNT_DETACH, NULL);
}

static void unmount_all(void)
{
	fb_mount_remove(TREE, MNT_DETACH, NULL);
	fb_mount_remove(RW, MNT_DETACH, NULL);
	fb_mount_remove(IMAGE, MNT_DETACH, NULL);
	remove_dirs();
}

static int mount_all(const struct fb_tree *tree, const char *from, const int *targets,
		     bool of_region, struct fb_err *err)
{
	size_t shown = 0;
	int rc = make_dirs(err);

	if (!rc)
		rc = explain(mount_image(from, of_region, err), err);
	if (!rc)
		rc = explain(mount_rw(err), err);
	if (!rc)
		rc = explain(mount_tree(err), err);
	while (!rc && shown < tree->state_count) {
		rc = show(tree, shown, targets[shown], err);
		shown += !rc;
	}
	if (!rc)
		rc = fb_interrupted(err);
	if (rc) {
		hide(tree, shown);
		unmount_all();
	}
	return rc;
}

/* The mark before the mounts: the device cannot be written to while it is mounted. */
static int mark_and_mount(const struct fb_tree *tree, const char *from,
			  const int *targets, bool of_region, struct fb_err *err)
{
	struct fb_err undo = FB_ERR_INIT;
	int rc = of_region ? mark(from, true, err) : 0;

	if (rc)
		return rc;
	rc = mount_all(tree, from, targets, of_region, err);
	if (rc && of_region && mark(from, false, &undo)) {
		fb_err_append(err,
			      "; the image could not be marked as unused again: %s; "
			      "`fastboot image extract` reads it",
			      undo.text);
		err->status = FB_EXIT_UNDO;
	}
	return rc;
}

static int check_nothing_there(struct fb_err *err)
{
	struct fb_inplace place;
	int rc = fb_inplace_read(&place, err);

	if (!rc && place.there)
		rc = refuse(&place, err);
	fb_inplace_free(&place);
	return rc;
}

int fb_inplace_mount(const struct fb_context *ctx, const struct fb_image *image,
		     bool of_region, bool *dax, struct fb_err *err)
{
	const struct fb_tree *tree = &image->tree;
	fb_autofree int *targets = calloc(tree->state_count + 1, sizeof(*targets));
	fb_autofree char *from = realpath(image->store->name, NULL);
	struct fb_inplace place = { .there = false };
	int rc;

	if (!targets || !from)
		return fb_err_set(err, ENOMEM, "out of memory");
	memset(targets, -1, tree->state_count * sizeof(*targets));
	rc = check_nothing_there(err);
	if (!rc)
		rc = check_tree(tree, err);
	if (!rc)
		rc = open_targets(tree, targets, err);
	if (!rc)
		rc = mark_and_mount(tree, from, targets, of_region, err);
	for (size_t i = 0; i < tree->state_count; i++)
		if (targets[i] >= 0)
			close(targets[i]);
	if (rc)
		return rc;
	if (!fb_inplace_read(&place, NULL) && !place.dax)
		fb_warn(ctx, "mounted without DAX: what is read of the image takes "
			     "memory of the page cache as well");
	*dax = place.dax;
	fb_inplace_free(&place);
	return 0;
}

/* ---- status -----------------------------------------------------------------------
 */

void fb_inplace_say(const struct fb_context *ctx, const struct fb_inplace *place)
{
	if (!place->there)
		return;
	fb_say(ctx,
	       "restore    in place, from %s, %s: `fastboot release` gives it back",
	       place->from, place->dax ? "with DAX" : "without DAX");
	for (size_t i = 0; i < place->state_count; i++) {
		const char *path = place->states[i];
		fb_autofree char *text = fb_escape(path, strlen(path));

		fb_say(ctx, "           '%s'", text ? text : "?");
	}
}

struct json_object *fb_inplace_json(const struct fb_inplace *place)
{
	struct json_object *o, *states;

	if (!place->there)
		return NULL;
	o = json_object_new_object();
	states = json_object_new_array();
	for (size_t i = 0; i < place->state_count; i++) {
		const char *path = place->states[i];
		fb_autofree char *text = fb_escape(path, strlen(path));

		json_object_array_add(states,
				      json_object_new_string(text ? text : "?"));
	}
	json_object_object_add(o, "from", json_object_new_string(place->from));
	json_object_object_add(o, "dax", json_object_new_boolean(place->dax));
	json_object_object_add(o, "states", states);
	return o;
}
