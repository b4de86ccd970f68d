/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "engine/image.h"
#include "engine/image_map.h"
#include "engine/image_work.h"

#define BLOCK ((uint64_t)FB_EROFS_BLOCK)

/* ---- what is there -------------------------------------------------------------- */

/* `at`..`at + size` of the first two blocks. */
static bool bytes_are(const uint8_t *blocks, size_t at, const char *magic, size_t size)
{
	return !memcmp(blocks + at, magic, size);
}

static bool is_zero(const uint8_t *p, size_t size)
{
	return !p[0] && !memcmp(p, p + 1, size - 1);
}

/* drivers/nvdimm/pfn.h, btt.h: at 4096; a BTT of version 2 at 0 */
static bool has_info_block(const uint8_t *blocks)
{
	return bytes_are(blocks, 4096, "NVDIMM_PFN_INFO", 16) ||
	       bytes_are(blocks, 4096, "NVDIMM_DAX_INFO", 16) ||
	       bytes_are(blocks, 4096, "BTT_ARENA_INFO", 15) ||
	       bytes_are(blocks, 0, "BTT_ARENA_INFO", 15);
}

/* A fastboot header comes first: what it replaced may still show behind it. */
static enum fb_image_kind identify(const uint8_t *blocks)
{
	switch (fb_header_classify(blocks)) {
	case FB_HEADER_VALID:
		return FB_IMAGE_PRESENT;
	case FB_HEADER_NEWER:
		return FB_IMAGE_NEWER;
	case FB_HEADER_TORN:
	case FB_HEADER_OPEN:
		return FB_IMAGE_TORN;
	case FB_HEADER_NONE:
		break;
	}
	if (is_zero(blocks, 2 * BLOCK))
		return FB_IMAGE_ZERO;
	if (has_info_block(blocks))
		return FB_IMAGE_INFO_BLOCK;
	if (bytes_are(blocks, 1024, "\xe2\xe1\xf5\xe0", 4))
		return FB_IMAGE_EROFS;
	if (bytes_are(blocks, 1024 + 56, "\x53\xef", 2))
		return FB_IMAGE_EXT;
	if (bytes_are(blocks, 0, "XFSB", 4))
		return FB_IMAGE_XFS;
	return FB_IMAGE_UNKNOWN;
}

int fb_image_identify(const struct fb_store *store, enum fb_image_kind *kind,
		      struct fb_err *err)
{
	fb_autofree uint8_t *blocks = fb_image_buffer(2 * BLOCK);
	int ret;

	if (!blocks)
		return fb_err_sys(err, ENOMEM, "%s", store->name);
	if (store->size < 2 * BLOCK) {
		*kind = FB_IMAGE_UNKNOWN;
		return 0;
	}
	ret = store->ops->read(store, blocks, 2 * BLOCK, 0, err);
	if (!ret)
		*kind = identify(blocks);
	return ret;
}

const char *fb_image_kind_text(enum fb_image_kind kind)
{
	switch (kind) {
	case FB_IMAGE_ZERO:
		return "nothing, or a save that was not committed";
	case FB_IMAGE_PRESENT:
		return "a fastboot image";
	case FB_IMAGE_NEWER:
		return "an image of a later version of fastboot";
	case FB_IMAGE_TORN:
		return "a damaged fastboot header";
	case FB_IMAGE_EROFS:
		return "an EROFS that fastboot did not write";
	case FB_IMAGE_EXT:
		return "an ext2, ext3 or ext4 file system";
	case FB_IMAGE_XFS:
		return "an XFS file system";
	case FB_IMAGE_INFO_BLOCK:
		return "a namespace's info block of libnvdimm";
	case FB_IMAGE_UNKNOWN:
		break;
	}
	return "unknown bytes";
}

/* ---- open ----------------------------------------------------------------------- */

