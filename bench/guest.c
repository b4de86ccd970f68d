/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * guest: everything that the benchmark runs in its guest, in one static program,
 * so that the initramfs is small. What it does is its name or first argument:
 *
 *   init                                    process 1: see start_up()
 *   app DIR SIZE FILES GENERATION CHANGED   the application; DIR "-": no state
 *   fill DIR SIZE FILES GENERATION          write the state
 *   verify DIR SIZE FILES GENERATION CHANGED   compare all of it
 *   quiesce                                 stop the application, the hook
 *   resume                                  start it again, the other hook
 *   memcpy MIB                              microseconds that copying takes
 *   stamp NAME                              note the counter on the console
 *   clock                                   tie the counter to the kernel's clock
 *
 * The state: FILES files in directories of 1,000, together SIZE bytes. Block b (of
 * 4 KiB) of file f at generation g follows from (f, b, g) alone, so that the
 * client (bench/client.py, which has the same function) can tell a right answer
 * from a wrong one. The first CHANGED bytes of the state have the generation
 * after g: they are written by `quiesce` just before the application stops.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#define BLOCK 4096u
#define TABLE 65536u
#define BATCH 256u  /* blocks written or read at once */
#define PIECE_MAX 1024u
#define THREADS 2u
#define PID_FILE "/run/bench/app.pid"
#define TOOLS "/t"

struct state {
	char dir[256];
	uint64_t size, files, generation, changed;
};

static unsigned char table[TABLE + BLOCK];

/* ---- the contents ------------------------------------------------------------ */

/* splitmix64 (Vigna, public domain) */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static void make_table(void)
{
	for (uint64_t i = 0; i < sizeof(table) / 8; i++) {
		uint64_t word = mix(i);

		memcpy(table + 8 * i, &word, 8);
	}
}

static void make_block(unsigned char *to, uint64_t file, uint64_t block,
		       uint64_t generation)
{
	uint64_t id = file << 32 | block;

	memcpy(to, table + (mix(id ^ generation << 56) % TABLE & ~7u), BLOCK);
	memcpy(to, &id, 8);
	memcpy(to + 8, &generation, 8);
}

/* Sizes differ so that most are no multiple of a page. */
static uint64_t file_size(const struct state *s, uint64_t file)
{
	uint64_t each = s->size / s->files, odd = file % 16 * 8;

	return s->files == 1 || each <= odd ? each : each - odd;
}

static uint64_t generation_of(const struct state *s, uint64_t file, uint64_t block)
{
	uint64_t at = s->size / s->files * file + block * BLOCK;

	return s->generation + (at < s->changed);
}

static char *path_of(const struct state *s, uint64_t file, char path[512])
{
	snprintf(path, 512, "%s/d%03" PRIu64 "/f%06" PRIu64, s->dir, file / 1000, file);
	return path;
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (*end || end == text) {
		fprintf(stderr, "guest: '%s' is not a number\n", text);
		exit(2);
	}
	return n;
}

/* DIR SIZE FILES GENERATION [CHANGED] */
static struct state parse_state(char **argv)
{
	struct state s = { .files = 1 };

	if (!argv[0] || !argv[1] || !argv[2] || !argv[3]) {
		fprintf(stderr, "guest: wanted DIR SIZE FILES GENERATION [CHANGED]\n");
		exit(2);
	}
	snprintf(s.dir, sizeof(s.dir), "%s", argv[0]);
	s.size = number(argv[1]);
	s.files = number(argv[2]);
	s.generation = number(argv[3]);
	s.changed = argv[4] ? number(argv[4]) : 0;
	return s;
}

/* ---- filling and verifying, with all processors --------------------------------- */

struct job {
	const struct state *s;
	unsigned int thread;
	bool verify;
	uint64_t files, bytes, bad;
};

static void fail(const char *what, const char *path)
{
	fprintf(stderr, "guest: %s %s: %s\n", what, path, strerror(errno));
	exit(1);
}

/* The expected contents of up to BATCH blocks from `block` on; how many bytes. */
static size_t expect(const struct state *s, uint64_t file, uint64_t block,
		     unsigned char *to)
{
	uint64_t left = file_size(s, file) - block * BLOCK;
	size_t n = left < BATCH * BLOCK ? left : BATCH * BLOCK;

	for (size_t i = 0; i * BLOCK < n; i++)
		make_block(to + i * BLOCK, file, block + i,
			   generation_of(s, file, block + i));
	return n;
}

