/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "format/acpi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "format/le.h"

/* ---- the header of every table (5.2.6) -------------------------------------- */

#define HEADER_SIZE   36u
#define AT_LENGTH     4u
#define AT_REVISION   8u
#define AT_CHECKSUM   9u
#define AT_OEM	      10u /* 6 bytes, then 8 of the table's own */
#define AT_OEM_REV    24u
#define AT_MAKER      28u
#define AT_MAKER_REV  32u
#define CHECKSUM_GOOD 0u

static const char oem[14] = { 'F', 'A', 'S', 'T', 'B', 'T', 'F',
			      'A', 'S', 'T', 'B', 'O', 'O', 'T' };

static uint8_t sum(const uint8_t *bytes, size_t size)
{
	uint8_t total = 0;

	while (size--)
		total = (uint8_t)(total + *bytes++);
	return total;
}

/* Everything behind the header is there already. */
static void seal(uint8_t *table, const char *signature, uint8_t revision, uint32_t size)
{
	memcpy(table, signature, 4);
	fb_put_le32(table + AT_LENGTH, size);
	table[AT_REVISION] = revision;
	memcpy(table + AT_OEM, oem, sizeof(oem));
	fb_put_le32(table + AT_OEM_REV, 1);
	memcpy(table + AT_MAKER, "FSTB", 4);
	fb_put_le32(table + AT_MAKER_REV, 1);
	table[AT_CHECKSUM] = 0;
	table[AT_CHECKSUM] = (uint8_t)-sum(table, size);
}

bool fb_acpi_is_table(const void *table, size_t size, const char *signature)
{
	return size >= HEADER_SIZE && !memcmp(table, signature, 4) &&
	       fb_le32((const uint8_t *)table + AT_LENGTH) == size &&
	       sum(table, size) == CHECKSUM_GOOD;
}

bool fb_acpi_is_ours(const void *table)
{
	return !memcmp((const uint8_t *)table + AT_OEM, oem, sizeof(oem));
}

/* ---- NFIT: NVDIMM Firmware Interface Table (5.2.25) -------------------------- */

#define NFIT_FIRST    (HEADER_SIZE + 4u) /* behind four reserved bytes */
#define SPA_TYPE      0u
#define SPA_SIZE      56u /* without the location cookie, which 6.4 brought */
#define AT_SPA_INDEX  4u
#define AT_SPA_GUID   16u
#define AT_SPA_BASE   32u
#define AT_SPA_LENGTH 40u
#define AT_SPA_ATTR   48u
#define EFI_MEMORY_WB 8u /* UEFI 2.10, 7.2.3 */

/* 5.2.25.2, table 5.135: {7305944F-FDDA-44E3-B16C-3F22D252E5D0}, volatile memory,
 * and {66F0D379-B4F3-4074-AC43-0D3318B78CDB}, persistent memory. */
static const uint8_t guid_volatile[16] = { 0x4f, 0x94, 0x05, 0x73, 0xda, 0xfd,
					   0xe3, 0x44, 0xb1, 0x6c, 0x3f, 0x22,
					   0xd2, 0x52, 0xe5, 0xd0 };
static const uint8_t guid_persistent[16] = { 0x79, 0xd3, 0xf0, 0x66, 0xf3, 0xb4,
					     0x74, 0x40, 0xac, 0x43, 0x0d, 0x33,
					     0x18, 0xb7, 0x8c, 0xdb };

static uint32_t make_nfit(const struct fb_acpi_tables *tables, uint8_t *table)
{
	uint8_t *spa = table + NFIT_FIRST;

	fb_put_le16(spa, SPA_TYPE);
	fb_put_le16(spa + 2, SPA_SIZE);
	fb_put_le16(spa + AT_SPA_INDEX, 1);
	memcpy(spa + AT_SPA_GUID, guid_volatile, sizeof(guid_volatile));
	fb_put_le64(spa + AT_SPA_BASE, tables->region.start);
	fb_put_le64(spa + AT_SPA_LENGTH, tables->region.size);
	fb_put_le64(spa + AT_SPA_ATTR, EFI_MEMORY_WB);
	seal(table, "NFIT", 1, NFIT_FIRST + SPA_SIZE);
	return NFIT_FIRST + SPA_SIZE;
}

static bool is_memory(const uint8_t *spa)
{
	return !memcmp(spa + AT_SPA_GUID, guid_volatile, sizeof(guid_volatile)) ||
	       !memcmp(spa + AT_SPA_GUID, guid_persistent, sizeof(guid_persistent));
}

