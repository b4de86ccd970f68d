/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "cmd/config.h"

#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <string.h>

#include "base/util.h"

#define MAIN_FILE "/etc/fastboot.conf"
#define DROP_IN_DIR "/etc/fastboot.conf.d"

struct parser {
	struct fb_config *config;
	struct fb_err *err;
	int rc;
	bool region_at, region_size;
};

static int complain(struct parser *p, const char *what, const char *value)
{
	p->rc = fb_err_exit(p->err, FB_EXIT_USAGE, EINVAL, "%s '%s'", what, value);
	return 0;
}

static int set_string(struct parser *p, char **field, const char *value)
{
	char *copy = strdup(value);

	if (!copy) {
		p->rc = fb_err_sys(p->err, ENOMEM, "configuration");
		return 0;
	}
	free(*field);
	*field = copy;
	return 1;
}

static int set_path(struct parser *p, char **field, const char *value)
{
	if (value[0] != '/')
		return complain(p, "an absolute path is needed, not", value);
	return set_string(p, field, value);
}

static struct fb_config_state *state_by_name(struct parser *p, const char *name)
{
	struct fb_config *c = p->config;
	struct fb_config_state *grown;

	for (size_t i = 0; i < c->state_count; i++)
		if (!strcmp(c->states[i].name, name))
			return &c->states[i];
	grown = reallocarray(c->states, c->state_count + 1, sizeof(*grown));
	if (!grown)
		return NULL;
	c->states = grown;
	grown += c->state_count;
	memset(grown, 0, sizeof(*grown));
	grown->name = strdup(name);
	if (!grown->name)
		return NULL;
	c->state_count++;
	return grown;
}

static int add_exclude(struct parser *p, struct fb_config_state *state,
		       const char *value)
{
	char **grown = reallocarray(state->excludes, state->exclude_count + 1,
				    sizeof(*grown));

	if (!grown) {
		p->rc = fb_err_sys(p->err, ENOMEM, "configuration");
		return 0;
	}
	state->excludes = grown;
	grown[state->exclude_count] = NULL;
	if (!set_string(p, &grown[state->exclude_count], value))
		return 0;
	state->exclude_count++;
	return 1;
}

static int set_priority(struct parser *p, struct fb_config_state *state,
			const char *value)
{
	bool negative = value[0] == '-';
	uint64_t v;

	if (fb_parse_u64(value + negative, &v) || v > 1000000)
		return complain(p, "priority must be a whole number, not", value);
	state->priority = negative ? -(int)v : (int)v;
	return 1;
}

static int on_state(struct parser *p, const char *name, const char *key,
		    const char *value)
{
	struct fb_config_state *state = state_by_name(p, name);

	if (!state) {
		p->rc = fb_err_sys(p->err, ENOMEM, "configuration");
		return 0;
	}
	if (!strcmp(key, "path"))
		return set_path(p, &state->path, value);
	if (!strcmp(key, "priority"))
		return set_priority(p, state, value);
	if (!strcmp(key, "exclude"))
		return add_exclude(p, state, value);
	return complain(p, "unknown key in [state]:", key);
}

static int on_region(struct parser *p, const char *key, const char *value)
{
	uint64_t *field;
	bool *seen;

	if (!strcmp(key, "at")) {
		field = &p->config->region.start;
		seen = &p->region_at;
	} else if (!strcmp(key, "size")) {
		field = &p->config->region.size;
		seen = &p->region_size;
	} else {
		return complain(p, "unknown key in [region]:", key);
	}
	if (fb_parse_size(value, field))
		return complain(p, "an address or size is needed, not", value);
	*seen = true;
	return 1;
}

static int on_hotremove(struct parser *p, const char *key, const char *value)
{
	if (strcmp(key, "deadline"))
		return complain(p, "unknown key in [hotremove]:", key);
	if (fb_parse_seconds(value, &p->config->deadline_usec) ||
	    !p->config->deadline_usec)
		return complain(p, "deadline needs seconds, more than 0, not", value);
	return 1;
}

static int on_kexec(struct parser *p, const char *key, const char *value)
{
	if (!strcmp(key, "kernel"))
		return set_path(p, &p->config->kernel, value);
	if (!strcmp(key, "initrd"))
		return set_path(p, &p->config->initrd, value);
	if (!strcmp(key, "append"))
		return set_string(p, &p->config->append, value);
	if (!strcmp(key, "method"))
		return fb_kexec_method_parse(value, &p->config->method)
			       ? 1
			       : complain(p,
					  "method is auto, kexec_file_load or "
					  "kexec_load, not",
					  value);
	return complain(p, "unknown key in [kexec]:", key);
}

static int on_restore(struct parser *p, const char *key, const char *value)
{
	if (strcmp(key, "mode"))
		return complain(p, "unknown key in [restore]:", key);
	return set_string(p, &p->config->restore_mode, value);
}

static int on_hooks(struct parser *p, const char *key, const char *value)
{
	if (!strcmp(key, "quiesce"))
		return set_path(p, &p->config->quiesce, value);
	if (!strcmp(key, "resume"))
		return set_path(p, &p->config->resume, value);
	return complain(p, "unknown key in [hooks]:", key);
}

