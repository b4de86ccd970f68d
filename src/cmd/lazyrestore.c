/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "cmd/lazyrestore.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/util.h"
#include "cmd/hugepages.h"
#include "cmd/lazystatus.h"
#include "engine/lazy.h"
#include "engine/state.h"
#include "engine/timeline_kernel.h"
#include "machine/clock.h"
#include "machine/kmsg.h"

/* How often /run/fastboot/restore.json is written. */
#define STATUS_USEC 300000

/* Everything of the process that fills. */
struct filler {
	const struct fb_restore *job;
	struct fb_lazy *lazy;
	struct fb_state_restore *restore; /* NULL: one that goes on */
	/*
	 * By inode: its turn to be filled when the tree stands, from 1; 0: it is
	 * filled before, or has no data.
	 */
	uint32_t *place;
	struct fb_lazystatus status;
	int log;
	struct fb_origin timeline; /* no stamps: it was begun */
	uint64_t started_usec, written_usec;
};

/* What it says to the command, once. */
struct message {
	int rc;
	struct fb_err err;
	struct fb_lazyrestore_result result;
};

static const struct fb_tree *tree_of(const struct filler *f)
{
	return &f->job->image->tree;
}

/* Of an inode, printable; malloc'ed. */
static char *shown_path(const struct fb_tree *tree, uint32_t inode)
{
	fb_autofree char *path = fb_tree_path(tree, inode);

	return path ? fb_escape(path, strlen(path)) : NULL;
}

/* ---- which files, and in which order
 * ------------------------------------------------- */

struct candidate {
	uint32_t inode;
	uint32_t runs; /* of its data */
	int priority;
	size_t order; /* by where its data begins in the image */
	uint64_t bytes;
};

struct candidates {
	struct candidate *list; /* owned */
	size_t count;
	size_t later; /* the first so many are filled when the tree stands */
};

static int priority_of(const struct filler *f, const struct fb_tree_state *state)
{
	const struct fb_config *c = &f->job->ctx->config;

	for (size_t i = 0; i < c->state_count; i++)
		if (!strcmp(c->states[i].path, state->path))
			return c->states[i].priority;
	return 0;
}

static uint64_t data_bytes(const struct fb_inode *inode)
{
	uint64_t bytes = 0;

	for (size_t e = 0; e < inode->extent_count; e++)
		bytes += inode->extents[e].length;
	return bytes;
}

static int larger_first(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : 0;
}

static int sooner_first(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->priority != y->priority)
		return x->priority < y->priority ? 1 : -1;
	return x->order < y->order ? -1 : x->order > y->order;
}

/*
 * By inode: which of the chosen states it lies in, as an index of job->states
 * plus 1; 0: in none. A directory's number is higher than its parent's.
 */
static uint32_t *find_states(const struct fb_restore *job)
{
	const struct fb_tree *tree = &job->image->tree;
	uint32_t *states = calloc(tree->inode_count + 1, sizeof(*states));

	for (size_t i = 0; states && i < job->count; i++)
		states[job->inodes[i]] = (uint32_t)i + 1;
	for (size_t i = 0; states && i < tree->inode_count; i++) {
		const struct fb_inode *in = &tree->inodes[i];

		for (size_t e = 0; states[i] && e < in->entry_count; e++)
			if (!states[in->entries[e].inode])
				states[in->entries[e].inode] = states[i];
	}
	return states;
}

/* In the order of their data, which is that of the image's runs. */
static int find_candidates(const struct filler *f, struct candidates *c)
{
	const struct fb_image *image = f->job->image;
	fb_autofree uint32_t *states = find_states(f->job);
	fb_autofree uint32_t *at = calloc(image->tree.inode_count + 1, sizeof(*at));

	c->list = calloc(image->run_count + 1, sizeof(*c->list));
	if (!states || !at || !c->list)
		return -ENOMEM;
	for (size_t i = 0; i < image->run_count; i++) {
		uint32_t inode = image->runs[i].inode;

		if (!states[inode])
			continue;
		if (!at[inode]) {
			size_t state = f->job->states[states[inode] - 1];

			c->list[c->count] = (struct candidate){
				.inode = inode,
				.priority = priority_of(f, &image->tree.states[state]),
				.order = c->count,
				.bytes = data_bytes(&image->tree.inodes[inode]),
			};
			at[inode] = (uint32_t)++c->count;
		}
		c->list[at[inode] - 1].runs++;
	}
	return 0;
}

