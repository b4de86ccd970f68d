/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images in a store in memory: round trips, damage, and power cuts. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "engine/image_work.h"
#include "image_help.h"

#define STORE_SIZE (64 * FB_MIB)

/* ---- helpers ------------------------------------------------------------------ */

static void assert_ok(int ret, const struct fb_err *err)
{
	if (ret)
		print_error("%d: %s\n", ret, err->text);
	assert_int_equal(ret, 0);
}

static void compare_extents(const struct fb_inode *a, const struct fb_inode *b)
{
	assert_int_equal(a->extent_count, b->extent_count);
	for (size_t i = 0; i < a->extent_count; i++) {
		assert_int_equal(a->extents[i].offset, b->extents[i].offset);
		assert_int_equal(a->extents[i].length, b->extents[i].length);
		assert_int_equal(a->extents[i].block, b->extents[i].block);
	}
}

static void compare_inodes(const struct fb_inode *a, const struct fb_inode *b)
{
	assert_int_equal(a->mode, b->mode);
	assert_int_equal(a->uid, b->uid);
	assert_int_equal(a->gid, b->gid);
	assert_int_equal(a->nlink, b->nlink);
	assert_int_equal(a->rdev, b->rdev);
	assert_int_equal(a->size, b->size);
	assert_true(a->mtime_sec == b->mtime_sec);
	assert_int_equal(a->mtime_nsec, b->mtime_nsec);
	assert_int_equal(a->xattr_count, b->xattr_count);
	for (size_t i = 0; i < a->xattr_count; i++) {
		assert_string_equal(a->xattrs[i].name, b->xattrs[i].name);
		assert_int_equal(a->xattrs[i].size, b->xattrs[i].size);
		if (a->xattrs[i].size)
			assert_memory_equal(a->xattrs[i].value, b->xattrs[i].value,
					    a->xattrs[i].size);
	}
	if (a->target)
		assert_string_equal(a->target, b->target);
	else
		assert_null(b->target);
	compare_extents(a, b);
}

/* The same names lead to the same inodes; *map is a's numbers to b's. */
static uint32_t *compare_trees(const struct fb_tree *a, const struct fb_tree *b)
{
	uint32_t *map = malloc(a->inode_count * sizeof(*map));

	memset(map, 0xff, a->inode_count * sizeof(*map));
	assert_int_equal(a->inode_count, b->inode_count);
	for (uint32_t i = 0; i < a->inode_count; i++) {
		char *path = fb_tree_path(a, i);
		uint32_t other = fb_tree_lookup(b, path);

		assert_int_not_equal(other, FB_INODE_NONE);
		compare_inodes(&a->inodes[i], &b->inodes[other]);
		map[i] = other;
		free(path);
	}
	for (uint32_t i = 0; i < a->inode_count; i++) {
		const struct fb_inode *x = &a->inodes[i], *y = &b->inodes[map[i]];

		assert_int_equal(x->entry_count, y->entry_count);
		for (size_t k = 0; k < x->entry_count; k++) {
			assert_string_equal(x->entries[k].name, y->entries[k].name);
			assert_int_equal(map[x->entries[k].inode], y->entries[k].inode);
		}
	}
	return map;
}

static void compare_contents(const struct contents *a, const struct contents *b,
			     const uint32_t *map)
{
	for (uint32_t i = 0; i < a->count; i++) {
		const struct fb_inode *in = &a->tree->inodes[i];
		struct stat st;

		if (a->fds[i] < 0)
			continue;
		assert_int_equal(fstat(b->fds[map[i]], &st), 0);
		assert_int_equal(st.st_size, in->size);
		for (size_t k = 0; k < in->extent_count; k++)
			assert_true(contents_equal(a->fds[i], b->fds[map[i]],
						   in->extents[k].offset,
						   in->extents[k].length));
	}
}

/* A tree with its contents in a store. */
struct fixture {
	struct fb_tree tree;
	struct contents contents;
	struct fb_image_plan plan;
	struct fb_origin origin;
};

static void fixture_make(struct fixture *f, void (*build)(struct fb_tree *),
			 uint32_t salt, uint64_t capacity)
{
	struct fb_err err = FB_ERR_INIT;

	memset(f, 0, sizeof(*f));
	build(&f->tree);
	contents_make(&f->contents, &f->tree, salt);
	assert_ok(fb_image_plan_make(&f->tree, capacity, &f->plan, &err), &err);
	strcpy(f->origin.release, "6.12.1-test");
	strcpy(f->origin.hostname, "host");
	strcpy(f->origin.machine, "x86_64");
	f->origin.wall_usec = 1700000000123456;
	f->origin.counter_hz = 2400000000;
	f->origin.stamps[0] = (struct fb_stamp){ 7, 0x123456789abcdef };
	f->origin.stamp_count = 1;
}

static void fixture_free(struct fixture *f)
{
	contents_free(&f->contents);
	fb_image_plan_free(&f->plan);
	fb_tree_free(&f->tree);
}

static int fixture_write(struct fixture *f, const struct fb_store *store,
			 unsigned int threads, struct fb_err *err)
{
	struct fb_image_source source = { contents_open, &f->contents, false };

	return fb_image_write(store, &f->tree, &f->plan, &source, &f->origin, threads,
			      NULL, err);
}

static int no_damage(void *context, uint32_t inode, const char *why, struct fb_err *err)
{
	(void)context, (void)err;
	print_error("inode %u: %s\n", inode, why);
	return -EBADMSG;
}

static int restore(const struct fb_image *image, struct contents *to,
		   unsigned int threads, struct fb_err *err)
{
	struct fb_image_sink sink = { NULL, contents_open, no_damage, to, NULL };

	contents_empty(to, &image->tree);
	return fb_image_read_data(image, &sink, threads, NULL, NULL, err);
}

