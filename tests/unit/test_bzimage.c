/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <zstd.h>
#include <cmocka.h>

#include "bzimage_help.h"

#include "base/util.h"
#include "format/bzimage.h"
#include "format/inflate.h"

#define GRAIN 0x200000u

static const struct fb_bzimage_options plain = { false, 12345 };

static uint8_t *unpack(const uint8_t *file, size_t size,
		       const struct fb_bzimage_options *options, size_t *length)
{
	struct fb_err err = FB_ERR_INIT;
	void *out = NULL;

	if (fb_bzimage_unpack(file, size, options, &out, length, &err))
		fail_msg("%s", err.text);
	return out;
}

/* ---- what comes out --------------------------------------------------------------- */

static void test_plain(void **state)
{
	uint8_t file[HELP_FILE_MAX];
	size_t size = help_bzimage(file, 3), length;
	fb_autofree uint8_t *out = unpack(file, size, &plain, &length);
	const uint8_t *part = out + HELP_SETUP, *image = part + GRAIN;
	struct help_elf e;

	(void)state;
	help_make_elf(&e, 3);
	/* The setup header is the same, but for what is different now. */
	assert_memory_equal(out, file, 0x1f4);
	assert_memory_equal(out + 0x1fe, file + 0x1fe, 0x248 - 0x1fe);
	assert_int_equal(length, HELP_SETUP + GRAIN + HELP_DATA + 0x1000);
	assert_int_equal(fb_le32(out + 0x1f4) * 16ul, length - HELP_SETUP);
	assert_int_equal(fb_bzimage_memory(out), GRAIN + HELP_MEMORY);
	assert_int_equal(fb_le32(out + 0x248) | fb_le32(out + 0x24c), 0);
	/* As the file's segments say, and nothing between them. */
	assert_memory_equal(image, e.bytes + 0x200, HELP_TEXT);
	assert_memory_equal(image + HELP_DATA, e.bytes + 0x200 + HELP_TEXT, 0x80);
	for (uint32_t i = HELP_TEXT; i < HELP_DATA; i++)
		assert_int_equal(image[i], 0);
	/* orb $0,0x211(%rsi); jmp to startup_64 */
	assert_memory_equal(part + 0x200, "\x80\x8e\x11\x02\0\0\0\xe9", 8);
	assert_int_equal(0x20c + (int32_t)fb_le32(part + 0x208), GRAIN + HELP_ENTRY);
}

static void check_addresses(int groups, uint64_t random, uint64_t delta)
{
	const struct fb_bzimage_options options = { true, random };
	uint8_t file[HELP_FILE_MAX];
	size_t size = help_bzimage(file, groups), length;
	fb_autofree uint8_t *out = unpack(file, size, &options, &length);
	const uint8_t *part = out + HELP_SETUP, *image = part + GRAIN;

	assert_int_equal(fb_le64(image + HELP_AT_64), HELP_VIRTUAL + 0x123 + delta);
	assert_int_equal(fb_le32(image + HELP_AT_INVERSE),
			 groups == 3 ? 0x1000 - (uint32_t)delta : 0x1000);
	assert_int_equal(fb_le32(image + HELP_AT_32),
			 (uint32_t)(HELP_VIRTUAL + 0x456 + delta));
	/* The flag, where there is KASLR at all. */
	assert_int_equal(part[0x206], groups ? 2 : 0);
}

static void test_kaslr(void **state)
{
	/* Slots of 2 MiB from 16 MiB on; the last one ends at 1 GiB. */
	const uint64_t slots = ((1u << 30) - HELP_PHYSICAL - HELP_MEMORY) / GRAIN + 1;

	(void)state;
	check_addresses(3, 0, 0);
	check_addresses(3, 1, GRAIN);
	check_addresses(3, slots - 1, (slots - 1) * GRAIN);
	check_addresses(3, slots, 0);
	check_addresses(2, 5, 5 * GRAIN);
	check_addresses(3, slots * 1000 + 7, 7 * GRAIN);
}

/* One that was built without KASLR stays. */
static void test_no_relocations(void **state)
{
	const struct fb_bzimage_options options = { true, 5 };
	uint8_t file[HELP_FILE_MAX];
	size_t size = help_bzimage(file, 0), length;
	fb_autofree uint8_t *out = unpack(file, size, &options, &length);

	(void)state;
	assert_int_equal(fb_le64(out + HELP_SETUP + GRAIN + HELP_AT_64),
			 HELP_VIRTUAL + 0x123);
	assert_int_equal(out[HELP_SETUP + 0x206], 0);
}

/* ---- compressors ------------------------------------------------------------------- */

