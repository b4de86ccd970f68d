/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "format/header.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "format/le.h"

/* Offsets in the header; header.h has the table. */
enum {
	AT_MAGIC = 0,
	AT_VERSION = 8,
	AT_HEADER_SIZE = 10,
	AT_FLAGS = 12,
	AT_GENERATION = 16,
	AT_LENGTH = 24,
	AT_UUID = 32,
	AT_META = 48,
	AT_STATES = 80,
	AT_DIGESTS = 112,
	AT_BOOT_ID = 144,
	AT_WALL = 160,
	AT_COUNTER_HZ = 168,
	AT_STAMP_COUNT = 176,
	AT_STAMPS = 184,
	AT_RELEASE = 568,
	AT_HOSTNAME = 648,
	AT_MACHINE = 728,
	AT_CRC = 1008,
	AT_LEFT = FB_HEADER_LEFT_AT,
	AT_CONSUMED = FB_HEADER_CONSUMED_AT,
};

#define STAMP_SIZE     16u
#define FLAG_COMMITTED 0x1u

static const char magic[8] = { 'f', 'a', 's', 't', 'b', 'o', 'o', 't' };
static const char consumed_word[8] = { 'c', 'o', 'n', 's', 'u', 'm', 'e', 'd' };

/* Castagnoli's polynomial, reflected, for each value of four bits. */
static const uint32_t crc_step[16] = {
	0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
	0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
	0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
};

/* Only headers of a block are summed: a table of 64 bytes is fast enough. */
uint32_t fb_crc32c(uint32_t seed, const void *bytes, size_t size)
{
	const uint8_t *p = bytes;
	uint32_t crc = seed;

	for (size_t i = 0; i < size; i++) {
		crc ^= p[i];
		crc = crc >> 4 ^ crc_step[crc & 15];
		crc = crc >> 4 ^ crc_step[crc & 15];
	}
	return crc;
}

static uint32_t header_crc(const uint8_t *block)
{
	return ~fb_crc32c(~0u, block, AT_CRC);
}

static void put_section(uint8_t *at, const struct fb_section *section)
{
	fb_put_le64(at, section->offset);
	fb_put_le64(at + 8, section->length);
	memcpy(at + 16, section->digest, FB_DIGEST_SIZE);
}

static void get_section(const uint8_t *at, struct fb_section *section)
{
	section->offset = fb_le64(at);
	section->length = fb_le64(at + 8);
	memcpy(section->digest, at + 16, FB_DIGEST_SIZE);
}

static void put_text(uint8_t *at, size_t size, const char *text)
{
	memcpy(at, text, strnlen(text, size - 1));
}

static void get_text(const uint8_t *at, size_t size, char *text)
{
	memcpy(text, at, size);
	text[size - 1] = '\0';
}

static void put_origin(uint8_t *block, const struct fb_origin *origin)
{
	uint32_t count = origin->stamp_count;

	if (count > FB_HEADER_PHASES)
		count = FB_HEADER_PHASES;
	fb_put_le64(block + AT_GENERATION, origin->generation);
	memcpy(block + AT_UUID, origin->uuid, 16);
	memcpy(block + AT_BOOT_ID, origin->boot_id, 16);
	fb_put_le64(block + AT_WALL, origin->wall_usec);
	fb_put_le64(block + AT_COUNTER_HZ, origin->counter_hz);
	fb_put_le32(block + AT_STAMP_COUNT, count);
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *at = block + AT_STAMPS + i * STAMP_SIZE;

		fb_put_le16(at, origin->stamps[i].phase);
		fb_put_le64(at + 8, origin->stamps[i].counter);
	}
	put_text(block + AT_RELEASE, sizeof(origin->release), origin->release);
	put_text(block + AT_HOSTNAME, sizeof(origin->hostname), origin->hostname);
	put_text(block + AT_MACHINE, sizeof(origin->machine), origin->machine);
}

