/* SPDX-License-Identifier: GPL-2.0-or-later */
/* timeline - where the last reboot's time went. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "engine/timeline_svg.h"
#include "engine/timeline_view.h"

struct options {
	bool json;
	const char *svg;  /* file to write; NULL: none */
	const char *from; /* file to read; NULL: this boot's */
};

static int parse(int argc, char **argv, struct options *o, struct fb_err *err)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "svg", required_argument, NULL, 's' },
		{ "from", required_argument, NULL, 'f' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (c == 'j')
			o->json = true;
		else if (c == 's')
			o->svg = optarg;
		else if (c == 'f')
			o->from = optarg;
		else
			return fb_usage_option(err, argv, c);
	}
	if (optind < argc)
		return fb_usage(err, "timeline takes no operand, not '%s'",
				argv[optind]);
	if (o->json && o->svg)
		return fb_usage(err, "--json and --svg: only one of them at a time");
	return 0;
}

/* ---- the file ------------------------------------------------------------------ */

static int none(struct fb_err *err)
{
	return fb_err_exit(err, FB_EXIT_NO_IMAGE, ENOENT,
			   "no reboot by fastboot in this boot: nothing was restored "
			   "from an image of an earlier one");
}

/* A file that outlived its boot tells of another one. */
static bool is_of_this_boot(const struct fb_context *ctx, const struct fb_timeline *t)
{
	uint8_t id[16];
	char text[64];

	return fb_sys_attr_read(&ctx->sys, "/proc/sys/kernel/random/boot_id", text,
				sizeof(text), NULL) ||
	       fb_uuid_parse(text, id) || !memcmp(id, t->to.id, sizeof(id));
}

static int load(const struct fb_context *ctx, const struct options *o,
		struct fb_timeline *t, struct fb_err *err)
{
	fb_autofree char *path =
		o->from ? strdup(o->from)
			: fb_asprintf("%s%s", ctx->sys.root, FB_TIMELINE_PATH);
	int rc;

	if (!path)
		return fb_err_set(err, ENOMEM, "out of memory");
	rc = fb_timeline_load(path, t, err);
	if (o->from)
		return rc;
	if (rc == -ENOENT || (!rc && !is_of_this_boot(ctx, t)))
		return none(err);
	if (!rc && fb_sys_live(&ctx->sys))
		fb_timeline_read_log(t);
	return rc;
}

/* ---- text ---------------------------------------------------------------------- */

/* How the lines are divided: label, time, bar. */
struct layout {
	int label, bar;
	bool colour;
};

#define INDENT(row)                                                                    \
	((row)->kind == FB_ROW_STEP || (row)->kind == FB_ROW_PARALLEL ? 4 : 2)

static struct layout find_layout(const struct fb_timeline_view *view)
{
	struct layout l = { 22, 0, false };
	struct winsize size;
	int width = 80;

	if (isatty(STDOUT_FILENO)) {
		l.colour = !getenv("NO_COLOR");
		if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col)
			width = size.ws_col < 60    ? 60
				: size.ws_col > 200 ? 200
						    : size.ws_col;
	}
	for (size_t i = 0; i < view->row_count; i++) {
		int n = INDENT(&view->rows[i]) + (int)strlen(view->rows[i].label);

		if (n > l.label && n <= width / 2)
			l.label = n;
	}
	/* " 12345.678 s |" before the bar and "|" behind it */
	l.bar = width - l.label - 15;
	return l;
}

static char bar_character(enum fb_timeline_kind kind)
{
	switch (kind) {
	case FB_ROW_PHASE:
		return '#';
	case FB_ROW_OTHER:
		return '.';
	case FB_ROW_STEP:
		return '=';
	case FB_ROW_PARALLEL:
		return '-';
	case FB_ROW_UNKNOWN:
		return '?';
	}
	return ' ';
}

/* In the scale of its section; never nothing. */
static void draw_bar(const struct fb_timeline_row *row,
		     const struct fb_timeline_span *span, int width, char *bar)
{
	uint64_t length = span->end_usec - span->start_usec;
	double scale = (double)width / (double)(length ? length : 1);
	int from = (int)((double)(row->start_usec - span->start_usec) * scale);
	int to = (int)((double)(row->end_usec - span->start_usec) * scale + 0.5);

	if (from > width - 1)
		from = width - 1;
	if (to <= from)
		to = from + 1;
	memset(bar, ' ', (size_t)width);
	memset(bar + from, bar_character(row->kind), (size_t)(to - from));
	bar[width] = '\0';
}

