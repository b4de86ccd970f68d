/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "cmd/load.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/util.h"
#include "cmd/tables.h"
#include "format/cmdline.h"
#include "format/dtb.h"
#include "machine/acpi.h"
#include "machine/fwmap.h"

/* The tree that this kernel was booted with (drivers/of/fdt.c, root only). */
#define RUNNING_TREE "/sys/firmware/fdt"

/* On the command line: see mark_tree(). */
#define TREE_BY_KEXEC_NAME "fastboot.tree"
#define TREE_BY_KEXEC	   TREE_BY_KEXEC_NAME "=kexec"

/* Files that options name are not below --sysroot. */
static const struct fb_sys file_system = { "" };

bool fb_load_option(struct fb_load_options *o, int answer)
{
	switch (answer) {
	case FB_LOAD_OPT_KERNEL:
		o->kernel = optarg;
		break;
	case FB_LOAD_OPT_INITRD:
		o->initrd = optarg;
		break;
	case FB_LOAD_OPT_COMMAND_LINE:
		o->command_line = optarg;
		break;
	case FB_LOAD_OPT_APPEND:
		o->append = optarg;
		break;
	case FB_LOAD_OPT_REUSE:
		o->reuse = true;
		break;
	case FB_LOAD_OPT_DTB:
		o->dtb = optarg;
		break;
	default:
		return false;
	}
	o->any = true;
	return true;
}

void fb_load_free(struct fb_load *load)
{
	free(load->kernel);
	free(load->initrd);
	free(load->command_line);
	free(load->dtb);
	memset(load, 0, sizeof(*load));
}

/* ---- which files --------------------------------------------------------- */

static int copy_string(const char *root, const char *text, char **out,
		       struct fb_err *err)
{
	*out = fb_asprintf("%s%s", root, text);
	return *out ? 0 : fb_err_sys(err, ENOMEM, "%s", text);
}

/* A kernel that the distribution installed, with its initrd where there is one. */
static int try_default(const struct fb_context *ctx, const char *kernel,
		       const char *initrd, struct fb_load *load, struct fb_err *err)
{
	int rc;

	if (load->kernel || !fb_sys_exists(&ctx->sys, kernel))
		return 0;
	rc = copy_string(ctx->sys.root, kernel, &load->kernel, err);
	if (!rc && !load->initrd && fb_sys_exists(&ctx->sys, initrd))
		rc = copy_string(ctx->sys.root, initrd, &load->initrd, err);
	return rc;
}

static int default_files(const struct fb_context *ctx, struct fb_load *load,
			 struct fb_err *err)
{
	fb_autofree char *kernel = NULL, *initrd = NULL;
	struct utsname uts;
	int rc;

	uname(&uts);
	kernel = fb_asprintf("/boot/vmlinuz-%s", uts.release);
	initrd = fb_asprintf("/boot/initrd.img-%s", uts.release);
	if (!kernel || !initrd)
		return fb_err_sys(err, ENOMEM, "/boot/vmlinuz");
	rc = try_default(ctx, "/vmlinuz", "/initrd.img", load, err);
	if (!rc)
		rc = try_default(ctx, kernel, initrd, load, err);
	if (!rc && !load->kernel)
		rc = fb_err_set(err, ENOENT,
				"which kernel? neither /vmlinuz nor %s is there: give "
				"--kernel and --initrd, or [kexec] kernel in "
				"/etc/fastboot.conf",
				kernel);
	return rc;
}

static int choose_files(const struct fb_context *ctx, const struct fb_load_options *o,
			struct fb_load *load, struct fb_err *err)
{
	const struct fb_config *c = &ctx->config;
	const char *kernel = o->kernel ? o->kernel : c->kernel;
	/* The configured initrd belongs to the configured kernel, or the default. */
	const char *initrd = o->initrd || o->kernel ? o->initrd : c->initrd;
	int rc = 0;

	if (initrd)
		rc = copy_string("", initrd, &load->initrd, err);
	if (!rc && kernel)
		return copy_string("", kernel, &load->kernel, err);
	return rc ? rc : default_files(ctx, load, err);
}

/* ---- which command line -------------------------------------------------- */

static int add_text(char **line, const char *text, struct fb_err *err)
{
	char *longer = NULL;
	int rc;

	if (!text)
		return 0;
	rc = fb_cmdline_append_missing(*line, text, &longer, err);
	if (rc)
		return rc;
	free(*line);
	*line = longer;
	return 0;
}

