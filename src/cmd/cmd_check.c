/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * check - can this machine and kernel do it? One line a requirement:
 *
 *	ok          as it should be
 *	note        works without, but worse
 *	missing     must be fixed, and can be: the fix is in the line; exit 1
 *	impossible  not on this kernel or machine; exit 5
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "cmd/tables.h"
#include "engine/hotplug.h"
#include "engine/region.h"
#include "format/cmdline.h"
#include "machine/arch.h"
#include "machine/kconfig.h"
#include "machine/kexec.h"
#include "machine/kexec_method.h"
#include "machine/kpage.h"
#include "machine/modules.h"

enum level { OK, NOTE, MISSING, IMPOSSIBLE };

struct item {
	enum level level;
	char name[32];
	char text[FB_ERR_TEXT_MAX]; /* what is there, or is not */
	char fix[256];		    /* "" where nothing is to be done */
};

struct checker {
	const struct fb_context *ctx;
	struct item *items;
	size_t count, capacity;
	char machine[FB_ARCH_MAX];
	char *kconfig; /* NULL: unknown */
	bool have_region;
	struct fb_region region;
	uint64_t block_size; /* 0: no memory hotplug */
};

/* ---- results --------------------------------------------------------- */

static void add(struct checker *c, enum level level, const char *name, const char *fix,
		const char *fmt, ...) __attribute__((format(printf, 5, 6)));

static void add(struct checker *c, enum level level, const char *name, const char *fix,
		const char *fmt, ...)
{
	struct item *item;
	va_list ap;

	if (fb_array_grow(&c->items, &c->capacity, c->count + 1, sizeof(*item)))
		return;
	item = &c->items[c->count++];
	item->level = level;
	snprintf(item->name, sizeof(item->name), "%s", name);
	snprintf(item->fix, sizeof(item->fix), "%s", level == OK ? "" : fix);
	va_start(ap, fmt);
	vsnprintf(item->text, sizeof(item->text), fmt, ap);
	va_end(ap);
}

static bool arm64(const struct checker *c)
{
	return !strcmp(c->machine, "aarch64");
}

/* ---- the kernel ------------------------------------------------------ */

static void check_architecture(struct checker *c)
{
	fb_arch_read(&c->ctx->sys, c->machine);
	add(c, arm64(c) || !strcmp(c->machine, "x86_64") ? OK : IMPOSSIBLE,
	    "architecture", "use an x86-64 or arm64 machine", "%s", c->machine);
}

static void check_root(struct checker *c)
{
	if (!fb_sys_live(&c->ctx->sys))
		return;
	add(c, geteuid() ? MISSING : OK, "root", "run it with sudo", "%s",
	    geteuid() ? "not root: addresses and page flags cannot be read" : "yes");
}

static void check_version(struct checker *c)
{
	unsigned int major = 0, minor = 0;
	char release[128] = "";

	fb_sys_attr_read(&c->ctx->sys, "/proc/sys/kernel/osrelease", release,
			 sizeof(release), NULL);
	if (sscanf(release, "%u.%u", &major, &minor) != 2)
		add(c, NOTE, "kernel", "", "version unknown");
	else if (major > 5 || (major == 5 && minor >= 3))
		add(c, OK, "kernel", "", "%s", release);
	else
		add(c, IMPOSSIBLE, "kernel", "use Linux 5.3 or later",
		    "%s cannot hot-remove device-dax memory", release);
}

static void check_hotplug(struct checker *c)
{
	char size[FB_SIZE_TEXT_MAX];
	struct fb_err why = FB_ERR_INIT;

	if (fb_memblk_size(&c->ctx->sys, &c->block_size, &why))
		add(c, IMPOSSIBLE, "memory hotplug",
		    "use a kernel with CONFIG_MEMORY_HOTPLUG", "%s", why.text);
	else
		add(c, OK, "memory hotplug", "", "memory blocks of %s",
		    fb_size_text(c->block_size, size));
}

/* How the machine is told of a region, and where options count. */
enum machine_kind { ANY, BY_MEMMAP, BY_TREE, BY_TABLES };

struct option {
	const char *name;
	enum level without; /* what it is if the option is not set */
	const char *why;
	enum machine_kind kind;
};

