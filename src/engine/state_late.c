/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state_late - files that are made when they are filled, on all cores: made,
 * and given owner, mode and times, through one descriptor.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/pool.h"
#include "base/util.h"
#include "engine/state.h"
#include "engine/state_internal.h"
#include "engine/state_made.h"

/* ---- directories of several threads ------------------------------------------- */

void fb_state_doors_open(struct fb_state_restore *r)
{
	pthread_mutex_init(&r->lock, NULL);
	for (size_t i = 0; i < FB_STATE_DOORS; i++)
		r->doors[i].fd = -1;
}

void fb_state_doors_close(struct fb_state_restore *r)
{
	for (size_t i = 0; i < FB_STATE_DOORS; i++)
		if (r->doors[i].fd >= 0)
			close(r->doors[i].fd);
	pthread_mutex_destroy(&r->lock);
}

static int open_dir(const struct fb_state_restore *r, uint32_t dir)
{
	fb_autofree char *path = fb_tree_path(r->tree, dir);

	return path ? fb_state_beneath(r->root, path, O_PATH | O_DIRECTORY) : -ENOMEM;
}

/* The door of a directory, or a free one, or NULL. With the lock held. */
static struct fb_state_door *find_door(struct fb_state_restore *r, uint32_t dir)
{
	struct fb_state_door *unused = NULL;

	for (size_t i = 0; i < FB_STATE_DOORS; i++) {
		struct fb_state_door *d = &r->doors[i];

		if (d->fd >= 0 && d->dir == dir)
			return d;
		if (!d->users)
			unused = d;
	}
	return unused;
}

/* A descriptor of a directory, for leave(). From several threads at once. */
static int visit(struct fb_state_restore *r, uint32_t dir, struct fb_state_door **door)
{
	int fd;

	pthread_mutex_lock(&r->lock);
	*door = find_door(r, dir);
	if (*door && (*door)->fd >= 0 && (*door)->dir != dir) {
		close((*door)->fd);
		(*door)->fd = -1;
	}
	fd = *door && (*door)->fd >= 0 ? (*door)->fd : open_dir(r, dir);
	if (*door && fd >= 0) {
		(*door)->dir = dir;
		(*door)->fd = fd;
		(*door)->users++;
	}
	pthread_mutex_unlock(&r->lock);
	return fd;
}

static void leave(struct fb_state_restore *r, struct fb_state_door *door, int fd)
{
	if (!door) {
		close(fd);
		return;
	}
	pthread_mutex_lock(&r->lock);
	door->users--;
	pthread_mutex_unlock(&r->lock);
}

/* ---- one file ------------------------------------------------------------------ */

/* As far as its mode does not depend on the owner. */
static mode_t first_mode(const struct fb_inode *inode)
{
	return inode->mode & 0777;
}

/* Makes one that is made late, without its size; else opens what is there. */
static int make_in(const struct fb_state_restore *r, const struct fb_state_name *m,
		   int dir)
{
	int flags = O_RDWR | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dir, fb_state_made_name(r, m),
			flags | (m->late ? O_CREAT | O_EXCL : 0),
			first_mode(&r->tree->inodes[m->inode]));

	return fd < 0 ? -errno : fd;
}

static int open_in(const struct fb_state_restore *r, const struct fb_state_name *m,
		   int dir)
{
	fb_autoclose int fd = make_in(r, m, dir);

	if (fd < 0)
		return fd;
	if (m->late && ftruncate(fd, (off_t)r->tree->inodes[m->inode].size))
		return -errno;
	return fb_steal_fd(&fd);
}

int fb_state_fill_open(void *context, uint32_t inode, struct fb_err *err)
{
	struct fb_state_restore *r = context;
	const struct fb_state_name *m;
	struct fb_state_door *door;
	int dir, fd;

	if (!fb_state_made(r, inode) || !S_ISREG(r->tree->inodes[inode].mode))
		return fb_err_set(err, ENOENT, "not a file that is restored");
	m = &r->made[r->place[inode] - 1];
	dir = visit(r, m->dir, &door);
	if (dir < 0)
		return fb_state_fail_made(r, err, -dir, "open", m->dir, "");
	fd = open_in(r, m, dir);
	leave(r, door, dir);
	return fd < 0 ? fb_state_fail_made(r, err, -fd, "write", m->dir,
					   fb_state_made_name(r, m))
		      : fd;
}

static int set_xattrs(const struct fb_state_restore *r, int fd,
		      const struct fb_inode *inode)
{
	for (size_t i = 0; i < inode->xattr_count; i++) {
		const struct fb_xattr *x = &inode->xattrs[i];

		if (fb_state_may_set(r, x->name) &&
		    fsetxattr(fd, x->name, x->value ? x->value : "", x->size, 0))
			return -errno;
	}
	return 0;
}

/* In the order of fb_state_finish(). What is right already is left alone. */
static int set_metadata(const struct fb_state_restore *r, int fd,
			const struct fb_inode *inode, struct stat *st)
{
	const struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_sec = inode->mtime_sec, .tv_nsec = inode->mtime_nsec },
	};
	bool owned, moded;
	int rc;

	if (fstat(fd, st))
		return -errno;
	owned = st->st_uid == inode->uid && st->st_gid == inode->gid;
	moded = !inode->xattr_count && (st->st_mode & 07777) == (inode->mode & 07777);
	if (r->privileged && !owned && fchown(fd, inode->uid, inode->gid))
		return -errno;
	rc = set_xattrs(r, fd, inode);
	if (rc)
		return rc;
	if (!moded && fchmod(fd, inode->mode & 07777))
		return -errno;
	return futimens(fd, times) ? -errno : 0;
}