static const char *colour_of(const struct layout *l, enum fb_timeline_section section)
{
	static const char *const colours[] = { "\033[36m", "\033[31m", "\033[32m" };

	return l->colour ? colours[section] : "";
}

static void say_row(const struct fb_context *ctx, const struct layout *l,
		    const struct fb_timeline_view *view,
		    const struct fb_timeline_row *row)
{
	char bar[256], took[FB_USEC_TEXT_MAX] = "not known";
	int indent = INDENT(row);

	draw_bar(row, &view->sections[row->section], l->bar, bar);
	if (row->kind != FB_ROW_UNKNOWN)
		snprintf(took, sizeof(took), "%9.3f s",
			 (double)(row->end_usec - row->start_usec) / 1e6);
	fb_say(ctx, "%*s%-*.*s %11s |%s%s%s|", indent, "", l->label - indent,
	       l->label - indent, row->label, took,
	       colour_of(l, row->section), bar, l->colour ? "\033[0m" : "");
}

static void say_span(const struct fb_context *ctx, const struct layout *l,
		     const char *name, const struct fb_timeline_span *span,
		     const char *note)
{
	char text[FB_USEC_TEXT_MAX] = "not known";

	if (span->known)
		snprintf(text, sizeof(text), "%9.3f s",
			 (double)(span->end_usec - span->start_usec) / 1e6);
	fb_say(ctx, "%-*s %11s%s%s", l->label, name, text, *note ? "  " : "", note);
}

static void say_section(const struct fb_context *ctx, const struct layout *l,
			const struct fb_timeline_view *view,
			enum fb_timeline_section section)
{
	static const char *const notes[] = { "the applications run", "they do not run",
					     "they run under the next kernel" };
	char name[16];
	bool any = false;

	snprintf(name, sizeof(name), "%s", fb_timeline_section_text(section));
	for (char *c = name; *c; c++)
		*c = (char)toupper((unsigned char)*c);
	for (size_t i = 0; i < view->row_count; i++)
		if (view->rows[i].section == section) {
			if (!any)
				say_span(ctx, l, name, &view->sections[section],
					 notes[section]);
			any = true;
			say_row(ctx, l, view, &view->rows[i]);
		}
	if (any)
		fb_say(ctx, "%s", "");
}

static void say(const struct fb_context *ctx, const struct fb_timeline *t,
		const struct fb_timeline_view *view)
{
	struct layout l = find_layout(view);
	fb_autofree char *from = fb_escape(t->from.release, strlen(t->from.release));
	fb_autofree char *to = fb_escape(t->to.release, strlen(t->to.release));
	char size[FB_SIZE_TEXT_MAX];

	fb_say(ctx, "from %s to %s", from ? from : "", to ? to : "");
	fb_say(ctx, "image of %s, generation %llu", fb_size_text(t->image_bytes, size),
	       (unsigned long long)t->generation);
	fb_say(ctx, "%s\n", fb_timeline_clock_text(view->clock));
	for (int s = 0; s < FB_TIMELINE_SECTIONS; s++)
		say_section(ctx, &l, view, (enum fb_timeline_section)s);
	say_span(ctx, &l, "blackout", &view->sections[FB_TIMELINE_BLACKOUT], "");
	say_span(ctx, &l, "all in all", &view->total, "");
}

/* ---- JSON ---------------------------------------------------------------------- */

static void add_text(struct json_object *o, const char *key, const char *text)
{
	fb_autofree char *escaped = fb_escape(text, strlen(text));

	json_object_object_add(o, key, json_object_new_string(escaped ? escaped : ""));
}

static struct json_object *boot_json(const struct fb_timeline_boot *boot)
{
	struct json_object *o = json_object_new_object();
	char id[FB_UUID_TEXT_SIZE];

	fb_uuid_text(boot->id, id);
	add_text(o, "boot_id", id);
	add_text(o, "release", boot->release);
	return o;
}

