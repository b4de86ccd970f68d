/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mktree KIND DIR [NUMBER]: fill the directory DIR with a tree to save.
 *
 *   nasty            every type of file and every kind of metadata
 *   small COUNT      COUNT files of 0 to 8 KiB in directories of 500
 *   big BYTES        one file of BYTES
 *   thousand BYTES   1,000 files of BYTES together, each of its size before it
 *                    has contents: huge=within_size gives it huge pages
 *   sparse [BYTES]   holes at the start, the end, in between, everywhere; and a
 *                    file of BYTES that is nearly all hole
 *   xattrs COUNT     a file with COUNT xattrs
 *   empty            nothing
 *
 * As root; what the file system cannot do (trusted xattrs, ACLs) is named on
 * stdout as "without: ..." and left out. Contents follow from a fixed seed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

static uint64_t seed = 88172645463325252u;

static uint64_t random64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "mktree: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void write_random(int fd, uint64_t bytes)
{
	static uint64_t buffer[1 << 17];

	while (bytes) {
		size_t n = bytes < sizeof(buffer) ? bytes : sizeof(buffer);

		for (size_t i = 0; i < (n + 7) / 8; i++)
			buffer[i] = random64();
		must(write(fd, buffer, n) == (ssize_t)n, "write");
		bytes -= n;
	}
}

static void file(const char *name, uint64_t bytes)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);

	must(fd >= 0, name);
	write_random(fd, bytes);
	close(fd);
}

static void thousand(uint64_t bytes)
{
	char name[32];

	for (unsigned int i = 0; i < 1000; i++) {
		int fd;

		snprintf(name, sizeof(name), "%u", i / 100);
		must(i % 100 || !mkdir(name, 0755), name);
		snprintf(name, sizeof(name), "%u/file%u", i / 100, i);
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0644);
		must(fd >= 0 && !ftruncate(fd, (off_t)(bytes / 1000)), name);
		write_random(fd, bytes / 1000);
		close(fd);
	}
}

static void hole_file(const char *name, uint64_t size, const uint64_t *at, size_t count)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);

	must(fd >= 0, name);
	must(!ftruncate(fd, (off_t)size), name);
	for (size_t i = 0; i < count; i++) {
		must(lseek(fd, (off_t)at[i], SEEK_SET) >= 0, name);
		write_random(fd, at[i] + 5000 > size ? size - at[i] : 5000);
	}
	close(fd);
}

static void directory(const char *name, mode_t mode)
{
	must(!mkdir(name, 0700) && !chmod(name, mode), name);
}

static void without(const char *what)
{
	printf("without: %s (%s)\n", what, strerror(errno));
}

static void xattr(const char *path, const char *name, const void *value, size_t size)
{
	if (lsetxattr(path, name, value, size, 0))
		without(name);
}

/* POSIX ACL as the kernel takes it: version 2, then tag, permissions, id. */
static void acl(const char *path, const char *name)
{
	const struct {
		uint32_t version;
		struct {
			uint16_t tag, perm;
			uint32_t id;
		} e[5];
	} value = { 2,
		    { { 0x01, 7, UINT32_MAX },
		      { 0x02, 5, 4242 },
		      { 0x04, 4, UINT32_MAX },
		      { 0x10, 5, UINT32_MAX },
		      { 0x20, 0, UINT32_MAX } } };

	xattr(path, name, &value, sizeof(value));
}

static void stamp(const char *path, int64_t sec, long nsec)
{
	const struct timespec t[2] = { { 1000000000, 1 }, { sec, nsec } };

	must(!utimensat(AT_FDCWD, path, t, AT_SYMLINK_NOFOLLOW), path);
}

static void unix_socket(const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strncpy(a.sun_path, name, sizeof(a.sun_path) - 1);
	must(!bind(fd, (struct sockaddr *)&a, sizeof(a)), name);
	close(fd);
}

static void nasty_names(void)
{
	char name[256], byte[2] = "";

	directory("names", 0755);
	must(!chdir("names"), "names");
	for (int c = 1; c < 256; c++) {
		byte[0] = (char)c;
		if (c != '/' && c != '.')
			file(byte, 1);
	}
	file("new\nline", 10);
	file("\xff\xfe not utf-8", 10);
	file("-rf *", 10);
	file("...", 10);

	memset(name, 'n', 255);
	name[255] = '\0';
	file(name, 100);
	must(!chdir(".."), "..");
}

