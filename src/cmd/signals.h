/* SPDX-License-Identifier: GPL-2.0-or-later */
/* signals - what main() installs and fb_interrupted() (cmd.h) asks. */
#ifndef FB_CMD_SIGNALS_H
#define FB_CMD_SIGNALS_H

/*
 * Record SIGINT, SIGTERM and SIGHUP instead of dying from them, without
 * SA_RESTART: a blocked system call returns EINTR. SIGPIPE is ignored.
 */
void fb_signals_install(void);

#endif