/* The largest ones wait, as many as there can be; the others are filled now. */
static int choose(struct filler *f, struct candidates *c, size_t capacity)
{
	if (find_candidates(f, c))
		return -ENOMEM;
	c->later = c->count < capacity ? c->count : capacity;
	if (c->later < c->count)
		qsort(c->list, c->count, sizeof(*c->list), larger_first);
	/* Of a million files in the right order none need be moved. */
	fb_array_sort(c->list, c->later, sizeof(*c->list), sooner_first);
	for (size_t i = 0; i < c->later; i++)
		f->place[c->list[i].inode] = (uint32_t)i + 1;
	return 0;
}

/*
 * Which files are made on all cores: those with one name, unless they are
 * filled before and have more than one piece to fill.
 */
static uint8_t *find_late(const struct filler *f, const struct candidates *c)
{
	const struct fb_tree *tree = tree_of(f);
	uint8_t *late = calloc(tree->inode_count + 1, 1);

	for (size_t i = 0; late && i < tree->inode_count; i++)
		late[i] = S_ISREG(tree->inodes[i].mode) && tree->inodes[i].nlink == 1;
	for (size_t i = c->later; late && i < c->count; i++)
		late[c->list[i].inode] &= c->list[i].runs == 1;
	return late;
}

/* ---- holding back
 * --------------------------------------------------------------------- */

static int hold(struct filler *f, int fd, uint32_t inode, const struct stat *st,
		struct fb_err *err)
{
	struct fb_lazy_file file = {
		.fd = fd,
		.dev = st->st_dev,
		.ino = st->st_ino,
		.bytes = data_bytes(&tree_of(f)->inodes[inode]),
		.mark = { .inode = inode },
	};

	memcpy(file.mark.image, f->status.image, sizeof(file.mark.image));
	return fb_lazy_add(f->lazy, f->place[inode] - 1, &file, err);
}

static int take(void *context, uint32_t inode, int fd, const struct stat *st,
		struct fb_err *err)
{
	struct filler *f = context;

	if (f->place[inode])
		return hold(f, fd, inode, st, err);
	/* It has no data. */
	close(fd);
	return 0;
}

