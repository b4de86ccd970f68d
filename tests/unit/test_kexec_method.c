/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "base/util.h"
#include "machine/kexec_method.h"

/* ---- the choice ---------------------------------------------------------- */

/* x86, stock kernel, kexec-tools there, nothing signed. */
static const struct fb_kexec_facts plain = {
	.file_load = FB_KEXEC_CALL_PRESENT,
	.load = FB_KEXEC_CALL_PRESENT,
	.tools = "/usr/sbin/kexec",
};

static struct fb_kexec_facts changed(const char *what)
{
	struct fb_kexec_facts f = plain;

	if (strchr(what, 's'))
		strcpy(f.signature, "secure boot is on");
	if (strchr(what, 'd'))
		strcpy(f.doubt, "who knows");
	if (strchr(what, 't'))
		f.tools[0] = '\0';
	if (strchr(what, 'f'))
		f.file_load = FB_KEXEC_CALL_MISSING;
	if (strchr(what, 'u'))
		f.file_load = f.load = FB_KEXEC_CALL_UNKNOWN;
	if (strchr(what, 'l'))
		f.load = FB_KEXEC_CALL_MISSING;
	f.arm64 = strchr(what, 'a');
	f.lpa2 = strchr(what, '5');
	return f;
}

static const struct {
	const char *facts;
	enum fb_kexec_method wanted, method; /* method AUTO: refused */
	enum fb_exit status;
	const char *words;
} choices[] = {
	/* auto */
	{ "", FB_KEXEC_AUTO, FB_KEXEC_LOAD, 0, "no signature" },
	{ "s", FB_KEXEC_AUTO, FB_KEXEC_FILE_LOAD, 0, "secure boot is on" },
	{ "sd", FB_KEXEC_AUTO, FB_KEXEC_FILE_LOAD, 0, "secure boot is on" },
	{ "d", FB_KEXEC_AUTO, FB_KEXEC_FILE_LOAD, 0, "who knows" },
	{ "ud", FB_KEXEC_AUTO, FB_KEXEC_FILE_LOAD, 0, "who knows" },
	{ "u", FB_KEXEC_AUTO, FB_KEXEC_FILE_LOAD, 0, "has no kexec_load" },
	{ "l", FB_KEXEC_AUTO, FB_KEXEC_FILE_LOAD, 0, "has no kexec_load" },
	{ "t", FB_KEXEC_AUTO, FB_KEXEC_FILE_LOAD, 0, "kexec-tools is not installed" },
	{ "a", FB_KEXEC_AUTO, FB_KEXEC_FILE_LOAD, 0, "no digest on arm64" },
	{ "f", FB_KEXEC_AUTO, FB_KEXEC_LOAD, 0, "has no kexec_file_load" },
	{ "af", FB_KEXEC_AUTO, FB_KEXEC_LOAD, 0, "has no kexec_file_load" },
	{ "afd", FB_KEXEC_AUTO, FB_KEXEC_LOAD, 0, "has no kexec_file_load" },
	{ "aft", FB_KEXEC_AUTO, FB_KEXEC_AUTO, FB_EXIT_IMPOSSIBLE,
	  "install kexec-tools" },
	{ "fl", FB_KEXEC_AUTO, FB_KEXEC_AUTO, FB_EXIT_IMPOSSIBLE, "CONFIG_KEXEC" },
	{ "fs", FB_KEXEC_AUTO, FB_KEXEC_AUTO, FB_EXIT_IMPOSSIBLE,
	  "must be signed (secure boot is on)" },
	{ "a5", FB_KEXEC_AUTO, FB_KEXEC_AUTO, FB_EXIT_IMPOSSIBLE, "arm64.nolva" },
	/* kexec_load: said by a person, who may know better than a doubt */
	{ "", FB_KEXEC_LOAD, FB_KEXEC_LOAD, 0, "configured" },
	{ "d", FB_KEXEC_LOAD, FB_KEXEC_LOAD, 0, "configured" },
	{ "a", FB_KEXEC_LOAD, FB_KEXEC_LOAD, 0, "configured" },
	{ "s", FB_KEXEC_LOAD, FB_KEXEC_AUTO, FB_EXIT_FAILED, "secure boot is on: use" },
	{ "t", FB_KEXEC_LOAD, FB_KEXEC_AUTO, FB_EXIT_IMPOSSIBLE,
	  "install kexec-tools" },
	{ "l", FB_KEXEC_LOAD, FB_KEXEC_AUTO, FB_EXIT_IMPOSSIBLE, "CONFIG_KEXEC" },
	{ "a5", FB_KEXEC_LOAD, FB_KEXEC_AUTO, FB_EXIT_IMPOSSIBLE, "arm64.nolva" },
	/* kexec_file_load */
	{ "t", FB_KEXEC_FILE_LOAD, FB_KEXEC_FILE_LOAD, 0, "configured" },
	{ "s", FB_KEXEC_FILE_LOAD, FB_KEXEC_FILE_LOAD, 0, "configured" },
	{ "u", FB_KEXEC_FILE_LOAD, FB_KEXEC_FILE_LOAD, 0, "configured" },
	{ "f", FB_KEXEC_FILE_LOAD, FB_KEXEC_AUTO, FB_EXIT_IMPOSSIBLE, "method = auto" },
	{ "a5", FB_KEXEC_FILE_LOAD, FB_KEXEC_AUTO, FB_EXIT_IMPOSSIBLE, "arm64.nolva" },
};

