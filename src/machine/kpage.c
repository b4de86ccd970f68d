/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/kpage.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "base/util.h"
#include "machine/clock.h"

#define KPAGEFLAGS     "/proc/kpageflags"
#define PAGEMAP_CHUNK  4096u
#define PAGEMAP_HERE   ((uint64_t)1 << 63)
#define PAGEMAP_PFN    (((uint64_t)1 << 55) - 1)
#define OWNERS_AT_MOST 3

uint64_t fb_kpage_size(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

bool fb_kpage_available(const struct fb_sys *sys)
{
	return fb_sys_exists(sys, KPAGEFLAGS);
}

int fb_kpage_flags(const struct fb_sys *sys, uint64_t first, size_t count,
		   uint64_t *flags, struct fb_err *err)
{
	fb_autoclose int fd = -1;
	char path[PATH_MAX];
	size_t done = 0, size = count * sizeof(*flags);

	snprintf(path, sizeof(path), "%s%s", sys->root, KPAGEFLAGS);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fb_err_sys(err, errno, "cannot open %s", path);
	while (done < size) {
		ssize_t n = pread(fd, (char *)flags + done, size - done,
				  (off_t)(first * sizeof(*flags) + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fb_err_sys(err, errno, "cannot read %s", path);
		if (n == 0)
			return fb_err_sys(err, ENXIO, "%s, page frame %" PRIu64, path,
					  first + done / sizeof(*flags));
		done += (size_t)n;
	}
	return 0;
}

/* ---- who maps a page ------------------------------------------------- */

struct search {
	const uint64_t *pfns;
	size_t count;
	uint64_t until_usec;
};

static bool out_of_time(const struct search *s)
{
	return fb_clock_usec() >= s->until_usec;
}

static bool wanted(const struct search *s, uint64_t entry)
{
	uint64_t pfn = entry & PAGEMAP_PFN;
	size_t low = 0, high = s->count;

	if (!(entry & PAGEMAP_HERE) || pfn < s->pfns[0] || pfn > s->pfns[s->count - 1])
		return false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (s->pfns[middle] == pfn)
			return true;
		if (s->pfns[middle] < pfn)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

static bool mapping_has(const struct search *s, int pagemap, uint64_t start,
			uint64_t end)
{
	uint64_t page = fb_kpage_size(), entries[PAGEMAP_CHUNK];

	for (uint64_t at = start / page; at < end / page; at += PAGEMAP_CHUNK) {
		size_t want = PAGEMAP_CHUNK;
		ssize_t n;

		if (end / page - at < want)
			want = (size_t)(end / page - at);
		n = pread(pagemap, entries, want * sizeof(*entries),
			  (off_t)(at * sizeof(*entries)));
		if (n <= 0 || out_of_time(s))
			return false;
		for (size_t i = 0; i < (size_t)n / sizeof(*entries); i++)
			if (wanted(s, entries[i]))
				return true;
	}
	return false;
}

static bool process_has(const struct search *s, const char *pid)
{
	fb_autoclose int pagemap = -1;
	fb_autofclose FILE *maps = NULL;
	char path[64], line[512];
	uint64_t start, end;

	snprintf(path, sizeof(path), "/proc/%.20s/pagemap", pid);
	pagemap = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%.20s/maps", pid);
	maps = fopen(path, "re");
	if (pagemap < 0 || !maps)
		return false;
	while (fgets(line, sizeof(line), maps) && !out_of_time(s))
		if (sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2 &&
		    mapping_has(s, pagemap, start, end))
			return true;
	return false;
}

static void append_owner(const char *pid, char *text, size_t size)
{
	static const struct fb_sys live = { "" };
	size_t used = strlen(text);
	char path[64], name[64];

	snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
	if (fb_sys_attr_read(&live, path, name, sizeof(name), NULL))
		return;
	snprintf(text + used, size - used, "%s%s (pid %.20s)", used ? ", " : "", name,
		 pid);
}

void fb_kpage_owners(const uint64_t *pfns, size_t count, uint64_t budget_usec,
		     char *text, size_t size)
{
	static const struct fb_sys live = { "" };
	struct search s = { pfns, count, fb_clock_usec() + budget_usec };
	unsigned int found = 0;
	char **names;

	text[0] = '\0';
	if (!count || fb_sys_list(&live, "/proc", &names, NULL))
		return;
	for (char **n = names; *n && found < OWNERS_AT_MOST && !out_of_time(&s); n++) {
		uint64_t pid;

		if (fb_parse_u64(*n, &pid) || pid == (uint64_t)getpid() ||
		    !process_has(&s, *n))
			continue;
		append_owner(*n, text, size);
		found++;
	}
	fb_sys_list_free(names);
}
