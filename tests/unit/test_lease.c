/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Leases on a real tmpfs (/dev/shm), broken by real writers. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "machine/lease.h"

#define FILES 40u

static char dir[] = "/dev/shm/fastboot-lease.XXXXXX";
static bool have_dir;
static struct fb_leases *leases;

static const char *file(unsigned int n)
{
	static char paths[2][64];
	static unsigned int next;
	char *path = paths[next++ % 2];

	snprintf(path, sizeof(paths[0]), "%s/%u", dir, n);
	return path;
}

static int setup_group(void **state)
{
	struct statfs fs;

	(void)state;
	have_dir = !statfs("/dev/shm", &fs) && fs.f_type == TMPFS_MAGIC && mkdtemp(dir);
	return 0;
}

static int teardown_group(void **state)
{
	(void)state;
	return have_dir ? rmdir(dir) : 0;
}

static int setup(void **state)
{
	(void)state;
	for (unsigned int i = 0; have_dir && i < FILES; i++) {
		fb_autoclose int fd = open(file(i), O_WRONLY | O_CREAT, 0600);

		if (fd < 0 || pwrite(fd, "content", 7, 0) != 7)
			return -1;
	}
	return fb_leases_start(&leases, FILES, NULL);
}

static int teardown(void **state)
{
	(void)state;
	fb_leases_stop(leases);
	leases = NULL;
	for (unsigned int i = 0; have_dir && i < FILES; i++)
		unlink(file(i));
	return 0;
}

static void need_tmpfs(void)
{
	if (have_dir)
		return;
	print_message("no tmpfs at /dev/shm that can be written to\n");
	skip();
}

