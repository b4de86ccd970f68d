/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * measure: the time stamp counter, for kernel/measure.
 *
 *   measure          print the counter
 *   measure -f       print its frequency in kHz
 *   measure MARK     write "measure: MARK COUNTER" into the kernel's log
 *
 * The counter runs on through a kexec, the kernel's own clock starts again: a
 * mark, which carries both, ties the one to the other.  The log stamps a mark a
 * few microseconds after the counter was read.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

struct sample {
	uint64_t ticks, nsec;
};

static uint64_t raw_nsec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Both clocks at one moment: the closest pair of many, for this process may
 * lose the processor between the two. */
static struct sample both_clocks(void)
{
	struct sample best = { 0, 0 };
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < 1000; i++) {
		uint64_t before = __rdtsc(), nsec = raw_nsec(), after = __rdtsc();

		if (after - before < least) {
			least = after - before;
			best = (struct sample){ before + least / 2, nsec };
		}
	}
	return best;
}

static double frequency_khz(void)
{
	const struct timespec wait = { .tv_nsec = 500000000 };
	struct sample first = both_clocks(), last;

	nanosleep(&wait, NULL);
	last = both_clocks();
	return (double)(last.ticks - first.ticks) * 1e6 / (double)(last.nsec - first.nsec);
}

static int mark(const char *text)
{
	FILE *log = fopen("/dev/kmsg", "w");

	if (!log) {
		perror("/dev/kmsg");
		return 1;
	}
	/* One write is one record: stdio's buffer sees to it. */
	fprintf(log, "measure: %s %llu\n", text, (unsigned long long)__rdtsc());
	return fclose(log) ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return printf("%llu\n", (unsigned long long)__rdtsc()) < 0;
	if (!strcmp(argv[1], "-f"))
		return printf("%.0f\n", frequency_khz()) < 0;
	return mark(argv[1]);
}