static size_t pack_xz(const uint8_t *bytes, size_t size, uint8_t *to)
{
	lzma_options_lzma lzma;
	lzma_filter filters[] = { { LZMA_FILTER_X86, NULL },
				  { LZMA_FILTER_LZMA2, &lzma },
				  { LZMA_VLI_UNKNOWN, NULL } };
	size_t length = 0;

	lzma_lzma_preset(&lzma, 6);
	assert_int_equal(lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, NULL, bytes,
						   size, to, &length, HELP_ELF_MAX),
			 LZMA_OK);
	return length;
}

static size_t pack_lzma(const uint8_t *bytes, size_t size, uint8_t *to)
{
	lzma_stream z = LZMA_STREAM_INIT;
	lzma_options_lzma lzma;

	lzma_lzma_preset(&lzma, 6);
	assert_int_equal(lzma_alone_encoder(&z, &lzma), LZMA_OK);
	z.next_in = bytes;
	z.avail_in = size;
	z.next_out = to;
	z.avail_out = HELP_ELF_MAX;
	assert_int_equal(lzma_code(&z, LZMA_FINISH), LZMA_STREAM_END);
	lzma_end(&z);
	return HELP_ELF_MAX - z.avail_out;
}

static size_t pack_lz4(const uint8_t *bytes, size_t size, uint8_t *to)
{
	int n = LZ4_compress_default((const char *)bytes, (char *)to + 8, (int)size,
				     HELP_ELF_MAX - 8);

	memcpy(to, "\x02\x21\x4c\x18", 4);
	fb_put_le32(to + 4, (uint32_t)n);
	return 8 + (size_t)n;
}

static size_t pack_zstd(const uint8_t *bytes, size_t size, uint8_t *to)
{
	return ZSTD_compress(to, HELP_ELF_MAX, bytes, size, 3);
}

static const struct {
	const char *name;
	size_t (*pack)(const uint8_t *bytes, size_t size, uint8_t *to);
} compressors[] = {
	{ "gzip", help_gzip }, { "xz", pack_xz },     { "lzma", pack_lzma },
	{ "lz4", pack_lz4 },   { "zstd", pack_zstd },
};

static void check_compressor(size_t i)
{
	uint8_t file[HELP_FILE_MAX], packed[HELP_ELF_MAX + 4], back[HELP_ELF_MAX];
	struct help_elf e;
	size_t size, length;
	fb_autofree uint8_t *out = NULL;

	help_make_elf(&e, 3);
	size = compressors[i].pack(e.bytes, e.size, packed);
	length = help_wrap(file, packed, size, e.size);
	out = unpack(file, length, &plain, &length);
	assert_memory_equal(out + HELP_SETUP + GRAIN, e.bytes + 0x200, HELP_TEXT);
	/* Neither more nor less, and not when cut short, anywhere. */
	assert_int_equal(fb_inflate(packed, size, back, e.size, NULL), 0);
	assert_int_equal(fb_inflate(packed, size, back, e.size - 1, NULL), -EBADMSG);
	assert_int_equal(fb_inflate(packed, size, back, e.size + 1, NULL), -EBADMSG);
	for (size_t n = 6; n < size - 8; n++) {
		fb_autofree uint8_t *exact = malloc(n);

		memcpy(exact, packed, n);
		if (fb_inflate(exact, n, back, e.size, NULL) != -EBADMSG)
			fail_msg("%s: %zu of %zu bytes", compressors[i].name, n, size);
	}
}

static void test_compressors(void **state)
{
	uint8_t out[16];

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(compressors); i++)
		check_compressor(i);
	assert_int_equal(fb_inflate("BZh91AY", 7, out, 16, NULL), -ENOTSUP);
	assert_int_equal(fb_inflate("", 0, out, 16, NULL), -ENOTSUP);
}

/* A frame of more than one block, each of 8 MiB but the last. */
static void test_lz4_blocks(void **state)
{
	const size_t block = 8u << 20, size = block + 100;
	fb_autofree char *bytes = calloc(1, size), *back = malloc(size);
	uint8_t packed[65536] = "\x02\x21\x4c\x18";
	int first, second;

	(void)state;
	memset(bytes + block, 'x', 100);
	first = LZ4_compress_default(bytes, (char *)packed + 8, (int)block, 60000);
	fb_put_le32(packed + 4, (uint32_t)first);
	second = LZ4_compress_default(bytes + block, (char *)packed + 12 + first, 100,
				      1000);
	fb_put_le32(packed + 8 + first, (uint32_t)second);
	assert_int_equal(
		fb_inflate(packed, 12 + (size_t)(first + second), back, size, NULL), 0);
	assert_memory_equal(back, bytes, size);
}

/* ---- what is refused ------------------------------------------------------------------ */