/* Those with several names were made with the tree. */
static int hold_linked(struct filler *f, const struct candidates *c, struct fb_err *err)
{
	for (size_t i = 0; i < c->later; i++) {
		uint32_t inode = c->list[i].inode;
		struct stat st;
		int fd, rc;

		if (tree_of(f)->inodes[inode].nlink == 1)
			continue;
		fd = fb_state_fill_open(f->restore, inode, err);
		if (fd < 0)
			return fd;
		if (fstat(fd, &st)) {
			close(fd);
			return fb_err_sys(err, errno, "fstat");
		}
		rc = hold(f, fd, inode, &st, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- filling before the tree stands -------------------------------------------------
 */

static bool now_wanted(void *context, uint32_t inode)
{
	const struct filler *f = context;

	return !f->place[inode] && fb_state_made(f->restore, inode);
}

static int now_open(void *context, uint32_t inode, struct fb_err *err)
{
	return fb_state_fill_open(((struct filler *)context)->restore, inode, err);
}

static int now_filled(void *context, uint32_t inode, int fd, struct fb_err *err)
{
	return fb_state_filled(((struct filler *)context)->restore, inode, fd, err);
}

static void note_damaged(struct filler *f, uint32_t inode)
{
	fb_autofree char *text = shown_path(tree_of(f), inode);

	json_object_array_add(f->status.damaged,
			      json_object_new_string(text ? text : "?"));
}

static int now_damaged(void *context, uint32_t inode, const char *why,
		       struct fb_err *err)
{
	struct filler *f = context;
	fb_autofree char *text = shown_path(tree_of(f), inode);

	note_damaged(f, inode);
	fprintf(stderr, "fastboot: '%s' is damaged and is withheld: %s\n",
		text ? text : "?", why);
	return fb_state_withhold(f->restore, inode, err);
}

static int fill_now(struct filler *f, struct fb_err *err)
{
	const struct fb_image_sink sink = {
		.wanted = now_wanted,
		.open = now_open,
		.damaged = now_damaged,
		.filled = now_filled,
		.context = f,
	};

	return fb_image_read_data(f->job->image, &sink, 0, NULL, NULL, err);
}

/* ---- the tree -----------------------------------------------------------------------
 */

/* The nearest directory that is there decides. */
static int check_possible(const struct filler *f, uint32_t inode, struct fb_err *err)
{
	fb_autofree char *shown = shown_path(tree_of(f), inode);
	fb_autofree char *path = fb_tree_path(tree_of(f), inode);

	while (path && shown) {
		fb_autoclose int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd >= 0)
			return fb_lazy_possible(f->lazy, fd, shown, err);
		if (errno != ENOENT || !*path)
			return fb_err_sys(err, errno, "'%s'", shown);
		path[strrchr(path, '/') > path ? strrchr(path, '/') - path : 1] = '\0';
	}
	return fb_err_set(err, ENOMEM, "out of memory");
}

static int stand(struct filler *f, const struct candidates *c, struct fb_err *err)
{
	const struct fb_state_take all = { take, f };
	int rc = c->later < c->count ? fill_now(f, err) : 0;

	if (!rc)
		rc = fb_state_make_late(f->restore, &all, err);
	if (!rc)
		rc = hold_linked(f, c, err);
	if (!rc)
		rc = fb_lazy_guard(f->lazy, err);
	if (!rc)
		rc = fb_state_finish(f->restore, NULL, err);
	return rc ? rc : fb_interrupted(err);
}

static int make_chosen(struct filler *f, const struct candidates *c, struct fb_err *err)
{
	const struct fb_restore *job = f->job;
	fb_autofree uint8_t *late = find_late(f, c);
	int rc = late ? fb_lazy_new(c->later, &f->lazy, err)
		      : fb_err_set(err, ENOMEM, "out of memory");

	for (size_t i = 0; i < job->count && !rc; i++)
		rc = check_possible(f, job->inodes[i], err);
	if (!rc)
		rc = fb_state_create_late(tree_of(f), "/", job->inodes, job->count,
					  late, &f->restore, err);
	if (!rc)
		rc = stand(f, c, err);
	if (!rc)
		return 0;
	fb_lazy_free(fb_steal_ptr(f->lazy));
	if (f->restore)
		fb_state_undo(f->restore, err);
	return rc;
}

static int make_tree(struct filler *f, size_t capacity, struct fb_err *err)
{
	struct candidates c = { NULL, 0, 0 };
	int rc = choose(f, &c, capacity) ? fb_err_set(err, ENOMEM, "out of memory")
					 : make_chosen(f, &c, err);

	free(c.list);
	return rc;
}

/* ---- going on where one was killed
 * ---------------------------------------------------- */

static bool is_same(const struct fb_inode *in, const struct stat *st)
{
	return st->st_mtim.tv_sec == in->mtime_sec &&
	       (uint32_t)st->st_mtim.tv_nsec == in->mtime_nsec;
}

/*
 * Nobody guarded the file meanwhile. A size that is not the recorded one, or
 * contents and another time: it was written to, and stays as it is.
 */
static bool was_changed(const struct fb_inode *in, const struct stat *st)
{
	return (uint64_t)st->st_size != in->size || (st->st_blocks && !is_same(in, st));
}

/* Files that are not filled, by a process before this one. */
struct pending {
	struct filler *f;
	struct pending_file {
		int fd;
		uint32_t inode;
		struct stat st;
	} * list; /* owned */
	size_t count, capacity;
};

static int found(void *context, const char *path, uint32_t inode, struct fb_err *err)
{
	struct pending *p = context;
	struct filler *f = p->f;
	const struct fb_tree *tree = tree_of(f);
	struct pending_file *file;
	fb_autofree char *text = NULL;

	/* A further name of one that was found already. */
	if (inode >= tree->inode_count || !S_ISREG(tree->inodes[inode].mode) ||
	    f->place[inode])
		return 0;
	if (fb_array_grow(&p->list, &p->capacity, p->count + 1, sizeof(*p->list)))
		return fb_err_set(err, ENOMEM, "out of memory");
	file = &p->list[p->count];
	file->inode = inode;
	file->fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
	if (file->fd < 0 || fstat(file->fd, &file->st))
		return fb_err_sys(err, errno, "'%s'", path);
	if (!was_changed(&tree->inodes[inode], &file->st)) {
		f->place[inode] = (uint32_t)++p->count;
		return 0;
	}
	text = shown_path(tree, inode);
	fprintf(stderr,
		"fastboot: '%s' was changed while nothing could fill it: it "
		"stays as it is\n",
		text ? text : "?");
	fremovexattr(file->fd, FB_LAZY_MARK);
	close(file->fd);
	return 0;
}

/* The highest directory of the file system that a state is on. */
static char *top_of(const char *state)
{
	char *path = strdup(state);
	struct stat here, above;

	while (path && !stat(path, &here)) {
		char *slash = strrchr(path, '/'), old;

		if (!slash || !path[1])
			break;
		slash += slash == path;
		old = *slash;
		*slash = '\0';
		if (stat(path, &above) || above.st_dev != here.st_dev) {
			*slash = old;
			break;
		}
	}
	return path;
}

static int find_pending(struct pending *p, struct fb_err *err)
{
	const struct filler *f = p->f;
	const struct fb_restore *job = f->job;
	int rc = 0;

	for (size_t i = 0; i < job->count && !rc; i++) {
		fb_autofree char *top = top_of(tree_of(f)->states[job->states[i]].path);

		rc = top ? fb_lazy_find(top, f->status.image, found, p, err) : -ENOMEM;
	}
	return rc;
}

static int hold_pending(struct pending *p, struct fb_err *err)
{
	struct filler *f = p->f;
	int rc = fb_lazy_new(p->count, &f->lazy, err);

	for (size_t i = 0; i < p->count && !rc; i++)
		rc = hold(f, p->list[i].fd, p->list[i].inode, &p->list[i].st, err);
	return rc ? rc : fb_lazy_guard(f->lazy, err);
}

static int go_on(struct filler *f, struct fb_err *err)
{
	struct pending p = { .f = f };
	int rc = find_pending(&p, err);

	if (!rc)
		rc = hold_pending(&p, err);
	free(p.list);
	if (!rc && !p.count) {
		f->status.consume = false;
		fprintf(stderr,
			"fastboot: warning: no file is left that is not filled; "
			"the image is not marked as used\n");
	}
	return rc;
}

/* ---- the background
 * ------------------------------------------------------------------ */

struct put {
	struct fb_lazy_target *to;
};

static int put(void *context, const void *bytes, uint64_t offset, size_t length,
	       struct fb_err *err)
{
	int rc = fb_lazy_put(((struct put *)context)->to, bytes, offset, length);

	return rc ? fb_err_sys(err, -rc, "filling a file") : 0;
}

static int fill_one(void *context, uint32_t inode, struct fb_lazy_target *to,
		    struct fb_err *err)
{
	const struct filler *f = context;
	struct put p = { to };

	return fb_image_read_to(f->job->image, inode, put, &p, err);
}

static void remove_if(const char *path, const struct stat *file)
{
	struct stat st;

	if (!lstat(path, &st) && st.st_dev == file->st_dev &&
	    st.st_ino == file->st_ino && unlink(path))
		return;
}

/*
 * Its name now, and those it was given; one with yet another name keeps no
 * byte, so that nobody takes zeros for contents.
 */
static void on_damaged(void *context, uint32_t inode, int fd, const char *why)
{
	const struct filler *f = context;
	const struct fb_tree *tree = tree_of(f);
	fb_autofree char *text = shown_path(tree, inode);
	char link[64], path[4096];
	ssize_t n;
	struct stat st;

	fb_kmsg_say(f->log, 3, "fastboot: '%s' is damaged and is withheld: %s",
		    text ? text : "?", why);
	if (fstat(fd, &st))
		return;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	remove_if(path, &st);
	for (uint32_t d = 0; d < tree->inode_count && !fstat(fd, &st) && st.st_nlink;
	     d++)
		for (size_t e = 0; e < tree->inodes[d].entry_count; e++) {
			fb_autofree char *dir = NULL, *name = NULL;

			if (tree->inodes[d].entries[e].inode != inode)
				continue;
			dir = fb_tree_path(tree, d);
			name = dir ? fb_asprintf("%s/%s", dir,
						 tree->inodes[d].entries[e].name)
				   : NULL;
			if (name)
				remove_if(name, &st);
		}
	if (!fstat(fd, &st) && st.st_nlink && ftruncate(fd, 0))
		return;
}

static void update(struct filler *f, const struct fb_lazy_progress *p)
{
	struct fb_lazystatus *s = &f->status;

	s->elapsed_usec = fb_clock_usec() - f->started_usec;
	s->files = p->files;
	s->files_left = p->files_left;
	s->bytes = p->bytes;
	s->bytes_left = p->bytes_left;
	s->rate = s->elapsed_usec
			  ? (p->bytes - p->bytes_left) * 1000000 / s->elapsed_usec
			  : 0;
	s->deaths = p->deaths;
	s->full = p->full;
	s->keeper = p->keeper;
	s->worker = p->worker;
}

static void begin_timeline(struct filler *f)
{
	if (!f->timeline.stamp_count)
		return;
	fb_timeline_begin(FB_TIMELINE_PATH, &f->job->image->header, &f->timeline, NULL);
	f->timeline.stamp_count = 0;
}

static void stamp_visible(struct filler *f)
{
	if (f->job->timeline) {
		f->timeline = *f->job->timeline;
		fb_timeline_stamp(&f->timeline, FB_PHASE_VISIBLE);
	} else if (f->job->region) {
		fb_timeline_append(FB_TIMELINE_PATH, FB_PHASE_VISIBLE);
	}
}

static void on_tick(void *context, const struct fb_lazy_progress *progress)
{
	struct filler *f = context;
	uint64_t now = fb_clock_usec();

	begin_timeline(f);
	if (now - f->written_usec < STATUS_USEC)
		return;
	f->written_usec = now;
	update(f, progress);
	fb_lazystatus_write(&f->status, NULL);
}

static void consume(const struct filler *f)
{
	struct fb_err err = FB_ERR_INIT;

	if (fb_image_mark_consumed(f->job->image->store, &err))
		fb_kmsg_say(f->log, 3,
			    "fastboot: the state is restored, but its image could not "
			    "be marked as used: %s",
			    err.text);
	else
		fb_timeline_append(FB_TIMELINE_PATH, FB_PHASE_CONSUMED);
}

/* All is filled: the last word in the log and in the status. */
static void conclude(struct filler *f)
{
	const struct fb_restore *job = f->job;
	struct fb_lazy_progress progress;
	struct fb_err err = FB_ERR_INIT;
	bool damaged;
	uint32_t inode;

	for (size_t i = 0; fb_lazy_nth(f->lazy, i, &inode, &damaged); i++)
		if (damaged)
			note_damaged(f, inode);
	fb_lazy_progress(f->lazy, &progress);
	begin_timeline(f);
	update(f, &progress);
	f->status.state = json_object_array_length(f->status.damaged) ? FB_LAZY_DAMAGED
								      : FB_LAZY_DONE;
	if (job->region)
		fb_timeline_append(FB_TIMELINE_PATH, FB_PHASE_DRAINED);
	if (f->status.state == FB_LAZY_DONE && f->status.consume)
		consume(f);
	fb_kmsg_say(f->log, 6,
		    "fastboot: lazy restore from %s done after %.3f s, %zu "
		    "damaged files",
		    f->status.from, (double)f->status.elapsed_usec / 1e6,
		    json_object_array_length(f->status.damaged));
	if (fb_lazystatus_write(&f->status, &err))
		fb_kmsg_say(f->log, 3, "fastboot: %s", err.text);
	if (job->region)
		fb_timeline_append_log(FB_TIMELINE_PATH);
}

/* ---- the process ------------------------------------------------------------------
 */

static void detach(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* It ends by itself, soon: stopping it would leave holes. */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	for (int fd = 0; fd <= 2 && null >= 0; fd++)
		dup2(null, fd);
	if (chdir("/"))
		return;
}

static void spare_from_oom(void)
{
	fb_autoclose int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, "-1000", 5) < 0)
		return;
}