static const struct option options[] = {
	{ "MEMORY_HOTREMOVE", IMPOSSIBLE, "hot-remove", ANY },
	{ "NVDIMM_DAX", IMPOSSIBLE, "devdax namespaces", ANY },
	{ "DEV_DAX_PMEM", IMPOSSIBLE, "devdax namespaces", ANY },
	{ "DEV_DAX_KMEM", IMPOSSIBLE, "hot-add", ANY },
	{ "X86_PMEM_LEGACY", IMPOSSIBLE, "memmap= regions", BY_MEMMAP },
	{ "OF_PMEM", IMPOSSIBLE, "regions in the device tree", BY_TREE },
	{ "ACPI_TABLE_UPGRADE", IMPOSSIBLE, "regions by ACPI tables", BY_TABLES },
	{ "ACPI_NFIT", IMPOSSIBLE, "regions by ACPI tables", BY_TABLES },
	{ "EROFS_FS", NOTE, "mounting an image", ANY },
	{ "FS_DAX", NOTE, "mounting an image with -o dax", ANY },
	{ "FANOTIFY_ACCESS_PERMISSIONS", NOTE, "restore --mode lazy", ANY },
	{ "OVERLAY_FS", NOTE, "restore --mode inplace", ANY },
	{ "TRANSPARENT_HUGEPAGE", NOTE, "huge pages in the ramdisk", ANY },
	{ "PROC_PAGE_MONITOR", NOTE, "taking the emptiest blocks first", ANY },
};

static enum machine_kind kind_of(const struct checker *c)
{
	if (fb_tables_machine(c->ctx))
		return BY_TABLES;
	return arm64(c) ? BY_TREE : BY_MEMMAP;
}

static void check_options(struct checker *c)
{
	enum machine_kind kind = kind_of(c);
	struct fb_err why = FB_ERR_INIT;

	if (fb_kconfig_read(&c->ctx->sys, &c->kconfig, &why)) {
		add(c, NOTE, "configuration", "install /boot/config-RELEASE",
		    "not found, so not checked: %s", why.text);
		return;
	}
	for (size_t i = 0; i < FB_ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];
		char name[48], fix[96];

		if (o->kind != ANY && o->kind != kind)
			continue;
		snprintf(name, sizeof(name), "CONFIG_%s", o->name);
		snprintf(fix, sizeof(fix), "use a kernel with %s", name);
		if (fb_kconfig_value(c->kconfig, o->name) == 'n')
			add(c, o->without, o->name, fix, "not set; needed for %s",
			    o->why);
		else
			add(c, OK, o->name, "", "%s",
			    fb_kconfig_value(c->kconfig, o->name) == 'y' ? "built in"
									 : "module");
	}
}

static void check_modules(struct checker *c)
{
	struct fb_module modules[FB_MODULES_MAX];
	size_t count;
	char fix[96];

	fb_modules_read(&c->ctx->sys, modules, &count);
	for (size_t i = 0; i < count; i++) {
		snprintf(fix, sizeof(fix), "install the module or set %s",
			 modules[i].config);
		switch (modules[i].state) {
		case FB_MODULE_PRESENT:
			add(c, OK, modules[i].name, "", "loaded or built in");
			break;
		case FB_MODULE_AVAILABLE:
			add(c, OK, modules[i].name, "", "a module, loaded when needed");
			break;
		case FB_MODULE_MISSING:
			add(c, IMPOSSIBLE, modules[i].name, fix,
			    "neither loaded nor in /lib/modules");
			break;
		}
	}
}

