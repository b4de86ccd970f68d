/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state_made - what a restore has made so far: shared by state_restore.c,
 * which makes the tree and undoes it, and state_late.c, which makes files when
 * they are filled. Only for these.
 */
#ifndef FB_ENGINE_STATE_MADE_H
#define FB_ENGINE_STATE_MADE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/tree.h"

#define FB_STATE_NO_NAME UINT32_MAX

/* One name that was made, or a directory that was there and is used. */
struct fb_state_name {
	uint32_t dir;	/* the inode whose entry it is */
	uint32_t entry; /* index in its entries; FB_STATE_NO_NAME: inode 0 itself */
	uint32_t inode;
	bool first;   /* not a further name of a hard link */
	bool inside;  /* a root or below one: its entries are made as well */
	bool existed; /* an empty directory that was there */
	bool gone;    /* withheld */
	bool late;    /* made when it is filled, or by fb_state_make_late() */
	bool done;    /* and has its metadata */
};

/* Directories that several threads open files in. */
#define FB_STATE_DOORS 8u

struct fb_state_door {
	uint32_t dir;
	int fd; /* -1: none */
	unsigned int users;
};

/* What a directory that existed was like before. */
struct fb_state_before {
	uint32_t inode;
	struct fb_inode old;
};

struct fb_state_restore {
	const struct fb_tree *tree;
	int root;	 /* descriptor of `under` */
	char *under;	 /* for messages and to remove it */
	bool made_under; /* `under` itself was made */
	bool privileged;
	struct fb_state_name *made; /* parents before what they hold */
	size_t made_count, made_capacity;
	uint32_t *place; /* by inode: index + 1 of its first name; 0 none */
	struct fb_state_before *before;
	size_t before_count, before_capacity;
	uint32_t at;	      /* the directory that at_fd is */
	int at_fd;	      /* -1: none */
	const uint8_t *late;  /* while the tree is made; may be NULL */
	pthread_mutex_t lock; /* for the doors */
	struct fb_state_door doors[FB_STATE_DOORS];
};

/* ---- state_restore.c ---- */

const char *fb_state_made_name(const struct fb_state_restore *r,
			       const struct fb_state_name *m);

/* fb_state_fail_entry() with `under` in front of the path. */
int fb_state_fail_made(const struct fb_state_restore *r, struct fb_err *err, int error,
		       const char *verb, uint32_t dir, const char *name);

/* Not root: some extended attributes are not restored. */
bool fb_state_may_set(const struct fb_state_restore *r, const char *xattr);

/* ---- state_late.c ---- */

void fb_state_doors_open(struct fb_state_restore *r);
void fb_state_doors_close(struct fb_state_restore *r);

#endif
