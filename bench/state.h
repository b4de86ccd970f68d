/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * state: what the application of the benchmark has. FILES files in directories
 * of 1,000, together SIZE bytes. Block b (of 4 KiB) of file f at generation g
 * follows from (f, b, g) alone, so that the client (bench/client.py, which has the
 * same function) can tell a right answer from a wrong one. The first CHANGED bytes
 * of the state have the generation after g.
 *
 * For one static program: what fails prints why and ends it.
 */
#ifndef BENCH_STATE_H
#define BENCH_STATE_H

#include <stdbool.h>
#include <stdint.h>

#define BLOCK 4096u

struct state {
	char dir[256]; /* "-": nowhere */
	uint64_t size, files, generation, changed;
};

/* Before anything else here. */
void state_init(void);

/* DIR SIZE FILES GENERATION [CHANGED] */
struct state state_parse(char **words);

/* BLOCK bytes of a file. */
void state_block(const struct state *s, uint64_t file, uint64_t block,
		 unsigned char *to);

/* Returns `path`. */
char *state_path(const struct state *s, uint64_t file, char path[512]);

/* Write all of it; or, where it has changed bytes, only those, in place. */
void state_write(const struct state *s);

/* Commands: `words` as for state_parse(). 0 done, 1 it is not what it should be. */
int state_fill(char **words);
int state_verify(char **words);

uint64_t state_number(const char *text);
_Noreturn void fail(const char *what, const char *path);

#endif
