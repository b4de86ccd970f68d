/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tree - a directory tree in memory, without the files' contents: what the
 * state module reads from directories and the image module writes into an
 * image, and the other way round after the boot. Plain structs: neither
 * module knows the other.
 *
 * Inodes are numbered 0..inode_count-1; inode 0 is the root directory. A hard
 * link is a second directory entry with the same inode number. "." and ".."
 * are not stored.
 */
#ifndef FB_BASE_TREE_H
#define FB_BASE_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fb_err;

#define FB_INODE_NONE UINT32_MAX

/* `name` is the full name ("user.mime"), NUL-terminated; both are owned. */
struct fb_xattr {
	char *name;
	void *value; /* NULL where size is 0 */
	size_t size;
};

/*
 * A run of file data that is not a hole. offset and length are multiples of
 * 4096, but for the length of a run that ends at the end of the file.
 */
struct fb_extent {
	uint64_t offset; /* in the file, bytes */
	uint64_t length; /* bytes, never 0 */
	uint64_t block;  /* first 4096-byte block in the image; 0 not placed */
};

struct fb_dirent {
	char *name;      /* any bytes but '/' and NUL; NUL-terminated; owned */
	uint32_t inode;
};

struct fb_inode {
	mode_t mode; /* type and permission bits, as in struct stat */
	uid_t uid;
	gid_t gid;
	uint32_t nlink; /* names in this tree (directories: as stat counts) */
	dev_t rdev;     /* character and block devices */
	int64_t mtime_sec;
	uint32_t mtime_nsec;
	uint64_t size;  /* regular files and symbolic links, bytes */

	struct fb_xattr *xattrs; /* owned */
	size_t xattr_count;

	char *target; /* symbolic link: NUL-terminated; owned */

	struct fb_extent *extents; /* regular file: ascending; owned */
	size_t extent_count;

	struct fb_dirent *entries; /* directory: in byte order of names; owned */
	size_t entry_count;

	uint32_t parent; /* a directory that names it (root: 0) */
	uint32_t name;   /* its index in that directory's entries */
};

/* One of the directories that the image was asked to keep. */
struct fb_tree_state {
	char *name;     /* the configuration's [state NAME], or the path; owned */
	char *path;     /* absolute, as in the tree; owned */
	uint32_t inode;
	uint32_t flags; /* FB_STATE_* */
};

#define FB_STATE_WAS_MOUNT 0x1u /* the directory was a mount point */

struct fb_tree {
	struct fb_inode *inodes; /* owned */
	size_t inode_count;
	size_t inode_capacity;
	struct fb_tree_state *states; /* owned */
	size_t state_count;
};

/* An empty tree: no inode yet. fb_tree_free() leaves one behind. */
#define FB_TREE_INIT { NULL, 0, 0, NULL, 0 }

/*
 * The extended attribute of a file on disk that stands but is not filled yet
 * (engine/lazy.h). Never part of a tree: saving such a file would lose it.
 */
#define FB_TREE_PENDING_XATTR "trusted.fastboot.pending"

void fb_tree_free(struct fb_tree *tree);

/*
 * Append a zeroed inode; *inode is its number. Pointers into tree->inodes are
 * stale afterwards. 0, -ENOMEM, -EFBIG past 2^32 - 2 inodes.
 */
int fb_tree_add(struct fb_tree *tree, uint32_t *inode);

/*
 * The path of an inode by its `parent` and `name`, from the root of the tree:
 * "/a/b" ("/" for the root); malloc'ed, NULL when memory is out.
 */
char *fb_tree_path(const struct fb_tree *tree, uint32_t inode);

/*
 * Find an absolute path ("/a/b", no "." or ".."); FB_INODE_NONE where there
 * is none. Entries must be sorted.
 */
uint32_t fb_tree_lookup(const struct fb_tree *tree, const char *path);

/* Sort a directory's entries in byte order of their names. */
void fb_tree_sort(struct fb_tree *tree, uint32_t directory);

/* Sums over a tree. */
struct fb_tree_totals {
	uint64_t files;       /* regular files (inodes) */
	uint64_t directories;
	uint64_t others;      /* links, FIFOs, sockets, devices (inodes) */
	uint64_t data_bytes;  /* in extents */
};

void fb_tree_count(const struct fb_tree *tree, struct fb_tree_totals *totals);

/*
 * What the data takes where every part of a file that begins at a multiple of
 * 2 MiB, lies wholly in the file and has any data is a huge page: its holes
 * take memory then. At least totals.data_bytes.
 */
uint64_t fb_tree_huge_bytes(const struct fb_tree *tree);

/*
 * Progress of long work: called with bytes (or blocks, pages) done and the
 * total, from any thread but never from two at once; `done` never falls.
 * A return other than 0 (a negative errno) stops the work with that error.
 */
struct fb_progress {
	int (*report)(void *context, uint64_t done, uint64_t total);
	void *context;
};

#endif