/* Documentation/admin-guide/mm/transhuge.rst: the one in brackets is chosen. */
static void check_huge(struct checker *c)
{
	static const char path[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
	char text[128];

	if (fb_sys_attr_read(&c->ctx->sys, path, text, sizeof(text), NULL))
		return;
	if (strstr(text, "[deny]"))
		add(c, NOTE, "huge pages", "echo never >/sys/kernel/mm/"
					   "transparent_hugepage/shmem_enabled",
		    "denied for every tmpfs: a ramdisk is slower to fill and to take "
		    "offline");
	else
		add(c, OK, "huge pages", "", "possible in a tmpfs");
}

static void check_kpageflags(struct checker *c)
{
	if (fb_kpage_available(&c->ctx->sys))
		add(c, OK, "/proc/kpageflags", "", "yes");
	else
		add(c, NOTE, "/proc/kpageflags",
		    "use a kernel with CONFIG_PROC_PAGE_MONITOR",
		    "missing: blocks go offline in the order of addresses, which moves "
		    "pages twice");
}

/* ---- the region ------------------------------------------------------ */

static void check_region(struct checker *c)
{
	const struct fb_config *config = &c->ctx->config;
	struct fb_err why = FB_ERR_INIT;
	struct fb_regions regions;
	char size[FB_SIZE_TEXT_MAX], range[FB_RANGE_TEXT_MAX];
	int rc;

	if (fb_region_list(&c->ctx->sys, &regions, &why)) {
		add(c, MISSING, "region", "run it as root", "%s", why.text);
		return;
	}
	rc = fb_region_choose(&regions, config->region_set ? &config->region : NULL,
			      &c->region, &why);
	c->have_region = !rc;
	if (c->have_region)
		add(c, OK, "region", "", "%s, %s, from %s, mode %s",
		    fb_size_text(c->region.range.size, size),
		    fb_range_text(c->region.range, range),
		    fb_region_origin_text(c->region.origin),
		    fb_namespace_mode_text(c->region.mode));
	else
		add(c, MISSING, "region",
		    /* Otherwise the text says it. */
		    rc == -ENOTUNIQ || rc == -ENOENT
			    ? "set [region] in /etc/fastboot.conf"
			    : "",
		    "%s", why.text);
	if (c->have_region && regions.lost[0])
		add(c, MISSING, "memmap", "correct the kernel's command line", "%s",
		    regions.lost);
	fb_regions_free(&regions);
}

static void check_placement(struct checker *c)
{
	char lost[FB_SIZE_TEXT_MAX], gained[FB_SIZE_TEXT_MAX];
	uint64_t bytes;

	if (!c->have_region || !c->block_size)
		return;
	bytes = fb_hotadd_lost(&c->region, c->block_size);
	fb_size_text(fb_hotadd_range(&c->region, c->block_size).size, gained);
	if (bytes >= c->region.range.size)
		add(c, MISSING, "placement", "fastboot plan --size 2G",
		    "no whole memory block fits into the region");
	/* The few MiB that devdax itself needs are lost anywhere. */
	else if (bytes >= c->block_size / 2)
		add(c, NOTE, "placement", "fastboot plan chooses a better address",
		    "hot-add gains %s; %s are lost to alignment", gained,
		    fb_size_text(bytes, lost));
	else
		add(c, OK, "placement", "", "hot-add gains %s", gained);
}

/* What a new region would need, and what the one that is there had. */
static void check_tables(struct checker *c)
{
	struct fb_kexec_status status = { .lockdown = "" };
	struct fb_err why = FB_ERR_INIT;
	int rc;

	if (!fb_tables_machine(c->ctx) ||
	    (c->have_region && c->region.origin != FB_ORIGIN_TABLES))
		return;
	rc = fb_tables_possible(c->ctx, &why);
	if (rc)
		add(c, why.status == FB_EXIT_IMPOSSIBLE ? IMPOSSIBLE : MISSING,
		    "ACPI tables", "", "%s", why.text);
	else if (!c->have_region && !fb_kexec_status(&c->ctx->sys, &status, NULL) &&
		 status.lockdown[0] && strcmp(status.lockdown, "none"))
		add(c, NOTE, "ACPI tables",
		    "without lockdown or secure boot it does not",
		    "the kernel is locked down (%s) and may refuse those of a region",
		    status.lockdown);
	else
		add(c, OK, "ACPI tables", "",
		    "of a region, in front of the initrd: the kernel takes them");
}

/* The next kernel must see the same region: x86 by its command line. */
static void check_carry(struct checker *c)
{
	fb_autofree char *cmdline = NULL;
	struct fb_err why = FB_ERR_INIT;

	if (c->have_region && c->region.origin == FB_ORIGIN_DEVICE_TREE)
		add(c, OK, "carry-over", "",
		    "the node in the running device tree, which kexec passes on");
	if (c->have_region && c->region.origin == FB_ORIGIN_TABLES)
		add(c, OK, "carry-over", "",
		    "mem= of the running command line and the ACPI tables, which "
		    "`load` passes on; by kexec only, never through firmware");
	if (!c->have_region || c->region.origin != FB_ORIGIN_MEMMAP)
		return;
	if (fb_sys_read(&c->ctx->sys, "/proc/cmdline", &cmdline, NULL, &why) ||
	    fb_cmdline_carries(cmdline, c->region.range, &why))
		add(c, MISSING, "carry-over", "put it on the kernel's command line",
		    "%s", why.text);
	else
		add(c, OK, "carry-over", "",
		    "memmap= of the running command line, which `load` passes on");
	if (cmdline && fb_cmdline_kaslr_avoids(cmdline, c->region.range, &why))
		add(c, MISSING, "KASLR", "at most 4 memmap= ranges, or nokaslr", "%s",
		    why.text);
	else
		add(c, OK, "KASLR", "", "keeps out of the region");
}

static const char *fix_of_node(const struct checker *c)
{
	if (c->region.origin == FB_ORIGIN_DEVICE_TREE)
		return "numa-node-id = <0> in the pmem-region node";
	if (c->region.origin == FB_ORIGIN_MEMMAP)
		return "a region that does not end where RAM ends: `fastboot plan "
		       "--size ... --at` a lower address";
	return "tables of `fastboot plan --acpi-tables`, with an SRAT";
}

static void check_use(struct checker *c)
{
	if (!c->have_region)
		return;
	if (c->region.mode == FB_NS_FSDAX || c->region.mode == FB_NS_SECTOR)
		add(c, MISSING, "namespace",
		    "save what is in it; ndctl create-namespace --mode raw -f -e ...",
		    "%s is in mode %s", c->region.ns,
		    fb_namespace_mode_text(c->region.mode));
	if (c->region.hotadded.size && strcmp(c->region.dax_driver, "kmem"))
		add(c, MISSING, "namespace", "reboot",
		    "the kernel keeps the region until the next reboot: kmem was "
		    "unbound while blocks were online");
	/* Only a device tree tells it before the drivers are there. */
	if (c->region.node < 0 &&
	    (c->region.nd_region[0] || c->region.origin == FB_ORIGIN_DEVICE_TREE))
		add(c, MISSING, "NUMA node", fix_of_node(c),
		    "the region has none, so kmem refuses it");
}

/* ---- kexec ----------------------------------------------------------- */

/* Which of its calls the kernel would be given, and why. */
static void check_method(struct checker *c, const struct fb_kexec_facts *facts)
{
	struct fb_err why = FB_ERR_INIT;
	struct fb_kexec_choice choice;

	if (fb_kexec_choose(facts, c->ctx->config.method, &choice, &why))
		add(c, why.status == FB_EXIT_IMPOSSIBLE ? IMPOSSIBLE : MISSING,
		    "kexec method", "", "%s", why.text);
	else
		add(c, OK, "kexec method", "", "%s: %s",
		    fb_kexec_method_text(choice.method), choice.why);
}

static void check_signature(struct checker *c, const struct fb_kexec_facts *facts)
{
	if (facts->signature[0])
		add(c, NOTE, "signature", "load only a signed kernel",
		    "%s: the next kernel must be signed", facts->signature);
	else if (facts->doubt[0])
		add(c, OK, "signature", "", "perhaps required: %s", facts->doubt);
	else
		add(c, OK, "signature", "", "not required");
}

static void check_kexec(struct checker *c)
{
	struct fb_kexec_status k;
	struct fb_kexec_facts facts;
	struct fb_err why = FB_ERR_INIT;

	if (fb_kexec_status(&c->ctx->sys, &k, &why)) {
		add(c, MISSING, "kexec", "", "%s", why.text);
		return;
	}
	if (!k.supported)
		add(c, IMPOSSIBLE, "kexec", "use a kernel with CONFIG_KEXEC_FILE",
		    "this kernel has no kexec");
	else if (k.disabled)
		add(c, MISSING, "kexec",
		    "remove kernel.kexec_load_disabled=1 from sysctl.d and reboot",
		    "disabled until the next boot");
	else
		add(c, OK, "kexec", "", "allowed");
	fb_kexec_facts_read(&c->ctx->sys, &facts);
	if (k.supported)
		check_method(c, &facts);
	check_signature(c, &facts);
}

/* ---- the states ------------------------------------------------------ */

/* Bytes in use on a mount point's file system; 0 for any other directory. */
static uint64_t used_on_mount(const char *path, const struct stat *st)
{
	fb_autofree char *above = fb_asprintf("%s/..", path);
	struct statvfs fs;
	struct stat up;

	if (!above || stat(above, &up) || up.st_dev == st->st_dev || statvfs(path, &fs))
		return 0;
	return (uint64_t)(fs.f_blocks - fs.f_bfree) * fs.f_frsize;
}

static void check_states(struct checker *c)
{
	const struct fb_config *config = &c->ctx->config;
	char a[FB_SIZE_TEXT_MAX], b[FB_SIZE_TEXT_MAX];
	uint64_t used = 0;

	if (!fb_sys_live(&c->ctx->sys))
		return;
	if (!config->state_count)
		add(c, NOTE, "state", "add [state NAME] path = to /etc/fastboot.conf",
		    "no directory is configured: name them to `save`");
	for (size_t i = 0; i < config->state_count; i++) {
		const struct fb_config_state *s = &config->states[i];
		struct stat st;

		if (stat(s->path, &st) || !S_ISDIR(st.st_mode)) {
			add(c, MISSING, "state", "create it, or correct fastboot.conf",
			    "[state %s] %s is no directory", s->name, s->path);
			continue;
		}
		used += used_on_mount(s->path, &st);
		add(c, OK, "state", "", "[state %s] %s", s->name, s->path);
	}
	if (c->have_region && used > c->region.range.size)
		add(c, MISSING, "state size", "make the region larger: fastboot plan",
		    "%s in the states, %s in the region",
		    fb_size_text(fb_align_up(used, FB_MIB), a),
		    fb_size_text(c->region.range.size, b));
}

/* ---- printing -------------------------------------------------------- */

static const char *level_text(enum level level)
{
	static const char *const texts[] = { "ok", "note", "missing", "impossible" };

	return texts[level];
}

static void print_text(const struct checker *c)
{
	for (size_t i = 0; i < c->count; i++) {
		const struct item *item = &c->items[i];

		fb_say(c->ctx, "%-10s  %-27s  %s%s%s", level_text(item->level),
		       item->name, item->text, item->fix[0] ? "; fix: " : "",
		       item->fix);
	}
}

static void print_json(const struct checker *c, enum level worst)
{
	struct json_object *o = json_object_new_object();
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < c->count; i++) {
		struct json_object *e = json_object_new_object();
		const struct item *item = &c->items[i];

		json_object_object_add(e, "name", json_object_new_string(item->name));
		json_object_object_add(e, "status",
				       json_object_new_string(level_text(item->level)));
		json_object_object_add(e, "text", json_object_new_string(item->text));
		if (item->fix[0])
			json_object_object_add(e, "fix",
					       json_object_new_string(item->fix));
		json_object_array_add(list, e);
	}
	json_object_object_add(o, "requirements", list);
	json_object_object_add(
		o, "result",
		json_object_new_string(worst == NOTE ? "ok" : level_text(worst)));
	fb_json_print(o);
}