static void check_image(const struct fb_store *store, const struct fixture *f,
			unsigned int threads)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_image image;
	struct contents got;
	uint32_t *map;

	assert_ok(fb_image_open(store, &image, &err), &err);
	map = compare_trees(&f->tree, &image.tree);
	assert_ok(restore(&image, &got, threads, &err), &err);
	compare_contents(&f->contents, &got, map);
	contents_free(&got);
	free(map);
	fb_image_close(&image);
}

static void only_root(struct fb_tree *t)
{
	help_root(t);
}

static void some_files(struct fb_tree *t)
{
	uint32_t root = help_root(t), dir = help_add(t, root, "d", S_IFDIR | 0755);
	uint32_t i;

	help_file(t, dir, "one", 5000);
	help_file(t, dir, "two", 1);
	help_file(t, dir, "three", 700000);
	help_file(t, dir, "four", 8192);
	i = help_add(t, dir, "holes", S_IFREG | 0600);
	t->inodes[i].size = 40000;
	help_extent(t, i, 8192, 4096);
	help_extent(t, i, 36864, 40000 - 36864);
	help_state(t, "d", "/d", dir);
	help_finish(t);
}

/* ---- round trips ----------------------------------------------------------------- */

static void test_round_trip(void **state)
{
	static void (*const builds[])(struct fb_tree *) = { only_root, some_files,
							    help_sample };
	static const unsigned int threads[] = { 0, 1, 7 };

	(void)state;
	for (size_t b = 0; b < FB_ARRAY_SIZE(builds); b++) {
		struct fb_err err = FB_ERR_INIT;
		struct memory_store m;
		struct fixture f;

		memory_store_make(&m, STORE_SIZE, 0xa5);
		fixture_make(&f, builds[b], 1, m.store.size);
		assert_ok(fixture_write(&f, &m.store, threads[b], &err), &err);
		check_image(&m.store, &f, threads[b]);
		fixture_free(&f);
		fb_store_close(&m.store);
	}
}

static void test_header_facts(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_image image;
	struct memory_store m;
	struct fixture f;

	(void)state;
	memory_store_make(&m, STORE_SIZE, 0);
	fixture_make(&f, help_sample, 1, m.store.size);
	for (uint64_t generation = 1; generation < 4; generation++) {
		assert_ok(fixture_write(&f, &m.store, 0, &err), &err);
		assert_ok(fb_image_open(&m.store, &image, &err), &err);
		assert_int_equal(image.header.origin.generation, generation);
		assert_int_equal(image.header.image_length, f.plan.size);
		assert_string_equal(image.header.origin.release, "6.12.1-test");
		assert_int_equal(image.header.origin.stamps[0].counter,
				 0x123456789abcdef);
		assert_int_equal(image.tree.state_count, 2);
		assert_string_equal(image.tree.states[0].path, "/srv/redis");
		assert_string_equal(image.tree.states[1].name, "/var");
		assert_false(image.header.consumed);
		fb_image_close(&image);
	}
	fixture_free(&f);
	fb_store_close(&m.store);
}

/* What libnvdimm could take for a namespace is gone after a save. */
static void test_info_block_cleared(void **state)
{
	static const uint8_t zero[4096];
	struct fb_err err = FB_ERR_INIT;
	enum fb_image_kind kind;
	struct memory_store m;
	struct fixture f;

	(void)state;
	memory_store_make(&m, STORE_SIZE, 0);
	memcpy(m.bytes + 4096, "NVDIMM_DAX_INFO", 16);
	assert_ok(fb_image_identify(&m.store, &kind, &err), &err);
	assert_int_equal(kind, FB_IMAGE_INFO_BLOCK);
	fixture_make(&f, some_files, 1, m.store.size);
	assert_ok(fixture_write(&f, &m.store, 0, &err), &err);
	assert_memory_equal(m.bytes + 4096, zero, 4096);
	fixture_free(&f);
	fb_store_close(&m.store);
}

/* ---- plan -------------------------------------------------------------------------
 */

static void test_plan_sizes(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_image_plan plan;
	struct memory_store m;
	struct fixture f;
	uint64_t packed;

	(void)state;
	fixture_make(&f, help_sample, 1, UINT64_MAX);
	assert_true(f.plan.aligned);
	assert_int_equal(fb_image_plan_make(&f.tree, 4096, &plan, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "(4096 bytes)"));
	assert_null(plan.runs);
	/* The smallest that works is full to the last block. */
	for (packed = f.plan.size;; packed -= 4096) {
		if (fb_image_plan_make(&f.tree, packed - 4096, &plan, &err))
			break;
		fb_image_plan_free(&plan);
	}
	fixture_free(&f);
	fixture_make(&f, help_sample, 1, packed);
	assert_int_equal(f.plan.size, packed);
	memory_store_make(&m, packed, 0x11);
	assert_ok(fixture_write(&f, &m.store, 0, &err), &err);
	check_image(&m.store, &f, 0);
	fixture_free(&f);
	fb_store_close(&m.store);
}

static void large_files(struct fb_tree *t)
{
	uint32_t root = help_root(t);

	help_file(t, root, "a", 2 * FB_MIB + 1);
	help_file(t, root, "b", 2 * FB_MIB + 1);
	help_finish(t);
}

/* Aligned where there is room, else packed. */
static void test_plan_packed(void **state)
{
	uint64_t packed = (2 + 2 * 513 + 3) * 4096;
	struct fb_err err = FB_ERR_INIT;
	struct memory_store m;
	struct fixture f;

	(void)state;
	fixture_make(&f, large_files, 1, UINT64_MAX);
	assert_true(f.plan.aligned);
	assert_int_equal(f.plan.size, (512 + 1024 + 513 + 3) * 4096);
	fixture_free(&f);
	fixture_make(&f, large_files, 1, packed);
	assert_false(f.plan.aligned);
	assert_int_equal(f.plan.size, packed);
	memory_store_make(&m, packed, 0x11);
	assert_ok(fixture_write(&f, &m.store, 0, &err), &err);
	check_image(&m.store, &f, 0);
	fb_image_plan_free(&f.plan);
	assert_int_equal(fb_image_plan_make(&f.tree, packed - 1, &f.plan, &err),
			 -ENOSPC);
	fixture_free(&f);
	fb_store_close(&m.store);
}

