/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * err - what went wrong, carried upwards to the one place that prints.
 *
 * Every function that can fail returns 0 or a negative errno and takes a
 * `struct fb_err *` as its last argument. The place that knows the path, the
 * block number and the errno fills it; callers put a prefix in front or pass
 * it on. Nothing below src/cmd/ prints or exits. Out parameters of a failed
 * call are untouched unless its header says otherwise.
 *
 * `err` may be NULL wherever a `struct fb_err *` is taken: the text is then
 * dropped and only the return value is left.
 */
#ifndef FB_BASE_ERR_H
#define FB_BASE_ERR_H

/* Exit status of the program; fastboot(8), EXIT STATUS. */
enum fb_exit {
	FB_EXIT_OK = 0,         /* done */
	FB_EXIT_FAILED = 1,     /* refused or failed, the machine is as before */
	FB_EXIT_USAGE = 2,      /* the command line or the configuration is wrong */
	FB_EXIT_UNDO = 3,       /* failed, and the undo is incomplete */
	FB_EXIT_NO_IMAGE = 4,   /* no valid image */
	FB_EXIT_IMPOSSIBLE = 5, /* not possible on this kernel or machine */
};

#define FB_ERR_TEXT_MAX 1024

struct fb_err {
	int error;                  /* positive errno, 0 while nothing failed */
	enum fb_exit status;        /* what main() exits with */
	char text[FB_ERR_TEXT_MAX]; /* one line, no newline, no program name */
};

#define FB_ERR_INIT { 0, FB_EXIT_OK, "" }

/*
 * Record a failure with exit status FB_EXIT_FAILED. `error` is a positive
 * errno; its description is not appended: the format says what is wanted
 * (glibc's %m works if errno is set). Replaces what was recorded before.
 * Returns -error, so that `return fb_err_set(err, EINVAL, ...)` is the idiom.
 */
int fb_err_set(struct fb_err *err, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The same with another exit status. */
int fb_err_exit(struct fb_err *err, enum fb_exit status, int error,
		const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/*
 * Record a failed system call: "<what>: <strerror(error)>". `error` is a
 * positive errno. Returns -error.
 */
int fb_err_sys(struct fb_err *err, int error, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Put "<prefix>: " in front of what was recorded, keeping errno and status.
 * Returns the recorded -errno (or -EIO where `err` is NULL).
 */
int fb_err_prefix(struct fb_err *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Append to what was recorded (an undo that failed as well, a hint). */
void fb_err_append(struct fb_err *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
