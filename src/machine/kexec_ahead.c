/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/kexec_ahead.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "base/util.h"
#include "format/bzimage.h"
#include "format/cmdline.h"
#include "machine/arch.h"
#include "machine/file.h"
#include "machine/kexec.h"

/* ---- may it be done on this machine? ------------------------------------------- */

bool fb_kexec_levels_fit(const struct fb_kexec_levels *levels, uint16_t xloadflags,
			 const char *command_line)
{
	struct fb_cmdline_arg arg;
	bool wants_5 = levels->cpu_has_5 && (xloadflags & FB_BZIMAGE_5LEVEL) &&
		       !fb_cmdline_last(command_line, "no5lvl", &arg);

	return wants_5 == levels->runs_with_5;
}

static void read_levels(struct fb_kexec_levels *levels)
{
	*levels = (struct fb_kexec_levels){ false, false };
#ifdef __x86_64__
	unsigned int a, b, c, d;
	/* Addresses of 57 bits are only given to who asks for them (mmap(2)). */
	void *hint = (void *)((uintptr_t)1 << 55);
	void *p = mmap(hint, 4096, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p != MAP_FAILED) {
		levels->runs_with_5 = (uintptr_t)p >> 47 != 0;
		munmap(p, 4096);
	}
	if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
		levels->cpu_has_5 = c & 1u << 16;
#endif
}

/* A word of the first processor's flags. */
static bool has_flag(const char *cpuinfo, const char *flag)
{
	const char *line = strstr(cpuinfo, "\nflags"), *end;
	size_t length = strlen(flag);

	if (!line)
		return false;
	end = strchrnul(line + 1, '\n');
	for (const char *p = line; (p = strstr(p, flag)) && p < end; p += length)
		if (p[-1] == ' ' && (p[length] == ' ' || p + length == end))
			return true;
	return false;
}

/* An encrypted guest's decompressor does more than decompress. */
static bool may_be_encrypted(const struct fb_sys *sys)
{
	static const char *const flags[] = { "sev", "sev_es", "sev_snp", "tdx_guest" };
	fb_autofree char *cpuinfo = NULL;

	if (fb_sys_read(sys, "/proc/cpuinfo", &cpuinfo, NULL, NULL))
		return true;
	for (size_t i = 0; i < FB_ARRAY_SIZE(flags); i++)
		if (has_flag(cpuinfo, "hypervisor") && has_flag(cpuinfo, flags[i]))
			return true;
	return false;
}

static bool encrypts(const char *command_line)
{
	struct fb_cmdline_arg arg;

	return fb_cmdline_last(command_line, "mem_encrypt", &arg) && arg.value &&
	       !strncmp(arg.value, "on", 2);
}

static const char *reason_against(const struct fb_sys *sys,
				  const struct fb_kexec_request *r)
{
	if (fb_arch_is_arm64(sys))
		return "an arm64 kernel is not compressed";
	if (!r->region.size)
		return "there is no region";
	if (may_be_encrypted(sys))
		return "this may be an encrypted guest";
	if (encrypts(r->command_line))
		return "mem_encrypt=on";
	return NULL;
}

/* ---- doing it ------------------------------------------------------------------- */

static int store(const void *bytes, size_t size, int *out, struct fb_err *err)
{
	fb_autoclose int fd = memfd_create("fastboot-kernel", MFD_CLOEXEC);
	int rc = fd < 0 ? -errno : fb_file_write_all(fd, bytes, size);

	if (rc)
		return fb_err_sys(err, -rc, "memfd");
	*out = fb_steal_fd(&fd);
	return 0;
}

static int unpack(const char *file, size_t size, const struct fb_kexec_request *r,
		  struct fb_kexec_ahead *ahead, struct fb_err *err)
{
	struct fb_bzimage_options options = { false, 0 };
	uint64_t random[2] = { 0, 0 };
	fb_autofree void *unpacked = NULL;
	struct fb_kexec_levels levels;
	struct fb_cmdline_arg arg;
	struct fb_bzimage bz;
	size_t length;
	int rc = fb_bzimage_parse(file, size, &bz, err);

	if (rc)
		return rc;
	read_levels(&levels);
	if (!fb_kexec_levels_fit(&levels, bz.xloadflags, r->command_line))
		return fb_err_set(err, ENOTSUP,
				  "it must change the number of levels of its page "
				  "tables");
	options.kaslr = !fb_cmdline_last(r->command_line, "nokaslr", &arg);
	if (options.kaslr && getrandom(random, sizeof(random), 0) != sizeof(random))
		return fb_err_sys(err, errno ? errno : EIO, "getrandom");
	options.random = random[0];
	rc = fb_bzimage_unpack(file, size, &options, &unpacked, &length, err);
	if (!rc)
		rc = store(unpacked, length, &ahead->fd, err);
	if (rc)
		return rc;
	ahead->bytes = fb_bzimage_memory(unpacked);
	ahead->random = random[1];
	return 0;
}

void fb_kexec_ahead_make(const struct fb_sys *sys, const struct fb_kexec_request *r,
			 struct fb_kexec_ahead *ahead)
{
	const struct fb_sys file_system = { "" };
	const char *against = reason_against(sys, r);
	struct fb_kexec_ahead a = { .fd = -1 };
	fb_autofree char *file = NULL;
	struct fb_err err = FB_ERR_INIT;
	size_t size;

	if (!against && (fb_sys_read(&file_system, r->kernel, &file, &size, &err) ||
			 unpack(file, size, r, &a, &err)))
		against = err.text;
	if (against)
		snprintf(a.why, sizeof(a.why), "%.*s", FB_KEXEC_WHY_MAX - 1, against);
	*ahead = a;
}

void fb_kexec_ahead_free(struct fb_kexec_ahead *ahead)
{
	if (ahead->fd >= 0)
		close(ahead->fd);
	ahead->fd = -1;
	ahead->random = 0;
}
