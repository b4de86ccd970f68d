/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "engine/state.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "engine/state_internal.h"

#define THREADS_MAX 64u
#define PIECE_MAX   (4 * FB_MIB) /* a piece of work: a whole number of huge pages */
#define BUFFER_SIZE FB_MIB

struct piece {
	uint32_t inode;
	uint64_t offset, length;
};

struct copy {
	struct fb_state_scan *scan;
	struct fb_state_restore *restore;
	const struct fb_progress *progress;
	struct piece *pieces; /* owned */
	size_t count, capacity;
	uint64_t total;
	atomic_size_t next;
	atomic_bool stop;
	pthread_mutex_t lock; /* for all below */
	uint64_t done;
	int rc;
	struct fb_err *err;
};

/* ---- what there is to do ----------------------------------------------------- */

static int add_extent(struct copy *c, uint32_t inode, const struct fb_extent *x)
{
	for (uint64_t at = 0; at < x->length;) {
		uint64_t offset = x->offset + at;
		uint64_t length = PIECE_MAX - offset % PIECE_MAX;

		if (length > x->length - at)
			length = x->length - at;
		if (fb_array_grow(&c->pieces, &c->capacity, c->count + 1,
				  sizeof(*c->pieces)))
			return -ENOMEM;
		c->pieces[c->count++] = (struct piece){ inode, offset, length };
		c->total += length;
		at += length;
	}
	return 0;
}

static int add_files(struct copy *c)
{
	const struct fb_tree *tree = &c->scan->tree;
	int rc = 0;

	for (uint32_t i = 0; i < tree->inode_count && !rc; i++) {
		const struct fb_inode *inode = &tree->inodes[i];

		if (!S_ISREG(inode->mode) || !fb_state_made(c->restore, i))
			continue;
		for (size_t e = 0; e < inode->extent_count && !rc; e++)
			rc = add_extent(c, i, &inode->extents[e]);
	}
	return rc;
}

/* ---- doing it ------------------------------------------------------------------ */

/* -ESTALE: the file ends before. */
static int move_bytes(int from, int to, const struct piece *p, char *buffer)
{
	for (uint64_t at = 0; at < p->length;) {
		uint64_t left = p->length - at;
		size_t want = left < BUFFER_SIZE ? (size_t)left : BUFFER_SIZE;
		ssize_t n = pread(from, buffer, want, (off_t)(p->offset + at));
		ssize_t put = 0;

		if (n <= 0)
			return n ? -errno : -ESTALE;
		while (put < n) {
			ssize_t m = pwrite(to, buffer + put, (size_t)(n - put),
					   (off_t)(p->offset + at) + put);

			if (m < 0)
				return -errno;
			put += m;
		}
		at += (uint64_t)n;
	}
	return 0;
}

static int copy_piece(struct copy *c, const struct piece *p, char *buffer,
		      struct fb_err *err)
{
	fb_autoclose int from = fb_state_open(c->scan, p->inode, err);
	fb_autoclose int to = -1;
	fb_autofree char *path = NULL;
	int rc;

	if (from < 0)
		return from;
	to = fb_state_fill_open(c->restore, p->inode, err);
	if (to < 0)
		return to;
	rc = move_bytes(from, to, p, buffer);
	if (!rc)
		return 0;
	path = fb_tree_path(&c->scan->tree, p->inode);
	return fb_state_fail(err, -rc, "copy", NULL, path ? path : "?");
}

static int report(struct copy *c, uint64_t bytes, struct fb_err *err)
{
	const struct fb_progress *progress = c->progress;
	int rc = 0;

	pthread_mutex_lock(&c->lock);
	c->done += bytes;
	if (progress)
		rc = progress->report(progress->context, c->done, c->total);
	pthread_mutex_unlock(&c->lock);
	return rc ? fb_err_set(err, -rc, "interrupted") : 0;
}

/* The first failure is the one that is reported. */
static void fail(struct copy *c, int rc, const struct fb_err *err)
{
	pthread_mutex_lock(&c->lock);
	if (!c->rc) {
		c->rc = rc;
		if (c->err)
			*c->err = *err;
	}
	pthread_mutex_unlock(&c->lock);
	atomic_store(&c->stop, true);
}

static void *worker(void *context)
{
	struct copy *c = context;
	fb_autofree char *buffer = malloc(BUFFER_SIZE);
	struct fb_err err = FB_ERR_INIT;
	int rc = buffer ? 0 : fb_err_set(&err, ENOMEM, "out of memory");

	while (!rc && !atomic_load(&c->stop)) {
		size_t i = atomic_fetch_add(&c->next, 1);

		if (i >= c->count)
			break;
		rc = copy_piece(c, &c->pieces[i], buffer, &err);
		if (!rc)
			rc = report(c, c->pieces[i].length, &err);
	}
	if (rc)
		fail(c, rc, &err);
	return NULL;
}

static unsigned int thread_count(unsigned int threads)
{
	cpu_set_t set;

	if (!threads && !sched_getaffinity(0, sizeof(set), &set))
		threads = (unsigned int)CPU_COUNT(&set);
	return threads < THREADS_MAX ? threads : THREADS_MAX;
}

/* The caller is one of the threads: one that cannot be started is no failure. */
static void run_threads(struct copy *c, unsigned int want)
{
	pthread_t threads[THREADS_MAX];
	unsigned int n = 0;

	while (n + 1 < want && !pthread_create(&threads[n], NULL, worker, c))
		n++;
	worker(c);
	while (n)
		pthread_join(threads[--n], NULL);
}

int fb_state_copy(struct fb_state_scan *scan, struct fb_state_restore *restore,
		  unsigned int threads, const struct fb_progress *progress,
		  struct fb_err *err)
{
	struct copy c = {
		.scan = scan,
		.restore = restore,
		.progress = progress,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.err = err,
	};
	int rc = add_files(&c);

	if (rc)
		fb_err_set(err, -rc, "out of memory");
	else
		run_threads(&c, thread_count(threads));
	pthread_mutex_destroy(&c.lock);
	free(c.pieces);
	return rc ? rc : c.rc;
}
