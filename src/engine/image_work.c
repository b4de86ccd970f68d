/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "engine/image_work.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/util.h"

#define THREADS_MAX 256u

int fb_image_jobs_make(const struct fb_image_run *runs, size_t run_count,
		       bool (*wanted)(void *context, uint32_t inode), void *context,
		       struct fb_image_job **jobs, size_t *count)
{
	fb_autofree struct fb_image_job *list = NULL;
	size_t n = 0, capacity = 0;

	for (size_t i = 0; i < run_count; i++) {
		const struct fb_image_run *r = &runs[i];
		struct fb_image_job *last = n ? &list[n - 1] : NULL;

		if (r->status == FB_RUN_CLEAN ||
		    (wanted && !wanted(context, r->inode)))
			continue;
		if (last && last->first + last->count == i &&
		    runs[i - 1].block + runs[i - 1].blocks == r->block &&
		    last->blocks + r->blocks <= FB_IMAGE_JOB_BLOCKS) {
			last->count++;
			last->blocks += r->blocks;
			continue;
		}
		if (fb_array_grow(&list, &capacity, n + 1, sizeof(*list)))
			return -ENOMEM;
		list[n++] = (struct fb_image_job){ i, 1, r->blocks };
	}
	*jobs = fb_steal_ptr(list);
	*count = n;
	return 0;
}

void *fb_image_buffer(uint64_t size)
{
	void *p;

	if (size < FB_STORE_BLOCK)
		size = FB_STORE_BLOCK;
	return posix_memalign(&p, FB_STORE_BLOCK, size) ? NULL : p;
}

/* What the threads share. */
struct pool {
	const struct fb_image_work *work;
	uint64_t buffer_size;
	uint64_t total;
	atomic_size_t next;
	atomic_bool stop;
	pthread_mutex_t lock; /* for all below */
	uint64_t done;
	int ret;
	struct fb_err *err;
};

/* The first failure is the one that is reported. */
static void fail(struct pool *pool, int ret, const struct fb_err *err)
{
	pthread_mutex_lock(&pool->lock);
	if (!pool->ret) {
		pool->ret = ret;
		if (pool->err)
			*pool->err = *err;
	}
	pthread_mutex_unlock(&pool->lock);
	atomic_store(&pool->stop, true);
}

static int report(struct pool *pool, uint64_t bytes)
{
	const struct fb_progress *p = pool->work->progress;
	int ret = 0;

	if (!p)
		return 0;
	pthread_mutex_lock(&pool->lock);
	pool->done += bytes;
	ret = p->report(p->context, pool->done, pool->total);
	pthread_mutex_unlock(&pool->lock);
	return ret;
}

static void *worker(void *context)
{
	struct pool *pool = context;
	const struct fb_image_work *work = pool->work;
	fb_autofree uint8_t *buffer = fb_image_buffer(pool->buffer_size);
	struct fb_err err = FB_ERR_INIT;
	int ret = 0;

	if (!buffer)
		ret = fb_err_sys(&err, ENOMEM, "buffer");
	while (!ret && !atomic_load(&pool->stop)) {
		size_t i = atomic_fetch_add(&pool->next, 1);

		if (i >= work->job_count)
			break;
		ret = work->run(work->context, &work->jobs[i], buffer, &err);
		if (ret)
			break;
		ret = report(pool, (uint64_t)work->jobs[i].blocks * FB_STORE_BLOCK);
		if (ret)
			fb_err_set(&err, -ret, "interrupted");
	}
	if (ret)
		fail(pool, ret, &err);
	return NULL;
}

static unsigned int thread_count(const struct fb_image_work *work)
{
	unsigned int n = work->threads;
	cpu_set_t set;

	if (!n)
		n = sched_getaffinity(0, sizeof(set), &set)
			    ? 1
			    : (unsigned int)CPU_COUNT(&set);
	if (n > THREADS_MAX)
		n = THREADS_MAX;
	return n > work->job_count ? (unsigned int)work->job_count : n;
}

/* The caller is one of the threads: one that cannot be started is no failure. */
static void run_threads(struct pool *pool)
{
	pthread_t threads[THREADS_MAX];
	unsigned int n = 0, want = thread_count(pool->work);

	while (n + 1 < want && !pthread_create(&threads[n], NULL, worker, pool))
		n++;
	worker(pool);
	while (n)
		pthread_join(threads[--n], NULL);
}

int fb_image_work_run(const struct fb_image_work *work, struct fb_err *err)
{
	struct pool pool = {
		.work = work,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.err = err,
	};
	uint32_t largest = 1;

	for (size_t i = 0; i < work->job_count; i++) {
		pool.total += (uint64_t)work->jobs[i].blocks * FB_STORE_BLOCK;
		if (work->jobs[i].blocks > largest)
			largest = work->jobs[i].blocks;
	}
	pool.buffer_size = (uint64_t)largest * FB_STORE_BLOCK *
			   (work->buffers ? work->buffers : 1);
	if (work->job_count)
		run_threads(&pool);
	pthread_mutex_destroy(&pool.lock);
	return pool.ret;
}
