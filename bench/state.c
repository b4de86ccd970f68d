/* SPDX-License-Identifier: GPL-2.0-or-later */
/* state - see state.h. Filled and compared with all processors. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "state.h"

#define TABLE	65536u
#define BATCH	256u /* blocks written or read at once */
#define THREADS 2u

static unsigned char table[TABLE + BLOCK];

/* ---- the contents ------------------------------------------------------------ */

/* splitmix64 (Vigna, public domain) */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

void state_init(void)
{
	for (uint64_t i = 0; i < sizeof(table) / 8; i++) {
		uint64_t word = mix(i);

		memcpy(table + 8 * i, &word, 8);
	}
}

static void make_block(unsigned char *to, uint64_t file, uint64_t block,
		       uint64_t generation)
{
	uint64_t id = file << 32 | block;

	memcpy(to, table + (mix(id ^ generation << 56) % TABLE & ~7u), BLOCK);
	memcpy(to, &id, 8);
	memcpy(to + 8, &generation, 8);
}

/* Sizes differ so that most are no multiple of a page. */
static uint64_t file_size(const struct state *s, uint64_t file)
{
	uint64_t each = s->size / s->files, odd = file % 16 * 8;

	return s->files == 1 || each <= odd ? each : each - odd;
}

static uint64_t generation_of(const struct state *s, uint64_t file, uint64_t block)
{
	uint64_t at = s->size / s->files * file + block * BLOCK;

	return s->generation + (at < s->changed);
}

void state_block(const struct state *s, uint64_t file, uint64_t block,
		 unsigned char *to)
{
	make_block(to, file, block, generation_of(s, file, block));
}

char *state_path(const struct state *s, uint64_t file, char path[512])
{
	snprintf(path, 512, "%s/d%03" PRIu64 "/f%06" PRIu64, s->dir, file / 1000, file);
	return path;
}

uint64_t state_number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (*end || end == text) {
		fprintf(stderr, "guest: '%s' is not a number\n", text);
		exit(2);
	}
	return n;
}

struct state state_parse(char **argv)
{
	struct state s = { .files = 1 };

	if (!argv[0] || !argv[1] || !argv[2] || !argv[3]) {
		fprintf(stderr, "guest: wanted DIR SIZE FILES GENERATION [CHANGED]\n");
		exit(2);
	}
	snprintf(s.dir, sizeof(s.dir), "%s", argv[0]);
	s.size = state_number(argv[1]);
	s.files = state_number(argv[2]);
	s.generation = state_number(argv[3]);
	s.changed = argv[4] ? state_number(argv[4]) : 0;
	return s;
}

/* ---- filling and verifying, with all processors --------------------------------- */

struct job {
	const struct state *s;
	unsigned int thread;
	bool verify;
	uint64_t files, bytes, bad;
};

_Noreturn void fail(const char *what, const char *path)
{
	fprintf(stderr, "guest: %s %s: %s\n", what, path, strerror(errno));
	exit(1);
}

/* The expected contents of up to BATCH blocks from `block` on; how many bytes. */
static size_t expect(const struct state *s, uint64_t file, uint64_t block,
		     unsigned char *to)
{
	uint64_t left = file_size(s, file) - block * BLOCK;
	size_t n = left < BATCH * BLOCK ? left : BATCH * BLOCK;

	for (size_t i = 0; i * BLOCK < n; i++)
		state_block(s, file, block + i, to + i * BLOCK);
	return n;
}

/* A change writes only what changes, in place. */
static void fill_file(const struct state *s, uint64_t file, unsigned char *bytes)
{
	uint64_t start = s->size / s->files * file;
	uint64_t size = file_size(s, file);
	char path[512];
	int fd = open(state_path(s, file, path), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0 || ftruncate(fd, (off_t)size))
		fail("cannot make", path);
	for (uint64_t b = 0; b * BLOCK < size; b += BATCH) {
		size_t n = expect(s, file, b, bytes);

		if (s->changed && start + b * BLOCK >= s->changed)
			break;
		if (pwrite(fd, bytes, n, (off_t)(b * BLOCK)) != (ssize_t)n)
			fail("cannot write", path);
	}
	close(fd);
}

static bool same_file(const struct state *s, uint64_t file, unsigned char *buffer)
{
	unsigned char *got = buffer, *wanted = buffer + BATCH * BLOCK;
	uint64_t size = file_size(s, file);
	char path[512];
	struct stat st;
	bool same;
	int fd = open(state_path(s, file, path), O_RDONLY | O_CLOEXEC);

	same = fd >= 0 && !fstat(fd, &st) && (uint64_t)st.st_size == size;
	for (uint64_t b = 0; same && b * BLOCK < size; b += BATCH) {
		size_t n = expect(s, file, b, wanted);

		same = pread(fd, got, n, (off_t)(b * BLOCK)) == (ssize_t)n &&
		       !memcmp(got, wanted, n);
	}
	if (!same)
		fprintf(stderr, "guest: %s is wrong\n", path);
	if (fd >= 0)
		close(fd);
	return same;
}

static void *work(void *context)
{
	struct job *j = context;
	unsigned char *buffer = aligned_alloc(BLOCK, (size_t)2 * BATCH * BLOCK);

	for (uint64_t f = j->thread; buffer && f < j->s->files; f += THREADS) {
		if (!j->verify && j->s->changed &&
		    j->s->size / j->s->files * f >= j->s->changed)
			break;
		if (!j->verify)
			fill_file(j->s, f, buffer);
		else if (!same_file(j->s, f, buffer))
			j->bad++;
		j->files++;
		j->bytes += file_size(j->s, f);
	}
	free(buffer);
	return NULL;
}

static struct job run_job(const struct state *s, bool verify)
{
	struct job jobs[THREADS], sum = { .s = s };
	pthread_t threads[THREADS];

	for (unsigned int i = 0; i < THREADS; i++) {
		jobs[i] = (struct job){ .s = s, .thread = i, .verify = verify };
		if (pthread_create(&threads[i], NULL, work, &jobs[i]))
			fail("cannot start", "a thread");
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		sum.files += jobs[i].files;
		sum.bytes += jobs[i].bytes;
		sum.bad += jobs[i].bad;
	}
	return sum;
}

void state_write(const struct state *s)
{
	run_job(s, false);
}

int state_fill(char **argv)
{
	struct state s = state_parse(argv);
	char path[512];
	struct job sum;

	for (uint64_t d = 0; d * 1000 < s.files; d++) {
		snprintf(path, sizeof(path), "%s/d%03" PRIu64, s.dir, d);
		if (mkdir(path, 0755) && errno != EEXIST)
			fail("cannot make", path);
	}
	sum = run_job(&s, false);
	printf("%" PRIu64 " files %" PRIu64 " bytes\n", sum.files, sum.bytes);
	return 0;
}

static uint64_t files_seen;

static int count(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)path, (void)st, (void)at;
	files_seen += type == FTW_F;
	return 0;
}

int state_verify(char **argv)
{
	struct state s = state_parse(argv);
	struct job sum = run_job(&s, true);

	if (nftw(s.dir, count, 64, FTW_PHYS))
		fail("cannot read", s.dir);
	printf("%" PRIu64 " files %" PRIu64 " bytes %" PRIu64 " wrong\n", sum.files,
	       sum.bytes, sum.bad);
	if (files_seen != s.files)
		fprintf(stderr, "guest: %s has %" PRIu64 " files, not %" PRIu64 "\n",
			s.dir, files_seen, s.files);
	return sum.bad || files_seen != s.files ? 1 : 0;
}
