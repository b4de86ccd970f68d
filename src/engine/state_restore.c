/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "engine/state.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/util.h"
#include "engine/state_internal.h"
#include "engine/state_made.h"

const char *fb_state_made_name(const struct fb_state_restore *r,
			       const struct fb_state_name *m)
{
	if (m->entry == FB_STATE_NO_NAME)
		return "";
	return r->tree->inodes[m->dir].entries[m->entry].name;
}

int fb_state_fail_made(const struct fb_state_restore *r, struct fb_err *err, int error,
		       const char *verb, uint32_t dir, const char *name)
{
	fb_autofree char *path = fb_tree_path(r->tree, dir);
	fb_autofree char *full = fb_asprintf(
		"%s%s", strcmp(r->under, "/") ? r->under : "", path ? path : "?");

	return fb_state_fail(err, error, verb, full ? full : "?", name);
}

/* The descriptor of a directory of the tree, kept until another is asked for. */
static int enter(struct fb_state_restore *r, uint32_t dir, struct fb_err *err)
{
	fb_autofree char *path = NULL;
	int fd;

	if (r->at_fd >= 0 && r->at == dir)
		return r->at_fd;
	path = fb_tree_path(r->tree, dir);
	if (!path)
		return fb_err_set(err, ENOMEM, "out of memory");
	fd = fb_state_beneath(r->root, path, O_RDONLY | O_DIRECTORY | O_NOATIME);
	if (fd < 0)
		return fb_state_fail_made(r, err, -fd, "open", dir, "");
	if (r->at_fd >= 0)
		close(r->at_fd);
	r->at = dir;
	r->at_fd = fd;
	return fd;
}

/* ---- before anything is made ------------------------------------------------ */

/* What the restore needs of one file system. */
struct room {
	dev_t dev;
	struct statvfs vfs;
	uint64_t bytes, inodes;
};

/* An entry of a directory that should have none; "" where it has none. */
static int find_any(int dir, char *name, size_t size)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fb_autoclosedir DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!d)
		return -errno;
	name[0] = '\0';
	while ((entry = readdir(d)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) {
			snprintf(name, size, "%s", entry->d_name);
			break;
		}
	return 0;
}

/* `shown` is for messages. */
static int check_empty(int dir, const char *shown, struct fb_err *err)
{
	fb_autofree char *text = NULL;
	char name[256];
	int rc = find_any(dir, name, sizeof(name));

	if (rc)
		return fb_err_sys(err, -rc, "cannot list '%s'", shown);
	if (!name[0])
		return 0;
	text = fb_escape(name, strlen(name));
	return fb_err_set(err, ENOTEMPTY,
			  "'%s' is not empty (there is '%s' in it): move it away first",
			  shown, text ? text : "?");
}

/* Bytes and inodes below an inode; hard links are counted once. */
static void add_need(const struct fb_tree *tree, uint32_t inode, uint64_t unit,
		     uint8_t *seen, struct room *room)
{
	const struct fb_inode *i = &tree->inodes[inode];

	if (seen[inode])
		return;
	seen[inode] = 1;
	room->inodes++;
	for (size_t e = 0; e < i->extent_count; e++)
		room->bytes += fb_align_up(i->extents[e].length, unit);
}

static int add_needs(const struct fb_tree *tree, uint32_t root, uint8_t *seen,
		     struct room *room, struct fb_err *err)
{
	uint64_t unit =
		fb_is_power_of_2(room->vfs.f_frsize) ? room->vfs.f_frsize : 4096;
	fb_autofree uint32_t *stack = malloc(tree->inode_count * sizeof(*stack));
	size_t depth = 0;

	if (!stack)
		return fb_err_set(err, ENOMEM, "out of memory");
	add_need(tree, root, unit, seen, room);
	stack[depth++] = root;
	while (depth) {
		const struct fb_inode *d = &tree->inodes[stack[--depth]];

		for (size_t e = 0; e < d->entry_count; e++) {
			uint32_t inode = d->entries[e].inode;

			/* Each is pushed once: a damaged tree may have loops. */
			if (!seen[inode] && S_ISDIR(tree->inodes[inode].mode))
				stack[depth++] = inode;
			add_need(tree, inode, unit, seen, room);
		}
	}
	return 0;
}

