/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lazyops - random changes to a tree, the same ones for the same seed:
 *
 *	lazyops SEED COUNT DIR
 *
 * Prints what each did and what was read, so that a tree restored lazily can
 * be compared with one restored eagerly: by this output and by the tree that is left.
 *Root.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NAMES_MAX 20000

static char *names[NAMES_MAX];
static size_t name_count;
static uint64_t rng;
static const char *top;

static uint64_t rnd(uint64_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return below ? (rng * 0x2545f4914f6cdd1dull >> 20) % below : 0;
}

static int add_name(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	if (type == FTW_F && S_ISREG(st->st_mode) && name_count < NAMES_MAX)
		names[name_count++] = strdup(path);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* FNV-1a of what can be read, with its length and what stopped it. */
static void print_sum(const char *what, int fd)
{
	static unsigned char buf[65536] __attribute__((aligned(4096)));
	uint64_t hash = 0xcbf29ce484222325ull, length = 0;
	ssize_t n;

	if (fd < 0) {
		printf("%s: %s\n", what, strerrorname_np(errno));
		return;
	}
	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (ssize_t i = 0; i < n; i += 8) {
			hash ^= buf[i];
			hash *= 0x100000001b3ull;
		}
		length += (uint64_t)n;
	}
	printf("%s: %llu bytes, %016llx%s\n", what, (unsigned long long)length,
	       (unsigned long long)hash, n < 0 ? " error" : "");
	close(fd);
}

static void print_rc(const char *what, int rc)
{
	printf("%s: %s\n", what, rc < 0 ? strerrorname_np(errno) : "ok");
}

static uint64_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : (uint64_t)st.st_size;
}

static void op_truncate(const char *path)
{
	uint64_t size = size_of(path), to = rnd(2 * size + 5000);

	print_rc("truncate", truncate(path, (off_t)to));
}

/* The bytes in between must not come back. */
static void op_shrink_grow(const char *path)
{
	uint64_t size = size_of(path), to = rnd(size + 1);

	print_rc("shrink", truncate(path, (off_t)to));
	print_rc("grow", truncate(path, (off_t)(size + rnd(3) * 1000)));
}

static void op_o_trunc(const char *path)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	print_rc("O_TRUNC", fd);
	if (fd >= 0 && rnd(2))
		print_rc("write", (int)write(fd, path, strlen(path)));
	if (fd >= 0)
		close(fd);
}

static void op_write(const char *path)
{
	int fd = open(path, rnd(2) ? O_WRONLY : O_WRONLY | O_APPEND);

	print_rc("open", fd);
	if (fd < 0)
		return;
	print_rc("pwrite",
		 (int)pwrite(fd, path, strlen(path), (off_t)rnd(size_of(path) + 1)));
	close(fd);
}

static void op_mmap(const char *path)
{
	uint64_t size = size_of(path);
	int fd = open(path, O_RDWR);
	char *map;

	print_rc("open", fd);
	if (fd < 0 || !size)
		return;
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map == MAP_FAILED)
		return;
	printf("mapped: %d\n", map[rnd(size)]);
	map[rnd(size)] = (char)rnd(256);
	munmap(map, size);
	/* Whether that changed the time depends on the kernel's fault-around. */
	utimensat(AT_FDCWD, path, (struct timespec[2]){ { 1, 0 }, { 1, 0 } }, 0);
}

static void op_rename(size_t i)
{
	char to[4096];

	if (rnd(3)) {
		snprintf(to, sizeof(to), "%s.%llu", names[i],
			 (unsigned long long)rnd(100));
		print_rc("rename", rename(names[i], to));
		free(names[i]);
		names[i] = strdup(to);
		return;
	}
	print_rc("rename over", rename(names[i], names[rnd(name_count)]));
}

static void op_link(const char *path)
{
	char to[4096];

	snprintf(to, sizeof(to), "%s/link-%llu", top, (unsigned long long)rnd(100000));
	print_rc("link", link(path, to));
	if (name_count < NAMES_MAX)
		names[name_count++] = strdup(to);
}

