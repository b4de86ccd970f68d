/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int record(struct fb_err *err, enum fb_exit status, int error,
		  const char *fmt, va_list ap)
{
	/* A text may be built from the old one: format before storing. */
	char text[FB_ERR_TEXT_MAX];
	int saved = errno;

	if (!err)
		return -error;
	errno = saved;
	vsnprintf(text, sizeof(text), fmt, ap);
	err->error = error;
	err->status = status;
	memcpy(err->text, text, sizeof(text));
	return -error;
}

int fb_err_set(struct fb_err *err, int error, const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = record(err, FB_EXIT_FAILED, error, fmt, ap);
	va_end(ap);
	return rc;
}

int fb_err_exit(struct fb_err *err, enum fb_exit status, int error,
		const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = record(err, status, error, fmt, ap);
	va_end(ap);
	return rc;
}

int fb_err_sys(struct fb_err *err, int error, const char *fmt, ...)
{
	const char *text;
	va_list ap;

	va_start(ap, fmt);
	record(err, FB_EXIT_FAILED, error, fmt, ap);
	va_end(ap);
	/* strerror() would first look for a translation. */
	text = strerrordesc_np(error);
	if (text)
		fb_err_append(err, ": %s", text);
	else
		fb_err_append(err, ": error %d", error);
	return -error;
}

int fb_err_prefix(struct fb_err *err, const char *fmt, ...)
{
	char old[FB_ERR_TEXT_MAX];
	va_list ap;

	if (!err)
		return -EIO;
	memcpy(old, err->text, sizeof(old));
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	fb_err_append(err, ": %s", old);
	return -err->error;
}

void fb_err_append(struct fb_err *err, const char *fmt, ...)
{
	va_list ap;
	size_t used;

	if (!err)
		return;
	used = strlen(err->text);
	va_start(ap, fmt);
	vsnprintf(err->text + used, sizeof(err->text) - used, fmt, ap);
	va_end(ap);
}