/* Whatever is wrong with what was read: there is no image. */
static int no_image(struct fb_err *err, const struct fb_store *store, int ret)
{
	if (ret == -ENOMEM)
		return ret;
	if (err)
		err->status = FB_EXIT_NO_IMAGE;
	fb_err_prefix(err, "%s: no image", store->name);
	return ret;
}

static int read_first_blocks(const struct fb_store *store, uint8_t *blocks,
			     struct fb_image *image, struct fb_err *err)
{
	enum fb_image_kind kind;
	int ret = store->ops->read(store, blocks, 2 * BLOCK, 0, err);

	if (ret)
		return ret;
	kind = identify(blocks);
	if (kind != FB_IMAGE_PRESENT && kind != FB_IMAGE_NEWER)
		return no_image(
			err, store,
			fb_err_set(err, ENODATA, "found %s", fb_image_kind_text(kind)));
	ret = fb_header_decode(blocks, store->size, &image->header, err);
	if (!ret)
		ret = fb_erofs_super_decode(blocks, &image->super, err);
	return ret ? no_image(err, store, ret) : 0;
}

/* Header and superblock are written together and must agree. */
static int check_super(const struct fb_image *image, struct fb_err *err)
{
	const struct fb_header *h = &image->header;
	const struct fb_erofs_super *s = &image->super;

	if (s->meta_block * BLOCK != h->meta.offset ||
	    s->blocks * BLOCK != h->image_length ||
	    memcmp(s->uuid, h->origin.uuid, sizeof(s->uuid)))
		return fb_err_set(
			err, EBADMSG,
			"the EROFS superblock does not belong to the fastboot header");
	return 0;
}

/* *bytes is malloc'ed; at least one byte. */
static int read_section(const struct fb_store *store, const struct fb_section *s,
			const char *what, uint8_t **bytes, struct fb_err *err)
{
	uint64_t size = fb_align_up(s->length, BLOCK);
	fb_autofree uint8_t *b = fb_image_buffer(size);
	uint8_t digest[FB_DIGEST_SIZE];
	int ret = 0;

	if (!b)
		return fb_err_sys(err, ENOMEM, "%s: %s", store->name, what);
	if (size)
		ret = store->ops->read(store, b, size, s->offset, err);
	if (ret)
		return ret;
	fb_digest(b, s->length, digest);
	if (memcmp(digest, s->digest, sizeof(digest)))
		return no_image(err, store,
				fb_err_set(err, EBADMSG,
					   "the %s is damaged: its digest is wrong",
					   what));
	*bytes = fb_steal_ptr(b);
	return 0;
}

static int load_tree(struct fb_image *image, uint64_t **nids, struct fb_err *err)
{
	fb_autofree uint8_t *meta = NULL;
	int ret =
		read_section(image->store, &image->header.meta, "metadata", &meta, err);

	if (ret)
		return ret;
	ret = fb_erofs_decode(meta, image->header.meta.length, &image->super,
			      &image->tree, nids, err);
	return ret ? no_image(err, image->store, ret) : 0;
}

static int take_states(struct fb_image *image, struct fb_state_entry *entries,
		       size_t count, const uint64_t *nids, struct fb_err *err)
{
	struct fb_tree *tree = &image->tree;

	tree->states = calloc(count ? count : 1, sizeof(*tree->states));
	if (!tree->states)
		return fb_err_sys(err, ENOMEM, "state table");
	for (size_t i = 0; i < count; i++) {
		struct fb_state_entry *e = &entries[i];
		uint32_t inode = fb_tree_lookup(tree, e->path);

		if (inode == FB_INODE_NONE || nids[inode] != e->nid)
			return fb_err_set(err, EBADMSG,
					  "the state table's %s is not in the image",
					  e->path);
		tree->states[i] = (struct fb_tree_state){
			.name = fb_steal_ptr(e->name),
			.path = fb_steal_ptr(e->path),
			.inode = inode,
			.flags = e->flags,
		};
		tree->state_count++;
	}
	return 0;
}

