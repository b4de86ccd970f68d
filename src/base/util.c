/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "base/util.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>

int fb_array_grow(void *array, size_t *capacity, size_t need, size_t size)
{
	void **p = array;
	size_t want = *capacity ? *capacity : 16;
	void *grown;

	if (need <= *capacity)
		return 0;
	while (want < need) {
		if (want > SIZE_MAX / 2)
			return -ENOMEM;
		want *= 2;
	}
	grown = reallocarray(*p, want, size);
	if (!grown)
		return -ENOMEM;
	*p = grown;
	*capacity = want;
	return 0;
}

void fb_array_sort(void *array, size_t count, size_t size,
		   int (*compare)(const void *a, const void *b))
{
	const char *at = array;

	for (size_t i = 1; i < count; i++, at += size)
		if (compare(at, at + size) > 0) {
			qsort(array, count, size, compare);
			return;
		}
}

int fb_parse_base(const char *text, int base, uint64_t *value)
{
	unsigned long long v;
	char *end;

	/* strtoull takes space, signs and wraps negatives: not here. */
	if (!isxdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	v = strtoull(text, &end, base);
	if (end == text || *end)
		return -EINVAL;
	if (errno)
		return -errno;
	*value = v;
	return 0;
}

int fb_parse_u64(const char *text, uint64_t *value)
{
	return fb_parse_base(text, 10, value);
}

int fb_parse_size(const char *text, uint64_t *bytes)
{
	static const char suffixes[] = "KMGTPE";
	const char *at;
	unsigned long long v;
	char *end;
	int base = 10;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		base = 16;
	errno = 0;
	v = strtoull(text, &end, base);
	if (end == text)
		return -EINVAL;
	if (errno)
		return -errno;
	if (*end) {
		at = strchr(suffixes, toupper((unsigned char)*end));
		if (!at)
			return -EINVAL;
		for (const char *s = suffixes; s <= at; s++)
			if (fb_mul_overflow(v, 1024, (uint64_t *)&v))
				return -ERANGE;
		end++;
		if (!strcmp(end, "iB"))
			end += 2;
		if (*end)
			return -EINVAL;
	}
	*bytes = v;
	return 0;
}

int fb_parse_seconds(const char *text, uint64_t *usec)
{
	uint64_t whole = 0, fraction = 0, scale = 1000000;
	const char *p = text;

	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++)
		if (fb_mul_overflow(whole, 10, &whole) ||
		    fb_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
			return -ERANGE;
	if (*p == '.') {
		for (p++; isdigit((unsigned char)*p) && scale > 1000; p++) {
			scale /= 10;
			fraction += (uint64_t)(*p - '0') * scale;
		}
		if (scale == 1000000)
			return -EINVAL;
	}
	if (*p)
		return -EINVAL;
	if (fb_mul_overflow(whole, 1000000, &whole) ||
	    fb_add_overflow(whole, fraction, usec))
		return -ERANGE;
	return 0;
}

/* 1920 -> "1,920" */
static void group_digits(uint64_t v, char *out, size_t size)
{
	char digits[24];
	int n = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)v);
	size_t at = 0;

	for (int i = 0; i < n && at + 2 < size; i++) {
		if (i && (n - i) % 3 == 0)
			out[at++] = ',';
		out[at++] = digits[i];
	}
	out[at] = '\0';
}

char *fb_size_text(uint64_t bytes, char buf[FB_SIZE_TEXT_MAX])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	char digits[FB_SIZE_TEXT_MAX - 8];
	unsigned int unit = 0;
	uint64_t scale = 1;

	/* The largest unit that divides; else the largest that gives >= 1. */
	while (unit + 1 < FB_ARRAY_SIZE(units) && bytes >= scale * 1024) {
		scale *= 1024;
		unit++;
	}
	for (unsigned int u = unit; bytes && u > 0 && u + 1 >= unit; u--) {
		uint64_t s = (uint64_t)1 << (10 * u);

		if (bytes % s == 0) {
			group_digits(bytes / s, digits, sizeof(digits));
			snprintf(buf, FB_SIZE_TEXT_MAX, "%s %s", digits, units[u]);
			return buf;
		}
	}
	group_digits(bytes / scale, digits, sizeof(digits));
	if (unit == 0)
		snprintf(buf, FB_SIZE_TEXT_MAX, "%s %s", digits, units[unit]);
	else
		snprintf(buf, FB_SIZE_TEXT_MAX, "%s.%u %s", digits,
			 (unsigned int)(bytes % scale / (scale / 10 + 1)) % 10,
			 units[unit]);
	return buf;
}

char *fb_escape(const char *bytes, size_t length)
{
	char *out = malloc(length * 4 + 1);
	char *p = out;

	if (!out)
		return NULL;
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)bytes[i];

		if (c >= 0x20 && c < 0x7f && c != '\\')
			*p++ = (char)c;
		else
			p += sprintf(p, "\\%03o", c);
	}
	*p = '\0';
	return out;
}

/* Is there a dash before byte i? */
static bool uuid_dash(size_t i)
{
	return i == 4 || i == 6 || i == 8 || i == 10;
}

void fb_uuid_text(const uint8_t uuid[16], char text[FB_UUID_TEXT_SIZE])
{
	for (size_t i = 0; i < 16; i++)
		text += sprintf(text, "%s%02x", uuid_dash(i) ? "-" : "", uuid[i]);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int fb_uuid_parse(const char *text, uint8_t uuid[16])
{
	uint8_t bytes[16];

	for (size_t i = 0; i < 16; i++) {
		int high, low;

		if (uuid_dash(i) && *text++ != '-')
			return -EINVAL;
		high = hex_digit(text[0]);
		low = high < 0 ? -1 : hex_digit(text[1]);
		if (low < 0)
			return -EINVAL;
		bytes[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	if (*text)
		return -EINVAL;
	memcpy(uuid, bytes, sizeof(bytes));
	return 0;
}

char *fb_asprintf(const char *fmt, ...)
{
	va_list ap;
	char *text = NULL;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : text;
}