static fb_lease take(unsigned int n)
{
	fb_autoclose int fd = open(file(n), O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fb_lease_take(leases, fd);
}

static void assert_counts(size_t held, size_t broken)
{
	size_t h, b;

	fb_leases_count(leases, &h, &b);
	assert_int_equal(h, held);
	assert_int_equal(b, broken);
}

/* Waits for the lease, if there is one: far less than lease-break-time. */
static void open_writing(unsigned int n)
{
	time_t start = time(NULL);
	int fd = open(file(n), O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_true(time(NULL) - start < 5);
	close(fd);
}

static void test_readers_do_not_break(void **state)
{
	fb_lease lease;
	char text[8] = "";

	(void)state;
	need_tmpfs();
	lease = take(0);
	assert_true(lease != FB_LEASE_NONE);
	for (int i = 0; i < 3; i++) {
		fb_autoclose int fd = open(file(0), O_RDONLY);

		assert_int_equal(pread(fd, text, 7, 0), 7);
	}
	assert_true(fb_lease_held(leases, lease));
	assert_counts(1, 0);
}

static void test_writer_breaks(void **state)
{
	fb_lease lease, other;

	(void)state;
	need_tmpfs();
	lease = take(0);
	other = take(1);
	open_writing(0);
	assert_false(fb_lease_held(leases, lease));
	assert_true(fb_lease_held(leases, other));
	assert_counts(1, 1);
	/* It may be had again, and the old one is not the new one. */
	assert_true(fb_lease_held(leases, take(0)));
	assert_false(fb_lease_held(leases, lease));
}

static void test_truncate_breaks(void **state)
{
	fb_lease lease;

	(void)state;
	need_tmpfs();
	lease = take(0);
	assert_int_equal(truncate(file(0), 3), 0);
	assert_false(fb_lease_held(leases, lease));
}

static void test_names_and_modes_do_not_break(void **state)
{
	fb_lease lease;

	(void)state;
	need_tmpfs();
	lease = take(0);
	assert_int_equal(chmod(file(0), 0640), 0);
	assert_int_equal(rename(file(0), file(1)), 0);
	assert_int_equal(unlink(file(1)), 0);
	assert_true(fb_lease_held(leases, lease));
}

static void test_refused_while_written(void **state)
{
	uint8_t *map;
	int fd;

	(void)state;
	need_tmpfs();
	fd = open(file(0), O_RDWR | O_CLOEXEC);
	assert_true(take(0) == FB_LEASE_NONE);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	close(fd);
	assert_true(take(0) == FB_LEASE_NONE);
	assert_int_equal(munmap(map, 4096), 0);
	assert_true(fb_lease_held(leases, take(0)));
	assert_counts(1, 0);
}

static void test_other_file_systems(void **state)
{
	fb_autoclose int fd = open("/proc/self/status", O_RDONLY);

	(void)state;
	assert_true(fb_lease_take(leases, fd) == FB_LEASE_NONE);
	assert_false(fb_lease_held(leases, FB_LEASE_NONE));
	fb_lease_drop(leases, FB_LEASE_NONE);
}

static void test_dropped(void **state)
{
	fb_lease lease, next;

	(void)state;
	need_tmpfs();
	lease = take(0);
	fb_lease_drop(leases, lease);
	next = take(1); /* has its descriptor */
	assert_false(fb_lease_held(leases, lease));
	fb_lease_drop(leases, lease);
	assert_true(fb_lease_held(leases, next));
	open_writing(0);
	assert_counts(1, 0);
}

/* While the caller still has the file open: the lease is not only its descriptor. */
static void test_dropped_while_open(void **state)
{
	fb_autoclose int fd = -1;
	fb_lease lease;

	(void)state;
	need_tmpfs();
	fd = open(file(0), O_RDONLY);
	lease = fb_lease_take(leases, fd);
	fb_lease_drop(leases, lease);
	open_writing(0);
	lease = fb_lease_take(leases, fd);
	open_writing(0);
	assert_false(fb_lease_held(leases, lease));
}

/* Without room for real-time signals only SIGIO comes, which names no file. */
static void test_signal_queue_full(void **state)
{
	struct rlimit limit, none;
	fb_lease all[FILES];

	(void)state;
	need_tmpfs();
	for (unsigned int i = 0; i < FILES; i++)
		all[i] = take(i);
	getrlimit(RLIMIT_SIGPENDING, &limit);
	none = (struct rlimit){ 0, limit.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_SIGPENDING, &none), 0);
	for (unsigned int i = 0; i < FILES; i += 2)
		open_writing(i);
	setrlimit(RLIMIT_SIGPENDING, &limit);
	for (unsigned int i = 0; i < FILES; i++)
		assert_int_equal(fb_lease_held(leases, all[i]), i % 2);
	assert_counts(FILES / 2, FILES / 2);
}

static int all_at_once(void)
{
	int failed = 0;

	for (unsigned int i = 0; i < FILES; i++)
		if (!fork())
			_exit(open(file(i), O_WRONLY) < 0);
	for (unsigned int i = 0; i < FILES; i++) {
		int status;

		wait(&status);
		failed |= status;
	}
	return failed;
}

static void test_many_writers_at_once(void **state)
{
	time_t start = time(NULL);

	(void)state;
	need_tmpfs();
	for (unsigned int i = 0; i < FILES; i++)
		take(i);
	assert_int_equal(all_at_once(), 0);
	assert_true(time(NULL) - start < 10);
	assert_counts(0, FILES);
}

static void test_limit(void **state)
{
	struct rlimit limit, before, now;
	unsigned int taken = 0;

	(void)state;
	need_tmpfs();
	getrlimit(RLIMIT_NOFILE, &before);
	for (unsigned int i = 0; i < FILES; i++)
		taken += take(i) != FB_LEASE_NONE;
	assert_int_equal(taken, FILES);
	fb_leases_limit_restore(leases);
	getrlimit(RLIMIT_NOFILE, &now);
	assert_int_equal(now.rlim_cur, before.rlim_cur);
	assert_int_equal(now.rlim_max, before.rlim_max);
	fb_leases_stop(leases);

	/* Not enough, and not to be raised without privilege: fewer leases. */
	limit = (struct rlimit){ 256, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(fb_leases_start(&leases, FILES, NULL), 0);
	assert_true(take(0) != FB_LEASE_NONE);
	fb_leases_limit_restore(leases);
	assert_true(take(1) != FB_LEASE_NONE);
	setrlimit(RLIMIT_NOFILE, &before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_readers_do_not_break, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_writer_breaks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncate_breaks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_and_modes_do_not_break,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused_while_written, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_other_file_systems, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dropped_while_open, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_signal_queue_full, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_many_writers_at_once, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_limit, setup, teardown),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
