/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "engine/image.h"
#include "engine/image_map.h"
#include "engine/image_work.h"

#define BLOCK ((uint64_t)FB_EROFS_BLOCK)

/* ---- begin -------------------------------------------------------------------- */

static uint64_t next_generation(const uint8_t *block, uint64_t store_size)
{
	struct fb_header header;

	if (fb_header_decode(block, store_size, &header, NULL))
		return 1;
	return header.origin.generation + 1;
}

int fb_image_begin(const struct fb_store *store, uint64_t *generation,
		   struct fb_err *err)
{
	fb_autofree uint8_t *blocks = fb_image_buffer(2 * BLOCK);
	uint64_t next;
	int ret;

	if (!blocks)
		return fb_err_sys(err, ENOMEM, "%s", store->name);
	if (store->size < 2 * BLOCK)
		return fb_err_set(err, ENOSPC, "%s is too small for an image",
				  store->name);
	/* What cannot be read (poison) is about to be overwritten. */
	ret = store->ops->read(store, blocks, BLOCK, 0, err);
	if (ret && ret != -EIO)
		return ret;
	next = ret ? 1 : next_generation(blocks, store->size);
	memset(blocks, 0, 2 * BLOCK);
	ret = store->ops->write(store, blocks, 2 * BLOCK, 0, err);
	if (!ret)
		ret = store->ops->flush(store, err);
	if (!ret)
		*generation = next;
	return ret;
}

/* ---- copy --------------------------------------------------------------------- */

struct copy {
	const struct fb_store *store;
	const struct fb_tree *tree;
	struct fb_image_run *runs;
	const struct fb_image_source *source;
	struct fb_image_maps maps;
	_Atomic uint64_t written; /* bytes */
};

static int stale(const struct copy *c, uint32_t inode, const char *how,
		 struct fb_err *err)
{
	fb_autofree char *path = fb_tree_path(c->tree, inode);
	fb_autofree char *shown = path ? fb_escape(path, strlen(path)) : NULL;

	return fb_err_set(err, ESTALE, "%s changed while being saved: %s",
			  shown ? shown : "?", how);
}

static int read_error(const struct copy *c, uint32_t inode, int error,
		      struct fb_err *err)
{
	fb_autofree char *path = fb_tree_path(c->tree, inode);
	fb_autofree char *shown = path ? fb_escape(path, strlen(path)) : NULL;

	return fb_err_sys(err, error, "reading %s", shown ? shown : "?");
}

