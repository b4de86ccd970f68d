/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "engine/timeline_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "machine/clock.h"
#include "machine/kmsg.h"
#include "machine/sys.h"

#define MAGIC "fastboot timeline "

const struct fb_stamp *fb_timeline_find(const struct fb_timeline *timeline,
					enum fb_phase phase)
{
	for (size_t i = 0; i < timeline->stamp_count; i++)
		if (timeline->stamps[i].phase == phase)
			return &timeline->stamps[i];
	return NULL;
}

/* ---- text to struct ------------------------------ */

/* The next word of a line, cut off; "" at its end. */
static char *next_word(char **line)
{
	char *word = *line;
	size_t n = strcspn(word, " ");

	*line = word + n + (word[n] == ' ');
	word[n] = '\0';
	return word;
}

static int parse_boot(char *rest, struct fb_timeline_boot *boot)
{
	int rc = fb_uuid_parse(next_word(&rest), boot->id);

	if (rc || strlen(rest) >= sizeof(boot->release))
		return -EINVAL;
	strcpy(boot->release, rest);
	return 0;
}

static int parse_stamp(char *rest, struct fb_timeline *t)
{
	uint64_t phase, counter;

	if (t->stamp_count == FB_TIMELINE_STAMPS ||
	    fb_parse_u64(next_word(&rest), &phase) || fb_parse_u64(rest, &counter) ||
	    phase > UINT16_MAX)
		return -EINVAL;
	t->stamps[t->stamp_count++] = (struct fb_stamp){ (uint16_t)phase, counter };
	return 0;
}

static int parse_mark(char *rest, struct fb_timeline *t)
{
	struct fb_timeline_mark *m = &t->marks[t->mark_count];
	const char *name = next_word(&rest);
	uint64_t usec;

	if (t->mark_count == FB_TIMELINE_MARKS || !*name ||
	    strlen(name) >= sizeof(m->name) || fb_parse_u64(rest, &usec))
		return -EINVAL;
	strcpy(m->name, name);
	m->usec = usec;
	t->mark_count++;
	return 0;
}

static int parse_line(char *line, struct fb_timeline *t)
{
	const char *key = next_word(&line);

	if (!strcmp(key, "stamp"))
		return parse_stamp(line, t);
	if (!strcmp(key, "kernel"))
		return parse_mark(line, t);
	if (!strcmp(key, "from"))
		return parse_boot(line, &t->from);
	if (!strcmp(key, "to"))
		return parse_boot(line, &t->to);
	if (!strcmp(key, "image"))
		return fb_uuid_parse(line, t->image);
	if (!strcmp(key, "counter_hz"))
		return fb_parse_u64(line, &t->counter_hz);
	if (!strcmp(key, "generation"))
		return fb_parse_u64(line, &t->generation);
	if (!strcmp(key, "image_bytes"))
		return fb_parse_u64(line, &t->image_bytes);
	if (!strcmp(key, "wall_usec"))
		return fb_parse_u64(line, &t->wall_usec);
	return 0;
}

static int check_magic(const char *line, struct fb_err *err)
{
	uint64_t version;

	if (strncmp(line, MAGIC, strlen(MAGIC)) ||
	    fb_parse_u64(line + strlen(MAGIC), &version) || !version)
		return fb_err_set(err, EBADMSG, "not a timeline of fastboot");
	if (version > 1)
		return fb_err_set(err, EPROTONOSUPPORT,
				  "a timeline of version %" PRIu64
				  ", this fastboot reads version 1",
				  version);
	return 0;
}

int fb_timeline_parse(const char *text, struct fb_timeline *timeline,
		      struct fb_err *err)
{
	fb_autofree char *copy = strdup(text);
	struct fb_timeline t = { 0 };
	unsigned int number = 0;

	if (!copy)
		return fb_err_set(err, ENOMEM, "out of memory");
	for (char *line = copy, *next; *line; line = next) {
		int rc;

		next = line + strcspn(line, "\n");
		if (!*next)
			return fb_err_set(err, EBADMSG, "line %u is cut off",
					  number + 1);
		*next++ = '\0';
		rc = number++ ? parse_line(line, &t) : check_magic(line, err);
		if (rc && number == 1)
			return rc;
		if (rc)
			return fb_err_set(err, EBADMSG, "line %u is damaged", number);
	}
	if (!number)
		return fb_err_set(err, EBADMSG, "it is empty");
	*timeline = t;
	return 0;
}

