/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lazy_fill - the worker: fill what someone waits for, and all the rest. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/util.h"
#include "engine/lazy_internal.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

/* Those that only fill what someone waits for. */
#define URGENT_THREADS 2

/* The processors are the applications' first: they start now, or as soon as the
 * kernel has started beside which the tree was made. */
#define DRAIN_DELAY_MSEC 1000
#define DRAIN_NICE	 19

#define TICK_MSEC 100
#define PAGE	  4096u

/* Files of less on average are filled by one thread. */
#define SMALL (256u << 10)

/* What the threads of the worker share. */
struct crew {
	struct fb_lazy *lazy;
	const struct fb_lazy_work *work;
	_Atomic size_t next; /* in the order of the entries */
	int signals;	     /* signalfd */
	bool alone;	     /* the keeper is gone */
};

/* ---- one file -------------------------------------------------------------------- */

int fb_lazy_put(struct fb_lazy_target *to, const void *bytes, uint64_t offset,
		size_t length)
{
	uint64_t from = fb_align_down(offset, PAGE);

	/* Shorter than recorded: truncated after the lease had run out. */
	if (offset >= to->size)
		return 0;
	if (length > to->size - offset)
		length = to->size - offset;
	if (madvise(to->base + from, offset + length - from, MADV_POPULATE_READ)) {
		to->error = errno == EFAULT || errno == ENOMEM ? -ENOSPC : -errno;
		return to->error;
	}
	memcpy(to->base + offset, bytes, length);
	return 0;
}

/* A kernel that set the time after all: as it was. */
static void keep_mtime(int fd, const struct stat *before)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, before->st_mtim };
	struct stat now;

	if (!fstat(fd, &now) && (now.st_mtim.tv_sec != before->st_mtim.tv_sec ||
				 now.st_mtim.tv_nsec != before->st_mtim.tv_nsec))
		futimens(fd, times);
}

static int fill_mapping(const struct crew *c, struct lazy_entry *e, uint64_t size,
			struct fb_err *err)
{
	struct fb_lazy_target to = { .size = size };
	int rc;

	to.base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, e->fd, 0);
	if (to.base == MAP_FAILED)
		return fb_err_sys(err, errno, "mmap");
	rc = c->work->fill(c->work->context, e->inode, &to, err);
	munmap(to.base, size);
	return to.error ? to.error : rc;
}

static int fill_file(const struct crew *c, struct lazy_entry *e, struct fb_err *err)
{
	struct stat st;
	int rc;

	if (fstat(e->fd, &st))
		return -errno;
	rc = st.st_size ? fill_mapping(c, e, (uint64_t)st.st_size, err) : 0;
	if (!rc)
		keep_mtime(e->fd, &st);
	return rc;
}

/* May be begun again by the next worker, where this one dies in it. */
static void release(struct lazy_entry *e, bool open, uint32_t over)
{
	if (open) {
		fcntl(e->fd, F_SETLEASE, F_UNLCK);
		close(e->fd);
	}
	atomic_store(&e->state, over);
	fb_lazy_wake(e);
}

static void spoil(const struct fb_lazy_work *work, struct lazy_entry *e,
		  const char *why)
{
	work->damaged(work->context, e->inode, e->fd, why);
	atomic_store(&e->state, LAZY_SPOILING);
	release(e, true, LAZY_DAMAGED);
}

static void fill_entry(const struct crew *c, uint32_t index)
{
	struct lazy_entry *e = &c->lazy->shared->entries[index];
	struct fb_err err = FB_ERR_INIT;
	uint32_t pending = LAZY_PENDING;
	int rc;

	if (!atomic_compare_exchange_strong(&e->state, &pending, LAZY_FILLING))
		return;
	atomic_store(&e->full, false);
	rc = fill_file(c, e, &err);
	if (rc == -EBADMSG) {
		spoil(c->work, e, err.text);
	} else if (rc) {
		/* Later: there may be room then. Who waits now is told. */
		atomic_store(&e->full, true);
		atomic_store(&e->state, LAZY_PENDING);
		fb_lazy_wake(e);
	} else {
		fremovexattr(e->fd, FB_LAZY_MARK);
		atomic_store(&e->state, LAZY_CLOSING);
		release(e, true, LAZY_FILLED);
	}
}

/* The entry's descriptor may be closed already, and its number taken again. */
static bool still_open(const struct lazy_entry *e)
{
	struct stat st;

	return !fstat(e->fd, &st) && st.st_dev == e->dev && st.st_ino == e->ino &&
	       (fcntl(e->fd, F_GETFL) & O_ACCMODE) == O_RDWR;
}

void fb_lazy_worker_recover(struct fb_lazy *lazy, const struct fb_lazy_work *work,
			    bool give_up)
{
	for (size_t i = 0; i < lazy->shared->count; i++) {
		struct lazy_entry *e = &lazy->shared->entries[i];
		uint32_t state = atomic_load(&e->state);

		if (state == LAZY_CLOSING)
			release(e, still_open(e), LAZY_FILLED);
		else if (state == LAZY_SPOILING)
			release(e, still_open(e), LAZY_DAMAGED);
		else if (state == LAZY_FILLING && give_up)
			spoil(work, e, "filling it fails again and again");
		else if (state == LAZY_FILLING)
			atomic_store(&e->state, LAZY_PENDING);
	}
}