static void test_plan_alignment(void **state)
{
	struct fixture f;
	uint64_t blocks = 0, used = 0;

	(void)state;
	fixture_make(&f, help_sample, 1, UINT64_MAX);
	for (size_t i = 0; i < f.tree.inode_count; i++) {
		const struct fb_inode *in = &f.tree.inodes[i];

		for (size_t k = 0; k < in->extent_count; k++)
			if (in->extents[k].length >= 2 * FB_MIB)
				assert_int_equal((in->extents[k].block * 4096 -
						  in->extents[k].offset) %
							 (2 * FB_MIB),
						 0);
	}
	for (size_t i = 0; i < f.plan.run_count; i++) {
		used += f.plan.runs[i].blocks;
		if (i)
			assert_true(f.plan.runs[i].block >=
				    f.plan.runs[i - 1].block +
					    f.plan.runs[i - 1].blocks);
	}
	blocks = f.plan.meta_block;
	/* 8 MiB of small files fill the gaps before and behind large ones. */
	assert_true(blocks - used < 512);
	fixture_free(&f);
}

#define HUGE_SIZE ((5u << 20) + 3)

/* ---- damage ------------------------------------------------------------------------
 */

struct damage {
	uint32_t inode;
	unsigned int count;
	char why[128];
};

static int note_damage(void *context, uint32_t inode, const char *why,
		       struct fb_err *err)
{
	struct damage *d = context;

	(void)err;
	d->inode = inode;
	d->count++;
	snprintf(d->why, sizeof(d->why), "%s", why);
	return 0;
}

struct damage_sink {
	struct contents contents;
	struct damage damage;
};

static int sink_open(void *context, uint32_t inode, struct fb_err *err)
{
	return contents_open(&((struct damage_sink *)context)->contents, inode, err);
}

static int sink_damaged(void *context, uint32_t inode, const char *why,
			struct fb_err *err)
{
	return note_damage(&((struct damage_sink *)context)->damage, inode, why, err);
}

/* With run `r` damaged, exactly its file is withheld and all others are right. */
static void check_withheld(struct memory_store *m, const struct fixture *f,
			   const struct fb_image_run *r)
{
	struct damage_sink to = { .damage = { .count = 0 } };
	struct fb_image_sink sink = { NULL, sink_open, sink_damaged, &to, NULL };
	struct fb_err err = FB_ERR_INIT;
	struct damage verify = { 0 };
	struct fb_image image;
	size_t damaged = 99;
	uint32_t *map;

	assert_ok(fb_image_open(&m->store, &image, &err), &err);
	map = compare_trees(&f->tree, &image.tree);
	contents_empty(&to.contents, &image.tree);
	assert_ok(fb_image_read_data(&image, &sink, 3, NULL, &damaged, &err), &err);
	assert_int_equal(damaged, 1);
	assert_int_equal(to.damage.count, 1);
	assert_int_equal(to.damage.inode, map[r->inode]);
	for (uint32_t i = 0; i < f->contents.count; i++) {
		const struct fb_inode *in = &f->tree.inodes[i];

		for (size_t k = 0; i != r->inode && k < in->extent_count; k++)
			assert_true(contents_equal(
				f->contents.fds[i], to.contents.fds[map[i]],
				in->extents[k].offset, in->extents[k].length));
	}
	assert_int_equal(fb_image_verify(&image, note_damage, &verify, 2, NULL, &err),
			 -EBADMSG);
	assert_int_equal(verify.inode, map[r->inode]);
	assert_int_equal(fb_image_read_file(&image, map[r->inode],
					    to.contents.fds[map[r->inode]], &err),
			 -EBADMSG);
	contents_free(&to.contents);
	free(map);
	fb_image_close(&image);
}

static void damage_each_run(void (*build)(struct fb_tree *))
{
	struct fb_err err = FB_ERR_INIT;
	struct memory_store m;
	struct fixture f;

	memory_store_make(&m, STORE_SIZE, 0);
	fixture_make(&f, build, 1, m.store.size);
	assert_ok(fixture_write(&f, &m.store, 0, &err), &err);
	for (size_t i = 0; i < f.plan.run_count; i++) {
		const struct fb_image_run *r = &f.plan.runs[i];
		/* The last byte may be of the padding: it counts as well. */
		uint8_t *at = m.bytes + (uint64_t)(r->block + r->blocks) * 4096 - 1;

		*at ^= 1;
		check_withheld(&m, &f, r);
		*at ^= 1;
		m.bad_block = r->block + r->blocks - 1;
		check_withheld(&m, &f, r);
		m.bad_block = 0;
	}
	check_image(&m.store, &f, 0);
	fixture_free(&f);
	fb_store_close(&m.store);
}

static void huge_file(struct fb_tree *t)
{
	uint32_t dir = help_add(t, help_root(t), "d", S_IFDIR | 0755);

	help_file(t, dir, "huge", HUGE_SIZE);
	help_finish(t);
}

static void test_damaged_data(void **state)
{
	(void)state;
	damage_each_run(some_files);
	damage_each_run(huge_file); /* is filled through a mapping */
}

/* One damaged byte anywhere but in the data: refused, or without effect. */
static void test_damaged_metadata(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_image image;
	struct memory_store m;
	struct fixture f;
	uint64_t at, refused = 0, meta;

	(void)state;
	memory_store_make(&m, STORE_SIZE, 0);
	fixture_make(&f, some_files, 1, m.store.size);
	assert_ok(fixture_write(&f, &m.store, 0, &err), &err);
	meta = (uint64_t)f.plan.meta_block * 4096;
	for (at = 0; at < f.plan.size; at = at == 4095 ? meta : at + 1) {
		int ret;

		m.bytes[at] ^= 0x40;
		ret = fb_image_open(&m.store, &image, &err);
		m.bytes[at] ^= 0x40;
		if (ret) {
			refused++;
			assert_int_equal(err.status, FB_EXIT_NO_IMAGE);
		} else {
			/* the words outside, padding behind the tables */
			assert_true((at >= 1012 && at < 1024) ||
				    at >= meta + f.plan.layout.size);
			fb_image_close(&image);
		}
	}
	assert_true(refused >= 4096 - 12 + f.plan.layout.size);
	fixture_free(&f);
	fb_store_close(&m.store);
}

