/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Any bytes as a kernel command line, half of them as a text to append. Besides
 * memory errors: what was composed must say what it was composed to say.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "format/cmdline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

/* Arguments lie in the text, in order, and values in their arguments. */
static size_t walk(const char *line)
{
	struct fb_cmdline_iter it = fb_cmdline_begin(line);
	const char *end = line + strlen(line), *last = line;
	struct fb_cmdline_arg a;
	size_t n = 0;

	for (; fb_cmdline_next(&it, &a); n++) {
		require(a.text >= last && a.length && a.text + a.length <= end);
		require(a.name >= a.text &&
			a.name + a.name_length <= a.text + a.length);
		require(!a.value || (a.value > a.name &&
				     a.value + a.value_length <= a.text + a.length));
		last = a.text + a.length;
	}
	return n;
}

static void judge(const char *line)
{
	struct fb_range range = { 4 * FB_GIB, 2 * FB_GIB };
	fb_autofree struct fb_memmap *list = NULL;
	fb_autofree char *with = NULL, *reused = NULL;
	struct fb_err err = FB_ERR_INIT;
	size_t count;

	require(!fb_memmap_parse(line, &list, &count, &err));
	fb_cmdline_carries(line, range, &err);
	fb_cmdline_kaslr_avoids(line, range, &err);
	require(!fb_cmdline_reuse(line, &reused, &err));
	require(walk(reused) <= walk(line));
	if (fb_cmdline_append(line, "memmap=2G!4G", &with, &err))
		return;
	require(walk(with) == walk(line) + 1);
	/* It is there now; it may be spoilt by what else is. */
	require(fb_cmdline_carries(with, range, &err) != -ENOENT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fb_autofree char *line = strndup((const char *)data, size / 2);
	fb_autofree char *text =
		strndup((const char *)data + size / 2, size - size / 2);
	fb_autofree char *both = NULL;

	walk(line);
	judge(line);
	if (!fb_cmdline_append_missing(line, text, &both, NULL))
		judge(both);
	return 0;
}
