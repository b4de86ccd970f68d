/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/cmdline.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/util.h"

/* lib/ctype.c: 0xa0 is a space there, so a UTF-8 sequence can be split. */
static bool is_space(char c)
{
	unsigned char u = (unsigned char)c;

	return u == ' ' || (u >= '\t' && u <= '\r') || u == 0xa0;
}

static const char *skip_spaces(const char *p)
{
	while (is_space(*p))
		p++;
	return p;
}

struct fb_cmdline_iter fb_cmdline_begin(const char *cmdline)
{
	struct fb_cmdline_iter it = { skip_spaces(cmdline), false };

	return it;
}

/*
 * next_arg() over bytes that are not changed. `begin` is behind an opening
 * quote, `stop` is the first byte that is not part of the argument, `equals`
 * the '=' or NULL. A '=' in the first place is part of the name there.
 */
static void split_arg(const char *begin, const char *stop, const char *equals,
		      bool quoted, struct fb_cmdline_arg *arg)
{
	const char *end = stop;

	arg->name = begin;
	arg->value = NULL;
	arg->value_length = 0;
	if (equals) {
		arg->value = equals + 1;
		if (arg->value < stop && *arg->value == '"') {
			arg->value++;
			if (stop[-1] == '"')
				end = stop - 1;
		}
	}
	if (quoted && end > begin && end[-1] == '"')
		end--;
	arg->name_length = (size_t)((equals ? equals : end) - begin);
	if (arg->value && end > arg->value)
		arg->value_length = (size_t)(end - arg->value);
}

bool fb_cmdline_next(struct fb_cmdline_iter *it, struct fb_cmdline_arg *arg)
{
	const char *begin = it->at, *p, *equals = NULL;
	bool quoted = *begin == '"', in_quote = quoted;

	if (!*begin)
		return false;
	begin += quoted;
	for (p = begin; *p && (in_quote || !is_space(*p)); p++) {
		if (*p == '=' && !equals && p > begin)
			equals = p;
		if (*p == '"')
			in_quote = !in_quote;
	}
	arg->text = it->at;
	arg->length = (size_t)(p - it->at);
	split_arg(begin, p, equals, quoted, arg);
	if (!arg->value && arg->name_length == 2 && !memcmp(arg->name, "--", 2))
		it->init = true;
	arg->init = it->init;
	it->at = skip_spaces(p);
	return true;
}

static char dash(char c)
{
	return c == '-' ? '_' : c;
}

static bool name_is(const struct fb_cmdline_arg *arg, const char *name)
{
	if (arg->init || strlen(name) != arg->name_length)
		return false;
	for (size_t i = 0; i < arg->name_length; i++)
		if (dash(arg->name[i]) != dash(name[i]))
			return false;
	return true;
}

bool fb_cmdline_find(struct fb_cmdline_iter *it, const char *name,
		     struct fb_cmdline_arg *arg)
{
	struct fb_cmdline_arg a;

	while (fb_cmdline_next(it, &a)) {
		if (!name_is(&a, name))
			continue;
		*arg = a;
		return true;
	}
	return false;
}

bool fb_cmdline_last(const char *cmdline, const char *name, struct fb_cmdline_arg *arg)
{
	struct fb_cmdline_iter it = fb_cmdline_begin(cmdline);
	bool found = false;

	while (fb_cmdline_find(&it, name, arg))
		found = true;
	return found;
}

/* ---- changing ----------------------------------------------------------- */

/* A command line being written: room for all that can be put in. */
struct writer {
	char *text;
	size_t used;
};

static int writer_init(struct writer *w, size_t room, struct fb_err *err)
{
	w->used = 0;
	w->text = malloc(room + 1);
	if (!w->text)
		return fb_err_sys(err, ENOMEM, "kernel command line");
	w->text[0] = '\0';
	return 0;
}

