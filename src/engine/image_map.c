/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "engine/image_map.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include "base/util.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

int fb_image_maps_make(struct fb_image_maps *maps, size_t inode_count)
{
	maps->map = calloc(inode_count ? inode_count : 1, sizeof(*maps->map));
	maps->count = maps->map ? inode_count : 0;
	return maps->map ? 0 : -ENOMEM;
}

void fb_image_maps_free(struct fb_image_maps *maps)
{
	for (size_t i = 0; i < maps->count; i++)
		if (maps->map[i].base)
			munmap(maps->map[i].base, maps->map[i].size);
	free(fb_steal_ptr(maps->map));
	maps->count = 0;
}

uint8_t *fb_image_map_find(const struct fb_image_maps *maps, uint32_t inode)
{
	return atomic_load(&maps->map[inode].base);
}

static bool is_tmpfs(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == TMPFS_MAGIC;
}

uint8_t *fb_image_map_make(struct fb_image_maps *maps, uint32_t inode, int fd,
			   uint64_t size, bool writable)
{
	struct fb_image_map *map = &maps->map[inode];
	int protection = PROT_READ | (writable ? PROT_WRITE : 0);
	uint8_t *base = fb_image_map_find(maps, inode), *none = NULL;

	if (base || !is_tmpfs(fd))
		return base;
	base = mmap(NULL, size, protection, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return NULL;
	if (atomic_compare_exchange_strong(&map->base, &none, base)) {
		map->size = size;
		return base;
	}
	munmap(base, size);
	return none;
}

size_t fb_image_map_group(const struct fb_image_run *runs,
			  const struct fb_image_job *job, size_t at)
{
	const struct fb_image_run *first = &runs[at];
	uint64_t size = first->blocks * (uint64_t)FB_STORE_BLOCK;
	size_t count = 0, end = job->first + job->count;

	while (at + count < end && count < FB_DIGEST_LANES &&
	       runs[at + count].inode == first->inode &&
	       runs[at + count].offset == first->offset + count * size &&
	       runs[at + count].length == size)
		count++;
	return count;
}

int fb_image_map_populate(uint8_t *at, size_t size, bool writable)
{
	return madvise(at, size, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ)
		       ? -errno
		       : 0;
}