bool fb_acpi_nfit_range(const void *nfit, size_t size, size_t n, struct fb_range *range)
{
	const uint8_t *table = nfit;
	size_t at = NFIT_FIRST, length;

	for (; at + 4 <= size; at += length) {
		struct fb_range r;

		length = fb_le16(table + at + 2);
		if (length < 4 || length > size - at)
			return false;
		if (fb_le16(table + at) != SPA_TYPE || length < SPA_SIZE ||
		    !is_memory(table + at))
			continue;
		r.start = fb_le64(table + at + AT_SPA_BASE);
		r.size = fb_le64(table + at + AT_SPA_LENGTH);
		if (!r.size || !fb_range_valid(r))
			continue;
		if (!n--) {
			*range = r;
			return true;
		}
	}
	return false;
}

/* ---- SSDT: a definition block (5.2.11.2) with one device --------------------- */

/*
 * The AML (20.2) of
 *
 *	Scope (\_SB) { Device (FBNV) { Name (_HID, "ACPI0012") } }
 *
 * ACPI0012 is the NVDIMM root device (9.19.2).
 */
static const uint8_t ssdt_body[] = {
	0x10, 0x1c,		      /* ScopeOp, 28 bytes from here */
	0x5c, 0x5f, 0x53, 0x42, 0x5f, /* \_SB_ */
	0x5b, 0x82, 0x14,	      /* DeviceOp, 20 bytes from here */
	0x46, 0x42, 0x4e, 0x56,	      /* FBNV */
	0x08, 0x5f, 0x48, 0x49, 0x44, /* NameOp _HID */
	0x0d,			      /* StringPrefix */
	0x41, 0x43, 0x50, 0x49,	      /* ACPI */
	0x30, 0x30, 0x31, 0x32, 0x00, /* 0012 and a NUL */
};

static uint32_t make_ssdt(const struct fb_acpi_tables *tables, uint8_t *table)
{
	(void)tables;
	memcpy(table + HEADER_SIZE, ssdt_body, sizeof(ssdt_body));
	seal(table, "SSDT", 2, HEADER_SIZE + sizeof(ssdt_body));
	return HEADER_SIZE + sizeof(ssdt_body);
}

/* ---- SRAT: System Resource Affinity Table (5.2.16) --------------------------- */

#define SRAT_FIRST	 (HEADER_SIZE + 12u)
#define MEMORY_TYPE	 1u /* 5.2.16.2: memory affinity structure */
#define MEMORY_SIZE	 40u
#define AT_MEMORY_LENGTH 16u
#define AT_MEMORY_FLAGS	 28u
#define MEMORY_ENABLED	 1u
/* Everything that a processor with 48 bits of physical address reaches. */
#define ALL_ADDRESSES ((uint64_t)1 << 48)

/* Proximity domain 0 and base 0 are there: the buffer is zeroed. A processor that
 * no structure names is of node 0, too (arch/arm64/kernel/acpi_numa.c). */
static uint32_t make_srat(const struct fb_acpi_tables *tables, uint8_t *table)
{
	uint8_t *memory = table + SRAT_FIRST;

	(void)tables;
	fb_put_le32(table + HEADER_SIZE, 1); /* reserved, must be 1 */
	memory[0] = MEMORY_TYPE;
	memory[1] = MEMORY_SIZE;
	fb_put_le64(memory + AT_MEMORY_LENGTH, ALL_ADDRESSES);
	fb_put_le32(memory + AT_MEMORY_FLAGS, MEMORY_ENABLED);
	seal(table, "SRAT", 3, SRAT_FIRST + MEMORY_SIZE);
	return SRAT_FIRST + MEMORY_SIZE;
}

/* ---- the archive: cpio, newc (cpio(5); usr/gen_init_cpio.c) ------------------ */

/* The kernel complains of names in it that are longer than 16 characters. */
#define FOLDER	      "kernel/firmware/acpi/"
#define MAGIC	      "070701"
#define CPIO_HEADER   110u
#define TABLE_MAX     128u
#define ARCHIVE_MAX   4096u
#define ARCHIVE_ALIGN 512u

struct archive {
	uint8_t *bytes; /* ARCHIVE_MAX, zeroed */
	size_t size;
	unsigned int inode;
};

static void add_member(struct archive *a, const char *name, unsigned int mode,
		       const void *data, uint32_t size)
{
	size_t name_size = strlen(name) + 1;
	char *at = (char *)a->bytes + a->size;

	/* inode mode uid gid links mtime size, device numbers, name, checksum */
	snprintf(at, CPIO_HEADER + 1,
		 MAGIC "%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X"
		       "%08X%08X%08X",
		 ++a->inode, mode, 0u, 0u, (mode & 040000) ? 2u : 1u, 0u, size, 0u, 0u,
		 0u, 0u, (unsigned int)name_size, 0u);
	memcpy(at + CPIO_HEADER, name, name_size);
	a->size = fb_align_up(a->size + CPIO_HEADER + name_size, 4);
	if (size)
		memcpy(a->bytes + a->size, data, size);
	a->size = fb_align_up(a->size + size, 4);
}

