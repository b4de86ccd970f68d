/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/holders.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/util.h"
#include "machine/mounts.h"
#include "machine/sys.h"

#define NAMED_AT_MOST 8u

static const struct fb_sys live = { "" };

struct search {
	const dev_t *devices;
	size_t count;
	struct stat home; /* this process's mount namespace */
};

static bool is_one(const struct search *s, dev_t dev)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->devices[i] == dev)
			return true;
	return false;
}

static bool leads_to_one(const struct search *s, const char *path)
{
	struct stat st;

	return !stat(path, &st) && is_one(s, st.st_dev);
}

static bool has_directory(const struct search *s, const char *pid)
{
	static const char *const links[] = { "cwd", "root", "exe" };
	char path[64];

	for (size_t i = 0; i < FB_ARRAY_SIZE(links); i++) {
		snprintf(path, sizeof(path), "/proc/%.20s/%s", pid, links[i]);
		if (leads_to_one(s, path))
			return true;
	}
	return false;
}

static bool has_file(const struct search *s, const char *pid)
{
	char path[64];
	fb_autoclosedir DIR *dir = NULL;
	struct dirent *entry;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%.20s/fd/%.20s", pid,
			 entry->d_name);
		if (entry->d_name[0] != '.' && leads_to_one(s, path))
			return true;
	}
	return false;
}

/* "START-END PERMS OFFSET MAJOR:MINOR INODE PATH"; the kernel's lines may be long. */
static bool has_mapping(const struct search *s, const char *pid)
{
	fb_autofree char *text = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%.20s/maps", pid);
	if (fb_sys_read(&live, path, &text, NULL, NULL))
		return false;
	for (const char *line = text; line && *line;) {
		unsigned int major, minor;

		if (sscanf(line, "%*s %*s %*s %x:%x", &major, &minor) == 2 &&
		    is_one(s, makedev(major, minor)))
			return true;
		line = strchr(line, '\n');
		line += line != NULL;
	}
	return false;
}

static bool uses(const struct search *s, const char *pid)
{
	return has_directory(s, pid) || has_file(s, pid) || has_mapping(s, pid);
}

static bool mounts(const struct search *s, const char *pid)
{
	fb_autofree char *text = NULL;
	struct fb_mounts all;
	struct stat st;
	char path[64];
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%.20s/ns/mnt", pid);
	if (stat(path, &st) || st.st_ino == s->home.st_ino)
		return false;
	snprintf(path, sizeof(path), "/proc/%.20s/mountinfo", pid);
	if (fb_sys_read(&live, path, &text, NULL, NULL) ||
	    fb_mounts_parse(text, &all, NULL))
		return false;
	for (size_t i = 0; i < all.count; i++)
		found = found || is_one(s, all.mounts[i].dev);
	fb_mounts_free(&all);
	return found;
}

static void append(const char *pid, char *text, size_t size)
{
	size_t used = strlen(text);
	char path[64], name[64] = "?";

	snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
	fb_sys_attr_read(&live, path, name, sizeof(name), NULL);
	snprintf(text + used, size - used, "%s%s (pid %.20s)", used ? ", " : "", name,
		 pid);
}

static size_t find(bool (*is_holder)(const struct search *, const char *),
		   const struct search *s, char *text, size_t size)
{
	size_t found = 0, used;
	char **names;

	text[0] = '\0';
	if (fb_sys_list(&live, "/proc", &names, NULL))
		return 0;
	for (char **n = names; *n; n++) {
		uint64_t pid;

		if (fb_parse_u64(*n, &pid) || pid == (uint64_t)getpid() ||
		    !is_holder(s, *n))
			continue;
		if (found++ < NAMED_AT_MOST)
			append(*n, text, size);
	}
	fb_sys_list_free(names);
	used = strlen(text);
	if (found > NAMED_AT_MOST)
		snprintf(text + used, size - used, " and %zu more",
			 found - NAMED_AT_MOST);
	return found;
}

size_t fb_holders_find(const dev_t *devices, size_t count, char *text, size_t size)
{
	const struct search s = { .devices = devices, .count = count };

	return find(uses, &s, text, size);
}

size_t fb_holders_mounted(const dev_t *devices, size_t count, char *text, size_t size)
{
	struct search s = { .devices = devices, .count = count };

	if (stat("/proc/self/ns/mnt", &s.home)) {
		text[0] = '\0';
		return 0;
	}
	return find(mounts, &s, text, size);
}
