/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state - the directories whose contents must survive: reads them into a
 * struct fb_tree, and makes them again from one. File contents are moved by
 * the image module, through the `open` functions here; neither module knows
 * the other.
 *
 * To save:
 *	fb_state_scan(dirs, count, &progress, &scan, err);
 *	... write scan.tree; contents through fb_state_open(&scan, inode, err) ...
 *	fb_state_changed(&scan, &example);
 *	fb_state_scan_free(&scan);
 * with fb_state_index_make() and fb_state_scan_again() for a second look.
 *
 * To restore, in two steps around the filling of the files:
 *	fb_state_create(tree, under, roots, count, &restore, err);
 *	... fill the files through fb_state_fill_open(restore, inode, err) ...
 *	fb_state_withhold(restore, inode, err);     for each damaged file
 *	fb_state_finish(restore, &progress, err);   owners, modes, times
 *	fb_state_undo(restore, err);                instead, or after a failure
 *	fb_state_restore_free(restore);
 *
 * To make a copy of live directories elsewhere, without an image between:
 * fb_state_scan(), fb_state_create(&scan.tree, ...), fb_state_copy(),
 * fb_state_finish().
 *
 * Names may be any bytes. No symbolic link is ever followed, and nothing
 * outside the given directories is opened: openat2(2) with RESOLVE_BENEATH |
 * RESOLVE_NO_SYMLINKS (Linux 5.6), component by component with O_NOFOLLOW
 * where that is missing or the path is longer than PATH_MAX.
 *
 * Needs /proc (extended attributes of names that cannot be opened go through
 * /proc/self/fd: there is no lgetxattrat before Linux 6.13).
 */
#ifndef FB_ENGINE_STATE_H
#define FB_ENGINE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/tree.h"

struct fb_state_dir {
	const char *name;      /* [state NAME]; NULL: the path is the name */
	const char *path;      /* absolute */
	char *const *excludes; /* fnmatch(3) patterns, `*` matches '/' too, against
				  the path below `path`; a directory that
				  matches is left out with all that it holds */
	size_t exclude_count;
};

/* What a file was when it was scanned. */
struct fb_state_id {
	uint64_t dev, ino;
	int64_t ctime_sec;
	uint32_t ctime_nsec;
};

struct fb_state_scan {
	struct fb_tree tree;
	struct fb_state_id *ids; /* one an inode of the tree; owned */
	size_t id_capacity;
	uint32_t ways; /* inodes below this number: states, and above */
	int root;      /* descriptor of "/", -1 closed */
	/* The clock that files get their ctime from, before anything was read. */
	int64_t began_sec;
	uint32_t began_nsec;
};

#define FB_STATE_SCAN_INIT                                                             \
	{                                                                              \
		FB_TREE_INIT, NULL, 0, 0, -1, 0, 0                                     \
	}

/*
 * Read the directories into one tree that mirrors "/": the directories above
 * a state are there with their own metadata and nothing else in them;
 * tree.states lists the states in the order of `dirs`. Everything below a
 * state is read: all file types, holes (SEEK_DATA, in units of 4096), hard
 * links within and across states, extended attributes with ACLs and
 * capabilities, times in nanoseconds. Names that vanish meanwhile are left
 * out. Reads with O_NOATIME where that is permitted; changes nothing.
 *
 * `progress` (may be NULL) gets inodes; its total is 0, because unknown.
 *
 *   -EINVAL   a path is not absolute, has ".." in it, or is "/"; the same
 *             directory twice, or one inside another
 *   -ELOOP    a path leads through a symbolic link; the text has the real one
 *   -ENOTDIR  a state is not a directory
 *   -EXDEV    something is mounted below a state and not excluded: it would
 *             be lost silently, because only the one file system is read
 *   -EINPROGRESS  a file is not restored yet (FB_TREE_PENDING_XATTR)
 *   -errno    of open, statx(2), listxattr, ...; the text names the path
 *   -EFBIG    more than 2^32 - 2 inodes; -ENOMEM
 *
 * On success free with fb_state_scan_free().
 */
