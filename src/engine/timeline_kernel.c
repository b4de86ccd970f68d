/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "engine/timeline_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "base/util.h"
#include "machine/kmsg.h"

const struct fb_timeline_step fb_timeline_steps[FB_TIMELINE_STEPS] = {
	{ "setup", "set-up on one CPU" }, { "cpus", "other CPUs" },
	{ "subsystems", "subsystems" },	  { "drivers", "drivers" },
	{ "init", "first program" },
};

/* How the line begins that ends a step; kernel/smp.c, kernel/time/clocksource.c,
 * init/initramfs.c, mm/page_alloc.c and init/main.c of Linux 5.10 and 6.12. */
static const struct {
	const char *begins, *name;
} landmarks[] = {
	{ "smp: Bringing up secondary CPUs", "setup" },
	{ "smp: Brought up ", "cpus" },
	{ "clocksource: Switched to clocksource ", "subsystems" },
	{ "Trying to unpack rootfs image as initramfs", FB_TIMELINE_UNPACK },
	{ "Unpacking initramfs", FB_TIMELINE_UNPACK },
	{ "Freeing initrd memory: ", FB_TIMELINE_UNPACKED },
	{ "Freeing unused kernel ", "drivers" },
	{ "Run ", "init" }, /* "Run /init as init process" */
};

const struct fb_timeline_mark *fb_timeline_mark(const struct fb_timeline *timeline,
						const char *name)
{
	for (size_t i = 0; i < timeline->mark_count; i++)
		if (!strcmp(timeline->marks[i].name, name))
			return &timeline->marks[i];
	return NULL;
}

static bool begins(const char *line, const char *with)
{
	return !strncmp(line, with, strlen(with));
}

void fb_timeline_log_line(struct fb_timeline *t, uint64_t usec, const char *line)
{
	for (size_t i = 0; i < FB_ARRAY_SIZE(landmarks); i++) {
		const char *name = landmarks[i].name;
		struct fb_timeline_mark *m = &t->marks[t->mark_count];

		if (!begins(line, landmarks[i].begins) ||
		    (!strcmp(name, "init") && !strstr(line, " as init process")) ||
		    t->mark_count == FB_TIMELINE_MARKS || fb_timeline_mark(t, name))
			continue;
		snprintf(m->name, sizeof(m->name), "%s", name);
		m->usec = usec;
		t->mark_count++;
	}
}

static void on_record(void *context, uint64_t usec, const char *text)
{
	fb_timeline_log_line(context, usec, text);
}

void fb_timeline_read_log(struct fb_timeline *timeline)
{
	if (!timeline->mark_count && fb_kmsg_read(on_record, timeline))
		timeline->mark_count = 0;
}

int fb_timeline_append_log(const char *path)
{
	char text[FB_TIMELINE_MARKS * 48] = "";
	fb_autoclose int fd = -1;
	struct fb_timeline t;
	size_t size = 0;
	int rc = fb_timeline_load(path, &t, NULL);

	if (rc || t.mark_count)
		return rc;
	fb_timeline_read_log(&t);
	for (size_t i = 0; i < t.mark_count; i++)
		size += (size_t)snprintf(text + size, sizeof(text) - size,
					 "kernel %s %" PRIu64 "\n", t.marks[i].name,
					 t.marks[i].usec);
	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return write(fd, text, size) == (ssize_t)size ? 0 : -EIO;
}
