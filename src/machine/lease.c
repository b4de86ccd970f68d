/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/util.h"

/* Not in linux/magic.h everywhere. */
#define XFS_MAGIC 0x58465342

/* Descriptors below this are left to the rest of the program. */
#define FIRST_FD 1024

struct fb_leases {
	pthread_t thread;
	pid_t tid; /* of the thread */
	sem_t ready;
	atomic_bool stop;
	struct rlimit limit, raised; /* as it was; as it is during takes */
	bool is_raised;
	int first_fd;

	pthread_mutex_t lock; /* for all below */
	uint32_t *serials;    /* of the lease at first_fd + index; 0: none */
	size_t slots;
	uint32_t serial; /* of the last one that was taken */
	size_t held, broken;
};

static fb_lease lease_make(uint32_t serial, uint32_t slot)
{
	return (uint64_t)serial << 32 | slot;
}

static int signal_number(void)
{
	return SIGRTMIN + 3;
}

/* ---- giving way ------------------------------------------------------------ */

/* With the lock held. The caller of take may have the same file open still. */
static void give_up(struct fb_leases *l, uint32_t slot)
{
	int fd = l->first_fd + (int)slot;

	l->serials[slot] = 0;
	l->held--;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	close(fd);
}

static bool intact(const struct fb_leases *l, uint32_t slot)
{
	return fcntl(l->first_fd + (int)slot, F_GETLEASE) == F_RDLCK;
}

/* A signal may be older than the lease that has its descriptor now. */
static void look_at(struct fb_leases *l, uint32_t slot)
{
	if (slot >= l->slots || !l->serials[slot] || intact(l, slot))
		return;
	give_up(l, slot);
	l->broken++;
}

static void broken_one(struct fb_leases *l, int fd)
{
	if (fd < l->first_fd)
		return;
	pthread_mutex_lock(&l->lock);
	look_at(l, (uint32_t)(fd - l->first_fd));
	pthread_mutex_unlock(&l->lock);
}

/* The queue of signals was full (signal(7)): which ones is not known. */
static void broken_any(struct fb_leases *l)
{
	pthread_mutex_lock(&l->lock);
	for (uint32_t i = 0; i < l->slots; i++)
		look_at(l, i);
	pthread_mutex_unlock(&l->lock);
}

static void *run(void *argument)
{
	struct fb_leases *l = argument;
	sigset_t set;
	siginfo_t info;

	sigemptyset(&set);
	sigaddset(&set, signal_number());
	sigaddset(&set, SIGIO);
	l->tid = (pid_t)syscall(SYS_gettid);
	sem_post(&l->ready);
	while (!atomic_load(&l->stop)) {
		int signal = sigwaitinfo(&set, &info);

		if (signal == SIGIO)
			broken_any(l);
		else if (signal == signal_number() && info.si_code != SI_TKILL)
			broken_one(l, info.si_fd);
	}
	return NULL;
}

/* ---- descriptors ---------------------------------------------------------------- */

/* As far as it is allowed: root may raise the hard limit up to fs.nr_open. */
static void limit_raise(struct fb_leases *l)
{
	if (l->is_raised)
		return;
	l->is_raised = true;
	while (setrlimit(RLIMIT_NOFILE, &l->raised) &&
	       l->raised.rlim_max > l->limit.rlim_max) {
		l->raised.rlim_max -= l->raised.rlim_max / 4;
		if (l->raised.rlim_max < l->limit.rlim_max)
			l->raised.rlim_max = l->limit.rlim_max;
		if (l->raised.rlim_cur > l->raised.rlim_max)
			l->raised.rlim_cur = l->raised.rlim_max;
	}
}

void fb_leases_limit_restore(struct fb_leases *l)
{
	if (!l->is_raised)
		return;
	setrlimit(RLIMIT_NOFILE, &l->limit);
	l->is_raised = false;
}

static void limit_choose(struct fb_leases *l, size_t count)
{
	if (getrlimit(RLIMIT_NOFILE, &l->limit))
		l->limit = (struct rlimit){ FIRST_FD, FIRST_FD };
	l->first_fd = FIRST_FD;
	if (l->limit.rlim_max < 2 * FIRST_FD)
		l->first_fd = (int)(l->limit.rlim_max / 2);
	l->raised = l->limit;
	if (l->raised.rlim_cur < (rlim_t)l->first_fd + count)
		l->raised.rlim_cur = (rlim_t)l->first_fd + count;
	if (l->raised.rlim_max < l->raised.rlim_cur)
		l->raised.rlim_max = l->raised.rlim_cur;
}