/* ---- struct to text ------------------------------ */

static void put_boot(FILE *out, const char *key, const struct fb_timeline_boot *boot)
{
	char id[FB_UUID_TEXT_SIZE];

	fb_uuid_text(boot->id, id);
	fprintf(out, "%s %s ", key, id);
	for (const char *c = boot->release; *c; c++)
		fputc(*c > ' ' && *c < 0x7f ? *c : '?', out);
	fputc('\n', out);
}

static void put_all(FILE *out, const struct fb_timeline *t)
{
	char image[FB_UUID_TEXT_SIZE];

	fb_uuid_text(t->image, image);
	fprintf(out, MAGIC "1\n");
	fprintf(out, "counter_hz %" PRIu64 "\n", t->counter_hz);
	fprintf(out, "image %s\n", image);
	fprintf(out, "generation %" PRIu64 "\n", t->generation);
	fprintf(out, "image_bytes %" PRIu64 "\n", t->image_bytes);
	fprintf(out, "wall_usec %" PRIu64 "\n", t->wall_usec);
	put_boot(out, "from", &t->from);
	put_boot(out, "to", &t->to);
	for (size_t i = 0; i < t->stamp_count; i++)
		fprintf(out, "stamp %u %" PRIu64 "\n", t->stamps[i].phase,
			t->stamps[i].counter);
	for (size_t i = 0; i < t->mark_count; i++)
		fprintf(out, "kernel %s %" PRIu64 "\n", t->marks[i].name,
			t->marks[i].usec);
}

char *fb_timeline_format(const struct fb_timeline *timeline)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	put_all(out, timeline);
	if (!fclose(out))
		return text;
	free(text);
	return NULL;
}

/* ---- the file
 * ------------------------------------------------------------------------ */

int fb_timeline_load(const char *path, struct fb_timeline *timeline, struct fb_err *err)
{
	static const struct fb_sys live = { "" };
	fb_autofree char *text = NULL;
	size_t size;
	int rc = fb_sys_read(&live, path, &text, &size, err);

	if (rc)
		return rc;
	rc = strlen(text) == size ? fb_timeline_parse(text, timeline, err)
				  : fb_err_set(err, EBADMSG, "it has zero bytes");
	return rc ? fb_err_prefix(err, "%s", path) : 0;
}

static int make_directory_of(const char *path, struct fb_err *err)
{
	const char *slash = strrchr(path, '/');
	fb_autofree char *dir = slash ? strndup(path, (size_t)(slash - path)) : NULL;

	if (dir && *dir && mkdir(dir, 0755) && errno != EEXIST)
		return fb_err_sys(err, errno, "cannot make %s", dir);
	return 0;
}

static int write_file(const char *path, const char *text, struct fb_err *err)
{
	size_t size = strlen(text);
	fb_autoclose int fd =
		open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		return fb_err_sys(err, errno, "cannot make %s", path);
	if (write(fd, text, size) != (ssize_t)size)
		return fb_err_sys(err, errno ? errno : ENOSPC, "cannot write %s", path);
	return 0;
}

/* All of it or nothing: a reader never finds half a file. */
static int store(const char *path, const struct fb_timeline *t, struct fb_err *err)
{
	fb_autofree char *text = fb_timeline_format(t);
	fb_autofree char *new = fb_asprintf("%s.new", path);
	int rc;

	if (!text || !new)
		return fb_err_set(err, ENOMEM, "out of memory");
	rc = make_directory_of(path, err);
	if (!rc)
		rc = write_file(new, text, err);
	if (!rc && rename(new, path))
		rc = fb_err_sys(err, errno, "cannot rename %s", new);
	return rc;
}

/* ---- begin
 * --------------------------------------------------------------------------- */

