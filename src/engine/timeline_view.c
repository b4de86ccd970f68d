/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "engine/timeline_view.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/clock.h"

const char *fb_timeline_section_text(enum fb_timeline_section section)
{
	static const char *const text[] = {
		[FB_TIMELINE_PREPARE] = "prepare",
		[FB_TIMELINE_BLACKOUT] = "blackout",
		[FB_TIMELINE_AFTER] = "after",
		[FB_TIMELINE_SECTIONS] = "",
	};

	return text[section];
}

const char *fb_timeline_clock_text(enum fb_timeline_clock clock)
{
	switch (clock) {
	case FB_CLOCK_THROUGH:
		return "the counter ran on through the kexec";
	case FB_CLOCK_RESET:
		return "the clock did not run through: not left by a kexec of "
		       "`fastboot reboot`";
	case FB_CLOCK_ANEW:
		return "the clock did not run through: the counter began anew";
	}
	return "";
}

/* ---- stamps ------------------------------------------------------------------- */

struct stamps {
	struct fb_stamp of[FB_TIMELINE_STAMPS + 1]; /* each phase once, ascending */
	size_t count;
};

/* Made under the next kernel? */
static bool is_next(unsigned int phase)
{
	switch (phase) {
	case FB_PHASE_KERNEL:
	case FB_PHASE_INIT:
	case FB_PHASE_RESTORING:
	case FB_PHASE_FOUND:
	case FB_PHASE_VISIBLE:
	case FB_PHASE_DRAINED:
	case FB_PHASE_CONSUMED:
	case FB_PHASE_HOTADDING:
	case FB_PHASE_HOTADDED:
		return true;
	default:
		return false;
	}
}

static int earlier_first(const void *a, const void *b)
{
	const struct fb_stamp *x = a, *y = b;

	return x->counter < y->counter ? -1 : x->counter > y->counter;
}

/* One of a later version: which side it is of is not known either. */
static bool is_unknown(unsigned int phase)
{
	return !strcmp(fb_phase_text(phase), fb_phase_text(0));
}

/* Those of one side of the reboot; the first of each phase. */
static void choose(const struct fb_timeline *t, bool next, struct stamps *s)
{
	for (size_t i = 0; i < t->stamp_count; i++) {
		const struct fb_stamp *stamp = &t->stamps[i];

		if (is_next(stamp->phase) == next && !is_unknown(stamp->phase) &&
		    fb_timeline_find(t, (enum fb_phase)stamp->phase) == stamp)
			s->of[s->count++] = *stamp;
	}
}

static const struct fb_stamp *find(const struct stamps *s, enum fb_phase phase)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->of[i].phase == phase)
			return &s->of[i];
	return NULL;
}

/* The kernel's log says when it ran the first program, if nobody stamped that. */
static void add_init(const struct fb_timeline *t, struct stamps *next)
{
	const struct fb_stamp *kernel = find(next, FB_PHASE_KERNEL);
	const struct fb_timeline_mark *mark = fb_timeline_mark(t, "init");

	if (!kernel || !mark || find(next, FB_PHASE_INIT))
		return;
	next->of[next->count++] = (struct fb_stamp){
		FB_PHASE_INIT,
		kernel->counter + (uint64_t)((unsigned __int128)mark->usec *
					     t->counter_hz / 1000000),
	};
}

/* ---- one clock for both ------------------------------------------------------- */

struct sides {
	const struct fb_timeline *t;
	struct stamps old, next;
	enum fb_timeline_clock clock;
	uint64_t next_usec; /* of the first stamp of `next`, since the first of all */
};

static uint64_t since(const struct sides *s, uint64_t from, uint64_t to)
{
	return fb_clock_ticks_usec(to - from, s->t->counter_hz);
}

static uint64_t position(const struct sides *s, const struct fb_stamp *stamp)
{
	return is_next(stamp->phase)
		       ? s->next_usec + since(s, s->next.of[0].counter, stamp->counter)
		       : since(s, s->old.of[0].counter, stamp->counter);
}

/* The stamps of each side are in order already. */
static enum fb_timeline_clock judge(const struct sides *s)
{
	if (!find(&s->old, FB_PHASE_LEFT))
		return FB_CLOCK_RESET;
	if (s->next.count &&
	    s->next.of[0].counter < s->old.of[s->old.count - 1].counter)
		return FB_CLOCK_ANEW;
	return FB_CLOCK_THROUGH;
}

