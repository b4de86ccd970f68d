/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Work on several threads: each piece once, the first error stops. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/pool.h"

#define PIECES 1000

struct work {
	atomic_int done[PIECES];
	atomic_int began;
	size_t bad; /* the piece that fails */
	uint64_t last;
	uint64_t stop_at; /* what progress refuses */
};

static atomic_int ended;

static int run(void *context, size_t piece, void *own, struct fb_err *err)
{
	struct work *w = context;
	int *mine = own;

	/* Zeros in the beginning, and nobody else's. */
	if (!(*mine)++)
		atomic_fetch_add(&w->began, 1);
	atomic_fetch_add(&w->done[piece], 1);
	return piece == w->bad ? fb_err_set(err, EILSEQ, "piece %zu", piece) : 0;
}

static void end(void *own)
{
	atomic_fetch_add(&ended, *(int *)own);
}

static uint64_t size(void *context, size_t piece)
{
	(void)context;
	return piece + 1;
}

static int report(void *context, uint64_t done, uint64_t total)
{
	struct work *w = context;

	assert_true(done > w->last);
	assert_int_equal(total, PIECES * (PIECES + 1) / 2);
	w->last = done;
	return w->stop_at && done >= w->stop_at ? -EINTR : 0;
}

static struct fb_pool pool_of(struct work *w)
{
	atomic_store(&ended, 0);
	return (struct fb_pool){
		.pieces = PIECES,
		.run = run,
		.context = w,
		.own_bytes = sizeof(int),
		.end = end,
		.threads = 4,
	};
}

static void each_piece_once(void **state)
{
	struct work w = { .bad = SIZE_MAX };
	struct fb_progress progress = { report, &w };
	struct fb_pool pool = pool_of(&w);

	(void)state;
	pool.progress = &progress;
	pool.size = size;
	pool.total = PIECES * (PIECES + 1) / 2;
	assert_int_equal(fb_pool_run(&pool, NULL), 0);
	for (size_t i = 0; i < PIECES; i++)
		assert_int_equal(atomic_load(&w.done[i]), 1);
	assert_int_equal(w.last, pool.total);
	assert_int_equal(atomic_load(&ended), PIECES);
	assert_true(atomic_load(&w.began) <= 4);
}

static void nothing_to_do(void **state)
{
	struct work w = { .bad = SIZE_MAX };
	struct fb_pool pool = pool_of(&w);

	(void)state;
	pool.pieces = 0;
	assert_int_equal(fb_pool_run(&pool, NULL), 0);
	assert_int_equal(atomic_load(&w.began), 0);
}

static void an_error_stops(void **state)
{
	struct work w = { .bad = 10 };
	struct fb_pool pool = pool_of(&w);
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	pool.threads = 1;
	assert_int_equal(fb_pool_run(&pool, &err), -EILSEQ);
	assert_string_equal(err.text, "piece 10");
	assert_int_equal(atomic_load(&w.done[10]), 1);
	assert_int_equal(atomic_load(&w.done[11]), 0);
	assert_int_equal(atomic_load(&ended), 11);
}

static void progress_stops(void **state)
{
	struct work w = { .bad = SIZE_MAX, .stop_at = 100 };
	struct fb_progress progress = { report, &w };
	struct fb_pool pool = pool_of(&w);
	struct fb_err err = FB_ERR_INIT;

	(void)state;
	pool.threads = 1;
	pool.progress = &progress;
	pool.size = size;
	pool.total = PIECES * (PIECES + 1) / 2;
	assert_int_equal(fb_pool_run(&pool, &err), -EINTR);
	assert_string_equal(err.text, "interrupted");
	assert_int_equal(atomic_load(&w.done[20]), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_piece_once),
		cmocka_unit_test(nothing_to_do),
		cmocka_unit_test(an_error_stops),
		cmocka_unit_test(progress_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
