/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kexec_ahead - the next kernel decompressed while the applications still run. A
 * bzImage decompresses itself when it is started: 40 to 90 ms of a blackout with LZ4
 * in an emulator, far more with xz. For kexec_load(2) on x86, where nothing
 * has a signature that changed bytes would break.
 *
 *	fb_kexec_ahead_make(sys, &request, &ahead)
 *	... ahead.fd, if there is one, in place of request.kernel ...
 *	fb_kexec_ahead_free(&ahead)
 *
 * Sources: arch/x86/boot/compressed/pgtable_64.c (five levels of page tables),
 * sev.c, tdx.c, Linux 6.12; src/format/bzimage.h.
 */
#ifndef FB_MACHINE_KEXEC_AHEAD_H
#define FB_MACHINE_KEXEC_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "machine/kexec_method.h"
#include "machine/sys.h"

struct fb_kexec_request;

struct fb_kexec_ahead {
	int fd;		/* owned; a bzImage in memory; -1: the file as it is */
	uint64_t bytes; /* memory that it takes where it runs */
	/* To choose its physical address by; 0: nokaslr. */
	uint64_t random;
	char why[FB_KEXEC_WHY_MAX]; /* with fd -1: why not */
};

/* Levels of page tables. */
struct fb_kexec_levels {
	bool cpu_has_5;	  /* CPUID leaf 7, ecx, bit 16 */
	bool runs_with_5; /* the running kernel, which hands its mode on */
};

/*
 * Pure: would the decompressor of a kernel with `xloadflags` leave the number of
 * levels as it is?
 */
bool fb_kexec_levels_fit(const struct fb_kexec_levels *levels, uint16_t xloadflags,
			 const char *command_line);

/* Never fails: without it the next kernel decompresses itself. */
void fb_kexec_ahead_make(const struct fb_sys *sys,
			 const struct fb_kexec_request *request,
			 struct fb_kexec_ahead *ahead);

void fb_kexec_ahead_free(struct fb_kexec_ahead *ahead);

#endif
