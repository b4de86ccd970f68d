/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cmdline - kernel command lines, split, read and changed as the kernel does
 * it. Pure: strings in, strings and structs out.
 *
 * Sources of the behaviour (Linux 6.12; the same in 6.1): next_arg() and
 * memparse() in lib/cmdline.c, parse_args() in kernel/params.c,
 * parse_memmap_one() and e820__update_table() in arch/x86/kernel/e820.c,
 * mem_avoid_memmap() in arch/x86/boot/compressed/kaslr.c.
 *
 *	struct fb_cmdline_iter it = fb_cmdline_begin(cmdline);
 *	struct fb_cmdline_arg arg;
 *
 *	while (fb_cmdline_next(&it, &arg))
 *		...
 */
#ifndef FB_FORMAT_CMDLINE_H
#define FB_FORMAT_CMDLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/range.h"

/*
 * One argument. All pointers point into the command line that was given, so
 * nothing is terminated and nothing is owned.
 */
struct fb_cmdline_arg {
	const char *text; /* as written, quotes included */
	size_t length;
	const char *name; /* without quotes */
	size_t name_length;
	const char *value; /* behind the first '=', without quotes; or NULL */
	size_t value_length;
	bool init; /* "--" itself, or behind it: not for the kernel */
};

struct fb_cmdline_iter {
	const char *at;
	bool init;
};

/* `cmdline` must outlive the iterator and what it returns. */
struct fb_cmdline_iter fb_cmdline_begin(const char *cmdline);

/*
 * The next argument; false at the end. White space is the kernel's: tab to
 * carriage return, space and 0xa0. A double quote protects white space and
 * cannot be escaped; one that is never closed reaches to the end.
 */
bool fb_cmdline_next(struct fb_cmdline_iter *it, struct fb_cmdline_arg *arg);

/*
 * The next argument of that name that the kernel sees ('-' and '_' are the
 * same in names; never behind "--"); false when there is none.
 */
bool fb_cmdline_find(struct fb_cmdline_iter *it, const char *name,
		     struct fb_cmdline_arg *arg);

/* The last argument of that name: for most parameters it is the one that counts. */
bool fb_cmdline_last(const char *cmdline, const char *name, struct fb_cmdline_arg *arg);

/*
 * A new command line: `cmdline` with `text` as its last argument for the
 * kernel, in front of a "--". An empty `text` changes nothing. White space at
 * the ends goes away. *out is malloc'ed. -EINVAL: `cmdline` has a quote that is
 * never closed, what follows would become part of it; -ENOMEM.
 */
int fb_cmdline_append(const char *cmdline, const char *text, char **out,
		      struct fb_err *err);

/*
 * The same for each argument in `text` that `cmdline` does not have yet: one
 * that is there word for word is left out where no later argument of that name
 * says otherwise (memmap= and console= add up, there any place will do). So
 * what a configuration adds at every reboot does not pile up. *out is
 * malloc'ed. Errors as fb_cmdline_append().
 */
int fb_cmdline_append_missing(const char *cmdline, const char *text, char **out,
			      struct fb_err *err);

/*
 * A new command line without the kernel's arguments of these names (an array
 * that ends with NULL); the others stay as written, one space between two.
 * *out is malloc'ed. -ENOMEM.
 */
int fb_cmdline_remove(const char *cmdline, const char *const *names, char **out,
		      struct fb_err *err);

/*
 * What the next kernel gets when the running one's command line is used again:
 * without BOOT_IMAGE= and initrd=, which boot loaders added for themselves
 * (kexec-tools 2.0.25, --reuse-cmdline, drops the first). A newline at the end,
 * as /proc/cmdline has it, goes away too. *out is malloc'ed. -ENOMEM.
 */
int fb_cmdline_reuse(const char *cmdline, char **out, struct fb_err *err);

/* ---- memmap= ------------------------------------------------------------ */

enum fb_memmap_kind {
	FB_MEMMAP_MALFORMED,  /* the kernel ignores it */
	FB_MEMMAP_PERSISTENT, /* size!start */
	FB_MEMMAP_RAM,	      /* size@start */
	FB_MEMMAP_ACPI,	      /* size#start */
	FB_MEMMAP_RESERVED,   /* size$start */
	FB_MEMMAP_RETYPE,     /* size%start[-type][+type] */
	FB_MEMMAP_LIMIT,      /* size: no RAM above it; start is 0 */
	FB_MEMMAP_EXACT,      /* exactmap: forgets all that was said before */
};

struct fb_memmap {
	enum fb_memmap_kind kind;
	struct fb_range range; /* as the kernel computes it, wrapping at 2^64 */
	bool junk;	       /* text behind it that the kernel complains about */
	const char *text;      /* into the command line: "2G!4G" */
	size_t length;
};

/*
 * Every entry of every memmap= in their order; entries are separated by
 * commas, numbers are decimal, 0x hexadecimal or 0 octal with an optional K M
 * G T P E in either case. *entries is malloc'ed, NULL for none. -ENOMEM.
 */
int fb_memmap_parse(const char *cmdline, struct fb_memmap **entries, size_t *count,
		    struct fb_err *err);

#define FB_MEMMAP_TEXT_MAX 64

/* The argument for a range, shortest form: "memmap=2050M!4222M". Returns buf. */
char *fb_memmap_text(struct fb_range range, char buf[FB_MEMMAP_TEXT_MAX]);

/*
 * Will an x86 kernel with this command line report exactly `range` as a region
 * of its own? 0 if so.
 *
 * -ENOENT: no memmap= entry says so; *err has the text to add.
 * -EINVAL: an entry says so, but another one spoils it: exactmap behind it, a
 * size%start form that touches it, or any entry (also mem= and memmap=size)
 * with an end inside it: persistent ranges are cut at every boundary
 * (e820_nomerge()). A limit at or below the start of the region does no harm:
 * it only takes away what is RAM. *err names the entry. Malformed entries are
 * named in both cases where there are any.
 * -ENOMEM.
 */
int fb_cmdline_carries(const char *cmdline, struct fb_range range, struct fb_err *err);

/* What mem_avoid_memmap() has room for. */
#define FB_KASLR_MEMMAP_MAX 4

/*
 * Will the decompressor of an x86 kernel that gets this command line keep the
 * kernel out of `range`? It looks at the first four ranges only, and not
 * behind an entry that it does not understand in the same memmap=, or behind
 * mem=0. 0 if so, or if nokaslr is there, or if the list of one memmap= is so
 * long that it gives up placing the kernel at random. Otherwise -E2BIG and
 * *err says what to do. Only asks about text: a kernel without KASLR never
 * needs it.
 */
int fb_cmdline_kaslr_avoids(const char *cmdline, struct fb_range range,
			    struct fb_err *err);

#endif