static int report(struct filler *f, struct fb_err *err)
{
	struct fb_lazy_progress progress;

	fb_lazy_progress(f->lazy, &progress);
	update(f, &progress);
	f->status.keeper = (int)getpid();
	return fb_lazystatus_write(&f->status, err);
}

static int prepare(struct filler *f, bool *resumed, struct fb_err *err)
{
	struct fb_lazystatus last;
	size_t capacity;
	int rc = fb_lazystatus_lock(err);

	if (rc)
		return rc;
	fb_lazystatus_read(&last);
	/* Alive is only this process: it holds the lock. */
	*resumed = last.state == FB_LAZY_FILLING &&
		   !memcmp(last.image, f->status.image, sizeof(last.image));
	fb_lazystatus_free(&last);
	capacity = fb_lazy_capacity();
	f->place = calloc(tree_of(f)->inode_count, sizeof(*f->place));
	f->log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (!f->place)
		return fb_err_set(err, ENOMEM, "out of memory");
	rc = *resumed ? go_on(f, err) : make_tree(f, capacity, err);
	if (rc || f->job->timeline)
		return rc;
	return report(f, err);
}

/* On its own from here on. */
static void settle(const struct filler *f)
{
	spare_from_oom();
	if (f->job->region)
		fb_lock_hand_over(
			"a lazy restore, `fastboot status` shows what is left");
	detach();
}