static int read_this_boot(struct fb_timeline_boot *boot, struct fb_err *err)
{
	static const struct fb_sys live = { "" };
	char id[64];
	int rc = fb_sys_attr_read(&live, "/proc/sys/kernel/random/boot_id", id,
				  sizeof(id), err);

	if (!rc && fb_uuid_parse(id, boot->id))
		rc = fb_err_set(err, EINVAL, "the boot id '%s' is none", id);
	if (!rc)
		rc = fb_sys_attr_read(&live, "/proc/sys/kernel/osrelease",
				      boot->release, sizeof(boot->release), err);
	return rc;
}

static void add(struct fb_timeline *t, enum fb_phase phase, uint64_t counter)
{
	if (t->stamp_count < FB_TIMELINE_STAMPS)
		t->stamps[t->stamp_count++] =
			(struct fb_stamp){ (uint16_t)phase, counter };
}

static uint64_t ticks(uint64_t usec, uint64_t hz)
{
	return (uint64_t)((unsigned __int128)usec * hz / 1000000);
}

/* The counter when the kernel's clock began. */
static void add_kernel(struct fb_timeline *t)
{
	uint64_t counter = fb_clock_counter(), usec = fb_clock_usec(), since;
	char line[64];

	if (!t->counter_hz)
		return;
	snprintf(line, sizeof(line), "fastboot: timeline begun, counter %" PRIu64,
		 counter);
	fb_kmsg_mark(line, &counter, &usec);
	since = ticks(usec, t->counter_hz);
	if (since <= counter)
		add(t, FB_PHASE_KERNEL, counter - since);
}

static void add_header(struct fb_timeline *t, const struct fb_header *header)
{
	const struct fb_origin *origin = &header->origin;

	t->counter_hz = origin->counter_hz;
	memcpy(t->image, origin->uuid, sizeof(t->image));
	t->generation = origin->generation;
	t->image_bytes = header->image_length;
	t->wall_usec = origin->wall_usec;
	memcpy(t->from.id, origin->boot_id, sizeof(t->from.id));
	memcpy(t->from.release, origin->release, sizeof(t->from.release));
	for (uint32_t i = 0; i < origin->stamp_count; i++)
		add(t, (enum fb_phase)origin->stamps[i].phase,
		    origin->stamps[i].counter);
	if (header->left_usec && origin->counter_hz && t->stamp_count)
		add(t, FB_PHASE_LEFT,
		    t->stamps[t->stamp_count - 1].counter +
			    ticks(header->left_usec, origin->counter_hz));
}

int fb_timeline_begin(const char *path, const struct fb_header *header,
		      const struct fb_origin *mine, struct fb_err *err)
{
	struct fb_timeline t = { 0 }, old;
	int rc = read_this_boot(&t.to, err);

	if (rc)
		return rc;
	if (!memcmp(header->origin.boot_id, t.to.id, sizeof(t.to.id)))
		return fb_err_set(err, EALREADY, "the image was written in this boot");
	if (!fb_timeline_load(path, &old, NULL) &&
	    !memcmp(old.to.id, t.to.id, sizeof(t.to.id)))
		return 0;
	add_header(&t, header);
	add_kernel(&t);
	for (uint32_t i = 0; mine && i < mine->stamp_count; i++)
		add(&t, (enum fb_phase)mine->stamps[i].phase, mine->stamps[i].counter);
	return store(path, &t, err);
}

/* ---- append
 * --------------------------------------------------------------------------- */

int fb_timeline_append_stamps(const char *path, const struct fb_origin *mine)
{
	char text[FB_HEADER_PHASES * 40] = "";
	fb_autoclose int fd = -1;
	struct fb_timeline t;
	size_t size = 0;
	int rc = fb_timeline_load(path, &t, NULL);

	if (rc)
		return rc;
	for (uint32_t i = 0; i < mine->stamp_count; i++) {
		const struct fb_stamp *s = &mine->stamps[i];

		if (!fb_timeline_find(&t, (enum fb_phase)s->phase))
			size += (size_t)snprintf(text + size, sizeof(text) - size,
						 "stamp %u %" PRIu64 "\n", s->phase,
						 s->counter);
	}
	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return write(fd, text, size) == (ssize_t)size ? 0 : -EIO;
}

int fb_timeline_append(const char *path, enum fb_phase phase)
{
	struct fb_origin mine = { .stamp_count = 0 };

	fb_timeline_stamp(&mine, phase);
	return fb_timeline_append_stamps(path, &mine);
}