static void get_origin(const uint8_t *block, struct fb_origin *origin)
{
	origin->generation = fb_le64(block + AT_GENERATION);
	memcpy(origin->uuid, block + AT_UUID, 16);
	memcpy(origin->boot_id, block + AT_BOOT_ID, 16);
	origin->wall_usec = fb_le64(block + AT_WALL);
	origin->counter_hz = fb_le64(block + AT_COUNTER_HZ);
	origin->stamp_count = fb_le32(block + AT_STAMP_COUNT);
	for (uint32_t i = 0; i < origin->stamp_count; i++) {
		const uint8_t *at = block + AT_STAMPS + i * STAMP_SIZE;

		origin->stamps[i].phase = fb_le16(at);
		origin->stamps[i].counter = fb_le64(at + 8);
	}
	get_text(block + AT_RELEASE, sizeof(origin->release), origin->release);
	get_text(block + AT_HOSTNAME, sizeof(origin->hostname), origin->hostname);
	get_text(block + AT_MACHINE, sizeof(origin->machine), origin->machine);
}

void fb_header_encode(const struct fb_header *header, uint8_t *block)
{
	memset(block, 0, FB_HEADER_SIZE);
	memcpy(block + AT_MAGIC, magic, sizeof(magic));
	fb_put_le16(block + AT_VERSION, FB_HEADER_VERSION);
	fb_put_le16(block + AT_HEADER_SIZE, FB_HEADER_SIZE);
	fb_put_le32(block + AT_FLAGS, FLAG_COMMITTED);
	fb_put_le64(block + AT_LENGTH, header->image_length);
	put_section(block + AT_META, &header->meta);
	put_section(block + AT_STATES, &header->states);
	put_section(block + AT_DIGESTS, &header->digests);
	put_origin(block, &header->origin);
	fb_put_le32(block + AT_CRC, header_crc(block));
	fb_header_mark_left(block, header->left_usec);
	if (header->consumed)
		fb_header_mark_consumed(block);
}

void fb_header_mark_consumed(uint8_t *block)
{
	memcpy(block + AT_CONSUMED, consumed_word, sizeof(consumed_word));
}

void fb_header_unmark_consumed(uint8_t *block)
{
	memset(block + AT_CONSUMED, 0, sizeof(consumed_word));
}

void fb_header_mark_left(uint8_t *block, uint32_t left_usec)
{
	fb_put_le32(block + AT_LEFT, left_usec);
}

enum fb_header_kind fb_header_classify(const uint8_t *block)
{
	if (memcmp(block, magic, sizeof(magic)))
		return FB_HEADER_NONE;
	/*
	 * A later version may have its checksum elsewhere. One that only looks
	 * later because it is torn is refused all the same.
	 */
	if (fb_le16(block + AT_VERSION) > FB_HEADER_VERSION)
		return FB_HEADER_NEWER;
	if (fb_le16(block + AT_VERSION) != FB_HEADER_VERSION ||
	    fb_le16(block + AT_HEADER_SIZE) != FB_HEADER_SIZE ||
	    fb_le32(block + AT_CRC) != header_crc(block))
		return FB_HEADER_TORN;
	if (fb_le32(block + AT_FLAGS) != FLAG_COMMITTED)
		return FB_HEADER_OPEN;
	return FB_HEADER_VALID;
}

static int no_image(struct fb_err *err, int error, const char *text)
{
	return fb_err_exit(err, FB_EXIT_NO_IMAGE, error, "%s", text);
}

static int check_kind(const uint8_t *block, struct fb_err *err)
{
	switch (fb_header_classify(block)) {
	case FB_HEADER_NONE:
		return no_image(err, ENODATA, "no fastboot header");
	case FB_HEADER_NEWER:
		return fb_err_exit(err, FB_EXIT_NO_IMAGE, EPROTONOSUPPORT,
				   "the image has format version %u, this "
				   "fastboot reads up to %u",
				   fb_le16(block + AT_VERSION), FB_HEADER_VERSION);
	case FB_HEADER_TORN:
		return no_image(err, EBADMSG,
				"the fastboot header is damaged: its checksum is "
				"wrong");
	case FB_HEADER_OPEN:
		return no_image(err, ENODATA, "the image was never committed");
	case FB_HEADER_VALID:
		break;
	}
	return 0;
}

/* `at` is where the previous part ended; moves to the end of this one. */
static int check_section(const struct fb_section *section, const char *what,
			 uint64_t image_length, uint64_t *at, struct fb_err *err)
{
	uint64_t end;

	if (section->offset % FB_HEADER_BLOCK || section->offset < *at ||
	    fb_add_overflow(section->offset, section->length, &end) ||
	    end > image_length)
		return fb_err_exit(err, FB_EXIT_NO_IMAGE, EBADMSG,
				   "the fastboot header is damaged: the %s at %" PRIu64
				   ", %" PRIu64 " bytes, is out of bounds",
				   what, section->offset, section->length);
	*at = end;
	return 0;
}

