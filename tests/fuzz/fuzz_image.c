/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Raw bytes as a store. First as they are; then with checksums and digests put
 * right wherever the header leads to them, so that the decoders see what a
 * digest would have kept from them. Whatever opens is read as a whole and must
 * be a tree that can be planned again.
 *
 *	build/fuzz/fuzz_image tests/golden/corpus
 */
#define _GNU_SOURCE
#include "../unit/image_help.h"
#include "format/le.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- a store that is the input ---------------------------------------------- */

static int input_read(const struct fb_store *store, void *buf, size_t size,
		      uint64_t offset, struct fb_err *err)
{
	/* A reader that passes the end would be the bug. */
	if (offset > store->size || size > store->size - offset)
		abort();
	(void)err;
	memcpy(buf, (const uint8_t *)store->context + offset, size);
	return 0;
}

static int input_write(const struct fb_store *store, const void *buf, size_t size,
		       uint64_t offset, struct fb_err *err)
{
	if (offset > store->size || size > store->size - offset)
		abort();
	(void)err;
	memcpy((uint8_t *)store->context + offset, buf, size);
	return 0;
}

static int input_flush(const struct fb_store *store, struct fb_err *err)
{
	(void)store, (void)err;
	return 0;
}

static void input_close(struct fb_store *store)
{
	(void)store;
}

/* ---- make the checks pass ---------------------------------------------------- */

static void reseal_section(uint8_t *bytes, size_t size, size_t at)
{
	uint64_t offset = fb_le64(bytes + at), length = fb_le64(bytes + at + 8);

	if (offset <= size && length <= size - offset)
		fb_digest(bytes + offset, length, bytes + at + 16);
}

static void reseal(uint8_t *bytes, size_t size)
{
	uint8_t *super = bytes + 1024;

	memcpy(bytes, "fastboot\1\0\0\4\1\0\0\0", 16);
	memcpy(super, "\xe2\xe1\xf5\xe0", 4);
	memcpy(super + 48, bytes + 32, 16); /* uuid */
	fb_put_le32(super + 40, (uint32_t)(fb_le64(bytes + 48) / 4096));
	fb_put_le32(super + 36, (uint32_t)(fb_le64(bytes + 24) / 4096));
	reseal_section(bytes, size, 48);
	reseal_section(bytes, size, 80);
	reseal_section(bytes, size, 112);
	fb_put_le32(super + 4, 0);
	fb_put_le32(super + 4, fb_crc32c(~0u, super, 3072));
	fb_put_le32(bytes + 1008, ~fb_crc32c(~0u, bytes, 1008));
}

/* ---- use what opens ------------------------------------------------------------ */

static int null_open(void *context, uint32_t inode, struct fb_err *err)
{
	(void)inode, (void)err;
	return dup(*(int *)context);
}

static int note(void *context, uint32_t inode, const char *why, struct fb_err *err)
{
	(void)context, (void)inode, (void)why, (void)err;
	return 0;
}

static void walk(const struct fb_tree *tree)
{
	for (uint32_t i = 0; i < tree->inode_count; i++) {
		char *path = fb_tree_path(tree, i);

		if (!path || fb_tree_lookup(tree, path) != i)
			abort();
		free(path);
	}
}

static void use(struct fb_image *image)
{
	static int null = -1;
	struct fb_image_sink sink = { NULL, null_open, note, &null, NULL };
	struct fb_image_plan plan;
	struct fb_err err = FB_ERR_INIT;

	if (null < 0)
		null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	walk(&image->tree);
	fb_image_verify(image, note, NULL, 1, NULL, &err);
	if (fb_image_read_data(image, &sink, 1, NULL, NULL, &err) &&
	    err.error != EINVAL)
		abort();
	for (uint32_t i = 0; i < image->tree.inode_count && i < 8; i++)
		fb_image_read_file(image, i, null, &err);
	/* What was decoded is a tree like any other. */
	if (!fb_image_plan_make(&image->tree, UINT64_MAX, &plan, &err))
		fb_image_plan_free(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct fb_store_ops ops = { input_read, input_write, input_flush,
						 input_close };
	struct fb_store store = { .ops = &ops, .fd = -1, .name = "input" };
	uint8_t *bytes = malloc(size + 1);

	memcpy(bytes, data, size);
	store.size = size / 4096 * 4096;
	store.context = bytes;
	for (int sealed = 0; sealed < 2; sealed++) {
		enum fb_image_kind kind;
		struct fb_image image;

		if (sealed && size < 8192)
			break;
		if (sealed)
			reseal(bytes, size);
		fb_image_identify(&store, &kind, NULL);
		if (!fb_image_open(&store, &image, NULL)) {
			use(&image);
			fb_image_close(&image);
		}
		fb_image_mark_consumed(&store, NULL);
	}
	free(bytes);
	return 0;
}
