/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * main - the command table, the global options, and the one place where an
 * error becomes a line on stderr and an exit status.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "cmd/signals.h"

static const struct fb_command *const commands[] = {
	&fb_cmd_check,	   &fb_cmd_plan, &fb_cmd_status,  &fb_cmd_hotadd,
	&fb_cmd_hotremove, &fb_cmd_save, &fb_cmd_restore, &fb_cmd_release,
	&fb_cmd_image,	   &fb_cmd_load, &fb_cmd_reboot,  &fb_cmd_overlay,
	&fb_cmd_timeline,
};

static const char global_help[] =
	"  -c, --config FILE   read FILE instead of /etc/fastboot.conf\n"
	"      --json          print one JSON document\n"
	"      --sysroot DIR   read sysfs and procfs below DIR, change nothing\n"
	"  -n, --dry-run       print every step, change nothing\n"
	"  -v, --verbose       say more; -q, --quiet: say nothing but errors\n"
	"  -h, --help          this text; after a COMMAND: the command's\n"
	"  -V, --version       the version\n";

static void print_help(void)
{
	printf("usage: fastboot [OPTION…] COMMAND [ARG…]\n\n"
	       "Reboot into a new kernel and keep a ramdisk's contents.\n\n");
	for (size_t i = 0; i < FB_ARRAY_SIZE(commands); i++)
		printf("  %-11s %s\n", commands[i]->name, commands[i]->summary);
	printf("\n%s\nfastboot(8) is the manual.\n", global_help);
}

static void print_command_help(const struct fb_command *cmd)
{
	printf("usage: fastboot [OPTION…] %s%s%s\n\n%c%s.\n", cmd->name,
	       cmd->arguments[0] ? " " : "", cmd->arguments,
	       toupper((unsigned char)cmd->summary[0]), cmd->summary + 1);
	if (cmd->help[0])
		printf("\n%s", cmd->help);
	printf("\nOptions of every command:\n%s", global_help);
}

static const struct fb_command *find_command(const char *name)
{
	for (size_t i = 0; i < FB_ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return NULL;
}

static bool wants_help(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help"))
			return true;
	return false;
}

struct globals {
	struct fb_context ctx;
	const char *config;
	char *sysroot;
	bool help, version;
};

static int parse_sysroot(const char *dir, struct globals *g, struct fb_err *err)
{
	free(g->sysroot);
	g->sysroot = realpath(dir, NULL);
	if (!g->sysroot)
		return fb_err_exit(err, FB_EXIT_USAGE, errno, "--sysroot %s: %s",
				   dir, strerror(errno));
	/* "/" is the live machine, like no --sysroot at all. */
	g->ctx.sys.root = strcmp(g->sysroot, "/") ? g->sysroot : "";
	return 0;
}

enum { OPT_JSON = 256, OPT_SYSROOT };

static int parse_globals(int argc, char **argv, struct globals *g,
			 struct fb_err *err)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "json", no_argument, NULL, OPT_JSON },
		{ "sysroot", required_argument, NULL, OPT_SYSROOT },
		{ "dry-run", no_argument, NULL, 'n' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int c, rc;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:c:nvqhV", options, NULL)) != -1) {
		switch (c) {
		case 'c':
			g->config = optarg;
			break;
		case OPT_JSON:
			g->ctx.json = true;
			break;
		case OPT_SYSROOT:
			rc = parse_sysroot(optarg, g, err);
			if (rc)
				return rc;
			break;
		case 'n':
			g->ctx.dry_run = true;
			break;
		case 'v':
			g->ctx.verbosity++;
			break;
		case 'q':
			g->ctx.verbosity = -1;
			break;
		case 'h':
			g->help = true;
			break;
		case 'V':
			g->version = true;
			break;
		default:
			return fb_usage_option(err, argv, c);
		}
	}
	return 0;
}

static int run_command(struct globals *g, int argc, char **argv,
		       struct fb_err *err)
{
	const struct fb_command *cmd;
	int rc;

	if (!argc)
		return fb_usage(err, "which command? `fastboot --help` lists them");
	cmd = find_command(argv[0]);
	if (!cmd)
		return fb_usage(err, "unknown command '%s'; `fastboot --help` "
				     "lists them", argv[0]);
	if (wants_help(argc, argv)) {
		print_command_help(cmd);
		return 0;
	}
	rc = fb_config_load(g->ctx.sys.root, g->config, &g->ctx.config, err);
	if (rc)
		return rc;
	optind = 0; /* glibc: start over, with its own state reset */
	rc = cmd->run(&g->ctx, argc, argv, err);
	fb_config_free(&g->ctx.config);
	return rc;
}

/* A full disk or a closed pipe must not look like success. */
static int close_stdout(struct fb_err *err)
{
	if (fflush(stdout) || ferror(stdout))
		return fb_err_sys(err, errno ? errno : EIO, "writing the output");
	return 0;
}

int main(int argc, char **argv)
{
	struct globals g = { .ctx = { .sys = { "" } } };
	struct fb_err err = FB_ERR_INIT;
	int rc;

	setlocale(LC_CTYPE, "");
	fb_signals_install();
	rc = parse_globals(argc, argv, &g, &err);
	if (!rc && g.help)
		print_help();
	else if (!rc && g.version)
		printf("fastboot %s\n", FB_VERSION);
	else if (!rc)
		rc = run_command(&g, argc - optind, argv + optind, &err);
	if (!rc)
		rc = close_stdout(&err);
	free(g.sysroot);
	if (!rc)
		return FB_EXIT_OK;
	fflush(stdout);
	fprintf(stderr, "fastboot: %s\n", err.text[0] ? err.text : strerror(-rc));
	return err.status ? (int)err.status : FB_EXIT_FAILED;
}
