/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "cmd/lazystatus.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"

#define STATUS_PATH FB_LAZYSTATUS_DIR "/restore.json"
#define NEW_PATH    FB_LAZYSTATUS_DIR "/restore.json.new"
#define LOCK_PATH   FB_LAZYSTATUS_DIR "/restore.lock"

static const char *const names[] = {
	[FB_LAZY_NONE] = "none",       [FB_LAZY_FILLING] = "filling",
	[FB_LAZY_STOPPED] = "stopped", [FB_LAZY_DONE] = "done",
	[FB_LAZY_DAMAGED] = "damaged",
};

/* ---- the lock ---------------------------------------------------------------------
 */

int fb_lazystatus_lock(struct fb_err *err)
{
	int fd;

	if (mkdir(FB_LAZYSTATUS_DIR, 0755) && errno != EEXIST)
		return fb_err_sys(err, errno, "cannot make %s", FB_LAZYSTATUS_DIR);
	/* Never closed. */
	fd = open(LOCK_PATH, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return fb_err_sys(err, errno, "cannot open %s", LOCK_PATH);
	if (!flock(fd, LOCK_EX | LOCK_NB))
		return 0;
	close(fd);
	return fb_err_set(err, EBUSY,
			  "a lazy restore is going on already: `fastboot status` shows "
			  "what is left");
}

static bool is_alive(void)
{
	fb_autoclose int fd = open(LOCK_PATH, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
}

/* ---- reading and writing
 * ------------------------------------------------------------- */

static uint64_t number(struct json_object *o, const char *key)
{
	return json_object_get_uint64(json_object_object_get(o, key));
}

static enum fb_lazystate state_of(struct json_object *o)
{
	const char *text = json_object_get_string(json_object_object_get(o, "state"));

	for (size_t i = 0; text && i < FB_ARRAY_SIZE(names); i++)
		if (!strcmp(text, names[i]))
			return (enum fb_lazystate)i;
	return FB_LAZY_NONE;
}

static void read_uuid(struct json_object *o, uint8_t uuid[16])
{
	const char *text = json_object_get_string(json_object_object_get(o, "image"));

	for (size_t i = 0; text && i < 16 && strlen(text) == 32; i++)
		sscanf(text + 2 * i, "%2hhx", &uuid[i]);
}

void fb_lazystatus_read(struct fb_lazystatus *s)
{
	/* First: one that ends meanwhile has written its last word. */
	bool alive = is_alive();
	struct json_object *o;
	const char *from;

	memset(s, 0, sizeof(*s));
	/* json-c's way to say that there is none takes 5 ms in a new machine. */
	o = access(STATUS_PATH, F_OK) ? NULL : json_object_from_file(STATUS_PATH);
	if (!o)
		return;
	s->state = state_of(o);
	if (s->state == FB_LAZY_FILLING && !alive)
		s->state = FB_LAZY_STOPPED;
	read_uuid(o, s->image);
	s->consume = json_object_get_boolean(json_object_object_get(o, "consume"));
	s->files = number(o, "files");
	s->files_left = number(o, "files_left");
	s->bytes = number(o, "bytes");
	s->bytes_left = number(o, "bytes_left");
	s->rate = number(o, "bytes_per_second");
	s->elapsed_usec = number(o, "elapsed_usec");
	s->deaths = number(o, "worker_deaths");
	s->full = json_object_get_boolean(json_object_object_get(o, "full"));
	s->keeper = json_object_get_int(json_object_object_get(o, "keeper"));
	s->worker = json_object_get_int(json_object_object_get(o, "worker"));
	from = json_object_get_string(json_object_object_get(o, "from"));
	snprintf(s->from, sizeof(s->from), "%s", from ? from : "");
	s->damaged = json_object_get(json_object_object_get(o, "damaged"));
	json_object_put(o);
}

void fb_lazystatus_free(struct fb_lazystatus *status)
{
	json_object_put(status->damaged);
	status->damaged = NULL;
}

struct json_object *fb_lazystatus_json(const struct fb_lazystatus *s)
{
	struct json_object *o;
	char uuid[33];

	if (s->state == FB_LAZY_NONE)
		return NULL;
	o = json_object_new_object();
	for (size_t i = 0; i < 16; i++)
		snprintf(uuid + 2 * i, 3, "%02x", s->image[i]);
	json_object_object_add(o, "mode", json_object_new_string("lazy"));
	json_object_object_add(o, "state", json_object_new_string(names[s->state]));
	json_object_object_add(o, "from", json_object_new_string(s->from));
	json_object_object_add(o, "image", json_object_new_string(uuid));
	json_object_object_add(o, "consume", json_object_new_boolean(s->consume));
	fb_json_number(o, "files", s->files);
	fb_json_number(o, "files_left", s->files_left);
	fb_json_number(o, "bytes", s->bytes);
	fb_json_number(o, "bytes_left", s->bytes_left);
	fb_json_number(o, "bytes_per_second", s->rate);
	fb_json_number(o, "elapsed_usec", s->elapsed_usec);
	fb_json_number(o, "worker_deaths", s->deaths);
	json_object_object_add(o, "full", json_object_new_boolean(s->full));
	json_object_object_add(o, "keeper", json_object_new_int(s->keeper));
	json_object_object_add(o, "worker", json_object_new_int(s->worker));
	json_object_object_add(o, "damaged",
			       s->damaged ? json_object_get(s->damaged)
					  : json_object_new_array());
	return o;
}

int fb_lazystatus_write(const struct fb_lazystatus *status, struct fb_err *err)
{
	struct json_object *o = fb_lazystatus_json(status);
	int rc = 0;

	if (o && (json_object_to_file_ext(NEW_PATH, o, JSON_C_TO_STRING_PLAIN) ||
		  rename(NEW_PATH, STATUS_PATH)))
		rc = fb_err_sys(err, errno ? errno : EIO, "cannot write %s",
				STATUS_PATH);
	json_object_put(o);
	return rc;
}

/* ---- text ------------------------------------------------------------------------ */

static void say_left(const struct fb_context *ctx, const struct fb_lazystatus *s)
{
	char left[FB_SIZE_TEXT_MAX], all[FB_SIZE_TEXT_MAX], rate[FB_SIZE_TEXT_MAX];

	fb_size_text(s->bytes_left, left);
	fb_size_text(s->bytes, all);
	if (s->state == FB_LAZY_FILLING)
		fb_say(ctx,
		       "restore    lazy, from %s: %s of %s left in %" PRIu64
		       " files, %s/s%s (pid %d)",
		       s->from, left, all, s->files_left, fb_size_text(s->rate, rate),
		       s->full ? ", waits for room in the file system" : "", s->keeper);
	else
		fb_say(ctx,
		       "restore    lazy, from %s: STOPPED, %s of %s were left in "
		       "%" PRIu64
		       " files, which read as zeros; the same `fastboot restore "
		       "--mode lazy` again fills them",
		       s->from, left, all, s->files_left);
}

void fb_lazystatus_say(const struct fb_context *ctx, const struct fb_lazystatus *s)
{
	size_t damaged = s->damaged ? json_object_array_length(s->damaged) : 0;

	if (s->state == FB_LAZY_FILLING || s->state == FB_LAZY_STOPPED)
		say_left(ctx, s);
	else if (s->state != FB_LAZY_NONE)
		fb_say(ctx, "restore    lazy, from %s: %s after %.3f s", s->from,
		       damaged ? "all but damaged files filled" : "done",
		       (double)s->elapsed_usec / 1e6);
	for (size_t i = 0; i < damaged; i++)
		fb_say(ctx, "           '%s' is damaged and is withheld",
		       json_object_get_string(
			       json_object_array_get_idx(s->damaged, i)));
}
