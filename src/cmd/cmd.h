/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cmd - what the commands share: the options and the configuration, parsed
 * once and then constant, the lock, and the only functions that print.
 *
 * A command is one file, cmd_<name>.c, with one entry in the table of main.c.
 */
#ifndef FB_CMD_CMD_H
#define FB_CMD_CMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/range.h"
#include "base/tree.h"
#include "cmd/config.h"
#include "machine/sys.h"

struct fb_context {
	struct fb_sys sys;       /* --sysroot */
	struct fb_config config; /* --config, /etc/fastboot.conf, .conf.d */
	bool json;               /* --json: one JSON document on stdout */
	bool dry_run;            /* -n: print every step, change nothing */
	int verbosity;           /* -q: -1, default 0, -v: 1 and more */
};

struct fb_command {
	const char *name;
	const char *arguments; /* for --help: "[--deadline SECONDS]" */
	const char *summary;   /* one line */
	const char *help;      /* the options, a line each, "" where none */
	/*
	 * argv[0] is the command's name. 0 or -errno with *err filled; a
	 * usage error has the status FB_EXIT_USAGE. -h and --help never
	 * get here.
	 */
	int (*run)(const struct fb_context *ctx, int argc, char **argv,
		   struct fb_err *err);
};

/* One per cmd_*.c, listed in main.c in the order of --help. */
extern const struct fb_command fb_cmd_check, fb_cmd_plan, fb_cmd_status,
	fb_cmd_hotadd, fb_cmd_hotremove, fb_cmd_save, fb_cmd_restore,
	fb_cmd_release, fb_cmd_image, fb_cmd_load, fb_cmd_reboot, fb_cmd_overlay,
	fb_cmd_timeline;

/*
 * getopt_long() answered '?' or ':' : the one line for it. Commands set opterr
 * to 0 and start their short options with ":" (options and operands may be
 * mixed). Returns -EINVAL with FB_EXIT_USAGE.
 */
int fb_usage_option(struct fb_err *err, char **argv, int answer);

/* "usage: ..." of any other kind; returns -EINVAL with FB_EXIT_USAGE. */
int fb_usage(struct fb_err *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * The value of --deadline: a number of seconds, 0 only where `may_be_zero`.
 * Otherwise -EINVAL with FB_EXIT_USAGE.
 */
int fb_option_deadline(const char *value, bool may_be_zero, uint64_t *usec,
		       struct fb_err *err);

/* All options of a command that has --deadline only, and no operand. */
int fb_options_deadline(int argc, char **argv, bool may_be_zero, uint64_t *usec,
			struct fb_err *err);

/*
 * Commands that change the machine call this first: not root (-EPERM), or
 * --sysroot given without --dry-run (usage). 0 otherwise.
 */
int fb_require_live_root(const struct fb_context *ctx, struct fb_err *err);

/*
 * One fastboot at a time: an exclusive lock on /run/fastboot.lock, held until
 * the process ends. -EBUSY names the process that has it. Taken by every
 * command that changes the machine, the region or the loaded kernel.
 */
int fb_lock(struct fb_err *err);

/* A process forked by the one that took the lock keeps it: say so in it. */
void fb_lock_hand_over(const char *what);

/*
 * Signals. main() installs handlers without SA_RESTART for SIGINT, SIGTERM
 * and SIGHUP, so a blocked write to sysfs returns -EINTR. Work asks between
 * its steps; an undo is run with the signals still recorded but not asked
 * for. fb_interrupted() returns 0, or -EINTR with "interrupted by SIGTERM".
 */
int fb_interrupted(struct fb_err *err);

/*
 * Say why work ended: a signal leaves only -EINTR, the reason is recorded
 * here. Returns rc.
 */
int fb_interruption(int rc, struct fb_err *err);

/* Progress of work whose total is not known: no bar, only the signals. */
extern const struct fb_progress fb_signals;

/* Lines for people on stdout: not with --json or -q. */
void fb_say(const struct fb_context *ctx, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The same only with -v. */
void fb_say_verbose(const struct fb_context *ctx, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* "fastboot: warning: ..." on stderr; never suppressed but by -q. */
void fb_warn(const struct fb_context *ctx, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * A progress bar on stderr while it is a terminal and neither -q nor --json
 * was given; `unit_bytes` shows sizes and a rate, else "done/total". Its
 * report also stops the work with -EINTR once a signal came. Not on a
 * terminal nothing is drawn and only the signal is looked at.
 *
 *	struct fb_bar bar;
 *	struct fb_progress progress = fb_bar_start(&bar, ctx, "saving", true);
 *	... f(&progress) ...
 *	fb_bar_end(&bar);
 */
struct fb_bar {
	const char *label;
	bool drawn, visible, unit_bytes;
	uint64_t started_usec, last_usec;
};

struct fb_progress fb_bar_start(struct fb_bar *bar, const struct fb_context *ctx,
				const char *label, bool unit_bytes);
void fb_bar_end(struct fb_bar *bar);

/* Print a JSON object on stdout and release it (json-c). */
struct json_object;
void fb_json_print(struct json_object *object);

/* Add a number that is not negative: a size in bytes, a time in microseconds. */
void fb_json_number(struct json_object *object, const char *key, uint64_t value);

/* {"start", "size"} in bytes; the caller's to add or release. */
struct json_object *fb_json_range(struct fb_range range);

#endif
