/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "engine/state.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "engine/state_internal.h"

#define BLOCK 4096u

#define STAT_FLAGS (AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)

/* A directory whose entries are still to be read. */
struct pending {
	uint32_t inode;
	uint32_t state; /* index of the state it belongs to */
};

/* Where a file with several names was first met; open addressing. */
struct link_slot {
	uint64_t dev, ino;
	uint32_t inode; /* FB_INODE_NONE: free */
};

struct scanner {
	const struct fb_state_dir *dirs;
	struct fb_state_scan *scan;
	struct fb_tree *tree; /* of the scan */
	const struct fb_progress *progress;
	struct pending *pending; /* a queue: breadth first */
	size_t pending_count, pending_capacity;
	struct link_slot *links;
	size_t link_count, link_slots; /* slots: a power of two */
	struct fb_extent *extents;     /* of the file at hand */
	size_t extent_count, extent_capacity;
	bool blocks_lie; /* in the directory at hand st_blocks says nothing */
	const struct fb_state_index *earlier; /* may be NULL */
	bool ctime_tells; /* in the directory at hand no change leaves it alone */
};

static int out_of_memory(struct fb_err *err)
{
	return fb_err_set(err, ENOMEM, "out of memory while reading the state");
}

/* ---- hard links ---------------------------------------------------------- */

static uint64_t stx_dev(const struct statx *stx)
{
	return (uint64_t)stx->stx_dev_major << 32 | stx->stx_dev_minor;
}

static struct link_slot *link_find(struct link_slot *slots, size_t count, uint64_t dev,
				   uint64_t ino)
{
	uint64_t hash = (ino * 31 + dev) * 0x9e3779b97f4a7c15u;
	size_t at = (hash >> 32) & (count - 1);

	while (slots[at].inode != FB_INODE_NONE &&
	       (slots[at].dev != dev || slots[at].ino != ino))
		at = (at + 1) & (count - 1);
	return &slots[at];
}

