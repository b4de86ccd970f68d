/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/fwmap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FWMAP "/sys/firmware/memmap"

struct entry {
	uint64_t start, last;
	char type[64];
};

static int read_entry(const struct fb_sys *sys, const char *name, struct entry *e,
		      struct fb_err *err)
{
	char path[128];
	int rc;

	snprintf(path, sizeof(path), FWMAP "/%s/start", name);
	rc = fb_sys_attr_u64(sys, path, &e->start, err);
	if (rc)
		return rc;
	snprintf(path, sizeof(path), FWMAP "/%s/end", name);
	rc = fb_sys_attr_u64(sys, path, &e->last, err);
	if (rc)
		return rc;
	snprintf(path, sizeof(path), FWMAP "/%s/type", name);
	return fb_sys_attr_read(sys, path, e->type, sizeof(e->type), err);
}

static bool holds(const struct entry *e, struct fb_range range)
{
	return !strncmp(e->type, "Persistent Memory", strlen("Persistent Memory")) &&
	       e->start <= range.start && e->last >= fb_range_last(range);
}

int fb_fwmap_persistent(const struct fb_sys *sys, struct fb_range range,
			bool *persistent, struct fb_err *err)
{
	bool found = false;
	char **names;
	int rc;

	if (!fb_sys_exists(sys, FWMAP)) {
		*persistent = false;
		return 0;
	}
	rc = fb_sys_list(sys, FWMAP, &names, err);
	if (rc)
		return rc;
	for (char **n = names; *n && !rc; n++) {
		struct entry e;

		rc = read_entry(sys, *n, &e, err);
		found |= !rc && range.size && holds(&e, range);
	}
	fb_sys_list_free(names);
	if (!rc)
		*persistent = found;
	return rc;
}