static int check_room(const struct room *room, const char *shown, struct fb_err *err)
{
	uint64_t avail = (uint64_t)room->vfs.f_bavail * room->vfs.f_frsize;
	char need[FB_SIZE_TEXT_MAX], have[FB_SIZE_TEXT_MAX];

	/* A tmpfs without a limit says that it has 0 blocks. */
	if (room->vfs.f_blocks && room->bytes > avail)
		return fb_err_set(
			err, ENOSPC,
			"the files need %s, but there is only %s free in '%s'",
			fb_size_text(room->bytes, need), fb_size_text(avail, have),
			shown);
	if (room->vfs.f_files && room->inodes > room->vfs.f_favail)
		return fb_err_set(err, ENOSPC,
				  "there are %llu files, but '%s' has room for only "
				  "%llu (inodes)",
				  (unsigned long long)room->inodes, shown,
				  (unsigned long long)room->vfs.f_favail);
	return 0;
}

static int room_of(int fd, struct room *rooms, size_t *count, struct room **room)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	for (size_t i = 0; i < *count; i++)
		if (rooms[i].dev == st.st_dev) {
			*room = &rooms[i];
			return 0;
		}
	*room = &rooms[*count];
	(*room)->dev = st.st_dev;
	if (fstatvfs(fd, &(*room)->vfs))
		return -errno;
	(*count)++;
	return 0;
}

/* O_DIRECTORY makes no difference between a symbolic link and a file. */
static bool is_symlink(int root, const char *path)
{
	fb_autoclose int fd = fb_state_beneath(root, path, O_PATH);
	struct stat st;

	return fd == -ELOOP || (fd >= 0 && !fstat(fd, &st) && S_ISLNK(st.st_mode));
}

int fb_state_open_empty(const char *path, struct fb_err *err)
{
	fb_autoclose int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	fb_autofree char *shown = fb_escape(path, strlen(path));
	fb_autoclose int fd = -1;
	int rc;

	if (root < 0 || !shown)
		return fb_err_set(err, ENOMEM, "out of memory");
	fd = fb_state_beneath(root, path, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fb_state_fail(err, is_symlink(root, path) ? ELOOP : -fd, "use",
				     NULL, path);
	rc = check_empty(fd, shown, err);
	return rc ? rc : fb_steal_fd(&fd);
}

/*
 * The nearest directory to `path` that exists; a descriptor in *fd. *whole: it
 * is `path` itself.
 */
static int nearest(const struct fb_state_restore *r, const char *path, int *fd,
		   bool *whole, struct fb_err *err)
{
	const char *under = strcmp(r->under, "/") ? r->under : "";
	fb_autofree char *at = strdup(path);

	if (!at)
		return fb_err_set(err, ENOMEM, "out of memory");
	*whole = true;
	for (;;) {
		int found = fb_state_beneath(r->root, at, O_RDONLY | O_DIRECTORY);

		if (found >= 0) {
			*fd = found;
			return 0;
		}
		if (found == -ELOOP || is_symlink(r->root, at))
			return fb_state_fail(err, ELOOP,
					     "restore through the symbolic link", under,
					     at);
		if (found != -ENOENT || !*at)
			return fb_state_fail(err, -found, "restore into", under, at);
		*strrchr(at, '/') = '\0';
		*whole = false;
	}
}

/* The path of an inode where it is restored to, for messages; NULL: no memory. */
static char *shown_path(const struct fb_state_restore *r, uint32_t inode)
{
	fb_autofree char *path = fb_tree_path(r->tree, inode);
	fb_autofree char *full = NULL;

	if (!path)
		return NULL;
	full = fb_asprintf("%s%s", strcmp(r->under, "/") ? r->under : "", path);
	return full ? fb_escape(full, strlen(full)) : NULL;
}

/* One root: missing or empty, and counted in the room of its file system. */
static int check_root(struct fb_state_restore *r, uint32_t root, uint8_t *seen,
		      struct room *rooms, size_t *room_count, struct fb_err *err)
{
	fb_autofree char *path = fb_tree_path(r->tree, root);
	fb_autofree char *shown = shown_path(r, root);
	fb_autoclose int fd = -1;
	struct room *room = NULL;
	bool whole = false;
	int rc;

	if (!path || !shown)
		return fb_err_set(err, ENOMEM, "out of memory");
	rc = nearest(r, path, &fd, &whole, err);
	if (rc)
		return rc;
	if (whole && !S_ISDIR(r->tree->inodes[root].mode))
		return fb_err_set(err, EISDIR, "'%s' is a directory", shown);
	if (whole)
		rc = check_empty(fd, shown, err);
	if (rc)
		return rc;
	rc = room_of(fd, rooms, room_count, &room);
	if (rc)
		return fb_err_sys(err, -rc, "cannot look at '%s'", shown);
	rc = add_needs(r->tree, root, seen, room, err);
	return rc ? rc : check_room(room, shown, err);
}

static int check_roots(struct fb_state_restore *r, const uint32_t *roots, size_t count,
		       struct fb_err *err)
{
	fb_autofree uint8_t *seen = calloc(r->tree->inode_count, 1);
	fb_autofree struct room *rooms = calloc(count, sizeof(*rooms));
	size_t room_count = 0;

	if (!seen || !rooms)
		return fb_err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < count; i++) {
		int rc = check_root(r, roots[i], seen, rooms, &room_count, err);

		if (rc)
			return rc;
	}
	return 0;
}