int fb_state_scan(const struct fb_state_dir *dirs, size_t count,
		  const struct fb_progress *progress, struct fb_state_scan *scan,
		  struct fb_err *err);
void fb_state_scan_free(struct fb_state_scan *scan);

/*
 * fb_state_scan(), when there is an earlier scan of these directories, with its
 * index: what only a change of ctime can change is taken from there, and not
 * read again. That is extended attributes and the targets of symbolic links,
 * of files that have the same device, number and ctime as in the earlier scan,
 * with a ctime from before it began. The last condition is what git calls
 * "racily clean" (Documentation/technical/racy-git.txt): files get their times
 * from a clock that stands still between two ticks (or more precisely, but
 * never earlier: Linux 6.13, fs/inode.c, inode_set_ctime_current()), so a change
 * after a ctime was read may lead to the same ctime again, but not when that
 * clock showed more already. That somebody sets the clock back and a change
 * then falls on the same nanosecond is not looked for.
 *
 * Only on tmpfs, whose ctimes are not rounded, and from Linux 6.6 on: mm/shmem.c,
 * shmem_xattr_handler_set() sets the ctime there, and in Linux 5.10 did not.
 * All else is read as by fb_state_scan(), data and holes of sparse files too: a
 * write through a mapping may change them, but never the ctime.
 */
struct fb_state_index;

int fb_state_scan_again(const struct fb_state_dir *dirs, size_t count,
			const struct fb_state_index *earlier,
			const struct fb_progress *progress, struct fb_state_scan *scan,
			struct fb_err *err);

/*
 * A descriptor (O_RDONLY, the caller closes it) of a regular file of the scan;
 * `scan` is a struct fb_state_scan. May be called from several threads.
 * -ESTALE when the name now leads to another file or to one of another size.
 */
int fb_state_open(void *scan, uint32_t inode, struct fb_err *err);

/*
 * Look at every inode again after its contents were read: how many were
 * changed since the scan (ctime, identity) or are gone? `*example` is the
 * first of them, FB_INODE_NONE where there is none. A write through a shared
 * mapping is not noticed on tmpfs: that takes leases.
 */
size_t fb_state_changed(const struct fb_state_scan *scan, uint32_t *example);

/*
 * fb_state_changed() as an error: 0, or -ESTALE with the path of the first and
 * how many there are.
 */
int fb_state_check_unchanged(const struct fb_state_scan *scan, struct fb_err *err);

/*
 * The inodes of a scan by device and number, to find in it what is in a later
 * scan: a file that was renamed is the same one. `scan` must stay. -ENOMEM;
 * freed with free().
 *
 * A number may have been used again for another file since the scan, and a
 * file that was renamed during a scan may be in it twice (the first is found):
 * what was found is where to look, not a proof of anything.
 */
int fb_state_index_make(const struct fb_state_scan *scan, struct fb_state_index **index,
			struct fb_err *err);

/* The inode of the index that is `inode` of `scan`, or FB_INODE_NONE. */
uint32_t fb_state_index_find(const struct fb_state_index *index,
			     const struct fb_state_scan *scan, uint32_t inode);

/* Is something mounted on this directory? False also where that is unknown. */
bool fb_state_is_mount(const char *path);

/*
 * A descriptor (O_RDONLY, the caller closes it) of a directory that must be
 * there and empty: -ENOENT, -ENOTDIR, -ENOTEMPTY, -ELOOP (a symbolic link is in
 * the way), -errno of open.
 */
int fb_state_open_empty(const char *path, struct fb_err *err);

struct fb_state_restore;

