/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/iomem.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/util.h"

/* "  100000000-17fffffff : Persistent Memory (legacy)"; false: not that form. */
static bool parse_line(const char *line, size_t length, struct fb_iomem_entry *entry)
{
	size_t blanks = strspn(line, " ");
	char text[128];
	uint64_t start, last;
	int at = 0;

	if (blanks >= length || length - blanks >= sizeof(text))
		return false;
	memcpy(text, line + blanks, length - blanks);
	text[length - blanks] = '\0';
	if (sscanf(text, "%" SCNx64 "-%" SCNx64 " : %n", &start, &last, &at) != 2 ||
	    !at || last < start)
		return false;
	entry->range.start = start;
	/* 2^64 bytes don't fit into `size`; such a root entry is of no use. */
	entry->range.size =
		last - start == UINT64_MAX ? last - start : last - start + 1;
	entry->depth = (unsigned int)(blanks / 2);
	snprintf(entry->name, sizeof(entry->name), "%s", text + at);
	return true;
}

int fb_iomem_parse(const char *text, struct fb_iomem *iomem, struct fb_err *err)
{
	fb_autofree struct fb_iomem_entry *entries = NULL;
	size_t count = 0, capacity = 0, line_number = 0;
	const char *end;

	for (const char *line = text; *line; line = *end ? end + 1 : end) {
		end = strchrnul(line, '\n');
		line_number++;
		if (end == line)
			continue;
		if (fb_array_grow(&entries, &capacity, count + 1, sizeof(*entries)))
			return fb_err_sys(err, ENOMEM, "/proc/iomem");
		if (!parse_line(line, (size_t)(end - line), &entries[count]))
			return fb_err_set(
				err, EINVAL,
				"/proc/iomem, line %zu: not START-LAST : NAME",
				line_number);
		count++;
	}
	iomem->entries = fb_steal_ptr(entries);
	iomem->count = count;
	return 0;
}

/* What anyone but root sees (kernel/resource.c, r_show). */
static bool hidden(const struct fb_iomem *iomem)
{
	for (size_t i = 0; i < iomem->count; i++)
		if (iomem->entries[i].range.start || iomem->entries[i].range.size != 1)
			return false;
	return iomem->count > 0;
}

int fb_iomem_read(const struct fb_sys *sys, struct fb_iomem *iomem, struct fb_err *err)
{
	struct fb_iomem parsed = { NULL, 0 };
	fb_autofree char *text = NULL;
	int rc = fb_sys_read(sys, "/proc/iomem", &text, NULL, err);

	if (!rc)
		rc = fb_iomem_parse(text, &parsed, err);
	if (rc)
		return rc;
	if (hidden(&parsed)) {
		fb_iomem_free(&parsed);
		return fb_err_set(err, EPERM,
				  "/proc/iomem shows no addresses: this needs root");
	}
	*iomem = parsed;
	return 0;
}

/* "MemFree:   123 kB" to bytes. */
static int meminfo_field(const char *text, const char *name, uint64_t *bytes,
			 struct fb_err *err)
{
	size_t length = strlen(name);
	uint64_t kib;

	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, length) || line[length] != ':')
			continue;
		if (sscanf(line + length + 1, "%" SCNu64, &kib) != 1 ||
		    fb_mul_overflow(kib, 1024, bytes))
			break;
		return 0;
	}
	return fb_err_set(err, EINVAL, "/proc/meminfo: no %s in it", name);
}

int fb_meminfo_parse(const char *text, struct fb_meminfo *info, struct fb_err *err)
{
	struct fb_meminfo m;
	int rc = meminfo_field(text, "MemTotal", &m.total, err);

	if (!rc)
		rc = meminfo_field(text, "MemFree", &m.free, err);
	if (!rc)
		rc = meminfo_field(text, "MemAvailable", &m.available, err);
	if (!rc)
		*info = m;
	return rc;
}

int fb_meminfo_read(const struct fb_sys *sys, struct fb_meminfo *info,
		    struct fb_err *err)
{
	fb_autofree char *text = NULL;
	int rc = fb_sys_read(sys, "/proc/meminfo", &text, NULL, err);

	return rc ? rc : fb_meminfo_parse(text, info, err);
}
