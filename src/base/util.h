/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * util - the small tools every layer needs: cleanup attributes, checked
 * arithmetic, strict parsing. libc only; no state.
 */
#ifndef FB_BASE_UTIL_H
#define FB_BASE_UTIL_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FB_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define FB_KIB ((uint64_t)1 << 10)
#define FB_MIB ((uint64_t)1 << 20)
#define FB_GIB ((uint64_t)1 << 30)

/* Freed or closed at the end of the scope; a null or -1 is left alone. */
#define fb_autofree __attribute__((cleanup(fb_cleanup_free)))
#define fb_autoclose __attribute__((cleanup(fb_cleanup_close)))
#define fb_autofclose __attribute__((cleanup(fb_cleanup_fclose)))
#define fb_autoclosedir __attribute__((cleanup(fb_cleanup_closedir)))

static inline void fb_cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void fb_cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void fb_cleanup_fclose(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void fb_cleanup_closedir(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* Hand an owned pointer or descriptor to the caller. */
#define fb_steal_ptr(p)                    \
	({                                 \
		__typeof__(p) fb_p_ = (p); \
		(p) = NULL;                \
		fb_p_;                     \
	})

static inline int fb_steal_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

/* Checked arithmetic: true when the result does not fit (*out undefined). */
static inline bool fb_add_overflow(uint64_t a, uint64_t b, uint64_t *out)
{
	return __builtin_add_overflow(a, b, out);
}

static inline bool fb_mul_overflow(uint64_t a, uint64_t b, uint64_t *out)
{
	return __builtin_mul_overflow(a, b, out);
}

/* `align` is a power of two; fb_align_up wraps at 2^64 like the sum it is. */
static inline uint64_t fb_align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

static inline uint64_t fb_align_up(uint64_t v, uint64_t align)
{
	return fb_align_down(v + align - 1, align);
}

static inline bool fb_is_power_of_2(uint64_t v)
{
	return v && !(v & (v - 1));
}

/*
 * Grow `*array` (elements of `size` bytes, `*capacity` of them allocated) so
 * that it holds at least `need`. 0 or -ENOMEM; on failure nothing changed.
 * The caller frees *array with free().
 */
int fb_array_grow(void *array, size_t *capacity, size_t need, size_t size);

/* qsort(3), but what is in order already is only looked at once. */
void fb_array_sort(void *array, size_t count, size_t size,
		   int (*compare)(const void *a, const void *b));

/*
 * Strict numbers: the whole string must be one unsigned number, no sign, no
 * space, base 10 (fb_parse_u64) or `base` (fb_parse_base; 16 takes an optional
 * 0x). 0, -EINVAL (not a number), -ERANGE (does not fit).
 */
int fb_parse_u64(const char *text, uint64_t *value);
int fb_parse_base(const char *text, int base, uint64_t *value);

/*
 * A size as people write it: a whole decimal or 0x-hexadecimal number with an
 * optional suffix K M G T P E (either case, optional "iB"), powers of 1024.
 * 0, -EINVAL, -ERANGE.
 */
int fb_parse_size(const char *text, uint64_t *bytes);

/*
 * A non-negative decimal number of seconds, at most three decimals
 * ("0.25", "30"), to microseconds. 0, -EINVAL, -ERANGE.
 */
int fb_parse_seconds(const char *text, uint64_t *usec);

#define FB_SIZE_TEXT_MAX 32

/*
 * `bytes` for people: "2 GiB", "1,920 MiB", "12.5 MiB", "17 B"; exact where
 * it divides, else one decimal. Writes to buf, returns buf.
 */
char *fb_size_text(uint64_t bytes, char buf[FB_SIZE_TEXT_MAX]);

/*
 * Make the bytes printable on a terminal and in a log: everything outside
 * 0x20..0x7e and the backslash becomes \ooo. The result is malloc'ed, NULL
 * when memory is out.
 */
char *fb_escape(const char *bytes, size_t length);

/* A uuid's 16 bytes as text with dashes, lower case, and a NUL. */
#define FB_UUID_TEXT_SIZE 37

void fb_uuid_text(const uint8_t uuid[16], char text[FB_UUID_TEXT_SIZE]);

/* The other way: only 36 characters of that form. -EINVAL. */
int fb_uuid_parse(const char *text, uint8_t uuid[16]);

/* printf to a new string: malloc'ed, NULL when memory is out. */
char *fb_asprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