/* ---- threads -------------------------------------------------------------------- */

static void *urgent(void *argument)
{
	const struct crew *c = argument;
	uint32_t index;

	while (read(c->lazy->wanted[0], &index, sizeof(index)) == sizeof(index))
		if (index < c->lazy->shared->count)
			fill_entry(c, index);
	return NULL;
}

static size_t count_left(const struct fb_lazy *lazy)
{
	size_t left = 0;

	for (size_t i = 0; i < lazy->shared->count; i++)
		left += !lazy_over(atomic_load(&lazy->shared->entries[i].state));
	return left;
}

/* Again and again: some files may have to wait for room. */
static void *drain(void *argument)
{
	struct crew *c = argument;

	setpriority(PRIO_PROCESS, (id_t)gettid(), DRAIN_NICE);
	usleep(DRAIN_DELAY_MSEC * 1000);
	for (;;) {
		size_t index = atomic_fetch_add(&c->next, 1);

		if (index < c->lazy->shared->count) {
			fill_entry(c, (uint32_t)index);
			continue;
		}
		if (!count_left(c->lazy))
			return NULL;
		usleep(TICK_MSEC * 1000);
		atomic_store(&c->next, 0);
	}
}

static int start(void *(*function)(void *), struct crew *c, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		pthread_t thread;
		int rc = pthread_create(&thread, NULL, function, c);

		if (rc)
			return i ? 0 : -rc;
		pthread_detach(thread);
	}
	return 0;
}

/* ---- who breaks leases --------------------------------------------------------------
 */

/* Who breaks the lease: told to whichever process of the group is there. */
static void arm(int fd)
{
	fcntl(fd, F_SETSIG, LAZY_SIGNAL);
	fcntl(fd, F_SETOWN, -(int)getpgrp());
}

/*
 * Signals may have come while there was no worker, or too many at once, or
 * before the lease had its signal: that waits until the tree stands.
 */
static void look_at_leases(const struct fb_lazy *lazy)
{
	struct lazy_shared *s = lazy->shared;
	bool armed = atomic_load(&s->armed);

	for (size_t i = 0; i < s->count; i++) {
		struct lazy_entry *e = &s->entries[i];

		if (atomic_load(&e->state) != LAZY_PENDING)
			continue;
		if (!armed)
			arm(e->fd);
		if (fcntl(e->fd, F_GETLEASE) != F_WRLCK)
			fb_lazy_want(lazy, (uint32_t)i);
	}
	atomic_store(&s->armed, true);
}

static void on_signal(const struct crew *c, const struct signalfd_siginfo *info)
{
	size_t fd = (size_t)info->ssi_fd;

	if ((int)info->ssi_signo != LAZY_SIGNAL)
		look_at_leases(c->lazy);
	else if (info->ssi_fd >= 0 && fd < c->lazy->fd_limit && c->lazy->by_fd[fd])
		fb_lazy_want(c->lazy, c->lazy->by_fd[fd] - 1);
}

static void read_signals(const struct crew *c)
{
	struct signalfd_siginfo info;
	struct pollfd p = { .fd = c->signals, .events = POLLIN };

	if (poll(&p, 1, TICK_MSEC) <= 0)
		return;
	while (read(c->signals, &info, sizeof(info)) == sizeof(info))
		on_signal(c, &info);
}

static int take_signals(struct crew *c)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, LAZY_SIGNAL);
	sigaddset(&set, SIGIO);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	/* Ignored until here: what came is found by look_at_leases(). */
	signal(LAZY_SIGNAL, SIG_DFL);
	signal(SIGIO, SIG_DFL);
	c->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (c->signals < 0)
		return -errno;
	atomic_store(&c->lazy->shared->signals, c->signals);
	return 0;
}

/* The keeper was killed: this process answers now. */
static void take_over(struct crew *c)
{
	c->alone = true;
	atomic_store(&c->lazy->shared->keeper, (int)getpid());
	fb_lazy_gate_recover(c->lazy);
	fb_lazy_gate_start(c->lazy, LAZY_GATE_THREADS);
}

/*
 * Each file is mapped, and unmapping one interrupts the processors that the
 * other threads run on: with small files, that is most of the work.
 */
static unsigned int drain_threads(const struct fb_lazy *lazy,
				  const struct fb_lazy_work *work)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	struct fb_lazy_progress all;

	if (work->threads)
		return work->threads;
	fb_lazy_progress(lazy, &all);
	return cpus > 0 && all.bytes / SMALL >= all.files ? (unsigned int)cpus : 1;
}

int fb_lazy_worker(struct fb_lazy *lazy, const struct fb_lazy_work *work, pid_t keeper)
{
	/* Never freed: its threads live as long as the process. */
	struct crew *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	c->lazy = lazy;
	c->work = work;
	rc = take_signals(c);
	if (!rc)
		rc = start(urgent, c, URGENT_THREADS);
	if (!rc)
		rc = start(drain, c, drain_threads(lazy, work));
	if (rc)
		return rc;
	look_at_leases(lazy);
	while (count_left(lazy)) {
		read_signals(c);
		if (!c->alone && getppid() != keeper)
			take_over(c);
		if (c->alone && work->tick) {
			struct fb_lazy_progress progress;

			fb_lazy_progress(lazy, &progress);
			work->tick(work->context, &progress);
		}
	}
	return c->alone || getppid() != keeper ? 0 : 1;
}
