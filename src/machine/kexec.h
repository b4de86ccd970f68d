/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kexec - loads the next kernel, takes it away again, and starts it. The only
 * user of kexec_file_load(2), kexec_load(2) and reboot(2).
 *
 *	fb_kexec_status(sys, &status, err)     what the machine allows
 *	fb_kexec_image_read(path, ...)         is it a kernel for this machine?
 *	fb_kexec_load(sys, &request, &loaded)  undone by fb_kexec_unload()
 *	fb_kexec_start(err)                    comes back only on failure
 *
 * Sources: kexec_file_load(2), reboot(2); kernel/kexec_file.c,
 * kernel/kexec_core.c, arch/x86/kernel/kexec-bzimage64.c, Linux 6.12 and 6.1;
 * Documentation/arch/x86/boot.rst, Documentation/arch/arm64/booting.rst.
 */
#ifndef FB_MACHINE_KEXEC_H
#define FB_MACHINE_KEXEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/facts.h"
#include "base/range.h"
#include "machine/kexec_method.h"
#include "machine/sys.h"

/* ---- the kernel's file --------------------------------------------------- */

enum fb_kexec_format {
	FB_KEXEC_BZIMAGE,     /* x86-64 */
	FB_KEXEC_ARM64_IMAGE, /* arm64, uncompressed */
};

struct fb_kexec_image {
	enum fb_kexec_format format;
	/*
	 * The longest command line, without its NUL, that kexec_file_load()
	 * takes for it; 0: the file doesn't say (arm64).
	 */
	size_t command_line_max;
};

/* Bytes of the file's beginning that fb_kexec_image_check() looks at. */
#define FB_KEXEC_HEAD 1024u

/*
 * Pure: is the file that begins with head[size] (all of it, or at least
 * FB_KEXEC_HEAD) and is `file_size` long a kernel that this machine can load?
 * `machine` as in uname(2), `name` for messages. -ENOEXEC: no kernel, one for
 * another machine, one in a form that must be unpacked first, too old, or
 * shorter than its header says; *err names it.
 */
int fb_kexec_image_check(const char *name, const void *head, size_t size,
			 uint64_t file_size, const char *machine,
			 struct fb_kexec_image *image, struct fb_err *err);

/*
 * The same for a file, for the machine that we run on; also -errno of open or
 * read, and -ENOEXEC for what is no regular file.
 */
int fb_kexec_image_read(const char *path, struct fb_kexec_image *image,
			struct fb_err *err);

/* ---- what the machine allows --------------------------------------------- */

struct fb_kexec_status {
	bool supported;	   /* the running kernel has kexec (/sys/kernel/kexec_loaded) */
	bool loaded;	   /* a kernel is loaded already */
	bool disabled;	   /* kernel.kexec_load_disabled=1: until the next boot */
	char lockdown[24]; /* "none", "integrity", "confidentiality", "" unknown */
};

/* Reads only; works on a captured tree. -errno of an attribute that is there
 * and unreadable. */
int fb_kexec_status(const struct fb_sys *sys, struct fb_kexec_status *status,
		    struct fb_err *err);

/* ---- loading ------------------------------------------------------------- */

struct fb_kexec_request {
	const char *kernel;	  /* path */
	const char *initrd;	  /* path, or NULL for none */
	const char *command_line; /* as the next kernel shall see it */
	const char *dtb; /* path, FB_KEXEC_LOAD only; NULL: the running tree */
	/* No part of the next kernel may be placed here; size 0: don't care. */
	struct fb_range region;
	enum fb_kexec_method method; /* chosen by fb_kexec_choose() */
	const char *tools; /* for FB_KEXEC_LOAD: the program, fb_kexec_facts.tools */
};

/*
 * Reads only: kernel and initrd are files that fb_kexec_load() can be given,
 * and the command line is not too long for the kernel. -errno of open or
 * read, -ENOEXEC, -EINVAL.
 */
int fb_kexec_files_check(const struct fb_kexec_request *request, struct fb_err *err);