static int check_length(const struct fb_header *h, uint64_t store_size,
			struct fb_err *err)
{
	char want[FB_SIZE_TEXT_MAX], have[FB_SIZE_TEXT_MAX];

	if (h->image_length % FB_HEADER_BLOCK || h->image_length < 3 * FB_HEADER_BLOCK)
		return fb_err_exit(err, FB_EXIT_NO_IMAGE, EBADMSG,
				   "the fastboot header is damaged: an image of "
				   "%" PRIu64 " bytes",
				   h->image_length);
	if (h->image_length > store_size)
		return fb_err_exit(err, FB_EXIT_NO_IMAGE, ENOSPC,
				   "the image is cut off: it has %s, here are %s",
				   fb_size_text(h->image_length, want),
				   fb_size_text(store_size, have));
	return 0;
}

static int check_sections(const struct fb_header *h, struct fb_err *err)
{
	uint64_t at = 2 * FB_HEADER_BLOCK;
	int ret;

	ret = check_section(&h->meta, "metadata", h->image_length, &at, err);
	if (ret)
		return ret;
	if (!h->meta.length || h->meta.length % FB_HEADER_BLOCK)
		return fb_err_exit(err, FB_EXIT_NO_IMAGE, EBADMSG,
				   "the fastboot header is damaged: %" PRIu64
				   " bytes of metadata",
				   h->meta.length);
	ret = check_section(&h->states, "state table", h->image_length, &at, err);
	if (ret)
		return ret;
	return check_section(&h->digests, "digest table", h->image_length, &at, err);
}

int fb_header_decode(const uint8_t *block, uint64_t store_size,
		     struct fb_header *header, struct fb_err *err)
{
	struct fb_header h;
	int ret = check_kind(block, err);

	if (ret)
		return ret;
	memset(&h, 0, sizeof(h));
	h.image_length = fb_le64(block + AT_LENGTH);
	get_section(block + AT_META, &h.meta);
	get_section(block + AT_STATES, &h.states);
	get_section(block + AT_DIGESTS, &h.digests);
	h.left_usec = fb_le32(block + AT_LEFT);
	h.consumed = !memcmp(block + AT_CONSUMED, consumed_word, sizeof(consumed_word));
	if (fb_le32(block + AT_STAMP_COUNT) > FB_HEADER_PHASES)
		return fb_err_exit(err, FB_EXIT_NO_IMAGE, EBADMSG,
				   "the fastboot header is damaged: %u time stamps",
				   fb_le32(block + AT_STAMP_COUNT));
	get_origin(block, &h.origin);
	ret = check_length(&h, store_size, err);
	if (!ret)
		ret = check_sections(&h, err);
	if (!ret)
		*header = h;
	return ret;
}

/* ---- state table ---------------------------------------------------------- */

#define STATE_HEAD  8u
#define STATE_ENTRY 16u
#define STATE_TEXT  4095u

static uint64_t state_size(size_t name, size_t path)
{
	return fb_align_up(STATE_ENTRY + name + path, 8);
}

int fb_state_table_size(const struct fb_tree *tree, uint64_t *size, struct fb_err *err)
{
	uint64_t total = STATE_HEAD;

	for (size_t i = 0; i < tree->state_count; i++) {
		const struct fb_tree_state *s = &tree->states[i];
		size_t name = strlen(s->name), path = strlen(s->path);

		if (!name || !path || name > STATE_TEXT || path > STATE_TEXT)
			return fb_err_set(err, EINVAL,
					  "state %zu: a name of %zu bytes and a path "
					  "of %zu: 1 to %u is possible",
					  i, name, path, STATE_TEXT);
		total += state_size(name, path);
	}
	*size = total;
	return 0;
}

void fb_state_table_encode(const struct fb_tree *tree, const uint64_t *nids,
			   uint8_t *table)
{
	uint8_t *at = table + STATE_HEAD;

	memset(table, 0, STATE_HEAD);
	fb_put_le32(table, (uint32_t)tree->state_count);
	for (size_t i = 0; i < tree->state_count; i++) {
		const struct fb_tree_state *s = &tree->states[i];
		size_t name = strlen(s->name), path = strlen(s->path);

		memset(at, 0, state_size(name, path));
		fb_put_le64(at, nids[i]);
		fb_put_le32(at + 8, s->flags);
		fb_put_le16(at + 12, (uint16_t)name);
		fb_put_le16(at + 14, (uint16_t)path);
		memcpy(at + STATE_ENTRY, s->name, name);
		memcpy(at + STATE_ENTRY + name, s->path, path);
		at += state_size(name, path);
	}
}

