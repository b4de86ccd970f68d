/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kmsg - the kernel's log through /dev/kmsg (Documentation/ABI/testing/dev-kmsg,
 * Linux 6.12). Its time stamps are microseconds of the kernel's own clock
 * (sched_clock), which begins when the kernel has found its counter, some steps
 * after its first instruction. CLOCK_MONOTONIC begins a little later: 33 ms in an
 * emulated Linux 6.12.
 */
#ifndef FB_MACHINE_KMSG_H
#define FB_MACHINE_KMSG_H

#include <stdint.h>

/*
 * Write a line of a level (3 error, which consoles show; 6 information) to an
 * open /dev/kmsg, in one write, as it must be; dprintf(3) fails there, for it
 * asks for the file's position. -errno of the write, -ENOMEM.
 */
int fb_kmsg_say(int fd, int level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Write a line into the log, of the level "debug": consoles don't show it. One
 * moment on two clocks: *counter is the counter (machine/clock.h) just before,
 * *usec the line's time stamp. -errno of /dev/kmsg; -ENODATA where the kernel
 * takes no lines (printk.devkmsg=off).
 */
int fb_kmsg_mark(const char *line, uint64_t *counter, uint64_t *usec);

/*
 * Call `record` for each line that is still in the log, oldest first; `text` is
 * only valid meanwhile. -errno of /dev/kmsg.
 */
int fb_kmsg_read(void (*record)(void *context, uint64_t usec, const char *text),
		 void *context);

/*
 * One record as read(2) gives it, terminated by NUL: its time and its text,
 * which is cut at the first line's end. -EINVAL where it is none. Pure.
 */
int fb_kmsg_parse(char *record, uint64_t *usec, const char **text);

#endif