static void run_filler(const struct fb_restore *job, int to)
{
	struct filler f = { .job = job, .log = -1, .started_usec = fb_clock_usec() };
	const struct fb_lazy_work work = {
		.fill = fill_one,
		.damaged = on_damaged,
		.tick = on_tick,
		.context = &f,
	};
	struct message m = { 0, FB_ERR_INIT, { .pid = (int)getpid() } };
	struct fb_lazy_progress progress;

	f.status.state = FB_LAZY_FILLING;
	f.status.consume = fb_restore_consumes(job);
	f.status.damaged = json_object_new_array();
	memcpy(f.status.image, job->image->header.origin.uuid, sizeof(f.status.image));
	snprintf(f.status.from, sizeof(f.status.from), "%s", job->image->store->name);
	m.rc = prepare(&f, &m.result.resumed, &m.err);
	if (!m.rc) {
		stamp_visible(&f);
		fb_lazy_progress(f.lazy, &progress);
		m.result.files = progress.files;
		m.result.bytes = progress.bytes;
		if (!job->timeline)
			settle(&f);
	}
	m.result.visible_usec = fb_clock_usec() - f.started_usec;
	if (write(to, &m, sizeof(m)) != sizeof(m) || m.rc)
		return;
	close(to);
	if (job->timeline) {
		settle(&f);
		if (report(&f, &m.err))
			fb_kmsg_say(f.log, 3, "fastboot: %s", m.err.text);
	}
	if (!fb_lazy_run(f.lazy, &work, &m.err))
		conclude(&f);
	else
		fb_kmsg_say(f.log, 3, "fastboot: %s", m.err.text);
}