static void writer_put(struct writer *w, const char *text, size_t length)
{
	if (!length)
		return;
	if (w->used)
		w->text[w->used++] = ' ';
	memcpy(w->text + w->used, text, length);
	w->used += length;
	w->text[w->used] = '\0';
}

static bool quote_open(const char *text)
{
	bool open = false;

	for (; *text; text++)
		open ^= *text == '"';
	return open;
}

static size_t trimmed_length(const char *text)
{
	size_t n = strlen(text);

	while (n && is_space(text[n - 1]))
		n--;
	return n;
}

int fb_cmdline_append(const char *cmdline, const char *text, char **out,
		      struct fb_err *err)
{
	struct fb_cmdline_iter it = fb_cmdline_begin(cmdline);
	const char *start = it.at, *rest, *more = skip_spaces(text);
	struct fb_cmdline_arg arg = { .init = false };
	struct writer w;
	int rc;

	if (quote_open(cmdline))
		return fb_err_set(err, EINVAL,
				  "the kernel command line has a quote that is "
				  "never closed");
	rc = writer_init(&w, strlen(cmdline) + strlen(text) + 2, err);
	if (rc)
		return rc;
	while (!arg.init && fb_cmdline_next(&it, &arg))
		;
	rest = arg.init ? arg.text : start + strlen(start);
	while (rest > start && is_space(rest[-1]))
		rest--;
	writer_put(&w, start, (size_t)(rest - start));
	writer_put(&w, more, trimmed_length(more));
	rest = skip_spaces(rest);
	writer_put(&w, rest, trimmed_length(rest));
	*out = w.text;
	return 0;
}

static bool adds_up(const struct fb_cmdline_arg *arg)
{
	return name_is(arg, "memmap") || name_is(arg, "console");
}

/* Does the command line say so already (see the header)? */
static bool has_arg(const char *cmdline, const struct fb_cmdline_arg *want)
{
	struct fb_cmdline_iter it = fb_cmdline_begin(cmdline);
	struct fb_cmdline_arg arg;
	bool has = false;

	while (fb_cmdline_next(&it, &arg) && !arg.init) {
		if (arg.name_length != want->name_length ||
		    memcmp(arg.name, want->name, arg.name_length))
			continue;
		if (arg.length == want->length &&
		    !memcmp(arg.text, want->text, arg.length))
			has = true;
		else if (!adds_up(want))
			has = false;
	}
	return has;
}

int fb_cmdline_append_missing(const char *cmdline, const char *text, char **out,
			      struct fb_err *err)
{
	struct fb_cmdline_iter it = fb_cmdline_begin(text);
	struct fb_cmdline_arg arg;
	fb_autofree char *line = NULL;
	int rc = fb_cmdline_append(cmdline, "", &line, err);

	while (!rc && fb_cmdline_next(&it, &arg)) {
		fb_autofree char *word = strndup(arg.text, arg.length);
		char *longer = NULL;

		if (!word)
			return fb_err_sys(err, ENOMEM, "kernel command line");
		if (has_arg(line, &arg))
			continue;
		rc = fb_cmdline_append(line, word, &longer, err);
		if (!rc) {
			free(line);
			line = longer;
		}
	}
	if (!rc)
		*out = fb_steal_ptr(line);
	return rc;
}

static bool in_names(const struct fb_cmdline_arg *arg, const char *const *names)
{
	for (; *names; names++)
		if (name_is(arg, *names))
			return true;
	return false;
}

int fb_cmdline_remove(const char *cmdline, const char *const *names, char **out,
		      struct fb_err *err)
{
	struct fb_cmdline_iter it = fb_cmdline_begin(cmdline);
	struct fb_cmdline_arg arg;
	struct writer w;
	int rc = writer_init(&w, strlen(cmdline), err);

	if (rc)
		return rc;
	while (fb_cmdline_next(&it, &arg))
		if (!in_names(&arg, names))
			writer_put(&w, arg.text, arg.length);
	*out = w.text;
	return 0;
}

