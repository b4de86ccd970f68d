/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/kexec_tools.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/util.h"
#include "machine/arch.h"
#include "machine/iomem.h"
#include "machine/kexec.h"
#include "machine/kexec_ahead.h"
#include "machine/run.h"

/* What kexec-tools puts beside kernel and initrd, and what alignment costs. */
#define ROOM_BESIDE (32 * FB_MIB)
#define STEP	    (2 * FB_MIB)

/* ---- where it is --------------------------------------------------------- */

bool fb_kexec_tools_find(const struct fb_sys *sys, char *path, size_t size)
{
	const char *list = getenv("PATH");
	fb_autofree char *dirs =
		fb_asprintf("%s:/usr/sbin:/sbin", list ? list : "/usr/bin");
	char *rest = dirs, *dir;

	while (dirs && (dir = strsep(&rest, ":"))) {
		int n = snprintf(path, size, "%s/kexec", dir);

		if (dir[0] == '/' && n > 0 && (size_t)n < size &&
		    fb_sys_exists(sys, path))
			return true;
	}
	path[0] = '\0';
	return false;
}

/* What is left of the RAM on either side of the region, which may be in it: one
 * that the next kernel will be the first to have. */
static void parts_beside(struct fb_range ram, struct fb_range region,
			 struct fb_range *below, struct fb_range *above)
{
	struct fb_range in = fb_range_intersect(ram, region);

	*below = ram;
	*above = (struct fb_range){ 0, 0 };
	if (!in.size)
		return;
	below->size = in.start - ram.start;
	above->start = fb_range_end(in);
	above->size = ram.size - below->size - in.size;
}

static void take_larger(struct fb_range part, struct fb_range *best)
{
	if (part.size > best->size)
		*best = part;
}

int fb_kexec_tools_window(const struct fb_iomem *iomem, struct fb_range region,
			  uint64_t enough, struct fb_range *window, struct fb_err *err)
{
	static const struct fb_range below_4g = { 0, 4 * FB_GIB };
	struct fb_range best = { 0, 0 }, low = { 0, 0 };

	for (size_t i = 0; i < iomem->count; i++) {
		const struct fb_iomem_entry *e = &iomem->entries[i];
		struct fb_range below, above;

		if (e->depth || strcmp(e->name, FB_IOMEM_RAM))
			continue;
		parts_beside(e->range, region, &below, &above);
		take_larger(below, &best);
		take_larger(above, &best);
		take_larger(fb_range_intersect(below, below_4g), &low);
		take_larger(fb_range_intersect(above, below_4g), &low);
	}
	if (!best.size)
		return fb_err_set(
			err, ENOENT,
			"/proc/iomem has no System RAM outside of the region");
	low.start += low.size / 2;
	low.size -= low.size / 2;
	*window = enough && low.size >= enough ? low : best;
	return 0;
}

struct fb_range fb_kexec_tools_shift(struct fb_range window, uint64_t enough,
				     uint64_t random)
{
	uint64_t steps = window.size > enough ? (window.size - enough) / STEP : 0;

	window.size -= random % (steps + 1) * STEP;
	return window;
}

/* ---- what it says -------------------------------------------------------- */

static const char *next_line(const char *line)
{
	const char *end = strchrnul(line, '\n');

	return *end ? end + 1 : end;
}

/* "segment[2].mem   = 0x7c600000", the four lines of each in their order. */
static bool read_field(const char *line, const char *field, uint64_t *value)
{
	char name[16], rest[2];
	unsigned int i;
	uint64_t v;

	if (sscanf(line, "segment[%u].%15[a-z] = %" SCNx64 "%1[^\n]", &i, name, &v,
		   rest) != 3 ||
	    strcmp(name, field))
		return false;
	*value = v;
	return true;
}

int fb_kexec_tools_prove(const char *output, struct fb_range region,
			 unsigned int *count, struct fb_err *err)
{
	unsigned int expected = 0, found = 0;
	struct fb_range segment = { 0, 0 };
	int rc;

	for (const char *line = output; *line; line = next_line(line)) {
		sscanf(line, "nr_segments = %u", &expected);
		if (read_field(line, "mem", &segment.start) ||
		    !read_field(line, "memsz", &segment.size))
			continue;
		rc = fb_kexec_segment_check(segment, region, err);
		if (rc)
			return rc;
		found++;
	}
	if (!found || found != expected)
		return fb_err_set(err, EFAULT,
				  "kexec-tools does not say where it puts the next "
				  "kernel: %u of %u segments",
				  found, expected);
	*count = found;
	return 0;
}