static int choose_command_line(const struct fb_context *ctx,
			       const struct fb_load_options *o, struct fb_load *load,
			       struct fb_err *err)
{
	fb_autofree char *running = NULL;
	int rc;

	if (o->command_line)
		return copy_string("", o->command_line, &load->command_line, err);
	rc = fb_sys_read(&ctx->sys, "/proc/cmdline", &running, NULL, err);
	if (!rc)
		rc = fb_cmdline_reuse(running, &load->command_line, err);
	if (!rc)
		rc = add_text(&load->command_line, ctx->config.append, err);
	if (!rc)
		rc = add_text(&load->command_line, o->append, err);
	return rc;
}

/* ---- is the region carried? ---------------------------------------------- */

static int read_dtb(const struct fb_sys *sys, const char *path, struct fb_dtb *dtb,
		    struct fb_err *err)
{
	fb_autofree char *blob = NULL;
	size_t size;
	int rc = fb_sys_read(sys, path, &blob, &size, err);

	if (rc)
		return rc;
	rc = fb_dtb_parse(blob, size, dtb, err);
	return rc ? fb_err_prefix(err, "%s", path) : 0;
}

/* The tree has the node, and keeps RAM away from it or mem= does. */
static int prove_dtb(const struct fb_sys *sys, const char *path,
		     const struct fb_load *load, struct fb_err *err)
{
	struct fb_cmdline_arg mem;
	struct fb_dtb dtb;
	int rc = read_dtb(sys, path, &dtb, err);

	if (rc)
		return rc;
	rc = fb_dtb_carries(&dtb, load->region,
			    fb_cmdline_last(load->command_line, "mem", &mem), err);
	fb_dtb_free(&dtb);
	return rc ? fb_err_prefix(err, "%s", path) : 0;
}

static int carry_dtb(struct fb_load *load, struct fb_err *err)
{
	load->carry = FB_CARRY_DEVICE_TREE;
	return prove_dtb(&file_system, load->dtb, load, err);
}

/*
 * Both calls pass on the tree that this kernel was booted with. A node that an
 * overlay brought later is in /proc/device-tree, but not in that one. Where the
 * kernel does not show it kexec-tools takes /proc/device-tree.
 */
static int prove_running_tree(const struct fb_context *ctx, const struct fb_load *load,
			      struct fb_err *err)
{
	if (!fb_sys_exists(&ctx->sys, RUNNING_TREE))
		return 0;
	return prove_dtb(&ctx->sys, RUNNING_TREE, load, err);
}

/*
 * A device tree's region may need mem= as well, which only the command line
 * can carry (arm64 without linux,usable-memory).
 */
static int prove_mem(const struct fb_context *ctx, const struct fb_load *load,
		     struct fb_err *err)
{
	fb_autofree char *running = NULL;
	struct fb_cmdline_arg now, next;
	int rc = fb_sys_read(&ctx->sys, "/proc/cmdline", &running, NULL, err);

	if (rc)
		return rc;
	if (fb_cmdline_last(running, "mem", &now) &&
	    (!fb_cmdline_last(load->command_line, "mem", &next) ||
	     next.length != now.length || memcmp(next.text, now.text, now.length)))
		return fb_err_set(err, ENOENT,
				  "the command line does not keep the region free: add "
				  "%.*s",
				  (int)now.length, now.text);
	return 0;
}

static int carry_device_tree(const struct fb_context *ctx, struct fb_load *load,
			     struct fb_err *err)
{
	int rc = prove_mem(ctx, load, err);

	load->carry = FB_CARRY_DEVICE_TREE;
	return rc ? rc : prove_running_tree(ctx, load, err);
}

/* ACPI tables: those that the initrd begins with, or what must go in front of it. */
static int choose_tables(const struct fb_context *ctx, struct fb_range region,
			 struct fb_load *load, struct fb_err *err)
{
	char text[FB_RANGE_TEXT_MAX], there[FB_RANGE_TEXT_MAX];
	struct fb_acpi_found found;
	int rc = fb_tables_find(load->initrd, &found, err);

	if (rc)
		return rc;
	if (!found.any && !found.foreign) {
		load->carry = FB_CARRY_TABLES_ADDED;
		return fb_tables_make(ctx, region, &load->tables, err);
	}
	load->carry = FB_CARRY_TABLES;
	if (!found.foreign && found.ssdt && fb_range_equal(found.tables.region, region))
		return 0;
	return fb_err_set(err, EEXIST,
			  "%s begins with ACPI tables %s, not for the region %s: give "
			  "one without, and the right ones are put in front of it",
			  load->initrd,
			  found.foreign ? "of another maker (NFIT)"
					: fb_range_text(found.tables.region, there),
			  fb_range_text(region, text));
}

