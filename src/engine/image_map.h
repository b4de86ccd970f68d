/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image_map - files in tmpfs, mapped: their data goes between them and the
 * store without a buffer between. Private to engine/image_*.c.
 *
 * A file is mapped as a whole when it is first asked for, and for all threads
 * together, until the table is freed.
 */
#ifndef FB_ENGINE_IMAGE_MAP_H
#define FB_ENGINE_IMAGE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/image_work.h"

/* Smaller files are not worth the page tables. */
#define FB_IMAGE_MAP_MIN ((uint64_t)2 << 20)

struct fb_image_map {
	uint8_t *_Atomic base;
	uint64_t size;
};

/* One for each inode of a tree. */
struct fb_image_maps {
	struct fb_image_map *map;
	size_t count;
};

/* -ENOMEM. Freed with fb_image_maps_free(), which ends the mappings. */
int fb_image_maps_make(struct fb_image_maps *maps, size_t inode_count);
void fb_image_maps_free(struct fb_image_maps *maps);

/* The mapping of an inode, NULL where there is none. */
uint8_t *fb_image_map_find(const struct fb_image_maps *maps, uint32_t inode);

/*
 * Map the file that `fd` has open (O_RDWR where `writable`), `size` bytes;
 * `fd` stays the caller's. From several threads at once. NULL: it is not in
 * tmpfs, or cannot be mapped.
 */
uint8_t *fb_image_map_make(struct fb_image_maps *maps, uint32_t inode, int fd,
			   uint64_t size, bool writable);

/*
 * The runs of a job from `at` on that a mapping is used for at a time: whole
 * blocks, of one size, that follow each other in one file; at most
 * FB_DIGEST_LANES, and none where the run `at` does not fill its last block.
 */
size_t fb_image_map_group(const struct fb_image_run *runs,
			  const struct fb_image_job *job, size_t at);

/*
 * Bring pages in, for reading or for writing, so that no access to them
 * faults: madvise(2) MADV_POPULATE_READ, MADV_POPULATE_WRITE (Linux 5.14).
 * 0 or -errno: -EFAULT where the file has ended or its file system is full.
 */
int fb_image_map_populate(uint8_t *at, size_t size, bool writable);

#endif