static int on_entry(void *user, const char *section, const char *key,
		    const char *value)
{
	static const struct {
		const char *section;
		int (*handle)(struct parser *, const char *, const char *);
	} sections[] = {
		{ "region", on_region },   { "hotremove", on_hotremove },
		{ "kexec", on_kexec },	   { "restore", on_restore },
		{ "hooks", on_hooks },
	};
	struct parser *p = user;

	if (p->rc)
		return 0;
	if (!strncmp(section, "state ", 6) && section[6])
		return on_state(p, section + 6, key, value);
	for (size_t i = 0; i < FB_ARRAY_SIZE(sections); i++)
		if (!strcmp(section, sections[i].section))
			return sections[i].handle(p, key, value);
	return complain(p, "unknown section", section);
}

static int parse_file(struct parser *p, const char *path, bool required)
{
	fb_autofclose FILE *file = fopen(path, "re");
	int rc;

	if (!file && errno == ENOENT && !required)
		return 0;
	if (!file)
		return fb_err_exit(p->err, FB_EXIT_USAGE, errno,
				   "cannot open the configuration %s: %s", path,
				   strerror(errno));
	rc = ini_parse_file(file, on_entry, p);
	/* A positive result is the line of the first error, ours or inih's. */
	if (p->rc)
		return fb_err_prefix(p->err, "%s:%d", path, rc);
	if (rc > 0)
		return fb_err_exit(p->err, FB_EXIT_USAGE, EINVAL,
				   "%s:%d: neither [section] nor key = value", path, rc);
	if (rc < 0)
		return fb_err_sys(p->err, rc == -2 ? ENOMEM : EIO, "reading %s", path);
	return 0;
}

static int is_conf(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return entry->d_name[0] != '.' && dot && !strcmp(dot, ".conf");
}

static int parse_drop_ins(struct parser *p, const char *dir)
{
	struct dirent **names;
	int count = scandir(dir, &names, is_conf, alphasort);
	int rc = 0;

	if (count < 0 && errno == ENOENT)
		return 0;
	if (count < 0)
		return fb_err_exit(p->err, FB_EXIT_USAGE, errno, "cannot open %s: %s",
				   dir, strerror(errno));
	for (int i = 0; i < count; i++) {
		fb_autofree char *path = fb_asprintf("%s/%s", dir, names[i]->d_name);

		if (!path)
			rc = fb_err_sys(p->err, ENOMEM, "%s", dir);
		if (!rc)
			rc = parse_file(p, path, true);
		free(names[i]);
	}
	free(names);
	return rc;
}

static int parse_all(struct parser *p, const char *root, const char *file)
{
	char path[PATH_MAX];
	int rc;

	if (file)
		return parse_file(p, file, true);
	snprintf(path, sizeof(path), "%s%s", root, MAIN_FILE);
	rc = parse_file(p, path, false);
	if (rc)
		return rc;
	snprintf(path, sizeof(path), "%s%s", root, DROP_IN_DIR);
	return parse_drop_ins(p, path);
}

static int check_whole(struct parser *p)
{
	struct fb_config *c = p->config;

	if (p->region_at != p->region_size)
		return fb_err_exit(p->err, FB_EXIT_USAGE, EINVAL,
				   "configuration: [region] needs both at and size");
	if (p->region_at && (!c->region.size || !fb_range_valid(c->region)))
		return fb_err_exit(p->err, FB_EXIT_USAGE, EINVAL,
				   "configuration: [region] at and size are no range");
	c->region_set = p->region_at;
	for (size_t i = 0; i < c->state_count; i++)
		if (!c->states[i].path)
			return fb_err_exit(p->err, FB_EXIT_USAGE, EINVAL,
					   "configuration: [state %s] needs a path",
					   c->states[i].name);
	return 0;
}

/* A stable sort: equal priorities keep the order of the files. */
static void sort_states(struct fb_config *c)
{
	for (size_t i = 1; i < c->state_count; i++) {
		struct fb_config_state s = c->states[i];
		size_t at = i;

		for (; at && c->states[at - 1].priority < s.priority; at--)
			c->states[at] = c->states[at - 1];
		c->states[at] = s;
	}
}

int fb_config_load(const char *root, const char *file, struct fb_config *config,
		   struct fb_err *err)
{
	struct fb_config c = { .deadline_usec = 60 * 1000000ull };
	struct parser p = { .config = &c, .err = err };
	int rc = parse_all(&p, root, file);

	if (!rc)
		rc = check_whole(&p);
	if (rc) {
		fb_config_free(&c);
		return rc;
	}
	sort_states(&c);
	*config = c;
	return 0;
}

void fb_config_free(struct fb_config *config)
{
	for (size_t i = 0; i < config->state_count; i++) {
		struct fb_config_state *s = &config->states[i];

		for (size_t e = 0; e < s->exclude_count; e++)
			free(s->excludes[e]);
		free(s->excludes);
		free(s->name);
		free(s->path);
	}
	free(config->states);
	free(config->kernel);
	free(config->initrd);
	free(config->append);
	free(config->restore_mode);
	free(config->quiesce);
	free(config->resume);
	memset(config, 0, sizeof(*config));
}
