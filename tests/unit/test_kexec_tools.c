/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kexec_tools with a kexec that says what each test wants: machine/run is
 * replaced at link time. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "bzimage_help.h"

#include "base/util.h"
#include "machine/iomem.h"
#include "machine/kexec.h"
#include "machine/kexec_ahead.h"
#include "machine/kexec_tools.h"
#include "machine/run.h"

/* ---- the program --------------------------------------------------------- */

static struct {
	char command[1024]; /* what was run, words joined by blanks */
	const char *says;
	int status, rc, runs;
	int fails; /* so many times first */
} fake;

int fb_run_output(char *const argv[], char **output, int *status, struct fb_err *err)
{
	fake.runs++;
	fake.command[0] = '\0';
	for (int i = 0; argv[i]; i++) {
		strcat(fake.command, i ? " " : "");
		strcat(fake.command, argv[i]);
	}
	if (fake.rc)
		return fb_err_sys(err, -fake.rc, "cannot run %s", argv[0]);
	*output = strdup(fake.fails ? "locate_hole failed\n" : fake.says);
	*status = fake.fails ? 255 << 8 : fake.status;
	fake.fails -= fake.fails > 0;
	return 0;
}

/* ---- the machine --------------------------------------------------------- */

static char root[] = "/tmp/fastboot-tools.XXXXXX";

