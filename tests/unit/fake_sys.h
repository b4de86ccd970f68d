/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fake_sys - machine/sys replaced at link time by a table of paths in memory:
 * writes are recorded in order, the n-th can be made to fail, and a model of
 * the kernel can be hung on them. Include it in one .c file of a test that
 * does not link machine/sys.
 */
#ifndef FAKE_SYS_H
#define FAKE_SYS_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "machine/sys.h"

#define FAKE_ENTRIES 1024
#define FAKE_WRITES  512

struct fake_entry {
	char path[128];
	char *text; /* content, or a link's target */
	size_t size;
	bool link;
};

struct fake_write {
	char path[128], value[64];
};

static struct {
	struct fake_entry entries[FAKE_ENTRIES];
	size_t count;
	struct fake_write writes[FAKE_WRITES];
	size_t write_count;
	size_t operations; /* writes and what the test counts itself */
	size_t fail_at;	   /* this operation fails, 1 is the first; 0: none */
	bool fail_on;	   /* and every later one */
	int fail_errno;
	bool fail_late; /* it has its effect first */
	/* What the kernel does with a write; 0 or -errno. NULL: stores it. */
	int (*kernel)(const char *path, const char *value);
} fake;

static const struct fb_sys fake_machine = { "fake" };

static inline struct fake_entry *fake_find(const char *path)
{
	for (size_t i = 0; i < fake.count; i++)
		if (!strcmp(fake.entries[i].path, path))
			return &fake.entries[i];
	return NULL;
}

static inline void fake_set_bytes(const char *path, const char *text, size_t size,
				  bool link)
{
	struct fake_entry *e = fake_find(path);

	if (!e) {
		assert(fake.count < FAKE_ENTRIES);
		e = &fake.entries[fake.count++];
		snprintf(e->path, sizeof(e->path), "%s", path);
		e->text = NULL;
	}
	free(e->text);
	e->text = malloc(size + 1);
	assert(e->text);
	memcpy(e->text, text, size);
	e->text[size] = '\0';
	e->size = size;
	e->link = link;
}

static inline void fake_set(const char *path, const char *text, bool link)
{
	fake_set_bytes(path, text, strlen(text), link);
}

static inline void fake_put(const char *path, const char *text)
{
	fake_set(path, text, false);
}

static inline void fake_link(const char *path, const char *target)
{
	fake_set(path, target, true);
}

/* Remove a path and everything below it. */
static inline void fake_remove(const char *path)
{
	size_t n = strlen(path);

	for (size_t i = fake.count; i-- > 0;)
		if (!strncmp(fake.entries[i].path, path, n) &&
		    (fake.entries[i].path[n] == '\0' ||
		     fake.entries[i].path[n] == '/')) {
			free(fake.entries[i].text);
			fake.entries[i] = fake.entries[--fake.count];
		}
}

static inline const char *fake_get(const char *path)
{
	const struct fake_entry *e = fake_find(path);

	return e ? e->text : "";
}

static inline void fake_reset(void)
{
	while (fake.count)
		free(fake.entries[--fake.count].text);
	memset(&fake, 0, sizeof(fake));
}

/* Counts an operation; -errno when it is the one that fails. */
static inline int fake_operation(void)
{
	size_t n = ++fake.operations;

	if (!fake.fail_at || n < fake.fail_at || (n > fake.fail_at && !fake.fail_on))
		return 0;
	return -(fake.fail_errno ? fake.fail_errno : EIO);
}

static inline void fake_record(const char *path, const char *value)
{
	struct fake_write *w;

	assert(fake.write_count < FAKE_WRITES);
	w = &fake.writes[fake.write_count++];
	snprintf(w->path, sizeof(w->path), "%s", path);
	snprintf(w->value, sizeof(w->value), "%s", value);
}

/* ---- the door itself ------------------------------------------------- */

bool fb_sys_live(const struct fb_sys *sys)
{
	return !sys->root[0];
}

int fb_sys_read(const struct fb_sys *sys, const char *path, char **text, size_t *size,
		struct fb_err *err)
{
	const struct fake_entry *e = fake_find(path);