/* ---- a state that changes while it is saved
 * ------------------------------------------ */

struct changing {
	struct contents *contents;
	uint32_t inode;
	void (*change)(int fd);
};

static int changing_open(void *context, uint32_t inode, struct fb_err *err)
{
	struct changing *c = context;

	if (inode == c->inode)
		c->change(c->contents->fds[inode]);
	return contents_open(c->contents, inode, err);
}

static void change_shrink(int fd)
{
	assert_int_equal(ftruncate(fd, 4000), 0);
}

static void change_grow(int fd)
{
	assert_int_equal(ftruncate(fd, 5001), 0);
}

static void change_bytes(int fd)
{
	assert_int_equal(pwrite(fd, "x", 1, 17), 1);
}

static void test_changed_while_saved(void **state)
{
	static void (*const changes[])(int) = { change_shrink, change_grow,
						change_bytes };

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(changes); i++) {
		struct fb_err err = FB_ERR_INIT;
		struct memory_store m;
		struct fb_image image;
		struct fixture f;
		struct changing c;
		struct fb_image_source source = { changing_open, &c, false };

		memory_store_make(&m, STORE_SIZE, 0);
		fixture_make(&f, some_files, 1, m.store.size);
		c = (struct changing){ &f.contents, fb_tree_lookup(&f.tree, "/d/one"),
				       changes[i] };
		assert_int_equal(fb_image_write(&m.store, &f.tree, &f.plan, &source,
						&f.origin, 2, NULL, &err),
				 -ESTALE);
		assert_non_null(strstr(err.text, "/d/one changed while being saved"));
		assert_int_equal(fb_image_open(&m.store, &image, &err), -ENODATA);
		fixture_free(&f);
		fb_store_close(&m.store);
	}
}

/* ---- without a buffer, from files of huge pages ------------------------------- */

/* A file that is opened by its path, so that it can have a lease. */
struct counted {
	char path[64];
	unsigned int opened;
};

static int counted_open(void *context, uint32_t inode, struct fb_err *err)
{
	struct counted *c = context;

	(void)inode, (void)err;
	c->opened++;
	return open(c->path, O_RDONLY | O_CLOEXEC);
}

static void huge_contents(const struct fixture *f, uint32_t inode, const char *path)
{
	const struct fb_inode *in = &f->tree.inodes[inode];
	const struct timespec times[2] = { { 0, 0 },
					   { in->mtime_sec, in->mtime_nsec } };
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	off_t from = 0;

	assert_int_equal(sendfile(fd, f->contents.fds[inode], &from, HUGE_SIZE),
			 HUGE_SIZE);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
}

/* Saved by one thread; how often was the file opened? */
static unsigned int huge_save(struct fixture *f, const struct fb_store *store,
			      struct counted *c, bool live)
{
	struct fb_image_source source = { counted_open, c, live };
	struct fb_err err = FB_ERR_INIT;

	c->opened = 0;
	assert_ok(fb_image_begin(store, &f->origin.generation, &err), &err);
	assert_ok(fb_image_copy(store, &f->tree, &f->plan, &source, 1, NULL, &err),
		  &err);
	assert_ok(fb_image_commit(store, &f->tree, &f->plan, &f->origin, &err), &err);
	check_image(store, f, 1);
	return c->opened;
}

/* Without root, or a kernel with huge pages in tmpfs: skipped. */
static void test_huge_pages(void **state)
{
	char dir[] = "/tmp/fastboot-huge.XXXXXX";
	struct memory_store m;
	struct counted c;
	struct fixture f;
	bool usable;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(c.path, sizeof(c.path), "%s/huge", dir);
	usable = !mount("huge", dir, "tmpfs", 0, "huge=always");
	if (usable) {
		int writer;

		memory_store_make(&m, STORE_SIZE, 0);
		fixture_make(&f, huge_file, 1, m.store.size);
		huge_contents(&f, fb_tree_lookup(&f.tree, "/d/huge"), c.path);
		/* Each job opens the file once, through the buffer each piece. */
		assert_int_equal(f.plan.run_count, 11);
		assert_int_equal(huge_save(&f, &m.store, &c, false), 2);
		writer = open(c.path, O_WRONLY);
		assert_int_equal(huge_save(&f, &m.store, &c, false), 2 + 11);
		assert_int_equal(huge_save(&f, &m.store, &c, true), 2 + 11);
		/* No lease is left behind: this would wait, or fail. */
		close(writer);
		assert_int_equal(huge_save(&f, &m.store, &c, true), 2);
		writer = open(c.path, O_WRONLY | O_NONBLOCK);
		assert_true(writer >= 0);
		close(writer);
		fixture_free(&f);
		fb_store_close(&m.store);
		umount2(dir, MNT_DETACH);
	}
	rmdir(dir);
	if (!usable)
		skip();
}

/* ---- pieces of work ------------------------------------------------------------- */

static bool not_three(void *context, uint32_t inode)
{
	(void)context;
	return inode != 3;
}

