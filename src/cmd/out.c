/* SPDX-License-Identifier: GPL-2.0-or-later */
/* out - everything the commands share and that prints; see cmd.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "cmd/signals.h"

#define LOCK_PATH "/run/fastboot.lock"

/* The only state of the process: which signal came. */
static volatile sig_atomic_t caught;

static void record_signal(int signal)
{
	caught = signal;
}

void fb_signals_install(void)
{
	struct sigaction action = { .sa_handler = record_signal };

	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
}

int fb_interrupted(struct fb_err *err)
{
	int signal = caught;

	if (!signal)
		return 0;
	return fb_err_set(err, EINTR, "interrupted by SIG%s",
			  sigabbrev_np(signal));
}

int fb_interruption(int rc, struct fb_err *err)
{
	struct fb_err why = FB_ERR_INIT;

	if (rc == -EINTR && fb_interrupted(&why))
		*err = why;
	return rc;
}

static int ask_signals(void *context, uint64_t done, uint64_t total)
{
	(void)context, (void)done, (void)total;
	return fb_interrupted(NULL);
}

const struct fb_progress fb_signals = { ask_signals, NULL };

int fb_usage(struct fb_err *err, const char *fmt, ...)
{
	char text[FB_ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return fb_err_exit(err, FB_EXIT_USAGE, EINVAL, "%s", text);
}

int fb_usage_option(struct fb_err *err, char **argv, int answer)
{
	const char *option = argv[optind - 1];
	char letter[3] = { '-', (char)optopt, '\0' };

	/* getopt has gone on behind a cluster of letters only at its end. */
	if (optopt > 0 && optopt < 256 && strncmp(option, "--", 2))
		option = letter;
	return fb_usage(err, "%s %s", option,
			answer == ':' ? "needs a value" :
			optopt && !strncmp(option, "--", 2) ? "takes no value" :
			"is not an option here; --help lists them");
}

int fb_option_deadline(const char *value, bool may_be_zero, uint64_t *usec,
		       struct fb_err *err)
{
	if (fb_parse_seconds(value, usec) || (!*usec && !may_be_zero))
		return fb_usage(err,
				"--deadline %s: not a number of seconds, such as 30 "
				"or 2.5",
				value);
	return 0;
}

int fb_options_deadline(int argc, char **argv, bool may_be_zero, uint64_t *usec,
			struct fb_err *err)
{
	static const struct option options[] = {
		{ "deadline", required_argument, NULL, 'd' },
		{ NULL, 0, NULL, 0 },
	};
	int c, rc = 0;

	opterr = 0;
	while (!rc && (c = getopt_long(argc, argv, ":", options, NULL)) != -1)
		rc = c == 'd' ? fb_option_deadline(optarg, may_be_zero, usec, err)
			      : fb_usage_option(err, argv, c);
	if (!rc && optind < argc)
		rc = fb_usage(err, "%s takes no operand, not '%s'", argv[0],
			      argv[optind]);
	return rc;
}

int fb_require_live_root(const struct fb_context *ctx, struct fb_err *err)
{
	if (!fb_sys_live(&ctx->sys) && !ctx->dry_run)
		return fb_usage(err, "--sysroot only goes with commands that change "
				     "nothing, or with --dry-run");
	if (fb_sys_live(&ctx->sys) && geteuid())
		return fb_err_set(err, EPERM, "must be root: run it with sudo");
	return 0;
}

static int lock_holder(int fd, struct fb_err *err)
{
	char pid[128];
	ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

	pid[n > 0 ? n : 0] = '\0';
	pid[strcspn(pid, "\n")] = '\0';
	return fb_err_set(err, EBUSY,
			  "another fastboot is at work (pid %s, %s is locked): wait "
			  "until it is done", pid[0] ? pid : "unknown", LOCK_PATH);
}

int fb_lock(struct fb_err *err)
{
	/* Never closed: the lock lives as long as the process. */
	int fd = open(LOCK_PATH, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return fb_err_sys(err, errno, "cannot open %s", LOCK_PATH);
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		int rc = errno == EWOULDBLOCK
				 ? lock_holder(fd, err)
				 : fb_err_sys(err, errno, "cannot lock %s", LOCK_PATH);

		close(fd);
		return rc;
	}
	if (ftruncate(fd, 0) || dprintf(fd, "%d\n", (int)getpid()) < 0) {
		int rc = fb_err_sys(err, errno, "cannot write %s", LOCK_PATH);

		close(fd);
		return rc;
	}
	return 0;
}

void fb_lock_hand_over(const char *what)
{
	fb_autoclose int fd = open(LOCK_PATH, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);

	/* Only for people: the lock itself does not depend on it. */
	if (fd >= 0 && dprintf(fd, "%d: %s\n", (int)getpid(), what) < 0)
		return;
}

void fb_say(const struct fb_context *ctx, const char *fmt, ...)
{
	va_list ap;

	if (ctx->json || ctx->verbosity < 0)
		return;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

void fb_say_verbose(const struct fb_context *ctx, const char *fmt, ...)
{
	va_list ap;

	if (ctx->json || ctx->verbosity < 1)
		return;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

void fb_warn(const struct fb_context *ctx, const char *fmt, ...)
{
	va_list ap;

	if (ctx->verbosity < 0)
		return;
	fflush(stdout);
	fputs("fastboot: warning: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static uint64_t now_usec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void bar_text(const struct fb_bar *bar, uint64_t done, uint64_t total,
		     uint64_t usec, char *text, size_t size)
{
	char a[FB_SIZE_TEXT_MAX], b[FB_SIZE_TEXT_MAX];

	if (!bar->unit_bytes) {
		snprintf(text, size, "%llu/%llu", (unsigned long long)done,
			 (unsigned long long)total);
		return;
	}
	snprintf(text, size, "%s of %s, %.0f MiB/s",
		 fb_size_text(done - done % FB_MIB, a),
		 fb_size_text(fb_align_up(total, FB_MIB), b),
		 usec ? (double)done * 1e6 / (double)FB_MIB / (double)usec : 0.0);
}

static void bar_draw(struct fb_bar *bar, uint64_t done, uint64_t total)
{
	char text[96], cells[31];
	uint64_t now = now_usec();
	size_t filled = total ? (size_t)((double)done * 30 / (double)total) : 30;

	if (bar->drawn && done < total && now - bar->last_usec < 100000)
		return;
	bar->last_usec = now;
	bar->drawn = true;
	for (size_t i = 0; i < sizeof(cells) - 1; i++)
		cells[i] = i < filled ? '#' : '.';
	cells[sizeof(cells) - 1] = '\0';
	bar_text(bar, done, total, now - bar->started_usec, text, sizeof(text));
	fprintf(stderr, "\r%s [%s] %3u %% %s\033[K", bar->label, cells,
		total ? (unsigned int)((double)done * 100 / (double)total) : 100u,
		text);
}

static int bar_report(void *context, uint64_t done, uint64_t total)
{
	struct fb_bar *bar = context;

	if (bar->visible)
		bar_draw(bar, done, total);
	return fb_interrupted(NULL);
}

struct fb_progress fb_bar_start(struct fb_bar *bar, const struct fb_context *ctx,
				const char *label, bool unit_bytes)
{
	struct fb_progress progress = { bar_report, bar };

	bar->label = label;
	bar->drawn = false;
	bar->visible = isatty(STDERR_FILENO) && ctx->verbosity >= 0 && !ctx->json;
	bar->unit_bytes = unit_bytes;
	bar->started_usec = now_usec();
	bar->last_usec = 0;
	return progress;
}

void fb_bar_end(struct fb_bar *bar)
{
	if (bar->drawn)
		fputs("\r\033[K", stderr);
	bar->drawn = false;
}

void fb_json_number(struct json_object *object, const char *key, uint64_t value)
{
	json_object_object_add(object, key, json_object_new_uint64(value));
}

struct json_object *fb_json_range(struct fb_range range)
{
	struct json_object *o = json_object_new_object();

	fb_json_number(o, "start", range.start);
	fb_json_number(o, "size", range.size);
	return o;
}

void fb_json_print(struct json_object *object)
{
	puts(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY |
						    JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
}
