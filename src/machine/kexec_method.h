/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kexec_method - by which of its two system calls the running kernel takes the
 * next one.
 *
 *	fb_kexec_facts_read(sys, &facts)              what the machine has and wants
 *	fb_kexec_choose(&facts, wanted, &choice, err) pure
 *
 * kexec_file_load(2): the kernel reads and checks the files itself; on x86 it
 * has purgatory make a digest of kernel and initrd, again after the jump.
 * kexec_load(2): kexec-tools prepares everything in user space, here without
 * the digest; no signature is ever looked at. So it is only for machines that
 * want none.
 *
 * Sources: kernel/kexec.c, kernel/kexec_file.c, security/integrity/ima/
 * ima_main.c (LOADING_KEXEC_IMAGE), Linux 6.12; Documentation/ABI/testing/
 * ima_policy; UEFI 2.10, 3.3 (SecureBoot).
 */
#ifndef FB_MACHINE_KEXEC_METHOD_H
#define FB_MACHINE_KEXEC_METHOD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "machine/sys.h"

enum fb_kexec_method {
	FB_KEXEC_AUTO,
	FB_KEXEC_FILE_LOAD,
	FB_KEXEC_LOAD,
};

/* "auto", "kexec_file_load", "kexec_load", and back; false: none of them. */
const char *fb_kexec_method_text(enum fb_kexec_method method);
bool fb_kexec_method_parse(const char *text, enum fb_kexec_method *method);

enum fb_kexec_call {
	FB_KEXEC_CALL_UNKNOWN, /* the kernel's configuration is not there */
	FB_KEXEC_CALL_MISSING,
	FB_KEXEC_CALL_PRESENT,
};

#define FB_KEXEC_WHY_MAX 128

struct fb_kexec_facts {
	enum fb_kexec_call file_load, load;
	char tools[256]; /* the program of kexec-tools; "": not installed */
	/* Why the next kernel must be signed, or "". */
	char signature[FB_KEXEC_WHY_MAX];
	/* Why it isn't known whether it must be, or "". */
	char doubt[FB_KEXEC_WHY_MAX];
	bool arm64;
	bool lpa2; /* arm64, 4 KiB pages, 52-bit addresses in use: see below */
};

/* Reads only; works on a captured tree, where lpa2 is not known and false. */
void fb_kexec_facts_read(const struct fb_sys *sys, struct fb_kexec_facts *facts);

/*
 * Pure: are 52-bit addresses in use, with pages of `page` bytes, when
 * mmap(2) with a hint above 48 bits answered `address`? The kernel then gives
 * such addresses to who asks for them (Documentation/arch/arm64/memory.rst),
 * and kexec of either kind ends in an Oops: with 4 KiB pages its page tables
 * have five levels, and copy_p4d() makes no fourth one in the copy of the
 * linear map (arch/arm64/mm/trans_pgd.c, 6.12).
 */
bool fb_kexec_lpa2(uint64_t page, uint64_t address);

struct fb_kexec_choice {
	enum fb_kexec_method method; /* never FB_KEXEC_AUTO */
	char why[FB_KEXEC_WHY_MAX];
};

/*
 * Pure. -ENOTSUP with FB_EXIT_IMPOSSIBLE: lpa2, the call is missing, or
 * kexec-tools is. -EPERM: kexec_load is asked for, and a signature is wanted.
 */
int fb_kexec_choose(const struct fb_kexec_facts *facts, enum fb_kexec_method wanted,
		    struct fb_kexec_choice *choice, struct fb_err *err);

/*
 * A load by `choice` failed with `error` (-errno): take in what that says of
 * the machine. true: another choice may succeed, so choose again.
 */
bool fb_kexec_facts_learn(struct fb_kexec_facts *facts, enum fb_kexec_method method,
			  int error);

#endif
