/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/clock.h"

#include <time.h>

#define CALIBRATE_NSEC 5000000u

static uint64_t clock_nsec(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t fb_clock_usec(void)
{
	return clock_nsec(CLOCK_MONOTONIC) / 1000;
}

uint64_t fb_clock_ticks_usec(uint64_t ticks, uint64_t hz)
{
	if (!hz)
		return 0;
	return (uint64_t)((unsigned __int128)ticks * 1000000u / hz);
}

#if defined(__x86_64__)

uint64_t fb_clock_counter(void)
{
	return __builtin_ia32_rdtsc();
}

struct pair {
	uint64_t ticks, nsec;
};

/* Of a few readings, the one with the least time around the clock's. */
static struct pair read_pair(void)
{
	struct pair best = { 0, 0 };
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < 8; i++) {
		uint64_t before = fb_clock_counter();
		uint64_t nsec = clock_nsec(CLOCK_MONOTONIC_RAW);
		uint64_t took = fb_clock_counter() - before;

		if (took >= least)
			continue;
		least = took;
		best.ticks = before + took / 2;
		best.nsec = nsec;
	}
	return best;
}

uint64_t fb_clock_frequency(void)
{
	struct timespec pause = { 0, CALIBRATE_NSEC };
	struct pair a = read_pair(), b;

	do {
		nanosleep(&pause, NULL);
		b = read_pair();
	} while (b.nsec - a.nsec < CALIBRATE_NSEC);
	return (uint64_t)((unsigned __int128)(b.ticks - a.ticks) * 1000000000u /
			  (b.nsec - a.nsec));
}

#elif defined(__aarch64__)

uint64_t fb_clock_counter(void)
{
	uint64_t v;

	__asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(v) : : "memory");
	return v;
}

uint64_t fb_clock_frequency(void)
{
	uint64_t v;

	__asm__ volatile("mrs %0, cntfrq_el0" : "=r"(v));
	return v;
}

#else

uint64_t fb_clock_counter(void)
{
	return 0;
}

uint64_t fb_clock_frequency(void)
{
	return 0;
}

#endif
