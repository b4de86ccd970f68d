/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * image - write a tree into a store as an EROFS file system with a fastboot
 * header, and read it back. SPEC.md has the bytes.
 *
 * Writing, all in this order:
 *
 *	fb_image_plan_make()   pure: where everything goes, how much it needs
 *	fb_image_begin()       the old image is gone from here on
 *	fb_image_copy()        the data, with digests, on all cores
 *	fb_image_commit()      metadata, tables, flush, then block 0, flush
 *
 * or, where most is to be copied before the files stop changing, between begin
 * and commit any number of times:
 *
 *	fb_image_replan()      pure: the tree as it is now, around what was copied
 *	fb_image_copy()        only what is not proven clean
 *
 * A power cut or crash anywhere leaves the complete new image or none: block
 * 0 is zero from fb_image_begin() to the last write of fb_image_commit(). What
 * was in the gaps between files stays there.
 *
 * Reading:
 *
 *	fb_image_open()        header, superblock, metadata: all verified
 *	fb_image_read_data() or fb_image_read_file() or fb_image_verify()
 *	fb_image_mark_consumed()
 *	fb_image_close()
 *
 * Nothing here knows where files come from or go to: the caller (src/cmd/)
 * passes callbacks that engine/state implements.
 */
#ifndef FB_ENGINE_IMAGE_H
#define FB_ENGINE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/tree.h"
#include "format/erofs.h"
#include "format/header.h"
#include "machine/store.h"

/* What fb_image_copy() has to do for a run. */
enum fb_run_status {
	FB_RUN_COPY,	/* write it */
	FB_RUN_COMPARE, /* its blocks held this file before: write what differs */
	FB_RUN_CLEAN,	/* nothing: bytes and digest are there, proven */
};

/* A run of a file's data: one digest, one piece of work. */
struct fb_image_run {
	uint32_t inode;
	uint32_t block;  /* in the image */
	uint32_t blocks; /* at most FB_RUN_BLOCKS_MAX */
	uint32_t length; /* bytes; less than the blocks at a file's end */
	uint64_t offset; /* in the file, bytes */
	uint8_t digest[FB_DIGEST_SIZE];
	/* While writing; 0 in an image that was opened. */
	enum fb_run_status status;
	bool ready; /* the store has these bytes, `digest` is theirs */
};

/* ---- writing ------------------------------------------------------------ */

struct fb_image_plan {
	uint64_t size;       /* bytes of the whole image */
	uint64_t data_bytes; /* of all runs, whole blocks */
	bool aligned;        /* large files on 2 MiB boundaries */
	uint64_t dirty_bytes; /* of the runs that are not clean */
	uint64_t written_bytes; /* counted by fb_image_copy(), whole blocks */
	bool moved; /* fb_image_replan() had to place all files anew */
	uint32_t meta_block; /* first block behind the data */
	struct fb_erofs_layout layout;
	uint64_t states_size;     /* bytes of the state table */
	struct fb_image_run *runs; /* ascending by block; owned */
	size_t run_count;
};

/*
 * Place a tree in a store of `capacity` bytes (UINT64_MAX: as much as it
 * needs, for a file). Nothing is read or written. Sets the `block` of every
 * extent; a very large sparse file may get fewer, larger extents
 * (fb_erofs_fit_extents). Extents of 2 MiB and more are placed so that huge pages
 * can map them, smaller ones fill the gaps; where that does not fit, everything
 * is packed.
 *
 * -ENOSPC: does not fit, and the text has both sizes. -EFBIG: above 16 TiB.
 * The errors of fb_erofs_layout_make() and fb_state_table_size(). -ENOMEM. On
 * failure *plan is empty (the extents may have changed).
 */
int fb_image_plan_make(struct fb_tree *tree, uint64_t capacity,
		       struct fb_image_plan *plan, struct fb_err *err);
void fb_image_plan_free(struct fb_image_plan *plan);

/*
 * Make an end of what is in the store: block 0 zero, block 1 (where libnvdimm
 * looks for an info block, drivers/nvdimm/pfn_devs.c nd_pfn_validate) zero,
 * flushed. *generation is one more than the image's that was there, 1 where
 * there was none. Not undone: from here on there is no image until
 * fb_image_commit(). -errno of the store.
 */
int fb_image_begin(const struct fb_store *store, uint64_t *generation,
		   struct fb_err *err);

/* Which file of an older tree is a file now? */
struct fb_image_match {
	/*
	 * The inode of the older tree that is `inode` of the new one, a
	 * regular file, or FB_INODE_NONE. *clean (false when called): it is
	 * proven that the file's data was not written to since before it was
	 * copied for the older plan.
	 */
	uint32_t (*find)(void *context, uint32_t inode, bool *clean);
	void *context;
};