/* Runs {inode, first block, blocks, offset in blocks}; "a-b" is a job, '|' cuts it. */
static void test_jobs(void **state)
{
	static const struct {
		struct {
			uint32_t inode, block, blocks, at;
		} runs[12];
		const char *jobs;
	} table[] = {
		{ { { 1, 2, 9, 0 } }, "0" },
		/* small files up to 128 blocks together */
		{ { { 1, 2, 60, 0 }, { 2, 62, 68, 0 }, { 4, 130, 1, 0 } }, "0-1 2" },
		{ { { 1, 2, 60, 0 }, { 2, 62, 69, 0 }, { 4, 131, 1, 0 } }, "0 1-2" },
		{ { { 1, 2, 60, 0 }, { 2, 63, 9, 0 } }, "0 1" },
		/* one of 256, as other writers may make them */
		{ { { 1, 2, 256, 0 }, { 2, 258, 1, 0 } }, "0 1" },
		/* one file up to 4 MiB, and not with another behind it */
		{ { { 1, 2, 128, 0 },
		    { 1, 130, 128, 128 },
		    { 1, 258, 13, 256 },
		    { 2, 271, 1, 0 } },
		  "0|1|2 3" },
		{ { { 1, 2, 128, 896 }, { 1, 130, 128, 1024 }, { 1, 258, 128, 1152 } },
		  "0 1|2" },
		/* nor around another */
		{ { { 1, 2, 10, 0 }, { 2, 12, 100, 0 }, { 1, 112, 100, 10 } },
		  "0-1 2" },
		/* a tail and the next file fit, but what follows is too much */
		{ { { 1, 2, 13, 512 }, { 2, 15, 100, 0 }, { 2, 115, 128, 128 } },
		  "0-1 2" },
		{ { { 1, 2, 64, 0 }, { 1, 66, 100, 64 }, { 1, 166, 28, 164 } },
		  "0|1-2" },
		/* not wanted */
		{ { { 1, 2, 9, 0 }, { 3, 11, 9, 0 }, { 3, 20, 9, 9 }, { 1, 29, 9, 9 } },
		  "0 3" },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(table); i++) {
		struct fb_image_run runs[12] = { { .inode = 0 } };
		fb_autofree struct fb_image_job *jobs = NULL;
		char text[64] = "";
		size_t n = 0, count, at = 0;

		for (; n < 12 && table[i].runs[n].blocks; n++) {
			runs[n].inode = table[i].runs[n].inode;
			runs[n].block = table[i].runs[n].block;
			runs[n].blocks = table[i].runs[n].blocks;
			runs[n].offset = table[i].runs[n].at * (uint64_t)4096;
		}
		assert_int_equal(
			fb_image_jobs_make(runs, n, not_three, NULL, &jobs, &count), 0);
		for (size_t k = 0; k < count; k++) {
			struct fb_image_job piece = { 0, 0, 0 };
			const char *cut = k ? " " : "";

			for (; fb_image_job_next(runs, &jobs[k], &piece); cut = "|") {
				at += (size_t)sprintf(text + at, "%s%zu", cut,
						      piece.first);
				if (piece.count > 1)
					at += (size_t)sprintf(text + at, "-%zu",
							      piece.first +
								      piece.count - 1);
			}
		}
		assert_string_equal(text, table[i].jobs);
	}
}

static int fail_open(void *context, uint32_t inode, struct fb_err *err)
{
	(void)context;
	return fb_err_set(err, EACCES, "inode %u", inode);
}

static int stop_progress(void *context, uint64_t done, uint64_t total)
{
	uint64_t *last = context;

	assert_true(done >= *last && done <= total);
	*last = done;
	return done > total / 2 ? -EINTR : 0;
}

static void test_errors_passed_on(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	struct memory_store m;
	struct fixture f;
	uint64_t last = 0;
	struct fb_progress progress = { stop_progress, &last };
	struct fb_image_source bad = { fail_open, NULL, false };
	struct fb_image_source good;

	(void)state;
	memory_store_make(&m, STORE_SIZE, 0);
	fixture_make(&f, help_sample, 1, m.store.size);
	good = (struct fb_image_source){ contents_open, &f.contents, false };
	assert_int_equal(fb_image_copy(&m.store, &f.tree, &f.plan, &bad, 2, NULL, &err),
			 -EACCES);
	assert_int_equal(
		fb_image_copy(&m.store, &f.tree, &f.plan, &good, 2, &progress, &err),
		-EINTR);
	m.store.size = f.plan.size - 4096;
	assert_int_equal(
		fb_image_copy(&m.store, &f.tree, &f.plan, &good, 2, NULL, &err),
		-ENOSPC);
	fixture_free(&f);
	fb_store_close(&m.store);
}

/* ---- parts of an image --------------------------------------------------------------
 */

static bool want_two(void *context, uint32_t inode)
{
	const struct contents *c = context;

	return inode == fb_tree_lookup(c->tree, "/d/two");
}

static int open_only_two(void *context, uint32_t inode, struct fb_err *err)
{
	return want_two(context, inode) ? contents_open(context, inode, err)
					: FB_IMAGE_SKIP;
}

static void check_only_two(const struct fixture *f, const struct fb_image *image,
			   bool (*wanted)(void *, uint32_t),
			   int (*open)(void *, uint32_t, struct fb_err *))
{
	struct contents to;
	struct fb_image_sink sink = { wanted, open, no_damage, &to, NULL };
	struct fb_err err = FB_ERR_INIT;
	char c;

	contents_empty(&to, &image->tree);
	assert_ok(fb_image_read_data(image, &sink, 2, NULL, NULL, &err), &err);
	assert_true(contents_equal(f->contents.fds[fb_tree_lookup(&f->tree, "/d/two")],
				   to.fds[fb_tree_lookup(&image->tree, "/d/two")], 0,
				   1));
	assert_int_equal(
		pread(to.fds[fb_tree_lookup(&image->tree, "/d/one")], &c, 1, 9), 1);
	assert_int_equal(c, 0);
	contents_free(&to);
}

static void test_read_parts(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	struct memory_store m;
	struct fb_image image;
	struct fixture f;
	struct contents to;
	uint32_t *map;

	(void)state;
	memory_store_make(&m, STORE_SIZE, 0);
	fixture_make(&f, some_files, 1, m.store.size);
	assert_ok(fixture_write(&f, &m.store, 0, &err), &err);
	assert_ok(fb_image_open(&m.store, &image, &err), &err);
	check_only_two(&f, &image, want_two, contents_open);
	check_only_two(&f, &image, NULL, open_only_two);
	map = compare_trees(&f.tree, &image.tree);
	contents_empty(&to, &image.tree);
	for (uint32_t i = 0; i < image.tree.inode_count; i++)
		if (S_ISREG(image.tree.inodes[i].mode))
			assert_ok(fb_image_read_file(&image, i, to.fds[i], &err), &err);
	compare_contents(&f.contents, &to, map);
	assert_int_equal(fb_image_read_file(&image, 0, -1, &err), -EINVAL);
	contents_free(&to);
	free(map);
	fb_image_close(&image);
	fixture_free(&f);
	fb_store_close(&m.store);
}