/* ---- start and stop ----------------------------------------------------------------- */

static int start_thread(struct fb_leases *l)
{
	sigset_t all, before;
	int rc;

	/* What is sent to the process is not for this thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&l->thread, NULL, run, l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	while (!rc && sem_wait(&l->ready))
		;
	return rc;
}

static void leases_free(struct fb_leases *l)
{
	pthread_mutex_destroy(&l->lock);
	sem_destroy(&l->ready);
	free(l->serials);
	free(l);
}

int fb_leases_start(struct fb_leases **leases, size_t count, struct fb_err *err)
{
	struct fb_leases *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return fb_err_sys(err, ENOMEM, "leases");
	/* As many again for files that appear later. */
	l->slots = 2 * count + FIRST_FD;
	l->serials = calloc(l->slots, sizeof(*l->serials));
	pthread_mutex_init(&l->lock, NULL);
	sem_init(&l->ready, 0, 0);
	limit_choose(l, l->slots);
	rc = l->serials ? start_thread(l) : ENOMEM;
	if (rc) {
		leases_free(l);
		return fb_err_sys(err, rc, "cannot start a thread for leases");
	}
	*leases = l;
	return 0;
}

void fb_leases_stop(struct fb_leases *l)
{
	if (!l)
		return;
	atomic_store(&l->stop, true);
	pthread_kill(l->thread, signal_number());
	pthread_join(l->thread, NULL);
	for (uint32_t i = 0; i < l->slots; i++)
		if (l->serials[i])
			give_up(l, i);
	fb_leases_limit_restore(l);
	leases_free(l);
}

/* ---- one lease ------------------------------------------------------------------------- */

/*
 * On a network file system, FUSE or 9p data changes without this kernel; on
 * overlayfs below the inode that has the lease.
 */
static bool is_local(int fd)
{
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return false;
	switch ((unsigned long)fs.f_type) {
	case TMPFS_MAGIC:
	case RAMFS_MAGIC:
	case EXT4_SUPER_MAGIC:
	case XFS_MAGIC:
	case BTRFS_SUPER_MAGIC:
		return true;
	}
	return false;
}

/* The owner first: F_SETLEASE would make it the process. */
static int set_lease(const struct fb_leases *l, int fd)
{
	struct f_owner_ex owner = { F_OWNER_TID, l->tid };

	return fcntl(fd, F_SETOWN_EX, &owner) || fcntl(fd, F_SETSIG, signal_number()) ||
	       fcntl(fd, F_SETLEASE, F_RDLCK);
}

/* With the lock held: a break that comes at once must find the slot. */
static fb_lease take_locked(struct fb_leases *l, int fd)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, l->first_fd);
	uint32_t slot = (uint32_t)(own - l->first_fd);

	if (own < 0)
		return FB_LEASE_NONE;
	if (slot >= l->slots || l->serial == UINT32_MAX || set_lease(l, own)) {
		close(own);
		return FB_LEASE_NONE;
	}
	l->serials[slot] = ++l->serial;
	l->held++;
	return lease_make(l->serial, slot);
}

fb_lease fb_lease_take(struct fb_leases *l, int fd)
{
	fb_lease lease;

	if (!is_local(fd))
		return FB_LEASE_NONE;
	limit_raise(l);
	pthread_mutex_lock(&l->lock);
	lease = take_locked(l, fd);
	pthread_mutex_unlock(&l->lock);
	return lease;
}

/* With the lock held: is it the one that its slot has? */
static bool is_there(const struct fb_leases *l, fb_lease lease)
{
	uint32_t slot = (uint32_t)lease;

	return lease != FB_LEASE_NONE && slot < l->slots &&
	       l->serials[slot] == lease >> 32;
}

bool fb_lease_held(struct fb_leases *l, fb_lease lease)
{
	bool held;

	pthread_mutex_lock(&l->lock);
	held = is_there(l, lease) && intact(l, (uint32_t)lease);
	pthread_mutex_unlock(&l->lock);
	return held;
}

void fb_lease_drop(struct fb_leases *l, fb_lease lease)
{
	pthread_mutex_lock(&l->lock);
	if (is_there(l, lease))
		give_up(l, (uint32_t)lease);
	pthread_mutex_unlock(&l->lock);
}

void fb_leases_count(struct fb_leases *l, size_t *held, size_t *broken)
{
	pthread_mutex_lock(&l->lock);
	*held = l->held;
	*broken = l->broken;
	pthread_mutex_unlock(&l->lock);
}