/*
 * Place a tree in the same store again, after the data of an older tree was
 * copied there by its plan. Pure. Blocks that a file had it keeps, as far as
 * its extents are the same; a file that grew goes on behind its last block or
 * in another place; blocks of files that are gone are free. Where free blocks
 * are only left in small pieces, files are cut into pieces (an extent for
 * each). Every run gets a status:
 *
 *   CLEAN    the file is clean, its size and extents are the same and this run
 *            was copied: digest and bytes stay
 *   COMPARE  at least a part of its blocks is kept
 *   COPY     all others
 *
 * Where that does not fit, because metadata needs free blocks behind the data
 * and kept blocks are in the way, all files are placed anew as by
 * fb_image_plan_make(), everything is COPY, and plan->moved says so.
 *
 * Errors of fb_image_plan_make(): -ENOSPC only where the tree cannot fit at
 * all. On failure *plan is empty; `old` and `old_tree` never change.
 */
int fb_image_replan(const struct fb_tree *old_tree, const struct fb_image_plan *old,
		    struct fb_tree *tree, const struct fb_image_match *match,
		    uint64_t capacity, struct fb_image_plan *plan, struct fb_err *err);

/* Where the data comes from. Called from several threads at once. */
struct fb_image_source {
	/*
	 * A descriptor from which the inode's data can be read with pread(2);
	 * the image module closes it. A file of more than one run is opened
	 * more than once. -errno stops the copy.
	 */
	int (*open)(void *context, uint32_t inode, struct fb_err *err);
	void *context;
	/*
	 * The files are still being changed: what cannot be opened or read
	 * any more is left out (not `ready`), and a change is no error. Such
	 * a plan cannot be committed, only be the older one of a replan.
	 */
	bool live;
};

/*
 * Copy the data of the plan's runs, as each one's status says, and note their
 * digests in it. The digest is of the very bytes that were written, even while
 * a file is being modified: they are read once into a buffer that is hashed,
 * and written or compared with what is in the store.
 *
 * `threads` 0: one for each online CPU. `progress` may be NULL; it counts
 * bytes, whole blocks.
 *
 * -ESTALE: a file's size or mtime is no longer the tree's ("changed while
 * being saved"; a write through a shared mapping does not show); -errno of
 * source, pread or the store; what progress returned. The store then holds no
 * image.
 */
int fb_image_copy(const struct fb_store *store, const struct fb_tree *tree,
		  struct fb_image_plan *plan, const struct fb_image_source *source,
		  unsigned int threads, const struct fb_progress *progress,
		  struct fb_err *err);

/*
 * Write metadata and tables, flush, write block 0 with header and superblock,
 * flush. `origin` is read only here: put the last time stamp in just before.
 * -EINVAL: a run is not ready; -errno of the store; -ENOMEM.
 */
int fb_image_commit(const struct fb_store *store, const struct fb_tree *tree,
		    const struct fb_image_plan *plan,
		    const struct fb_origin *origin, struct fb_err *err);

/* begin, copy and commit in one; origin->generation is set by begin. */
int fb_image_write(const struct fb_store *store, const struct fb_tree *tree,
		   struct fb_image_plan *plan,
		   const struct fb_image_source *source, struct fb_origin *origin,
		   unsigned int threads, const struct fb_progress *progress,
		   struct fb_err *err);

/* ---- reading ------------------------------------------------------------ */

struct fb_image {
	const struct fb_store *store; /* not owned; outlives the image */
	struct fb_header header;
	struct fb_erofs_super super;
	struct fb_tree tree; /* with the extents' blocks and the states; owned */
	struct fb_image_run *runs; /* ascending by block; owned */
	size_t run_count;
};

/*
 * Read and verify header, superblock, metadata and both tables; the data is
 * not read. A consumed image opens as well: see image->header.consumed.
 *
 * Every failure but -ENOMEM and a failed read has FB_EXIT_NO_IMAGE and the
 * text says what is there instead (fb_image_identify).
 */
int fb_image_open(const struct fb_store *store, struct fb_image *image,
		  struct fb_err *err);
void fb_image_close(struct fb_image *image);

/* Returned by fb_image_sink.open: this file is not wanted (now). */
#define FB_IMAGE_SKIP (-EALREADY)

