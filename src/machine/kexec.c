/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/kexec.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/util.h"
#include "machine/iomem.h"
#include "machine/kexec_ahead.h"
#include "machine/kexec_tools.h"

#ifndef KEXEC_FILE_DEBUG
#define KEXEC_FILE_DEBUG 0x8
#endif

/* ---- the kernel's file --------------------------------------------------- */

/* struct setup_header, Documentation/arch/x86/boot.rst; offsets in the file. */
enum {
	BZ_SETUP_SECTS = 0x1f1,
	BZ_SYSSIZE = 0x1f4,
	BZ_BOOT_FLAG = 0x1fe,
	BZ_HEADER = 0x202,
	BZ_VERSION = 0x206,
	BZ_LOADFLAGS = 0x211,
	BZ_XLOADFLAGS = 0x236,
	BZ_CMDLINE_SIZE = 0x238,
	BZ_END = 0x23c,
};

#define BZ_VERSION_MIN	   0x020c
#define BZ_LOADED_HIGH	   0x01
#define BZ_KERNEL_64	   0x01
#define BZ_CAN_BE_ABOVE_4G 0x02
#define BZ_BOOT_FLAG_VALUE 0xaa55
#define BZ_ELFCOREHDR_ROOM 30 /* MAX_ELFCOREHDR_STR_LEN */
#define ARM64_MAGIC_OFFSET 56
#define ARM64_IMAGE_SIZE   16
#define ZBOOT_MAGIC_OFFSET 4
#define IMAGE_HEAD_MIN	   64

