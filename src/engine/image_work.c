/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "engine/image_work.h"

#include <errno.h>
#include <stdlib.h>

#include "base/pool.h"
#include "base/util.h"

/* Of the same file, and of the same FB_IMAGE_JOB_BLOCKS of it. */
static bool together(const struct fb_image_run *a, const struct fb_image_run *b)
{
	const uint64_t unit = (uint64_t)FB_IMAGE_JOB_BLOCKS * FB_STORE_BLOCK;

	return a->inode == b->inode && a->offset / unit == b->offset / unit;
}

/* May run `i` be the next of the job? `whole`: all of it is together. */
static bool joins(const struct fb_image_run *runs, const struct fb_image_job *job,
		  size_t i, bool whole)
{
	const struct fb_image_run *r = &runs[i];

	if (job->first + job->count != i ||
	    runs[i - 1].block + runs[i - 1].blocks != r->block)
		return false;
	return (whole && together(&runs[job->first], r)) ||
	       job->blocks + r->blocks <= FB_IMAGE_PIECE_BLOCKS;
}

int fb_image_jobs_make(const struct fb_image_run *runs, size_t run_count,
		       bool (*wanted)(void *context, uint32_t inode), void *context,
		       struct fb_image_job **jobs, size_t *count)
{
	fb_autofree struct fb_image_job *list = NULL;
	size_t n = 0, capacity = 0;
	bool whole = false;

	for (size_t i = 0; i < run_count; i++) {
		const struct fb_image_run *r = &runs[i];
		struct fb_image_job *last = n ? &list[n - 1] : NULL;

		if (r->status == FB_RUN_CLEAN ||
		    (wanted && !wanted(context, r->inode)))
			continue;
		if (last && joins(runs, last, i, whole)) {
			whole = whole && together(&runs[last->first], r);
			last->count++;
			last->blocks += r->blocks;
			continue;
		}
		if (fb_array_grow(&list, &capacity, n + 1, sizeof(*list)))
			return -ENOMEM;
		list[n++] = (struct fb_image_job){ i, 1, r->blocks };
		whole = true;
	}
	*jobs = fb_steal_ptr(list);
	*count = n;
	return 0;
}

bool fb_image_job_next(const struct fb_image_run *runs, const struct fb_image_job *job,
		       struct fb_image_job *piece)
{
	size_t end = job->first + job->count;

	piece->first = piece->count ? piece->first + piece->count : job->first;
	piece->count = piece->blocks = 0;
	for (size_t i = piece->first; i < end; i++) {
		if (piece->count &&
		    piece->blocks + runs[i].blocks > FB_IMAGE_PIECE_BLOCKS)
			break;
		piece->count++;
		piece->blocks += runs[i].blocks;
	}
	return piece->count;
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
	/* A piece is no longer than the longest run there may be. */
	if (largest > FB_RUN_BLOCKS_MAX * (uint64_t)FB_STORE_BLOCK)
		largest = FB_RUN_BLOCKS_MAX * (uint64_t)FB_STORE_BLOCK;
	pool.own_bytes = largest * (work->buffers ? work->buffers : 1);
	return fb_pool_run(&pool, err);
}