/* A change writes only what changes, in place. */
static void fill_file(const struct state *s, uint64_t file, unsigned char *bytes)
{
	uint64_t start = s->size / s->files * file;
	uint64_t size = file_size(s, file);
	char path[512];
	int fd = open(path_of(s, file, path), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0 || ftruncate(fd, (off_t)size))
		fail("cannot make", path);
	for (uint64_t b = 0; b * BLOCK < size; b += BATCH) {
		size_t n = expect(s, file, b, bytes);

		if (s->changed && start + b * BLOCK >= s->changed)
			break;
		if (pwrite(fd, bytes, n, (off_t)(b * BLOCK)) != (ssize_t)n)
			fail("cannot write", path);
	}
	close(fd);
}

static bool same_file(const struct state *s, uint64_t file, unsigned char *buffer)
{
	unsigned char *got = buffer, *wanted = buffer + BATCH * BLOCK;
	uint64_t size = file_size(s, file);
	char path[512];
	struct stat st;
	bool same;
	int fd = open(path_of(s, file, path), O_RDONLY | O_CLOEXEC);

	same = fd >= 0 && !fstat(fd, &st) && (uint64_t)st.st_size == size;
	for (uint64_t b = 0; same && b * BLOCK < size; b += BATCH) {
		size_t n = expect(s, file, b, wanted);

		same = pread(fd, got, n, (off_t)(b * BLOCK)) == (ssize_t)n &&
		       !memcmp(got, wanted, n);
	}
	if (!same)
		fprintf(stderr, "guest: %s is wrong\n", path);
	if (fd >= 0)
		close(fd);
	return same;
}

static void *work(void *context)
{
	struct job *j = context;
	unsigned char *buffer = aligned_alloc(BLOCK, (size_t)2 * BATCH * BLOCK);

	for (uint64_t f = j->thread; buffer && f < j->s->files; f += THREADS) {
		if (!j->verify && j->s->changed &&
		    j->s->size / j->s->files * f >= j->s->changed)
			break;
		if (!j->verify)
			fill_file(j->s, f, buffer);
		else if (!same_file(j->s, f, buffer))
			j->bad++;
		j->files++;
		j->bytes += file_size(j->s, f);
	}
	free(buffer);
	return NULL;
}

static struct job run_job(const struct state *s, bool verify)
{
	struct job jobs[THREADS], sum = { .s = s };
	pthread_t threads[THREADS];

	for (unsigned int i = 0; i < THREADS; i++) {
		jobs[i] = (struct job){ .s = s, .thread = i, .verify = verify };
		if (pthread_create(&threads[i], NULL, work, &jobs[i]))
			fail("cannot start", "a thread");
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		sum.files += jobs[i].files;
		sum.bytes += jobs[i].bytes;
		sum.bad += jobs[i].bad;
	}
	return sum;
}

static int fill(char **argv)
{
	struct state s = parse_state(argv);
	char path[512];
	struct job sum;

	for (uint64_t d = 0; d * 1000 < s.files; d++) {
		snprintf(path, sizeof(path), "%s/d%03" PRIu64, s.dir, d);
		if (mkdir(path, 0755) && errno != EEXIST)
			fail("cannot make", path);
	}
	sum = run_job(&s, false);
	printf("%" PRIu64 " files %" PRIu64 " bytes\n", sum.files, sum.bytes);
	return 0;
}

static uint64_t files_seen;

static int count(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)path, (void)st, (void)at;
	files_seen += type == FTW_F;
	return 0;
}

static int verify(char **argv)
{
	struct state s = parse_state(argv);
	struct job sum = run_job(&s, true);

	if (nftw(s.dir, count, 64, FTW_PHYS))
		fail("cannot read", s.dir);
	printf("%" PRIu64 " files %" PRIu64 " bytes %" PRIu64 " wrong\n", sum.files,
	       sum.bytes, sum.bad);
	if (files_seen != s.files)
		fprintf(stderr, "guest: %s has %" PRIu64 " files, not %" PRIu64 "\n",
			s.dir, files_seen, s.files);
	return sum.bad || files_seen != s.files ? 1 : 0;
}

/* ---- the clocks --------------------------------------------------------------- */