static int links_grow(struct scanner *s)
{
	size_t count = s->link_slots ? s->link_slots * 2 : 256;
	struct link_slot *slots = reallocarray(NULL, count, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		slots[i].inode = FB_INODE_NONE;
	for (size_t i = 0; i < s->link_slots; i++) {
		const struct link_slot *old = &s->links[i];

		if (old->inode != FB_INODE_NONE)
			*link_find(slots, count, old->dev, old->ino) = *old;
	}
	free(s->links);
	s->links = slots;
	s->link_slots = count;
	return 0;
}

/* The slot for this file: free if it was not met before. NULL: no memory. */
static struct link_slot *link_slot(struct scanner *s, const struct statx *stx)
{
	if (2 * (s->link_count + 1) > s->link_slots && links_grow(s))
		return NULL;
	return link_find(s->links, s->link_slots, stx_dev(stx), stx->stx_ino);
}

static void link_remember(struct scanner *s, struct link_slot *slot,
			  const struct statx *stx, uint32_t inode)
{
	slot->dev = stx_dev(stx);
	slot->ino = stx->stx_ino;
	slot->inode = inode;
	s->link_count++;
}

/* ---- one inode ------------------------------------------------------------ */

static int extent_add(struct scanner *s, uint64_t start, uint64_t end)
{
	struct fb_extent *last = NULL;

	if (s->extent_count)
		last = &s->extents[s->extent_count - 1];
	if (last && start <= last->offset + last->length) {
		last->length = end - last->offset;
		return 0;
	}
	if (fb_array_grow(&s->extents, &s->extent_capacity, s->extent_count + 1,
			  sizeof(*s->extents)))
		return -ENOMEM;
	s->extents[s->extent_count++] = (struct fb_extent){ start, end - start, 0 };
	return 0;
}

/* The runs of data of an open file, in whole blocks. */
static int extents_seek(struct scanner *s, int fd, uint64_t size)
{
	off_t at = 0;

	while ((uint64_t)at < size) {
		off_t data = lseek(fd, at, SEEK_DATA), hole;
		uint64_t start, end;

		if (data < 0 && errno == ENXIO)
			return 0;
		if (data < 0 && errno == EINVAL && !at)
			return extent_add(s, 0, size);
		hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		if ((uint64_t)data >= size)
			return 0;
		start = fb_align_down((uint64_t)data, BLOCK);
		end = fb_align_up((uint64_t)hole, BLOCK);
		if (extent_add(s, start, end < size ? end : size))
			return -ENOMEM;
		at = hole;
	}
	return 0;
}

/* What the file system of a directory means by what it says of its files. */
static void know_file_system(struct scanner *s, int dir)
{
	struct statfs fs;
	bool known = !fstatfs(dir, &fs);

	/* EROFS counts the blocks of holes, and so does an overlay above it. */
	s->blocks_lie = known && (fs.f_type == OVERLAYFS_SUPER_MAGIC ||
				  fs.f_type == EROFS_SUPER_MAGIC_V1);
	s->ctime_tells = known && fs.f_type == TMPFS_MAGIC;
}

static int extents_find(struct scanner *s, int dir, const char *name,
			const struct statx *stx)
{
	fb_autoclose int fd = -1;

	/*
	 * Nearly every file: all of it is allocated. Space that is reserved
	 * behind the end may hide a hole: that becomes zeros, never the
	 * other way round.
	 */
	if (!s->blocks_lie &&
	    stx->stx_blocks * 512 >= fb_align_up(stx->stx_size, BLOCK))
		return extent_add(s, 0, stx->stx_size);
	fd = fb_state_beneath(dir, name, O_RDONLY | O_NOATIME | O_NONBLOCK);
	return fd < 0 ? fd : extents_seek(s, fd, stx->stx_size);
}

static int read_extents(struct scanner *s, int dir, const char *name,
			const struct statx *stx, struct fb_inode *inode)
{
	size_t size;
	int rc;

	if (!stx->stx_size)
		return 0;
	s->extent_count = 0;
	rc = extents_find(s, dir, name, stx);
	if (rc || !s->extent_count)
		return rc;
	size = s->extent_count * sizeof(*s->extents);
	inode->extents = malloc(size);
	if (!inode->extents)
		return -ENOMEM;
	memcpy(inode->extents, s->extents, size);
	inode->extent_count = s->extent_count;
	return 0;
}

static int read_target(int dir, const char *name, struct fb_inode *inode)
{
	char target[PATH_MAX];
	ssize_t length = readlinkat(dir, name, target, sizeof(target) - 1);

	if (length < 0)
		return -errno;
	target[length] = '\0';
	inode->target = strdup(target);
	inode->size = (uint64_t)length;
	return inode->target ? 0 : -ENOMEM;
}

static bool is_pending(const struct fb_inode *inode)
{
	for (size_t i = 0; i < inode->xattr_count; i++)
		if (!strcmp(inode->xattrs[i].name, FB_TREE_PENDING_XATTR))
			return true;
	return false;
}

/* What statx() does not say and no change of which leaves the ctime alone. */
static int read_attached(struct scanner *s, int dir, const char *name,
			 const struct fb_state_id *id, struct fb_inode *inode)
{
	const struct fb_inode *earlier =
		s->ctime_tells ? fb_state_index_unchanged(s->earlier, id) : NULL;
	int rc;

	if (earlier)
		return fb_state_inode_take_over(earlier, inode);
	rc = fb_state_xattrs_read(dir, name, inode);
	if (!rc && S_ISLNK(inode->mode))
		rc = read_target(dir, name, inode);
	/* Its contents are not there: an image of it would be one of zeros. */
	if (!rc && is_pending(inode))
		rc = -EINPROGRESS;
	return rc;
}

static int read_inode(struct scanner *s, int dir, const char *name,
		      const struct statx *stx, const struct fb_state_id *id,
		      struct fb_inode *inode)
{
	int rc;

	fb_state_stat_store(inode, stx);
	rc = read_attached(s, dir, name, id, inode);
	if (!rc && S_ISREG(inode->mode))
		rc = read_extents(s, dir, name, stx, inode);
	return rc;
}

/* Append the inode of a name. On failure the tree is as it was. */
static int append_inode(struct scanner *s, int dir, const char *name,
			const struct statx *stx, uint32_t *inode)
{
	struct fb_state_id id = { stx_dev(stx), stx->stx_ino, stx->stx_ctime.tv_sec,
				  stx->stx_ctime.tv_nsec };
	struct fb_inode fresh = { .mode = 0 };
	int rc = fb_array_grow(&s->scan->ids, &s->scan->id_capacity,
			       s->tree->inode_count + 1, sizeof(id));

	if (!rc)
		rc = read_inode(s, dir, name, stx, &id, &fresh);
	if (!rc)
		rc = fb_tree_add(s->tree, inode);
	if (rc) {
		fb_state_inode_free(&fresh);
		return rc;
	}
	s->tree->inodes[*inode] = fresh;
	s->scan->ids[*inode] = id;
	return 0;
}

static int queue(struct scanner *s, uint32_t inode, uint32_t state)
{
	if (fb_array_grow(&s->pending, &s->pending_capacity, s->pending_count + 1,
			  sizeof(*s->pending)))
		return -ENOMEM;
	s->pending[s->pending_count++] = (struct pending){ inode, state };
	return 0;
}

/* ---- one directory --------------------------------------------------------- */

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(names[i]);
	free(names);
}