static int complete(struct fb_state_restore *r, struct fb_state_name *m, int fd,
		    struct stat *st, struct fb_err *err)
{
	int rc = set_metadata(r, fd, &r->tree->inodes[m->inode], st);

	if (rc)
		return fb_state_fail_made(r, err, -rc, "set the metadata of", m->dir,
					  fb_state_made_name(r, m));
	m->done = true;
	return 0;
}

int fb_state_filled(struct fb_state_restore *r, uint32_t inode, int fd,
		    struct fb_err *err)
{
	struct fb_state_name *m = &r->made[r->place[inode] - 1];
	struct stat st;

	return m->late ? complete(r, m, fd, &st, err) : 0;
}

/* ---- all that are left ------------------------------------------------------------
 */

/*
 * Names of one directory, in r->made: all of them, for two threads that make names in
 * the same directory wait for each other at every name. A large directory is shared:
 * one makes names while others complete what they have made.
 */
#define BATCH_MAX 1024u
#define DIR_LOCKS 16u

struct batch {
	size_t first, count;
};

struct making {
	struct fb_state_restore *r;
	const struct fb_state_take *take;
	struct batch *batches; /* owned */
	size_t count, capacity;
	pthread_mutex_t locks[DIR_LOCKS]; /* by directory */
};

static bool is_left(const struct fb_state_name *m)
{
	return m->late && !m->done && !m->gone;
}

static int find_batches(struct making *mk)
{
	const struct fb_state_restore *r = mk->r;

	for (size_t n = 0; n < r->made_count; n++) {
		struct batch *last = mk->count ? &mk->batches[mk->count - 1] : NULL;

		if (!is_left(&r->made[n]))
			continue;
		if (last && r->made[last->first].dir == r->made[n].dir &&
		    n - last->first < BATCH_MAX) {
			last->count = n - last->first + 1;
			continue;
		}
		if (fb_array_grow(&mk->batches, &mk->capacity, mk->count + 1,
				  sizeof(*mk->batches)))
			return -ENOMEM;
		mk->batches[mk->count++] = (struct batch){ n, 1 };
	}
	return 0;
}

static int fail_name(const struct making *mk, const struct fb_state_name *m, int rc,
		     struct fb_err *err)
{
	return fb_state_fail_made(mk->r, err, -rc, "make", m->dir,
				  fb_state_made_name(mk->r, m));
}

/* The descriptors of the files, by their place in the batch; -1: nothing to do. */
static int make_names(struct making *mk, const struct batch *b, int *fds,
		      struct fb_err *err)
{
	struct fb_state_name *names = &mk->r->made[b->first];
	pthread_mutex_t *lock = &mk->locks[names->dir % DIR_LOCKS];
	fb_autoclose int dir = open_dir(mk->r, names->dir);
	int rc = 0;

	if (dir < 0)
		return fb_state_fail_made(mk->r, err, -dir, "open", names->dir, "");
	pthread_mutex_lock(lock);
	for (size_t i = 0; i < b->count && !rc; i++) {
		if (!is_left(&names[i]))
			continue;
		fds[i] = make_in(mk->r, &names[i], dir);
		if (fds[i] < 0)
			rc = fail_name(mk, &names[i], fds[i], err);
	}
	pthread_mutex_unlock(lock);
	return rc;
}

/* Takes the descriptor over. */
static int complete_one(const struct making *mk, struct fb_state_name *m, int fd,
			struct fb_err *err)
{
	const struct fb_state_take *take = mk->take;
	struct stat st;
	int rc = ftruncate(fd, (off_t)mk->r->tree->inodes[m->inode].size)
			 ? fail_name(mk, m, -errno, err)
			 : complete(mk->r, m, fd, &st, err);

	if (rc) {
		close(fd);
		return rc;
	}
	return take->take(take->context, m->inode, fd, &st, err);
}

static int make_batch(void *context, size_t piece, void *own, struct fb_err *err)
{
	struct making *mk = context;
	const struct batch *b = &mk->batches[piece];
	int fds[BATCH_MAX], rc;

	(void)own;
	memset(fds, -1, sizeof(fds));
	rc = make_names(mk, b, fds, err);
	for (size_t i = 0; i < b->count; i++) {
		if (fds[i] >= 0 && !rc)
			rc = complete_one(mk, &mk->r->made[b->first + i], fds[i], err);
		else if (fds[i] >= 0)
			close(fds[i]);
	}
	return rc;
}

int fb_state_make_late(struct fb_state_restore *restore,
		       const struct fb_state_take *take, struct fb_err *err)
{
	struct making mk = { .r = restore, .take = take };
	int rc = find_batches(&mk);
	const struct fb_pool pool = {
		.pieces = mk.count,
		.run = make_batch,
		.context = &mk,
	};

	for (size_t i = 0; i < DIR_LOCKS; i++)
		pthread_mutex_init(&mk.locks[i], NULL);
	rc = rc ? fb_err_set(err, -rc, "out of memory") : fb_pool_run(&pool, err);
	for (size_t i = 0; i < DIR_LOCKS; i++)
		pthread_mutex_destroy(&mk.locks[i]);
	free(mk.batches);
	return rc;
}