static uint64_t le(const uint8_t *p, unsigned int bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

static int not_loadable(struct fb_err *err, const char *name, const char *why)
{
	return fb_err_set(err, ENOEXEC, "%s: %s", name, why);
}

static bool has(const uint8_t *head, size_t size, size_t offset, const char *magic,
		size_t length)
{
	return offset + length <= size && !memcmp(head + offset, magic, length);
}

/* What people point at by mistake. */
static const char *known_but_wrong(const uint8_t *head, size_t size)
{
	if (has(head, size, 0, "\177ELF", 4))
		return "an ELF file (vmlinux?), not a bootable image: use bzImage "
		       "or Image";
	if (has(head, size, ZBOOT_MAGIC_OFFSET, "zimg", 4) &&
	    has(head, size, 0, "MZ", 2))
		return "an EFI zboot image (vmlinuz.efi): kexec needs the Image "
		       "inside it";
	if (has(head, size, 0, "\x1f\x8b", 2))
		return "compressed with gzip: unpack it first";
	if (has(head, size, 0, "070701", 6))
		return "a cpio archive (an initrd?), not a kernel";
	return "not a kernel";
}

static bool is_arm64(const uint8_t *head, size_t size)
{
	return has(head, size, ARM64_MAGIC_OFFSET, "ARM\x64", 4);
}

static bool is_bzimage(const uint8_t *head, size_t size)
{
	return size >= BZ_END && has(head, size, BZ_HEADER, "HdrS", 4);
}

static int check_bzimage(const char *name, const uint8_t *h, uint64_t file_size,
			 struct fb_kexec_image *image, struct fb_err *err)
{
	uint64_t sectors = h[BZ_SETUP_SECTS] ? h[BZ_SETUP_SECTS] : 4;
	uint64_t want = (sectors + 1) * 512 + le(h + BZ_SYSSIZE, 4) * 16;
	uint64_t limit = le(h + BZ_CMDLINE_SIZE, 4);

	if (le(h + BZ_BOOT_FLAG, 2) != BZ_BOOT_FLAG_VALUE)
		return not_loadable(err, name, "damaged: no x86 boot sector");
	if (le(h + BZ_VERSION, 2) < BZ_VERSION_MIN)
		return not_loadable(err, name,
				    "too old: kexec_file_load needs boot protocol "
				    "2.12 (Linux 3.8)");
	if (!(h[BZ_LOADFLAGS] & BZ_LOADED_HIGH))
		return not_loadable(err, name, "a zImage, not a bzImage");
	if (!(h[BZ_XLOADFLAGS] & BZ_KERNEL_64))
		return not_loadable(err, name, "a 32-bit kernel");
	if (!(h[BZ_XLOADFLAGS] & BZ_CAN_BE_ABOVE_4G))
		return not_loadable(err, name, "not relocatable above 4 GiB");
	if (file_size < want)
		return fb_err_set(err, ENOEXEC,
				  "%s: truncated: %" PRIu64 " bytes, its header says "
				  "%" PRIu64,
				  name, file_size, want);
	image->format = FB_KEXEC_BZIMAGE;
	/* bzImage64_load(): the NUL counts, and room for elfcorehdr= is kept. */
	image->command_line_max =
		limit > BZ_ELFCOREHDR_ROOM + 1 ? limit - BZ_ELFCOREHDR_ROOM - 1 : 0;
	return 0;
}

static int check_arm64(const char *name, const uint8_t *h, struct fb_kexec_image *image,
		       struct fb_err *err)
{
	/* 0 in images older than 3.17: load_other_segments() needs it. */
	if (!le(h + ARM64_IMAGE_SIZE, 8))
		return not_loadable(err, name, "too old: its header has no size");
	image->format = FB_KEXEC_ARM64_IMAGE;
	image->command_line_max = 0;
	return 0;
}

int fb_kexec_image_check(const char *name, const void *head, size_t size,
			 uint64_t file_size, const char *machine,
			 struct fb_kexec_image *image, struct fb_err *err)
{
	bool on_x86 = !strcmp(machine, "x86_64"),
	     on_arm64 = !strcmp(machine, "aarch64");
	const uint8_t *h = head;

	if (!size)
		return not_loadable(err, name, "empty, not a kernel");
	if (size < IMAGE_HEAD_MIN)
		return not_loadable(err, name, "too short to be a kernel");
	if (is_bzimage(h, size) && on_x86)
		return check_bzimage(name, h, file_size, image, err);
	if (is_bzimage(h, size))
		return not_loadable(err, name,
				    "a kernel for x86, not for this machine");
	if (is_arm64(h, size) && on_arm64)
		return check_arm64(name, h, image, err);
	if (is_arm64(h, size))
		return not_loadable(err, name,
				    "a kernel for arm64, not for this machine");
	return not_loadable(err, name, known_but_wrong(h, size));
}

/* A regular file, opened for the kernel to read. */
static int open_regular(const char *path, struct stat *st, int *out, struct fb_err *err)
{
	fb_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return fb_err_sys(err, errno, "cannot open %s", path);
	if (fstat(fd, st))
		return fb_err_sys(err, errno, "cannot read %s", path);
	if (!S_ISREG(st->st_mode))
		return not_loadable(err, path, "not a regular file");
	*out = fb_steal_fd(&fd);
	return 0;
}

static int read_head(const char *path, int fd, uint8_t *head, size_t *size,
		     struct fb_err *err)
{
	ssize_t n = pread(fd, head, FB_KEXEC_HEAD, 0);

	if (n < 0)
		return fb_err_sys(err, errno, "cannot read %s", path);
	*size = (size_t)n;
	return 0;
}

static int check_open_image(const char *path, int fd, const struct stat *st,
			    struct fb_kexec_image *image, struct fb_err *err)
{
	uint8_t head[FB_KEXEC_HEAD];
	struct utsname uts;
	size_t size = 0;
	int rc = read_head(path, fd, head, &size, err);

	if (rc)
		return rc;
	uname(&uts);
	return fb_kexec_image_check(path, head, size, (uint64_t)st->st_size,
				    uts.machine, image, err);
}

int fb_kexec_image_read(const char *path, struct fb_kexec_image *image,
			struct fb_err *err)
{
	fb_autoclose int fd = -1;
	struct stat st;
	int rc = open_regular(path, &st, &fd, err);

	return rc ? rc : check_open_image(path, fd, &st, image, err);
}

/* ---- what the machine allows --------------------------------------------- */

static int read_flag(const struct fb_sys *sys, const char *path, bool *flag,
		     struct fb_err *err)
{
	uint64_t v = 0;
	int rc = 0;

	if (fb_sys_exists(sys, path))
		rc = fb_sys_attr_u64(sys, path, &v, err);
	if (!rc)
		*flag = v;
	return rc;
}

/* "none [integrity] confidentiality": the one in brackets. */
static void read_lockdown(const struct fb_sys *sys, char *out, size_t size)
{
	char text[64];
	const char *begin;

	out[0] = '\0';
	if (fb_sys_attr_read(sys, "/sys/kernel/security/lockdown", text, sizeof(text),
			     NULL))
		return;
	begin = strchr(text, '[');
	if (begin)
		snprintf(out, size, "%.*s", (int)strcspn(begin + 1, "]"), begin + 1);
}

int fb_kexec_status(const struct fb_sys *sys, struct fb_kexec_status *status,
		    struct fb_err *err)
{
	struct fb_kexec_status s = { false, false, false, "" };
	int rc;

	s.supported = fb_sys_exists(sys, "/sys/kernel/kexec_loaded");
	rc = read_flag(sys, "/sys/kernel/kexec_loaded", &s.loaded, err);
	if (!rc)
		rc = read_flag(sys, "/proc/sys/kernel/kexec_load_disabled", &s.disabled,
			       err);
	if (rc)
		return rc;
	read_lockdown(sys, s.lockdown, sizeof(s.lockdown));
	*status = s;
	return 0;
}

/* ---- the calls ----------------------------------------------------------- */

static int kexec_file_load(int kernel, int initrd, const char *command_line,
			   unsigned long flags)
{
	long n = syscall(SYS_kexec_file_load, kernel, initrd,
			 (unsigned long)(command_line ? strlen(command_line) + 1 : 0),
			 command_line, flags);

	return n ? -errno : 0;
}

/* kernel.kexec_load_limit_reboot, since 6.3: loads that are left, -1 unlimited. */
static bool limit_reached(const struct fb_sys *sys)
{
	char text[16];

	return !fb_sys_attr_read(sys, "/proc/sys/kernel/kexec_load_limit_reboot", text,
				 sizeof(text), NULL) &&
	       !strcmp(text, "0");
}

static int explain_eperm(const struct fb_sys *sys, const char *kernel,
			 struct fb_err *err)
{
	struct fb_kexec_status status = { .disabled = false };

	if (geteuid())
		return fb_err_set(err, EPERM, "cannot load %s: must be root", kernel);
	fb_kexec_status(sys, &status, NULL);
	if (status.disabled || limit_reached(sys))
		return fb_err_set(err, EPERM,
				  "cannot load %s: kernel.%s; only a reboot takes that "
				  "back",
				  kernel,
				  status.disabled ? "kexec_load_disabled is 1"
						  : "kexec_load_limit_reboot is 0");
	if (status.lockdown[0] && strcmp(status.lockdown, "none"))
		return fb_err_set(err, EPERM,
				  "cannot load %s: the machine is locked down (%s) and "
				  "the kernel has no signature that it accepts",
				  kernel, status.lockdown);
	return fb_err_set(
		err, EPERM,
		"cannot load %s: not permitted (CAP_SYS_BOOT is missing, or a "
		"security module forbids it)",
		kernel);
}

/* One line for each way the kernel says no; NULL: the errno says enough. */
static const char *refusal(int error)
{
	switch (error) {
	case ENOEXEC:
		return "the running kernel does not take it for a kernel that it can "
		       "start (dmesg says why)";
	case ELIBBAD:
	case EBADMSG:
		return "its signature cannot be read: the file is damaged";
	case EKEYREJECTED:
		return "its signature is not valid: the file was changed, or the key "
		       "is not trusted for kernels";
	case ENOKEY:
		return "it is signed with a key that this machine does not know: "
		       "enrol the key, or use the distribution's kernel";
	case ENODATA:
		return "it has no signature and this machine demands one: use a "
		       "signed kernel";
	case EBUSY:
		return "another kexec call is at work: try again";
	case ENOMEM:
		return "not enough free memory for kernel and initrd";
	case EADDRNOTAVAIL:
		return "no free range of memory is large enough for kernel and initrd";
	case EINVAL:
		return "the running kernel refuses the command line (too long?) or the "
		       "call";
	case EACCES:
		return "the kernel's security policy demands a signature, which "
		       "kexec_load does not look at: use [kexec] method = "
		       "kexec_file_load";
	}
	return NULL;
}

static int explain(const struct fb_sys *sys, const struct fb_kexec_request *request,
		   int error, struct fb_err *err)
{
	const char *why = refusal(error);

	if (error == EPERM)
		return explain_eperm(sys, request->kernel, err);
	if (error == ENOSYS)
		return fb_err_exit(err, FB_EXIT_IMPOSSIBLE, ENOSYS,
				   "the running kernel has no %s (CONFIG_%s): use a "
				   "kernel built with it, or [kexec] method = auto",
				   fb_kexec_method_text(request->method),
				   request->method == FB_KEXEC_LOAD ? "KEXEC"
								    : "KEXEC_FILE");
	if (why)
		return fb_err_set(err, error, "cannot load %s: %s", request->kernel,
				  why);
	return fb_err_sys(err, error, "cannot load %s", request->kernel);
}

/* Both calls fill the same place; kexec_load is forbidden under lockdown. */
int fb_kexec_unload(struct fb_err *err)
{
	int rc = kexec_file_load(-1, -1, NULL, KEXEC_FILE_UNLOAD);

	if (rc == -ENOSYS)
		rc = syscall(SYS_kexec_load, 0ul, 0ul, NULL, 0ul) ? -errno : 0;
	return rc ? fb_err_sys(err, -rc, "cannot unload the next kernel") : 0;
}

/* ---- where the segments are ---------------------------------------------- */

/* The number behind `key` in the line. */
static bool find_hex(const char *line, const char *key, uint64_t *value)
{
	const char *p = strstr(line, key);
	char *end;

	if (!p)
		return false;
	p += strlen(key);
	errno = 0;
	*value = strtoull(p, &end, 16);
	return end != p && !errno;
}

bool fb_kexec_parse_segment(const char *line, struct fb_range *segment)
{
	const char *p = strstr(line, "kexec_file: segment[");
	struct fb_range r;

	if (!p || !find_hex(p, " mem=0x", &r.start) ||
	    !find_hex(p, " memsz=0x", &r.size) || !fb_range_valid(r))
		return false;
	*segment = r;
	return true;
}

int fb_kexec_segment_check(struct fb_range segment, struct fb_range region,
			   struct fb_err *err)
{
	char a[FB_RANGE_TEXT_MAX], b[FB_RANGE_TEXT_MAX];

	if (!segment.size || !fb_range_valid(segment))
		return fb_err_set(err, EFAULT, "a segment of the next kernel is none");
	if (!fb_range_overlaps(segment, region))
		return 0;
	return fb_err_set(err, EFAULT,
			  "the next kernel would be placed in the region: segment %s, "
			  "region %s",
			  fb_range_text(segment, a), fb_range_text(region, b));
}

/*
 * Read the log from where `fd` stands. *segments is what was found, and
 * complete only if the kernel's own count agrees.
 */
static int check_log(int fd, struct fb_range region, unsigned int *segments,
		     struct fb_err *err)
{
	static const char counted[] = "kexec_file: nr_segments = ";
	unsigned long expected = 0;
	unsigned int found = 0;
	char line[8192]; /* a record of /dev/kmsg fits */
	ssize_t n;

	while ((n = read(fd, line, sizeof(line) - 1)) > 0 ||
	       (n < 0 && (errno == EPIPE || errno == EINTR))) {
		struct fb_range segment;
		const char *p;
		int rc;

		if (n < 0)
			continue; /* overwritten before it was read */
		line[n] = '\0';
		p = strstr(line, counted);
		if (p)
			expected = strtoul(p + strlen(counted), NULL, 10);
		if (!fb_kexec_parse_segment(line, &segment))
			continue;
		found++;
		rc = fb_kexec_segment_check(segment, region, err);
		if (rc)
			return rc;
	}
	*segments = expected && expected == found ? found : 0;
	return 0;
}

int fb_kexec_prove_iomem(const struct fb_iomem *iomem, struct fb_range region,
			 struct fb_err *err)
{
	for (size_t i = 0; i < iomem->count; i++) {
		const struct fb_iomem_entry *e = &iomem->entries[i];
		char a[FB_RANGE_TEXT_MAX], b[FB_RANGE_TEXT_MAX];

		if (strcmp(e->name, FB_IOMEM_RAM) ||
		    !fb_range_overlaps(e->range, region))
			continue;
		return fb_err_set(
			err, EFAULT,
			"the next kernel could be placed in the region: %s of "
			"%s is plain System RAM in /proc/iomem",
			fb_range_text(fb_range_intersect(e->range, region), a),
			fb_range_text(region, b));
	}
	return 0;
}

static int prove_by_iomem(const struct fb_sys *sys, struct fb_range region,
			  struct fb_err *err)
{
	struct fb_iomem iomem = { NULL, 0 };
	int rc = fb_iomem_read(sys, &iomem, err);

	if (!rc)
		rc = fb_kexec_prove_iomem(&iomem, region, err);
	fb_iomem_free(&iomem);
	return rc;
}

static int prove(const struct fb_sys *sys, int log, struct fb_range region,
		 struct fb_kexec_loaded *loaded, struct fb_err *err)
{
	int rc;

	loaded->proof = FB_KEXEC_PROOF_NONE;
	loaded->segments = 0;
	if (!region.size)
		return 0;
	if (log >= 0) {
		rc = check_log(log, region, &loaded->segments, err);
		loaded->proof = FB_KEXEC_PROOF_SEGMENTS;
		if (rc || loaded->segments)
			return rc;
	}
	loaded->proof = FB_KEXEC_PROOF_IOMEM;
	return prove_by_iomem(sys, region, err);
}

/* The end of the kernel log, to read what comes from now on; -1: unreadable. */
static int open_log(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

/* With the segments in the log where the kernel can do that; *log is closed if
 * it cannot. */
static int load_files(int kernel, int initrd, const struct fb_kexec_request *request,
		      int *log)
{
	unsigned long flags = initrd < 0 ? KEXEC_FILE_NO_INITRAMFS : 0;
	int rc;

	if (*log >= 0) {
		rc = kexec_file_load(kernel, initrd, request->command_line,
				     flags | KEXEC_FILE_DEBUG);
		if (rc != -EINVAL)
			return rc;
		close(fb_steal_fd(log));
	}
	return kexec_file_load(kernel, initrd, request->command_line, flags);
}

static int open_files(const struct fb_kexec_request *request, int *kernel, int *initrd,
		      struct fb_err *err)
{
	struct fb_kexec_image image;
	struct stat st;
	int rc = open_regular(request->kernel, &st, kernel, err);

	if (!rc)
		rc = check_open_image(request->kernel, *kernel, &st, &image, err);
	if (!rc && image.command_line_max &&
	    strlen(request->command_line) > image.command_line_max)
		rc = fb_err_set(err, EINVAL,
				"the command line has %zu bytes, %s takes %zu",
				strlen(request->command_line), request->kernel,
				image.command_line_max);
	if (!rc && request->initrd)
		rc = open_regular(request->initrd, &st, initrd, err);
	return rc;
}

int fb_kexec_files_check(const struct fb_kexec_request *request, struct fb_err *err)
{
	fb_autoclose int kernel = -1, initrd = -1;

	return open_files(request, &kernel, &initrd, err);
}

/* Sets *done once a kernel is loaded, whatever comes then. */
static int load_by_file(const struct fb_sys *sys,
			const struct fb_kexec_request *request, int kernel, int initrd,
			struct fb_kexec_loaded *loaded, bool *done, struct fb_err *err)
{
	fb_autoclose int log = request->region.size ? open_log() : -1;
	int rc = load_files(kernel, initrd, request, &log);

	if (rc)
		return explain(sys, request, -rc, err);
	*done = true;
	return prove(sys, log, request->region, loaded, err);
}

static int load_by_tools(const struct fb_sys *sys,
			 const struct fb_kexec_request *request,
			 struct fb_kexec_loaded *loaded, bool *done, struct fb_err *err)
{
	struct fb_kexec_ahead ahead;
	int rc;

	fb_kexec_ahead_make(sys, request, &ahead);
	rc = fb_kexec_tools_load(sys, request, &ahead, &loaded->segments, err);
	loaded->ahead = ahead.fd >= 0;
	snprintf(loaded->ahead_why, sizeof(loaded->ahead_why), "%s", ahead.why);
	fb_kexec_ahead_free(&ahead);
	*done = !rc || rc == -EFAULT;
	loaded->proof =
		request->region.size ? FB_KEXEC_PROOF_TOOLS : FB_KEXEC_PROOF_NONE;
	if (rc == -EPERM || rc == -ENOSYS || refusal(-rc))
		return explain(sys, request, -rc, err);
	return rc;
}

int fb_kexec_load(const struct fb_sys *sys, const struct fb_kexec_request *request,
		  struct fb_kexec_loaded *loaded, struct fb_err *err)
{
	fb_autoclose int kernel = -1, initrd = -1;
	struct fb_kexec_loaded l = { .segments = 0 };
	struct fb_err undo = FB_ERR_INIT;
	struct fb_kexec_status before;
	bool done = false;
	int rc = open_files(request, &kernel, &initrd, err);

	if (!rc)
		rc = fb_kexec_status(sys, &before, err);
	if (rc)
		return rc;
	l.replaced = before.loaded;
	if (request->method == FB_KEXEC_LOAD)
		rc = load_by_tools(sys, request, &l, &done, err);
	else
		rc = load_by_file(sys, request, kernel, initrd, &l, &done, err);
	if (rc && done && fb_kexec_unload(&undo)) {
		fb_err_append(err, "; %s", undo.text);
		if (err)
			err->status = FB_EXIT_UNDO;
	}
	if (!rc)
		*loaded = l;
	return rc;
}

/* ---- the point of no return ---------------------------------------------- */

int fb_kexec_start(struct fb_err *err)
{
	reboot(LINUX_REBOOT_CMD_KEXEC);
	if (errno == EINVAL)
		return fb_err_set(err, EINVAL, "cannot kexec: no kernel is loaded");
	return fb_err_sys(err, errno, "cannot kexec");
}

int fb_kexec_restart(struct fb_err *err)
{
	reboot(LINUX_REBOOT_CMD_RESTART);
	return fb_err_sys(err, errno, "cannot reboot");
}