	(void)sys;
	if (!e || e->link)
		return fb_err_sys(err, ENOENT, "cannot open %s", path);
	*text = malloc(e->size + 1);
	assert(*text);
	memcpy(*text, e->text, e->size + 1);
	if (size)
		*size = e->size;
	return 0;
}

int fb_sys_attr_read(const struct fb_sys *sys, const char *path, char *buf, size_t size,
		     struct fb_err *err)
{
	fb_autofree char *text = NULL;
	int rc = fb_sys_read(sys, path, &text, NULL, err);

	if (rc)
		return rc;
	for (size_t n = strlen(text); n && (text[n - 1] == '\n' || text[n - 1] == ' ');)
		text[--n] = '\0';
	if (strlen(text) >= size)
		return fb_err_sys(err, EOVERFLOW, "%s", path);
	strcpy(buf, text);
	return 0;
}

int fb_sys_attr_u64(const struct fb_sys *sys, const char *path, uint64_t *value,
		    struct fb_err *err)
{
	char text[64];
	int rc = fb_sys_attr_read(sys, path, text, sizeof(text), err);

	if (rc)
		return rc;
	rc = strncmp(text, "0x", 2) ? fb_parse_u64(text, value)
				    : fb_parse_base(text, 16, value);
	return rc ? fb_err_set(err, EINVAL, "%s: no number", path) : 0;
}

int fb_sys_attr_write(const struct fb_sys *sys, const char *path, const char *value,
		      struct fb_err *err)
{
	int failed = fake_operation(), rc = 0;

	(void)sys;
	fake_record(path, value);
	if (failed && !fake.fail_late)
		return fb_err_sys(err, -failed, "cannot write '%s' to %s", value, path);
	if (fake.kernel)
		rc = fake.kernel(path, value);
	else if (fake_find(path))
		fake_put(path, value);
	else
		rc = -ENOENT;
	if (!rc)
		rc = failed;
	return rc ? fb_err_sys(err, -rc, "cannot write '%s' to %s", value, path) : 0;
}

bool fb_sys_exists(const struct fb_sys *sys, const char *path)
{
	size_t n = strlen(path);

	(void)sys;
	for (size_t i = 0; i < fake.count; i++)
		if (!strncmp(fake.entries[i].path, path, n) &&
		    (fake.entries[i].path[n] == '\0' || fake.entries[i].path[n] == '/'))
			return true;
	return false;
}

int fb_sys_link_name(const struct fb_sys *sys, const char *path, char *buf, size_t size,
		     struct fb_err *err)
{
	const struct fake_entry *e = fake_find(path);
	const char *name;

	(void)sys;
	if (!e || !e->link)
		return fb_err_sys(err, ENOENT, "cannot read the link %s", path);
	name = strrchr(e->text, '/') ? strrchr(e->text, '/') + 1 : e->text;
	snprintf(buf, size, "%s", name);
	return 0;
}

static int fake_compare(const void *a, const void *b)
{
	return strverscmp(*(char *const *)a, *(char *const *)b);
}

int fb_sys_list(const struct fb_sys *sys, const char *path, char ***names,
		struct fb_err *err)
{
	size_t length = strlen(path), count = 0;
	char **list = calloc(FAKE_ENTRIES + 1, sizeof(*list));

	(void)sys;
	for (size_t i = 0; i < fake.count; i++) {
		const char *at = fake.entries[i].path + length + 1;
		char *name;
		bool known = false;

		if (strncmp(fake.entries[i].path, path, length) ||
		    fake.entries[i].path[length] != '/')
			continue;
		name = strndup(at, strcspn(at, "/"));
		for (size_t k = 0; k < count; k++)
			known |= !strcmp(list[k], name);
		if (known)
			free(name);
		else
			list[count++] = name;
	}
	if (!count) {
		free(list);
		return fb_err_sys(err, ENOENT, "cannot open %s", path);
	}
	qsort(list, count, sizeof(*list), fake_compare);
	*names = list;
	return 0;
}

void fb_sys_list_free(char **names)
{
	for (char **n = names; n && *n; n++)
		free(*n);
	free(names);
}

#endif
