/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * churn DIR SECONDS KIB: an application that changes the files in DIR without
 * a pause, in every way there is, until it gets SIGTERM or SECONDS are over;
 * then it leaves them as they are. KIB is how much it writes in a second, for
 * all ways together, about.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILES 32u
#define MAPS  3u
#define CHUNK 4096u

static volatile sig_atomic_t stop;
static uint64_t seed = 88172645463325252u, written;
static const char *dir;

struct map {
	uint8_t *at;
	size_t size;
};

static struct map maps[MAPS];

static void on_signal(int number)
{
	(void)number;
	stop = 1;
}

static uint64_t roll(uint64_t sides)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % sides;
}

static const char *name(char *path)
{
	snprintf(path, 256, "%s/churn%u", dir, (unsigned int)roll(FILES));
	return path;
}

static void write_at(int fd, uint64_t at)
{
	uint64_t bytes[CHUNK / 8];

	for (size_t i = 0; i < CHUNK / 8; i++)
		bytes[i] = seed + i * 0x9e3779b97f4a7c15u;
	roll(2);
	if (pwrite(fd, bytes, sizeof(bytes), (off_t)at) > 0)
		written += sizeof(bytes);
}

static uint64_t size_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) ? 0 : (uint64_t)st.st_size;
}

/* One of the files that fill the state: a page in the middle. */
static void write_large(void)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/large%u", dir, (unsigned int)roll(2));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	write_at(fd, roll(size_of(fd) + 1));
	close(fd);
}

static void write_small(void)
{
	char path[256];
	int fd = open(name(path), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return;
	for (unsigned int i = 0; i < 4; i++)
		write_at(fd, roll(2) ? size_of(fd) : roll(size_of(fd) + 1));
	close(fd);
}

/* Writable and shared, and no descriptor is left. */
static void map_again(void)
{
	struct map *m = &maps[roll(MAPS)];
	char path[256];
	int fd;

	if (m->at)
		munmap(m->at, m->size);
	m->at = NULL;
	snprintf(path, sizeof(path), "%s/mapped%u", dir, (unsigned int)roll(MAPS));
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	m->size = size_of(fd);
	m->at = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m->at == MAP_FAILED)
		m->at = NULL;
	close(fd);
}

static void poke(void)
{
	struct map *m = &maps[roll(MAPS)];

	if (!m->at)
		return;
	for (unsigned int i = 0; i < 8; i++)
		m->at[roll(m->size)] = (uint8_t)roll(256);
	written += 8 * (uint64_t)CHUNK;
}

static void change_names(void)
{
	char a[256], b[256];
	int fd;

	switch (roll(6)) {
	case 0:
		unlink(name(a));
		break;
	case 1:
		if (truncate(name(a), (off_t)roll(200000)))
			break;
		break;
	case 2:
		fd = open(name(a), O_RDWR | O_CLOEXEC);
		if (fd >= 0) {
			fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  (off_t)roll(size_of(fd) + 1),
				  (off_t)(1 + roll(100000)));
			close(fd);
		}
		break;
	case 3:
		if (link(name(a), name(b)))
			break;
		break;
	default:
		rename(name(a), name(b));
	}
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void step(void)
{
	static void (*const steps[])(void) = { write_large, write_small, write_small,
					       map_again,   poke,	 poke,
					       poke,	    change_names };

	steps[roll(sizeof(steps) / sizeof(steps[0]))]();
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };
	double start = now(), seconds, rate;

	if (argc != 4)
		return 2;
	dir = argv[1];
	seconds = atof(argv[2]);
	rate = atof(argv[3]) * 1024;
	sigaction(SIGTERM, &action, NULL);
	while (!stop && now() - start < seconds) {
		struct timespec pause = { 0, 2000000 };

		if ((double)written > rate * (now() - start))
			nanosleep(&pause, NULL);
		else
			step();
	}
	printf("%llu KiB written in %.1f s\n", (unsigned long long)written >> 10,
	       now() - start);
	return 0;
}
