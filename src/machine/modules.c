/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/modules.h"

#include <ctype.h>
#include <errno.h>
#include <libkmod.h>
#include <limits.h>
#include <string.h>

#include "base/util.h"
#include "machine/arch.h"
#include "machine/dtree.h"

static const struct fb_module from_e820 = { "nd_e820", "CONFIG_X86_PMEM_LEGACY",
					    "/sys/bus/platform/drivers/e820_pmem",
					    FB_MODULE_MISSING };
static const struct fb_module from_tree = { "of_pmem", "CONFIG_OF_PMEM",
					    "/sys/bus/platform/drivers/of_pmem",
					    FB_MODULE_MISSING };
static const struct fb_module from_tables = { "nfit", "CONFIG_ACPI_NFIT",
					      "/sys/bus/acpi/drivers/nfit",
					      FB_MODULE_MISSING };
static const struct fb_module always[] = {
	{ "nd_pmem", "CONFIG_BLK_DEV_PMEM", "/sys/bus/nd/drivers/nd_pmem",
	  FB_MODULE_MISSING },
	{ "dax_pmem", "CONFIG_DEV_DAX_PMEM", "/sys/bus/nd/drivers/dax_pmem",
	  FB_MODULE_MISSING },
	{ "device_dax", "CONFIG_DEV_DAX", "/sys/bus/dax/drivers/device_dax",
	  FB_MODULE_MISSING },
	{ "kmem", "CONFIG_DEV_DAX_KMEM", "/sys/bus/dax/drivers/kmem",
	  FB_MODULE_MISSING },
};

/* '-' and '_' are the same in names of modules. */
static bool same_name(const char *a, const char *b, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (a[i] != b[i] && !(a[i] == '-' && b[i] == '_'))
			return false;
	return b[length] == '\0';
}

/* Is there a line "kernel/…/NAME.ko[.xz][: …]" in the text of an index? */
static bool index_has(const char *text, const char *name)
{
	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		size_t length;
		const char *file;

		line += *line == '\n';
		length = strcspn(line, ":\n");
		file = memrchr(line, '/', length);
		file = file ? file + 1 : line;
		if (same_name(file, name, strcspn(file, ".:\n")))
			return true;
	}
	return false;
}

static bool available(const struct fb_sys *sys, const char *name)
{
	static const char *const indexes[] = { "modules.dep", "modules.builtin" };
	char release[128], path[PATH_MAX];

	if (fb_sys_attr_read(sys, "/proc/sys/kernel/osrelease", release,
			     sizeof(release), NULL))
		return false;
	for (size_t i = 0; i < FB_ARRAY_SIZE(indexes); i++) {
		fb_autofree char *text = NULL;

		snprintf(path, sizeof(path), "/lib/modules/%s/%s", release, indexes[i]);
		if (!fb_sys_read(sys, path, &text, NULL, NULL) && index_has(text, name))
			return true;
	}
	return false;
}

void fb_modules_read(const struct fb_sys *sys, struct fb_module *modules, size_t *count)
{
	size_t n = 0;

	if (fb_dtree_present(sys))
		modules[n++] = from_tree;
	else
		modules[n++] = fb_arch_is_arm64(sys) ? from_tables : from_e820;
	for (size_t i = 0; i < FB_ARRAY_SIZE(always); i++)
		modules[n++] = always[i];
	for (size_t i = 0; i < n; i++) {
		if (fb_sys_exists(sys, modules[i].driver))
			modules[i].state = FB_MODULE_PRESENT;
		else if (available(sys, modules[i].name))
			modules[i].state = FB_MODULE_AVAILABLE;
	}
	*count = n;
}

static int missing_error(const struct fb_module *modules, size_t count,
			 struct fb_err *err)
{
	int rc = fb_err_exit(err, FB_EXIT_IMPOSSIBLE, ENOENT,
			     "this kernel lacks the modules");

	for (size_t i = 0; i < count; i++)
		if (modules[i].state == FB_MODULE_MISSING)
			fb_err_append(err, " %s (%s)", modules[i].name,
				      modules[i].config);
	return rc;
}

static int load_one(struct kmod_ctx *kmod, const char *name, struct fb_err *err)
{
	struct kmod_list *list = NULL, *item;
	int rc = kmod_module_new_from_lookup(kmod, name, &list);

	if (rc || !list)
		return fb_err_set(err, ENOENT, "no kernel module %s", name);
	kmod_list_foreach(item, list)
	{
		struct kmod_module *module = kmod_module_get_module(item);

		rc = kmod_module_probe_insert_module(module, 0, NULL, NULL, NULL, NULL);
		kmod_module_unref(module);
		if (rc)
			break;
	}
	kmod_module_unref_list(list);
	if (rc)
		return fb_err_sys(err, rc < 0 ? -rc : EIO,
				  "cannot load the kernel module %s", name);
	return 0;
}

int fb_modules_load(const struct fb_sys *sys, struct fb_err *err)
{
	struct fb_module modules[FB_MODULES_MAX];
	struct kmod_ctx *kmod;
	size_t count;
	int rc = 0;

	fb_modules_read(sys, modules, &count);
	for (size_t i = 0; i < count; i++)
		if (modules[i].state == FB_MODULE_MISSING)
			return missing_error(modules, count, err);
	kmod = kmod_new(NULL, NULL);
	if (!kmod)
		return fb_err_sys(err, ENOMEM, "libkmod");
	for (size_t i = 0; i < count && !rc; i++)
		if (modules[i].state == FB_MODULE_AVAILABLE)
			rc = load_one(kmod, modules[i].name, err);
	kmod_unref(kmod);
	return rc;
}
