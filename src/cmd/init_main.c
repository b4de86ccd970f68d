/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fastboot-init - the state is there before the system starts: the first
 * program of an initramfs, or one that another initramfs calls. Whatever
 * fails, the boot goes on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "cmd/early.h"
#include "cmd/signals.h"
#include "engine/timeline.h"
#include "machine/kmsg.h"
#include "machine/mount.h"

static const char help[] =
	"usage: fastboot-init [--root DIR] [--mode eager|lazy]\n\n"
	"Give the state in the region back, early in the boot.\n\n"
	"      --root DIR    the directory that will be \"/\" (/)\n"
	"      --mode MODE   lazy: be done when the tree stands, fill files when they\n"
	"                    are opened and in the background; eager: copy everything\n"
	"                    (fastboot.mode= of the kernel, [restore] mode, lazy)\n"
	"  -h, --help        this text\n"
	"  -V, --version     the version\n\n"
	"As the first process it takes no options, and executes /sbin/init then. With\n"
	"rdinit_early on its command line a kernel of fastboot's starts it while drivers\n"
	"are probed. fastboot-init(8) is the manual.\n";

/* A read of it ends when the kernel's own drivers are there; only a kernel that can
 * start the first process before that has it (rdinit_early). */
#define DRIVERS "/sys/kernel/initcalls"

/* <3>: an error, the console has it, too. <6>: only the log. */
static bool log_line(int level, const char *text)
{
	fb_autoclose int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	return fd >= 0 && !fb_kmsg_say(fd, level, "fastboot-init: %s", text);
}

static const char *text_of(const struct fb_err *err, int rc)
{
	return err->text[0] ? err->text : strerror(-rc);
}

/* systemd leaves such a process alone when it switches the root: what is forked here
 * gives files back. */
static void mark_storage(char **argv)
{
	argv[0][0] = '@';
}

/* ---- as the first process ---------------------------------------------------------
 */

/* The kernel opens no console where the initramfs has no /dev/console, or where its
 * driver comes later. */
static void open_standard_files(void)
{
	while (true) {
		int fd = open("/dev/console", O_RDWR | O_NOCTTY);

		if (fd < 0)
			fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			return;
		if (fd > STDERR_FILENO) {
			close(fd);
			return;
		}
	}
}

static void wait_for_drivers(void)
{
	fb_autoclose int drivers = open(DRIVERS, O_RDONLY | O_CLOEXEC);
	fb_autoclose int console = -1;
	char text[16];

	if (drivers < 0 || read(drivers, text, sizeof(text)) < 0)
		return;
	console = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
	for (int fd = 0; console >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(console, fd);
}

static bool is_this_program(const char *path)
{
	struct stat self, other;

	return !stat("/proc/self/exe", &self) && !stat(path, &other) &&
	       self.st_dev == other.st_dev && self.st_ino == other.st_ino;
}

static void execute(const char *path, char **argv)
{
	argv[0] = (char *)path;
	if (!is_this_program(path))
		execv(path, argv);
	else
		errno = ELOOP;
}

/* Comes back only when there is nothing to execute. */
static void execute_next(char **argv)
{
	/* What the kernel tries (init/main.c, kernel_init()). */
	static const char *const others[] = { "/sbin/init", "/etc/init", "/bin/init",
					      "/bin/sh" };
	fb_autofree char *wanted = fb_early_word("fastboot.init");
	fb_autofree char *text = NULL;

	/* It was ignored here, which a program would inherit. */
	signal(SIGPIPE, SIG_DFL);
	if (wanted)
		execute(wanted, argv);
	for (size_t i = 0; i < FB_ARRAY_SIZE(others); i++) {
		if (wanted || i) {
			text = fb_asprintf("cannot execute %s: %m", argv[0]);
			log_line(3, text ? text : "out of memory");
			free(fb_steal_ptr(text));
		}
		execute(others[i], argv);
	}
	log_line(3, "there is no program to go on with");
}

static void restore_first(struct fb_early *early)
{
	struct fb_err err = FB_ERR_INIT;
	bool expected;
	int rc;

	if (fb_mount_system(&err))
		log_line(3, text_of(&err, -EIO));
	open_standard_files();
	fb_signals_install();
	if (!fb_early_has_drivers())
		wait_for_drivers();
	rc = fb_early_restore(early, &expected, &err);
	if (rc && !log_line(expected ? 6 : 3, text_of(&err, rc)))
		fprintf(stderr, "fastboot-init: %s\n", text_of(&err, rc));
}

/* The next program has the drivers and the console, unless it wants to be early, too. */
static bool next_waits(void)
{
	fb_autofree char *word = fb_early_word("fastboot.wait");

	return !word || strcmp(word, "no");
}

static int first_process(char **argv)
{
	struct fb_early early = { .root = "" };

	fb_timeline_stamp(&early.stamps, FB_PHASE_INIT);
	mark_storage(argv);
	restore_first(&early);
	if (next_waits())
		wait_for_drivers();
	execute_next(argv);
	return FB_EXIT_FAILED;
}

/* ---- as any other ------------------------------------------------------------------
 */

static int parse(int argc, char **argv, struct fb_early *early, struct fb_err *err)
{
	static const struct option options[] = {
		{ "root", required_argument, NULL, 'r' },
		{ "mode", required_argument, NULL, 'm' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	static char root[PATH_MAX];
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":hV", options, NULL)) != -1) {
		switch (c) {
		case 'r':
			if (!realpath(optarg, root))
				return fb_err_exit(err, FB_EXIT_USAGE, errno,
						   "--root %s: %s", optarg,
						   strerror(errno));
			early->root = strcmp(root, "/") ? root : "";
			break;
		case 'm':
			early->mode = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			exit(FB_EXIT_OK);
		case 'V':
			puts("fastboot-init " FB_VERSION);
			exit(FB_EXIT_OK);
		default:
			return fb_usage_option(err, argv, c);
		}
	}
	if (optind < argc)
		return fb_usage(err, "no operand is taken, not '%s'", argv[optind]);
	return geteuid() ? fb_err_set(err, EPERM, "must be root") : 0;
}

static int called(int argc, char **argv)
{
	struct fb_early early = { .root = "" };
	struct fb_err err = FB_ERR_INIT;
	bool expected = false;
	int rc = parse(argc, argv, &early, &err);

	if (!rc) {
		fb_signals_install();
		mark_storage(argv);
		rc = fb_early_restore(&early, &expected, &err);
	}
	if (!rc)
		return FB_EXIT_OK;
	log_line(6, text_of(&err, rc));
	fprintf(stderr, "fastboot-init: %s\n", text_of(&err, rc));
	return err.status ? (int)err.status : FB_EXIT_FAILED;
}

int main(int argc, char **argv)
{
	return getpid() == 1 ? first_process(argv) : called(argc, argv);
}