/* The names in a directory, sorted; takes `fd` over. 0 or -errno. */
static int list_directory(int fd, char ***names, size_t *count)
{
	fb_autoclosedir DIR *dir = fdopendir(fd);
	size_t capacity = 0;
	struct dirent *entry;

	*names = NULL;
	*count = 0;
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while ((errno = 0, entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (fb_array_grow(names, &capacity, *count + 1, sizeof(**names)))
			return -ENOMEM;
		(*names)[*count] = strdup(entry->d_name);
		if (!(*names)[(*count)++])
			return -ENOMEM;
	}
	if (*count)
		qsort(*names, *count, sizeof(**names), compare_strings);
	return -errno;
}

/* `below`: the directory's path below its state, "" or "a/b/". */
static bool excluded(const struct fb_state_dir *dir, const char *below,
		     const char *name)
{
	fb_autofree char *path = NULL;

	if (!dir->exclude_count)
		return false;
	path = fb_asprintf("%s%s", below, name);
	for (size_t i = 0; path && i < dir->exclude_count; i++)
		if (!fnmatch(dir->excludes[i], path, 0))
			return true;
	return false;
}

static int refuse_mount(struct scanner *s, const struct pending *p, const char *name,
			struct fb_err *err)
{
	fb_autofree char *path = fb_tree_path(s->tree, p->inode);
	fb_autofree char *text = path ? fb_asprintf("%s/%s", path, name) : NULL;
	fb_autofree char *shown = text ? fb_escape(text, strlen(text)) : NULL;

	return fb_err_set(err, EXDEV,
			  "something else is mounted on '%s', inside the state '%s': "
			  "make it a state of its own outside, unmount it, or "
			  "exclude it",
			  shown ? shown : "?", s->dirs[p->state].path);
}

static bool is_mount(const struct statx *stx, uint64_t dev)
{
	/* Since Linux 5.8; before, a bind mount of the same one is not seen. */
	if (stx->stx_attributes_mask & STATX_ATTR_MOUNT_ROOT)
		return stx->stx_attributes & STATX_ATTR_MOUNT_ROOT;
	return stx_dev(stx) != dev;
}

/* The inode of a name: a new one, or one that was met before. */
static int enter_inode(struct scanner *s, const struct pending *p, int fd,
		       const char *name, const struct statx *stx, uint32_t *inode)
{
	struct link_slot *slot = NULL;
	int rc;

	if (stx->stx_nlink > 1 && !S_ISDIR(stx->stx_mode)) {
		slot = link_slot(s, stx);
		if (!slot)
			return -ENOMEM;
		if (slot->inode != FB_INODE_NONE) {
			*inode = slot->inode;
			return 0;
		}
	}
	rc = append_inode(s, fd, name, stx, inode);
	if (!rc && slot)
		link_remember(s, slot, stx, *inode);
	if (!rc && S_ISDIR(stx->stx_mode))
		rc = queue(s, *inode, p->state);
	return rc;
}

/* Takes `name` over on success. */
static void add_entry(struct fb_tree *tree, uint32_t dir, uint32_t inode, char *name)
{
	struct fb_inode *d = &tree->inodes[dir], *i = &tree->inodes[inode];

	d->entries[d->entry_count] = (struct fb_dirent){ name, inode };
	if (!i->nlink) {
		i->parent = dir;
		i->name = (uint32_t)d->entry_count;
	}
	d->entry_count++;
	i->nlink++;
	if (S_ISDIR(i->mode)) {
		i->nlink = 2;
		d->nlink++;
	}
}

/* Does the name lead elsewhere by now? What failed was not about this file. */
static bool is_gone(int fd, const char *name, const struct statx *before)
{
	struct statx stx;

	return statx(fd, name, STAT_FLAGS, STATX_BASIC_STATS, &stx) ||
	       stx_dev(&stx) != stx_dev(before) || stx.stx_ino != before->stx_ino ||
	       (stx.stx_mode ^ before->stx_mode) & S_IFMT;
}

static int refuse_name(const struct scanner *s, uint32_t dir, const char *name, int rc,
		       struct fb_err *err)
{
	fb_state_fail_entry(err, -rc, "read", s->tree, dir, name);
	if (rc == -EINPROGRESS)
		fb_err_append(err, ": a lazy restore has not filled it yet; `fastboot "
				   "status` says how far it is");
	return rc;
}

/* 0, also when the name is not to be kept or has vanished. */
static int read_entry(struct scanner *s, const struct pending *p, int fd,
		      const char *below, char **name, struct fb_err *err)
{
	const struct fb_state_dir *dir = &s->dirs[p->state];
	uint32_t inode = FB_INODE_NONE;
	struct statx stx;
	int rc;

	if (excluded(dir, below, *name))
		return 0;
	/* It vanished: without it the tree is as good as if we came later. */
	if (statx(fd, *name, STAT_FLAGS, STATX_BASIC_STATS, &stx)) {
		rc = -errno;
		if (rc == -ENOENT)
			return 0;
	} else if (is_mount(&stx, s->scan->ids[p->inode].dev)) {
		return refuse_mount(s, p, *name, err);
	} else {
		rc = enter_inode(s, p, fd, *name, &stx, &inode);
		if (rc && inode == FB_INODE_NONE && is_gone(fd, *name, &stx))
			return 0;
	}
	if (rc)
		return refuse_name(s, p->inode, *name, rc, err);
	add_entry(s->tree, p->inode, inode, fb_steal_ptr(*name));
	return 0;
}

/* The path of a directory below its state, with a slash behind; "" for itself. */
static char *path_below(const struct scanner *s, const struct pending *p)
{
	fb_autofree char *path = NULL;
	size_t skip;

	if (s->tree->states[p->state].inode == p->inode)
		return strdup("");
	path = fb_tree_path(s->tree, p->inode);
	skip = strlen(s->tree->states[p->state].path) + 1;
	return path ? fb_asprintf("%s/", path + skip) : NULL;
}

static int read_entries(struct scanner *s, const struct pending *p, int fd,
			char **names, size_t count, struct fb_err *err)
{
	fb_autofree char *below = path_below(s, p);
	struct fb_inode *d = &s->tree->inodes[p->inode];

	d->entries = count ? calloc(count, sizeof(*d->entries)) : NULL;
	if (!below || (count && !d->entries))
		return out_of_memory(err);
	for (size_t i = 0; i < count; i++) {
		int rc = read_entry(s, p, fd, below, &names[i], err);

		if (rc)
			return rc;
	}
	return 0;
}

/* Removed, or replaced, since its name was read; not for a state itself. */
static bool dir_vanished(const struct scanner *s, const struct pending *p, int rc)
{
	return (rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP) &&
	       s->tree->states[p->state].inode != p->inode;
}

/* A directory that has vanished is as good as an empty one: it was that last. */
static int read_directory(struct scanner *s, struct pending p, struct fb_err *err)
{
	struct fb_err why = FB_ERR_INIT;
	fb_autoclose int fd =
		fb_state_beneath_inode(s->scan->root, s->tree, p.inode,
				       O_RDONLY | O_DIRECTORY | O_NOATIME, &why);
	char **names = NULL;
	size_t count = 0;
	int rc;

	if (fd < 0 && dir_vanished(s, &p, fd))
		return 0;
	if (fd < 0 && err)
		*err = why;
	if (fd < 0)
		return fd;
	know_file_system(s, fd);
	rc = list_directory(fcntl(fd, F_DUPFD_CLOEXEC, 0), &names, &count);
	if (!rc)
		rc = read_entries(s, &p, fd, names, count, err);
	else if (dir_vanished(s, &p, rc))
		rc = 0;
	else
		rc = fb_state_fail_entry(err, -rc, "list", s->tree, p.inode, "");
	free_names(names, count);
	return rc;
}

/* ---- the way down to a state ------------------------------------------------ */

static int entry_reserve(struct fb_inode *dir)
{
	struct fb_dirent *grown =
		reallocarray(dir->entries, dir->entry_count + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	dir->entries = grown;
	return 0;
}

static uint32_t find_entry(const struct fb_inode *dir, const char *name)
{
	for (size_t i = 0; i < dir->entry_count; i++)
		if (!strcmp(dir->entries[i].name, name))
			return dir->entries[i].inode;
	return FB_INODE_NONE;
}

/* A directory on the way, or the state itself: metadata only. */
static int add_directory(struct scanner *s, uint32_t parent, int fd, const char *name,
			 const struct statx *stx, uint32_t *inode)
{
	fb_autofree char *copy = strdup(name);
	int rc = append_inode(s, fd, name, stx, inode);

	if (!rc)
		rc = entry_reserve(&s->tree->inodes[parent]);
	if (!rc && !copy)
		rc = -ENOMEM;
	if (!rc)
		add_entry(s->tree, parent, *inode, fb_steal_ptr(copy));
	return rc;
}

static int refuse_symlink(const char *path, struct fb_err *err)
{
	fb_autofree char *real = realpath(path, NULL);

	return fb_err_set(err, ELOOP,
			  "the state '%s' leads through a symbolic link: use '%s'",
			  path, real ? real : "the real path");
}

/* One component of a state's path, into stx. */
static int stat_component(const char *path, int fd, const char *name, struct statx *stx,
			  struct fb_err *err)
{
	if (statx(fd, name, STAT_FLAGS, STATX_BASIC_STATS, stx))
		return fb_err_sys(err, errno, "cannot read the state '%s'", path);
	if (S_ISLNK(stx->stx_mode))
		return refuse_symlink(path, err);
	if (!S_ISDIR(stx->stx_mode))
		return fb_err_set(err, ENOTDIR, "the state '%s' is not a directory",
				  path);
	return 0;
}

/* Go from *at (with descriptor *fd) one component down; stx is that one's. */
static int descend(struct scanner *s, const char *path, const char *name, uint32_t *at,
		   int *fd, struct statx *stx, struct fb_err *err)
{
	uint32_t next = find_entry(&s->tree->inodes[*at], name);
	int rc = stat_component(path, *fd, name, stx, err), down;

	if (rc)
		return rc;
	if (next == FB_INODE_NONE)
		rc = add_directory(s, *at, *fd, name, stx, &next);
	down = rc ? rc : fb_state_beneath(*fd, name, O_PATH | O_DIRECTORY);
	if (down < 0)
		return fb_err_sys(err, -down, "cannot read the state '%s'", path);
	close(*fd);
	*fd = down;
	*at = next;
	return 0;
}

/* Two states are one directory, or one is above the other? */
static int check_overlap(const struct scanner *s, size_t index, struct fb_err *err)
{
	const char *a = s->tree->states[index].path;

	for (size_t i = 0; i < index; i++) {
		const char *b = s->tree->states[i].path;
		size_t n = strlen(a) < strlen(b) ? strlen(a) : strlen(b);
		const struct fb_state_id *x, *y;

		x = &s->scan->ids[s->tree->states[index].inode];
		y = &s->scan->ids[s->tree->states[i].inode];
		if (!strcmp(a, b) || (x->dev == y->dev && x->ino == y->ino))
			return fb_err_set(err, EINVAL,
					  "the states '%s' and '%s' are the same "
					  "directory",
					  b, a);
		if (!strncmp(a, b, n) && (a[n] == '/' || b[n] == '/'))
			return fb_err_set(err, EINVAL,
					  "of the states '%s' and '%s' one is inside "
					  "the other",
					  b, a);
	}
	return 0;
}

/* "/a//b/./" to "/a/b". -EINVAL for what no state can be. */
static int normalize(const char *path, char **normal, struct fb_err *err)
{
	fb_autofree char *out = malloc(strlen(path) + 1);
	char *to = out;

	if (!out)
		return out_of_memory(err);
	if (*path != '/')
		return fb_err_set(err, EINVAL,
				  "a state must be an absolute path, not '%s'", path);
	while (*(path += strspn(path, "/"))) {
		size_t n = strcspn(path, "/");

		if (n == 2 && !memcmp(path, "..", 2))
			return fb_err_set(err, EINVAL,
					  "a state's path must not contain '..'");
		if (n != 1 || *path != '.') {
			*to++ = '/';
			memcpy(to, path, n);
			to += n;
		}
		path += n;
	}
	*to = '\0';
	if (to == out)
		return fb_err_set(err, EINVAL, "'/' cannot be a state");
	*normal = fb_steal_ptr(out);
	return 0;
}

static int locate_state(struct scanner *s, struct fb_tree_state *state,
			struct fb_err *err)
{
	fb_autofree char *rest = strdup(state->path);
	fb_autoclose int fd = fcntl(s->scan->root, F_DUPFD_CLOEXEC, 0);
	uint64_t parent_dev = 0;
	struct statx stx;
	char *save = NULL;

	if (!rest || fd < 0)
		return out_of_memory(err);
	for (char *name = strtok_r(rest, "/", &save); name;
	     name = strtok_r(NULL, "/", &save)) {
		int rc;

		parent_dev = s->scan->ids[state->inode].dev;
		rc = descend(s, state->path, name, &state->inode, &fd, &stx, err);
		if (rc)
			return rc;
	}
	if (is_mount(&stx, parent_dev))
		state->flags |= FB_STATE_WAS_MOUNT;
	return 0;
}

static int add_state(struct scanner *s, size_t index, struct fb_err *err)
{
	struct fb_tree_state *state = &s->tree->states[index];
	const struct fb_state_dir *dir = &s->dirs[index];
	int rc = normalize(dir->path, &state->path, err);

	s->tree->state_count = index + 1;
	if (rc)
		return rc;
	state->name = strdup(dir->name ? dir->name : state->path);
	if (!state->name)
		return out_of_memory(err);
	rc = locate_state(s, state, err);
	if (!rc)
		rc = check_overlap(s, index, err);
	if (!rc && queue(s, state->inode, (uint32_t)index))
		rc = out_of_memory(err);
	return rc;
}

/* ---- all of it --------------------------------------------------------------- */

/* The ways down were entered as they came: sort them, then find them again. */
static void sort_ways(struct fb_tree *tree)
{
	for (size_t i = 0; i < tree->state_count; i++) {
		uint32_t at = tree->states[i].inode;

		while (at) {
			struct fb_inode *d;

			at = tree->inodes[at].parent;
			fb_tree_sort(tree, at);
			d = &tree->inodes[at];
			for (size_t e = 0; e < d->entry_count; e++)
				tree->inodes[d->entries[e].inode].name = (uint32_t)e;
		}
	}
}

static int scan_root(struct scanner *s, struct fb_err *err)
{
	struct statx stx;
	uint32_t inode;
	int rc;

	s->scan->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->scan->root < 0 ||
	    statx(s->scan->root, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx))
		return fb_err_sys(err, errno, "cannot read '/'");
	rc = append_inode(s, s->scan->root, ".", &stx, &inode);
	if (rc)
		return fb_err_sys(err, -rc, "cannot read '/'");
	s->tree->inodes[inode].nlink = 2;
	return 0;
}

static int scan_all(struct scanner *s, size_t count, struct fb_err *err)
{
	const struct fb_progress *progress = s->progress;
	int rc = scan_root(s, err);

	s->tree->states = calloc(count, sizeof(*s->tree->states));
	if (!s->tree->states)
		return out_of_memory(err);
	for (size_t i = 0; i < count && !rc; i++)
		rc = add_state(s, i, err);
	s->scan->ways = (uint32_t)s->tree->inode_count;
	for (size_t i = 0; i < s->pending_count && !rc; i++) {
		rc = read_directory(s, s->pending[i], err);
		if (!rc && progress)
			rc = progress->report(progress->context, s->tree->inode_count,
					      0);
		if (rc && err && !err->error)
			fb_err_set(err, -rc, "interrupted while reading the state");
	}
	if (!rc)
		sort_ways(s->tree);
	return rc;
}

/* The time that a file changed now would get at the least. */
static void note_time(struct fb_state_scan *scan)
{
	struct timespec now;

	if (clock_gettime(CLOCK_REALTIME_COARSE, &now))
		return;
	scan->began_sec = now.tv_sec;
	scan->began_nsec = (uint32_t)now.tv_nsec;
}

/* Does tmpfs note a change of extended attributes in the ctime? */
static bool xattrs_change_ctime(void)
{
	struct utsname uts;
	unsigned int major, minor;

	return !uname(&uts) && sscanf(uts.release, "%u.%u", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 6));
}

