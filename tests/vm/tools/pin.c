/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pin - holds pages so that the kernel cannot move them: vmsplice(2) puts
 * references to anonymous pages into a pipe, and nobody reads it. The pages
 * were allocated before, so they lie where movable memory lies: some of them
 * in the hot-added region.
 *
 *	pin MIB FILE [PINS]   allocate MIB MiB in small pages, pin PINS of them
 *	                      (16; 0 for none) all over, create FILE when that is
 *	                      done, and sleep until killed
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096
#define PINS 16 /* what a pipe holds by default */

static int fail(const char *what)
{
	perror(what);
	return 1;
}

int main(int argc, char **argv)
{
	size_t size, pins;
	char *memory;
	int pipes[2], done;

	if (argc < 3)
		return 2;
	pins = argc > 3 ? (size_t)atoi(argv[3]) : PINS;
	size = (size_t)atoi(argv[1]) << 20;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	if (memory == MAP_FAILED || pipe(pipes))
		return fail("pin");
	madvise(memory, size, MADV_NOHUGEPAGE);
	memset(memory, 0x5a, size);
	for (size_t i = 0; i < pins; i++) {
		struct iovec v = { memory + size / pins * i, PAGE };

		if (vmsplice(pipes[1], &v, 1, 0) != PAGE)
			return fail("vmsplice");
	}
	done = open(argv[2], O_WRONLY | O_CREAT, 0600);
	if (done < 0)
		return fail(argv[2]);
	for (;;)
		pause();
}