/* ---- power cuts
 * ---------------------------------------------------------------------- */

/* None, or all of the old image, or all of the new one. */
static bool check_after_cut(struct memory_store *m, const struct fixture *old,
			    const struct fixture *new)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_image image;
	bool is_new;

	memory_store_reboot(m);
	if (fb_image_open(&m->store, &image, &err)) {
		assert_int_equal(err.status, FB_EXIT_NO_IMAGE);
		return false;
	}
	is_new = image.tree.inode_count == new->tree.inode_count;
	fb_image_close(&image);
	check_image(&m->store, is_new ? new : old, 1);
	return is_new;
}

static void other_files(struct fb_tree *t)
{
	uint32_t root = help_root(t);

	help_file(t, root, "one", 123456);
	help_file(t, root, "two", 99999);
	help_finish(t);
}

/* The n-th write or flush fails, n = 1, 2, ... until the save completes. */
static void test_power_cut(void **state)
{
	struct fixture old, new;
	bool complete = false;
	unsigned int cuts = 0;

	(void)state;
	fixture_make(&old, some_files, 1, 2 * FB_MIB);
	fixture_make(&new, other_files, 2, 2 * FB_MIB);
	for (unsigned int n = 1; !complete; n++) {
		for (uint32_t seed = 1; seed <= 20 && !complete; seed++) {
			struct fb_err err = FB_ERR_INIT;
			struct memory_store m;
			bool found;
			int ret;

			memory_store_make(&m, 2 * FB_MIB, 0xff);
			assert_ok(fixture_write(&old, &m.store, 1, &err), &err);
			m.operations = 0;
			m.cut_at = n;
			m.seed = seed * 2654435761u;
			ret = fixture_write(&new, &m.store, 1, &err);
			complete = !ret;
			found = check_after_cut(&m, &old, &new);
			assert_true(found || ret);
			cuts++;
			fb_store_close(&m.store);
		}
	}
	assert_true(cuts > 20 * 6);
	fixture_free(&old);
	fixture_free(&new);
}

/* A torn mark: still the image, consumed or not. */
static void test_mark_consumed(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	struct memory_store m;
	struct fb_image image;
	struct fixture f;

	(void)state;
	memory_store_make(&m, STORE_SIZE, 0);
	assert_int_equal(fb_image_mark_consumed(&m.store, &err), -ENODATA);
	assert_int_equal(err.status, FB_EXIT_NO_IMAGE);
	fixture_make(&f, some_files, 1, m.store.size);
	assert_ok(fixture_write(&f, &m.store, 0, &err), &err);
	for (uint32_t seed = 1; seed <= 20; seed++) {
		m.operations = 0;
		m.cut_at = 1;
		m.seed = seed * 2654435761u;
		assert_int_equal(fb_image_mark_consumed(&m.store, &err), -EIO);
		memory_store_reboot(&m);
		check_image(&m.store, &f, 1);
		memset(m.bytes + FB_HEADER_CONSUMED_AT, 0, 8);
		memset(m.durable + FB_HEADER_CONSUMED_AT, 0, 8);
	}
	assert_ok(fb_image_mark_consumed(&m.store, &err), &err);
	assert_ok(fb_image_mark_consumed(&m.store, &err), &err);
	assert_ok(fb_image_open(&m.store, &image, &err), &err);
	assert_true(image.header.consumed);
	fb_image_close(&image);
	assert_ok(fb_image_unmark_consumed(&m.store, &err), &err);
	assert_ok(fb_image_unmark_consumed(&m.store, &err), &err);
	assert_ok(fb_image_open(&m.store, &image, &err), &err);
	assert_false(image.header.consumed);
	fb_image_close(&image);
	fixture_free(&f);
	fb_store_close(&m.store);
}

/* A torn one: still the image, whatever the time says; and not consumed. */
static void test_mark_left(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	struct memory_store m;
	struct fb_image image;
	struct fixture f;

	(void)state;
	memory_store_make(&m, STORE_SIZE, 0);
	assert_int_equal(fb_image_mark_left(&m.store, 1, &err), -ENODATA);
	assert_int_equal(err.status, FB_EXIT_NO_IMAGE);
	fixture_make(&f, some_files, 1, m.store.size);
	assert_ok(fixture_write(&f, &m.store, 0, &err), &err);
	for (uint32_t seed = 1; seed <= 20; seed++) {
		m.operations = 0;
		m.cut_at = 1;
		m.seed = seed * 2654435761u;
		assert_int_equal(fb_image_mark_left(&m.store, 0x01020304, &err), -EIO);
		memory_store_reboot(&m);
		check_image(&m.store, &f, 1);
		memset(m.bytes + FB_HEADER_LEFT_AT, 0, 4);
		memset(m.durable + FB_HEADER_LEFT_AT, 0, 4);
	}
	assert_ok(fb_image_mark_left(&m.store, 12345, &err), &err);
	assert_ok(fb_image_mark_consumed(&m.store, &err), &err);
	assert_ok(fb_image_open(&m.store, &image, &err), &err);
	assert_int_equal(image.header.left_usec, 12345);
	assert_true(image.header.consumed);
	fb_image_close(&image);
	fixture_free(&f);
	fb_store_close(&m.store);
}

/* ---- what else may be there
 * ----------------------------------------------------------- */

