/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/bzimage.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "format/inflate.h"
#include "format/le.h"

/* struct setup_header, Documentation/arch/x86/boot.rst; offsets in the file. */
enum {
	AT_SETUP_SECTS = 0x1f1,
	AT_SYSSIZE = 0x1f4,
	AT_BOOT_FLAG = 0x1fe,
	AT_MAGIC = 0x202,
	AT_VERSION = 0x206,
	AT_LOADFLAGS = 0x211, /* of boot_params, too */
	AT_ALIGNMENT = 0x230,
	AT_XLOADFLAGS = 0x236,
	AT_PAYLOAD = 0x248, /* offset from the end of the setup sectors, length */
	AT_PAYLOAD_SIZE = 0x24c,
	AT_INIT_SIZE = 0x260,
	HEADER_END = 0x264,
};

#define SECTOR		 512u
#define VERSION_MIN	 0x020c
#define BOOT_FLAG	 0xaa55
#define XLF_KERNEL_64	 0x0001
#define KASLR_FLAG	 0x02 /* in loadflags */
#define ENTRY_64	 0x200u
#define GRAIN		 (2 * FB_MIB) /* the kernel's page tables begin with these */
#define UNPACKED_MAX	 (512 * FB_MIB)
#define START_KERNEL_MAP 0xffffffff80000000u
/* With KASLR; without, half of it. */
#define KERNEL_IMAGE_SIZE FB_GIB

/* ---- the file ------------------------------------------------------------------ */

static int refuse(struct fb_err *err, const char *why)
{
	return fb_err_set(err, EBADMSG, "%s", why);
}

int fb_bzimage_parse(const void *file, size_t size, struct fb_bzimage *out,
		     struct fb_err *err)
{
	const uint8_t *f = file;
	struct fb_bzimage bz;

	if (size < HEADER_END || fb_le16(f + AT_BOOT_FLAG) != BOOT_FLAG ||
	    memcmp(f + AT_MAGIC, "HdrS", 4) || fb_le16(f + AT_VERSION) < VERSION_MIN ||
	    !(fb_le16(f + AT_XLOADFLAGS) & XLF_KERNEL_64))
		return fb_err_set(err, ENOEXEC, "not a 64-bit bzImage");
	bz.setup_size = ((f[AT_SETUP_SECTS] ? f[AT_SETUP_SECTS] : 4) + 1) * SECTOR;
	bz.xloadflags = fb_le16(f + AT_XLOADFLAGS);
	bz.alignment = fb_le32(f + AT_ALIGNMENT);
	bz.payload = bz.setup_size + fb_le32(f + AT_PAYLOAD);
	bz.payload_size = fb_le32(f + AT_PAYLOAD_SIZE);
	if (bz.setup_size < HEADER_END || bz.payload > size || bz.payload_size < 4 ||
	    bz.payload_size > size - bz.payload)
		return refuse(err, "its header points outside of it");
	if (!fb_is_power_of_2(bz.alignment) || bz.alignment < GRAIN)
		return refuse(err, "it wants less than 2 MiB of alignment");
	bz.unpacked_size = fb_le32(f + bz.payload + bz.payload_size - 4);
	if (!bz.unpacked_size || bz.unpacked_size > UNPACKED_MAX)
		return refuse(err, "its unpacked size cannot be");
	*out = bz;
	return 0;
}

/* ---- the kernel in it: an ELF file, then the places that know addresses ----------- */

struct kernel {
	const uint8_t *elf; /* unpacked_size bytes */
	size_t elf_size;    /* the rest is relocations */
	const uint8_t *relocations;
	size_t relocation_count; /* words of them, zeros included */
	uint64_t physical;	 /* what it is linked for: the lowest address */
	uint64_t file_size;	 /* bytes from there on that it brings */
	uint64_t memory_size;	 /* with those that it only needs */
	uint64_t entry;		 /* of startup_64, from `physical` on */
};

static Elf64_Phdr segment_of(const uint8_t *elf, unsigned int i)
{
	Elf64_Ehdr header;
	Elf64_Phdr segment;

	memcpy(&header, elf, sizeof(header));
	memcpy(&segment, elf + header.e_phoff + i * sizeof(segment), sizeof(segment));
	return segment;
}

static bool is_kernel(const Elf64_Ehdr *h, size_t size)
{
	return !memcmp(h->e_ident, ELFMAG, SELFMAG) &&
	       h->e_ident[EI_CLASS] == ELFCLASS64 &&
	       h->e_ident[EI_DATA] == ELFDATA2LSB && h->e_machine == EM_X86_64 &&
	       h->e_phentsize == sizeof(Elf64_Phdr) && h->e_phoff < size &&
	       h->e_phnum <= (size - h->e_phoff) / sizeof(Elf64_Phdr) &&
	       h->e_shentsize == sizeof(Elf64_Shdr) && h->e_shoff < size &&
	       h->e_shnum <= (size - h->e_shoff) / sizeof(Elf64_Shdr);
}

