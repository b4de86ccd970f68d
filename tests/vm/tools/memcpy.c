/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memcpy BYTES THREADS: what the machine can do. Copies BYTES with memcpy(3),
 * each thread its share, between two buffers of 128 MiB on huge pages that were
 * touched before; prints the microseconds.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define WINDOW ((size_t)128 << 20)

struct share {
	char *from, *to;
	size_t bytes;
	pthread_barrier_t *start;
};

static uint64_t now_usec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void *copy(void *arg)
{
	struct share *s = arg;

	pthread_barrier_wait(s->start);
	for (size_t left = s->bytes; left;) {
		size_t n = left < WINDOW ? left : WINDOW;

		memcpy(s->to, s->from, n);
		__asm__ volatile("" : : "r"(s->to) : "memory");
		left -= n;
	}
	return NULL;
}

static char *touched(int value)
{
	char *p = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	madvise(p, WINDOW, MADV_HUGEPAGE);
	memset(p, value, WINDOW);
	return p;
}

int main(int argc, char **argv)
{
	size_t bytes = argc > 1 ? strtoull(argv[1], NULL, 0) : 0;
	unsigned int threads = argc > 2 ? (unsigned int)atoi(argv[2]) : 1;
	struct share shares[64];
	pthread_t ids[64];
	pthread_barrier_t start;
	uint64_t began;

	if (!bytes || !threads || threads > 64) {
		fprintf(stderr, "usage: memcpy BYTES THREADS\n");
		return 2;
	}
	pthread_barrier_init(&start, NULL, threads + 1);
	for (unsigned int i = 0; i < threads; i++) {
		shares[i] = (struct share){ touched(1), touched(2), bytes / threads,
					    &start };
		pthread_create(&ids[i], NULL, copy, &shares[i]);
	}
	pthread_barrier_wait(&start);
	began = now_usec();
	for (unsigned int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	printf("%llu\n", (unsigned long long)(now_usec() - began));
	return 0;
}
