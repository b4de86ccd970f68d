/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lazy - the table of pending files, the group, the keeper. */
#define _GNU_SOURCE
#include "engine/lazy.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <linux/magic.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/util.h"
#include "engine/lazy_internal.h"

/* Descriptors besides those of the files: events, the image, threads. */
#define SPARE_FDS 256

/* Workers that die in a row without a file filled, before one is given up. */
#define DEATHS_MAX 50

#define TICK_MSEC 100

/* ---- can it be done -----------------------------------------------------------------
 */

static uint64_t read_nr_open(void)
{
	fb_autoclose int fd = open("/proc/sys/fs/nr_open", O_RDONLY | O_CLOEXEC);
	char text[32] = "";

	return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0
		       ? strtoull(text, NULL, 10)
		       : 0;
}

size_t fb_lazy_capacity(void)
{
	uint64_t most = read_nr_open();
	struct rlimit limit = { most, most };

	if (most && !setrlimit(RLIMIT_NOFILE, &limit))
		return most - SPARE_FDS;
	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 0;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur <= SPARE_FDS)
		return 0;
	return limit.rlim_cur - SPARE_FDS;
}

static int missing(struct fb_err *err, const char *what)
{
	return fb_err_exit(err, FB_EXIT_IMPOSSIBLE, ENOTSUP,
			   "a lazy restore is not possible: %s; --mode eager is", what);
}

static int no_permissions(struct fb_err *err)
{
	return missing(err, "this kernel has no fanotify with access permissions "
			    "(CONFIG_FANOTIFY_ACCESS_PERMISSIONS)");
}

static int new_group(struct fb_lazy *l, struct fb_err *err)
{
	if (madvise(NULL, 0, 22) && errno == EINVAL)
		return missing(err, "Linux 5.14 is needed (MADV_POPULATE_READ)");
	/* Unlimited: a mark for each of a few file systems, all their events. */
	l->group =
		fanotify_init(FAN_CLASS_PRE_CONTENT | FAN_CLOEXEC | FAN_UNLIMITED_QUEUE,
			      O_RDONLY | O_LARGEFILE | O_CLOEXEC);
	if (l->group >= 0)
		return 0;
	return errno == EPERM ? missing(err, "root is needed (fanotify)")
			      : no_permissions(err);
}

int fb_lazy_possible(const struct fb_lazy *lazy, int dir, const char *shown,
		     struct fb_err *err)
{
	fb_autofree char *what = NULL;
	struct statfs fs;

	if (fstatfs(dir, &fs))
		return fb_err_sys(err, errno, "%s", shown);
	if (fs.f_type != TMPFS_MAGIC) {
		what = fb_asprintf("'%s' is not on a tmpfs", shown);
		return missing(err, what ? what : shown);
	}
	/*
	 * Takes away a mark that is not there: ENOENT. One that was made would
	 * hold up the end of the group for some 10 ms (fsnotify_destroy_group()).
	 */
	if (fanotify_mark(lazy->group, FAN_MARK_REMOVE, FAN_OPEN_PERM, dir, NULL) &&
	    errno != ENOENT)
		return no_permissions(err);
	return 0;
}

/* ---- the table ------------------------------------------------------------------ */

/* A power of two, and at least twice as many slots as files. */
static size_t index_size(size_t count)
{
	size_t size = 2;

	while (size < 2 * count)
		size *= 2;
	return size;
}