int fb_state_scan(const struct fb_state_dir *dirs, size_t count,
		  const struct fb_progress *progress, struct fb_state_scan *scan,
		  struct fb_err *err)
{
	return fb_state_scan_again(dirs, count, NULL, progress, scan, err);
}

int fb_state_scan_again(const struct fb_state_dir *dirs, size_t count,
			const struct fb_state_index *earlier,
			const struct fb_progress *progress, struct fb_state_scan *scan,
			struct fb_err *err)
{
	struct fb_state_scan result = FB_STATE_SCAN_INIT;
	struct scanner s = {
		.dirs = dirs,
		.scan = &result,
		.tree = &result.tree,
		.progress = progress,
		.earlier = xattrs_change_ctime() ? earlier : NULL,
	};
	int rc;

	if (!count)
		return fb_err_set(err, EINVAL, "no state is given");
	note_time(&result);
	rc = scan_all(&s, count, err);
	free(s.pending);
	free(s.links);
	free(s.extents);
	if (rc)
		fb_state_scan_free(&result);
	else
		*scan = result;
	return rc;
}

void fb_state_scan_free(struct fb_state_scan *scan)
{
	static const struct fb_state_scan empty = FB_STATE_SCAN_INIT;

	fb_tree_free(&scan->tree);
	free(scan->ids);
	if (scan->root >= 0)
		close(scan->root);
	*scan = empty;
}

