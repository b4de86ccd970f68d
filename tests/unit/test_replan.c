/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A second plan around what was copied for the first: single changes, the
 * power cut at every write of a delta, and random histories in a store that
 * is nearly full.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>

#include "image_help.h"

#define FILES 24u
#define B     4096u

/* ---- files, and the tree of them ----------------------------------------------- */

struct file {
	int fd; /* -1: there is none */
	bool dirty;
	uint32_t inode, last; /* in the tree, and in the one before */
};

struct world {
	struct file files[FILES];
	uint32_t seed;
	struct fb_tree tree;
	struct fb_image_plan plan;
	struct memory_store memory;
	uint64_t generation;
	uint32_t unreadable; /* a file; FILES: none */
};

static void assert_ok(int ret, const struct fb_err *err)
{
	if (ret)
		print_error("%d: %s\n", ret, err->text);
	assert_int_equal(ret, 0);
}

static void write_random(struct world *w, struct file *f, uint64_t at, uint64_t size)
{
	uint8_t *bytes = malloc(size);

	for (uint64_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(help_random(&w->seed) >> 8);
	assert_int_equal(pwrite(f->fd, bytes, size, (off_t)at), size);
	free(bytes);
	f->dirty = true;
}

static struct file *file_make(struct world *w, unsigned int n, uint64_t size)
{
	struct file *f = &w->files[n];

	f->fd = memfd_create("file", MFD_CLOEXEC);
	f->last = f->inode = FB_INODE_NONE;
	if (size)
		write_random(w, f, 0, size);
	return f;
}

static void file_drop(struct file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

static uint64_t file_size(const struct file *f)
{
	struct stat st;

	assert_int_equal(fstat(f->fd, &st), 0);
	return (uint64_t)st.st_size;
}

static void add_extents(struct fb_tree *t, const struct file *f)
{
	uint64_t size = file_size(f);
	off_t at = 0;

	while ((at = lseek(f->fd, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(f->fd, at, SEEK_HOLE);

		help_extent(t, f->inode, (uint64_t)at, (uint64_t)(end - at));
		at = end;
		if ((uint64_t)at >= size)
			break;
	}
}

static void tree_make(struct world *w, struct fb_tree *t)
{
	uint32_t dir = help_add(t, help_root(t), "d", S_IFDIR | 0755);

	for (unsigned int i = 0; i < FILES; i++) {
		struct file *f = &w->files[i];
		char name[16];
		struct stat st;

		if (f->fd < 0)
			continue;
		snprintf(name, sizeof(name), "f%02u", i);
		f->inode = help_add(t, dir, name, S_IFREG | 0600);
		assert_int_equal(fstat(f->fd, &st), 0);
		t->inodes[f->inode].size = (uint64_t)st.st_size;
		t->inodes[f->inode].mtime_sec = st.st_mtim.tv_sec;
		t->inodes[f->inode].mtime_nsec = (uint32_t)st.st_mtim.tv_nsec;
		add_extents(t, f);
	}
	help_state(t, "d", "/d", dir);
	help_finish(t);
}

static struct file *file_of(struct world *w, uint32_t inode)
{
	for (unsigned int i = 0; i < FILES; i++)
		if (w->files[i].fd >= 0 && w->files[i].inode == inode)
			return &w->files[i];
	fail();
	return NULL;
}

static uint32_t find(void *context, uint32_t inode, bool *clean)
{
	struct file *f = file_of(context, inode);

	*clean = !f->dirty;
	return f->last;
}

static int open_file(void *context, uint32_t inode, struct fb_err *err)
{
	struct world *w = context;
	struct file *f = file_of(w, inode);

	if (w->unreadable < FILES && f == &w->files[w->unreadable])
		return fb_err_set(err, ENOENT, "it is gone");
	return fcntl(f->fd, F_DUPFD_CLOEXEC, 0);
}

/* ---- the steps -------------------------------------------------------------------- */

static void world_make(struct world *w, uint64_t store_size)
{
	memset(w, 0, sizeof(*w));
	w->seed = 4711;
	w->unreadable = FILES;
	for (unsigned int i = 0; i < FILES; i++)
		w->files[i].fd = -1;
	memory_store_make(&w->memory, store_size, 0x77);
}

static void world_free(struct world *w)
{
	for (unsigned int i = 0; i < FILES; i++)
		file_drop(&w->files[i]);
	fb_image_plan_free(&w->plan);
	fb_tree_free(&w->tree);
	fb_store_close(&w->memory.store);
}

static int copy(struct world *w, bool live, struct fb_err *err)
{
	const struct fb_image_source source = { open_file, w, live };
	int ret = fb_image_copy(&w->memory.store, &w->tree, &w->plan, &source, 1, NULL,
				err);

	for (unsigned int i = 0; i < FILES; i++) {
		w->files[i].last = w->files[i].inode;
		w->files[i].dirty = false;
	}
	return ret;
}

static void first_copy(struct world *w)
{
	struct fb_err err = FB_ERR_INIT;

	tree_make(w, &w->tree);
	assert_ok(fb_image_plan_make(&w->tree, w->memory.store.size, &w->plan, &err),
		  &err);
	assert_ok(fb_image_begin(&w->memory.store, &w->generation, &err), &err);
	assert_ok(copy(w, true, &err), &err);
}

static int replan(struct world *w, struct fb_err *err)
{
	const struct fb_image_match match = { find, w };
	struct fb_tree tree = FB_TREE_INIT;
	struct fb_image_plan plan;
	int ret;

	tree_make(w, &tree);
	ret = fb_image_replan(&w->tree, &w->plan, &tree, &match, w->memory.store.size,
			      &plan, err);
	if (ret) {
		fb_tree_free(&tree);
		return ret;
	}
	fb_image_plan_free(&w->plan);
	fb_tree_free(&w->tree);
	w->tree = tree;
	w->plan = plan;
	return 0;
}

static int commit(struct world *w, struct fb_err *err)
{
	const struct fb_origin origin = { .generation = 1, .wall_usec = 1 };

	return fb_image_commit(&w->memory.store, &w->tree, &w->plan, &origin, err);
}

/* Every file, with every hole, is in the image as it is. */
static void check_image(struct world *w)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_image image;

	assert_ok(fb_image_open(&w->memory.store, &image, &err), &err);
	assert_ok(fb_image_verify(&image, NULL, NULL, 1, NULL, &err), &err);
	assert_int_equal(image.tree.inode_count, w->tree.inode_count);
	for (unsigned int i = 0; i < FILES; i++) {
		fb_autoclose int fd = memfd_create("read", MFD_CLOEXEC);
		char path[16];
		uint32_t inode;
		uint64_t size;

		if (w->files[i].fd < 0)
			continue;
		size = file_size(&w->files[i]);
		snprintf(path, sizeof(path), "/d/f%02u", i);
		inode = fb_tree_lookup(&image.tree, path);
		assert_int_not_equal(inode, FB_INODE_NONE);
		assert_int_equal(image.tree.inodes[inode].size, size);
		assert_int_equal(ftruncate(fd, (off_t)size), 0);
		assert_ok(fb_image_read_file(&image, inode, fd, &err), &err);
		assert_true(!size || contents_equal(fd, w->files[i].fd, 0, size));
	}
	fb_image_close(&image);
}

static void finish(struct world *w)
{
	struct fb_err err = FB_ERR_INIT;

	assert_ok(replan(w, &err), &err);
	assert_ok(copy(w, false, &err), &err);
	assert_ok(commit(w, &err), &err);
	check_image(w);
}

/* ---- single changes ------------------------------------------------------------------ */

/* Three files: 10 blocks and a bit, 3 MiB, 5 blocks. */
static void three_files(struct world *w)
{
	world_make(w, 16 * FB_MIB);
	file_make(w, 0, 10 * B + 100);
	file_make(w, 1, 3 * FB_MIB);
	file_make(w, 2, 5 * B);
	first_copy(w);
}

static void test_nothing_changed(void **state)
{
	struct world w;

	(void)state;
	three_files(&w);
	finish(&w);
	assert_int_equal(w.plan.dirty_bytes, 0);
	assert_int_equal(w.plan.written_bytes, 0);
	assert_false(w.plan.moved);
	world_free(&w);
}

static void test_one_page_changed(void **state)
{
	struct world w;

	(void)state;
	three_files(&w);
	write_random(&w, &w.files[1], FB_MIB + 5, 10);
	finish(&w);
	assert_int_equal(w.plan.dirty_bytes, 3 * FB_MIB);
	assert_int_equal(w.plan.written_bytes, B);
	world_free(&w);
}

/* No lease, but nothing was written: compared, and that is all. */
static void test_not_proven(void **state)
{
	struct world w;

	(void)state;
	three_files(&w);
	w.files[0].dirty = w.files[1].dirty = true;
	finish(&w);
	assert_int_equal(w.plan.dirty_bytes, 3 * FB_MIB + 11 * B);
	assert_int_equal(w.plan.written_bytes, 0);
	world_free(&w);
}

static void test_renamed(void **state)
{
	struct world w;

	(void)state;
	three_files(&w);
	w.files[9] = w.files[1];
	w.files[1].fd = -1;
	finish(&w);
	assert_int_equal(w.plan.dirty_bytes, 0);
	world_free(&w);
}

static void test_deleted_and_new(void **state)
{
	struct world w;
	uint64_t size;

	(void)state;
	three_files(&w);
	size = w.plan.size;
	file_drop(&w.files[1]);
	file_make(&w, 3, 3 * FB_MIB);
	finish(&w);
	assert_int_equal(w.plan.size, size);
	assert_int_equal(w.plan.written_bytes, 3 * FB_MIB);
	world_free(&w);
}

static void test_truncated(void **state)
{
	struct world w;

	(void)state;
	three_files(&w);
	assert_int_equal(ftruncate(w.files[1].fd, FB_MIB + 7), 0);
	w.files[1].dirty = true;
	assert_int_equal(ftruncate(w.files[2].fd, 0), 0);
	finish(&w);
	/* The rest of the last block is zero now. */
	assert_int_equal(w.plan.written_bytes, B);
	world_free(&w);
}

/* Between two others there is no room behind it: it goes on elsewhere. */
static void test_grown(void **state)
{
	struct world w;
	const struct fb_inode *in;

	(void)state;
	three_files(&w);
	write_random(&w, &w.files[0], 10 * B + 100, 20 * B);
	write_random(&w, &w.files[1], 3 * FB_MIB, 3 * FB_MIB);
	finish(&w);
	assert_int_equal(w.plan.written_bytes, 3 * FB_MIB + 21 * B);
	in = &w.tree.inodes[w.files[1].inode];
	assert_int_equal(in->extent_count, 1);
	/* And once more, from pieces. */
	write_random(&w, &w.files[0], 30 * B, 20 * B);
	w.files[0].dirty = true;
	finish(&w);
	assert_int_equal(w.plan.written_bytes, 20 * B);
	finish(&w);
	assert_int_equal(w.plan.dirty_bytes, 0);
	world_free(&w);
}

static void test_holes(void **state)
{
	struct world w;

	(void)state;
	three_files(&w);
	assert_int_equal(fallocate(w.files[1].fd,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FB_MIB,
				   100 * B),
			 0);
	w.files[1].dirty = true;
	finish(&w);
	assert_int_equal(w.plan.written_bytes, 0);
	/* One block in the hole again. */
	write_random(&w, &w.files[1], FB_MIB + 50 * B, B);
	finish(&w);
	assert_int_equal(w.plan.written_bytes, B);
	world_free(&w);
}

/* A lease says nothing about a file that has other extents. */
static void test_clean_but_other_extents(void **state)
{
	struct world w;

	(void)state;
	three_files(&w);
	write_random(&w, &w.files[2], 5 * B, B);
	w.files[2].dirty = false;
	finish(&w);
	world_free(&w);
}

static void test_unreadable(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	struct world w;

	(void)state;
	world_make(&w, 16 * FB_MIB);
	file_make(&w, 0, 10 * B);
	file_make(&w, 1, B);
	w.unreadable = 0;
	first_copy(&w);
	assert_int_equal(commit(&w, &err), -EINVAL);
	/* Proven clean, and yet it was not copied. */
	w.unreadable = FILES;
	finish(&w);
	assert_int_equal(w.plan.dirty_bytes, 10 * B);
	w.unreadable = 0;
	w.files[0].dirty = true;
	assert_ok(replan(&w, &err), &err);
	assert_int_equal(copy(&w, false, &err), -ENOENT);
	world_free(&w);
}

static void test_poison(void **state)
{
	struct world w;

	(void)state;
	three_files(&w);
	w.files[0].dirty = true;
	w.memory.bad_block = w.tree.inodes[w.files[0].inode].extents[0].block + 3;
	{
		struct fb_err err = FB_ERR_INIT;

		assert_ok(replan(&w, &err), &err);
		assert_ok(copy(&w, false, &err), &err);
		assert_int_equal(w.plan.written_bytes, 11 * B);
		w.memory.bad_block = 0;
		assert_ok(commit(&w, &err), &err);
	}
	check_image(&w);
	world_free(&w);
}

/* ---- when there is hardly any room ------------------------------------------------------ */

/* All small files, every second one is gone: room only in pieces of 4 blocks. */
static void half_gone(struct world *w, uint64_t store_blocks)
{
	world_make(w, store_blocks * B);
	for (unsigned int i = 0; i < 20; i++)
		file_make(w, i, 4 * B);
	first_copy(w);
	for (unsigned int i = 0; i < 20; i += 2)
		file_drop(&w->files[i]);
}

static void test_in_pieces(void **state)
{
	struct world w;

	(void)state;
	half_gone(&w, 2 + 80 + 3);
	file_make(&w, 23, 39 * B);
	finish(&w);
	assert_false(w.plan.moved);
	assert_int_equal(w.tree.inodes[w.files[23].inode].extent_count, 10);
	assert_int_equal(w.plan.written_bytes, 39 * B);
	finish(&w);
	assert_int_equal(w.plan.dirty_bytes, 0);
	world_free(&w);
}

/* The last file grew the metadata, which has no room behind the data. */
static void test_moved(void **state)
{
	struct world w;

	(void)state;
	half_gone(&w, 2 + 80 + 3);
	file_make(&w, 23, 0);
	assert_int_equal(ftruncate(w.files[23].fd, 5000 * B), 0);
	for (unsigned int i = 0; i < 30; i++)
		write_random(&w, &w.files[23], (uint64_t)i * 150 * B + B, B);
	finish(&w);
	assert_true(w.plan.moved);
	assert_int_equal(w.plan.written_bytes, (40 + 30) * B);
	/* From then on it goes on as before. */
	finish(&w);
	assert_int_equal(w.plan.dirty_bytes, 0);
	world_free(&w);
}

static void test_too_large(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	struct world w;

	(void)state;
	half_gone(&w, 2 + 80 + 3);
	file_make(&w, 23, 50 * B);
	assert_int_equal(replan(&w, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "does not fit"));
	/* And without it, it still can be saved. */
	file_drop(&w.files[23]);
	finish(&w);
	world_free(&w);
}

/* ---- power cuts --------------------------------------------------------------------------- */

static int delta(struct world *w, struct fb_err *err)
{
	int ret = replan(w, err);

	if (!ret)
		ret = copy(w, false, err);
	return ret ? ret : commit(w, err);
}

static void changed_files(struct world *w)
{
	three_files(w);
	write_random(w, &w->files[1], FB_MIB, 3 * B);
	write_random(w, &w->files[0], 2 * B, B);
	file_drop(&w->files[2]);
	file_make(w, 3, 7 * B);
}

/* Whatever arrived of it: there is the whole new image or none. */
static void test_power_cut(void **state)
{
	bool complete = false;

	(void)state;
	for (unsigned int cut = 1; !complete; cut++) {
		struct fb_err err = FB_ERR_INIT;
		struct fb_image image;
		struct world w;

		changed_files(&w);
		w.memory.operations = 0;
		w.memory.cut_at = cut;
		w.memory.seed = cut * 7919;
		complete = !delta(&w, &err);
		memory_store_reboot(&w.memory);
		if (!fb_image_open(&w.memory.store, &image, &err)) {
			fb_image_close(&image);
			check_image(&w);
		} else {
			assert_false(complete);
			assert_int_equal(err.status, FB_EXIT_NO_IMAGE);
		}
		world_free(&w);
		assert_true(cut < 1000);
	}
}

/* ---- random histories ------------------------------------------------------------------------ */

static uint32_t roll(struct world *w, uint32_t sides)
{
	return help_random(&w->seed) / 3 % sides;
}

static void change_file(struct world *w, unsigned int n)
{
	struct file *f = &w->files[n];
	uint64_t size = f->fd < 0 ? 0 : file_size(f);

	if (f->fd < 0) {
		file_make(w, n, roll(w, 3) ? roll(w, 60000) : roll(w, 2600000));
		return;
	}
	f->dirty = true;
	switch (roll(w, 6)) {
	case 0:
		file_drop(f);
		break;
	case 1:
		assert_int_equal(ftruncate(f->fd, roll(w, (uint32_t)size + 1)), 0);
		break;
	case 2:
		write_random(w, f, size, 1 + roll(w, 300000));
		break;
	case 3:
		fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  roll(w, (uint32_t)size + 1), 1 + roll(w, 100000));
		break;
	default:
		write_random(w, f, roll(w, (uint32_t)size + 1), 1 + roll(w, 9000));
	}
}

/* Until it fits. */
static void make_room(struct world *w)
{
	for (unsigned int i = 0; i < FILES; i++)
		if (w->files[i].fd >= 0 && file_size(&w->files[i]) > 100000) {
			file_drop(&w->files[i]);
			return;
		}
	fail();
}

static void test_random_histories(void **state)
{
	unsigned int moved = 0, tight = 0, pieces = 0;

	(void)state;
	for (uint32_t seed = 1; seed <= 25; seed++) {
		struct world w;

		world_make(&w, 6 * FB_MIB);
		w.seed = seed * 2654435761u;
		for (unsigned int i = 0; i < 8; i++)
			file_make(&w, i, roll(&w, 500000));
		first_copy(&w);
		for (unsigned int step = 0; step < 25; step++) {
			struct fb_err err = FB_ERR_INIT;

			for (unsigned int n = 1 + roll(&w, 4); n; n--)
				change_file(&w, roll(&w, FILES));
			while (replan(&w, &err) == -ENOSPC) {
				make_room(&w);
				tight++;
			}
			moved += w.plan.moved;
			pieces += !w.plan.aligned;
			assert_ok(copy(&w, roll(&w, 2), &err), &err);
			if (roll(&w, 3))
				continue;
			assert_ok(commit(&w, &err), &err);
			check_image(&w);
		}
		world_free(&w);
	}
	print_message("%u times full, %u times in pieces, %u times all moved\n", tight,
		      pieces, moved);
	assert_true(tight && moved && pieces > moved);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_changed),
		cmocka_unit_test(test_one_page_changed),
		cmocka_unit_test(test_not_proven),
		cmocka_unit_test(test_renamed),
		cmocka_unit_test(test_deleted_and_new),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_grown),
		cmocka_unit_test(test_holes),
		cmocka_unit_test(test_clean_but_other_extents),
		cmocka_unit_test(test_unreadable),
		cmocka_unit_test(test_poison),
		cmocka_unit_test(test_in_pieces),
		cmocka_unit_test(test_moved),
		cmocka_unit_test(test_too_large),
		cmocka_unit_test(test_power_cut),
		cmocka_unit_test(test_random_histories),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