static bool allocate(struct fb_lazy *l, size_t count)
{
	struct rlimit limit = { 0, 0 };

	getrlimit(RLIMIT_NOFILE, &limit);
	l->fd_limit = limit.rlim_cur;
	l->shared_size = sizeof(*l->shared) + count * sizeof(l->shared->entries[0]);
	l->shared = mmap(NULL, l->shared_size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (l->shared == MAP_FAILED)
		l->shared = NULL;
	l->by_ino_mask = index_size(count) - 1;
	l->by_ino = calloc(l->by_ino_mask + 1, sizeof(*l->by_ino));
	l->by_fd = calloc(l->fd_limit + 1, sizeof(*l->by_fd));
	if (!l->shared || !l->by_ino || !l->by_fd)
		return false;
	l->shared->count = count;
	atomic_store(&l->shared->signals, -1);
	return true;
}

/*
 * A table of descriptors that grows while several threads use it waits for all
 * processors each time (expand_fdtable() of fs/file.c): once, before.
 */
static void grow_fd_table(const struct fb_lazy *l, size_t count)
{
	size_t most = count + SPARE_FDS;
	int fd = fcntl(l->null, F_DUPFD_CLOEXEC,
		       (int)(most < l->fd_limit ? most : l->fd_limit - 1));

	if (fd >= 0)
		close(fd);
}

static int open_all(struct fb_lazy *l, size_t count, struct fb_err *err)
{
	if (!allocate(l, count))
		return fb_err_set(err, ENOMEM, "out of memory");
	l->null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (l->null < 0)
		return fb_err_sys(err, errno, "/dev/null");
	grow_fd_table(l, count);
	if (pipe2(l->wanted, O_CLOEXEC) || fcntl(l->wanted[1], F_SETFL, O_NONBLOCK))
		return fb_err_sys(err, errno, "pipe");
	return 0;
}

int fb_lazy_new(size_t count, struct fb_lazy **lazy, struct fb_err *err)
{
	struct fb_lazy *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return fb_err_set(err, ENOMEM, "out of memory");
	/* For the worker; here and between workers it must not kill. */
	signal(LAZY_SIGNAL, SIG_IGN);
	signal(SIGIO, SIG_IGN);
	l->group = l->null = l->wanted[0] = l->wanted[1] = -1;
	rc = new_group(l, err);
	if (!rc)
		rc = open_all(l, count, err);
	if (rc)
		fb_lazy_free(l);
	else
		*lazy = l;
	return rc;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static bool is_open(const struct lazy_entry *e)
{
	uint32_t state = atomic_load(&e->state);

	return state != LAZY_NONE && !lazy_over(state);
}

void fb_lazy_free(struct fb_lazy *lazy)
{
	if (!lazy)
		return;
	for (size_t i = 0; lazy->shared && i < lazy->shared->count; i++)
		if (is_open(&lazy->shared->entries[i]))
			close(lazy->shared->entries[i].fd);
	close_fd(lazy->group);
	close_fd(lazy->null);
	close_fd(lazy->wanted[0]);
	close_fd(lazy->wanted[1]);
	if (lazy->shared)
		munmap(lazy->shared, lazy->shared_size);
	free(lazy->by_ino);
	free(lazy->by_fd);
	free(lazy);
}

int fb_lazy_add(struct fb_lazy *lazy, size_t place, const struct fb_lazy_file *file,
		struct fb_err *err)
{
	struct lazy_entry *e = &lazy->shared->entries[place];
	int rc = place < lazy->shared->count && (size_t)file->fd < lazy->fd_limit
			 ? 0
			 : -EMFILE;

	if (!rc &&
	    (fsetxattr(file->fd, FB_LAZY_MARK, &file->mark, sizeof(file->mark), 0) ||
	     fcntl(file->fd, F_SETLEASE, F_WRLCK)))
		rc = -errno;
	if (rc) {
		close(file->fd);
		return fb_err_sys(err, -rc, "holding back a file until it is filled");
	}
	e->fd = file->fd;
	e->inode = file->mark.inode;
	e->bytes = file->bytes;
	e->dev = file->dev;
	e->ino = file->ino;
	lazy->by_fd[file->fd] = (uint32_t)place + 1;
	atomic_store(&e->state, LAZY_PENDING);
	return 0;
}

/* ---- the group --------------------------------------------------------------------
 */

static int mark_one(const struct fb_lazy *lazy, int fd, struct fb_err *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fanotify_mark(lazy->group, FAN_MARK_ADD | FAN_MARK_FILESYSTEM,
			  FAN_OPEN_PERM, AT_FDCWD, path))
		return fb_err_sys(err, errno, "fanotify_mark");
	return 0;
}

/* One mark for each file system: neighbours are often on the same. */
static int mark_all(const struct fb_lazy *lazy, struct fb_err *err)
{
	const struct lazy_shared *s = lazy->shared;
	dev_t last = 0;

	for (size_t i = 0; i < s->count; i++) {
		const struct lazy_entry *e = &s->entries[i];
		int rc = i && e->dev == last ? 0 : mark_one(lazy, e->fd, err);

		if (rc)
			return rc;
		last = e->dev;
	}
	return 0;
}

int fb_lazy_guard(struct fb_lazy *lazy, struct fb_err *err)
{
	int rc;

	for (size_t i = 0; i < lazy->shared->count; i++)
		if (atomic_load(&lazy->shared->entries[i].state) == LAZY_NONE)
			return fb_err_set(err, EINVAL, "there is no file %zu", i);
	fb_lazy_index(lazy);
	/* The others can wait until the tree stands. */
	rc = fb_lazy_gate_start(lazy, 1);
	if (rc)
		return fb_err_sys(err, -rc, "starting a thread");
	return mark_all(lazy, err);
}

bool fb_lazy_nth(const struct fb_lazy *lazy, size_t n, uint32_t *inode, bool *damaged)
{
	if (n >= lazy->shared->count)
		return false;
	*inode = lazy->shared->entries[n].inode;
	*damaged = atomic_load(&lazy->shared->entries[n].state) == LAZY_DAMAGED;
	return true;
}

/* ---- the keeper ---------------------------------------------------------------- */

void fb_lazy_progress(const struct fb_lazy *lazy, struct fb_lazy_progress *progress)
{
	const struct lazy_shared *s = lazy->shared;

	*progress = (struct fb_lazy_progress){
		.files = s->count,
		.keeper = atomic_load(&s->keeper),
		.worker = atomic_load(&s->worker),
		.deaths = atomic_load(&s->deaths),
	};
	for (size_t i = 0; i < s->count; i++) {
		uint32_t state = atomic_load(&s->entries[i].state);

		progress->bytes += s->entries[i].bytes;
		progress->damaged += state == LAZY_DAMAGED;
		if (lazy_over(state))
			continue;
		progress->files_left++;
		progress->bytes_left += s->entries[i].bytes;
		progress->full |= atomic_load(&s->entries[i].full);
	}
}

/* Like fork(2), with one table of descriptors for both. */
static pid_t fork_sharing_fds(void)
{
	return (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
}

/* 1 in the keeper; 0 in a worker that has taken over; -errno. */
static int spawn(struct fb_lazy *lazy, const struct fb_lazy_work *work, pid_t *pid)
{
	pid_t keeper = getpid(), child = fork_sharing_fds();
	int rc;

	if (child < 0)
		return -errno;
	if (child) {
		atomic_store(&lazy->shared->worker, (int)child);
		*pid = child;
		return 1;
	}
	/* The C library still has the keeper's number. */
	atomic_store(&lazy->shared->worker, (int)syscall(SYS_getpid));
	rc = fb_lazy_worker(lazy, work, keeper);
	if (rc)
		syscall(SYS_exit_group, rc > 0 ? 0 : 1);
	return 0;
}

/* Until the worker is gone; its status. */
static int attend(struct fb_lazy *lazy, const struct fb_lazy_work *work, pid_t pid)
{
	fb_autoclose int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct fb_lazy_progress progress;
	int status = 0;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };

		if (fd < 0)
			usleep(TICK_MSEC * 1000);
		else
			poll(&p, 1, TICK_MSEC);
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		fb_lazy_progress(lazy, &progress);
		if (work->tick)
			work->tick(work->context, &progress);
	}
}

