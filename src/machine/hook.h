/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hook - runs a program of the administrator's at a point of the reboot:
 * [hooks] quiesce= and resume= of fastboot.conf(5).
 */
#ifndef FB_MACHINE_HOOK_H
#define FB_MACHINE_HOOK_H

#include "base/err.h"

/*
 * Run `program` (an absolute path; no shell) with one argument, `what`
 * ("quiesce"), and wait for it. Its stdin is /dev/null, its stdout our stderr,
 * so that it cannot spoil our output; the environment is ours.
 *
 * `interrupted` (may be NULL) is asked when a signal comes: not 0 ends the
 * program with SIGTERM, waits for it and returns that.
 *
 * -errno when it cannot be started; -ECANCELED when it ends with another
 * status than 0, or by a signal; *err names it.
 */
int fb_hook_run(const char *program, const char *what,
		int (*interrupted)(struct fb_err *err), struct fb_err *err);

#endif
