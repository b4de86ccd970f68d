/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "base/pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "base/util.h"

#define THREADS_MAX 256u

/* What the threads share. */
struct crew {
	const struct fb_pool *pool;
	atomic_size_t next;
	atomic_bool stop;
	pthread_mutex_t lock; /* for all below */
	uint64_t done;
	int ret;
	struct fb_err *err;
};

/* The first failure is the one that is reported. */
static void fail(struct crew *crew, int ret, const struct fb_err *err)
{
	pthread_mutex_lock(&crew->lock);
	if (!crew->ret) {
		crew->ret = ret;
		if (crew->err)
			*crew->err = *err;
	}
	pthread_mutex_unlock(&crew->lock);
	atomic_store(&crew->stop, true);
}

static int report(struct crew *crew, size_t piece, struct fb_err *err)
{
	const struct fb_pool *pool = crew->pool;
	const struct fb_progress *p = pool->progress;
	int ret;

	if (!p)
		return 0;
	pthread_mutex_lock(&crew->lock);
	crew->done += pool->size(pool->context, piece);
	ret = p->report(p->context, crew->done, pool->total);
	pthread_mutex_unlock(&crew->lock);
	return ret ? fb_err_set(err, -ret, "interrupted") : 0;
}

static int run_pieces(struct crew *crew, void *own, struct fb_err *err)
{
	const struct fb_pool *pool = crew->pool;
	int ret = 0;

	while (!ret && !atomic_load(&crew->stop)) {
		size_t piece = atomic_fetch_add(&crew->next, 1);

		if (piece >= pool->pieces)
			break;
		ret = pool->run(pool->context, piece, own, err);
		if (!ret)
			ret = report(crew, piece, err);
	}
	return ret;
}

/* Zeros that take no memory before they are written to. */
static void *map_own(size_t bytes)
{
	void *own = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return own == MAP_FAILED ? NULL : own;
}

static void *worker(void *context)
{
	struct crew *crew = context;
	const struct fb_pool *pool = crew->pool;
	struct fb_err err = FB_ERR_INIT;
	void *own = map_own(pool->own_bytes);
	int ret = own ? run_pieces(crew, own, &err)
		      : fb_err_set(&err, ENOMEM, "out of memory");

	if (own && pool->end)
		pool->end(own);
	if (own)
		munmap(own, pool->own_bytes ? pool->own_bytes : 1);
	if (ret)
		fail(crew, ret, &err);
	return NULL;
}

static unsigned int thread_count(const struct fb_pool *pool)
{
	unsigned int n = pool->threads;
	cpu_set_t set;

	if (!n)
		n = sched_getaffinity(0, sizeof(set), &set)
			    ? 1
			    : (unsigned int)CPU_COUNT(&set);
	if (n > THREADS_MAX)
		n = THREADS_MAX;
	return n > pool->pieces ? (unsigned int)pool->pieces : n;
}

int fb_pool_run(const struct fb_pool *pool, struct fb_err *err)
{
	struct crew crew = {
		.pool = pool,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.err = err,
	};
	pthread_t threads[THREADS_MAX];
	unsigned int n = 0, want = thread_count(pool);

	/* One that cannot be started is no failure. */
	while (n + 1 < want && !pthread_create(&threads[n], NULL, worker, &crew))
		n++;
	if (want)
		worker(&crew);
	while (n)
		pthread_join(threads[--n], NULL);
	pthread_mutex_destroy(&crew.lock);
	return crew.ret;
}