static void test_choose(void **state)
{
	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(choices); i++) {
		struct fb_kexec_facts f = changed(choices[i].facts);
		struct fb_kexec_choice c = { FB_KEXEC_AUTO, "" };
		struct fb_err err = FB_ERR_INIT;
		int rc = fb_kexec_choose(&f, choices[i].wanted, &c, &err);

		if (!rc != (choices[i].method != FB_KEXEC_AUTO) ||
		    c.method != choices[i].method || err.status != choices[i].status ||
		    !strstr(rc ? err.text : c.why, choices[i].words))
			fail_msg("'%s', %s: %d, %s, status %d: %s%s", choices[i].facts,
				 fb_kexec_method_text(choices[i].wanted), rc,
				 fb_kexec_method_text(c.method), err.status, err.text,
				 c.why);
	}
}

/* What a refused load teaches, and that it never leads back. */
static void test_learn(void **state)
{
	struct fb_kexec_facts f = changed("ud");
	struct fb_kexec_choice c;

	(void)state;
	assert_false(fb_kexec_facts_learn(&f, FB_KEXEC_FILE_LOAD, -EPERM));
	assert_false(fb_kexec_facts_learn(&f, FB_KEXEC_FILE_LOAD, -EKEYREJECTED));
	assert_false(fb_kexec_facts_learn(&f, FB_KEXEC_FILE_LOAD, 0));
	assert_true(fb_kexec_facts_learn(&f, FB_KEXEC_FILE_LOAD, -ENOSYS));
	assert_int_equal(fb_kexec_choose(&f, FB_KEXEC_AUTO, &c, NULL), 0);
	assert_int_equal(c.method, FB_KEXEC_LOAD);
	assert_true(fb_kexec_facts_learn(&f, FB_KEXEC_LOAD, -ENOSYS));
	assert_int_equal(fb_kexec_choose(&f, FB_KEXEC_AUTO, &c, NULL), -ENOTSUP);

	f = plain;
	assert_true(fb_kexec_facts_learn(&f, FB_KEXEC_LOAD, -EACCES));
	assert_int_equal(fb_kexec_choose(&f, FB_KEXEC_AUTO, &c, NULL), 0);
	assert_int_equal(c.method, FB_KEXEC_FILE_LOAD);
	assert_false(fb_kexec_facts_learn(&f, FB_KEXEC_LOAD, -EFAULT));
}

static void test_names(void **state)
{
	enum fb_kexec_method m = FB_KEXEC_AUTO;

	(void)state;
	assert_true(fb_kexec_method_parse("kexec_load", &m));
	assert_int_equal(m, FB_KEXEC_LOAD);
	assert_false(fb_kexec_method_parse("kexec", &m));
	assert_int_equal(m, FB_KEXEC_LOAD);
	for (m = FB_KEXEC_AUTO; m <= FB_KEXEC_LOAD; m++) {
		enum fb_kexec_method back = FB_KEXEC_AUTO;

		assert_true(fb_kexec_method_parse(fb_kexec_method_text(m), &back));
		assert_int_equal(back, m);
	}
}

static void test_lpa2(void **state)
{
	(void)state;
	assert_true(fb_kexec_lpa2(4096, 0x8000000000000)); /* 52 bits */
	assert_true(fb_kexec_lpa2(4096, 0x1000000000000));
	assert_false(fb_kexec_lpa2(4096, 0xffffff7ff000));   /* 48 bits */
	assert_false(fb_kexec_lpa2(65536, 0x8000000000000)); /* LVA: three levels */
	assert_false(fb_kexec_lpa2(16384, 0x8000000000000)); /* four levels */
}

/* ---- the facts, from a tree ---------------------------------------------- */

static char root[] = "/tmp/fastboot-method.XXXXXX";

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return strcmp(path, root) ? remove(path) : 0;
}

static void put_bytes(const char *path, const char *bytes, size_t size)
{
	char full[256];
	FILE *file;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); *p++ = '/') {
		*p = '\0';
		mkdir(full, 0755);
	}
	file = fopen(full, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	fclose(file);
}

static void put(const char *path, const char *text)
{
	put_bytes(path, text, strlen(text));
}

