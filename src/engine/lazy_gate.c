/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lazy_gate - hold back every open of a file that is not filled yet. Nothing
 * here allocates memory or opens anything: the keeper forks while these
 * threads run.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "engine/lazy_internal.h"

/* The first slot to look in; at least half of them are empty. */
static size_t slot_of(const struct fb_lazy *lazy, dev_t dev, ino_t ino)
{
	uint64_t hash = ((uint64_t)ino ^ (uint64_t)dev << 32) * 0x9e3779b97f4a7c15u;

	return (size_t)(hash >> 32) & lazy->by_ino_mask;
}

void fb_lazy_index(struct fb_lazy *lazy)
{
	const struct lazy_shared *s = lazy->shared;

	for (size_t i = 0; i < s->count; i++) {
		size_t slot = slot_of(lazy, s->entries[i].dev, s->entries[i].ino);

		while (lazy->by_ino[slot])
			slot = (slot + 1) & lazy->by_ino_mask;
		lazy->by_ino[slot] = (uint32_t)i + 1;
	}
}

uint32_t fb_lazy_lookup(const struct fb_lazy *lazy, dev_t dev, ino_t ino)
{
	size_t slot = slot_of(lazy, dev, ino);

	for (; lazy->by_ino[slot]; slot = (slot + 1) & lazy->by_ino_mask) {
		uint32_t index = lazy->by_ino[slot] - 1;
		const struct lazy_entry *e = &lazy->shared->entries[index];

		if (e->dev == dev && e->ino == ino)
			return index;
	}
	return LAZY_NO_ENTRY;
}

void fb_lazy_want(const struct fb_lazy *lazy, uint32_t index)
{
	/* A full pipe: whoever waits asks again. */
	if (write(lazy->wanted[1], &index, sizeof(index)) < 0)
		return;
}

void fb_lazy_wake(struct lazy_entry *entry)
{
	syscall(SYS_futex, &entry->state, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* Until the file is filled (true), or cannot be. */
static bool wait_for(const struct fb_lazy *lazy, uint32_t index)
{
	struct lazy_entry *e = &lazy->shared->entries[index];
	const struct timespec again = { .tv_nsec = 200 * 1000 * 1000 };

	for (;;) {
		uint32_t state = atomic_load(&e->state);

		if (lazy_over(state))
			return state == LAZY_FILLED;
		if (atomic_load(&e->full))
			return false;
		if (state == LAZY_PENDING)
			fb_lazy_want(lazy, index);
		syscall(SYS_futex, &e->state, FUTEX_WAIT, state, &again, NULL, 0);
	}
}

static bool may_open(const struct fb_lazy *lazy, int fd)
{
	struct stat st;
	uint32_t index;

	if (fstat(fd, &st))
		return true;
	index = fb_lazy_lookup(lazy, st.st_dev, st.st_ino);
	return index == LAZY_NO_ENTRY || wait_for(lazy, index);
}

/*
 * The event's own descriptor is closed first: the opener's lease, or exec,
 * must find the file open nowhere else. Its number stays taken meanwhile.
 */
static int answer(const struct fb_lazy *lazy, int fd, bool allow)
{
	const struct fanotify_response response = {
		.fd = fd,
		.response = allow ? FAN_ALLOW : FAN_DENY,
	};
	ssize_t n;

	dup3(lazy->null, fd, O_CLOEXEC);
	n = write(lazy->group, &response, sizeof(response));
	close(fd);
	return n < 0 ? -errno : 0;
}

static void *gate(void *argument)
{
	const struct fb_lazy *lazy = argument;
	struct fanotify_event_metadata event;

	for (;;) {
		/*
		 * One event at a time. The kernel opens the file here, which breaks
		 * the lease of one that is pending: the read returns when it
		 * is filled.
		 */
		ssize_t n = read(lazy->group, &event, sizeof(event));

		if (n < 0 && errno == EBADF)
			return NULL;
		if (n < (ssize_t)sizeof(event) || event.fd < 0)
			continue;
		answer(lazy, event.fd, may_open(lazy, event.fd));
	}
}

int fb_lazy_gate_start(struct fb_lazy *lazy, int threads)
{
	for (int i = 0; i < threads; i++) {
		pthread_t thread;
		int rc = pthread_create(&thread, NULL, gate, lazy);

		if (rc)
			return i ? 0 : -rc;
		pthread_detach(thread);
	}
	return 0;
}

/* Is the descriptor of this entry still its own? */
static bool is_held(struct fb_lazy *lazy, uint32_t index)
{
	uint32_t state = atomic_load(&lazy->shared->entries[index].state);

	if (state == LAZY_CLOSING || state == LAZY_SPOILING)
		wait_for(lazy, index);
	return state == LAZY_PENDING || state == LAZY_FILLING;
}

/*
 * An event's descriptor is of a file here, and not one of the pending ones'.
 * What is none is not known to the group and stays open.
 */
static void recover_one(struct fb_lazy *lazy, int fd)
{
	struct stat st;
	size_t i;

	if (fd <= STDERR_FILENO || fstat(fd, &st))
		return;
	i = (size_t)fd < lazy->fd_limit ? lazy->by_fd[fd] : 0;
	if (i && is_held(lazy, (uint32_t)i - 1))
		return;
	if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY || !S_ISREG(st.st_mode))
		return;
	if (may_open(lazy, fd)) {
		const struct fanotify_response allow = { fd, FAN_ALLOW };

		if (write(lazy->group, &allow, sizeof(allow)) > 0)
			close(fd);
	}
}

void fb_lazy_gate_recover(struct fb_lazy *lazy)
{
	fb_autoclosedir DIR *d = opendir("/proc/self/fd");
	struct dirent *entry;

	while (d && (entry = readdir(d)))
		if (entry->d_name[0] != '.')
			recover_one(lazy, atoi(entry->d_name));
}