bool fb_state_is_mount(const char *path)
{
	fb_autofree char *above = fb_asprintf("%s/..", path);
	struct statx stx, up;

	return above && !statx(AT_FDCWD, path, STAT_FLAGS, STATX_BASIC_STATS, &stx) &&
	       !statx(AT_FDCWD, above, STAT_FLAGS, STATX_BASIC_STATS, &up) &&
	       is_mount(&stx, stx_dev(&up));
}

/* ---- contents ------------------------------------------------------------------ */

static bool same_file(const struct fb_state_scan *scan, uint32_t inode,
		      const struct statx *stx)
{
	const struct fb_state_id *id = &scan->ids[inode];

	return id->dev == stx_dev(stx) && id->ino == stx->stx_ino &&
	       stx->stx_mode == scan->tree.inodes[inode].mode &&
	       (!S_ISREG(stx->stx_mode) ||
		stx->stx_size == scan->tree.inodes[inode].size);
}

int fb_state_open(void *context, uint32_t inode, struct fb_err *err)
{
	const struct fb_state_scan *scan = context;
	fb_autoclose int fd = fb_state_beneath_inode(
		scan->root, &scan->tree, inode, O_RDONLY | O_NOATIME | O_NONBLOCK, err);
	struct statx stx;

	if (fd < 0)
		return fd;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx))
		return fb_err_sys(err, errno, "cannot read a file of the state");
	if (!same_file(scan, inode, &stx)) {
		fb_autofree char *path = fb_tree_path(&scan->tree, inode);

		return fb_state_fail(err, ESTALE, "save", NULL, path ? path : "?");
	}
	return fb_steal_fd(&fd);
}