/* Deaths without a file filled in between, up to DEATHS_MAX. */
static bool hopeless(const struct fb_lazy *lazy, size_t *left, unsigned int *deaths)
{
	struct fb_lazy_progress progress;

	fb_lazy_progress(lazy, &progress);
	*deaths = progress.files_left == *left ? *deaths + 1 : 0;
	*left = progress.files_left;
	return *deaths >= DEATHS_MAX;
}

int fb_lazy_run(struct fb_lazy *lazy, const struct fb_lazy_work *work,
		struct fb_err *err)
{
	size_t left = SIZE_MAX;
	unsigned int deaths = 0;

	atomic_store(&lazy->shared->keeper, (int)getpid());
	fb_lazy_gate_start(lazy, LAZY_GATE_THREADS - 1);
	for (;;) {
		struct fb_lazy_progress progress;
		pid_t pid = 0;
		int rc = spawn(lazy, work, &pid);

		if (rc < 0)
			return fb_err_sys(err, -rc, "starting a process");
		if (!rc)
			break;
		attend(lazy, work, pid);
		close_fd(atomic_exchange(&lazy->shared->signals, -1));
		fb_lazy_worker_recover(lazy, work, hopeless(lazy, &left, &deaths));
		fb_lazy_progress(lazy, &progress);
		if (!progress.files_left)
			break;
		atomic_fetch_add(&lazy->shared->deaths, 1);
	}
	/* Who is held back just now is still answered. */
	fanotify_mark(lazy->group, FAN_MARK_FLUSH | FAN_MARK_FILESYSTEM, 0, AT_FDCWD,
		      NULL);
	return 0;
}

/* ---- after all are dead -------------------------------------------------------------
 */

static int find_one(const char *path, const uint8_t image[16],
		    int (*found)(void *context, const char *path, uint32_t inode,
				 struct fb_err *err),
		    void *context, struct fb_err *err)
{
	struct fb_lazy_mark mark;

	if (lgetxattr(path, FB_LAZY_MARK, &mark, sizeof(mark)) != sizeof(mark) ||
	    memcmp(mark.image, image, sizeof(mark.image)))
		return 0;
	return found(context, path, mark.inode, err);
}

int fb_lazy_find(const char *top, const uint8_t image[16],
		 int (*found)(void *context, const char *path, uint32_t inode,
			      struct fb_err *err),
		 void *context, struct fb_err *err)
{
	char *const paths[] = { (char *)top, NULL };
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_XDEV, NULL);
	FTSENT *entry;
	int rc = 0;

	if (!fts)
		return fb_err_sys(err, errno, "'%s'", top);
	while (!rc && (entry = fts_read(fts))) {
		if (entry->fts_info == FTS_F)
			rc = find_one(entry->fts_accpath, image, found, context, err);
		else if (entry->fts_info == FTS_ERR || entry->fts_info == FTS_DNR)
			rc = fb_err_sys(err, entry->fts_errno, "'%s'", entry->fts_path);
	}
	fts_close(fts);
	return rc;
}
