/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state_internal - what reading and making a tree share: opening names
 * without following symbolic links, and extended attributes. Only for
 * state_*.c.
 */
#ifndef FB_ENGINE_STATE_INTERNAL_H
#define FB_ENGINE_STATE_INTERNAL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/tree.h"

/*
 * Open `path` (leading slashes are ignored, "" or "/" is `root` itself) below
 * the directory `root`, following no symbolic link. `flags` as for open(2)
 * without O_CREAT. A descriptor or -errno.
 */
int fb_state_beneath(int root, const char *path, int flags);

/* The same for an inode by its path in the tree; *err says what and why. */
int fb_state_beneath_inode(int root, const struct fb_tree *tree, uint32_t inode,
			   int flags, struct fb_err *err);

/* "cannot VERB 'PATH': strerror", PATH (below `dir` if not NULL) escaped. */
int fb_state_fail(struct fb_err *err, int error, const char *verb, const char *dir,
		  const char *name);

/* The same for an entry of a directory of the tree. */
int fb_state_fail_entry(struct fb_err *err, int error, const char *verb,
			const struct fb_tree *tree, uint32_t dir, const char *name);

/* Mode, owner, size, mtime, rdev of *inode. */
void fb_state_stat_store(struct fb_inode *inode, const struct statx *stx);

/* Free what an inode that is in no tree owns (not its entries). */
void fb_state_inode_free(struct fb_inode *inode);

/*
 * All extended attributes of `name` in the directory `dir` ("" is `dir`
 * itself) into inode->xattrs. 0 or -errno; on failure the list may be partly
 * filled (freed with the tree). None, where the file system has none.
 */
int fb_state_xattrs_read(int dir, const char *name, struct fb_inode *inode);

/*
 * The inode of an earlier scan that is the file `id` and has not changed its
 * ctime since that scan began, as fb_state_scan_again() explains; NULL: none,
 * or nobody knows. `earlier` may be NULL.
 */
struct fb_state_index;
struct fb_state_id;

const struct fb_inode *fb_state_index_unchanged(const struct fb_state_index *earlier,
						const struct fb_state_id *id);

/* Copies of the extended attributes and the target; 0 or -ENOMEM. */
int fb_state_inode_take_over(const struct fb_inode *from, struct fb_inode *inode);

/*
 * "/proc/self/fd/<dir>/<name>" in a static thread-local buffer: a path whose
 * last component is not followed by the l*xattr calls.
 */
const char *fb_state_proc_path(int dir, const char *name);

#endif