/*
 * Before a reboot: on the console, which outlives the kernel in a file of QEMU's.
 * After it: in memory, which takes no time, for `cat`.
 */
static void stamp_in(const char *path, const char *name)
{
	uint64_t counter = __rdtsc();
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY | O_CLOEXEC, 0644);

	if (fd < 0)
		return;
	dprintf(fd, "\nbench: %s %" PRIu64 "\n", name, counter);
	close(fd);
}

static void stamp_leaving(const char *name)
{
	stamp_in("/dev/ttyS0", name);
}

static void stamp(const char *name)
{
	stamp_in("/run/bench/stamps", name);
}

/* Ties the counter to the clock of the kernel's log, with a record of its own; and
 * says what the log has of the time before process 1. */
static int log_clock(void)
{
	char record[1024];
	unsigned long long usec;
	uint64_t counter;
	ssize_t n;
	int fd = open("/dev/kmsg", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		fail("cannot open", "/dev/kmsg");
	counter = __rdtsc();
	if (write(fd, "<7>bench: mark\n", 15) != 15)
		fail("cannot write", "/dev/kmsg");
	while ((n = read(fd, record, sizeof(record) - 1)) > 0 ||
	       (n < 0 && errno == EPIPE)) {
		record[n < 0 ? 0 : n] = '\0';
		if (n < 0 || sscanf(record, "%*u,%*u,%llu,", &usec) != 1)
			continue;
		if (strstr(record, ";Run /"))
			printf("init_usec %llu\n", usec);
		if (strstr(record, ";bench: mark"))
			printf("mark_usec %llu\nmark_counter %" PRIu64 "\n", usec,
			       counter);
	}
	close(fd);
	return 0;
}

/* ---- the channel ----------------------------------------------------------------- */

static int open_port(const char *name)
{
	for (int tries = 0; tries < 40000; tries++) {
		glob_t found;
		char text[128];
		int fd = -1;

		if (!glob("/sys/class/virtio-ports/*/name", 0, NULL, &found)) {
			for (size_t i = 0; i < found.gl_pathc && fd < 0; i++) {
				FILE *f = fopen(found.gl_pathv[i], "re");
				char *at = f ? fgets(text, sizeof(text), f) : NULL;

				if (f)
					fclose(f);
				if (!at || strncmp(text, name, strlen(name)))
					continue;
				sscanf(found.gl_pathv[i], "/sys/class/virtio-ports/%99[^/]",
				       text + 5);
				memcpy(text, "/dev/", 5);
				fd = open(text, O_RDWR | O_CLOEXEC);
			}
			globfree(&found);
		}
		if (fd >= 0)
			return fd;
		usleep(500);
	}
	fprintf(stderr, "guest: there is no port %s\n", name);
	exit(1);
}

static bool write_all(int fd, const void *bytes, size_t length)
{
	const char *at = bytes;

	while (length) {
		ssize_t n = write(fd, at, length);

		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return false;
		if (n > 0) {
			at += n;
			length -= (size_t)n;
		}
	}
	return true;
}

/* ---- the application ---------------------------------------------------------------- */

#define REQUEST_MAGIC 0x71657266u
#define ANSWER_MAGIC 0x736e6166u

struct request {
	uint32_t magic, id, file, length;
	uint64_t offset, zero;
};

struct answer {
	uint32_t magic, id, error, length, crc, instance;
	uint64_t counter;
	unsigned char piece[PIECE_MAX];
};

static uint32_t instance; /* another one each time the application starts */
static uint32_t crc_table[256];

static void make_crc_table(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
		crc_table[i] = c;
	}
}

static uint32_t crc32_of(const unsigned char *bytes, size_t length)
{
	uint32_t c = ~0u;

	while (length--)
		c = crc_table[(c ^ *bytes++) & 255] ^ c >> 8;
	return ~c;
}

