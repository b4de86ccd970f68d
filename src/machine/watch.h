/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * watch - ends a blocked system call of this thread when a deadline has
 * passed or somebody asks to stop.
 *
 * Writing "offline" to a memory block can retry for ever inside the kernel;
 * only a signal ends it (mm/memory_hotplug.c, offline_pages(), Linux 6.12). A
 * single signal could come just before the write and be lost, so a thread of
 * its own sends SIGALRM again and again from the deadline on until the watch
 * is stopped: no moment is left in which the write could stay blocked.
 *
 *	struct fb_watch watch;
 *
 *	rc = fb_watch_start(&watch, deadline_usec, stop, context, err);
 *	... calls that may block; -EINTR: ask fb_watch_expired() why ...
 *	fb_watch_stop(&watch);
 */
#ifndef FB_MACHINE_WATCH_H
#define FB_MACHINE_WATCH_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct fb_watch {
	pthread_t thread, target;
	uint64_t deadline_usec; /* CLOCK_MONOTONIC; 0: none */
	int (*stop)(void *context);
	void *context;
	atomic_bool finished;
	struct sigaction old;
};

/*
 * Start watching the calling thread. `timeout_usec` from now, 0 for no
 * deadline. `stop` (may be NULL) is asked from another thread about every 20 ms
 * and must only look at something atomic; not 0 means stop. While a watch
 * runs, SIGALRM is handled by it; fb_watch_stop() puts the old handler back.
 * `watch` must stay where it is. -errno of pthread_create.
 */
int fb_watch_start(struct fb_watch *watch, uint64_t timeout_usec,
		   int (*stop)(void *context), void *context, struct fb_err *err);

/* Has the deadline passed? */
bool fb_watch_expired(const struct fb_watch *watch);

void fb_watch_stop(struct fb_watch *watch);

#endif
