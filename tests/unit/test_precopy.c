/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A state that is written to while it is copied ahead, on a real tmpfs with
 * real leases: what the image has in the end is what the files have. Many
 * random runs; the number of runs can be given: test_precopy 1000 [SEED].
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>

#include "image_help.h"

#include "cmd/precopy.h"

#define STORE_SIZE (24 * FB_MIB)

static char base[] = "/tmp/fastboot-precopy.XXXXXX";
static char state_dir[128], image_path[128], mount_dir[128];
static bool have_tmpfs, have_erofs;

/* ---- a tmpfs of our own ------------------------------------------------------ */

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(base))
		return -1;
	have_tmpfs = !unshare(CLONE_NEWNS) &&
		     !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
		     !mount("tmpfs", base, "tmpfs", 0, "size=256m");
	snprintf(state_dir, sizeof(state_dir), "%s/state", base);
	snprintf(image_path, sizeof(image_path), "%s.img", base); /* not on tmpfs */
	snprintf(mount_dir, sizeof(mount_dir), "%s/mnt", base);
	return have_tmpfs && mkdir(mount_dir, 0700) ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	if (have_tmpfs)
		umount2(base, MNT_DETACH);
	unlink(image_path);
	return rmdir(base);
}

static void need_tmpfs(void)
{
	if (have_tmpfs)
		return;
	print_message("no tmpfs can be mounted (not root)\n");
	skip();
}

/* ---- the applications --------------------------------------------------------- */

#define MAPPINGS 4u
#define NAMES	 24u

struct mapping {
	uint8_t *at;
	size_t size;
};

struct app {
	uint32_t seed;
	unsigned int number; /* its files are its own */
	struct mapping mappings[MAPPINGS];
	unsigned int done;
};

static uint32_t roll(struct app *a, uint32_t sides)
{
	return help_random(&a->seed) / 7 % sides;
}

static const char *name_of(const struct app *a, uint32_t n, char *path)
{
	snprintf(path, 256, "%s/%s%u-f%u", state_dir, n % 3 ? "" : "d/", a->number, n);
	return path;
}

static const char *any_name(struct app *a, char *path)
{
	return name_of(a, roll(a, NAMES), path);
}

static void fill(struct app *a, uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(help_random(&a->seed) >> 9);
}

static off_t size_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : st.st_size;
}

static void write_some(struct app *a, int fd, off_t at)
{
	static _Thread_local uint8_t bytes[40000];
	size_t n = 1 + roll(a, roll(a, 4) ? 5000 : sizeof(bytes));

	fill(a, bytes, n);
	if (pwrite(fd, bytes, n, at) != (ssize_t)n)
		abort();
}

static void op_write(struct app *a, const char *path)
{
	fb_autoclose int fd = open(path, O_RDWR | O_CLOEXEC);
	struct timespec times[2] = { { 0, UTIME_OMIT }, { 1, 2 } };

	if (fd < 0)
		return;
	write_some(a, fd, roll(a, (uint32_t)size_of(fd) + 1));
	/* As rsync and tar do: the time stamp tells nothing. */
	if (!roll(a, 3))
		futimens(fd, times);
}

static void op_append(struct app *a, const char *path)
{
	fb_autoclose int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);

	for (uint32_t n = roll(a, 3); fd >= 0 && n < 3; n++)
		write_some(a, fd, size_of(fd));
}

static void op_hole(struct app *a, const char *path)
{
	fb_autoclose int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  roll(a, (uint32_t)size_of(fd) + 1), 1 + roll(a, 20000));
}

static void op_truncate(struct app *a, const char *path)
{
	if (truncate(path, roll(a, 120000)) && errno != ENOENT)
		abort();
}

static void op_rename(struct app *a, const char *path)
{
	char to[256];

	rename(path, any_name(a, to));
}

static void op_link(struct app *a, const char *path)
{
	char to[256];

	if (link(path, any_name(a, to)) && errno != ENOENT && errno != EEXIST)
		abort();
}

static void op_unlink(struct app *a, const char *path)
{
	(void)a;
	unlink(path);
}

static void op_replace(struct app *a, const char *path)
{
	char to[256];

	snprintf(to, sizeof(to), "%s/%u-new", state_dir, a->number);
	op_append(a, to);
	rename(to, path);
}