/* The kernel's answer; else the program's own complaint, its last line. */
static int explain(const char *program, const char *output, struct fb_err *err)
{
	static const int known[] = {
		EPERM, EACCES, ENOSYS, EBUSY, ENOMEM, EADDRNOTAVAIL
	};
	static const char failed[] = "kexec_load failed: ";
	const char *said = strstr(output, failed), *line = output;

	for (size_t i = 0; said && i < FB_ARRAY_SIZE(known); i++) {
		const char *text = strerrordesc_np(known[i]);

		if (!strncmp(said + strlen(failed), text, strlen(text)))
			return fb_err_sys(err, known[i], "%s: kexec_load", program);
	}
	for (const char *l = output; !said && *l; l = next_line(l))
		if (*l != '\n')
			line = l;
	if (said)
		line = said;
	return fb_err_set(err, EIO, "%s failed: %.*s", program,
			  (int)strcspn(line, "\n"), line);
}

/* ---- running it ---------------------------------------------------------- */

static uint64_t size_of(const char *path)
{
	struct stat st;

	return path && !stat(path, &st) ? (uint64_t)st.st_size : 0;
}

static int find_window(const struct fb_sys *sys, const struct fb_kexec_request *r,
		       const struct fb_kexec_ahead *ahead, struct fb_range *window,
		       struct fb_err *err)
{
	/* Decompressed, a kernel is three to six times as large. */
	uint64_t kernel = ahead->fd >= 0 ? ahead->bytes : 8 * size_of(r->kernel);
	uint64_t enough = kernel + 2 * size_of(r->initrd) + ROOM_BESIDE;
	struct fb_iomem iomem = { NULL, 0 };
	int rc = fb_iomem_read(sys, &iomem, err);

	if (!rc)
		rc = fb_kexec_tools_window(&iomem, r->region,
					   fb_arch_is_arm64(sys) ? 0 : enough, window,
					   err);
	if (!rc && ahead->random)
		*window = fb_kexec_tools_shift(*window, enough, ahead->random);
	fb_iomem_free(&iomem);
	return rc;
}

static int run(const struct fb_kexec_request *r, const char *kernel,
	       const struct fb_range *window, char **output, int *status,
	       struct fb_err *err)
{
	fb_autofree char *line = fb_asprintf("--command-line=%s", r->command_line);
	fb_autofree char *initrd =
		fb_asprintf("--initrd=%s", r->initrd ? r->initrd : "");
	fb_autofree char *dtb = fb_asprintf("--dtb=%s", r->dtb ? r->dtb : "");
	char min[40], max[40];
	char *argv[16];
	int n = 0;

	if (!line || !initrd || !dtb)
		return fb_err_sys(err, ENOMEM, "%s", r->tools);
	argv[n++] = (char *)r->tools;
	argv[n++] = (char *)"-d"; /* the segments */
	argv[n++] = (char *)"-c"; /* kexec_load */
	argv[n++] = (char *)"-i"; /* no digest */
	argv[n++] = (char *)"-l";
	argv[n++] = line;
	if (r->initrd)
		argv[n++] = initrd;
	if (r->dtb)
		argv[n++] = dtb;
	if (window->size) {
		snprintf(min, sizeof(min), "--mem-min=0x%" PRIx64, window->start);
		snprintf(max, sizeof(max), "--mem-max=0x%" PRIx64,
			 fb_range_last(*window));
		argv[n++] = min;
		argv[n++] = max;
	}
	argv[n++] = (char *)"--";
	argv[n++] = (char *)kernel;
	argv[n] = NULL;
	return fb_run_output(argv, output, status, err);
}

static int load(const struct fb_sys *sys, const struct fb_kexec_request *r,
		const struct fb_kexec_ahead *ahead, unsigned int *segments,
		struct fb_err *err)
{
	struct fb_range window = { 0, 0 };
	char in_memory[64]; /* the program does not inherit it */
	fb_autofree char *output = NULL;
	int status = 0, rc = 0;

	snprintf(in_memory, sizeof(in_memory), "/proc/%d/fd/%d", (int)getpid(), ahead->fd);
	if (r->region.size)
		rc = find_window(sys, r, ahead, &window, err);
	if (!rc)
		rc = run(r, ahead->fd >= 0 ? in_memory : r->kernel, &window, &output,
			 &status, err);
	if (rc)
		return rc;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return explain(r->tools, output, err);
	*segments = 0;
	return r->region.size ? fb_kexec_tools_prove(output, r->region, segments, err)
			      : 0;
}

int fb_kexec_tools_load(const struct fb_sys *sys, const struct fb_kexec_request *r,
			struct fb_kexec_ahead *ahead, unsigned int *segments,
			struct fb_err *err)
{
	int rc = load(sys, r, ahead, segments, err);

	/* It is larger so, and what takes the file may not take this. */
	if (ahead->fd < 0 || (rc != -EIO && rc != -ENOMEM && rc != -EADDRNOTAVAIL))
		return rc;
	fb_kexec_ahead_free(ahead);
	snprintf(ahead->why, sizeof(ahead->why), "it could not be loaded decompressed");
	return load(sys, r, ahead, segments, err);
}