/* The run's bytes and the zeros up to the end of its last block. */
static int read_run(const struct copy *c, const struct fb_image_run *r, int fd,
		    uint8_t *to, struct fb_err *err)
{
	size_t done = 0;

	while (done < r->length) {
		ssize_t n = pread(fd, to + done, r->length - done,
				  (off_t)(r->offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return read_error(c, r->inode, errno, err);
		if (!n)
			return stale(c, r->inode, "it is shorter", err);
		done += (size_t)n;
	}
	memset(to + done, 0, r->blocks * BLOCK - done);
	return 0;
}

/* After the last read: had it changed before, size or mtime would tell. */
static int check_unchanged(const struct copy *c, uint32_t inode, int fd,
			   struct fb_err *err)
{
	const struct fb_inode *in = &c->tree->inodes[inode];
	struct stat st;

	if (fstat(fd, &st))
		return read_error(c, inode, errno, err);
	if ((uint64_t)st.st_size != in->size)
		return stale(c, inode, "its size is another", err);
	if (st.st_mtim.tv_sec != in->mtime_sec ||
	    (uint32_t)st.st_mtim.tv_nsec != in->mtime_nsec)
		return stale(c, inode, "its mtime is another", err);
	return 0;
}

/* What a live file no longer has is zeros, and known not to be the file's. */
static void leave_out(struct fb_image_run *r, uint8_t *to)
{
	memset(to, 0, r->blocks * BLOCK);
	r->ready = false;
}

static int copy_run(const struct copy *c, struct fb_image_run *r, int fd, uint8_t *to,
		    struct fb_err *err)
{
	int ret = fd < 0 ? fd : read_run(c, r, fd, to, err);

	if (ret && c->source->live)
		leave_out(r, to);
	if (ret)
		return c->source->live ? 0 : ret;
	fb_digest(to, r->blocks * BLOCK, r->digest);
	r->ready = true;
	return 0;
}

/* All runs of a job that follow each other in one file; *done counts on. */
static int copy_in_file(const struct copy *c, const struct fb_image_job *job,
			size_t *done, uint8_t **to, struct fb_err *err)
{
	struct fb_image_run *runs = c->runs + job->first;
	uint32_t inode = runs[*done].inode;
	bool live = c->source->live;
	fb_autoclose int fd = c->source->open(c->source->context, inode,
					      live ? NULL : err);

	for (; *done < job->count && runs[*done].inode == inode; ++*done) {
		struct fb_image_run *r = &runs[*done];
		int ret = copy_run(c, r, fd, *to, live ? NULL : err);

		if (ret)
			return ret;
		*to += r->blocks * BLOCK;
	}
	return live ? 0 : check_unchanged(c, inode, fd, err);
}

static int write_blocks(struct copy *c, const uint8_t *from, uint64_t first,
			uint64_t count, struct fb_err *err)
{
	c->written += count * BLOCK;
	return c->store->ops->write(c->store, from, count * BLOCK, first * BLOCK, err);
}

/* Only the blocks that are not there already. */
static int write_differing(struct copy *c, const uint8_t *from, uint8_t *there,
			   uint64_t first, uint64_t count, struct fb_err *err)
{
	int ret = c->store->ops->read(c->store, there, count * BLOCK, first * BLOCK,
				      NULL);
	uint64_t at = 0;

	/* What cannot be read (poison) is written anew. */
	if (ret)
		return write_blocks(c, from, first, count, err);
	while (at < count) {
		uint64_t end = at;

		while (end < count &&
		       memcmp(from + end * BLOCK, there + end * BLOCK, BLOCK))
			end++;
		if (end > at)
			ret = write_blocks(c, from + at * BLOCK, first + at, end - at,
					   err);
		if (ret)
			return ret;
		at = end + 1;
	}
	return 0;
}

static bool wants_comparing(const struct copy *c, const struct fb_image_job *job)
{
	for (size_t i = 0; i < job->count; i++)
		if (c->runs[job->first + i].status == FB_RUN_COMPARE)
			return true;
	return false;
}

/* ---- without a buffer ---------------------------------------------------------- */

/*
 * While this is held nobody can open the file for writing or truncate it: who
 * tries waits (for /proc/sys/fs/lease-break-time). There is nothing to do about
 * that, so the signal is one that is ignored.
 */
static bool hold(int fd)
{
	return !fcntl(fd, F_SETSIG, SIGURG) && !fcntl(fd, F_SETLEASE, F_RDLCK);
}

/* Was it held all the time? */
static bool let_go(int fd)
{
	bool held = fcntl(fd, F_GETLEASE) == F_RDLCK;

	return !fcntl(fd, F_SETLEASE, F_UNLCK) && held;
}

/*
 * With huge pages a mapping costs less than a copy into a buffer, without them
 * it does not. A tmpfs that uses them for a file says so in st_blksize
 * (mm/shmem.c, shmem_getattr).
 */
static uint8_t *map_file(struct copy *c, uint32_t inode, int fd)
{
	uint64_t size = c->tree->inodes[inode].size;
	struct stat st;

	if (size < FB_IMAGE_MAP_MIN || fstat(fd, &st) ||
	    (uint64_t)st.st_blksize < FB_IMAGE_MAP_MIN)
		return NULL;
	return fb_image_map_make(&c->maps, inode, fd, size, false);
}

/* `from` is what the file has there, and keeps; of it is the run's digest. */
static int put_run(struct copy *c, struct fb_image_run *r, const uint8_t *from,
		   uint8_t *there, struct fb_err *err)
{
	int ret;

	if (r->status == FB_RUN_COMPARE)
		ret = write_differing(c, from, there, r->block, r->blocks, err);
	else
		ret = write_blocks(c, from, r->block, r->blocks, err);
	r->ready = !ret;
	return ret;
}

/* Behind the file's end its last page may have more than zeros. */
static int copy_held_end(struct copy *c, struct fb_image_run *r, int fd,
			 uint8_t *buffer, struct fb_err *err)
{
	uint64_t size = r->blocks * BLOCK;

	if (read_run(c, r, fd, buffer, NULL))
		return -EAGAIN;
	fb_digest(buffer, size, r->digest);
	return put_run(c, r, buffer, buffer + size, err);
}

/* The file is held. -EAGAIN: it was changed before. */
static int copy_held_group(struct copy *c, struct fb_image_run *runs, size_t count,
			   const uint8_t *from, uint8_t *buffer, struct fb_err *err)
{
	uint8_t digests[FB_DIGEST_LANES][FB_DIGEST_SIZE];
	uint64_t size = runs->blocks * BLOCK;
	int ret = 0;

	fb_digest_parts(from, size, count, digests);
	for (size_t i = 0; i < count && !ret; i++) {
		memcpy(runs[i].digest, digests[i], FB_DIGEST_SIZE);
		ret = put_run(c, &runs[i], from + i * size, buffer, err);
	}
	return ret;
}

static int copy_held(struct copy *c, const struct fb_image_job *job, int fd,
		     uint8_t *map, uint8_t *buffer, struct fb_err *err)
{
	uint32_t inode = c->runs[job->first].inode;
	int ret = check_unchanged(c, inode, fd, NULL) ? -EAGAIN : 0;

	for (size_t at = job->first; at < job->first + job->count && !ret;) {
		struct fb_image_run *r = &c->runs[at];
		size_t count = fb_image_map_group(c->runs, job, at);

		at += count ? count : 1;
		if (!count)
			ret = copy_held_end(c, r, fd, buffer, err);
		else if (fb_image_map_populate(map + r->offset,
					       count * r->blocks * BLOCK, false))
			ret = -EAGAIN;
		else
			ret = copy_held_group(c, r, count, map + r->offset, buffer,
					      err);
	}
	return ret;
}

static bool has_one_file(const struct copy *c, const struct fb_image_job *job)
{
	for (size_t i = 1; i < job->count; i++)
		if (c->runs[job->first + i].inode != c->runs[job->first].inode)
			return false;
	return true;
}

/* -EAGAIN: not a file or a job for this, or it is being changed. */
static int copy_mapped(struct copy *c, const struct fb_image_job *job, uint8_t *buffer,
		       struct fb_err *err)
{
	uint32_t inode = c->runs[job->first].inode;
	fb_autoclose int fd = -1;
	uint8_t *map;
	int ret;

	if (c->tree->inodes[inode].size < FB_IMAGE_MAP_MIN || !has_one_file(c, job))
		return -EAGAIN;
	fd = c->source->open(c->source->context, inode, NULL);
	map = fd < 0 ? NULL : map_file(c, inode, fd);
	if (!map || !hold(fd))
		return -EAGAIN;
	ret = copy_held(c, job, fd, map, buffer, err);
	return let_go(fd) || ret ? ret : -EAGAIN;
}

static int copy_buffered(struct copy *c, const struct fb_image_job *job,
			 uint8_t *buffer, struct fb_err *err)
{
	uint32_t block = c->runs[job->first].block;
	uint8_t *to = buffer;

	for (size_t done = 0; done < job->count;) {
		int ret = copy_in_file(c, job, &done, &to, err);

		if (ret)
			return ret;
	}
	if (wants_comparing(c, job))
		return write_differing(c, buffer, to, block, job->blocks, err);
	return write_blocks(c, buffer, block, job->blocks, err);
}

static int copy_job(void *context, const struct fb_image_job *job, uint8_t *buffer,
		    struct fb_err *err)
{
	struct copy *c = context;
	struct fb_image_job piece = { 0, 0, 0 };
	int ret = copy_mapped(c, job, buffer, err);

	if (ret != -EAGAIN)
		return ret;
	ret = 0;
	while (!ret && fb_image_job_next(c->runs, job, &piece))
		ret = copy_buffered(c, &piece, buffer, err);
	return ret;
}

int fb_image_copy(const struct fb_store *store, const struct fb_tree *tree,
		  struct fb_image_plan *plan, const struct fb_image_source *source,
		  unsigned int threads, const struct fb_progress *progress,
		  struct fb_err *err)
{
	struct copy c = { store, tree, plan->runs, source, { NULL, 0 }, 0 };
	fb_autofree struct fb_image_job *jobs = NULL;
	struct fb_image_work work = {
		.run = copy_job,
		.context = &c,
		.buffers = 2,
		.threads = threads,
		.progress = progress,
	};
	int ret;

	if (store->size < plan->size)
		return fb_err_set(err, ENOSPC,
				  "%s has %llu bytes, the image needs %llu",
				  store->name, (unsigned long long)store->size,
				  (unsigned long long)plan->size);
	if (fb_image_jobs_make(plan->runs, plan->run_count, NULL, NULL, &jobs,
			       &work.job_count) ||
	    fb_image_maps_make(&c.maps, tree->inode_count))
		return fb_err_sys(err, ENOMEM, "copy");
	work.jobs = jobs;
	ret = fb_image_work_run(&work, err);
	fb_image_maps_free(&c.maps);
	plan->written_bytes = c.written;
	return ret;
}

/* ---- commit ------------------------------------------------------------------- */

/* Everything behind the data in one buffer, with its sections. */
struct tail {
	uint8_t *bytes;
	uint64_t size;
	struct fb_header header;
};

static uint64_t whole_blocks(uint64_t bytes)
{
	return fb_align_up(bytes, BLOCK);
}

static int encode_states(const struct fb_tree *tree,
			 const struct fb_erofs_layout *layout, uint8_t *to)
{
	fb_autofree uint64_t *nids = NULL;

	nids = calloc(tree->state_count + 1, sizeof(*nids));
	if (!nids)
		return -ENOMEM;
	for (size_t i = 0; i < tree->state_count; i++)
		nids[i] = fb_erofs_nid(layout, tree->states[i].inode);
	fb_state_table_encode(tree, nids, to);
	return 0;
}

static void encode_runs(const struct fb_image_plan *plan, uint8_t *to)
{
	for (size_t i = 0; i < plan->run_count; i++) {
		const struct fb_image_run *r = &plan->runs[i];
		struct fb_run_entry entry = { .block = r->block, .blocks = r->blocks };

		memcpy(entry.digest, r->digest, FB_DIGEST_SIZE);
		fb_run_encode(&entry, to + i * FB_RUN_ENTRY_SIZE);
	}
}

static struct fb_section section(const struct fb_image_plan *plan,
				 const struct tail *tail, uint64_t at, uint64_t length)
{
	struct fb_section s = { plan->meta_block * BLOCK + at, length, { 0 } };

	fb_digest(tail->bytes + at, length, s.digest);
	return s;
}

static int make_tail(const struct fb_tree *tree, const struct fb_image_plan *plan,
		     struct tail *tail)
{
	uint64_t states = plan->layout.size;
	uint64_t runs = states + whole_blocks(plan->states_size);
	uint64_t runs_size = plan->run_count * FB_RUN_ENTRY_SIZE;

	tail->size = runs + whole_blocks(runs_size);
	tail->bytes = fb_image_buffer(tail->size);
	if (!tail->bytes)
		return -ENOMEM;
	memset(tail->bytes + states, 0, tail->size - states);
	fb_erofs_encode(tree, &plan->layout, plan->meta_block, tail->bytes);
	if (encode_states(tree, &plan->layout, tail->bytes + states))
		return -ENOMEM;
	encode_runs(plan, tail->bytes + runs);
	tail->header.meta = section(plan, tail, 0, plan->layout.size);
	tail->header.states = section(plan, tail, states, plan->states_size);
	tail->header.digests = section(plan, tail, runs, runs_size);
	tail->header.image_length = plan->size;
	return 0;
}

static int make_uuid(uint8_t uuid[16], struct fb_err *err)
{
	static const uint8_t none[16];

	if (memcmp(uuid, none, 16))
		return 0;
	if (getrandom(uuid, 16, 0) != 16)
		return fb_err_sys(err, errno ? errno : EIO, "getrandom");
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40); /* RFC 4122, version 4 */
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
	return 0;
}

static void make_first_block(const struct fb_tree *tree,
			     const struct fb_image_plan *plan,
			     const struct fb_header *header, uint8_t *block)
{
	struct fb_erofs_super super = {
		.inodes = tree->inode_count,
		.blocks = (uint32_t)(plan->size / BLOCK),
		.meta_block = plan->meta_block,
		.root_nid = (uint16_t)fb_erofs_nid(&plan->layout, 0),
		.build_sec = (int64_t)(header->origin.wall_usec / 1000000),
		.build_nsec = (uint32_t)(header->origin.wall_usec % 1000000 * 1000),
	};

	memcpy(super.uuid, header->origin.uuid, sizeof(super.uuid));
	fb_header_encode(header, block);
	fb_erofs_super_encode(&super, block);
}

/* The one write that makes the image valid, after all else is persistent. */
static int write_first_block(const struct fb_store *store, const uint8_t *block,
			     struct fb_err *err)
{
	int ret = store->ops->flush(store, err);

	if (!ret)
		ret = store->ops->write(store, block, BLOCK, 0, err);
	if (!ret)
		ret = store->ops->flush(store, err);
	return ret;
}

/* Whoever skipped the copy must not get an image. */
static int check_ready(const struct fb_image_plan *plan, struct fb_err *err)
{
	for (size_t i = 0; i < plan->run_count; i++)
		if (!plan->runs[i].ready)
			return fb_err_set(err, EINVAL,
					  "the data at block %u was not copied",
					  plan->runs[i].block);
	return 0;
}

int fb_image_commit(const struct fb_store *store, const struct fb_tree *tree,
		    const struct fb_image_plan *plan, const struct fb_origin *origin,
		    struct fb_err *err)
{
	fb_autofree uint8_t *block = fb_image_buffer(BLOCK);
	struct tail tail = { .size = 0 };
	int ret = check_ready(plan, err);

	if (ret)
		return ret;
	if (!block || make_tail(tree, plan, &tail))
		ret = fb_err_sys(err, ENOMEM, "metadata of the image");
	if (!ret) {
		tail.header.origin = *origin;
		ret = make_uuid(tail.header.origin.uuid, err);
	}
	if (!ret)
		ret = store->ops->write(store, tail.bytes, tail.size,
					plan->meta_block * BLOCK, err);
	if (!ret) {
		make_first_block(tree, plan, &tail.header, block);
		ret = write_first_block(store, block, err);
	}
	free(tail.bytes);
	return ret;
}

int fb_image_write(const struct fb_store *store, const struct fb_tree *tree,
		   struct fb_image_plan *plan, const struct fb_image_source *source,
		   struct fb_origin *origin, unsigned int threads,
		   const struct fb_progress *progress, struct fb_err *err)
{
	int ret = fb_image_begin(store, &origin->generation, err);

	if (!ret)
		ret = fb_image_copy(store, tree, plan, source, threads, progress, err);
	if (!ret)
		ret = fb_image_commit(store, tree, plan, origin, err);
	return ret;
}

/* ---- consumed ------------------------------------------------------------------ */

/* Block 0 of a valid image. */
static int read_header(const struct fb_store *store, uint8_t *block,
		       struct fb_header *header, struct fb_err *err)
{
	int ret;

	if (!block)
		return fb_err_sys(err, ENOMEM, "%s", store->name);
	if (store->size < BLOCK)
		return fb_err_exit(err, FB_EXIT_NO_IMAGE, ENODATA, "%s: no image",
				   store->name);
	ret = store->ops->read(store, block, BLOCK, 0, err);
	if (ret)
		return ret;
	ret = fb_header_decode(block, store->size, header, err);
	return ret ? fb_err_prefix(err, "%s", store->name) : 0;
}

static int write_block(const struct fb_store *store, const uint8_t *block,
		       struct fb_err *err)
{
	int ret = store->ops->write(store, block, BLOCK, 0, err);

	return ret ? ret : store->ops->flush(store, err);
}

int fb_image_mark_consumed(const struct fb_store *store, struct fb_err *err)
{
	fb_autofree uint8_t *block = fb_image_buffer(BLOCK);
	struct fb_header header;
	int ret = read_header(store, block, &header, err);

	if (ret || header.consumed)
		return ret;
	fb_header_mark_consumed(block);
	return write_block(store, block, err);
}

int fb_image_unmark_consumed(const struct fb_store *store, struct fb_err *err)
{
	fb_autofree uint8_t *block = fb_image_buffer(BLOCK);
	struct fb_header header;
	int ret = read_header(store, block, &header, err);

	if (ret || !header.consumed)
		return ret;
	fb_header_unmark_consumed(block);
	return write_block(store, block, err);
}

int fb_image_mark_left(const struct fb_store *store, uint32_t left_usec,
		       struct fb_err *err)
{
	fb_autofree uint8_t *block = fb_image_buffer(BLOCK);
	struct fb_header header;
	int ret = read_header(store, block, &header, err);

	if (ret)
		return ret;
	fb_header_mark_left(block, left_usec);
	return write_block(store, block, err);
}
