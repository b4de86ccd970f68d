/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * config - /etc/fastboot.conf and /etc/fastboot.conf.d/ (*.conf) (INI, in the
 * order of their names, later ones win), or one file given by --config.
 * fastboot.conf(5) is the manual. An unknown section or key, a number that is
 * none and a relative path are errors that name file and line.
 */
#ifndef FB_CMD_CONFIG_H
#define FB_CMD_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/range.h"
#include "machine/kexec_method.h"

struct fb_config_state {
	char *name;      /* [state NAME] */
	char *path;      /* absolute */
	int priority;    /* higher first; default 0 */
	char **excludes; /* fnmatch(3) patterns against the path below `path` */
	size_t exclude_count;
};

struct fb_config {
	/* [region] at = START, size = SIZE: which one, where there are several */
	bool region_set;
	struct fb_range region;
	/* [state NAME], in the order of the files; sorted by priority */
	struct fb_config_state *states;
	size_t state_count;
	/* [hotremove] deadline = SECONDS */
	uint64_t deadline_usec; /* default 60 s */
	/* [kexec] kernel, initrd, append */
	char *kernel, *initrd, *append; /* NULL: not set */
	/* [kexec] method = auto, kexec_file_load, kexec_load */
	enum fb_kexec_method method; /* default auto */
	/* [restore] mode = eager, lazy, inplace */
	char *restore_mode; /* NULL: not set */
	/* [hooks] quiesce, resume: absolute paths of programs */
	char *quiesce, *resume;
};

/*
 * `file` is --config or NULL; the default files may be missing, a given one
 * may not. `root` is the --sysroot. FB_EXIT_USAGE on any error.
 */
int fb_config_load(const char *root, const char *file, struct fb_config *config,
		   struct fb_err *err);
void fb_config_free(struct fb_config *config);

#endif
