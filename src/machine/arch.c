/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/arch.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

void fb_arch_read(const struct fb_sys *sys, char machine[FB_ARCH_MAX])
{
	struct utsname u;

	machine[0] = '\0';
	if (fb_sys_attr_read(sys, "/proc/sys/kernel/arch", machine, FB_ARCH_MAX,
			     NULL) &&
	    !uname(&u))
		snprintf(machine, FB_ARCH_MAX, "%.31s", u.machine);
}

bool fb_arch_is_arm64(const struct fb_sys *sys)
{
	char machine[FB_ARCH_MAX];

	fb_arch_read(sys, machine);
	return !strcmp(machine, "aarch64");
}
