/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * treediff [-n] A B: is B the same tree as A? Compares names, types, modes,
 * owners, sizes, times (ns), link counts, device numbers, targets, extended
 * attributes, which names are the same file, contents, and, unless -n, that
 * B allocates no more than A (holes). Shares no code with the program under
 * test. Prints each difference (100 at most), then
 *   NAMES BYTES FIELDS DIFFERENCES
 * compared. Exit status 1 on a difference.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static unsigned long long names, bytes, fields, differences;
static bool holes = true;

static void differ(const char *path, const char *what)
{
	if (differences++ < 100)
		printf("differs: %s: %s\n", path, what);
}

static void field(bool same, const char *path, const char *what)
{
	fields++;
	if (!same)
		differ(path, what);
}

/* Which file of B belongs to one of A, by device and inode. */
struct pair {
	uint64_t dev, ino, other_dev, other_ino;
};

static int compare_pairs(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

/* False: it was compared before, under another name. */
static bool same_pair(const char *path, const struct stat *a, const struct stat *b)
{
	static void *pairs;
	struct pair *p = malloc(sizeof(*p)), **found;

	*p = (struct pair){ a->st_dev, a->st_ino, b->st_dev, b->st_ino };
	found = tsearch(p, &pairs, compare_pairs);
	if (*found == p)
		return true;
	field((*found)->other_dev == p->other_dev &&
		      (*found)->other_ino == p->other_ino,
	      path, "hard link");
	free(p);
	return false;
}

static bool read_all(int fd, char *buffer, size_t size, ssize_t *got)
{
	*got = 0;
	while ((size_t)*got < size) {
		ssize_t n = read(fd, buffer + *got, size - (size_t)*got);

		if (n < 0)
			return false;
		if (!n)
			break;
		*got += n;
	}
	return true;
}

static bool is_hole(int fd, off_t at, off_t length)
{
	off_t data = lseek(fd, at, SEEK_DATA);
	bool hole = (data < 0 && errno == ENXIO) || data >= at + length;

	lseek(fd, at, SEEK_SET);
	return hole;
}

static bool same_contents(const char *a, const char *b, off_t size)
{
	static char x[1 << 20], y[1 << 20];
	int f = open(a, O_RDONLY), g = open(b, O_RDONLY);
	bool same = f >= 0 && g >= 0;

	for (off_t at = 0; same && at < size; at += (off_t)sizeof(x)) {
		ssize_t n, m;

		/* A terabyte of hole, in both: not read. */
		if (is_hole(f, at, sizeof(x)) && is_hole(g, at, sizeof(y)))
			continue;
		lseek(f, at, SEEK_SET);
		lseek(g, at, SEEK_SET);
		same = read_all(f, x, sizeof(x), &n) && read_all(g, y, sizeof(y), &m) &&
		       n == m && !memcmp(x, y, (size_t)n);
		bytes += (unsigned long long)(same ? n : 0);
	}
	if (f >= 0)
		close(f);
	if (g >= 0)
		close(g);
	return same;
}

static ssize_t list(const char *path, char *buffer, size_t size)
{
	ssize_t n = llistxattr(path, buffer, size);

	return n < 0 && errno == EOPNOTSUPP ? 0 : n;
}

static size_t count_names(const char *buffer, ssize_t length)
{
	size_t n = 0;

	for (ssize_t i = 0; i < length; i++)
		n += !buffer[i];
	return n;
}

static void compare_xattrs(const char *a, const char *b)
{
	static char x[65536], y[65536], v[65536], w[65536];
	ssize_t n = list(a, x, sizeof(x)), m = list(b, y, sizeof(y));

	field(n >= 0 && m >= 0 && count_names(x, n) == count_names(y, m), a,
	      "number of xattrs");
	for (char *name = x; n > 0 && name < x + n; name += strlen(name) + 1) {
		ssize_t i = lgetxattr(a, name, v, sizeof(v));
		ssize_t k = lgetxattr(b, name, w, sizeof(w));

		field(i == k && (i <= 0 || !memcmp(v, w, (size_t)i)), a, name);
	}
}

static bool same_target(const char *a, const char *b)
{
	char x[4097], y[4097];
	ssize_t n = readlink(a, x, sizeof(x)), m = readlink(b, y, sizeof(y));

	return n >= 0 && n == m && !memcmp(x, y, (size_t)n);
}

static void compare_stat(const char *path, const struct stat *a, const struct stat *b)
{
	field(a->st_mode == b->st_mode, path, "mode");
	field(a->st_uid == b->st_uid, path, "uid");
	field(a->st_gid == b->st_gid, path, "gid");
	field(a->st_mtim.tv_sec == b->st_mtim.tv_sec, path, "mtime");
	field(a->st_mtim.tv_nsec == b->st_mtim.tv_nsec, path, "mtime nanoseconds");
	field(a->st_nlink == b->st_nlink, path, "link count");
	if (S_ISREG(a->st_mode) || S_ISLNK(a->st_mode))
		field(a->st_size == b->st_size, path, "size");
	if (S_ISCHR(a->st_mode) || S_ISBLK(a->st_mode))
		field(a->st_rdev == b->st_rdev, path, "device number");
}

static int is_name(const struct dirent *entry)
{
	return strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void compare(const char *a, const char *b);

static void compare_both(const char *a, const char *b, const char *name)
{
	char *x, *y;

	if (asprintf(&x, "%s/%s", a, name) < 0 || asprintf(&y, "%s/%s", b, name) < 0)
		exit(2);
	compare(x, y);
	free(x);
	free(y);
}

static void compare_entries(const char *a, const char *b)
{
	struct dirent **x = NULL, **y = NULL;
	int n = scandir(a, &x, is_name, by_bytes),
	    m = scandir(b, &y, is_name, by_bytes);
	int i = 0, k = 0;

	field(n >= 0 && m >= 0, a, "cannot be listed");
	while (i < n || k < m) {
		int order = i == n   ? 1
			    : k == m ? -1
				     : strcmp(x[i]->d_name, y[k]->d_name);

		if (order)
			differ(order < 0 ? x[i]->d_name : y[k]->d_name,
			       order < 0 ? "is missing" : "is too many");
		else
			compare_both(a, b, x[i]->d_name);
		if (order <= 0)
			free(x[i++]);
		if (order >= 0)
			free(y[k++]);
	}
	free(x);
	free(y);
}

/*
 * 512-byte blocks of holes that may be filled: an image describes files of
 * more than 1 GiB in larger units (SPEC.md).
 */
static blkcnt_t may_fill(const struct stat *st)
{
	return st->st_size > (1 << 30) ? (st->st_size >> 15) / 512 : 0;
}

static void compare(const char *a, const char *b)
{
	struct stat x, y;

	names++;
	if (lstat(a, &x) || lstat(b, &y)) {
		differ(a, strerror(errno));
		return;
	}
	if (!S_ISDIR(x.st_mode) && !same_pair(a, &x, &y))
		return;
	compare_stat(a, &x, &y);
	compare_xattrs(a, b);
	if (S_ISLNK(x.st_mode))
		field(same_target(a, b), a, "target");
	if (S_ISREG(x.st_mode)) {
		field(same_contents(a, b, x.st_size), a, "contents");
		if (holes)
			field(y.st_blocks <= x.st_blocks + may_fill(&x), a,
			      "a hole was filled");
	}
	if (S_ISDIR(x.st_mode) && S_ISDIR(y.st_mode))
		compare_entries(a, b);
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "-n")) {
		holes = false;
		argc--, argv++;
	}
	if (argc != 3) {
		fprintf(stderr, "usage: treediff [-n] A B\n");
		return 2;
	}
	compare(argv[1], argv[2]);
	printf("%llu %llu %llu %llu\n", names, bytes, fields, differences);
	return differences != 0;
}