/* A signal to the command is one to the process while it makes the tree. */
static int wait_for(int from, pid_t child, struct message *m, struct fb_err *err)
{
	ssize_t n;

	do {
		n = read(from, m, sizeof(*m));
		if (n < 0 && errno == EINTR)
			kill(child, SIGTERM);
	} while (n < 0 && errno == EINTR);
	if (n != sizeof(*m))
		return fb_err_exit(err, FB_EXIT_UNDO, ECHILD,
				   "the process that restores died: remove what there "
				   "is of the tree");
	if (m->rc)
		*err = m->err;
	return m->rc;
}

static int start(const struct fb_restore *job, struct fb_lazyrestore_result *result,
		 struct fb_err *err)
{
	struct message m;
	pid_t child;
	int fds[2], rc;

	fflush(NULL);
	if (pipe2(fds, O_CLOEXEC))
		return fb_err_sys(err, errno, "pipe");
	child = fork();
	if (child < 0)
		return fb_err_sys(err, errno, "fork");
	if (!child) {
		close(fds[0]);
		setsid();
		run_filler(job, fds[1]);
		_exit(0);
	}
	close(fds[1]);
	rc = wait_for(fds[0], child, &m, err);
	close(fds[0]);
	if (!rc)
		*result = m.result;
	return rc;
}

int fb_lazyrestore(const struct fb_restore *job, struct fb_lazyrestore_result *result,
		   struct fb_err *err)
{
	struct fb_hugepages huge = { NULL, 0 };
	int rc;

	if (!job->huge)
		fb_hugepages_enable(&job->image->tree, job->states, job->count, &huge);
	rc = start(job, result, err);
	fb_hugepages_end(&huge, rc != 0);
	return rc;
}
