/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int start(const char *program, const char *what, pid_t *pid)
{
	char *argv[] = { (char *)program, (char *)what, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t defaults;
	int rc;

	/* An ignored signal stays ignored through exec. */
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY,
					 0);
	posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	rc = posix_spawn(pid, program, &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -rc;
}

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
	int status, rc;
	pid_t pid;

	rc = start(program, what, &pid);
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