/* Segments only: what a section has beside them comes before the section headers. */
static int measure(struct kernel *k, const Elf64_Ehdr *h, size_t size, struct fb_err *err)
{
	uint64_t low = UINT64_MAX, file_end = 0, memory_end = 0;

	for (unsigned int i = 0; i < h->e_phnum; i++) {
		Elf64_Phdr p = segment_of(k->elf, i);

		if (p.p_type != PT_LOAD)
			continue;
		if (p.p_offset > size || p.p_filesz > size - p.p_offset ||
		    p.p_filesz > p.p_memsz || p.p_paddr > KERNEL_IMAGE_SIZE ||
		    p.p_memsz > KERNEL_IMAGE_SIZE || p.p_align % GRAIN)
			return refuse(err, "a segment of the kernel cannot be");
		low = p.p_paddr < low ? p.p_paddr : low;
		if (p.p_paddr + p.p_filesz > file_end)
			file_end = p.p_paddr + p.p_filesz;
		if (p.p_paddr + p.p_memsz > memory_end)
			memory_end = p.p_paddr + p.p_memsz;
	}
	if (low % GRAIN || file_end < low + GRAIN || h->e_entry < low ||
	    h->e_entry >= file_end || memory_end - low > UNPACKED_MAX)
		return refuse(err, "the kernel in it has no segments that fit");
	k->physical = low;
	k->file_size = file_end - low;
	k->memory_size = memory_end - low;
	k->entry = h->e_entry - low;
	return 0;
}

static int find_relocations(struct kernel *k, const Elf64_Ehdr *h, size_t size,
			    struct fb_err *err)
{
	/* objcopy puts the section headers last. */
	uint64_t end = h->e_shoff + (uint64_t)h->e_shnum * sizeof(Elf64_Shdr);

	k->relocations = k->elf + end;
	k->relocation_count = (size - end) / 4;
	k->elf_size = end;
	if ((size - end) % 4 || (k->relocation_count && fb_le32(k->relocations)))
		return refuse(err, "what follows the kernel is no relocations");
	return 0;
}

static int read_kernel(const uint8_t *unpacked, size_t size, struct kernel *k,
		       struct fb_err *err)
{
	Elf64_Ehdr h;
	int rc;

	if (size < sizeof(h))
		return refuse(err, "the kernel in it is no ELF file");
	memcpy(&h, unpacked, sizeof(h));
	k->elf = unpacked;
	if (!is_kernel(&h, size))
		return refuse(err, "the kernel in it is no ELF file for x86-64");
	rc = find_relocations(k, &h, size, err);
	return rc ? rc : measure(k, &h, k->elf_size, err);
}

static void place(const struct kernel *k, uint8_t *to)
{
	Elf64_Ehdr h;

	memcpy(&h, k->elf, sizeof(h));
	for (unsigned int i = 0; i < h.e_phnum; i++) {
		Elf64_Phdr p = segment_of(k->elf, i);

		if (p.p_type == PT_LOAD)
			memcpy(to + (p.p_paddr - k->physical), k->elf + p.p_offset,
			       p.p_filesz);
	}
}

/* ---- another address ------------------------------------------------------------ */

enum kind { ADD_32, SUBTRACT_32, ADD_64 };

static int relocate_one(const struct kernel *k, uint8_t *image, uint32_t word,
			enum kind kind, uint64_t delta, struct fb_err *err)
{
	/* The address without its upper half, which is all ones. */
	uint64_t at = (uint64_t)(int32_t)word - START_KERNEL_MAP - k->physical;
	unsigned int size = kind == ADD_64 ? 8 : 4;

	if (at > k->file_size - size)
		return refuse(err, "a relocation lies outside of the kernel");
	if (kind == ADD_64)
		fb_put_le64(image + at, fb_le64(image + at) + delta);
	else if (kind == ADD_32)
		fb_put_le32(image + at, fb_le32(image + at) + (uint32_t)delta);
	else
		fb_put_le32(image + at, fb_le32(image + at) - (uint32_t)delta);
	return 0;
}

/*
 * A zero, the places of 64 bits, a zero, those of 32 bits from which the difference
 * is subtracted (until Linux 6.14), a zero, those of 32 bits.
 */
static int relocate(const struct kernel *k, uint8_t *image, uint64_t delta,
		    struct fb_err *err)
{
	static const enum kind with_inverse[] = { ADD_64, SUBTRACT_32, ADD_32 };
	static const enum kind without[] = { ADD_64, ADD_32 };
	unsigned int groups = 0, group = 0;
	const enum kind *kinds;
	int rc = 0;

