/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/hook.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "machine/run.h"

/* 0 and *status; or what `interrupted` said, with the program gone. */
static int wait_for(pid_t pid, int (*interrupted)(struct fb_err *err), int *status,
		    struct fb_err *err)
{
	int stop = 0;

	while (waitpid(pid, status, 0) < 0) {
		if (errno != EINTR)
			return fb_err_sys(err, errno, "cannot wait for the hook");
		if (stop || !interrupted)
			continue;
		stop = interrupted(err);
		if (stop)
			kill(pid, SIGTERM);
	}
	return stop;
}

int fb_hook_run(const char *program, const char *what,
		int (*interrupted)(struct fb_err *err), struct fb_err *err)
{
	char *argv[] = { (char *)program, (char *)what, NULL };
	int status, rc;
	pid_t pid;

	rc = fb_run_start(argv, STDERR_FILENO, &pid);
	if (rc)
		return fb_err_sys(err, -rc, "cannot run the %s hook %s", what, program);
	rc = wait_for(pid, interrupted, &status, err);
	if (rc)
		return fb_err_prefix(err, "%s hook %s", what, program);
	if (WIFSIGNALED(status))
		return fb_err_set(err, ECANCELED, "the %s hook %s was ended by SIG%s",
				  what, program, sigabbrev_np(WTERMSIG(status)));
	if (WEXITSTATUS(status))
		return fb_err_set(err, ECANCELED,
				  "the %s hook %s failed with status %d", what, program,
				  WEXITSTATUS(status));
	return 0;
}