static void op_metadata(const char *path)
{
	const struct timespec times[2] = { { .tv_sec = (time_t)rnd(1000000000) },
					   { .tv_sec = (time_t)rnd(1000000000),
					     .tv_nsec = (long)rnd(1000000000) } };

	switch (rnd(4)) {
	case 0:
		print_rc("chmod", chmod(path, (mode_t)rnd(4096)));
		break;
	case 1:
		print_rc("chown", chown(path, (uid_t)rnd(5), (gid_t)rnd(5)));
		break;
	case 2:
		print_rc("utimensat", utimensat(AT_FDCWD, path, times, 0));
		break;
	case 3:
		print_rc("setxattr", setxattr(path, "trusted.test", times, 16, 0));
		break;
	}
}

static void op_read(const char *path)
{
	static const int flags[] = { O_RDONLY, O_RDONLY | O_NONBLOCK,
				     O_RDONLY | O_NOATIME, O_RDWR | O_NONBLOCK };

	print_sum("read", open(path, flags[rnd(4)]));
}

/* An open of a name that is no more. */
static void op_unlinked(const char *path)
{
	int fd = open(path, O_PATH | O_CLOEXEC);
	char link[64];

	print_rc("unlink", unlink(path));
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (fd >= 0)
		print_sum("by its link", open(link, O_RDONLY));
	if (fd >= 0)
		close(fd);
}

static void op_handle(const char *path)
{
	struct {
		struct file_handle handle;
		unsigned char bytes[MAX_HANDLE_SZ];
	} h = { .handle = { .handle_bytes = MAX_HANDLE_SZ } };
	int id, dir = open(top, O_RDONLY | O_DIRECTORY);

	if (name_to_handle_at(AT_FDCWD, path, &h.handle, &id, 0))
		print_rc("name_to_handle_at", -1);
	else
		print_sum("by handle", open_by_handle_at(dir, &h.handle, O_RDONLY));
	close(dir);
}

static void op_lease(const char *path)
{
	int fd = open(path, rnd(2) ? O_RDONLY : O_RDWR);
	int kind = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR ? F_WRLCK : F_RDLCK;

	print_rc("open", fd);
	if (fd < 0)
		return;
	print_rc("lease", fcntl(fd, F_SETLEASE, kind));
	print_sum("leased", fd);
}

static void op_exec(const char *path)
{
	pid_t pid;
	int status;

	fflush(stdout);
	if (chmod(path, 0755))
		return;
	pid = fork();
	if (!pid) {
		execl(path, path, (char *)NULL);
		_exit(errno);
	}
	waitpid(pid, &status, 0);
	printf("exec: %d\n", WEXITSTATUS(status));
}

static void one(void)
{
	size_t i = rnd(name_count);
	const char *path = names[i];

	printf("%s ", path + strlen(top));
	switch (rnd(14)) {
	case 0:
		return op_truncate(path);
	case 1:
		return op_shrink_grow(path);
	case 2:
		return op_o_trunc(path);
	case 3:
		return op_write(path);
	case 4:
		return op_mmap(path);
	case 5:
		return op_rename(i);
	case 6:
		return op_link(path);
	case 7:
		return op_unlinked(path);
	case 8:
		return op_handle(path);
	case 9:
		return op_lease(path);
	case 10:
		return op_exec(path);
	case 11:
		return op_read(path);
	default:
		return op_metadata(path);
	}
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	top = argv[3];
	rng = strtoull(argv[1], NULL, 10) * 0x9e3779b97f4a7c15ull + 1;
	if (nftw(top, add_name, 64, FTW_PHYS) || !name_count)
		return 1;
	qsort(names, name_count, sizeof(*names), by_name);
	for (long n = atol(argv[2]); n > 0; n--)
		one();
	return 0;
}