static int carry_tables(const struct fb_context *ctx, struct fb_load *load,
			struct fb_err *err)
{
	fb_autofree char *running = NULL;
	int rc = prove_mem(ctx, load, err);

	if (!rc)
		rc = fb_sys_read(&ctx->sys, "/proc/cmdline", &running, NULL, err);
	if (!rc)
		rc = fb_tables_prove_taken(running, load->command_line, err);
	return rc ? rc : choose_tables(ctx, load->region, load, err);
}

static int carry_memmap(const struct fb_load_options *o, struct fb_range region,
			struct fb_load *load, struct fb_err *err)
{
	char text[FB_MEMMAP_TEXT_MAX];
	int rc = fb_cmdline_carries(load->command_line, region, err);

	load->carry = FB_CARRY_COMMAND_LINE;
	if (rc == -ENOENT && !o->command_line) {
		load->carry = FB_CARRY_ADDED;
		rc = add_text(&load->command_line, fb_memmap_text(region, text), err);
		if (!rc)
			rc = fb_cmdline_carries(load->command_line, region, err);
	}
	if (!rc)
		rc = fb_cmdline_kaslr_avoids(load->command_line, region, err);
	return rc;
}

/* Its map of memory on x86, its NFIT on either. */
static int firmware_has(const struct fb_context *ctx, struct fb_range region, bool *has,
			struct fb_err *err)
{
	int rc = fb_fwmap_persistent(&ctx->sys, region, has, err);

	return rc || *has ? rc : fb_acpi_firmware_has(&ctx->sys, region, has, err);
}

static int carry(const struct fb_context *ctx, const struct fb_load_options *o,
		 const struct fb_region *region, struct fb_load *load,
		 struct fb_err *err)
{
	bool persistent = false;
	int rc;

	load->region = region->range;
	if (load->dtb)
		return carry_dtb(load, err);
	if (region->origin == FB_ORIGIN_DEVICE_TREE)
		return carry_device_tree(ctx, load, err);
	if (region->origin == FB_ORIGIN_TABLES)
		return carry_tables(ctx, load, err);
	rc = firmware_has(ctx, region->range, &persistent, err);
	if (rc)
		return rc;
	if (!persistent)
		return carry_memmap(o, region->range, load, err);
	load->carry = FB_CARRY_FIRMWARE;
	return 0;
}

/*
 * The boot loader may know nothing of this tree. Every later kexec reuses the
 * command line, so the word is there until a boot through firmware. Kernels take
 * it for a parameter of a module that is never loaded.
 */
static int mark_tree(const struct fb_load_options *o, struct fb_load *load,
		     struct fb_err *err)
{
	return o->command_line ? 0 : add_text(&load->command_line, TREE_BY_KEXEC, err);
}

static bool tree_by_kexec(const char *running)
{
	struct fb_cmdline_arg arg;

	return fb_cmdline_last(running, TREE_BY_KEXEC_NAME, &arg);
}

static int carve_by_dtb(const struct fb_load_options *o, struct fb_load *load,
			struct fb_err *err)
{
	struct fb_dtb dtb;
	int rc = read_dtb(&file_system, load->dtb, &dtb, err);

	if (rc)
		return rc;
	if (dtb.region_count)
		load->region = dtb.regions[0].range;
	fb_dtb_free(&dtb);
	/* A region in what the next kernel takes as RAM would be none. */
	rc = load->region.size ? carry_dtb(load, err) : 0;
	load->carry = FB_CARRY_NONE;
	return rc || !load->region.size ? rc : mark_tree(o, load, err);
}

/* Those of the initrd, or those of this boot, where firmware was in their way. */
static int carve_by_tables(const struct fb_context *ctx, struct fb_load *load,
			   struct fb_err *err)
{
	struct fb_acpi_found found;
	struct fb_acpi acpi;
	int rc = fb_tables_find(load->initrd, &found, err);

	if (!rc)
		rc = fb_acpi_read(&ctx->sys, &acpi, err);
	if (rc)
		return rc;
	load->region = found.tables.region.size ? found.tables.region : acpi.region;
	if (!load->region.size)
		return 0;
	rc = fb_tables_prove_new(ctx, load->command_line, load->region, err);
	return rc ? rc : choose_tables(ctx, load->region, load, err);
}

/* No region yet: keep the next kernel out of the one that it will make. */
static int carve_new(const struct fb_context *ctx, const struct fb_load_options *o,
		     struct fb_load *load, struct fb_err *err)
{
	fb_autofree struct fb_memmap *list = NULL;
	size_t count;
	int rc = fb_memmap_parse(load->command_line, &list, &count, err);

