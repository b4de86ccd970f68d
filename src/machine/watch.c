/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/watch.h"

#include <string.h>
#include <time.h>

#include "machine/clock.h"

#define PERIOD_NSEC 20000000

/* The signal only has to interrupt. */
static void ignore(int signal)
{
	(void)signal;
}

static void *run(void *argument)
{
	struct fb_watch *watch = argument;
	const struct timespec period = { 0, PERIOD_NSEC };

	while (!atomic_load(&watch->finished)) {
		if (fb_watch_expired(watch) ||
		    (watch->stop && watch->stop(watch->context)))
			pthread_kill(watch->target, SIGALRM);
		nanosleep(&period, NULL);
	}
	return NULL;
}

int fb_watch_start(struct fb_watch *watch, uint64_t timeout_usec,
		   int (*stop)(void *context), void *context, struct fb_err *err)
{
	struct sigaction action = { .sa_handler = ignore };
	sigset_t all, before;
	int rc;

	memset(watch, 0, sizeof(*watch));
	watch->target = pthread_self();
	watch->deadline_usec = timeout_usec ? fb_clock_usec() + timeout_usec : 0;
	watch->stop = stop;
	watch->context = context;
	sigemptyset(&action.sa_mask);
	sigaction(SIGALRM, &action, &watch->old);
	/* Signals for the process must interrupt the work, not the watcher. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&watch->thread, NULL, run, watch);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc) {
		sigaction(SIGALRM, &watch->old, NULL);
		return fb_err_sys(err, rc, "cannot start a thread");
	}
	return 0;
}

bool fb_watch_expired(const struct fb_watch *watch)
{
	return watch->deadline_usec && fb_clock_usec() >= watch->deadline_usec;
}

void fb_watch_stop(struct fb_watch *watch)
{
	atomic_store(&watch->finished, true);
	pthread_join(watch->thread, NULL);
	sigaction(SIGALRM, &watch->old, NULL);
}