/* Is the inode still what was scanned? */
static bool unchanged(const struct fb_state_scan *scan, uint32_t inode, int dir,
		      const char *name)
{
	const struct fb_state_id *id = &scan->ids[inode];
	struct statx stx;

	return !statx(dir, name, STAT_FLAGS, STATX_BASIC_STATS, &stx) &&
	       same_file(scan, inode, &stx) && stx.stx_ctime.tv_sec == id->ctime_sec &&
	       stx.stx_ctime.tv_nsec == id->ctime_nsec;
}

/* Directories above the states may change as they like. */
static bool kept(const struct fb_state_scan *scan, uint32_t inode)
{
	if (inode >= scan->ways)
		return true;
	for (size_t i = 0; i < scan->tree.state_count; i++)
		if (scan->tree.states[i].inode == inode)
			return true;
	return false;
}

static void verify_directory(const struct fb_state_scan *scan, uint32_t dir,
			     size_t *changed, uint32_t *example)
{
	const struct fb_inode *d = &scan->tree.inodes[dir];
	fb_autoclose int fd = fb_state_beneath_inode(scan->root, &scan->tree, dir,
						     O_PATH | O_DIRECTORY, NULL);

	for (size_t e = 0; e < d->entry_count; e++) {
		uint32_t inode = d->entries[e].inode;

		if (!kept(scan, inode) ||
		    (fd >= 0 && unchanged(scan, inode, fd, d->entries[e].name)))
			continue;
		if (!(*changed)++)
			*example = inode;
	}
}

size_t fb_state_changed(const struct fb_state_scan *scan, uint32_t *example)
{
	size_t n = 0;
	uint32_t first = FB_INODE_NONE;

	for (uint32_t i = 0; i < scan->tree.inode_count; i++)
		if (S_ISDIR(scan->tree.inodes[i].mode))
			verify_directory(scan, i, &n, &first);
	*example = first;
	return n;
}

int fb_state_check_unchanged(const struct fb_state_scan *scan, struct fb_err *err)
{
	uint32_t example;
	size_t changed = fb_state_changed(scan, &example);
	fb_autofree char *path = NULL, *text = NULL;

	if (!changed)
		return 0;
	path = fb_tree_path(&scan->tree, example);
	text = path ? fb_escape(path, strlen(path)) : NULL;
	return fb_err_set(err, ESTALE,
			  "'%s' was changed while it was saved (%zu in all): stop what "
			  "writes there, then save again",
			  text ? text : "?", changed);
}