static void find_sides(const struct fb_timeline *t, struct sides *s)
{
	memset(s, 0, sizeof(*s));
	s->t = t;
	choose(t, false, &s->old);
	choose(t, true, &s->next);
	add_init(t, &s->next);
	qsort(s->old.of, s->old.count, sizeof(s->old.of[0]), earlier_first);
	qsort(s->next.of, s->next.count, sizeof(s->next.of[0]), earlier_first);
	s->clock = judge(s);
	if (s->clock == FB_CLOCK_THROUGH && s->next.count)
		s->next_usec = since(s, s->old.of[0].counter, s->next.of[0].counter);
	else if (s->old.count)
		s->next_usec = position(s, &s->old.of[s->old.count - 1]);
}

/* ---- rows --------------------------------------------------------------------- */

static struct fb_timeline_row *add_row(struct fb_timeline_view *v,
				       enum fb_timeline_kind kind, const char *label,
				       uint64_t start, uint64_t end)
{
	struct fb_timeline_row *row = &v->rows[v->row_count++];

	*row = (struct fb_timeline_row){ .kind = kind,
					 .start_usec = start,
					 .end_usec = end };
	snprintf(row->label, sizeof(row->label), "%s", label);
	return row;
}

/* The last step ends with the kernel's row, the others where the log says so. */
static bool find_step_end(const struct fb_timeline *t, size_t step,
			  const struct fb_timeline_row *kernel, uint64_t *at)
{
	const struct fb_timeline_mark *mark =
		fb_timeline_mark(t, fb_timeline_steps[step].name);

	if (step + 1 == FB_TIMELINE_STEPS) {
		*at = kernel->end_usec;
		return true;
	}
	if (!mark || mark->usec > kernel->end_usec - kernel->start_usec ||
	    kernel->start_usec + mark->usec < *at)
		return false;
	*at = kernel->start_usec + mark->usec;
	return true;
}

/* What has no mark is in the step that follows: together they are all of it. */
static void add_steps(const struct fb_timeline *t, struct fb_timeline_view *v,
		      const struct fb_timeline_row *kernel)
{
	uint64_t last = kernel->start_usec, at = last;
	bool missing = false;

	for (size_t i = 0; t->mark_count && i < FB_TIMELINE_STEPS; i++) {
		char label[64];

		if (!find_step_end(t, i, kernel, &at)) {
			missing = true;
			continue;
		}
		snprintf(label, sizeof(label), "%s%s", fb_timeline_steps[i].text,
			 missing ? " and before" : "");
		add_row(v, FB_ROW_STEP, label, last, at);
		last = at;
		missing = false;
	}
}

static void add_unpacking(const struct fb_timeline *t, struct fb_timeline_view *v,
			  const struct fb_timeline_row *kernel)
{
	const struct fb_timeline_mark *a = fb_timeline_mark(t, FB_TIMELINE_UNPACK);
	const struct fb_timeline_mark *b = fb_timeline_mark(t, FB_TIMELINE_UNPACKED);

	if (a && b && a->usec <= b->usec &&
	    b->usec <= kernel->end_usec - kernel->start_usec)
		add_row(v, FB_ROW_PARALLEL, "initramfs (meanwhile)",
			kernel->start_usec + a->usec, kernel->start_usec + b->usec);
}

/* Of a kernel that starts its first program before they are all there. */
static void add_drivers(const struct sides *s, struct fb_timeline_view *v,
			const struct fb_timeline_row *kernel)
{
	const struct fb_timeline_mark *ready = fb_timeline_mark(s->t, "drivers");
	uint64_t end = ready ? kernel->start_usec + ready->usec : 0;

	if (end > kernel->end_usec &&
	    end <= position(s, &s->next.of[s->next.count - 1]))
		add_row(v, FB_ROW_PARALLEL, "drivers (meanwhile)", kernel->end_usec,
			end);
}

static enum fb_timeline_kind kind_of(unsigned int phase)
{
	return phase == FB_PHASE_RESTORING || phase == FB_PHASE_HOTADDING
		       ? FB_ROW_OTHER
		       : FB_ROW_PHASE;
}

static enum fb_timeline_section section_at(const struct fb_timeline_view *v,
					   uint64_t usec)
{
	const struct fb_timeline_span *blackout = &v->sections[FB_TIMELINE_BLACKOUT];

	if (usec < blackout->start_usec)
		return FB_TIMELINE_PREPARE;
	return usec < blackout->end_usec ? FB_TIMELINE_BLACKOUT : FB_TIMELINE_AFTER;
}

