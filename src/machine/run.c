/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int fb_run_start(char *const argv[], int out, pid_t *pid)
{
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
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO);
	rc = posix_spawn(pid, argv[0], &actions, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -rc;
}

/* To the end of file, so that nobody waits, and into text[size] what fits. */
static void read_all(int fd, char *text, size_t size)
{
	char rest[4096];
	size_t done = 0;
	ssize_t n;

	do {
		bool full = done == size - 1;

		n = full ? read(fd, rest, sizeof(rest))
			 : read(fd, text + done, size - 1 - done);
		if (n > 0 && !full)
			done += (size_t)n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	text[done] = '\0';
}

static int run(char *const argv[], char *text, int *status)
{
	int ends[2], rc;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	rc = fb_run_start(argv, ends[1], &pid);
	close(ends[1]);
	if (!rc)
		read_all(ends[0], text, FB_RUN_OUTPUT_MAX);
	close(ends[0]);
	while (!rc && waitpid(pid, status, 0) < 0)
		rc = errno == EINTR ? 0 : -errno;
	return rc;
}

int fb_run_output(char *const argv[], char **output, int *status, struct fb_err *err)
{
	char *text = malloc(FB_RUN_OUTPUT_MAX);
	int rc = text ? run(argv, text, status) : -ENOMEM;

	if (rc) {
		free(text);
		return fb_err_sys(err, -rc, "cannot run %s", argv[0]);
	}
	*output = text;
	return 0;
}
