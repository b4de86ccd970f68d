/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * header - the 1024 bytes in front of the EROFS superblock, which make an
 * image out of a file system, and the two tables behind the metadata. Pure.
 *
 * Everything is little-endian. SPEC.md has the same table in words.
 *
 *  offset size
 *       0    8  magic "fastboot"
 *       8    2  version, 1
 *      10    2  size of the header, 1024
 *      12    4  flags: bit 0 committed; the others are zero
 *      16    8  generation: one more than the image it replaced, from 1
 *      24    8  length of the image in bytes, from the start of block 0
 *      32   16  uuid of the image, also in the EROFS superblock
 *      48   32  metadata:     offset u64, length u64, XXH64 canonical, 8 zero
 *      80   32  state table:  the same
 *     112   32  digest table: the same
 *     144   16  boot id of the machine that wrote it (binary uuid)
 *     160    8  wall clock at the commit, microseconds since 1970
 *     168    8  frequency of the counter in the time stamps, Hz
 *     176    4  number of time stamps, at most 24
 *     180    4  zero
 *     184  384  time stamps: phase u16, zero u16, zero u32, counter u64
 *     568   80  kernel release (uname -r), padded with NUL, at least one
 *     648   80  hostname, the same
 *     728   32  machine (uname -m), the same
 *     760  248  zero
 *    1008    4  CRC32C of bytes 0..1007 (as iSCSI: initial ~0, inverted)
 *    1012    4  left: microseconds from the last time stamp to the kexec, 0 not
 *             known
 *    1016    8  consumed: "consumed" in ASCII, or anything else: not
 *
 * `left` and `consumed` are aligned words outside the checksum: each is set by
 * rewriting block 0 with that word as the only difference, so a write that
 * tears leaves the image as it was or marked, never invalid.
 */
#ifndef FB_FORMAT_HEADER_H
#define FB_FORMAT_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/tree.h"
#include "format/digest.h"

#define FB_HEADER_SIZE        1024u
#define FB_HEADER_VERSION     1u
#define FB_HEADER_PHASES      24u
#define FB_HEADER_BLOCK       4096u
#define FB_HEADER_LEFT_AT     1012u
#define FB_HEADER_CONSUMED_AT 1016u

/* A part of the image with the digest of exactly its bytes. */
struct fb_section {
	uint64_t offset; /* bytes; a multiple of 4096 */
	uint64_t length; /* bytes */
	uint8_t digest[FB_DIGEST_SIZE];
};

/*
 * A time stamp of the boot timeline: TSC on x86, CNTVCT on arm64, which run
 * on through a kexec. `phase` is a number of engine/timeline.h.
 */
struct fb_stamp {
	uint16_t phase;
	uint64_t counter;
};

/* Who wrote the image, when; filled by the caller of the image module. */
struct fb_origin {
	uint64_t generation;  /* from fb_image_begin() */
	uint8_t uuid[16];     /* all zero: fb_image_commit() makes one */
	uint8_t boot_id[16];  /* /proc/sys/kernel/random/boot_id, binary */
	uint64_t wall_usec;   /* CLOCK_REALTIME */
	uint64_t counter_hz;  /* 0 unknown */
	struct fb_stamp stamps[FB_HEADER_PHASES];
	uint32_t stamp_count;
	char release[80];     /* NUL-terminated, all three */
	char hostname[80];
	char machine[32];
};

struct fb_header {
	uint64_t image_length;
	struct fb_section meta, states, digests;
	struct fb_origin origin;
	uint32_t left_usec; /* from the last stamp to the kexec; 0 not known */
	bool consumed;
};

/*
 * Write the header, committed, to bytes 0..1023 of block 0. stamps past 24
 * are dropped; strings are cut to what fits with a NUL.
 */
void fb_header_encode(const struct fb_header *header, uint8_t *block);

/* What the first bytes are, without looking at the rest. */
enum fb_header_kind {
	FB_HEADER_NONE,  /* no magic */
	FB_HEADER_NEWER, /* the magic, and a version above FB_HEADER_VERSION */
	FB_HEADER_TORN,  /* the magic, but the checksum or the size is wrong */
	FB_HEADER_OPEN,  /* valid, not committed */
	FB_HEADER_VALID,
};

enum fb_header_kind fb_header_classify(const uint8_t *block);

/*
 * Read and validate a header. `store_size` is what there is to read: every
 * offset and length is checked against it, sections must be aligned, lie
 * behind block 1 and within the image, in the order metadata, state table,
 * digest table, without overlap. All errors have FB_EXIT_NO_IMAGE and say what
 * is wrong: -ENODATA (no magic, or not committed), -EPROTONOSUPPORT (newer
 * version), -EBADMSG (checksum, a field out of bounds), -ENOSPC (the image is
 * longer than the store).
 */
int fb_header_decode(const uint8_t *block, uint64_t store_size,
		     struct fb_header *header, struct fb_err *err);

/* Clear the consumed word in a block 0. */
void fb_header_unmark_consumed(uint8_t *block);

/* Set the consumed word, or the one with the time of the kexec, in a block 0. */
void fb_header_mark_consumed(uint8_t *block);
void fb_header_mark_left(uint8_t *block, uint32_t left_usec);

/*
 * CRC32C without a final inversion (`fb_crc32c(~0, ...) ^ ~0` is the usual
 * one), as the kernel's crc32c().
 */
uint32_t fb_crc32c(uint32_t seed, const void *bytes, size_t size);

/*
 * State table: count u32, zero u32; then for each state nid u64, flags u32,
 * length of the name u16, length of the path u16, name, path, zeros up to a
 * multiple of 8.
 */
struct fb_state_entry {
	char *name, *path; /* NUL-terminated, owned */
	uint64_t nid;
	uint32_t flags;
};

/* Bytes of the table; -EINVAL where a name or path is longer than 4095. */
int fb_state_table_size(const struct fb_tree *tree, uint64_t *size,
			struct fb_err *err);

/* `nids` has the nid of each inode that a state refers to, in their order. */
void fb_state_table_encode(const struct fb_tree *tree, const uint64_t *nids,
			   uint8_t *table);

/*
 * *entries is malloc'ed, freed with fb_state_entries_free(). Names and paths
 * are not empty and have no NUL. -EBADMSG, -ENOMEM.
 */
int fb_state_table_decode(const uint8_t *table, size_t size,
			  struct fb_state_entry **entries, size_t *count,
			  struct fb_err *err);
void fb_state_entries_free(struct fb_state_entry *entries, size_t count);

/*
 * Digest table: for each run of data first block u32, blocks u32, XXH64 of
 * all their bytes, ascending, not overlapping; a run is at most 1 MiB and
 * belongs to one file.
 */
#define FB_RUN_ENTRY_SIZE 16u
#define FB_RUN_BLOCKS_MAX 256u

struct fb_run_entry {
	uint32_t block;
	uint32_t blocks;
	uint8_t digest[FB_DIGEST_SIZE];
};

void fb_run_encode(const struct fb_run_entry *run, uint8_t *at);

/*
 * The whole table to a malloc'ed array. Runs must lie in blocks
 * 2..data_end - 1. -EBADMSG names the entry, -ENOMEM.
 */
int fb_run_table_decode(const uint8_t *table, size_t size, uint32_t data_end,
			struct fb_run_entry **runs, size_t *count,
			struct fb_err *err);

#endif
