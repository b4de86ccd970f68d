/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "cmd/hugepages.h"

#include <string.h>

#include "base/util.h"
#include "machine/mounts.h"

/* shmem shows huge= only where it is not "never" (mm/shmem.c, Linux 6.12). */
static bool lacks_huge(const struct fb_mount *m)
{
	return m && !strcmp(m->type, "tmpfs") && !strstr(m->options, "huge=") &&
	       fb_mount_has(m, "rw");
}

static bool pays(const struct fb_tree *tree)
{
	struct fb_tree_totals totals;

	fb_tree_count(tree, &totals);
	return fb_tree_huge_bytes(tree) - totals.data_bytes <= totals.data_bytes / 8;
}

void fb_hugepages_enable(const struct fb_tree *tree, const size_t *states, size_t count,
			 struct fb_hugepages *huge)
{
	struct fb_mounts mounts;

	*huge = (struct fb_hugepages){ NULL, 0 };
	if (!pays(tree) || fb_mounts_read(&mounts, NULL))
		return;
	huge->points = calloc(count + 1, sizeof(*huge->points));
	for (size_t i = 0; i < count && huge->points; i++) {
		const char *path = tree->states[states[i]].path;

		if (lacks_huge(fb_mounts_at(&mounts, path)) &&
		    !fb_mount_set(path, "huge", "within_size", NULL))
			huge->points[huge->count++] = path;
	}
	fb_mounts_free(&mounts);
}

void fb_hugepages_end(struct fb_hugepages *huge, bool undo)
{
	for (size_t i = 0; undo && i < huge->count; i++)
		fb_mount_set(huge->points[i], "huge", "never", NULL);
	free(huge->points);
	*huge = (struct fb_hugepages){ NULL, 0 };
}
