/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_work - runs of data handed to all cores: a list of jobs, a number of
 * threads, the first error stops. Private to engine/image_*.c.
 */
#ifndef FB_ENGINE_IMAGE_WORK_H
#define FB_ENGINE_IMAGE_WORK_H

#include "engine/image.h"

/*
 * The most blocks of a job: 4 MiB of one file, a whole number of huge pages, so
 * that no two threads wait for the same one to be made.
 */
#define FB_IMAGE_JOB_BLOCKS 1024u

/*
 * The most blocks that go through a buffer at a time, and of a job of several
 * files: 512 KiB, which stays in a core's second-level cache between being read,
 * hashed and written. At least FB_IMAGE_RUN_BLOCKS.
 */
#define FB_IMAGE_PIECE_BLOCKS 128u

/* The most blocks of a run as fastboot writes it; a reader takes 256. */
#define FB_IMAGE_RUN_BLOCKS 128u

/* Runs first..first + count - 1, whose blocks follow each other. */
struct fb_image_job {
	size_t first;
	size_t count;
	uint32_t blocks;
};

/*
 * Put runs that follow each other into jobs: those of one file that lie in the
 * same FB_IMAGE_JOB_BLOCKS of it, and any others up to FB_IMAGE_PIECE_BLOCKS (or
 * one run, if it is longer). Clean runs are left out, and those that
 * wanted(context, inode) (may be NULL) refuses. *jobs is malloc'ed. 0 or
 * -ENOMEM.
 */
int fb_image_jobs_make(const struct fb_image_run *runs, size_t run_count,
		       bool (*wanted)(void *context, uint32_t inode), void *context,
		       struct fb_image_job **jobs, size_t *count);

/*
 * The next runs of a job that go through a buffer together: at most
 * FB_IMAGE_PIECE_BLOCKS, or one run. *piece is zeroed before the first call.
 * False: that was all. Pure.
 */
bool fb_image_job_next(const struct fb_image_run *runs, const struct fb_image_job *job,
		       struct fb_image_job *piece);

struct fb_image_work {
	const struct fb_image_job *jobs;
	size_t job_count;
	/*
	 * Do one job. `buffer` is the thread's own, aligned, and large enough
	 * for the largest piece of a job `buffers` times. Called from several
	 * threads at once.
	 */
	int (*run)(void *context, const struct fb_image_job *job, uint8_t *buffer,
		   struct fb_err *err);
	void *context;
	unsigned int buffers;		    /* 0 is 1 */
	unsigned int threads;		    /* 0: online CPUs */
	const struct fb_progress *progress; /* may be NULL */
};

/* All jobs; 0, the first error, or -ENOMEM. No thread is left behind. */
int fb_image_work_run(struct fb_image_work *work, struct fb_err *err);

/* Aligned to FB_STORE_BLOCK, at least one block; freed with free(). */
void *fb_image_buffer(uint64_t size);

#endif