static void put(const char *path, const char *text)
{
	char full[256];
	FILE *file;

	snprintf(full, sizeof(full), "%s%s", root, path);
	file = fopen(full, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static const char iomem_text[] = "00001000-0009fbff : System RAM\n"
				 "00100000-7ffdffff : System RAM\n"
				 "100000000-17fffffff : Persistent Memory (legacy)\n"
				 "  108000000-17fffffff : System RAM (kmem)\n"
				 "180000000-27fffffff : System RAM\n"
				 "  1ad400000-1ae3fffff : Kernel code\n"
				 "300000000-37fffffff : Persistent Memory (legacy)\n"
				 "  300000000-37fffffff : System RAM (kmem)\n";

static const struct fb_range region = { 4 * FB_GIB, 2 * FB_GIB };

static void test_window(void **state)
{
	struct fb_iomem iomem = { NULL, 0 };
	struct fb_range w = { 1, 1 }, all = { 0, 16 * FB_GIB };

	(void)state;
	assert_int_equal(fb_iomem_parse(iomem_text, &iomem, NULL), 0);
	assert_int_equal(fb_kexec_tools_window(&iomem, region, 0, &w, NULL), 0);
	assert_int_equal(w.start, 0x180000000);
	assert_int_equal(fb_range_last(w), 0x27fffffff);
	/* The region may be plain RAM still: the first load with one. */
	assert_int_equal(fb_kexec_tools_window(&iomem,
					       (struct fb_range){ 0x27f000000, FB_MIB },
					       0, &w, NULL),
			 0);
	assert_int_equal(w.start, 0x180000000);
	assert_int_equal(fb_range_last(w), 0x27effffff);
	assert_int_equal(fb_kexec_tools_window(&iomem,
					       (struct fb_range){ 0x180000000, FB_GIB },
					       0, &w, NULL),
			 0);
	assert_int_equal(w.start, 0x1c0000000);
	assert_int_equal(fb_range_last(w), 0x27fffffff);
	assert_int_equal(fb_kexec_tools_window(&iomem, all, 1, &w, NULL), -ENOENT);
	assert_int_equal(w.start, 0x1c0000000);

	/* Below 4 GiB where that is enough, and not in the region either. */
	assert_int_equal(fb_kexec_tools_window(&iomem, region, FB_GIB - FB_MIB, &w, NULL),
			 0);
	assert_int_equal(w.start, 0x40070000);
	assert_int_equal(fb_range_last(w), 0x7ffdffff);
	assert_int_equal(fb_kexec_tools_window(&iomem, region, FB_GIB, &w, NULL), 0);
	assert_int_equal(w.start, 0x180000000);
	assert_int_equal(fb_kexec_tools_window(
				 &iomem, (struct fb_range){ FB_GIB, FB_GIB }, 1, &w, NULL),
			 0);
	assert_int_equal(w.start, 0x20080000);
	assert_int_equal(fb_range_last(w), 0x3fffffff);
	fb_iomem_free(&iomem);
}

static void test_shift(void **state)
{
	const struct fb_range window = { FB_GIB, 100 * FB_MIB };
	struct fb_range w = fb_kexec_tools_shift(window, 90 * FB_MIB, 3);

	(void)state;
	assert_int_equal(w.start, window.start);
	assert_int_equal(w.size, 94 * FB_MIB);
	assert_int_equal(fb_kexec_tools_shift(window, 90 * FB_MIB, 5).size, 90 * FB_MIB);
	assert_int_equal(fb_kexec_tools_shift(window, 90 * FB_MIB, 6).size,
			 100 * FB_MIB);
	assert_int_equal(fb_kexec_tools_shift(window, 100 * FB_MIB, 7).size,
			 100 * FB_MIB);
	assert_int_equal(fb_kexec_tools_shift(window, 200 * FB_MIB, 7).size,
			 100 * FB_MIB);
}

/* As kexec-tools 2.0.25 prints it. */
#define HEAD(n)                                                                        \
	"sym: .text value: 1 addr: 2\nkexec_load: entry = 0x7ffc7760 flags = "         \
	"0x3e0000\nnr_segments = " n "\n"
#define SEGMENT(i, mem, size)                                                          \
	"segment[" i "].buf   = 0x55c3e7bb4560\nsegment[" i                            \
	"].bufsz = 0x30\nsegment[" i "].mem   = " mem "\nsegment[" i "].memsz = " size \
	"\n"

static const struct {
	const char *output;
	int rc;
	unsigned int count;
	const char *words;
} outputs[] = {
	{ HEAD("2") SEGMENT("0", "0x100000", "0x1000")
		  SEGMENT("1", "0x27fff7000", "0x9000"),
	  0, 2, "" },
	/* up to the region's first byte, and from behind its last */
	{ HEAD("2") SEGMENT("0", "0xfffff000", "0x1000")
		  SEGMENT("1", "0x180000000", "0x1000"),
	  0, 2, "" },
	{ HEAD("2") SEGMENT("0", "0x100000", "0x1000")
		  SEGMENT("1", "0x17bc29000", "0xbd7000"),
	  -EFAULT, 0, "placed in the region: segment 0x17bc29000-" },
	{ HEAD("1") SEGMENT("0", "0xfffff000", "0x1001"), -EFAULT, 0, "placed in" },
	{ HEAD("1") SEGMENT("0", "0x17ffff000", "0x1000"), -EFAULT, 0, "placed in" },
	{ HEAD("1") SEGMENT("0", "0xfffffffffffff000", "0x2000"), -EFAULT, 0, "none" },
	{ HEAD("1") SEGMENT("0", "0x100000", "0x0"), -EFAULT, 0, "none" },
	/* an output cut short, or in another form */
	{ HEAD("2") SEGMENT("0", "0x100000", "0x1000"), -EFAULT, 0, "1 of 2" },
	{ SEGMENT("0", "0x100000", "0x1000"), -EFAULT, 0, "1 of 0" },
	{ HEAD("2"), -EFAULT, 0, "0 of 2" },
	{ "", -EFAULT, 0, "0 of 0" },
	{ HEAD("1") "segment[0].mem   = 0x100000\nsegment[0].memsz = 0x10 and more\n",
	  -EFAULT, 0, "0 of 1" },
};

static void test_prove(void **state)
{
	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(outputs); i++) {
		struct fb_err err = FB_ERR_INIT;
		unsigned int count = 0;
		int rc = fb_kexec_tools_prove(outputs[i].output, region, &count, &err);

		if (rc != outputs[i].rc || count != outputs[i].count ||
		    !strstr(err.text, outputs[i].words))
			fail_msg("output %zu: %d, %u segments: %s", i, rc, count,
				 err.text);
	}
}

/* ---- running it ---------------------------------------------------------- */

static const char *with_dtb;
static struct fb_kexec_ahead with_ahead = { .fd = -1 };

static int load(const char *says, int status, struct fb_range where, const char *initrd,
		unsigned int *segments, struct fb_err *err)
{
	const struct fb_sys sys = { root };
	const struct fb_kexec_request request = {
		.kernel = "/boot/k",
		.initrd = initrd,
		.command_line = "quiet \"a b\"",
		.dtb = with_dtb,
		.region = where,
		.method = FB_KEXEC_LOAD,
		.tools = "/sbin/kexec",
	};

	fake.says = says;
	fake.status = status << 8;
	return fb_kexec_tools_load(&sys, &request, &with_ahead, segments, err);
}

static void test_command(void **state)
{
	static const char good[] = HEAD("1") SEGMENT("0", "0x100000", "0x1000");
	unsigned int segments = 7;

	(void)state;
	assert_int_equal(load(good, 0, region, "/boot/i", &segments, NULL), 0);
	assert_int_equal(segments, 1);
	assert_string_equal(fake.command,
			    "/sbin/kexec -d -c -i -l --command-line=quiet \"a b\" "
			    "--initrd=/boot/i --mem-min=0x40070000 "
			    "--mem-max=0x7ffdffff -- /boot/k");
	assert_int_equal(load("", 0, (struct fb_range){ 0, 0 }, NULL, &segments, NULL),
			 0);
	assert_int_equal(segments, 0);
	assert_string_equal(fake.command, "/sbin/kexec -d -c -i -l "
					  "--command-line=quiet \"a b\" -- /boot/k");
	with_dtb = "/boot/d.dtb";
	assert_int_equal(load("", 0, (struct fb_range){ 0, 0 }, NULL, &segments, NULL),
			 0);
	with_dtb = NULL;
	assert_string_equal(fake.command,
			    "/sbin/kexec -d -c -i -l --command-line=quiet \"a b\" "
			    "--dtb=/boot/d.dtb -- /boot/k");
}

static void check_ahead_command(const char *end)
{
	static const char good[] = HEAD("1") SEGMENT("0", "0x100000", "0x1000");
	char expected[256];
	unsigned int segments;

	snprintf(expected, sizeof(expected),
		 "/sbin/kexec -d -c -i -l --command-line=quiet \"a b\" "
		 "--mem-min=0x40070000 --mem-max=%s -- /proc/%d/fd/5",
		 end, (int)getpid());
	assert_int_equal(load(good, 0, region, NULL, &segments, NULL), 0);
	assert_string_equal(fake.command, expected);
}

/* A kernel in memory in place of the file, in what it needs below 4 GiB. */
static void test_ahead(void **state)
{
	static const char good[] = HEAD("1") SEGMENT("0", "0x100000", "0x1000");
	unsigned int segments;

	(void)state;
	with_ahead = (struct fb_kexec_ahead){ .fd = 5, .bytes = 50 * FB_MIB };
	check_ahead_command("0x7ffdffff");
	/* Four steps of 2 MiB less. */
	with_ahead.random = 4;
	check_ahead_command("0x7f7dffff");

	/* Not so: then as the file. */
	with_ahead.fd = dup(STDOUT_FILENO);
	fake.fails = 1;
	fake.runs = 0;
	assert_int_equal(load(good, 0, region, NULL, &segments, NULL), 0);
	assert_int_equal(fake.runs, 2);
	assert_string_equal(fake.command,
			    "/sbin/kexec -d -c -i -l --command-line=quiet \"a b\" "
			    "--mem-min=0x40070000 --mem-max=0x7ffdffff -- /boot/k");
	assert_int_equal(with_ahead.fd, -1);
	assert_non_null(strstr(with_ahead.why, "could not be loaded"));
	/* A refusal by the kernel is one of the file, too. */
	with_ahead = (struct fb_kexec_ahead){ .fd = 5, .bytes = 50 * FB_MIB };
	fake.runs = 0;
	assert_int_equal(load("kexec_load failed: Operation not permitted\n", 255, region,
			      NULL, &segments, NULL),
			 -EPERM);
	assert_int_equal(fake.runs, 1);
	with_ahead = (struct fb_kexec_ahead){ .fd = -1 };
}

/* ---- the kernel decompressed before -------------------------------------------- */

static void put_bytes(const char *path, const void *bytes, size_t size)
{
	char full[256];
	FILE *file;

	snprintf(full, sizeof(full), "%s%s", root, path);
	file = fopen(full, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	fclose(file);
}

static void remove_file(const char *path)
{
	char full[256];

	snprintf(full, sizeof(full), "%s%s", root, path);
	remove(full);
}

#define CPU(flags) "processor\t: 0\nflags\t\t: fpu " flags " sse\nbugs\t\t: x\n"

static const struct {
	const char *cpuinfo, *command_line, *why;
	bool garbled, small;
} aheads[] = {
	{ CPU("pae"), "quiet", "", false, false },
	{ CPU("sev sev_es"), "quiet", "", false, false }, /* a host */
	{ CPU("hypervisor sevx xsev"), "nokaslr", "", false, false },
	{ CPU("hypervisor sev"), "quiet", "encrypted guest", false, false },
	{ CPU("hypervisor tdx_guest"), "quiet", "encrypted guest", false, false },
	{ NULL, "quiet", "encrypted guest", false, false },
	{ CPU("pae"), "quiet mem_encrypt=on", "mem_encrypt=on", false, false },
	{ CPU("pae"), "mem_encrypt=off", "", false, false },
	{ CPU("pae"), "quiet", "damaged", true, false },
	{ CPU("pae"), "quiet", "there is no region", false, true },
};

static void check_ahead(size_t i, const char *kernel)
{
	const struct fb_sys sys = { root };
	const struct fb_kexec_request request = {
		.kernel = kernel,
		.command_line = aheads[i].command_line,
		.region = aheads[i].small ? (struct fb_range){ 0, 0 } : region,
	};
	uint8_t file[HELP_FILE_MAX];
	size_t size = help_bzimage(file, 3);
	struct fb_kexec_ahead ahead;
	struct stat st;

	/* Without XLF_5LEVEL_ENABLED: the same whatever CPU runs the test. */
	fb_put_le16(file + 0x236, 0x3f);
	if (aheads[i].garbled)
		memset(file + size - 100, 0x55, 50);
	put_bytes("/kernel", file, size);
	if (aheads[i].cpuinfo)
		put("/proc/cpuinfo", aheads[i].cpuinfo);
	fb_kexec_ahead_make(&sys, &request, &ahead);
	remove_file("/proc/cpuinfo");
	remove_file("/kernel");
	if (*aheads[i].why) {
		if (ahead.fd >= 0 || !strstr(ahead.why, aheads[i].why))
			fail_msg("ahead %zu: %s", i, ahead.why);
		return;
	}
	if (ahead.fd < 0)
		fail_msg("ahead %zu: %s", i, ahead.why);
	assert_int_equal(fstat(ahead.fd, &st), 0);
	assert_int_equal(ahead.bytes, 0x200000 + HELP_MEMORY);
	assert_int_equal(st.st_size, HELP_SETUP + 0x200000 + HELP_DATA + 0x1000);
	assert_int_equal(ahead.random != 0, !strstr(request.command_line, "nokaslr"));
	fb_kexec_ahead_free(&ahead);
	assert_int_equal(ahead.fd, -1);
}

static void test_ahead_make(void **state)
{
	char kernel[128];

	(void)state;
	snprintf(kernel, sizeof(kernel), "%s/kernel", root);
	put("/proc/sys/kernel/arch", "x86_64\n");
	for (size_t i = 0; i < FB_ARRAY_SIZE(aheads); i++)
		check_ahead(i, kernel);
	put("/proc/sys/kernel/arch", "aarch64\n");
	fb_kexec_ahead_make(&(struct fb_sys){ root },
			    &(struct fb_kexec_request){ .region = region },
			    &with_ahead);
	assert_int_equal(with_ahead.fd, -1);
	assert_non_null(strstr(with_ahead.why, "arm64"));
	remove_file("/proc/sys/kernel/arch");
}

static const struct {
	struct fb_kexec_levels levels;
	uint16_t xloadflags;
	const char *command_line;
	bool fit;
} levels[] = {
	{ { false, false }, 0x7f, "quiet", true },
	{ { true, true }, 0x7f, "quiet", true },
	{ { true, true }, 0x7f, "quiet no5lvl", false },
	{ { true, true }, 0x3f, "quiet", false },
	{ { true, false }, 0x7f, "quiet", false },
	{ { true, false }, 0x7f, "no5lvl", true },
	{ { true, false }, 0x3f, "quiet", true },
};

static void test_levels(void **state)
{
	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(levels); i++)
		if (fb_kexec_levels_fit(&levels[i].levels, levels[i].xloadflags,
					levels[i].command_line) != levels[i].fit)
			fail_msg("levels %zu", i);
}

static const struct {
	const char *says;
	int rc;
	const char *words;
} complaints[] = {
	{ HEAD("1") SEGMENT("0", "0x1000", "0x1000") "kexec_load failed: Operation not "
						     "permitted\nentry = 0x1\n",
	  -EPERM, "not permitted" },
	{ "kexec_load failed: Function not implemented\n", -ENOSYS, "" },
	{ "kexec_load failed: Permission denied\n", -EACCES, "" },
	{ "kexec_load failed: Device or resource busy\n", -EBUSY, "" },
	{ "kexec_load failed: Cannot assign requested address\n", -EADDRNOTAVAIL, "" },
	{ "kexec_load failed: No such device\nentry = 1\n", -EIO,
	  "failed: kexec_load failed: No such device" },
	{ "Could not find a free area\nlocate_hole failed\n\n", -EIO,
	  "/sbin/kexec failed: locate_hole failed" },
	{ "", -EIO, "/sbin/kexec failed: " },
};

static void test_complaints(void **state)
{
	unsigned int segments = 7;

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(complaints); i++) {
		struct fb_err err = FB_ERR_INIT;
		int rc = load(complaints[i].says, 255, region, NULL, &segments, &err);

		if (rc != complaints[i].rc || !strstr(err.text, complaints[i].words) ||
		    strchr(err.text, '\n'))
			fail_msg("complaint %zu: %d: %s", i, rc, err.text);
		assert_int_equal(segments, 7);
	}
}