static int load_states(struct fb_image *image, const uint64_t *nids, struct fb_err *err)
{
	fb_autofree uint8_t *table = NULL;
	struct fb_state_entry *entries;
	size_t count;
	int ret = read_section(image->store, &image->header.states, "state table",
			       &table, err);

	if (ret)
		return ret;
	ret = fb_state_table_decode(table, image->header.states.length, &entries,
				    &count, err);
	if (!ret) {
		ret = take_states(image, entries, count, nids, err);
		fb_state_entries_free(entries, count);
	}
	return ret ? no_image(err, image->store, ret) : 0;
}

/* ---- runs and the files they belong to --------------------------------------------
 */

/* An extent with its file, to be sorted by block. */
struct owned_extent {
	const struct fb_extent *extent;
	uint32_t inode;
};

static int compare_extents(const void *a, const void *b)
{
	const struct fb_extent *x = ((const struct owned_extent *)a)->extent;
	const struct fb_extent *y = ((const struct owned_extent *)b)->extent;

	return x->block < y->block ? -1 : x->block > y->block;
}

static struct owned_extent *sorted_extents(const struct fb_tree *tree, size_t *count)
{
	struct owned_extent *list;
	size_t n = 0;

	for (size_t i = 0; i < tree->inode_count; i++)
		n += tree->inodes[i].extent_count;
	list = calloc(n ? n : 1, sizeof(*list));
	if (!list)
		return NULL;
	*count = n;
	n = 0;
	for (size_t i = 0; i < tree->inode_count; i++)
		for (size_t k = 0; k < tree->inodes[i].extent_count; k++)
			list[n++] = (struct owned_extent){ &tree->inodes[i].extents[k],
							   (uint32_t)i };
	/* Most images have them in the order of the tree. */
	fb_array_sort(list, n, sizeof(*list), compare_extents);
	return list;
}

/* The table's next entries must be exactly this extent's blocks. */
static bool cover_extent(const struct owned_extent *o, const struct fb_run_entry *table,
			 size_t table_count, struct fb_image *image)
{
	const struct fb_extent *e = o->extent;
	uint64_t done = 0;

	while (done < e->length) {
		const struct fb_run_entry *t = &table[image->run_count];
		struct fb_image_run *r = &image->runs[image->run_count];
		uint64_t left = e->length - done, bytes;

		if (image->run_count == table_count ||
		    t->block != e->block + done / BLOCK)
			return false;
		bytes = t->blocks * BLOCK;
		if (bytes > fb_align_up(left, BLOCK))
			return false;
		*r = (struct fb_image_run){
			.inode = o->inode,
			.block = t->block,
			.blocks = t->blocks,
			.length = (uint32_t)(bytes < left ? bytes : left),
			.offset = e->offset + done,
		};
		memcpy(r->digest, t->digest, FB_DIGEST_SIZE);
		image->run_count++;
		done += r->length;
	}
	return true;
}

static int match_runs(struct fb_image *image, const struct fb_run_entry *table,
		      size_t count, struct fb_err *err)
{
	fb_autofree struct owned_extent *list = NULL;
	size_t n = 0;

	list = sorted_extents(&image->tree, &n);
	image->runs = calloc(count ? count : 1, sizeof(*image->runs));
	if (!list || !image->runs)
		return fb_err_sys(err, ENOMEM, "digest table");
	for (size_t i = 0; i < n; i++)
		if (!cover_extent(&list[i], table, count, image))
			return fb_err_set(err, EBADMSG,
					  "the digest table does not match the files");
	if (image->run_count != count)
		return fb_err_set(err, EBADMSG,
				  "the digest table has entries without a file");
	return 0;
}

static int load_runs(struct fb_image *image, struct fb_err *err)
{
	fb_autofree struct fb_run_entry *entries = NULL;
	fb_autofree uint8_t *table = NULL;
	size_t count;
	int ret = read_section(image->store, &image->header.digests, "digest table",
			       &table, err);

	if (ret)
		return ret;
	ret = fb_run_table_decode(table, image->header.digests.length,
				  image->super.meta_block, &entries, &count, err);
	if (!ret)
		ret = match_runs(image, entries, count, err);
	return ret ? no_image(err, image->store, ret) : 0;
}