/* 0 or an errno. The piece lies within one block. */
static int read_piece(const struct state *s, const struct request *r, unsigned char *to)
{
	unsigned char block[BLOCK];
	uint64_t in = r->offset % BLOCK;
	char path[512];
	ssize_t n;
	int fd;

	if (r->length > PIECE_MAX || in + r->length > BLOCK)
		return EINVAL;
	if (!strcmp(s->dir, "-")) {
		make_block(block, r->file, r->offset / BLOCK,
			   generation_of(s, r->file, r->offset / BLOCK));
		memcpy(to, block + in, r->length);
		return 0;
	}
	fd = open(path_of(s, r->file, path), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	n = pread(fd, to, r->length, (off_t)r->offset);
	close(fd);
	return n == (ssize_t)r->length ? 0 : EIO;
}

static bool respond(int port, const struct state *s, const struct request *r)
{
	struct answer a = { .magic = ANSWER_MAGIC, .id = r->id, .instance = instance };

	a.error = (uint32_t)read_piece(s, r, a.piece);
	a.length = a.error ? 0 : r->length;
	a.crc = crc32_of(a.piece, a.length);
	a.counter = __rdtsc();
	return write_all(port, &a, offsetof(struct answer, piece) + a.length);
}

/* A request may begin anywhere: the last kernel may have taken a part of one. */
static size_t respond_all(int port, const struct state *s, unsigned char *bytes,
			  size_t have)
{
	const uint32_t magic = REQUEST_MAGIC;
	struct request r;
	size_t at = 0;

	while (have - at >= sizeof(r)) {
		memcpy(&r, bytes + at, sizeof(r));
		if (r.magic != magic) {
			at++;
			continue;
		}
		if (!respond(port, s, &r))
			exit(1);
		at += sizeof(r);
	}
	memmove(bytes, bytes + at, have - at);
	return have - at;
}

static volatile sig_atomic_t stopped;

static void on_term(int signal_number)
{
	(void)signal_number;
	stopped = 1;
}

static void write_pid(void)
{
	FILE *f = fopen(PID_FILE, "we");

	if (!f)
		fail("cannot make", PID_FILE);
	fprintf(f, "%d\n", (int)getpid());
	fclose(f);
}

static int app(char **argv)
{
	const struct sigaction on_stop = { .sa_handler = on_term };
	struct state s = parse_state(argv);
	unsigned char bytes[64 * sizeof(struct request)];
	size_t have = 0;
	sigset_t term, none;
	int port;

	sigemptyset(&none);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	sigaction(SIGTERM, &on_stop, NULL);
	write_pid();
	instance = (uint32_t)(__rdtsc() >> 12);
	make_crc_table();
	port = open_port("bench.app");
	stamp("app");
	while (!stopped) {
		struct pollfd p = { port, POLLIN, 0 };
		ssize_t n;

		if (ppoll(&p, 1, NULL, &none) <= 0 || !(p.revents & POLLIN))
			continue;
		n = read(port, bytes + have, sizeof(bytes) - have);
		if (n > 0)
			have = respond_all(port, &s, bytes, have + (size_t)n);
	}
	return 0;
}

/* ---- starting and stopping it ---------------------------------------------------------- */

/* What follows `bench.NAME=` on the kernel command line, the last of them. */
static bool kernel_word(const char *name, char *value, size_t size)
{
	char line[4096], wanted[64], *save = NULL;
	FILE *f = fopen("/proc/cmdline", "re");
	bool found = false;

	snprintf(wanted, sizeof(wanted), "bench.%s=", name);
	if (f && fgets(line, sizeof(line), f))
		for (char *w = strtok_r(line, " \n", &save); w;
		     w = strtok_r(NULL, " \n", &save))
			if (!strncmp(w, wanted, strlen(wanted))) {
				snprintf(value, size, "%s", w + strlen(wanted));
				found = true;
			}
	if (f)
		fclose(f);
	return found;
}

static void quiet_stdin(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0)
		dup2(null, 0);
}

/* The words are DIR SIZE FILES GENERATION CHANGED. */
static void start_app(char **words)
{
	char *argv[8] = { "app" };
	pid_t pid;

	for (int i = 0; i < 5 && words[i]; i++)
		argv[i + 1] = words[i];
	pid = fork();
	if (pid)
		return;
	setsid();
	quiet_stdin();
	execv("/proc/self/exe", argv);
	_exit(127);
}

static int resume(char **argv)
{
	static char text[256];
	char *words[8] = { NULL }, *save = NULL;
	FILE *f;
	int n = 0;

	if (argv[0] && argv[1]) {
		f = fopen("/run/bench/app", "we");
		for (int i = 0; f && argv[i]; i++)
			fprintf(f, "%s ", argv[i]);
		if (f)
			fclose(f);
	}
	f = fopen("/run/bench/app", "re");
	if (!f || !fgets(text, sizeof(text), f))
		fail("cannot read", "/run/bench/app");
	fclose(f);
	for (char *w = strtok_r(text, " ", &save); w && n < 7;
	     w = strtok_r(NULL, " ", &save))
		words[n++] = w;
	start_app(words);
	return 0;
}