/* ---- making -------------------------------------------------------------------- */

static struct fb_state_name *remember(struct fb_state_restore *r, uint32_t dir,
				      uint32_t entry, uint32_t inode)
{
	struct fb_state_name *m = &r->made[r->made_count++];

	*m = (struct fb_state_name){ .dir = dir, .entry = entry, .inode = inode };
	m->first = !r->place[inode];
	if (m->first)
		r->place[inode] = (uint32_t)r->made_count;
	return m;
}

/* Room for one more, so that what was made can always be remembered. */
static int reserve(struct fb_state_restore *r)
{
	return fb_array_grow(&r->made, &r->made_capacity, r->made_count + 1,
			     sizeof(*r->made));
}

static int make_file(int dir, const char *name, uint64_t size)
{
	fb_autoclose int fd = openat(
		dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (size && ftruncate(fd, (off_t)size)) {
		int rc = -errno;

		unlinkat(dir, name, 0);
		return rc;
	}
	return 0;
}

static int make_new(int dir, const char *name, const struct fb_inode *inode)
{
	int rc;

	switch (inode->mode & S_IFMT) {
	case S_IFREG:
		return make_file(dir, name, inode->size);
	case S_IFDIR:
		rc = mkdirat(dir, name, 0700);
		break;
	case S_IFLNK:
		rc = symlinkat(inode->target ? inode->target : "", dir, name);
		break;
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		rc = mknodat(dir, name, (inode->mode & S_IFMT) | 0600, inode->rdev);
		break;
	default:
		return -EINVAL;
	}
	return rc ? -errno : 0;
}

static int make_link(struct fb_state_restore *r, int dir, const char *name,
		     const struct fb_state_name *first, struct fb_err *err)
{
	fb_autofree char *path = fb_tree_path(r->tree, first->dir);
	const char *from = fb_state_made_name(r, first);
	fb_autoclose int fd =
		path ? fb_state_beneath(r->root, path, O_PATH | O_DIRECTORY) : -ENOMEM;

	if (fd < 0)
		return fb_state_fail_made(r, err, -fd, "open", first->dir, "");
	return linkat(fd, from, dir, name, 0) ? -errno : 0;
}

static bool is_late(const struct fb_state_restore *r, uint32_t inode)
{
	const struct fb_inode *i = &r->tree->inodes[inode];

	return r->late && r->late[inode] && S_ISREG(i->mode) && i->nlink == 1;
}

static int make_entry(struct fb_state_restore *r, uint32_t dir, uint32_t entry,
		      bool inside, struct fb_err *err)
{
	const struct fb_dirent *e = &r->tree->inodes[dir].entries[entry];
	uint32_t place = r->place[e->inode];
	bool directory = S_ISDIR(r->tree->inodes[e->inode].mode);
	int fd = enter(r, dir, err), rc = 0;

	if (fd < 0)
		return fd;
	if (reserve(r))
		return fb_err_set(err, ENOMEM, "out of memory");
	if (!place && is_late(r, e->inode)) {
		struct fb_state_name *m = remember(r, dir, entry, e->inode);

		m->inside = m->late = true;
		return 0;
	}
	if (place && directory)
		return fb_state_fail_made(r, err, ELOOP,
					  "make the directory twice:", dir, e->name);
	if (place)
		rc = make_link(r, fd, e->name, &r->made[place - 1], err);
	else
		rc = make_new(fd, e->name, &r->tree->inodes[e->inode]);
	if (rc) {
		fb_state_fail_made(r, err, -rc, place ? "link" : "make", dir, e->name);
		if (rc == -EXDEV)
			fb_err_append(err,
				      ": its other name is on another file system "
				      "now; restored one by one, each state gets a "
				      "file of its own");
		return rc;
	}
	remember(r, dir, entry, e->inode)->inside = inside;
	return 0;
}

/*
 * Without an ACL that would be inherited: what is made in it must have its own
 * or none; and closed to others until all is finished.
 */
static int use_existing(struct fb_state_restore *r, uint32_t inode, int fd)
{
	struct fb_state_before *b;
	struct statx stx;
	int rc;

	if (fb_array_grow(&r->before, &r->before_capacity, r->before_count + 1,
			  sizeof(*r->before)))
		return -ENOMEM;
	b = &r->before[r->before_count];
	memset(b, 0, sizeof(*b));
	b->inode = inode;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx))
		return -errno;
	fb_state_stat_store(&b->old, &stx);
	rc = fb_state_xattrs_read(fd, ".", &b->old);
	if (rc) {
		fb_state_inode_free(&b->old);
		return rc;
	}
	r->before_count++;
	if (fremovexattr(fd, "system.posix_acl_default") && errno != ENODATA &&
	    errno != EOPNOTSUPP)
		return -errno;
	return fchmod(fd, 0700) ? -errno : 0;
}