static int open_image(struct fb_image *image, struct fb_err *err)
{
	fb_autofree uint8_t *blocks = fb_image_buffer(2 * BLOCK);
	fb_autofree uint64_t *nids = NULL;
	int ret;

	if (!blocks)
		return fb_err_sys(err, ENOMEM, "%s", image->store->name);
	ret = read_first_blocks(image->store, blocks, image, err);
	if (ret)
		return ret;
	ret = check_super(image, err);
	if (ret)
		return no_image(err, image->store, ret);
	ret = load_tree(image, &nids, err);
	if (!ret)
		ret = load_states(image, nids, err);
	if (!ret)
		ret = load_runs(image, err);
	return ret;
}

int fb_image_open(const struct fb_store *store, struct fb_image *image,
		  struct fb_err *err)
{
	int ret;

	memset(image, 0, sizeof(*image));
	image->store = store;
	if (store->size < 2 * BLOCK)
		return no_image(err, store,
				fb_err_set(err, ENODATA, "%llu bytes are too few",
					   (unsigned long long)store->size));
	ret = open_image(image, err);
	if (ret)
		fb_image_close(image);
	return ret;
}

void fb_image_close(struct fb_image *image)
{
	fb_tree_free(&image->tree);
	free(image->runs);
	memset(image, 0, sizeof(*image));
}

/* ---- reading data ------------------------------------------------------------------
 */

/* Why a file's data is withheld. */
enum damage { DAMAGE_NONE, DAMAGE_DIGEST, DAMAGE_READ };

struct reader {
	const struct fb_image *image;
	const struct fb_image_sink *sink; /* NULL: only verify */
	struct fb_image_maps maps;
	_Atomic uint8_t *damage;	  /* enum damage, one for each inode */
	_Atomic uint32_t *where;	  /* a damaged block of it */
};

static bool run_ok(const struct fb_image_run *r, const uint8_t *bytes)
{
	uint8_t digest[FB_DIGEST_SIZE];

	fb_digest(bytes, r->blocks * BLOCK, digest);
	return !memcmp(digest, r->digest, sizeof(digest));
}

