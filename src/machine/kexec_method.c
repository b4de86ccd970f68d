/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/kexec_method.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"
#include "machine/arch.h"
#include "machine/kconfig.h"
#include "machine/kexec.h"
#include "machine/kexec_tools.h"

#define SECURITY "/sys/kernel/security"
#define EFI	 "/sys/firmware/efi"
#define SECURE_BOOT_VARIABLE                                                           \
	EFI "/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
#define SECURE_BOOT_SIZE 5 /* four bytes of attributes, then the value */

static const char *const names[] = {
	[FB_KEXEC_AUTO] = "auto",
	[FB_KEXEC_FILE_LOAD] = "kexec_file_load",
	[FB_KEXEC_LOAD] = "kexec_load",
};

const char *fb_kexec_method_text(enum fb_kexec_method method)
{
	return names[method];
}

bool fb_kexec_method_parse(const char *text, enum fb_kexec_method *method)
{
	for (size_t i = 0; i < FB_ARRAY_SIZE(names); i++) {
		if (strcmp(text, names[i]))
			continue;
		*method = (enum fb_kexec_method)i;
		return true;
	}
	return false;
}

/* ---- is a signature wanted? ---------------------------------------------- */

/* The first reason counts. */
static void reason(char *why, const char *text)
{
	if (!why[0])
		snprintf(why, FB_KEXEC_WHY_MAX, "%s", text);
}

static bool set(const char *kconfig, const char *option)
{
	return fb_kconfig_value(kconfig, option) != 'n';
}

static void read_lockdown(const struct fb_sys *sys, const char *kconfig,
			  struct fb_kexec_facts *f)
{
	struct fb_kexec_status status = { .lockdown = "" };
	char why[FB_KEXEC_WHY_MAX];

	fb_kexec_status(sys, &status, NULL);
	snprintf(why, sizeof(why), "the kernel is locked down (%s)", status.lockdown);
	if (status.lockdown[0] && strcmp(status.lockdown, "none"))
		reason(f->signature, why);
	if (!status.lockdown[0] && kconfig && set(kconfig, "SECURITY_LOCKDOWN_LSM"))
		reason(f->doubt, "whether the kernel is locked down cannot be read: "
				 "mount securityfs");
}

static void read_secure_boot(const struct fb_sys *sys, struct fb_kexec_facts *f)
{
	fb_autofree char *value = NULL;
	size_t size = 0;

	if (!fb_sys_exists(sys, EFI))
		return;
	if (fb_sys_read(sys, SECURE_BOOT_VARIABLE, &value, &size, NULL) ||
	    size != SECURE_BOOT_SIZE)
		reason(f->doubt, "whether secure boot is on cannot be read: mount "
				 "efivarfs");
	else if (value[SECURE_BOOT_SIZE - 1])
		reason(f->signature, "secure boot is on");
}

/* A rule of the policy: "appraise func=KEXEC_KERNEL_CHECK appraise_type=imasig". */
static bool appraises_kernels(const char *policy)
{
	for (const char *line = policy; *line;
	     line += strcspn(line, "\n"), line += *line == '\n') {
		const char *end = strchrnul(line, '\n');
		const char *func = strstr(line, "func=KEXEC_KERNEL_CHECK");

		if (!strncmp(line, "appraise ", 9) && func && func < end)
			return true;
	}
	return false;
}

/* Where the policy cannot be read the kernel itself refuses kexec_load. */
static void read_ima(const struct fb_sys *sys, const char *kconfig,
		     struct fb_kexec_facts *f)
{
	fb_autofree char *policy = NULL, *cmdline = NULL;
	const char *given;
	bool wants = kconfig && set(kconfig, "IMA_APPRAISE_REQUIRE_KEXEC_SIGS");

	if (!fb_sys_read(sys, SECURITY "/ima/policy", &policy, NULL, NULL) ||
	    !fb_sys_read(sys, SECURITY "/integrity/ima/policy", &policy, NULL, NULL))
		wants |= appraises_kernels(policy);
	if (!fb_sys_read(sys, "/proc/cmdline", &cmdline, NULL, NULL)) {
		given = strstr(cmdline, "ima_policy=");
		wants |= given && memmem(given, strcspn(given, " \n"), "secure_boot",
					 strlen("secure_boot"));
	}
	if (wants)
		reason(f->signature, "IMA appraises kernels");
}

/* ---- what there is ------------------------------------------------------- */

static enum fb_kexec_call call(const char *kconfig, const char *option)
{
	if (!kconfig)
		return FB_KEXEC_CALL_UNKNOWN;
	return set(kconfig, option) ? FB_KEXEC_CALL_PRESENT : FB_KEXEC_CALL_MISSING;
}

bool fb_kexec_lpa2(uint64_t page, uint64_t address)
{
	return page == 4096 && address >= (uint64_t)1 << 48;
}

static bool read_lpa2(void)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	void *hint = (void *)(uintptr_t)((uint64_t)1 << 51);
	void *p = mmap(hint, page, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return false;
	munmap(p, page);
	return fb_kexec_lpa2(page, (uintptr_t)p);
}