/*
 * Use or make one directory on the way to a root, or the root itself (`last`):
 * it is made, or remembered as one that existed if it is the root.
 */
static int make_step(struct fb_state_restore *r, uint32_t inode, bool last,
		     struct fb_err *err)
{
	const struct fb_inode *i = &r->tree->inodes[inode];
	int fd, rc, parent;

	if (r->place[inode])
		return 0;
	parent = enter(r, i->parent, err);
	if (parent < 0)
		return parent;
	fd = fb_state_beneath(parent, r->tree->inodes[i->parent].entries[i->name].name,
			      O_RDONLY | O_DIRECTORY);
	if (fd == -ENOENT)
		return make_entry(r, i->parent, i->name, last, err);
	if (fd < 0)
		return fb_state_fail_made(r, err, -fd, "restore into", inode, "");
	rc = last ? use_existing(r, inode, fd) : 0;
	close(fd);
	if (!rc && last)
		rc = reserve(r);
	if (rc)
		return fb_state_fail_made(r, err, -rc, "use", inode, "");
	if (last) {
		struct fb_state_name *m = remember(r, i->parent, i->name, inode);

		m->inside = m->existed = true;
	}
	return 0;
}

/* Everything above the root, then the root. Inode 0 is `under` itself. */
static int make_way(struct fb_state_restore *r, uint32_t root, struct fb_err *err)
{
	fb_autofree uint32_t *way = NULL;
	size_t depth = 0, n = 0;
	int rc = 0;

	if (!root) {
		if (reserve(r))
			return fb_err_set(err, ENOMEM, "out of memory");
		remember(r, 0, FB_STATE_NO_NAME, 0)->inside = true;
		return 0;
	}
	for (uint32_t i = root; i; i = r->tree->inodes[i].parent)
		depth++;
	way = malloc(depth * sizeof(*way));
	if (!way)
		return fb_err_set(err, ENOMEM, "out of memory");
	for (uint32_t i = root; i; i = r->tree->inodes[i].parent)
		way[depth - ++n] = i;
	for (size_t i = 0; i < depth && !rc; i++)
		rc = make_step(r, way[i], i + 1 == depth, err);
	return rc;
}