static void add_table(struct archive *a, const char *name,
		      const struct fb_acpi_tables *tables,
		      uint32_t (*make)(const struct fb_acpi_tables *, uint8_t *))
{
	uint8_t table[TABLE_MAX] = { 0 };
	uint32_t size = make(tables, table);

	add_member(a, name, 0100644, table, size);
}

int fb_acpi_archive(const struct fb_acpi_tables *tables, void **archive, size_t *size,
		    struct fb_err *err)
{
	struct archive a = { calloc(1, ARCHIVE_MAX), 0, 0 };

	if (!a.bytes)
		return fb_err_sys(err, ENOMEM, "ACPI tables");
	add_member(&a, "kernel", 040755, NULL, 0);
	add_member(&a, "kernel/firmware", 040755, NULL, 0);
	add_member(&a, "kernel/firmware/acpi", 040755, NULL, 0);
	add_table(&a, FOLDER "fastboot-nfit", tables, make_nfit);
	add_table(&a, FOLDER "fastboot-ssdt", tables, make_ssdt);
	if (tables->srat)
		add_table(&a, FOLDER "fastboot-srat", tables, make_srat);
	add_member(&a, "TRAILER!!!", 0, NULL, 0);
	*archive = a.bytes;
	*size = fb_align_up(a.size, ARCHIVE_ALIGN);
	return 0;
}

/* ---- reading one, as find_cpio_data() in lib/earlycpio.c does ---------------- */

struct member {
	const char *name; /* not terminated */
	uint32_t name_size, mode, size;
	const uint8_t *data;
};

static bool hex(const uint8_t *text, size_t digits, uint32_t *value)
{
	uint32_t v = 0;

	for (size_t i = 0; i < digits; i++) {
		uint8_t c = text[i], lower = c | 0x20;

		if (c >= '0' && c <= '9')
			v = v << 4 | (uint32_t)(c - '0');
		else if (lower >= 'a' && lower <= 'f')
			v = v << 4 | (uint32_t)(lower - 'a' + 10);
		else
			return false;
	}
	*value = v;
	return true;
}

/* The member at *at, which moves behind it; false: there is none (any more). */
static bool next_member(const uint8_t *bytes, size_t size, size_t *at, struct member *m)
{
	uint32_t field[13], magic;
	uint64_t data, end;

	while (*at + 4 <= size && !bytes[*at])
		*at += 4;
	if (size < CPIO_HEADER || *at >= size - CPIO_HEADER ||
	    !hex(bytes + *at, 6, &magic) || magic < 0x070701 || magic > 0x070702)
		return false;
	for (size_t i = 0; i < 13; i++)
		if (!hex(bytes + *at + 6 + 8 * i, 8, &field[i]))
			return false;
	data = fb_align_up(*at + CPIO_HEADER + field[11], 4);
	end = fb_align_up(data + field[6], 4);
	if (end > size)
		return false;
	m->name = (const char *)bytes + *at + CPIO_HEADER;
	m->mode = field[1];
	m->size = field[6];
	m->name_size = field[11];
	m->data = bytes + data;
	*at = (size_t)end;
	return true;
}

static void look_at(const struct member *m, struct fb_acpi_found *found, bool *nfit)
{
	bool is_nfit = fb_acpi_is_table(m->data, m->size, "NFIT");
	bool ours;

	if (!is_nfit && !fb_acpi_is_table(m->data, m->size, "SSDT") &&
	    !fb_acpi_is_table(m->data, m->size, "SRAT"))
		return;
	ours = fb_acpi_is_ours(m->data);
	found->any |= ours;
	if (is_nfit && !*nfit) {
		*nfit = true;
		found->foreign = !ours;
		if (ours)
			fb_acpi_nfit_range(m->data, m->size, 0, &found->tables.region);
	}
	found->ssdt |= ours && !memcmp(m->data, "SSDT", 4);
	found->tables.srat |= ours && !memcmp(m->data, "SRAT", 4);
}

void fb_acpi_find(const void *initrd, size_t size, struct fb_acpi_found *found)
{
	struct fb_acpi_found f = { .any = false };
	struct member m;
	bool nfit = false;
	size_t at = 0;

	while (next_member(initrd, size, &at, &m))
		if ((m.mode & 0170000) == 0100000 && m.name_size >= strlen(FOLDER) &&
		    !memcmp(m.name, FOLDER, strlen(FOLDER)))
			look_at(&m, &f, &nfit);
	*found = f;
}
