/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lazy_internal - what the gate and the fillers share; only for lazy*.c. */
#ifndef FB_ENGINE_LAZY_INTERNAL_H
#define FB_ENGINE_LAZY_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/lazy.h"

enum lazy_state {
	LAZY_NONE, /* no file was added here yet */
	LAZY_PENDING,
	LAZY_FILLING,
	LAZY_CLOSING, /* all its bytes are there; the lease may be, too */
	LAZY_SPOILING, /* damaged; the same */
	LAZY_FILLED,  /* from here on nobody waits */
	LAZY_DAMAGED,
};

struct lazy_entry {
	_Atomic uint32_t state; /* enum lazy_state; a futex */
	_Atomic bool full;	/* there was no room for it */
	int fd;
	uint32_t inode;
	uint64_t bytes;
	dev_t dev;
	ino_t ino;
};

/* In memory that both processes share. */
struct lazy_shared {
	_Atomic int keeper, worker;
	_Atomic int signals; /* the worker's signalfd, -1: none */
	_Atomic uint32_t deaths;
	_Atomic bool armed; /* every lease breaks with a signal that says which */
	size_t count;
	struct lazy_entry entries[];
};

struct fb_lazy {
	struct lazy_shared *shared;
	size_t shared_size;
	uint32_t *by_ino; /* index + 1 of the entry of a file: a hash table */
	size_t by_ino_mask;
	uint32_t *by_fd;  /* index + 1 of the entry of a descriptor */
	size_t fd_limit;
	int group;	  /* fanotify */
	int null;	  /* /dev/null */
	int wanted[2];	  /* a pipe: indices of entries that someone waits for */
};

struct fb_lazy_target {
	uint8_t *base;
	uint64_t size;	/* of the file */
	int error;	/* of fb_lazy_put() */
};

static inline bool lazy_over(uint32_t state)
{
	return state >= LAZY_FILLED;
}

/* ---- lazy_gate.c ---- */

/* Index of the entry of this file, LAZY_NO_ENTRY: it has none. */
#define LAZY_NO_ENTRY UINT32_MAX
uint32_t fb_lazy_lookup(const struct fb_lazy *lazy, dev_t dev, ino_t ino);

/* Make by_ino of the entries. */
void fb_lazy_index(struct fb_lazy *lazy);

/* Ask the worker for an entry soon; may be lost when many do. */
void fb_lazy_want(const struct fb_lazy *lazy, uint32_t index);

void fb_lazy_wake(struct lazy_entry *entry);

/* An open of a file that is being filled occupies one of them. */
#define LAZY_GATE_THREADS 16

/* Answer opens in so many more threads of this process until it ends. */
int fb_lazy_gate_start(struct fb_lazy *lazy, int threads);

/* Answer those that a process took and did not live to answer. */
void fb_lazy_gate_recover(struct fb_lazy *lazy);

/* ---- lazy_fill.c ---- */

#define LAZY_SIGNAL (SIGRTMIN + 3)

/*
 * The worker: fill everything; in the end _exit(0), or 0 when it has become
 * the process in charge.
 */
int fb_lazy_worker(struct fb_lazy *lazy, const struct fb_lazy_work *work,
		   pid_t keeper);

/* After a worker's death: what it was at can be begun again. */
void fb_lazy_worker_recover(struct fb_lazy *lazy, const struct fb_lazy_work *work,
			    bool give_up);

#endif