/* Where the data goes. */
struct fb_image_sink {
	/*
	 * Is this file wanted at all? Called before the work begins; NULL: all
	 * are. What is not wanted is not read.
	 */
	bool (*wanted)(void *context, uint32_t inode);
	/*
	 * A descriptor to which the inode's data is written with pwrite(2), or
	 * through a mapping where it is O_RDWR and in tmpfs; the image module
	 * closes it. From several threads at once, and more than once for a
	 * file of more than one run; `err` may be NULL. Only extents are written:
	 * a file that ends in a hole or is empty must be given its size by
	 * the sink. FB_IMAGE_SKIP, or -errno, which stops the work.
	 */
	int (*open)(void *context, uint32_t inode, struct fb_err *err);
	/*
	 * This file's data is damaged (a wrong digest, or the store cannot read
	 * it: -EIO, poisoned memory); `why` says where. Called once for each
	 * such file, in the order of inodes, when all other data has been
	 * written and no thread is at work any more. Part of the file may have
	 * been written, in a mapping even the damaged part: the sink removes
	 * it. 0, or -errno, which is returned.
	 */
	int (*damaged)(void *context, uint32_t inode, const char *why,
		       struct fb_err *err);
	void *context;
	/*
	 * What the file has in runs that follow each other was written through
	 * this descriptor: all of it, if it has one run. NULL: of no interest.
	 * From several threads at once.
	 */
	int (*filled)(void *context, uint32_t inode, int fd, struct fb_err *err);
};

/*
 * Read all data on `threads` cores (0: all online), verify each run, and keep
 * holes. `progress` (may be NULL) counts bytes, whole
 * blocks. *damaged is the number of files withheld (may
 * be NULL): that is not a failure. -errno of the store, sink or pwrite; what
 * progress returned.
 */
int fb_image_read_data(const struct fb_image *image,
		       const struct fb_image_sink *sink, unsigned int threads,
		       const struct fb_progress *progress, size_t *damaged,
		       struct fb_err *err);

/*
 * The data of one file to `fd`, in the calling thread: for a file that is
 * wanted before its turn. Several threads may do this at once. -EBADMSG: the
 * data is damaged (what was verified before the damage has been written);
 * -EINVAL: not a regular file; -errno of the store or pwrite.
 */
int fb_image_read_file(const struct fb_image *image, uint32_t inode, int fd,
		       struct fb_err *err);

/*
 * The same to wherever `put` takes it: called for each run with bytes that
 * were verified, in the order of the file; valid only during the call. Its
 * -errno ends the work and is returned.
 */
int fb_image_read_to(const struct fb_image *image, uint32_t inode,
		     int (*put)(void *context, const void *bytes, uint64_t offset,
				size_t length, struct fb_err *err),
		     void *context, struct fb_err *err);

/*
 * Read all data and compare the digests; nothing is written. `damaged` is
 * called as fb_image_sink's; it may be NULL. -EBADMSG ("N of M files are
 * damaged") where there is any, else as fb_image_read_data().
 */
int fb_image_verify(const struct fb_image *image,
		    int (*damaged)(void *context, uint32_t inode,
				   const char *why, struct fb_err *err),
		    void *context, unsigned int threads,
		    const struct fb_progress *progress, struct fb_err *err);

/*
 * Mark the image as used: one write of block 0 in which one aligned 8-byte
 * word differs, and a flush. Not undone. Harmless when done twice.
 * FB_EXIT_NO_IMAGE where there is no valid header; -errno of the store.
 */
int fb_image_mark_consumed(const struct fb_store *store, struct fb_err *err);

/* The undo of it, in the same way; harmless where it is not marked. */
int fb_image_unmark_consumed(const struct fb_store *store, struct fb_err *err);

/*
 * The same with the word that says when the kexec began, in microseconds after
 * the header's last time stamp: the last thing that `reboot` writes.
 */
int fb_image_mark_left(const struct fb_store *store, uint32_t left_usec,
		       struct fb_err *err);

/* ---- what is in a store --------------------------------------------------- */

enum fb_image_kind {
	FB_IMAGE_UNKNOWN,     /* bytes that fastboot does not recognise */
	FB_IMAGE_ZERO,        /* blocks 0 and 1 are zero: nothing, or a save
				 that did not reach its commit */
	FB_IMAGE_PRESENT,     /* a committed fastboot header */
	FB_IMAGE_NEWER,       /* written by a later version of fastboot */
	FB_IMAGE_TORN,        /* a fastboot header with a wrong checksum */
	FB_IMAGE_EROFS,       /* an EROFS without a fastboot header */
	FB_IMAGE_EXT,         /* ext2, ext3 or ext4 */
	FB_IMAGE_XFS,
	FB_IMAGE_INFO_BLOCK,  /* a libnvdimm info block (PFN, DAX or BTT) */
};

/*
 * Look at the first 8 KiB. 0 and *kind, or -errno of the store (a store of
 * less than 8 KiB is FB_IMAGE_UNKNOWN).
 */
int fb_image_identify(const struct fb_store *store, enum fb_image_kind *kind,
		      struct fb_err *err);

/* "an ext2, ext3 or ext4 file system", for messages. */
const char *fb_image_kind_text(enum fb_image_kind kind);

#endif