int fb_cmdline_reuse(const char *cmdline, char **out, struct fb_err *err)
{
	static const char *const names[] = { "BOOT_IMAGE", "initrd", NULL };

	return fb_cmdline_remove(cmdline, names, out, err);
}

/* ---- memmap= ------------------------------------------------------------ */

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;
}

/* simple_strtoull() with base 0: wraps, and takes no digit at all as 0. */
static uint64_t parse_number(const char **p, const char *end)
{
	uint64_t value = 0;
	int base = 10;

	if (*p < end && **p == '0') {
		base = 8;
		if (end - *p > 2 && ((*p)[1] | 0x20) == 'x' &&
		    digit_value((*p)[2]) < 16) {
			base = 16;
			*p += 2;
		}
	}
	for (; *p < end && digit_value(**p) < base; (*p)++)
		value = value * (uint64_t)base + (uint64_t)digit_value(**p);
	return value;
}

static uint64_t memparse(const char **p, const char *end)
{
	static const char suffixes[] = "kmgtpe";
	uint64_t value = parse_number(p, end);
	const char *suffix;

	if (*p == end || !**p)
		return value;
	suffix = strchr(suffixes, **p | 0x20);
	if (!suffix || !*suffix)
		return value;
	(*p)++;
	return value << (10 * (suffix - suffixes + 1));
}

static enum fb_memmap_kind kind_of(char c)
{
	switch (c) {
	case '!':
		return FB_MEMMAP_PERSISTENT;
	case '@':
		return FB_MEMMAP_RAM;
	case '#':
		return FB_MEMMAP_ACPI;
	case '$':
		return FB_MEMMAP_RESERVED;
	case '%':
		return FB_MEMMAP_RETYPE;
	}
	return FB_MEMMAP_LIMIT;
}

/* parse_memmap_one() */
static void parse_entry(const char *p, const char *end, struct fb_memmap *m)
{
	const char *begin = p;

	memset(m, 0, sizeof(*m));
	m->text = p;
	m->length = (size_t)(end - p);
	if (m->length >= 8 && !memcmp(p, "exactmap", 8)) {
		m->kind = FB_MEMMAP_EXACT;
		return;
	}
	m->range.size = memparse(&p, end);
	if (p == begin)
		return; /* malformed */
	m->kind = p < end ? kind_of(*p) : FB_MEMMAP_LIMIT;
	if (m->kind != FB_MEMMAP_LIMIT) {
		p++;
		m->range.start = memparse(&p, end);
	}
	if (m->kind == FB_MEMMAP_RETYPE) {
		if (p < end && *p == '-')
			p++, parse_number(&p, end);
		if (p < end && *p == '+')
			p++, parse_number(&p, end);
	}
	m->junk = p < end;
}

/* Entries of one memmap=, one by one; *at is NULL behind the last. */
static void next_entry(const char **at, const char *end, struct fb_memmap *m)
{
	const char *comma = memchr(*at, ',', (size_t)(end - *at));

	parse_entry(*at, comma ? comma : end, m);
	*at = comma ? comma + 1 : NULL;
}

int fb_memmap_parse(const char *cmdline, struct fb_memmap **entries, size_t *count,
		    struct fb_err *err)
{
	struct fb_cmdline_iter it = fb_cmdline_begin(cmdline);
	struct fb_memmap *list = NULL;
	struct fb_cmdline_arg arg;
	size_t n = 0, capacity = 0;

	while (fb_cmdline_find(&it, "memmap", &arg)) {
		for (const char *at = arg.value; at; n++) {
			if (fb_array_grow(&list, &capacity, n + 1, sizeof(*list))) {
				free(list);
				return fb_err_sys(err, ENOMEM, "memmap=");
			}
			next_entry(&at, arg.value + arg.value_length, &list[n]);
		}
	}
	*entries = list;
	*count = n;
	return 0;
}