static void op_chmod(struct app *a, const char *path)
{
	chmod(path, 0600 + roll(a, 64));
}

/* Of the file, or of a symbolic link that is made anew now and then. */
static void op_xattr(struct app *a, const char *path)
{
	static const char *const names[] = { "trusted.a", "trusted.b", "security.c" };
	const char *name = names[roll(a, FB_ARRAY_SIZE(names))];
	uint32_t value = roll(a, 1u << 20);
	char other[256];

	if (!roll(a, 3)) {
		snprintf(other, sizeof(other), "%s/%u-l%u", state_dir, a->number,
			 roll(a, 3));
		path = other;
		if (!roll(a, 3) && !unlink(path)) {
			fb_autofree char *target = fb_asprintf("to-%u", value);

			if (symlink(target, path))
				abort();
		}
		if (access(path, F_OK) && symlink("first", path) && errno != EEXIST)
			abort();
	}
	if (roll(a, 3))
		lsetxattr(path, name, &value, 1 + value % sizeof(value), 0);
	else
		lremovexattr(path, name);
}

static void op_directory(struct app *a, const char *path)
{
	char from[256], to[256];

	(void)path;
	snprintf(from, sizeof(from), "%s/%u-x%u", state_dir, a->number, roll(a, 3));
	snprintf(to, sizeof(to), "%s/%u-x%u", state_dir, a->number, roll(a, 3));
	if (mkdir(from, 0700 + roll(a, 64)) && roll(a, 2))
		rename(from, to);
	else if (!roll(a, 3))
		rmdir(to);
}

/* Writable, shared, with no descriptor left: only the lease can know of it. */
static void op_map(struct app *a, const char *path)
{
	struct mapping *m = &a->mappings[roll(a, MAPPINGS)];
	fb_autoclose int fd = open(path, O_RDWR | O_CLOEXEC);

	if (m->at)
		munmap(m->at, m->size);
	m->at = NULL;
	if (fd < 0 || !size_of(fd))
		return;
	m->size = (size_t)size_of(fd);
	m->at = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m->at == MAP_FAILED)
		abort();
}

/* Only what is not behind the file's end by now can be written: no SIGBUS. */
static void op_poke(struct app *a, const char *path)
{
	struct mapping *m = &a->mappings[roll(a, MAPPINGS)];
	uint8_t bytes[64];
	struct iovec from = { bytes, sizeof(bytes) }, to;

	(void)path;
	if (!m->at)
		return;
	fill(a, bytes, sizeof(bytes));
	to = (struct iovec){ m->at + roll(a, (uint32_t)m->size), 1 + roll(a, 64) };
	if (to.iov_len > (size_t)(m->at + m->size - (uint8_t *)to.iov_base))
		to.iov_len = 1;
	process_vm_writev(getpid(), &from, 1, &to, 1, 0);
}

static void app_step(struct app *a)
{
	static void (*const ops[])(struct app *, const char *) = {
		op_write, op_write,  op_append,	 op_hole,  op_truncate,	 op_rename,
		op_link,  op_unlink, op_replace, op_chmod, op_map,	 op_map,
		op_poke,  op_poke,   op_poke,	 op_poke,  op_directory, op_xattr,
	};
	char path[256];

	ops[roll(a, FB_ARRAY_SIZE(ops))](a, any_name(a, path));
	a->done++;
}

static void app_stop(struct app *a)
{
	for (unsigned int i = 0; i < MAPPINGS; i++)
		if (a->mappings[i].at)
			munmap(a->mappings[i].at, a->mappings[i].size);
	memset(a->mappings, 0, sizeof(a->mappings));
}

static void app_files(struct app *a)
{
	char path[256];

	for (uint32_t i = 0; i < NAMES; i++) {
		name_of(a, i, path);
		if (roll(a, 5))
			op_append(a, path);
		if (!roll(a, 4))
			op_truncate(a, path);
	}
}

/* ---- between the applications and the copy -------------------------------------- */

struct run {
	struct app inside; /* steps in the middle of scans and copies */
	struct app beside; /* a thread of its own */
	atomic_bool stop;
	bool thread;
	uint32_t often;
	struct memory_store memory;
	struct fb_precopy *precopy;
};

