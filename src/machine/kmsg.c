/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/kmsg.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "machine/clock.h"

#define KMSG_PATH "/dev/kmsg"

/* A record is at most that long (kernel: PRINTK_MESSAGE_MAX, CONSOLE_EXT_LOG_MAX). */
#define RECORD_MAX 8192

/* "6,377,8441272,-;Run /init as init process\n" */
int fb_kmsg_parse(char *record, uint64_t *usec, const char **text)
{
	char *message = strchr(record, ';'), *at = record, *end;
	uint64_t time;

	if (!message)
		return -EINVAL;
	for (int comma = 0; comma < 2; comma++) {
		at = strchr(at, ',');
		if (!at || at++ > message)
			return -EINVAL;
	}
	end = at + strcspn(at, ",;");
	message[strcspn(message, "\n")] = '\0';
	*message++ = '\0';
	*end = '\0';
	if (fb_parse_u64(at, &time))
		return -EINVAL;
	*usec = time;
	*text = message;
	return 0;
}

/* The next record of a descriptor; -EAGAIN behind the last. */
static int next_record(int fd, char *buf, uint64_t *usec, const char **text)
{
	for (;;) {
		ssize_t n = read(fd, buf, RECORD_MAX - 1);

		/* EPIPE: it was overwritten meanwhile, go on with the oldest. */
		if (n < 0 && (errno == EINTR || errno == EPIPE))
			continue;
		if (n <= 0)
			return n ? -errno : -EAGAIN;
		buf[n] = '\0';
		if (!fb_kmsg_parse(buf, usec, text))
			return 0;
	}
}

int fb_kmsg_say(int fd, int level, const char *format, ...)
{
	fb_autofree char *text = NULL, *line = NULL;
	va_list args;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	line = text ? fb_asprintf("<%d>%s\n", level, text) : NULL;
	if (!line)
		return -ENOMEM;
	return write(fd, line, strlen(line)) < 0 ? -errno : 0;
}

int fb_kmsg_mark(const char *line, uint64_t *counter, uint64_t *usec)
{
	fb_autoclose int fd = open(KMSG_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	fb_autofree char *out = fb_asprintf("<7>%s\n", line);
	char buf[RECORD_MAX];
	uint64_t before, at;
	const char *text;

	if (fd < 0 || lseek(fd, 0, SEEK_END) < 0)
		return -errno;
	if (!out)
		return -ENOMEM;
	before = fb_clock_counter();
	if (write(fd, out, strlen(out)) < 0)
		return -errno;
	while (!next_record(fd, buf, &at, &text)) {
		if (strcmp(text, line))
			continue;
		*counter = before;
		*usec = at;
		return 0;
	}
	return -ENODATA;
}

int fb_kmsg_read(void (*record)(void *context, uint64_t usec, const char *text),
		 void *context)
{
	fb_autoclose int fd = open(KMSG_PATH, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char buf[RECORD_MAX];
	uint64_t usec;
	const char *text;
	int rc;

	if (fd < 0)
		return -errno;
	while (!(rc = next_record(fd, buf, &usec, &text)))
		record(context, usec, text);
	return rc == -EAGAIN ? 0 : rc;
}