/* r->made grows while it is gone through: the queue of a breadth-first walk. */
static int make_below(struct fb_state_restore *r, size_t from, struct fb_err *err)
{
	for (size_t n = from; n < r->made_count; n++) {
		struct fb_state_name m = r->made[n];
		const struct fb_inode *d = &r->tree->inodes[m.inode];

		if (!m.inside)
			continue;
		for (uint32_t e = 0; e < d->entry_count; e++) {
			int rc = make_entry(r, m.inode, e, true, err);

			if (rc)
				return rc;
		}
	}
	return 0;
}

static int make_all(struct fb_state_restore *r, const uint32_t *roots, size_t count,
		    struct fb_err *err)
{
	for (size_t i = 0; i < count; i++) {
		size_t from = r->made_count;
		int rc = make_way(r, roots[i], err);

		if (!rc)
			rc = make_below(r, from, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int open_under(struct fb_state_restore *r, struct fb_err *err)
{
	bool other = strcmp(r->under, "/") != 0;
	int rc;

	if (other && !mkdir(r->under, 0777))
		r->made_under = true;
	r->root = open(r->under, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->root < 0)
		return fb_state_fail(err, errno, "open", NULL, r->under);
	rc = other ? check_empty(r->root, r->under, err) : 0;
	return rc;
}

int fb_state_create(const struct fb_tree *tree, const char *under,
		    const uint32_t *roots, size_t count,
		    struct fb_state_restore **restore, struct fb_err *err)
{
	return fb_state_create_late(tree, under, roots, count, NULL, restore, err);
}

int fb_state_create_late(const struct fb_tree *tree, const char *under,
			 const uint32_t *roots, size_t count, const uint8_t *late,
			 struct fb_state_restore **restore, struct fb_err *err)
{
	struct fb_state_restore *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return fb_err_set(err, ENOMEM, "out of memory");
	fb_state_doors_open(r);
	r->late = late;
	r->tree = tree;
	r->root = r->at_fd = -1;
	r->privileged = !geteuid();
	r->under = strdup(under);
	r->place = calloc(tree->inode_count, sizeof(*r->place));
	rc = r->under && r->place ? open_under(r, err)
				  : fb_err_set(err, ENOMEM, "out of memory");
	if (!rc)
		rc = check_roots(r, roots, count, err);
	if (!rc)
		rc = make_all(r, roots, count, err);
	if (rc) {
		fb_state_undo(r, err);
		fb_state_restore_free(r);
		return rc;
	}
	r->late = NULL;
	*restore = r;
	return 0;
}

/* ---- between -----------------------------------------------------------------------
 */

bool fb_state_made(const struct fb_state_restore *restore, uint32_t inode)
{
	return inode < restore->tree->inode_count && restore->place[inode];
}

int fb_state_withhold(struct fb_state_restore *r, uint32_t inode, struct fb_err *err)
{
	for (size_t n = 0; n < r->made_count; n++) {
		struct fb_state_name *m = &r->made[n];
		int dir;

		if (m->inode != inode || m->gone)
			continue;
		dir = enter(r, m->dir, err);
		if (dir < 0)
			return dir;
		if (unlinkat(dir, fb_state_made_name(r, m), 0) &&
		    !(m->late && errno == ENOENT))
			return fb_state_fail_made(r, err, errno, "remove", m->dir,
						  fb_state_made_name(r, m));
		m->gone = true;
	}
	return 0;
}

/* ---- metadata
 * ------------------------------------------------------------------------ */

bool fb_state_may_set(const struct fb_state_restore *r, const char *xattr)
{
	return r->privileged ||
	       (strncmp(xattr, "trusted.", 8) && strncmp(xattr, "security.", 9));
}

static int set_xattrs(const struct fb_state_restore *r, int dir, const char *name,
		      const struct fb_inode *inode)
{
	const char *path = fb_state_proc_path(dir, *name ? name : ".");

	for (size_t i = 0; i < inode->xattr_count; i++) {
		const struct fb_xattr *x = &inode->xattrs[i];

		if (fb_state_may_set(r, x->name) &&
		    lsetxattr(path, x->name, x->value ? x->value : "", x->size, 0))
			return -errno;
	}
	return 0;
}

/* Order matters: chown drops set-user-ID and capabilities; times come last. */
static int set_metadata(const struct fb_state_restore *r, int dir, const char *name,
			const struct fb_inode *inode)
{
	const struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_sec = inode->mtime_sec, .tv_nsec = inode->mtime_nsec },
	};
	const char *at = *name ? name : ".";
	int rc;

	if (r->privileged &&
	    fchownat(dir, at, inode->uid, inode->gid, AT_SYMLINK_NOFOLLOW))
		return -errno;
	rc = set_xattrs(r, dir, name, inode);
	if (rc)
		return rc;
	if (!S_ISLNK(inode->mode) && fchmodat(dir, at, inode->mode & 07777, 0))
		return -errno;
	if (utimensat(dir, at, times, AT_SYMLINK_NOFOLLOW))
		return -errno;
	return 0;
}

static bool has_xattr(const struct fb_inode *inode, const char *name)
{
	for (size_t i = 0; i < inode->xattr_count; i++)
		if (!strcmp(inode->xattrs[i].name, name))
			return true;
	return false;
}

/* Remove those attributes of `from` that `to` does not have. */
static int drop_xattrs(const struct fb_state_restore *r, int fd,
		       const struct fb_inode *from, const struct fb_inode *to)
{
	for (size_t i = 0; i < from->xattr_count; i++) {
		const char *name = from->xattrs[i].name;

		/* A label is the policy's, not the state's. */
		if (has_xattr(to, name) || !fb_state_may_set(r, name) ||
		    !strncmp(name, "security.", 9))
			continue;
		if (fremovexattr(fd, name) && errno != ENODATA)
			return -errno;
	}
	return 0;
}

static const struct fb_inode *find_before(const struct fb_state_restore *r,
					  uint32_t inode)
{
	for (size_t i = 0; i < r->before_count; i++)
		if (r->before[i].inode == inode)
			return &r->before[i].old;
	return NULL;
}

static int finish_one(struct fb_state_restore *r, const struct fb_state_name *m,
		      struct fb_err *err)
{
	const struct fb_inode *inode = &r->tree->inodes[m->inode];
	int dir, rc = 0;