#define SECURE_BOOT                                                                    \
	"/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
#define STOCK                                                                          \
	"CONFIG_KEXEC=y\nCONFIG_KEXEC_FILE=y\nCONFIG_KEXEC_SIG=y\n"                    \
	"# CONFIG_KEXEC_SIG_FORCE is not set\n"                                        \
	"CONFIG_SECURITY_LOCKDOWN_LSM=y\nCONFIG_IMA=y\n"

/* Debian on a PC without secure boot. */
static void stock(void)
{
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	put("/proc/sys/kernel/osrelease", "6.12\n");
	put("/proc/sys/kernel/arch", "x86_64\n");
	put("/proc/cmdline", "quiet ro\n");
	put("/boot/config-6.12", STOCK);
	put("/sys/kernel/security/lockdown", "[none] integrity confidentiality\n");
	put_bytes(SECURE_BOOT, "\6\0\0\0\0", 5);
	put("/sbin/kexec", "");
}

static void expect_facts(const char *signature, const char *doubt)
{
	const struct fb_sys sys = { root };
	struct fb_kexec_facts f;

	fb_kexec_facts_read(&sys, &f);
	if (!strstr(f.signature, signature) || !f.signature[0] != !signature[0])
		fail_msg("signature '%s', not '%s'", f.signature, signature);
	if (!strstr(f.doubt, doubt) || !f.doubt[0] != !doubt[0])
		fail_msg("doubt '%s', not '%s'", f.doubt, doubt);
}

static void test_facts_stock(void **state)
{
	const struct fb_sys sys = { root };
	struct fb_kexec_facts f;

	(void)state;
	stock();
	expect_facts("", "");
	fb_kexec_facts_read(&sys, &f);
	assert_int_equal(f.file_load, FB_KEXEC_CALL_PRESENT);
	assert_int_equal(f.load, FB_KEXEC_CALL_PRESENT);
	assert_string_equal(f.tools, "/sbin/kexec");
	assert_false(f.arm64);
	put("/boot/config-6.12", "CONFIG_KEXEC=y\n# CONFIG_KEXEC_FILE is not set\n");
	put("/proc/sys/kernel/arch", "aarch64\n");
	fb_kexec_facts_read(&sys, &f);
	assert_int_equal(f.file_load, FB_KEXEC_CALL_MISSING);
	assert_true(f.arm64);
}

static void test_facts_signature(void **state)
{
	(void)state;
	stock();
	put("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
	expect_facts("locked down (integrity)", "");
	stock();
	put("/boot/config-6.12", STOCK "CONFIG_KEXEC_SIG_FORCE=y\n");
	expect_facts("KEXEC_SIG_FORCE", "");
	stock();
	put_bytes(SECURE_BOOT, "\6\0\0\0\1", 5);
	expect_facts("secure boot is on", "");
	stock();
	put("/boot/config-6.12", STOCK "CONFIG_IMA_APPRAISE_REQUIRE_KEXEC_SIGS=y\n");
	expect_facts("IMA", "");
	stock();
	put("/proc/cmdline", "quiet ima_policy=tcb|secure_boot ro\n");
	expect_facts("IMA", "");
	stock();
	put("/proc/cmdline", "quiet ima_policy=tcb root=secure_boot\n");
	expect_facts("", "");
	stock();
	put("/sys/kernel/security/ima/policy",
	    "measure func=KEXEC_KERNEL_CHECK\nappraise func=MODULE_CHECK\n");
	expect_facts("", "");
	put("/sys/kernel/security/ima/policy",
	    "dont_measure\nappraise func=KEXEC_KERNEL_CHECK appraise_type=imasig\n");
	expect_facts("IMA", "");
}

static void test_facts_doubt(void **state)
{
	char path[128];

	(void)state;
	stock();
	snprintf(path, sizeof(path), "%s/boot/config-6.12", root);
	assert_int_equal(remove(path), 0);
	expect_facts("", "configuration is not known");
	stock();
	snprintf(path, sizeof(path), "%s" SECURE_BOOT, root);
	assert_int_equal(remove(path), 0);
	expect_facts("", "mount efivarfs");
	put(SECURE_BOOT, "\6");
	expect_facts("", "mount efivarfs");
	stock();
	snprintf(path, sizeof(path), "%s/sys/kernel/security/lockdown", root);
	assert_int_equal(remove(path), 0);
	expect_facts("", "mount securityfs");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choose),
		cmocka_unit_test(test_learn),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_lpa2),
		cmocka_unit_test(test_facts_stock),
		cmocka_unit_test(test_facts_signature),
		cmocka_unit_test(test_facts_doubt),
	};
	int rc;

	setenv("PATH", "/usr/bin:relative:/bin", 1);
	if (!mkdtemp(root))
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	remove(root);
	return rc;
}
