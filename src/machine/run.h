/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * run - starts a program, or runs it and keeps what it says. Tests replace it at link time.
 */
#ifndef FB_MACHINE_RUN_H
#define FB_MACHINE_RUN_H

#include <sys/types.h>

#include "base/err.h"

/*
 * Start argv[0] (a path; no shell, no search) and don't wait for it. Its stdin
 * is /dev/null, its stdout and stderr are `out`, its SIGPIPE is the default one
 * again, the environment is ours. *pid is the caller's to wait for. -errno.
 */
int fb_run_start(char *const argv[], int out, pid_t *pid);

/* What is kept of a program's output; the rest is read and dropped. */
#define FB_RUN_OUTPUT_MAX (1u << 20)

/*
 * Run argv[0] (a path; no shell, no search), wait for it. Its stdin is
 * /dev/null, the environment ours; stdout and stderr together become *output,
 * malloc'ed and NUL-terminated, whatever its end. *status is as wait(2) gives
 * it. A signal to us does not end it.
 *
 * -errno when it cannot be started, or -ENOMEM.
 */
int fb_run_output(char *const argv[], char **output, int *status, struct fb_err *err);

#endif