static int bad_state(struct fb_err *err, size_t i)
{
	return fb_err_set(err, EBADMSG, "the state table is damaged at entry %zu", i);
}

static int decode_state(const uint8_t *at, size_t left, size_t i,
			struct fb_state_entry *entry, size_t *used, struct fb_err *err)
{
	size_t name, path;

	if (left < STATE_ENTRY)
		return bad_state(err, i);
	name = fb_le16(at + 12);
	path = fb_le16(at + 14);
	if (!name || !path || name > STATE_TEXT || path > STATE_TEXT ||
	    state_size(name, path) > left || memchr(at + STATE_ENTRY, 0, name + path))
		return bad_state(err, i);
	entry->nid = fb_le64(at);
	entry->flags = fb_le32(at + 8);
	entry->name = strndup((const char *)at + STATE_ENTRY, name);
	entry->path = strndup((const char *)at + STATE_ENTRY + name, path);
	if (!entry->name || !entry->path)
		return fb_err_sys(err, ENOMEM, "state table");
	*used = state_size(name, path);
	return 0;
}

void fb_state_entries_free(struct fb_state_entry *entries, size_t count)
{
	for (size_t i = 0; entries && i < count; i++) {
		free(entries[i].name);
		free(entries[i].path);
	}
	free(entries);
}

int fb_state_table_decode(const uint8_t *table, size_t size,
			  struct fb_state_entry **entries, size_t *count,
			  struct fb_err *err)
{
	struct fb_state_entry *e;
	size_t n, at = STATE_HEAD;

	if (size < STATE_HEAD)
		return bad_state(err, 0);
	n = fb_le32(table);
	if (n > (size - STATE_HEAD) / STATE_ENTRY)
		return bad_state(err, 0);
	e = calloc(n ? n : 1, sizeof(*e));
	if (!e)
		return fb_err_sys(err, ENOMEM, "state table");
	for (size_t i = 0; i < n; i++) {
		size_t used = 0;
		int ret = decode_state(table + at, size - at, i, &e[i], &used, err);

		if (ret) {
			fb_state_entries_free(e, n);
			return ret;
		}
		at += used;
	}
	*entries = e;
	*count = n;
	return 0;
}

/* ---- digest table --------------------------------------------------------- */

void fb_run_encode(const struct fb_run_entry *run, uint8_t *at)
{
	fb_put_le32(at, run->block);
	fb_put_le32(at + 4, run->blocks);
	memcpy(at + 8, run->digest, FB_DIGEST_SIZE);
}

static int decode_run(const uint8_t *at, size_t i, uint32_t data_end, uint32_t *next,
		      struct fb_run_entry *run, struct fb_err *err)
{
	run->block = fb_le32(at);
	run->blocks = fb_le32(at + 4);
	memcpy(run->digest, at + 8, FB_DIGEST_SIZE);
	if (run->block < *next || !run->blocks || run->blocks > FB_RUN_BLOCKS_MAX ||
	    run->block >= data_end || run->blocks > data_end - run->block)
		return fb_err_set(err, EBADMSG,
				  "the digest table is damaged at entry %zu: %u blocks "
				  "at block %u",
				  i, run->blocks, run->block);
	*next = run->block + run->blocks;
	return 0;
}

int fb_run_table_decode(const uint8_t *table, size_t size, uint32_t data_end,
			struct fb_run_entry **runs, size_t *count, struct fb_err *err)
{
	size_t n = size / FB_RUN_ENTRY_SIZE;
	fb_autofree struct fb_run_entry *r = NULL;
	uint32_t next = 2;

	if (size % FB_RUN_ENTRY_SIZE)
		return fb_err_set(err, EBADMSG,
				  "the digest table is damaged: %zu bytes", size);
	r = calloc(n ? n : 1, sizeof(*r));
	if (!r)
		return fb_err_sys(err, ENOMEM, "digest table");
	for (size_t i = 0; i < n; i++) {
		int ret = decode_run(table + i * FB_RUN_ENTRY_SIZE, i, data_end, &next,
				     &r[i], err);

		if (ret)
			return ret;
	}
	*runs = fb_steal_ptr(r);
	*count = n;
	return 0;
}