void fb_kexec_facts_read(const struct fb_sys *sys, struct fb_kexec_facts *facts)
{
	fb_autofree char *kconfig = NULL;
	struct fb_kexec_facts f = { .tools = "" };

	if (fb_kconfig_read(sys, &kconfig, NULL))
		reason(f.doubt, "the kernel's configuration is not known: install "
				"/boot/config-RELEASE");
	f.file_load = call(kconfig, "KEXEC_FILE");
	f.load = call(kconfig, "KEXEC");
	f.arm64 = fb_arch_is_arm64(sys);
	f.lpa2 = f.arm64 && fb_sys_live(sys) && read_lpa2();
	fb_kexec_tools_find(sys, f.tools, sizeof(f.tools));
	read_lockdown(sys, kconfig, &f);
	if (kconfig && set(kconfig, "KEXEC_SIG_FORCE"))
		reason(f.signature, "CONFIG_KEXEC_SIG_FORCE is set");
	read_secure_boot(sys, &f);
	read_ima(sys, kconfig, &f);
	*facts = f;
}

bool fb_kexec_facts_learn(struct fb_kexec_facts *f, enum fb_kexec_method method,
			  int error)
{
	if (method == FB_KEXEC_FILE_LOAD && error == -ENOSYS) {
		f->file_load = FB_KEXEC_CALL_MISSING;
		return true;
	}
	if (method == FB_KEXEC_LOAD && error == -ENOSYS) {
		f->load = FB_KEXEC_CALL_MISSING;
		return true;
	}
	if (method == FB_KEXEC_LOAD && error == -EACCES) {
		reason(f->signature, "the kernel's security policy demands it");
		return true;
	}
	return false;
}

/* ---- the choice ---------------------------------------------------------- */

static int impossible(struct fb_err *err, const char *text, const char *fix)
{
	return fb_err_exit(err, FB_EXIT_IMPOSSIBLE, ENOTSUP, "%s: %s", text, fix);
}

static int check_load(const struct fb_kexec_facts *f, struct fb_err *err)
{
	if (f->load == FB_KEXEC_CALL_MISSING)
		return impossible(err, "the running kernel has no kexec_load",
				  "use a kernel with CONFIG_KEXEC");
	if (!f->tools[0])
		return impossible(err, "kexec_load goes through the program kexec",
				  "install kexec-tools");
	return 0;
}

static int chosen(struct fb_kexec_choice *choice, enum fb_kexec_method method,
		  const char *why)
{
	choice->method = method;
	snprintf(choice->why, sizeof(choice->why), "%s", why);
	return 0;
}

static int choose_load(const struct fb_kexec_facts *f, struct fb_kexec_choice *choice,
		       const char *why, struct fb_err *err)
{
	int rc = check_load(f, err);

	return rc ? rc : chosen(choice, FB_KEXEC_LOAD, why);
}

/* There is only kexec_load. */
static int choose_without_file(const struct fb_kexec_facts *f,
			       struct fb_kexec_choice *choice, struct fb_err *err)
{
	if (f->signature[0])
		return fb_err_exit(
			err, FB_EXIT_IMPOSSIBLE, ENOTSUP,
			"the next kernel must be signed (%s), and the "
			"running kernel has no kexec_file_load: use one with "
			"CONFIG_KEXEC_FILE, or reboot --firmware",
			f->signature);
	return choose_load(f, choice, "the running kernel has no kexec_file_load", err);
}

static int choose_auto(const struct fb_kexec_facts *f, struct fb_kexec_choice *choice,
		       struct fb_err *err)
{
	const char *against = NULL;

	if (f->file_load == FB_KEXEC_CALL_MISSING)
		return choose_without_file(f, choice, err);
	if (f->arm64)
		against = "it makes no digest on arm64";
	else if (f->signature[0])
		against = f->signature;
	else if (f->doubt[0])
		against = f->doubt;
	else if (f->load != FB_KEXEC_CALL_PRESENT)
		against = "the running kernel has no kexec_load";
	else if (!f->tools[0])
		against = "kexec-tools is not installed";
	if (against)
		return chosen(choice, FB_KEXEC_FILE_LOAD, against);
	return chosen(choice, FB_KEXEC_LOAD,
		      "no signature is wanted; what is started is not checked by a "
		      "digest after the jump, which is faster");
}

int fb_kexec_choose(const struct fb_kexec_facts *f, enum fb_kexec_method wanted,
		    struct fb_kexec_choice *choice, struct fb_err *err)
{
	if (f->lpa2)
		return impossible(
			err,
			"kexec crashes this kernel, which uses 52-bit "
			"addresses (LPA2)",
			"add arm64.nolva to its command line and reboot once");
	if (wanted == FB_KEXEC_AUTO)
		return choose_auto(f, choice, err);
	if (wanted == FB_KEXEC_LOAD && f->signature[0])
		return fb_err_set(err, EPERM,
				  "method = kexec_load looks at no signature, but %s: "
				  "use kexec_file_load or auto",
				  f->signature);
	if (wanted == FB_KEXEC_LOAD)
		return choose_load(f, choice, "configured", err);
	if (f->file_load == FB_KEXEC_CALL_MISSING)
		return impossible(err, "the running kernel has no kexec_file_load",
				  "use [kexec] method = auto, or a kernel with "
				  "CONFIG_KEXEC_FILE");
	return chosen(choice, FB_KEXEC_FILE_LOAD, "configured");
}
