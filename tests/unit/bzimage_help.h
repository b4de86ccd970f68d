/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A bzImage as small as one can be, for the tests of format/bzimage. */
#ifndef BZIMAGE_HELP_H
#define BZIMAGE_HELP_H

#include <elf.h>
#include <stdint.h>
#include <string.h>
#include <zlib.h>

#include "format/le.h"

#define HELP_PHYSICAL 0x1000000u
#define HELP_ENTRY    0x40u		 /* of startup_64, from there on */
#define HELP_TEXT     0x1000u		 /* bytes of the first segment */
#define HELP_DATA     0x200000u		 /* where the second one begins */
#define HELP_DATA_END (HELP_DATA + 0x80) /* of what is in the file */
#define HELP_MEMORY   (HELP_DATA + 0x3000)
#define HELP_SETUP    (2 * 512u)
#define HELP_PAYLOAD  0x300u
#define HELP_VIRTUAL  0xffffffff81000000u
/* In the second segment: words that hold addresses. */
#define HELP_AT_64	(HELP_DATA + 0x10)
#define HELP_AT_INVERSE (HELP_DATA + 0x20)
#define HELP_AT_32	(HELP_DATA + 0x30)

#define HELP_ELF_MAX 8192u
#define HELP_FILE_MAX 16384u

struct help_elf {
	uint8_t bytes[HELP_ELF_MAX];
	size_t size;
};

static Elf64_Phdr help_segment(uint32_t from, uint32_t file, uint32_t memory,
			       uint64_t offset)
{
	return (Elf64_Phdr){ .p_type = PT_LOAD,
			     .p_offset = offset,
			     .p_vaddr = HELP_VIRTUAL + from,
			     .p_paddr = HELP_PHYSICAL + from,
			     .p_filesz = file,
			     .p_memsz = memory,
			     .p_align = 0x200000 };
}

static void help_word(struct help_elf *e, uint32_t word)
{
	fb_put_le32(e->bytes + e->size, word);
	e->size += 4;
}

/* groups: 0, 2 or 3 of relocations. */
static void help_make_elf(struct help_elf *e, int groups)
{
	const uint64_t text = 0x200, data = text + HELP_TEXT, sections = data + 0x80;
	Elf64_Ehdr h = { .e_type = ET_EXEC,
			 .e_machine = EM_X86_64,
			 .e_version = 1,
			 .e_entry = HELP_PHYSICAL + HELP_ENTRY,
			 .e_phoff = sizeof(h),
			 .e_phentsize = sizeof(Elf64_Phdr),
			 .e_phnum = 3,
			 .e_shoff = sections,
			 .e_shentsize = sizeof(Elf64_Shdr),
			 .e_shnum = 1 };
	Elf64_Phdr p[3] = { help_segment(0, HELP_TEXT, HELP_TEXT, text),
			    help_segment(HELP_DATA, 0x80, 0x3000, data),
			    { .p_type = PT_NOTE } };

	memset(e, 0, sizeof(*e));
	memcpy(h.e_ident, ELFMAG, SELFMAG);
	h.e_ident[EI_CLASS] = ELFCLASS64;
	h.e_ident[EI_DATA] = ELFDATA2LSB;
	memcpy(e->bytes, &h, sizeof(h));
	memcpy(e->bytes + sizeof(h), p, sizeof(p));
	for (uint64_t i = text; i < data; i++)
		e->bytes[i] = (uint8_t)(i * 7 + 1);
	fb_put_le64(e->bytes + data + 0x10, HELP_VIRTUAL + 0x123);
	fb_put_le32(e->bytes + data + 0x20, 0x1000);
	fb_put_le32(e->bytes + data + 0x30, (uint32_t)HELP_VIRTUAL + 0x456);
	e->size = sections + sizeof(Elf64_Shdr);
	if (!groups)
		return;
	help_word(e, 0);
	help_word(e, (uint32_t)HELP_VIRTUAL + HELP_AT_64);
	if (groups == 3) {
		help_word(e, 0);
		help_word(e, (uint32_t)HELP_VIRTUAL + HELP_AT_INVERSE);
	}
	help_word(e, 0);
	help_word(e, (uint32_t)HELP_VIRTUAL + HELP_AT_32);
}

/* Around payload[size], which is what a compressor made of `unpacked` bytes. Returns
 * the size; `to` has HELP_FILE_MAX bytes. */
static size_t help_wrap(uint8_t *to, const uint8_t *payload, size_t size, size_t unpacked)
{
	uint8_t *part = to + HELP_SETUP;

	memset(to, 0, HELP_SETUP + HELP_PAYLOAD);
	to[0x1f1] = 1;
	fb_put_le16(to + 0x1fe, 0xaa55);
	to[0x201] = 0x6a;
	memcpy(to + 0x202, "HdrS", 4);
	fb_put_le16(to + 0x206, 0x020f);
	to[0x211] = 1;
	fb_put_le32(to + 0x230, 0x200000);
	fb_put_le16(to + 0x236, 0x7f);
	fb_put_le32(to + 0x248, HELP_PAYLOAD);
	fb_put_le32(to + 0x24c, (uint32_t)size + 4);
	fb_put_le32(to + 0x260, 0x900000);
	memcpy(part + HELP_PAYLOAD, payload, size);
	fb_put_le32(part + HELP_PAYLOAD + size, (uint32_t)unpacked);
	return HELP_SETUP + HELP_PAYLOAD + size + 4;
}

static size_t help_gzip(const uint8_t *bytes, size_t size, uint8_t *to)
{
	z_stream z = { .next_in = (Bytef *)bytes,
		       .avail_in = (uInt)size,
		       .next_out = to,
		       .avail_out = HELP_ELF_MAX };

	deflateInit2(&z, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
	deflate(&z, Z_FINISH);
	deflateEnd(&z);
	return z.total_out;
}

/* A whole one, by gzip. */
static size_t help_bzimage(uint8_t *to, int groups)
{
	struct help_elf e;
	uint8_t packed[HELP_ELF_MAX];

	help_make_elf(&e, groups);
	return help_wrap(to, packed, help_gzip(e.bytes, e.size, packed), e.size);
}

#endif
