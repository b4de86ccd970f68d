/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of pending files; what kernels do with it is tests/cli/lazy.sh. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/lazy_internal.h"

static struct fb_lazy *table(size_t count)
{
	struct fb_lazy *lazy;

	assert_int_equal(fb_lazy_new(count, &lazy, NULL), 0);
	for (size_t i = 0; i < count; i++) {
		lazy->shared->entries[i].fd = -1;
		atomic_store(&lazy->shared->entries[i].state, LAZY_PENDING);
	}
	return lazy;
}

static void lookup_finds_each(void **state)
{
	struct fb_lazy *lazy = table(300);

	(void)state;
	for (uint32_t i = 0; i < 300; i++) {
		lazy->shared->entries[i].dev = 5 + i % 2;
		lazy->shared->entries[i].ino = 70 + i / 2;
	}
	fb_lazy_index(lazy);
	for (uint32_t i = 0; i < 300; i++)
		assert_int_equal(fb_lazy_lookup(lazy, 5 + i % 2, 70 + i / 2), i);
	assert_int_equal(fb_lazy_lookup(lazy, 5, 69), LAZY_NO_ENTRY);
	assert_int_equal(fb_lazy_lookup(lazy, 5, 70 + 150), LAZY_NO_ENTRY);
	assert_int_equal(fb_lazy_lookup(lazy, 7, 70), LAZY_NO_ENTRY);
	fb_lazy_free(lazy);
}

static void an_empty_table(void **state)
{
	struct fb_lazy *lazy = table(0);

	(void)state;
	fb_lazy_index(lazy);
	assert_int_equal(fb_lazy_lookup(lazy, 5, 70), LAZY_NO_ENTRY);
	fb_lazy_free(lazy);
}

/* A place that nobody took would be a file that nobody guards. */
static void every_place_is_taken(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_lazy *lazy = table(3);

	(void)state;
	atomic_store(&lazy->shared->entries[1].state, LAZY_NONE);
	assert_int_equal(fb_lazy_guard(lazy, &err), -EINVAL);
	assert_string_equal(err.text, "there is no file 1");
	fb_lazy_free(lazy);
}

/* What a worker was at when it died; no descriptor is closed that is not its own. */
static void recover_begins_again(void **state)
{
	static const uint32_t before[] = { LAZY_PENDING, LAZY_FILLING, LAZY_CLOSING,
					   LAZY_SPOILING, LAZY_FILLED };
	static const uint32_t after[] = { LAZY_PENDING, LAZY_PENDING, LAZY_FILLED,
					  LAZY_DAMAGED, LAZY_FILLED };
	struct fb_lazy *lazy = table(5);
	int other = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		lazy->shared->entries[i].fd = other;
		lazy->shared->entries[i].bytes = 10;
		atomic_store(&lazy->shared->entries[i].state, before[i]);
	}
	fb_lazy_worker_recover(lazy, NULL, false);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(atomic_load(&lazy->shared->entries[i].state),
				 after[i]);
	}
	assert_int_not_equal(fcntl(other, F_GETFD), -1);
	atomic_store(&lazy->shared->entries[0].state, LAZY_FILLED);
	atomic_store(&lazy->shared->entries[1].state, LAZY_FILLED);
	fb_lazy_free(lazy);
	close(other);
}

static void progress_counts(void **state)
{
	struct fb_lazy_progress p;
	struct fb_lazy *lazy = table(3);
	uint32_t inode;
	bool damaged;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		lazy->shared->entries[i].bytes = 1000 + i;
		lazy->shared->entries[i].inode = 70 + (uint32_t)i;
	}
	atomic_store(&lazy->shared->entries[0].state, LAZY_FILLED);
	atomic_store(&lazy->shared->entries[1].state, LAZY_DAMAGED);
	fb_lazy_progress(lazy, &p);
	assert_int_equal(p.files, 3);
	assert_int_equal(p.files_left, 1);
	assert_int_equal(p.bytes, 3003);
	assert_int_equal(p.bytes_left, 1002);
	assert_int_equal(p.damaged, 1);
	assert_true(fb_lazy_nth(lazy, 1, &inode, &damaged));
	assert_int_equal(inode, 71);
	assert_true(damaged);
	assert_false(fb_lazy_nth(lazy, 3, &inode, &damaged));
	atomic_store(&lazy->shared->entries[2].state, LAZY_FILLED);
	fb_lazy_free(lazy);
}

/* A file that became shorter keeps its end; what lies behind is dropped. */
static void put_stays_inside(void **state)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	struct fb_lazy_target to = { .size = 5000 };
	char bytes[8192];

	(void)state;
	memset(bytes, 'x', sizeof(bytes));
	assert_int_equal(ftruncate(fd, 8192), 0);
	to.base = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(to.base, MAP_FAILED);
	assert_int_equal(fb_lazy_put(&to, bytes, 4096, 4096), 0);
	assert_int_equal(to.base[0], 0);
	assert_int_equal(to.base[4096], 'x');
	assert_int_equal(to.base[4999], 'x');
	assert_int_equal(to.base[5000], 0);
	assert_int_equal(fb_lazy_put(&to, bytes, 5000, 1), 0);
	assert_int_equal(to.base[5000], 0);
	munmap(to.base, 8192);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lookup_finds_each),
		cmocka_unit_test(an_empty_table),
		cmocka_unit_test(every_place_is_taken),
		cmocka_unit_test(recover_begins_again),
		cmocka_unit_test(progress_counts),
		cmocka_unit_test(put_stays_inside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