static void test_not_run(void **state)
{
	struct fb_err err = FB_ERR_INIT;
	unsigned int segments = 7;

	(void)state;
	fake.rc = -ENOENT;
	assert_int_equal(load("", 0, region, NULL, &segments, &err), -ENOENT);
	fake.rc = 0;
	/* No room outside of the region: it is not even run. */
	fake.runs = 0;
	assert_int_equal(
		load("", 0, (struct fb_range){ 0, 16 * FB_GIB }, NULL, &segments, &err),
		-ENOENT);
	assert_int_equal(fake.runs, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_window),	cmocka_unit_test(test_prove),
		cmocka_unit_test(test_command), cmocka_unit_test(test_complaints),
		cmocka_unit_test(test_not_run), cmocka_unit_test(test_shift),
		cmocka_unit_test(test_ahead),	cmocka_unit_test(test_levels),
		cmocka_unit_test(test_ahead_make),
	};
	char path[128], proc[64];
	int rc;

	if (!mkdtemp(root))
		return 1;
	snprintf(proc, sizeof(proc), "%s/proc", root);
	mkdir(proc, 0755);
	snprintf(path, sizeof(path), "%s/sys", proc);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/sys/kernel", proc);
	mkdir(path, 0755);
	put("/proc/iomem", iomem_text);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	remove_file("/proc/iomem");
	remove_file("/proc/sys/kernel");
	remove_file("/proc/sys");
	remove(proc);
	remove(root);
	return rc;
}