	if (!m->first || m->gone || m->done || m->entry == FB_STATE_NO_NAME)
		return 0;
	if (m->existed) {
		/* Through itself: it may be a mount point. */
		dir = enter(r, m->inode, err);
		if (dir < 0)
			return dir;
		rc = drop_xattrs(r, dir, find_before(r, m->inode), inode);
		if (!rc)
			rc = set_metadata(r, dir, "", inode);
	} else {
		dir = enter(r, m->dir, err);
		if (dir < 0)
			return dir;
		rc = set_metadata(r, dir, fb_state_made_name(r, m), inode);
	}
	if (rc)
		return fb_state_fail_made(r, err, -rc, "set the metadata of", m->dir,
					  fb_state_made_name(r, m));
	return 0;
}

static bool is_inside(const struct fb_state_restore *r, uint32_t dir)
{
	uint32_t place = r->place[dir];

	return place && r->made[place - 1].inside;
}

/* The file systems of the roots: those whose entry is not inside another. */
static int flush(struct fb_state_restore *r, struct fb_err *err)
{
	if (strcmp(r->under, "/"))
		return 0;
	for (size_t n = 0; n < r->made_count; n++) {
		const struct fb_state_name *m = &r->made[n];
		bool root = m->inside && !m->gone && !is_inside(r, m->dir);
		int dir = -1;

		if (!root)
			continue;
		dir = enter(r,
			    S_ISDIR(r->tree->inodes[m->inode].mode) ? m->inode : m->dir,
			    err);
		if (dir < 0)
			return dir;
		if (syncfs(dir))
			return fb_state_fail_made(r, err, errno, "flush", m->dir,
						  fb_state_made_name(r, m));
	}
	return 0;
}

int fb_state_finish(struct fb_state_restore *r, const struct fb_progress *progress,
		    struct fb_err *err)
{
	/* Backwards: a directory comes after all that it holds. */
	for (size_t n = r->made_count; n-- > 0;) {
		int rc = finish_one(r, &r->made[n], err);

		if (!rc && progress && !(n % 256)) {
			rc = progress->report(progress->context, r->made_count - n,
					      r->made_count);
			if (rc)
				fb_err_set(err, -rc, "interrupted while restoring");
		}
		if (rc)
			return rc;
	}
	return flush(r, err);
}

/* ---- undo
 * --------------------------------------------------------------------------------- */

static int undo_existing(struct fb_state_restore *r, const struct fb_state_name *m)
{
	const struct fb_inode *old = find_before(r, m->inode);
	int dir = enter(r, m->inode, NULL), rc;

	if (dir < 0)
		return dir;
	rc = drop_xattrs(r, dir, &r->tree->inodes[m->inode], old);
	return rc ? rc : set_metadata(r, dir, "", old);
}

static int undo_one(struct fb_state_restore *r, const struct fb_state_name *m)
{
	int dir, flags = S_ISDIR(r->tree->inodes[m->inode].mode) ? AT_REMOVEDIR : 0;

	if (m->gone || m->entry == FB_STATE_NO_NAME)
		return 0;
	if (m->existed)
		return undo_existing(r, m);
	dir = enter(r, m->dir, NULL);
	if (dir < 0)
		return dir;
	if (unlinkat(dir, fb_state_made_name(r, m), flags) &&
	    !(m->late && errno == ENOENT))
		return -errno;
	return 0;
}

int fb_state_undo(struct fb_state_restore *r, struct fb_err *err)
{
	int first = 0;

	while (r->made_count) {
		const struct fb_state_name *m = &r->made[r->made_count - 1];
		int rc = undo_one(r, m);

		if (rc && !first) {
			struct fb_err undo = FB_ERR_INIT;

			first = fb_state_fail_made(r, &undo, -rc, "undo", m->dir,
						   fb_state_made_name(r, m));
			fb_err_append(err, "%s%s", err && err->error ? "; " : "",
				      undo.text);
		}
		r->made_count--;
	}
	if (r->made_under && rmdir(r->under) && !first)
		first = -errno;
	if (first && err) {
		err->status = FB_EXIT_UNDO;
		err->error = err->error ? err->error : -first;
	}
	return first;
}

void fb_state_restore_free(struct fb_state_restore *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->before_count; i++)
		fb_state_inode_free(&r->before[i].old);
	if (r->at_fd >= 0)
		close(r->at_fd);
	if (r->root >= 0)
		close(r->root);
	fb_state_doors_close(r);
	free(r->before);
	free(r->made);
	free(r->place);
	free(r->under);
	free(r);
}