/* How it is known that the next kernel stays out of the region. */
enum fb_kexec_proof {
	FB_KEXEC_PROOF_NONE,	 /* no region was given */
	FB_KEXEC_PROOF_SEGMENTS, /* the kernel printed where each segment goes */
	FB_KEXEC_PROOF_IOMEM,	 /* the region is nothing that segments go to */
	FB_KEXEC_PROOF_TOOLS,	 /* kexec-tools printed where each segment goes */
};

struct fb_kexec_loaded {
	enum fb_kexec_proof proof;
	unsigned int segments; /* with FB_KEXEC_PROOF_SEGMENTS and _TOOLS */
	bool replaced;	       /* another kernel was loaded before, and is lost */
	/* With FB_KEXEC_LOAD: it need not decompress itself; or why it must. */
	bool ahead;
	char ahead_why[FB_KEXEC_WHY_MAX];
};

/*
 * Load a kernel by request->method. One that was loaded before is replaced, as
 * kexec(8) does it; it cannot be put back. The undo is fb_kexec_unload().
 *
 * FB_KEXEC_LOAD runs kexec-tools, fb_kexec_tools_load(), which also says where
 * the segments are. Where it can be, the kernel is decompressed for it:
 * fb_kexec_ahead_make().
 *
 * FB_KEXEC_FILE_LOAD, with a region: from Linux 6.8 on the call is made with
 * KEXEC_FILE_DEBUG and the segments are read from /dev/kmsg; on older kernels, or where
 * the log does not have them, /proc/iomem must show that no segment can be there (see
 * fb_kexec_prove_iomem()). If neither holds the kernel is unloaded again.
 *
 * -ENOEXEC, -ELIBBAD, -EKEYREJECTED, -ENOKEY, -ENODATA, -EBADMSG: the kernel
 * refuses the file or its signature; -EPERM: not root, disabled, or locked
 * down; -EACCES: kexec_load, and the kernel's policy wants a signature; -EBUSY:
 * another kexec call is at work; -ENOMEM, -EADDRNOTAVAIL: no room; -EINVAL:
 * command line too long; -ENOSYS with FB_EXIT_IMPOSSIBLE: the running kernel
 * lacks the call; -EFAULT: a segment would lie in the region, or it cannot be
 * shown that none does; -EIO: kexec-tools failed; otherwise the -errno of open. *err
 * says which file and what to do.
 */
int fb_kexec_load(const struct fb_sys *sys, const struct fb_kexec_request *request,
		  struct fb_kexec_loaded *loaded, struct fb_err *err);

/* Take away the loaded kernel; success where there is none. -EPERM, -EBUSY. */
int fb_kexec_unload(struct fb_err *err);

/*
 * Pure: one line of the kernel log, "kexec_file: segment[2]: buf=0x... mem=0x...
 * memsz=0x..." (kernel/kexec_file.c, 6.8 and later); false for any other line.
 */
bool fb_kexec_parse_segment(const char *line, struct fb_range *segment);

/* Pure: -EFAULT when the two have a byte in common, or the segment is none. */
int fb_kexec_segment_check(struct fb_range segment, struct fb_range region,
			   struct fb_err *err);

/*
 * Pure: kexec_file_load() places segments only in what /proc/iomem calls
 * System RAM, and never in memory that a driver added, "System RAM (kmem)"
 * (IORESOURCE_SYSRAM_DRIVER_MANAGED; locate_mem_hole_callback(), 5.10 and
 * later). 0 when the region is not, or is only such memory. -EFAULT when a
 * part of it is plain System RAM.
 */
int fb_kexec_prove_iomem(const struct fb_iomem *iomem, struct fb_range region,
			 struct fb_err *err);

/* ---- the point of no return ---------------------------------------------- */

/*
 * Start the loaded kernel: reboot(2) with LINUX_REBOOT_CMD_KEXEC. Devices are
 * shut down by the kernel, processes are not told and nothing is synced: that
 * is the caller's work. Comes back only on failure: -EINVAL when no kernel is
 * loaded, -EPERM.
 */
int fb_kexec_start(struct fb_err *err);

/* The same through the firmware: LINUX_REBOOT_CMD_RESTART. */
int fb_kexec_restart(struct fb_err *err);

#endif
