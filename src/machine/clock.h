/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * clock - two clocks. The counter (the TSC on x86-64, CNTVCT_EL0 on arm64)
 * runs on through a kexec and so measures a reboot as a whole; CLOCK_MONOTONIC
 * starts again with each kernel and is for what happens under one of them.
 * Reads only.
 */
#ifndef FB_MACHINE_CLOCK_H
#define FB_MACHINE_CLOCK_H

#include <stdint.h>

/* The counter now. 0 on an architecture without one that is known here. */
uint64_t fb_clock_counter(void);

/*
 * Ticks of the counter in a second. arm64: CNTFRQ_EL0. x86-64: measured against
 * CLOCK_MONOTONIC_RAW, which takes 5 ms (the CPUID leaf 0x15 is missing on many
 * machines and wrong in guests whose TSC is scaled); good to about 50 ppm.
 * 0 where there is no counter.
 */
uint64_t fb_clock_frequency(void);

/* `ticks` of a counter with `hz` in microseconds, rounded down; 0 if `hz` is. */
uint64_t fb_clock_ticks_usec(uint64_t ticks, uint64_t hz);

/* CLOCK_MONOTONIC in microseconds. */
uint64_t fb_clock_usec(void);

#endif