static void number_text(uint64_t v, char *buf, size_t size)
{
	static const char suffixes[] = "KMGTPE";
	int i = -1;

	while (v && v % 1024 == 0 && suffixes[i + 1]) {
		v /= 1024;
		i++;
	}
	snprintf(buf, size, i < 0 ? "%" PRIu64 : "%" PRIu64 "%c", v,
		 i < 0 ? 0 : suffixes[i]);
}

char *fb_memmap_text(struct fb_range range, char buf[FB_MEMMAP_TEXT_MAX])
{
	char size[24], start[24];

	number_text(range.size, size, sizeof(size));
	number_text(range.start, start, sizeof(start));
	snprintf(buf, FB_MEMMAP_TEXT_MAX, "memmap=%s!%s", size, start);
	return buf;
}

/* ---- is the region carried? --------------------------------------------- */

static bool strictly_inside(struct fb_range range, uint64_t address)
{
	return address > range.start && address - range.start < range.size;
}

/* The entry as written, for messages. */
static int complain(struct fb_err *err, const struct fb_memmap *m, const char *what)
{
	fb_autofree char *text = fb_escape(m->text, m->length);

	return fb_err_set(err, EINVAL, "memmap=%s on the kernel command line %s",
			  text ? text : "?", what);
}

/* An entry beside those that say exactly `range`. */
static int check_spoils(const struct fb_memmap *m, struct fb_range range,
			struct fb_err *err)
{
	switch (m->kind) {
	case FB_MEMMAP_MALFORMED:
	case FB_MEMMAP_EXACT:
		return 0;
	case FB_MEMMAP_RETYPE:
		if (fb_range_overlaps(m->range, range))
			return complain(err, m, "changes the region");
		return 0;
	case FB_MEMMAP_LIMIT:
		if (strictly_inside(range, m->range.size))
			return complain(err, m, "ends inside the region");
		return 0;
	default:
		if (strictly_inside(range, m->range.start) ||
		    strictly_inside(range, fb_range_end(m->range)))
			return complain(err, m, "begins or ends inside the region");
		return 0; /* a larger one is cut at our ends: the middle is ours */
	}
}

static int check_mem_limits(const char *cmdline, struct fb_range range,
			    struct fb_err *err)
{
	struct fb_cmdline_iter it = fb_cmdline_begin(cmdline);
	struct fb_cmdline_arg arg;

	while (fb_cmdline_find(&it, "mem", &arg)) {
		const char *p = arg.value;

		if (p && strictly_inside(range, memparse(&p, p + arg.value_length)))
			return fb_err_set(err, EINVAL,
					  "mem=%.*s on the kernel command line ends "
					  "inside the region",
					  (int)arg.value_length, arg.value);
	}
	return 0;
}

static void append_malformed(const struct fb_memmap *list, size_t count,
			     struct fb_err *err)
{
	for (size_t i = 0; i < count; i++) {
		fb_autofree char *text = NULL;

		if (list[i].kind != FB_MEMMAP_MALFORMED && !list[i].junk)
			continue;
		text = fb_escape(list[i].text, list[i].length);
		fb_err_append(err, "; memmap=%s is malformed", text ? text : "?");
	}
}

/* Where the entries begin that count: behind the last exactmap. */
static size_t after_exactmap(const struct fb_memmap *list, size_t count)
{
	size_t first = 0;

	for (size_t i = 0; i < count; i++)
		if (list[i].kind == FB_MEMMAP_EXACT)
			first = i + 1;
	return first;
}

static bool says_range(const struct fb_memmap *m, struct fb_range range)
{
	return m->kind == FB_MEMMAP_PERSISTENT && fb_range_equal(m->range, range);
}

static int check_entries(const struct fb_memmap *list, size_t count,
			 struct fb_range range, struct fb_err *err)
{
	size_t first = after_exactmap(list, count);
	const struct fb_memmap *before = NULL;
	bool found = false;
	char text[FB_MEMMAP_TEXT_MAX];

