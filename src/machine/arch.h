/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * arch - the machine's architecture. Reads only; works on a captured tree, whose
 * kernel says it since 6.1 (/proc/sys/kernel/arch).
 */
#ifndef FB_MACHINE_ARCH_H
#define FB_MACHINE_ARCH_H

#include <stdbool.h>

#include "machine/sys.h"

#define FB_ARCH_MAX 32

/* As uname(2) has it, "x86_64" or "aarch64"; this machine's where it is unknown. */
void fb_arch_read(const struct fb_sys *sys, char machine[FB_ARCH_MAX]);

bool fb_arch_is_arm64(const struct fb_sys *sys);

#endif
