/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "engine/image_work.h"

#include <errno.h>
#include <stdlib.h>

#include "base/pool.h"
#include "base/util.h"

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

static int run_job(void *context, size_t piece, void *own, struct fb_err *err)
{
	const struct fb_image_work *work = context;

	return work->run(work->context, &work->jobs[piece], own, err);
}

static uint64_t job_size(void *context, size_t piece)
{
	const struct fb_image_work *work = context;

	return (uint64_t)work->jobs[piece].blocks * FB_STORE_BLOCK;
}

int fb_image_work_run(struct fb_image_work *work, struct fb_err *err)
{
	struct fb_pool pool = {
		.pieces = work->job_count,
		.run = run_job,
		.context = work,
		.threads = work->threads,
		.progress = work->progress,
		.size = job_size,
	};
	uint64_t largest = FB_STORE_BLOCK;

	for (size_t i = 0; i < work->job_count; i++) {
		pool.total += job_size(work, i);
		if (job_size(work, i) > largest)
			largest = job_size(work, i);
	}
	pool.own_bytes = largest * (work->buffers ? work->buffers : 1);
	return fb_pool_run(&pool, err);
}