	for (size_t i = 0; i < k->relocation_count; i++)
		groups += !fb_le32(k->relocations + 4 * i);
	if (groups != FB_ARRAY_SIZE(with_inverse) && groups != FB_ARRAY_SIZE(without))
		return refuse(err, "its relocations are of a kind that is not known");
	kinds = groups == FB_ARRAY_SIZE(without) ? without : with_inverse;
	for (size_t i = 0; i < k->relocation_count && !rc; i++) {
		uint32_t word = fb_le32(k->relocations + 4 * i);

		if (!word)
			group++;
		else
			rc = relocate_one(k, image, word, kinds[group - 1], delta, err);
	}
	return rc;
}

/* What is added to the address that it is linked for. */
static int choose_delta(const struct kernel *k, const struct fb_bzimage *bz,
			uint64_t random, uint64_t *delta, struct fb_err *err)
{
	uint64_t slots, room = KERNEL_IMAGE_SIZE - k->physical;

	if (k->physical >= KERNEL_IMAGE_SIZE || k->memory_size > room)
		return refuse(err, "the kernel in it is too large");
	slots = (room - k->memory_size) / bz->alignment + 1;
	*delta = random % slots * bz->alignment;
	return 0;
}

/* ---- the new file ----------------------------------------------------------------- */

/* At the entry: orb $KASLR_FLAG, AT_LOADFLAGS(%rsi); jmp startup_64. %rsi: boot_params.
 * In the file's header the flag would do nothing: loaders clear it. */
static void put_entry(uint8_t *part, bool kaslr, uint64_t to)
{
	uint8_t code[] = { 0x80, 0x8e, AT_LOADFLAGS & 0xff, AT_LOADFLAGS >> 8, 0,   0,
			   0,	 0xe9, 0,		    0,		       0,   0 };

	code[6] = kaslr ? KASLR_FLAG : 0;
	fb_put_le32(code + 8, (uint32_t)(to - (ENTRY_64 + sizeof(code))));
	memcpy(part + ENTRY_64, code, sizeof(code));
}

static void put_header(uint8_t *file, uint64_t part_size, uint64_t memory_size)
{
	fb_put_le32(file + AT_SYSSIZE, (uint32_t)(part_size / 16));
	fb_put_le32(file + AT_PAYLOAD, 0);
	fb_put_le32(file + AT_PAYLOAD_SIZE, 0);
	fb_put_le32(file + AT_INIT_SIZE, (uint32_t)memory_size);
}

static int put_together(const void *file, const struct fb_bzimage *bz,
			const struct kernel *k, const struct fb_bzimage_options *o,
			void **out, size_t *out_size, struct fb_err *err)
{
	uint64_t part = GRAIN + fb_align_up(k->file_size, 4096), delta = 0;
	bool kaslr = o->kaslr && k->relocation_count;
	fb_autofree uint8_t *to = calloc(1, bz->setup_size + part);
	uint8_t *image = to + bz->setup_size + GRAIN;
	int rc = to ? 0 : fb_err_set(err, ENOMEM, "out of memory");

	if (rc)
		return rc;
	memcpy(to, file, bz->setup_size);
	place(k, image);
	if (kaslr)
		rc = choose_delta(k, bz, o->random, &delta, err);
	if (kaslr && !rc)
		rc = relocate(k, image, delta, err);
	if (rc)
		return rc;
	put_entry(to + bz->setup_size, kaslr, GRAIN + k->entry);
	put_header(to, part, GRAIN + fb_align_up(k->memory_size, 4096));
	*out = fb_steal_ptr(to);
	*out_size = bz->setup_size + part;
	return 0;
}

int fb_bzimage_unpack(const void *file, size_t size,
		      const struct fb_bzimage_options *options, void **out,
		      size_t *out_size, struct fb_err *err)
{
	fb_autofree uint8_t *unpacked = NULL;
	struct fb_bzimage bz;
	struct kernel k = { .elf = NULL };
	int rc = fb_bzimage_parse(file, size, &bz, err);

	if (rc)
		return rc;
	unpacked = malloc(bz.unpacked_size);
	if (!unpacked)
		return fb_err_set(err, ENOMEM, "out of memory");
	rc = fb_inflate((const uint8_t *)file + bz.payload, bz.payload_size, unpacked,
			bz.unpacked_size, err);
	if (!rc)
		rc = read_kernel(unpacked, bz.unpacked_size, &k, err);
	return rc ? rc : put_together(file, &bz, &k, options, out, out_size, err);
}

uint64_t fb_bzimage_memory(const void *file)
{
	return fb_le32((const uint8_t *)file + AT_INIT_SIZE);
}
