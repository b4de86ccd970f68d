/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "engine/state.h"
#include "engine/state_internal.h"

/* Open addressing; the slots are a power of two, at most half of them used. */
struct fb_state_index {
	const struct fb_state_scan *scan;
	size_t slot_count;
	uint32_t slots[]; /* inodes; FB_INODE_NONE: free */
};

static size_t first_slot(const struct fb_state_index *index,
			 const struct fb_state_id *id)
{
	uint64_t hash = (id->ino * 31 + id->dev) * 0x9e3779b97f4a7c15u;

	return (hash >> 32) & (index->slot_count - 1);
}

/* The slot of this file: its own, or a free one. */
static size_t find_slot(const struct fb_state_index *index,
			const struct fb_state_id *id)
{
	size_t at = first_slot(index, id);

	for (; index->slots[at] != FB_INODE_NONE;
	     at = (at + 1) & (index->slot_count - 1)) {
		const struct fb_state_id *other = &index->scan->ids[index->slots[at]];

		if (other->dev == id->dev && other->ino == id->ino)
			break;
	}
	return at;
}

int fb_state_index_make(const struct fb_state_scan *scan, struct fb_state_index **index,
			struct fb_err *err)
{
	size_t count = 256;
	struct fb_state_index *i;

	while (count < 2 * scan->tree.inode_count)
		count *= 2;
	i = malloc(sizeof(*i) + count * sizeof(i->slots[0]));
	if (!i)
		return fb_err_sys(err, ENOMEM, "index of the state");
	i->scan = scan;
	i->slot_count = count;
	memset(i->slots, 0xff, count * sizeof(i->slots[0]));
	for (uint32_t n = 0; n < scan->tree.inode_count; n++) {
		size_t slot = find_slot(i, &scan->ids[n]);

		if (i->slots[slot] == FB_INODE_NONE)
			i->slots[slot] = n;
	}
	*index = i;
	return 0;
}

uint32_t fb_state_index_find(const struct fb_state_index *index,
			     const struct fb_state_scan *scan, uint32_t inode)
{
	return index->slots[find_slot(index, &scan->ids[inode])];
}

const struct fb_inode *fb_state_index_unchanged(const struct fb_state_index *earlier,
						const struct fb_state_id *id)
{
	const struct fb_state_scan *scan;
	const struct fb_state_id *then;
	uint32_t inode;

	if (!earlier)
		return NULL;
	scan = earlier->scan;
	inode = earlier->slots[find_slot(earlier, id)];
	if (inode == FB_INODE_NONE)
		return NULL;
	then = &scan->ids[inode];
	if (then->ctime_sec != id->ctime_sec || then->ctime_nsec != id->ctime_nsec)
		return NULL;
	if (then->ctime_sec > scan->began_sec || (then->ctime_sec == scan->began_sec &&
						  then->ctime_nsec >= scan->began_nsec))
		return NULL;
	return &scan->tree.inodes[inode];
}