static void nasty_xattrs(void)
{
	char name[64], *large = malloc(3000);

	memset(large, 'v', 3000);
	file("xattrs", 100);
	xattr("xattrs", "user.empty", "", 0);
	xattr("xattrs", "user.binary", "a\0b\xff\n", 5);
	xattr("xattrs", "user.large", large, 3000);
	xattr("xattrs", "trusted.secret", "only root", 9);
	xattr("xattrs", "security.anything", "label", 5);
	/* cap_net_bind_service+ep: chown would drop it. */
	xattr("xattrs", "security.capability",
	      "\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	must(!chown("xattrs", 7, 8), "chown");
	xattr("xattrs", "security.capability",
	      "\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
	file("many-xattrs", 0);
	for (int i = 0; i < 30; i++) {
		snprintf(name, sizeof(name), "user.n%d", i);
		xattr("many-xattrs", name, name, strlen(name));
	}
	must(!symlink("target", "xattr-link"), "symlink");
	xattr("xattr-link", "trusted.link", "1", 1);
	file("acl", 10);
	acl("acl", "system.posix_acl_access");
	directory("acl-dir", 0750);
	acl("acl-dir", "system.posix_acl_access");
	acl("acl-dir", "system.posix_acl_default");
	free(large);
}

static void nasty_types(void)
{
	char target[4001];

	memset(target, 't', 4000);
	target[4000] = '\0';
	must(!symlink("/etc/passwd", "link-absolute"), "symlink");
	must(!symlink("../../nowhere", "link-relative"), "symlink");
	must(!symlink("a\nb\xff", "link-bytes"), "symlink");
	must(!symlink(target, "link-long"), "symlink");
	must(!lchown("link-absolute", 65534, 4000000000u), "lchown");
	must(!mkfifo("fifo", 0640), "fifo");
	unix_socket("socket");
	must(!mknod("null", S_IFCHR | 0666, makedev(1, 3)), "mknod");
	must(!mknod("disk", S_IFBLK | 0660, makedev(4095, 1048575)), "mknod");
	directory("empty-dir", 0);
	directory("sticky", 01777);
	directory("setgid", 02775);
	must(!chown("setgid", 1, 2), "chown");
	must(!chmod("setgid", 02775), "chmod");
	file("setuid", 10);
	must(!chown("setuid", 1, 2), "chown");
	must(!chmod("setuid", 06755), "chmod");
	file("none", 10);
	must(!chmod("none", 0), "chmod");
}

static void nasty_links(void)
{
	char name[64];

	directory("a", 0700);
	directory("b", 0755);
	file("a/linked", 5000);
	must(!link("a/linked", "b/linked"), "link");
	must(!link("a/linked", "linked"), "link");
	must(!link("fifo", "a/fifo"), "link");
	must(!link("link-long", "b/link-long"), "link");
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "b/many-%d", i);
		must(!link("setuid", name), "link");
	}
}

static void nasty_deep(void)
{
	char name[32];

	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "level %d", i);
		directory(name, 0755);
		must(!chdir(name), name);
	}
	file("bottom", 1);
	for (int i = 0; i < 60; i++)
		must(!chdir(".."), "..");
}

static void nasty_sizes(void)
{
	static const uint64_t sizes[] = { 0,
					  1,
					  4095,
					  4096,
					  4097,
					  8191,
					  12288,
					  1048575,
					  1048576,
					  1048577,
					  (2 << 20),
					  (2 << 20) + 1,
					  (5 << 20) + 3 };
	char name[32];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		snprintf(name, sizeof(name), "size-%llu", (unsigned long long)sizes[i]);
		file(name, sizes[i]);
	}
}

static void nasty(void)
{
	nasty_names();
	nasty_types();
	nasty_links();
	nasty_xattrs();
	nasty_sizes();
	nasty_deep();
	stamp("size-0", 0, 0);
	stamp("size-1", 1, 999999999);
	stamp("size-4095", 4102444800, 123456789); /* 2100 */
	stamp("size-4096", -1, 500000000);	   /* before 1970 */
	stamp("link-absolute", 1234567890, 1);
	stamp("fifo", 1234567891, 2);
	stamp("null", 1234567892, 3);
	stamp("empty-dir", 1234567893, 4);
	stamp("a", 1234567894, 5);
	stamp(".", 1234567895, 6);
}

static void sparse(uint64_t huge)
{
	static const uint64_t at[] = { 0, 12288, 1 << 20, 777 << 12, 64 << 20 };

	hole_file("all-hole", 100 << 20, at, 0);
	hole_file("hole-first", (1 << 20) + 5000, at + 2, 1);
	hole_file("hole-last", 10 << 20, at, 1);
	hole_file("between", 65 << 20, at, 5);
	hole_file("odd", (64 << 20) + 777, at, 5);
	if (huge)
		hole_file("huge", huge, at, 5);
	hole_file("tiny-hole", 1, at, 0);
}

static void small(unsigned long count)
{
	char name[64];

	for (unsigned long i = 0; i < count; i++) {
		if (i % 500 == 0) {
			snprintf(name, sizeof(name), "d%05lu", i / 500);
			directory(name, 0755);
		}
		snprintf(name, sizeof(name), "d%05lu/file-%lu", i / 500, i);
		file(name, random64() % 8192);
	}
}

static void xattrs(unsigned long count)
{
	char name[64];

	file("xattrs", 10);
	for (unsigned long i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "user.number%lu", i);
		xattr("xattrs", name, name, strlen(name));
	}
}

int main(int argc, char **argv)
{
	const char *kind = argc > 2 ? argv[1] : "";
	uint64_t number = argc > 3 ? strtoull(argv[3], NULL, 0) : 0;

	umask(022);
	if (argc > 2 && chdir(argv[2]))
		must(false, argv[2]);
	if (!strcmp(kind, "nasty"))
		nasty();
	else if (!strcmp(kind, "sparse"))
		sparse(number);
	else if (!strcmp(kind, "small"))
		small(number);
	else if (!strcmp(kind, "xattrs"))
		xattrs(number);
	else if (!strcmp(kind, "big"))
		file("big", number);
	else if (!strcmp(kind, "thousand"))
		thousand(number);
	else if (strcmp(kind, "empty")) {
		fprintf(stderr, "usage: mktree nasty|small|big|thousand|sparse|xattrs|"
				"empty DIR [NUMBER]\n");
		return 2;
	}
	return 0;
}