/* /run/bench/change, where there is one: DIR SIZE FILES GENERATION CHANGED. */
static void change(void)
{
	char text[256], *words[8] = { NULL }, *save = NULL;
	FILE *f = fopen("/run/bench/change", "re");
	struct state s;
	int n = 0;

	if (!f)
		return;
	if (fgets(text, sizeof(text), f))
		for (char *w = strtok_r(text, " \n", &save); w && n < 7;
		     w = strtok_r(NULL, " \n", &save))
			words[n++] = w;
	fclose(f);
	s = parse_state(words);
	if (s.changed)
		run_job(&s, false);
}

static int quiesce(void)
{
	char text[32] = "";
	FILE *f;
	pid_t pid;
	int fd;

	change();
	f = fopen(PID_FILE, "re");
	if (!f || !fgets(text, sizeof(text), f))
		fail("cannot read", PID_FILE);
	fclose(f);
	pid = atoi(text);
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pid <= 1 || fd < 0)
		fail("there is no application", text);
	stamp_leaving("stop");
	kill(pid, SIGTERM);
	if (poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 10000) != 1) {
		fprintf(stderr, "guest: the application does not stop\n");
		return 1;
	}
	unlink(PID_FILE);
	stamp_leaving("stopped");
	return 0;
}

/* ---- how long copying takes ------------------------------------------------------------- */

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t now_usec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

static void *huge(size_t length)
{
	void *p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		fail("no memory for", "memcpy");
	madvise(p, length, MADV_HUGEPAGE);
	memset(p, 1, length);
	return p;
}

static int copy_time(char **argv)
{
	size_t length = (argv[0] ? number(argv[0]) : 0) << 20;
	unsigned char *from, *to;
	uint64_t took[5];

	if (!length)
		return 2;
	from = huge(length);
	to = huge(length);
	for (size_t i = 0; i < 5; i++) {
		uint64_t start = now_usec();

		memcpy(to, from, length);
		took[i] = now_usec() - start;
		__asm__ volatile("" : : "r"(to) : "memory");
	}
	qsort(took, 5, sizeof(took[0]), compare_u64);
	printf("%" PRIu64 "\n", took[2]);
	return 0;
}

/* ---- process 1 ------------------------------------------------------------------------------ */

static void power_off(const char *what, const char *why)
{
	fprintf(stderr, "guest: %s: %s\n", what, why);
	reboot(RB_POWER_OFF);
}

static void must(bool good, const char *what)
{
	if (!good)
		power_off(what, strerror(errno));
}

static void must_run(int status, const char *what)
{
	char text[32];

	snprintf(text, sizeof(text), "status %d", status);
	if (status)
		power_off(what, text);
}

/* Each may be there already, if an earlier program ran. */
static void mount_all(void)
{
	static const struct {
		const char *type, *at;
	} mounts[] = { { "devtmpfs", "/dev" },
		       { "proc", "/proc" },
		       { "sysfs", "/sys" },
		       { "tmpfs", "/run" } };
	struct stat above, at;

	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i].at, 0755);
		if (!stat("/", &above) && !stat(mounts[i].at, &at) &&
		    above.st_dev != at.st_dev)
			continue;
		must(!mount(mounts[i].type, mounts[i].at, mounts[i].type, 0, NULL),
		     mounts[i].at);
	}
	mkdir("/run/bench", 0755);
	mkdir("/state", 0755);
	mkdir("/tmp", 01777);
}