static int step_inside(void *context, uint64_t done, uint64_t total)
{
	struct run *r = context;

	(void)done, (void)total;
	while (!atomic_load(&r->stop) && !roll(&r->inside, r->often))
		app_step(&r->inside);
	return 0;
}

static void *run_beside(void *context)
{
	struct run *r = context;

	while (!atomic_load(&r->stop)) {
		app_step(&r->beside);
		sched_yield();
	}
	return NULL;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void remove_state(void)
{
	if (!access(state_dir, F_OK))
		assert_int_equal(nftw(state_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS),
				 0);
}

static void run_make(struct run *r, uint32_t seed)
{
	char dir[160];

	memset(r, 0, sizeof(*r));
	r->inside.seed = seed * 2654435761u + 1;
	r->beside.seed = seed * 2246822519u + 1;
	r->beside.number = 1;
	r->often = 2 + roll(&r->inside, 20);
	r->thread = seed % 2;
	memory_store_make(&r->memory, STORE_SIZE, 0xa5);
	remove_state();
	snprintf(dir, sizeof(dir), "%s/d", state_dir);
	assert_int_equal(mkdir(state_dir, 0755), 0);
	assert_int_equal(mkdir(dir, 0755), 0);
	app_files(&r->inside);
	app_files(&r->beside);
}

static void run_free(struct run *r)
{
	fb_precopy_free(r->precopy);
	fb_store_close(&r->memory.store);
}

static void assert_ok(int ret, const struct fb_err *err)
{
	if (ret)
		print_error("%d: %s\n", ret, err->text);
	assert_int_equal(ret, 0);
}

static void save_running(struct run *r)
{
	const struct fb_state_dir dir = { "s", state_dir, NULL, 0 };
	const struct fb_save_dirs dirs = { (struct fb_state_dir *)&dir, 1 };
	const struct fb_progress step = { step_inside, r };
	const struct fb_precopy_options options = { &dirs, &r->memory.store,  &step,
						    &step, r->thread ? 0 : 1, 1 };
	struct fb_origin origin = { .wall_usec = 1 };
	struct fb_err err = FB_ERR_INIT;
	pthread_t thread;

	if (r->thread)
		assert_int_equal(pthread_create(&thread, NULL, run_beside, r), 0);
	assert_ok(fb_precopy_run(&options, &r->precopy, &err), &err);
	for (unsigned int i = roll(&r->inside, 30); i; i--)
		app_step(&r->inside);
	atomic_store(&r->stop, true);
	if (r->thread)
		pthread_join(thread, NULL);
	if (roll(&r->inside, 2))
		app_stop(&r->inside);
	assert_ok(fb_precopy_rescan(r->precopy, &err), &err);
	assert_ok(fb_precopy_complete(r->precopy, &err), &err);
	origin.generation = r->precopy->generation;
	assert_ok(fb_image_commit(&r->memory.store, &r->precopy->save.scan.tree,
				  &r->precopy->save.plan, &origin, &err),
		  &err);
}

/* ---- the judges
 * ----------------------------------------------------------------------- */

static bool same_stat(const struct stat *a, const struct stat *b)
{
	return a->st_mode == b->st_mode && a->st_uid == b->st_uid &&
	       a->st_gid == b->st_gid &&
	       (S_ISDIR(a->st_mode) || a->st_size == b->st_size) &&
	       (S_ISDIR(a->st_mode) || a->st_nlink == b->st_nlink) &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static bool same_bytes(int a, int b, off_t size)
{
	static uint8_t x[65536], y[65536];

	for (off_t at = 0; at < size; at += (off_t)sizeof(x)) {
		ssize_t n = pread(a, x, sizeof(x), at);

		if (n <= 0 || pread(b, y, sizeof(y), at) != n ||
		    memcmp(x, y, (size_t)n))
			return false;
	}
	return true;
}

static unsigned int count_entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Files of the state that are not the same below `other`; by path. */
static unsigned int differences(const char *path, const char *other)
{
	unsigned int n = 0;
	DIR *dir = opendir(path);
	struct dirent *e;

	assert_non_null(dir);
	while ((e = readdir(dir))) {
		char a[512], b[512];
		struct stat x, y;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		snprintf(a, sizeof(a), "%s/%s", path, e->d_name);
		snprintf(b, sizeof(b), "%s/%s", other, e->d_name);
		assert_int_equal(lstat(a, &x), 0);
		if (lstat(b, &y) || !same_stat(&x, &y)) {
			print_error("%s is another\n", b);
			n++;
		} else if (S_ISDIR(x.st_mode)) {
			n += differences(a, b);
		} else if (S_ISREG(x.st_mode)) {
			fb_autoclose int f = open(a, O_RDONLY), g = open(b, O_RDONLY);

			if (!same_bytes(f, g, x.st_size)) {
				print_error("%s has other bytes\n", b);
				n++;
			}
		}
	}
	closedir(dir);
	return n + (count_entries(path) != count_entries(other));
}

/* The running kernel reads the image (Linux 6.12 mounts a file as it is). */
static unsigned int judge_kernel(const struct run *r)
{
	size_t size = r->precopy->save.plan.size;
	char other[512];
	unsigned int n;
	fb_autoclose int fd = open(image_path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(pwrite(fd, r->memory.bytes, size, 0), size);
	have_erofs = !mount(image_path, mount_dir, "erofs", MS_RDONLY, NULL);
	if (!have_erofs)
		return 0;
	snprintf(other, sizeof(other), "%s%s", mount_dir, state_dir);
	n = differences(state_dir, other);
	assert_int_equal(umount(mount_dir), 0);
	return n;
}

static bool same_target(const char *path, const struct fb_inode *in)
{
	char target[256];
	ssize_t n = readlink(path, target, sizeof(target));

	return n == (ssize_t)in->size && !memcmp(target, in->target, (size_t)n);
}

static bool same_xattrs(const char *path, const struct fb_inode *in)
{
	char names[512], value[64];
	ssize_t length = llistxattr(path, names, sizeof(names));
	size_t n = 0;

	for (const char *name = names; length > 0 && name < names + length;
	     name += strlen(name) + 1)
		n++;
	for (size_t i = 0; i < in->xattr_count; i++) {
		const struct fb_xattr *x = &in->xattrs[i];

		if (lgetxattr(path, x->name, value, sizeof(value)) !=
			    (ssize_t)x->size ||
		    memcmp(value, x->value, x->size))
			return false;
	}
	return n == in->xattr_count;
}

static unsigned int judge_attached(const char *path, const struct fb_inode *in)
{
	if ((!S_ISLNK(in->mode) || same_target(path, in)) && same_xattrs(path, in))
		return 0;
	print_error("%s has another target or other attributes\n", path);
	return 1;
}

/* Our own reader: the digests first, then every byte of every regular file. */
static unsigned int judge_reader(struct run *r)
{
	struct fb_err err = FB_ERR_INIT;
	struct fb_image image;
	unsigned int n = 0;

	assert_ok(fb_image_open(&r->memory.store, &image, &err), &err);
	assert_ok(fb_image_verify(&image, NULL, NULL, 1, NULL, &err), &err);
	for (uint32_t i = 0; i < image.tree.inode_count; i++) {
		fb_autofree char *path = fb_tree_path(&image.tree, i);
		fb_autoclose int fd = -1, source = -1;

		if (!strncmp(path, state_dir, strlen(state_dir)))
			n += judge_attached(path, &image.tree.inodes[i]);
		if (!S_ISREG(image.tree.inodes[i].mode))
			continue;
		fd = memfd_create("read", MFD_CLOEXEC);
		source = open(path, O_RDONLY);
		assert_int_equal(ftruncate(fd, (off_t)image.tree.inodes[i].size), 0);
		assert_ok(fb_image_read_file(&image, i, fd, &err), &err);
		if (source < 0 || size_of(source) != size_of(fd) ||
		    !same_bytes(source, fd, size_of(fd))) {
			print_error("%s has other bytes\n", path);
			n++;
		}
	}
	fb_image_close(&image);
	return n;
}

/* ---- the tests
 * -------------------------------------------------------------------------- */

/* With the sanitizers, which are slow, other seeds and fewer. */
#ifdef __SANITIZE_ADDRESS__
static unsigned int runs = 50, first_seed = 10001;
#else
static unsigned int runs = 250, first_seed = 1;
#endif

static void test_random(void **state)
{
	struct fb_precopy_result sum = { 0 };
	unsigned int steps = 0, moved = 0;

	(void)state;
	need_tmpfs();
	for (uint32_t seed = first_seed; seed < first_seed + runs; seed++) {
		const struct fb_precopy_result *p;
		unsigned int wrong;
		struct run r;

		run_make(&r, seed);
		save_running(&r);
		wrong = judge_reader(&r) + judge_kernel(&r);
		if (wrong)
			print_error("seed %u: %u differences\n", seed, wrong);
		assert_int_equal(wrong, 0);
		p = &r.precopy->result;
		sum.rounds += p->rounds;
		sum.leases_broken += p->leases_broken;
		sum.clean_bytes += p->clean_bytes;
		sum.compared_bytes += p->compared_bytes;
		sum.written_bytes += p->written_bytes;
		moved += p->moved;
		steps += r.inside.done + r.beside.done;
		app_stop(&r.inside);
		app_stop(&r.beside);
		run_free(&r);
	}
	print_message("%u runs, %u rounds, %u steps meanwhile, %zu leases broken; "
		      "at the end clean %llu KiB, compared %llu KiB, written %llu KiB; "
		      "%u times all moved; judged by the kernel: %s\n",
		      runs, sum.rounds, steps, sum.leases_broken,
		      (unsigned long long)sum.clean_bytes >> 10,
		      (unsigned long long)sum.compared_bytes >> 10,
		      (unsigned long long)sum.written_bytes >> 10, moved,
		      have_erofs ? "yes" : "no");
	assert_true(sum.clean_bytes && sum.compared_bytes && sum.leases_broken);
	assert_true(sum.written_bytes < sum.compared_bytes);
}

/* ---- single cases
 * -------------------------------------------------------------------------- */

static const char *path_of(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", state_dir, name);
	return path;
}

static void make_file(const char *name, size_t size)
{
	fb_autoclose int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	fb_autofree uint8_t *bytes = malloc(size);

	memset(bytes, 'x', size);
	assert_int_equal(pwrite(fd, bytes, size, 0), size);
}

/* A state of two files, one of them mapped: *map is writable and shared. */
static void two_files(struct run *r, uint8_t **map)
{
	int fd;

	remove_state();
	assert_int_equal(mkdir(state_dir, 0755), 0);
	memset(r, 0, sizeof(*r));
	memory_store_make(&r->memory, STORE_SIZE, 0xa5);
	make_file("still", 500000);
	make_file("mapped", 100000);
	fd = open(path_of("mapped"), O_RDWR);
	*map = mmap(NULL, 100000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(*map != MAP_FAILED);
	close(fd);
}

static int copy_ahead(struct run *r, const struct fb_progress *progress,
		      struct fb_err *err)
{
	static struct fb_state_dir dir = { "s", state_dir, NULL, 0 };
	static const struct fb_save_dirs dirs = { &dir, 1 };
	const struct fb_precopy_options options = { &dirs,    &r->memory.store,
						    progress, progress,
						    1,	      1 };

	return fb_precopy_run(&options, &r->precopy, err);
}

static void commit(struct run *r)
{
	const struct fb_origin origin = { .generation = r->precopy->generation };
	const struct fb_save *save = &r->precopy->save;
	struct fb_err err = FB_ERR_INIT;

	assert_ok(fb_image_commit(&r->memory.store, &save->scan.tree, &save->plan,
				  &origin, &err),
		  &err);
}

/* ---- a second look
 * ------------------------------------------------------------------------ */

static void scan_after(const struct fb_state_index *index, struct fb_state_scan *scan)
{
	static const struct fb_state_dir dir = { "s", state_dir, NULL, 0 };
	struct fb_err err = FB_ERR_INIT;

	assert_ok(fb_state_scan_again(&dir, 1, index, NULL, scan, &err), &err);
}

static struct fb_inode *inode_of(struct fb_state_scan *scan, const char *name)
{
	uint32_t inode = fb_tree_lookup(&scan->tree, path_of(name));

	assert_int_not_equal(inode, FB_INODE_NONE);
	return &scan->tree.inodes[inode];
}

/* What a second look at the file and the link says: from the first, or the files? */
static void expect_marks(const struct fb_state_index *index, char file, char link)
{
	struct fb_state_scan scan = FB_STATE_SCAN_INIT;
	const struct fb_inode *i;

	scan_after(index, &scan);
	i = inode_of(&scan, "file");
	assert_int_equal(i->xattr_count, 1);
	assert_string_equal(i->xattrs[0].name, "trusted.a");
	assert_int_equal(i->xattrs[0].size, 1);
	assert_int_equal(*(char *)i->xattrs[0].value, file);
	i = inode_of(&scan, "link");
	assert_int_equal(i->size, 3);
	assert_int_equal(i->target[2], link);
	fb_state_scan_free(&scan);
}

static void wait_for_tick(void)
{
	const struct timespec tick = { 0, 15000000 }; /* CONFIG_HZ is 100 or more */

	nanosleep(&tick, NULL);
}

static bool times_are_trusted(void)
{
	struct utsname uts;
	unsigned int major, minor;

	return !uname(&uts) && sscanf(uts.release, "%u.%u", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 6));
}

/* In the first scan 'f' is put for what the files have, 'w'. */
static void test_taken_over(void **state)
{
	struct fb_state_scan first = FB_STATE_SCAN_INIT;
	struct fb_state_index *index;
	struct fb_err err = FB_ERR_INIT;
	struct stat st;

	(void)state;
	need_tmpfs();
	if (!times_are_trusted())
		skip();
	remove_state();
	assert_int_equal(mkdir(state_dir, 0755), 0);
	make_file("file", 1);
	assert_int_equal(setxattr(path_of("file"), "trusted.a", "w", 1, 0), 0);
	assert_int_equal(symlink("..w", path_of("link")), 0);
	wait_for_tick();
	scan_after(NULL, &first);
	assert_ok(fb_state_index_make(&first, &index, &err), &err);
	*(char *)inode_of(&first, "file")->xattrs[0].value = 'f';
	inode_of(&first, "link")->target[2] = 'f';
	expect_marks(index, 'f', 'f');
	/* A ctime that the clock still showed when the scan began says nothing. */
	assert_int_equal(lstat(path_of("file"), &st), 0);
	first.began_sec = st.st_ctim.tv_sec;
	first.began_nsec = (uint32_t)st.st_ctim.tv_nsec;
	expect_marks(index, 'w', 'w');
	assert_int_equal(lstat(path_of("link"), &st), 0);
	first.began_sec = st.st_ctim.tv_sec;
	first.began_nsec = (uint32_t)st.st_ctim.tv_nsec + 1;
	expect_marks(index, 'f', 'f');
	assert_int_equal(chmod(path_of("file"), 0640), 0);
	expect_marks(index, 'w', 'f');
	assert_int_equal(unlink(path_of("link")), 0);
	assert_int_equal(symlink("..n", path_of("link")), 0);
	expect_marks(index, 'w', 'n');
	free(index);
	fb_state_scan_free(&first);
}

/* As fast as it goes: most changes are in the tick of the scan before. */
static void test_changed_in_one_tick(void **state)
{
	unsigned int early = 0;

	(void)state;
	need_tmpfs();
	remove_state();
	assert_int_equal(mkdir(state_dir, 0755), 0);
	make_file("file", 1);
	for (unsigned int i = 0; i < 2000; i++) {
		struct fb_state_scan a = FB_STATE_SCAN_INIT, b = FB_STATE_SCAN_INIT;
		struct fb_err err = FB_ERR_INIT;
		struct fb_state_index *index;
		const struct fb_inode *in;

		if (i % 20 == 19)
			wait_for_tick();
		scan_after(NULL, &a);
		assert_int_equal(
			setxattr(path_of("file"), "trusted.a", &i, sizeof(i), 0), 0);
		assert_ok(fb_state_index_make(&a, &index, &err), &err);
		scan_after(index, &b);
		in = inode_of(&b, "file");
		assert_int_equal(in->xattr_count, 1);
		assert_memory_equal(in->xattrs[0].value, &i, sizeof(i));
		early += a.began_sec == b.began_sec && a.began_nsec == b.began_nsec;
		free(index);
		fb_state_scan_free(&a);
		fb_state_scan_free(&b);
	}
	print_message("%u of 2000 changes in the tick of the scan\n", early);
	assert_true(early > 100);
}

/* Neither mtime nor ctime says so, and no descriptor is open. */
static void test_write_through_mapping(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	uint8_t *map;
	struct run r;

	(void)state;
	need_tmpfs();
	two_files(&r, &map);
	assert_ok(copy_ahead(&r, NULL, &err), &err);
	map[50000] = '!';
	assert_ok(fb_precopy_rescan(r.precopy, &err), &err);
	assert_ok(fb_precopy_complete(r.precopy, &err), &err);
	commit(&r);
	assert_int_equal(judge_reader(&r) + judge_kernel(&r), 0);
	assert_int_equal(r.precopy->result.leases_held, 1);
	assert_int_equal(r.precopy->result.compared_bytes, 25 * 4096);
	assert_int_equal(r.precopy->result.written_bytes, 4096);
	munmap(map, 100000);
	run_free(&r);
}

/* Somebody was not stopped: also one that only opens it, to map it perhaps. */
static void test_opened_after_rescan(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	uint8_t *map;
	struct run r;
	int fd;

	(void)state;
	need_tmpfs();
	two_files(&r, &map);
	assert_ok(copy_ahead(&r, NULL, &err), &err);
	assert_ok(fb_precopy_rescan(r.precopy, &err), &err);
	fd = open(path_of("still"), O_RDWR);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(fb_precopy_complete(r.precopy, &err), -ESTALE);
	assert_non_null(strstr(err.text, "still' was opened for writing"));
	munmap(map, 100000);
	run_free(&r);
}

static void test_changed_after_rescan(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	uint8_t *map;
	struct run r;

	(void)state;
	need_tmpfs();
	two_files(&r, &map);
	assert_ok(copy_ahead(&r, NULL, &err), &err);
	assert_ok(fb_precopy_rescan(r.precopy, &err), &err);
	assert_int_equal(unlink(path_of("still")), 0);
	assert_int_equal(fb_precopy_complete(r.precopy, &err), -ESTALE);
	munmap(map, 100000);
	run_free(&r);
}

static void test_grown_too_large(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	uint8_t *map;
	struct run r;

	(void)state;
	need_tmpfs();
	two_files(&r, &map);
	assert_ok(copy_ahead(&r, NULL, &err), &err);
	make_file("large", STORE_SIZE);
	assert_int_equal(fb_precopy_rescan(r.precopy, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "the state does not fit: the image needs"));
	munmap(map, 100000);
	run_free(&r);
}

static int interrupt(void *context, uint64_t done, uint64_t total)
{
	unsigned int *left = context;

	(void)done, (void)total;
	return *left && !--*left ? -EINTR : 0;
}

/* At every place where it is asked for; then there is no image, and no lease. */
static void test_interrupted(void **state)
{
	bool complete = false;

	(void)state;
	need_tmpfs();
	for (unsigned int at = 1; !complete; at++) {
		unsigned int left = at;
		const struct fb_progress progress = { interrupt, &left };
		struct fb_err err = FB_ERR_INIT;
		struct fb_image image;
		uint8_t *map;
		struct run r;
		int rc, fd;

		two_files(&r, &map);
		rc = copy_ahead(&r, &progress, &err);
		assert_true(!rc || (rc == -EINTR && err.error == EINTR));
		complete = !rc;
		fb_precopy_free(r.precopy);
		r.precopy = NULL;
		assert_int_equal(fb_image_open(&r.memory.store, &image, NULL) < 0, 1);
		/* Would fail with EWOULDBLOCK while there is a lease. */
		fd = open(path_of("still"), O_RDWR | O_NONBLOCK);
		assert_true(fd >= 0);
		close(fd);
		munmap(map, 100000);
		run_free(&r);
		assert_true(at < 100);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_taken_over),
		cmocka_unit_test(test_changed_in_one_tick),
		cmocka_unit_test(test_write_through_mapping),
		cmocka_unit_test(test_opened_after_rescan),
		cmocka_unit_test(test_changed_after_rescan),
		cmocka_unit_test(test_grown_too_large),
		cmocka_unit_test(test_interrupted),
		cmocka_unit_test(test_random),
	};

	if (argc > 1)
		runs = (unsigned int)atoi(argv[1]);
	if (argc > 2)
		first_seed = (unsigned int)atoi(argv[2]);
	return cmocka_run_group_tests(tests, setup, teardown);
}