static const struct {
	size_t at;
	uint32_t value;
	unsigned int size;
	int rc;
} headers[] = {
	{ 0x1fe, 0, 2, -ENOEXEC },	{ 0x202, 0x58585858, 4, -ENOEXEC },
	{ 0x206, 0x020b, 2, -ENOEXEC }, { 0x236, 0x7e, 2, -ENOEXEC },
	{ 0x1f1, 0xff, 1, -EBADMSG },	{ 0x248, 0x7fffffff, 4, -EBADMSG },
	{ 0x24c, 0x7fffffff, 4, -EBADMSG }, { 0x24c, 3, 4, -EBADMSG },
	{ 0x230, 0x1000, 4, -EBADMSG }, { 0x230, 0x300000, 4, -EBADMSG },
	{ 0x230, 0, 4, -EBADMSG },
};

static void test_headers(void **state)
{
	struct fb_bzimage bz;

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(headers); i++) {
		uint8_t file[HELP_FILE_MAX];
		size_t size = help_bzimage(file, 3);

		memcpy(file + headers[i].at, &headers[i].value, headers[i].size);
		if (fb_bzimage_parse(file, size, &bz, NULL) != headers[i].rc)
			fail_msg("header %zu", i);
	}
	for (size_t size = 0; size < HELP_SETUP + HELP_PAYLOAD; size += 7) {
		fb_autofree uint8_t *exact = malloc(size + 1);
		uint8_t file[HELP_FILE_MAX];

		help_bzimage(file, 3);
		memcpy(exact, file, size);
		assert_int_not_equal(fb_bzimage_parse(exact, size, &bz, NULL), 0);
	}
}

#define OF_ELF(field)  offsetof(Elf64_Ehdr, field), sizeof(((Elf64_Ehdr *)0)->field)
#define OF_SEGMENT(field)                                               \
	sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, field), \
		sizeof(((Elf64_Phdr *)0)->field)
#define OF_RELOCATION(i) 0x200 + HELP_TEXT + 0x80 + sizeof(Elf64_Shdr) + 4 * (i), 4

/* One field of the kernel in it, then packed as it should be. */
static const struct {
	size_t at, size;
	uint64_t value;
} kernels[] = {
	{ 0, 4, 0 },
	{ OF_ELF(e_machine), EM_AARCH64 },
	{ OF_ELF(e_phoff), UINT64_MAX - 8 },
	{ OF_ELF(e_phnum), 0xffff },
	{ OF_ELF(e_phnum), 0 },
	{ OF_ELF(e_phentsize), 8 },
	{ OF_ELF(e_shoff), UINT64_MAX - 8 },
	{ OF_ELF(e_shnum), 0xffff },
	{ OF_ELF(e_shnum), 0 },
	{ OF_ELF(e_entry), HELP_PHYSICAL - 1 },
	{ OF_ELF(e_entry), HELP_PHYSICAL + HELP_DATA_END },
	{ OF_SEGMENT(p_offset), HELP_ELF_MAX },
	{ OF_SEGMENT(p_offset), UINT64_MAX },
	{ OF_SEGMENT(p_filesz), UINT64_MAX },
	{ OF_SEGMENT(p_filesz), 0x3001 },
	{ OF_SEGMENT(p_memsz), 0x7f },
	{ OF_SEGMENT(p_memsz), UINT64_MAX },
	{ OF_SEGMENT(p_memsz), 1u << 30 },
	{ OF_SEGMENT(p_paddr), UINT64_MAX - 0x1000 },
	{ OF_SEGMENT(p_align), 0x1000 },
	{ OF_RELOCATION(0), 5 },
	{ OF_RELOCATION(1), (uint32_t)HELP_VIRTUAL - 1 },
	{ OF_RELOCATION(1), (uint32_t)HELP_VIRTUAL + HELP_DATA_END - 7 },
	{ OF_RELOCATION(5), (uint32_t)HELP_VIRTUAL + HELP_DATA_END - 3 },
	{ OF_RELOCATION(1), 0 },
	{ OF_RELOCATION(5), 0x7fffffff },
};

static void test_kernels(void **state)
{
	const struct fb_bzimage_options options = { true, 1 };

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(kernels); i++) {
		uint8_t file[HELP_FILE_MAX], packed[HELP_ELF_MAX];
		struct fb_err err = FB_ERR_INIT;
		struct help_elf e;
		void *out = NULL;
		size_t size;

		help_make_elf(&e, 3);
		memcpy(e.bytes + kernels[i].at, &kernels[i].value, kernels[i].size);
		size = help_wrap(file, packed, help_gzip(e.bytes, e.size, packed),
				 e.size);
		if (fb_bzimage_unpack(file, size, &options, &out, &size, &err) !=
			    -EBADMSG ||
		    !err.text[0] || out)
			fail_msg("kernel %zu: %s", i, err.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_kaslr),
		cmocka_unit_test(test_no_relocations),
		cmocka_unit_test(test_compressors),
		cmocka_unit_test(test_lz4_blocks),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_kernels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