static void test_identify(void **state)
{
	static const struct {
		size_t at;
		const char *bytes;
		size_t size;
		enum fb_image_kind kind;
		const char *text;
	} table[] = {
		{ 0, "", 0, FB_IMAGE_ZERO, "nothing" },
		{ 0, "\1", 1, FB_IMAGE_UNKNOWN, "unknown" },
		{ 4096, "NVDIMM_PFN_INFO", 16, FB_IMAGE_INFO_BLOCK, "info block" },
		{ 4096, "NVDIMM_DAX_INFO", 16, FB_IMAGE_INFO_BLOCK, "info block" },
		{ 4096, "BTT_ARENA_INFO", 15, FB_IMAGE_INFO_BLOCK, "info block" },
		{ 1080, "\x53\xef", 2, FB_IMAGE_EXT, "ext4" },
		{ 1024, "\xe2\xe1\xf5\xe0", 4, FB_IMAGE_EROFS, "did not write" },
		{ 0, "XFSB", 4, FB_IMAGE_XFS, "XFS" },
		{ 0, "fastboot\1", 9, FB_IMAGE_TORN, "damaged" },
		{ 0, "fastboot\2", 9, FB_IMAGE_NEWER, "version 2" },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(table); i++) {
		struct fb_err err = FB_ERR_INIT;
		enum fb_image_kind kind;
		struct memory_store m;
		struct fb_image image;

		memory_store_make(&m, FB_MIB, 0);
		memcpy(m.bytes + table[i].at, table[i].bytes, table[i].size);
		assert_ok(fb_image_identify(&m.store, &kind, &err), &err);
		assert_int_equal(kind, table[i].kind);
		assert_true(fb_image_open(&m.store, &image, &err) < 0);
		assert_int_equal(err.status, FB_EXIT_NO_IMAGE);
		if (!strstr(err.text, table[i].text))
			print_error("%s\n", err.text);
		assert_non_null(strstr(err.text, table[i].text));
		fb_store_close(&m.store);
	}
}

/* ---- what others say: erofs-utils
 * ------------------------------------------------------ */

static int run(const char *fmt, ...)
{
	char command[512];
	va_list ap;
	int status;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	status = system(command);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void write_file(struct fixture *f, const char *path)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_store store;

	assert_ok(fb_store_create_file(path, f->plan.size, &store, &err), &err);
	assert_ok(fixture_write(f, &store, 0, &err), &err);
	assert_int_not_equal(access(path, F_OK), 0);
	assert_ok(fb_store_commit_file(&store, &err), &err);
	fb_store_close(&store);
	assert_ok(fb_store_open_file(path, false, &store, &err), &err);
	check_image(&store, f, 0);
	fb_store_close(&store);
}

static void test_erofs_utils(void **state)
{
	char dir[] = "/tmp/fastboot-image.XXXXXX";
	char path[64];
	struct fixture f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/state.img", dir);
	fixture_make(&f, help_sample, 1, UINT64_MAX);
	write_file(&f, path);
	if (run("command -v fsck.erofs >/dev/null && command -v dump.erofs "
		">/dev/null")) {
		print_message("without erofs-utils: only our own reader was asked\n");
	} else {
		assert_int_equal(run("fsck.erofs %s >%s/log 2>&1", path, dir), 0);
		assert_int_equal(run("dump.erofs -s %s | grep -q sb_csum", path), 0);
		assert_int_equal(run("dump.erofs --path=/srv/redis/large -e %s | "
				     "grep -q '0: *0\\.\\.'",
				     path),
				 0);
		assert_int_equal(run("dump.erofs --path=/srv/redis/sparse/holes -e %s "
				     ">/dev/null",
				     path),
				 0);
	}
	fixture_free(&f);
	run("rm -r %s", dir);
}

/* ---- what the kernel says
 * ------------------------------------------------------------------ */

static void kernel_xattrs(const struct fb_inode *in, const char *path)
{
	static char value[65536];

	for (size_t i = 0; i < in->xattr_count; i++) {
		const struct fb_xattr *x = &in->xattrs[i];

		/* An ACL needs a kernel with ACLs: the machines' tests look at it. */
		if (!strncmp(x->name, "system.", 7))
			continue;
		assert_int_equal(lgetxattr(path, x->name, value, sizeof(value)),
				 x->size);
		if (x->size)
			assert_memory_equal(value, x->value, x->size);
	}
}

static void kernel_stat(const struct fb_inode *in, const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	assert_int_equal(st.st_mode, in->mode);
	assert_int_equal(st.st_uid, in->uid);
	assert_int_equal(st.st_gid, in->gid);
	assert_int_equal(st.st_nlink, in->nlink);
	assert_int_equal(st.st_rdev, in->rdev);
	assert_true(st.st_mtim.tv_sec == in->mtime_sec);
	assert_int_equal(st.st_mtim.tv_nsec, in->mtime_nsec);
	if (!S_ISDIR(in->mode))
		assert_int_equal(st.st_size, in->size);
}

/* All of a small file, holes too; the extents of a large one. */
static void kernel_data(const struct fb_inode *in, const char *path, int want)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	if (in->size && in->size <= 16 * FB_MIB)
		assert_true(contents_equal(want, fd, 0, in->size));
	for (size_t k = 0; k < in->extent_count; k++)
		assert_true(contents_equal(want, fd, in->extents[k].offset,
					   in->extents[k].length));
	close(fd);
}

static void kernel_inode(const struct fixture *f, uint32_t inode, const char *root)
{
	const struct fb_inode *in = &f->tree.inodes[inode];
	fb_autofree char *below = fb_tree_path(&f->tree, inode);
	fb_autofree char *path = fb_asprintf("%s%s", root, below);
	static char target[4097];

	kernel_stat(in, path);
	kernel_xattrs(in, path);
	if (S_ISREG(in->mode))
		kernel_data(in, path, f->contents.fds[inode]);
	if (S_ISLNK(in->mode)) {
		assert_int_equal(readlink(path, target, sizeof(target)), in->size);
		assert_memory_equal(target, in->target, in->size);
	}
}