	load->carry = FB_CARRY_NONE;
	if (!rc && load->dtb)
		return carve_by_dtb(o, load, err);
	for (size_t i = 0; !rc && i < count; i++)
		if (list[i].kind == FB_MEMMAP_PERSISTENT &&
		    fb_range_valid(list[i].range))
			load->region = list[i].range;
	if (!rc && fb_tables_machine(ctx)) {
		rc = carve_by_tables(ctx, load, err);
		load->carry = FB_CARRY_NONE;
	}
	return rc;
}

static struct fb_kexec_request request_of(const struct fb_load *load)
{
	struct fb_kexec_request request = {
		.kernel = load->kernel,
		.initrd = load->initrd,
		.command_line = load->command_line,
		.dtb = load->dtb,
		.region = load->region,
		.method = load->choice.method,
		.tools = load->facts.tools,
	};

	return request;
}

static int choose_method(const struct fb_context *ctx, struct fb_load *load,
			 struct fb_err *err)
{
	int rc;

	load->wanted = ctx->config.method;
	if (load->dtb && load->wanted == FB_KEXEC_FILE_LOAD)
		return fb_usage(err, "kexec_file_load passes the running device tree "
				     "on: --dtb does not go with [kexec] method = "
				     "kexec_file_load");
	if (load->dtb)
		load->wanted = FB_KEXEC_LOAD;
	fb_kexec_facts_read(&ctx->sys, &load->facts);
	rc = fb_kexec_choose(&load->facts, load->wanted, &load->choice, err);
	if (!rc && load->dtb)
		snprintf(load->choice.why, sizeof(load->choice.why),
			 "kexec_file_load takes no device tree");
	return rc;
}

static int prepare(const struct fb_context *ctx, const struct fb_load_options *o,
		   const struct fb_region *region, struct fb_load *load,
		   struct fb_err *err)
{
	struct fb_kexec_request request;
	int rc = choose_files(ctx, o, load, err);

	if (!rc && o->dtb)
		rc = copy_string("", o->dtb, &load->dtb, err);
	if (!rc)
		rc = choose_method(ctx, load, err);
	if (!rc)
		rc = choose_command_line(ctx, o, load, err);
	if (!rc)
		rc = region ? carry(ctx, o, region, load, err)
			    : carve_new(ctx, o, load, err);
	if (rc)
		return rc;
	request = request_of(load);
	return fb_kexec_files_check(&request, err);
}

int fb_load_prepare(const struct fb_context *ctx, const struct fb_load_options *o,
		    const struct fb_region *region, struct fb_load *load,
		    struct fb_err *err)
{
	struct fb_load l = { .carry = FB_CARRY_NONE };
	int rc;

	if (o->command_line && (o->append || o->reuse))
		return fb_usage(err,
				"--command-line is the whole text: it does not go with "
				"--append or --reuse-cmdline");
	rc = prepare(ctx, o, region, &l, err);
	if (rc) {
		fb_load_free(&l);
		return rc;
	}
	*load = l;
	return 0;
}

static int prove_firmware_tree(const struct fb_context *ctx, struct fb_err *err)
{
	fb_autofree char *running = NULL;
	int rc = fb_sys_read(&ctx->sys, "/proc/cmdline", &running, NULL, err);

	if (rc || !tree_by_kexec(running))
		return rc;
	return fb_err_set(err, ENOENT,
			  "the device tree with the region came by `load --dtb`, not "
			  "from the boot loader: give it the overlay and boot by it "
			  "once, without a state in the region; or reboot by kexec");
}

int fb_load_prove_firmware(const struct fb_context *ctx, const struct fb_region *region,
			   enum fb_carry *how, struct fb_err *err)
{
	fb_autofree char *running = NULL;
	bool persistent = false;
	int rc;

	if (region->origin == FB_ORIGIN_DEVICE_TREE) {
		*how = FB_CARRY_DEVICE_TREE;
		return prove_firmware_tree(ctx, err);
	}
	if (region->origin == FB_ORIGIN_TABLES)
		return fb_err_exit(
			err, FB_EXIT_IMPOSSIBLE, ENOTSUP,
			"the region comes from ACPI tables in front of the initrd: "
			"firmware and boot loader do not know of it and use its RAM, "
			"so what is in it does not survive; reboot by kexec");
	rc = firmware_has(ctx, region->range, &persistent, err);
	if (!rc && !persistent)
		rc = fb_sys_read(&ctx->sys, "/proc/cmdline", &running, NULL, err);
	if (!rc && !persistent)
		rc = fb_cmdline_carries(running, region->range, err);
	if (!rc)
		*how = persistent ? FB_CARRY_FIRMWARE : FB_CARRY_COMMAND_LINE;
	return rc;
}