/*
 * Make the inodes `roots` (states, or any other inode) and all below them,
 * at their paths under the directory `under` ("/" for the original places;
 * any other is made where it is missing). Files have their size, no contents
 * and mode 0600, directories 0700. Directories above a root are made where
 * they are missing, with their recorded metadata, and else left alone.
 * `tree` must outlive *restore.
 *
 * Before anything is made: each root must be missing or an empty directory,
 * `under` other than "/" as well (-ENOTEMPTY, names an entry found), and every
 * file system involved must have room (-ENOSPC, both sizes, or inodes).
 * -ELOOP where a symbolic link is in the way, -EXDEV where names of a hard
 * link now fall on different file systems.
 *
 * Not root: device nodes fail with -EPERM; owners, trusted.* and security.*
 * are not restored.
 *
 * On failure what was made is removed again; FB_EXIT_UNDO where that failed.
 */
int fb_state_create(const struct fb_tree *tree, const char *under,
		    const uint32_t *roots, size_t count,
		    struct fb_state_restore **restore, struct fb_err *err);

/*
 * The same, but a file for which `late` (one byte an inode) is not 0 and which
 * has one name is made later, on all cores: either by the one call of
 * fb_state_fill_open() for it, and gets owner, mode and times by
 * fb_state_filled(); or by fb_state_make_late().
 */
int fb_state_create_late(const struct fb_tree *tree, const char *under,
			 const uint32_t *roots, size_t count, const uint8_t *late,
			 struct fb_state_restore **restore, struct fb_err *err);

/* Was this inode made, or will be late? Pure. */
bool fb_state_made(const struct fb_state_restore *restore, uint32_t inode);

/*
 * A descriptor (O_RDWR, the caller closes it) of a regular file that was
 * made; -ENOENT for any other. `restore` is a struct fb_state_restore. May be
 * called from several threads.
 */
int fb_state_fill_open(void *restore, uint32_t inode, struct fb_err *err);

/*
 * All its contents were written through `fd`: what fb_state_finish() would do
 * for it, if it was made late. May be called from several threads. -errno of
 * fchown, fsetxattr, fchmod, futimens.
 */
int fb_state_filled(struct fb_state_restore *restore, uint32_t inode, int fd,
		    struct fb_err *err);

struct fb_state_take {
	/*
	 * A file with its size, owner, mode and times, and no contents: `fd`
	 * (O_RDWR) is the callee's from here on, also on failure. `st` is what
	 * fstat said before owner, mode and times were set. From several
	 * threads at once. -errno ends the work.
	 */
	int (*take)(void *context, uint32_t inode, int fd, const struct stat *st,
		    struct fb_err *err);
	void *context;
};

/*
 * Make all late files that are not filled yet. -errno of openat, ftruncate,
 * fchown, fsetxattr, fchmod, futimens, and of `take`.
 */
int fb_state_make_late(struct fb_state_restore *restore,
		       const struct fb_state_take *take, struct fb_err *err);

/*
 * Fill all files that were made of `scan->tree`, on all cores (`threads` 0) or
 * so many threads, from the files of the scan themselves; holes stay holes.
 * Nothing may change them meanwhile: a file that became shorter is -ESTALE.
 * `progress` (may be NULL) gets bytes. -errno of reading and writing.
 */
int fb_state_copy(struct fb_state_scan *scan, struct fb_state_restore *restore,
		  unsigned int threads, const struct fb_progress *progress,
		  struct fb_err *err);

/* Remove every name of a file that was made: its contents are damaged. */
int fb_state_withhold(struct fb_state_restore *restore, uint32_t inode,
		      struct fb_err *err);

/*
 * Set owner, extended attributes, mode and times, in this order (chown drops
 * capabilities and set-user-ID), directories after all they hold; then, where
 * it was made below "/", flush the file systems (syncfs(2), nothing to do on
 * tmpfs): what follows may give up the image. `progress`
 * (may be NULL) gets names. After a failure call fb_state_undo().
 */
int fb_state_finish(struct fb_state_restore *restore,
		    const struct fb_progress *progress, struct fb_err *err);

/*
 * Remove everything that was made; directories that were there before get
 * their metadata back. Does as much as it can; -errno of the first that
 * failed, with FB_EXIT_UNDO.
 */
int fb_state_undo(struct fb_state_restore *restore, struct fb_err *err);

void fb_state_restore_free(struct fb_state_restore *restore);

#endif