static size_t kernel_entries(const char *path)
{
	DIR *d = opendir(path);
	size_t n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* Linux 6.12 and later mount a file as it is; without root or erofs: skipped. */
static void test_kernel_mount(void **state)
{
	char dir[] = "/tmp/fastboot-mount.XXXXXX", path[64], root[64], many[80];
	struct fixture f;
	bool mounted;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/state.img", dir);
	snprintf(root, sizeof(root), "%s/mnt", dir);
	snprintf(many, sizeof(many), "%s/var/many", root);
	assert_int_equal(mkdir(root, 0700), 0);
	fixture_make(&f, help_sample, 1, UINT64_MAX);
	write_file(&f, path);
	mounted = !mount(path, root, "erofs", MS_RDONLY, NULL);
	for (uint32_t i = 0; mounted && i < f.tree.inode_count; i++)
		kernel_inode(&f, i, root);
	if (mounted)
		assert_int_equal(kernel_entries(many), 1000 + 2);
	fixture_free(&f);
	umount2(root, MNT_DETACH);
	run("rm -r %s", dir);
	if (!mounted)
		skip();
}

/* ---- golden images
 * ---------------------------------------------------------------------- */

/*
 * The tree of tests/golden/v1.img.xz, which version 1 wrote. Frozen: a change
 * here or in what it calls is a change of the test, not of the format. The
 * image is rewritten only before a release:
 *	build/debug/tests/unit/test_image --write v1 v1.img
 */
static void golden_tree(struct fb_tree *t)
{
	uint32_t root = help_root(t);
	uint32_t srv = help_add(t, root, "srv", S_IFDIR | 0711);
	uint32_t redis = help_add(t, srv, "redis", S_IFDIR | 0700);
	uint32_t i;

	help_file(t, redis, "a", 1);
	help_file(t, redis, "block", 4096);
	help_file(t, redis, "5000", 5000);
	help_special(t, redis);
	i = help_add(t, redis, "holes", S_IFREG | 0600);
	t->inodes[i].size = 10 * 4096 + 1;
	help_extent(t, i, 4096, 4096);
	help_extent(t, i, 10 * 4096, 1);
	i = help_add(t, redis, "names", S_IFDIR | 0755);
	help_names(t, i);
	i = help_add(t, srv, "many", S_IFDIR | 01777);
	for (unsigned int n = 0; n < 300; n++) {
		char name[16];

		snprintf(name, sizeof(name), "f%03u", n);
		help_file(t, i, name, n % 3 ? 0 : n % 50);
	}
	i = help_file(t, srv, "attributes", 100);
	help_xattr(t, i, "user.empty", NULL, 0);
	help_xattr(t, i, "trusted.large", NULL, 5000);
	help_xattr(t, i, "security.capability", "\1\0\0\2", 4);
	help_state(t, "redis", "/srv/redis", redis);
	help_finish(t);
}

static void tiny_tree(struct fb_tree *t)
{
	uint32_t root = help_root(t), dir = help_add(t, root, "d", S_IFDIR | 0755);

	help_xattr(t, help_file(t, dir, "file", 5), "user.x", "y", 1);
	help_symlink(t, dir, "link", "file");
	help_link(t, dir, "name", help_add(t, dir, "hole", S_IFREG));
	t->inodes[t->inode_count - 1].size = 5000;
	help_state(t, "d", "/d", dir);
	help_finish(t);
}

static const struct {
	const char *name;
	void (*build)(struct fb_tree *t);
} goldens[] = { { "v1", golden_tree }, { "v1-tiny", tiny_tree } };

static void golden_make(struct fixture *f, size_t which)
{
	fixture_make(f, goldens[which].build, 1, UINT64_MAX);
	memcpy(f->origin.uuid, "golden image one", 16);
	memset(f->origin.boot_id, 0xb0, 16);
}

static int write_golden(const char *name, const char *path)
{
	for (size_t i = 0; i < FB_ARRAY_SIZE(goldens); i++) {
		struct fixture f;

		if (strcmp(goldens[i].name, name))
			continue;
		golden_make(&f, i);
		write_file(&f, path);
		fixture_free(&f);
		return 0;
	}
	return 2;
}

/* Images of released versions stay readable, and are still written alike. */
static void test_golden(void **state)
{
	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(goldens); i++) {
		char dir[] = "/tmp/fastboot-golden.XXXXXX", path[64];
		struct fb_err err = FB_ERR_INIT;
		struct fb_store store;
		struct fixture f;

		assert_non_null(mkdtemp(dir));
		snprintf(path, sizeof(path), "%s/old.img", dir);
		assert_int_equal(
			run("xz -dc tests/golden/%s.img.xz >%s", goldens[i].name, path),
			0);
		golden_make(&f, i);
		assert_ok(fb_store_open_file(path, false, &store, &err), &err);
		check_image(&store, &f, 0);
		fb_store_close(&store);
		snprintf(path, sizeof(path), "%s/new.img", dir);
		write_file(&f, path);
		assert_int_equal(run("cmp %s/old.img %s/new.img", dir, dir), 0);
		fixture_free(&f);
		run("rm -r %s", dir);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_header_facts),
		cmocka_unit_test(test_info_block_cleared),
		cmocka_unit_test(test_plan_sizes),
		cmocka_unit_test(test_plan_packed),
		cmocka_unit_test(test_plan_alignment),
		cmocka_unit_test(test_damaged_data),
		cmocka_unit_test(test_damaged_metadata),
		cmocka_unit_test(test_changed_while_saved),
		cmocka_unit_test(test_huge_pages),
		cmocka_unit_test(test_jobs),
		cmocka_unit_test(test_errors_passed_on),
		cmocka_unit_test(test_read_parts),
		cmocka_unit_test(test_power_cut),
		cmocka_unit_test(test_mark_consumed),
		cmocka_unit_test(test_mark_left),
		cmocka_unit_test(test_identify),
		cmocka_unit_test(test_erofs_utils),
		cmocka_unit_test(test_kernel_mount),
		cmocka_unit_test(test_golden),
	};

	if (argc == 4 && !strcmp(argv[1], "--write"))
		return write_golden(argv[2], argv[3]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