/* null where it is not known. */
static void add_span(struct json_object *o, const char *key,
		     const struct fb_timeline_span *span)
{
	json_object_object_add(
		o, key,
		span->known ? json_object_new_uint64(span->end_usec - span->start_usec)
			    : NULL);
}

static struct json_object *row_json(const struct fb_timeline_row *row)
{
	struct json_object *o = json_object_new_object();

	if (row->phase)
		fb_json_number(o, "phase", row->phase);
	add_text(o, "name", row->label);
	add_text(o, "section", fb_timeline_section_text(row->section));
	fb_json_number(o, "start_usec", row->start_usec);
	fb_json_number(o, "took_usec", row->end_usec - row->start_usec);
	return o;
}

static void print_json(const struct fb_timeline *t, const struct fb_timeline_view *view)
{
	struct json_object *o = json_object_new_object();
	struct json_object *phases = json_object_new_array();
	struct json_object *kernel = json_object_new_array();
	char image[FB_UUID_TEXT_SIZE];

	fb_uuid_text(t->image, image);
	add_text(o, "image", image);
	fb_json_number(o, "generation", t->generation);
	fb_json_number(o, "image_bytes", t->image_bytes);
	fb_json_number(o, "committed_at_usec", t->wall_usec);
	fb_json_number(o, "counter_hz", t->counter_hz);
	json_object_object_add(o, "from", boot_json(&t->from));
	json_object_object_add(o, "to", boot_json(&t->to));
	json_object_object_add(
		o, "clock_ran_through",
		json_object_new_boolean(view->clock == FB_CLOCK_THROUGH));
	add_span(o, "prepare_usec", &view->sections[FB_TIMELINE_PREPARE]);
	add_span(o, "blackout_usec", &view->sections[FB_TIMELINE_BLACKOUT]);
	add_span(o, "after_usec", &view->sections[FB_TIMELINE_AFTER]);
	add_span(o, "total_usec", &view->total);
	for (size_t i = 0; i < view->row_count; i++)
		if (view->rows[i].kind != FB_ROW_UNKNOWN)
			json_object_array_add(view->rows[i].phase ? phases : kernel,
					      row_json(&view->rows[i]));
	json_object_object_add(o, "phases", phases);
	json_object_object_add(o, "kernel", kernel);
	fb_json_print(o);
}

/* ---- SVG ----------------------------------------------------------------------- */

static int write_svg(const char *path, const struct fb_timeline *t,
		     const struct fb_timeline_view *view, struct fb_err *err)
{
	fb_autofree char *text = fb_timeline_svg(t, view);
	FILE *f;

	if (!text)
		return fb_err_set(err, ENOMEM, "out of memory");
	if (!strcmp(path, "-"))
		return fputs(text, stdout) < 0 ? fb_err_sys(err, errno, "stdout") : 0;
	f = fopen(path, "we");
	if (!f)
		return fb_err_sys(err, errno, "cannot make %s", path);
	if (fputs(text, f) < 0) {
		int error = errno;

		fclose(f);
		return fb_err_sys(err, error, "cannot write %s", path);
	}
	return fclose(f) ? fb_err_sys(err, errno, "cannot write %s", path) : 0;
}

static int run(const struct fb_context *ctx, int argc, char **argv, struct fb_err *err)
{
	struct options o = { .json = ctx->json };
	struct fb_timeline t;
	struct fb_timeline_view view;
	int rc = parse(argc, argv, &o, err);

	if (!rc)
		rc = load(ctx, &o, &t, err);
	if (!rc)
		rc = fb_timeline_view_make(&t, &view, err);
	if (rc)
		return rc;
	if (o.svg)
		return write_svg(o.svg, &t, &view, err);
	if (o.json)
		print_json(&t, &view);
	else
		say(ctx, &t, &view);
	return 0;
}

const struct fb_command fb_cmd_timeline = {
	.name = "timeline",
	.arguments = "[--json] [--svg FILE] [--from FILE]",
	.summary = "show where the last reboot's time went",
	.help = "      --json        one JSON document, times in microseconds\n"
		"      --svg FILE    write a picture of it; '-' is the standard "
		"output\n"
		"      --from FILE   a timeline of another machine or boot, a copy of "
		"its\n"
		"                    " FB_TIMELINE_PATH "\n",
	.run = run,
};