/* The row that ends with `to`, and the kernel's parts. */
static void add_phase(const struct sides *s, struct fb_timeline_view *v,
		      const struct fb_stamp *from, const struct fb_stamp *to)
{
	uint64_t start = position(s, from);
	size_t first = v->row_count;
	struct fb_timeline_row *row =
		add_row(v, kind_of(to->phase), fb_phase_text(to->phase), start,
			position(s, to));

	row->phase = to->phase;
	if (from->phase == FB_PHASE_KERNEL) {
		add_steps(s->t, v, row);
		add_unpacking(s->t, v, row);
		add_drivers(s, v, row);
	}
	for (size_t i = first; i < v->row_count; i++)
		v->rows[i].section = section_at(v, start);
}

static void add_unknown(const struct sides *s, struct fb_timeline_view *v)
{
	struct fb_timeline_row *row = add_row(v, FB_ROW_UNKNOWN, "what lies between",
					      s->next_usec, s->next_usec);

	row->section = section_at(v, s->next_usec);
}

static void add_rows(const struct sides *s, struct fb_timeline_view *v)
{
	for (size_t i = 1; i < s->old.count; i++)
		add_phase(s, v, &s->old.of[i - 1], &s->old.of[i]);
	if (s->clock == FB_CLOCK_THROUGH && s->next.count)
		add_phase(s, v, &s->old.of[s->old.count - 1], &s->next.of[0]);
	else if (s->old.count && s->next.count)
		add_unknown(s, v);
	for (size_t i = 1; i < s->next.count; i++)
		add_phase(s, v, &s->next.of[i - 1], &s->next.of[i]);
}

/* ---- the clocks --------------------------------------------------------------- */

/* Where nothing says so, all under the next kernel up to the end is blackout. */
static void find_sections(const struct sides *s, struct fb_timeline_view *v)
{
	const struct fb_stamp *blackout = find(&s->old, FB_PHASE_BLACKOUT);
	const struct fb_stamp *visible = find(&s->next, FB_PHASE_VISIBLE);
	bool through = s->clock == FB_CLOCK_THROUGH;
	uint64_t last = s->next.count ? position(s, &s->next.of[s->next.count - 1])
				      : s->next_usec;
	uint64_t begin = blackout ? position(s, blackout) : s->next_usec;
	uint64_t end = visible ? position(s, visible) : last;

	v->sections[FB_TIMELINE_PREPARE] =
		(struct fb_timeline_span){ blackout != NULL, 0, begin };
	v->sections[FB_TIMELINE_BLACKOUT] =
		(struct fb_timeline_span){ through && blackout && visible, begin, end };
	v->sections[FB_TIMELINE_AFTER] =
		(struct fb_timeline_span){ visible != NULL, end, last };
	v->total = (struct fb_timeline_span){ through && blackout && visible, 0, last };
}

/* Of a counter that was read, no two values are a year apart. */
static bool is_sane(const struct sides *s)
{
	const uint64_t year = (uint64_t)366 * 86400;
	uint64_t longest = 0;

	if (s->old.count)
		longest = s->old.of[s->old.count - 1].counter - s->old.of[0].counter;
	if (s->next.count) {
		uint64_t last = s->next.of[s->next.count - 1].counter;
		uint64_t first = s->next.of[0].counter;

		if (s->clock == FB_CLOCK_THROUGH)
			first = s->old.of[0].counter;
		if (last - first > longest)
			longest = last - first;
	}
	return s->t->counter_hz >= 1000 && longest / s->t->counter_hz < year;
}

int fb_timeline_view_make(const struct fb_timeline *timeline,
			  struct fb_timeline_view *view, struct fb_err *err)
{
	struct sides s;

	if (!timeline->counter_hz)
		return fb_err_exit(err, FB_EXIT_IMPOSSIBLE, ENODATA,
				   "the frequency of the counter is not known: no time "
				   "can be told");
	find_sides(timeline, &s);
	if (!is_sane(&s))
		return fb_err_set(err, EBADMSG,
				  "the time stamps are damaged: more than a year "
				  "between them");
	memset(view, 0, sizeof(*view));
	view->clock = s.clock;
	find_sections(&s, view);
	add_rows(&s, view);
	return 0;
}