static int write_all(int fd, const uint8_t *bytes, uint64_t offset, size_t length,
		     struct fb_err *err)
{
	for (size_t done = 0; done < length;) {
		ssize_t n = pwrite(fd, bytes + done, length - done,
				   (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fb_err_sys(err, n ? errno : ENOSPC, "writing");
		done += (size_t)n;
	}
	return 0;
}

static int name_file(const struct fb_image *image, uint32_t inode, struct fb_err *err)
{
	fb_autofree char *path = fb_tree_path(&image->tree, inode);
	fb_autofree char *shown = path ? fb_escape(path, strlen(path)) : NULL;

	return fb_err_prefix(err, "%s", shown ? shown : "?");
}

static void mark_damaged(struct reader *rd, const struct fb_image_run *r,
			 enum damage damage)
{
	atomic_store(&rd->where[r->inode], r->block);
	atomic_store(&rd->damage[r->inode], (uint8_t)damage);
}

static bool is_damaged(struct reader *rd, uint32_t inode)
{
	return atomic_load(&rd->damage[inode]) != DAMAGE_NONE;
}

/* Runs of one file, already in the buffer. *done and *bytes move on. */
static int deliver_file(struct reader *rd, const struct fb_image_run *runs,
			size_t count, size_t *done, const uint8_t **bytes,
			struct fb_err *err)
{
	uint32_t inode = runs[*done].inode;
	fb_autoclose int fd = -1;
	bool skip = !rd->sink;

	for (; *done < count && runs[*done].inode == inode; ++*done) {
		const struct fb_image_run *r = &runs[*done];
		const uint8_t *at = *bytes;

		*bytes += r->blocks * BLOCK;
		if (!run_ok(r, at))
			mark_damaged(rd, r, DAMAGE_DIGEST);
		if (skip || is_damaged(rd, inode))
			continue;
		if (fd < 0)
			fd = rd->sink->open(rd->sink->context, inode, err);
		skip = fd == FB_IMAGE_SKIP;
		if (fd < 0 && !skip)
			return fd;
		if (!skip && write_all(fd, at, r->offset, r->length, err))
			return name_file(rd->image, inode, err);
	}
	if (fd >= 0 && rd->sink->filled)
		return rd->sink->filled(rd->sink->context, inode, fd, err);
	return 0;
}

static int deliver(struct reader *rd, const struct fb_image_run *runs, size_t count,
		   const uint8_t *bytes, struct fb_err *err)
{
	for (size_t done = 0; done < count;) {
		int ret = deliver_file(rd, runs, count, &done, &bytes, err);

		if (ret)
			return ret;
	}
	return 0;
}

static int read_runs(const struct fb_store *store, const struct fb_image_run *runs,
		     uint32_t blocks, uint8_t *buffer, struct fb_err *err)
{
	return store->ops->read(store, buffer, blocks * BLOCK, runs->block * BLOCK,
				err);
}

/* Something in the job cannot be read: find out whose it is. */
static int read_one_by_one(struct reader *rd, const struct fb_image_job *job,
			   uint8_t *buffer, struct fb_err *err)
{
	const struct fb_image_run *runs = rd->image->runs + job->first;

	for (size_t i = 0; i < job->count; i++) {
		int ret = read_runs(rd->image->store, &runs[i], runs[i].blocks, buffer,
				    err);

		if (ret == -EIO) {
			mark_damaged(rd, &runs[i], DAMAGE_READ);
			continue;
		}
		if (!ret)
			ret = deliver(rd, &runs[i], 1, buffer, err);
		if (ret)
			return ret;
	}
	return 0;
}

/*
 * From the store to where it belongs, without a buffer: in tmpfs, writes to one
 * file wait for each other, page faults do not. How many runs from `at` on were
 * done: 0 is not a file or a run for this, or something is wrong, which the
 * usual way will find out.
 */
static size_t read_mapped(struct reader *rd, const struct fb_image_job *job, size_t at)
{
	const struct fb_image_run *r = &rd->image->runs[at];
	uint8_t *map = fb_image_map_find(&rd->maps, r->inode);
	size_t count = map ? fb_image_map_group(rd->image->runs, job, at) : 0;
	uint8_t digests[FB_DIGEST_LANES][FB_DIGEST_SIZE], *to;
	uint32_t blocks = (uint32_t)count * r->blocks;

	if (!count || is_damaged(rd, r->inode))
		return 0;
	to = map + r->offset;
	if (fb_image_map_populate(to, blocks * BLOCK, true) ||
	    read_runs(rd->image->store, r, blocks, to, NULL))
		return 0;
	fb_digest_parts(to, r->blocks * BLOCK, count, digests);
	for (size_t i = 0; i < count; i++)
		if (memcmp(digests[i], r[i].digest, FB_DIGEST_SIZE))
			mark_damaged(rd, &r[i], DAMAGE_DIGEST);
	return count;
}

/* Through the buffer, the runs from `at` on that it takes; *count are they. */
static int read_buffered(struct reader *rd, const struct fb_image_job *job, size_t at,
			 uint8_t *buffer, size_t *count, struct fb_err *err)
{
	const struct fb_image_run *runs = rd->image->runs + at;
	const struct fb_image_job rest = { at, job->first + job->count - at, 0 };
	struct fb_image_job piece = { 0, 0, 0 };
	int ret;

	fb_image_job_next(rd->image->runs, &rest, &piece);
	*count = piece.count;
	ret = read_runs(rd->image->store, runs, piece.blocks, buffer, err);
	if (ret == -EIO)
		return read_one_by_one(rd, &piece, buffer, err);
	return ret ? ret : deliver(rd, runs, piece.count, buffer, err);
}

static int read_job(void *context, const struct fb_image_job *job, uint8_t *buffer,
		    struct fb_err *err)
{
	struct reader *rd = context;
	int ret = 0;

	for (size_t at = job->first; at < job->first + job->count && !ret;) {
		size_t count = read_mapped(rd, job, at);

		if (!count)
			ret = read_buffered(rd, job, at, buffer, &count, err);
		at += count;
	}
	return ret;
}

/* Tell of each damaged file, in the order of inodes. */
static int report_damage(struct reader *rd,
			 int (*damaged)(void *context, uint32_t inode, const char *why,
					struct fb_err *err),
			 void *context, size_t *count, struct fb_err *err)
{
	size_t n = 0;

	for (size_t i = 0; i < rd->image->tree.inode_count; i++) {
		enum damage d = (enum damage)atomic_load(&rd->damage[i]);
		fb_autofree char *why = NULL;
		int ret;

		if (d == DAMAGE_NONE)
			continue;
		n++;
		if (!damaged)
			continue;
		why = fb_asprintf("its data at block %u %s",
				  (unsigned int)atomic_load(&rd->where[i]),
				  d == DAMAGE_READ ? "cannot be read"
						   : "does not have its digest");
		ret = damaged(context, (uint32_t)i, why ? why : "its data is damaged",
			      err);
		if (ret)
			return ret;
	}
	*count = n;
	return 0;
}

/*
 * Large files as mappings, where that can be; before the threads start, because
 * each mmap(2) would wait for all pages that the others are just making.
 */
static void map_files(struct reader *rd)
{
	const struct fb_image_sink *sink = rd->sink;
	const struct fb_tree *tree = &rd->image->tree;

	for (uint32_t i = 0; i < tree->inode_count; i++) {
		const struct fb_inode *in = &tree->inodes[i];
		fb_autoclose int fd = -1;

		if (!S_ISREG(in->mode) || in->size < FB_IMAGE_MAP_MIN ||
		    !in->extent_count ||
		    (sink->wanted && !sink->wanted(sink->context, i)))
			continue;
		fd = sink->open(sink->context, i, NULL);
		if (fd >= 0)
			fb_image_map_make(&rd->maps, i, fd, in->size, true);
	}
}

static int read_all(struct reader *rd, unsigned int threads,
		    const struct fb_progress *progress, struct fb_err *err)
{
	const struct fb_image_sink *sink = rd->sink;
	fb_autofree struct fb_image_job *jobs = NULL;
	struct fb_image_work work = {
		.run = read_job,
		.context = rd,
		.threads = threads,
		.progress = progress,
	};

	if (fb_image_jobs_make(rd->image->runs, rd->image->run_count,
			       sink ? sink->wanted : NULL, sink ? sink->context : NULL,
			       &jobs, &work.job_count))
		return fb_err_sys(err, ENOMEM, "reading the image");
	if (sink)
		map_files(rd);
	work.jobs = jobs;
	return fb_image_work_run(&work, err);
}

static int reader_make(struct reader *rd, const struct fb_image *image,
		       const struct fb_image_sink *sink, struct fb_err *err)
{
	size_t n = image->tree.inode_count;

	memset(rd, 0, sizeof(*rd));
	rd->image = image;
	rd->sink = sink;
	rd->damage = calloc(n, sizeof(*rd->damage));
	rd->where = calloc(n, sizeof(*rd->where));
	if (rd->damage && rd->where && !fb_image_maps_make(&rd->maps, n))
		return 0;
	return fb_err_sys(err, ENOMEM, "reading the image");
}

static void reader_free(struct reader *rd)
{
	fb_image_maps_free(&rd->maps);
	free((void *)rd->damage);
	free((void *)rd->where);
}

int fb_image_read_data(const struct fb_image *image, const struct fb_image_sink *sink,
		       unsigned int threads, const struct fb_progress *progress,
		       size_t *damaged, struct fb_err *err)
{
	struct reader rd;
	size_t count = 0;
	int ret = reader_make(&rd, image, sink, err);

	if (!ret)
		ret = read_all(&rd, threads, progress, err);
	if (!ret)
		ret = report_damage(&rd, sink->damaged, sink->context, &count, err);
	if (!ret && damaged)
		*damaged = count;
	reader_free(&rd);
	return ret;
}

static size_t count_files(const struct fb_tree *tree)
{
	struct fb_tree_totals totals;

	fb_tree_count(tree, &totals);
	return (size_t)totals.files;
}

int fb_image_verify(const struct fb_image *image,
		    int (*damaged)(void *context, uint32_t inode, const char *why,
				   struct fb_err *err),
		    void *context, unsigned int threads,
		    const struct fb_progress *progress, struct fb_err *err)
{
	struct reader rd;
	size_t count = 0;
	int ret = reader_make(&rd, image, NULL, err);

	if (!ret)
		ret = read_all(&rd, threads, progress, err);
	if (!ret)
		ret = report_damage(&rd, damaged, context, &count, err);
	reader_free(&rd);
	if (!ret && count)
		ret = fb_err_set(err, EBADMSG, "%s: %zu of %zu files are damaged",
				 image->store->name, count, count_files(&image->tree));
	return ret;
}

/* ---- one file
 * ------------------------------------------------------------------------ */

/* The first run at or behind a block. */
static size_t find_run(const struct fb_image *image, uint64_t block)
{
	size_t low = 0, high = image->run_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (image->runs[mid].block < block)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct put {
	int (*put)(void *context, const void *bytes, uint64_t offset, size_t length,
		   struct fb_err *err);
	void *context;
};

static int read_extent(const struct fb_image *image, const struct fb_extent *e,
		       const struct put *to, uint8_t *buffer, struct fb_err *err)
{
	uint64_t end = e->block + (e->length + BLOCK - 1) / BLOCK;

	for (size_t i = find_run(image, e->block);
	     i < image->run_count && image->runs[i].block < end; i++) {
		const struct fb_image_run *r = &image->runs[i];
		int ret = read_runs(image->store, r, r->blocks, buffer, err);

		if (ret == -EIO || (!ret && !run_ok(r, buffer)))
			return fb_err_set(err, EBADMSG,
					  "its data at block %u is damaged", r->block);
		if (!ret)
			ret = to->put(to->context, buffer, r->offset, r->length, err);
		if (ret)
			return ret;
	}
	return 0;
}

int fb_image_read_to(const struct fb_image *image, uint32_t inode,
		     int (*put)(void *context, const void *bytes, uint64_t offset,
				size_t length, struct fb_err *err),
		     void *context, struct fb_err *err)
{
	const struct put to = { put, context };
	const struct fb_inode *in = &image->tree.inodes[inode];
	uint64_t size = fb_align_up(in->size, BLOCK);
	fb_autofree uint8_t *buffer = NULL;

	if (!S_ISREG(in->mode)) {
		fb_err_set(err, EINVAL, "not a regular file");
		name_file(image, inode, err);
		return -EINVAL;
	}
	if (size > FB_RUN_BLOCKS_MAX * BLOCK)
		size = FB_RUN_BLOCKS_MAX * BLOCK;
	buffer = fb_image_buffer(size);
	if (!buffer)
		return fb_err_sys(err, ENOMEM, "reading the image");
	for (size_t i = 0; i < in->extent_count; i++) {
		int ret = read_extent(image, &in->extents[i], &to, buffer, err);

		if (ret) {
			name_file(image, inode, err);
			return ret;
		}
	}
	return 0;
}

static int put_fd(void *context, const void *bytes, uint64_t offset, size_t length,
		  struct fb_err *err)
{
	return write_all(*(const int *)context, bytes, offset, length, err);
}

int fb_image_read_file(const struct fb_image *image, uint32_t inode, int fd,
		       struct fb_err *err)
{
	return fb_image_read_to(image, inode, put_fd, &fd, err);
}