	for (size_t i = 0; i < count; i++) {
		if (i < first && says_range(&list[i], range))
			before = &list[i];
		found |= says_range(&list[i], range) && i >= first;
	}
	if (!found && before)
		return complain(err, before, "is followed by exactmap, which drops it");
	if (!found)
		return fb_err_set(err, ENOENT,
				  "the kernel command line does not carry the "
				  "region: add %s",
				  fb_memmap_text(range, text));
	for (size_t i = first; i < count; i++) {
		int rc = check_spoils(&list[i], range, err);

		if (rc)
			return rc;
	}
	return 0;
}

int fb_cmdline_carries(const char *cmdline, struct fb_range range, struct fb_err *err)
{
	fb_autofree struct fb_memmap *list = NULL;
	size_t count;
	int rc = fb_memmap_parse(cmdline, &list, &count, err);

	if (rc)
		return rc;
	rc = check_entries(list, count, range, err);
	if (!rc)
		rc = check_mem_limits(cmdline, range, err);
	if (rc)
		append_malformed(list, count, err);
	return rc;
}

/* ---- KASLR -------------------------------------------------------------- */

struct avoid {
	struct fb_range range;
	unsigned int used; /* of FB_KASLR_MEMMAP_MAX */
	bool found;	   /* `range` is among them */
	bool gave_up;	   /* memmap_too_large: no random physical address */
};

/* kaslr.c's parse_memmap() knows four forms, and 0 for "no start". */
static bool kaslr_start(const struct fb_memmap *m, uint64_t *start)
{
	if (m->kind == FB_MEMMAP_MALFORMED || m->kind == FB_MEMMAP_EXACT)
		return false;
	*start = m->kind == FB_MEMMAP_RAM || m->kind == FB_MEMMAP_RETYPE
			 ? 0
			 : m->range.start;
	return true;
}

/* mem_avoid_memmap() */
static void avoid_memmap(struct avoid *a, const struct fb_cmdline_arg *arg)
{
	const char *at = arg->value;

	if (a->used >= FB_KASLR_MEMMAP_MAX)
		return;
	while (at && a->used < FB_KASLR_MEMMAP_MAX) {
		struct fb_memmap m;
		uint64_t start;

		next_entry(&at, arg->value + arg->value_length, &m);
		if (!kaslr_start(&m, &start))
			break;
		if (!start)
			continue;
		a->used++;
		a->found |= fb_range_contains(m.range, a->range);
	}
	a->gave_up |= a->used >= FB_KASLR_MEMMAP_MAX && at;
}

/* handle_mem_options(): compares names byte by byte, stops at mem=0. */
static void avoid_scan(struct avoid *a, const char *cmdline)
{
	struct fb_cmdline_iter it = fb_cmdline_begin(cmdline);
	struct fb_cmdline_arg arg;

	while (fb_cmdline_next(&it, &arg) && !arg.init) {
		const char *p = arg.value;

		if (name_is(&arg, "memmap"))
			avoid_memmap(a, &arg);
		if (!p || !name_is(&arg, "mem") ||
		    (arg.value_length == 9 && !memcmp(p, "nopentium", 9)))
			continue;
		if (!memparse(&p, p + arg.value_length))
			return;
	}
}

int fb_cmdline_kaslr_avoids(const char *cmdline, struct fb_range range,
			    struct fb_err *err)
{
	struct avoid a = { .range = range };
	struct fb_cmdline_arg arg;

	if (fb_cmdline_last(cmdline, "nokaslr", &arg))
		return 0;
	avoid_scan(&a, cmdline);
	if (a.found || a.gave_up)
		return 0;
	return fb_err_set(err, E2BIG,
			  "the next kernel could place itself in the region: KASLR "
			  "looks only at the first %d memmap= ranges; put the region "
			  "first, or add nokaslr",
			  FB_KASLR_MEMMAP_MAX);
}