static int verdict(const struct checker *c, enum level worst, struct fb_err *err)
{
	size_t count = 0;

	if (worst < MISSING)
		return 0;
	for (size_t i = 0; i < c->count; i++)
		count += c->items[i].level >= MISSING;
	return fb_err_exit(
		err, worst == IMPOSSIBLE ? FB_EXIT_IMPOSSIBLE : FB_EXIT_FAILED, ENOTSUP,
		"%zu requirement%s not met", count, count == 1 ? " is" : "s are");
}

static int run(const struct fb_context *ctx, int argc, char **argv, struct fb_err *err)
{
	struct checker c = { .ctx = ctx };
	enum level worst = OK;
	int rc;

	if (argc > 1)
		return fb_usage(err, "check takes no option or operand, not '%s'",
				argv[1]);
	check_architecture(&c);
	check_root(&c);
	check_version(&c);
	check_hotplug(&c);
	check_options(&c);
	check_modules(&c);
	check_huge(&c);
	check_kpageflags(&c);
	check_region(&c);
	check_placement(&c);
	check_tables(&c);
	check_carry(&c);
	check_use(&c);
	check_kexec(&c);
	check_states(&c);
	for (size_t i = 0; i < c.count; i++)
		if (c.items[i].level > worst)
			worst = c.items[i].level;
	if (ctx->json)
		print_json(&c, worst);
	else
		print_text(&c);
	rc = verdict(&c, worst, err);
	free(c.items);
	free(c.kconfig);
	return rc;
}

const struct fb_command fb_cmd_check = {
	.name = "check",
	.arguments = "",
	.summary = "say whether this machine and kernel can do it, and what to fix",
	.help = "",
	.run = run,
};