/* With `initrd` in place of the one that load->initrd names. */
static int perform(const struct fb_context *ctx, struct fb_load *load,
		   const char *initrd, struct fb_kexec_loaded *loaded,
		   struct fb_err *err)
{
	struct fb_kexec_request request = request_of(load);
	int rc;

	request.initrd = initrd;
	rc = fb_kexec_load(&ctx->sys, &request, loaded, err);
	if (load->wanted != FB_KEXEC_AUTO ||
	    !fb_kexec_facts_learn(&load->facts, request.method, rc))
		return rc;
	rc = fb_kexec_choose(&load->facts, load->wanted, &load->choice, err);
	if (rc)
		return rc;
	fb_say(ctx, "not by %s: %s", fb_kexec_method_text(request.method),
	       load->choice.why);
	request = request_of(load);
	request.initrd = initrd;
	return fb_kexec_load(&ctx->sys, &request, loaded, err);
}

int fb_load_perform(const struct fb_context *ctx, struct fb_load *load,
		    struct fb_kexec_loaded *loaded, struct fb_err *err)
{
	fb_autoclose int joined = -1;
	char path[64]; /* for kexec-tools, which does not inherit it */
	int rc;

	if (!load->tables.region.size)
		return perform(ctx, load, load->initrd, loaded, err);
	rc = fb_tables_join(load->initrd, &load->tables, &joined, err);
	if (rc)
		return rc;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), joined);
	return perform(ctx, load, path, loaded, err);
}

/* ---- words --------------------------------------------------------------- */

const char *fb_carry_text(enum fb_carry carry)
{
	switch (carry) {
	case FB_CARRY_NONE:
		break;
	case FB_CARRY_COMMAND_LINE:
		return "memmap= on its command line";
	case FB_CARRY_ADDED:
		return "memmap=, which was added to its command line";
	case FB_CARRY_FIRMWARE:
		return "the firmware's memory map";
	case FB_CARRY_DEVICE_TREE:
		return "the device tree";
	case FB_CARRY_TABLES:
		return "the ACPI tables that its initrd begins with";
	case FB_CARRY_TABLES_ADDED:
		return "ACPI tables, which are put in front of its initrd";
	}
	return "nothing: there is no region";
}

const char *fb_proof_text(enum fb_kexec_proof proof)
{
	switch (proof) {
	case FB_KEXEC_PROOF_NONE:
		break;
	case FB_KEXEC_PROOF_SEGMENTS:
		return "none of its segments is in the region: the kernel printed them";
	case FB_KEXEC_PROOF_IOMEM:
		return "none of its segments can be in the region: it is not System "
		       "RAM "
		       "that kexec uses";
	case FB_KEXEC_PROOF_TOOLS:
		return "none of its segments is in the region: kexec-tools printed "
		       "them";
	}
	return "there is no region to keep out of";
}

void fb_load_say_loaded(const struct fb_context *ctx, const struct fb_kexec_loaded *loaded)
{
	if (loaded->ahead)
		fb_say(ctx, "decompressed  ahead: the next kernel need not do it itself");
	else if (loaded->ahead_why[0])
		fb_say(ctx, "decompressed  by the next kernel itself: %s",
		       loaded->ahead_why);
	fb_say(ctx, "loaded        %s", fb_proof_text(loaded->proof));
}

void fb_load_say(const struct fb_context *ctx, const struct fb_load *load)
{
	char range[FB_RANGE_TEXT_MAX];

	fb_say(ctx, "kernel        %s", load->kernel);
	fb_say(ctx, "initrd        %s", load->initrd ? load->initrd : "none");
	fb_say(ctx, "command line  %s", load->command_line);
	if (load->dtb)
		fb_say(ctx, "device tree   %s", load->dtb);
	fb_say(ctx, "method        %s: %s", fb_kexec_method_text(load->choice.method),
	       load->choice.why);
	if (load->carry != FB_CARRY_NONE)
		fb_say(ctx, "region        %s, carried by %s",
		       fb_range_text(load->region, range), fb_carry_text(load->carry));
	else if (load->region.size)
		fb_say(ctx, "region        %s, new",
		       fb_range_text(load->region, range));
	else
		fb_say(ctx, "region        none");
}