/* The modules of a list, in its order, which is that of what needs what. */
static void load_modules(const char *list)
{
	char path[512];
	FILE *f = fopen(list, "re");

	while (f && fgets(path, sizeof(path), f)) {
		int fd;

		path[strcspn(path, "\n")] = '\0';
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 ||
		    (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
			fprintf(stderr, "guest: cannot load %s: %s\n", path,
				strerror(errno));
		if (fd >= 0)
			close(fd);
	}
	if (f)
		fclose(f);
}

/* The programs that only a running machine needs lie on a disk. */
static void mount_tools(void)
{
	static bool mounted;

	if (mounted)
		return;
	load_modules("/bench/modules.tools");
	for (int i = 0; i < 2000 && access("/dev/vda", F_OK); i++)
		usleep(1000);
	must(!mount("/dev/vda", TOOLS, "erofs", MS_RDONLY, NULL), "mount /dev/vda");
	mounted = true;
}

static int run(const char *command, int out)
{
	pid_t pid = fork();
	int status = 1;

	if (!pid) {
		setsid();
		quiet_stdin();
		if (out >= 0) {
			dup2(out, 1);
			dup2(out, 2);
		}
		execl(TOOLS "/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* One command a line; the reply is "STATUS LENGTH\n" and what was printed. */
static void serve_command(int port, const char *command)
{
	char head[64], bytes[4096];
	int out = memfd_create("out", MFD_CLOEXEC);
	int status = run(command, out);
	off_t length = lseek(out, 0, SEEK_END);
	ssize_t n;

	snprintf(head, sizeof(head), "%d %lld\n", status, (long long)length);
	write_all(port, head, strlen(head));
	lseek(out, 0, SEEK_SET);
	while ((n = read(out, bytes, sizeof(bytes))) > 0)
		write_all(port, bytes, (size_t)n);
	close(out);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static void serve(void)
{
	static char bytes[65536];
	size_t have = 0;
	int port = open_port("bench.control");

	mount_tools();
	write_all(port, "\n@ready\n", 8);
	while (true) {
		ssize_t n = read(port, bytes + have, sizeof(bytes) - 1 - have);
		char *end;

		if (n <= 0) {
			usleep(1000);
			continue;
		}
		have += (size_t)n;
		while ((end = memchr(bytes, '\n', have))) {
			*end++ = '\0';
			serve_command(port, bytes);
			have -= (size_t)(end - bytes);
			memmove(bytes, end, have);
		}
	}
}

/* What comes before the application, by the way that this boot was asked for. */
static void give_state(const char *way)
{
	char options[64] = "size=90%,huge=within_size";
	struct stat root, state;

	if (!strcmp(way, "none"))
		return;
	kernel_word("tmpfs", options, sizeof(options));
	/* An early program may have been here. */
	if (stat("/", &root) || stat("/state", &state) || root.st_dev != state.st_dev)
		return;
	must(!mount("state", "/state", "tmpfs", 0, options), "/state");
	mount_tools();
	if (!strcmp(way, "hand"))
		must_run(run("by-hand after", -1), "by-hand after");
	else
		must_run(run("fastboot -q restore --mode lazy", -1), "fastboot restore");
}

static int start_up(void)
{
	char way[32] = "none", words[256] = "- 268435456 1000 1 0";
	char *argv[8] = { NULL };

	mount_all();
	stamp("init");
	setenv("PATH", "/bin:" TOOLS "/bin", 1);
	kernel_word("way", way, sizeof(way));
	kernel_word("app", words, sizeof(words));
	for (char *c = words; *c; c++)
		if (*c == ',')
			*c = ' ';
	load_modules("/bench/modules");
	stamp("modules");
	give_state(way);
	stamp("state");
	argv[0] = words;
	argv[1] = NULL;
	{
		FILE *f = fopen("/run/bench/app", "we");

		must(f && fputs(words, f) >= 0 && !fclose(f), "/run/bench/app");
	}
	resume(argv + 1);
	serve();
	return 1;
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');
	const char *what = name ? name + 1 : argv[0];

	if (!strcmp(what, "bench") && argc > 1)
		what = *++argv;
	argv++;
	make_table();
	if (!strcmp(what, "init"))
		return start_up();
	if (!strcmp(what, "app"))
		return app(argv);
	if (!strcmp(what, "fill"))
		return fill(argv);
	if (!strcmp(what, "verify"))
		return verify(argv);
	if (!strcmp(what, "quiesce"))
		return quiesce();
	if (!strcmp(what, "resume"))
		return resume(argv);
	if (!strcmp(what, "memcpy"))
		return copy_time(argv);
	if (!strcmp(what, "clock"))
		return log_clock();
	if (!strcmp(what, "stamp") && *argv)
		return stamp_leaving(*argv), 0;
	fprintf(stderr, "guest: '%s' is nothing that it does\n", what);
	return 2;
}
