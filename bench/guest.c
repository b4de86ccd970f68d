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
 *   start DIR,SIZE,FILES,GENERATION,CHANGED start it
 *   memcpy MIB                              microseconds that copying takes
 *   stamp NAME                              note the counter on the console
 *   clock                                   tie the counter to the kernel's clock
 *
 * The state is that of state.h; its CHANGED bytes are written by `quiesce`, just
 * before the application stops.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
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

#include "state.h"

#define PIECE_MAX   1024u
#define TOOLS	    "/t"
#define PID_FILE    "/run/bench/app.pid"
#define APP_FILE    "/run/bench/app"
#define ANSWERED    "/run/bench/answered" /* made after the first answer */
#define CHANGE_FILE "/run/bench/change" /* what quiesce changes, where it is */

/* ---- the clocks --------------------------------------------------------------- */

/* It runs on through a reboot; bench/platforms.py knows how fast. */
#if defined(__x86_64__)
#define CONSOLE "/dev/ttyS0"

static uint64_t counter_now(void)
{
	return __builtin_ia32_rdtsc();
}
#elif defined(__aarch64__)
#define CONSOLE "/dev/ttyAMA0"

static uint64_t counter_now(void)
{
	uint64_t ticks;

	__asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(ticks) : : "memory");
	return ticks;
}
#endif

/*
 * Before a reboot: on the console, which outlives the kernel in a file of QEMU's.
 * After it: in memory, which takes no time, for `cat`.
 */
static void stamp_in(const char *path, const char *name)
{
	uint64_t counter = counter_now();
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY | O_CLOEXEC, 0644);

	if (fd < 0)
		return;
	dprintf(fd, "\nbench: %s %" PRIu64 "\n", name, counter);
	close(fd);
}

static void stamp_leaving(const char *name)
{
	stamp_in(CONSOLE, name);
}

static int stamp_named(char **argv)
{
	if (!argv[0])
		return 2;
	stamp_leaving(argv[0]);
	return 0;
}

static void stamp(const char *name)
{
	stamp_in("/run/bench/stamps", name);
}

/* Ties the counter to the clock of the kernel's log, with a record of its own; and
 * says what the log has of the time before process 1. */
static int log_clock(char **argv)
{
	char record[1024];
	unsigned long long usec;
	uint64_t counter;
	ssize_t n;
	int fd = open("/dev/kmsg", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	(void)argv;
	if (fd < 0)
		fail("cannot open", "/dev/kmsg");
	counter = counter_now();
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

/* /dev/vportNpM for the file in sysfs that has its name, if it is `name`. */
static int open_if(const char *file, const char *name)
{
	char text[128] = "", path[160] = "/dev/";
	FILE *f = fopen(file, "re");
	bool same =
		f && fgets(text, sizeof(text), f) && !strncmp(text, name, strlen(name));

	if (f)
		fclose(f);
	if (!same || sscanf(file, "/sys/class/virtio-ports/%99[^/]", path + 5) != 1)
		return -1;
	return open(path, O_RDWR | O_CLOEXEC);
}

/* The port comes up some time after its driver, which this must not keep from working. */
static int open_port(const char *name)
{
	for (int tries = 0; tries < 10000; tries++) {
		glob_t found;
		int fd = -1;

		if (!glob("/sys/class/virtio-ports/*/name", 0, NULL, &found)) {
			for (size_t i = 0; i < found.gl_pathc && fd < 0; i++)
				fd = open_if(found.gl_pathv[i], name);
			globfree(&found);
		}
		if (fd >= 0)
			return fd;
		usleep(2000);
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

/* ---- the application ----------------------------------------------------------------
 */

#define REQUEST_MAGIC 0x71657266u
#define ANSWER_MAGIC  0x736e6166u

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
		state_block(s, r->file, r->offset / BLOCK, block);
		memcpy(to, block + in, r->length);
		return 0;
	}
	fd = open(state_path(s, r->file, path), O_RDONLY | O_CLOEXEC);
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
	a.counter = counter_now();
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

static void write_line(const char *path, const char *line)
{
	FILE *f = fopen(path, "we");

	if (!f || fprintf(f, "%s\n", line) < 0 || fclose(f))
		fail("cannot write", path);
}

static void write_pid(void)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", (int)getpid());
	write_line(PID_FILE, text);
}

static int app(char **argv)
{
	const struct sigaction on_stop = { .sa_handler = on_term };
	struct state s = state_parse(argv);
	unsigned char bytes[64 * sizeof(struct request)];
	bool answered = false;
	size_t have = 0;
	sigset_t term, none;
	int port;

	sigemptyset(&none);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	sigaction(SIGTERM, &on_stop, NULL);
	write_pid();
	instance = (uint32_t)(counter_now() >> 8);
	make_crc_table();
	port = open_port("bench.app");
	stamp("app");
	while (!stopped) {
		struct pollfd p = { port, POLLIN, 0 };
		ssize_t n;

		if (ppoll(&p, 1, NULL, &none) <= 0 || !(p.revents & POLLIN))
			continue;
		n = read(port, bytes + have, sizeof(bytes) - have);
		if (n <= 0)
			continue;
		have = respond_all(port, &s, bytes, have + (size_t)n);
		if (!answered)
			stamp_in(ANSWERED, "answered");
		answered = true;
	}
	return 0;
}

/* ---- starting and stopping it
 * ---------------------------------------------------------- */

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

/* DIR SIZE FILES GENERATION CHANGED of a file with one line. */
struct words {
	char text[256];
	char *word[8];
};

static bool read_words(const char *path, struct words *w)
{
	FILE *f = fopen(path, "re");
	char *save = NULL;
	size_t n = 0;

	memset(w, 0, sizeof(*w));
	if (!f)
		return false;
	if (fgets(w->text, sizeof(w->text), f))
		for (char *at = strtok_r(w->text, " ,\n", &save); at && n < 7;
		     at = strtok_r(NULL, " ,\n", &save))
			w->word[n++] = at;
	fclose(f);
	return n > 0;
}

static void start_app(char **words)
{
	char name[] = "app", *argv[8] = { name };

	for (int i = 0; i < 5 && words[i]; i++)
		argv[i + 1] = words[i];
	if (fork())
		return;
	setsid();
	quiet_stdin();
	execv("/proc/self/exe", argv);
	_exit(127);
}

/* As it was started last. */
static int resume(char **argv)
{
	struct words w;

	(void)argv;
	if (!read_words(APP_FILE, &w))
		fail("cannot read", APP_FILE);
	start_app(w.word);
	return 0;
}

/* The argument is as in `bench.app=`: words with commas between them. */
static int start(char **argv)
{
	if (!argv[0])
		return 2;
	write_line(APP_FILE, argv[0]);
	return resume(argv);
}

static void change(void)
{
	struct words w;
	struct state s;

	if (!read_words(CHANGE_FILE, &w))
		return;
	s = state_parse(w.word);
	if (s.changed)
		state_write(&s);
}

static int quiesce(char **argv)
{
	struct words w;
	pid_t pid;
	int fd;

	(void)argv;
	change();
	if (!read_words(PID_FILE, &w))
		fail("cannot read", PID_FILE);
	pid = (pid_t)state_number(w.word[0]);
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pid <= 1 || fd < 0)
		fail("there is no application with the number", w.word[0]);
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

/* ---- how long copying takes
 * ------------------------------------------------------------- */

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
	void *p = mmap(NULL, length, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("no memory for", "memcpy");
	madvise(p, length, MADV_HUGEPAGE);
	memset(p, 1, length);
	return p;
}

static int copy_time(char **argv)
{
	size_t length = (argv[0] ? state_number(argv[0]) : 0) << 20;
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

/* ---- process 1
 * ------------------------------------------------------------------------------ */

/* With rdinit_early the drivers, and so the console, come later than process 1. */
static void open_standard_files(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd >= 0)
		close(fd);
}

static void wait_for_drivers(void)
{
	int fd = open("/sys/kernel/initcalls", O_RDONLY | O_CLOEXEC), console;
	char text[16];

	if (fd < 0 || read(fd, text, sizeof(text)) < 0)
		return;
	close(fd);
	console = open(CONSOLE, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (console < 0)
		return;
	dup2(console, 1);
	dup2(console, 2);
	close(console);
}

static void power_off(const char *what, const char *why)
{
	wait_for_drivers();
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
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST))
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
	wait_for_drivers();
	load_modules("/bench/modules.tools");
	for (int i = 0; i < 2000 && access("/dev/vda", F_OK); i++)
		usleep(1000);
	must(!mount("/dev/vda", TOOLS, "erofs", MS_RDONLY, NULL), "mount /dev/vda");
	mounted = true;
}

static int ended(pid_t pid)
{
	int status = 1 << 8;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* `out`: where it prints, -1 for the console. */
static int run(const char *command, int out)
{
	pid_t pid = fork();

	if (pid)
		return ended(pid);
	setsid();
	quiet_stdin();
	if (out >= 0) {
		dup2(out, 1);
		dup2(out, 2);
	}
	execl(TOOLS "/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
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

/* What only the benchmark wants does not compete with what it measures. */
static void wait_for_answer(void)
{
	for (int tries = 0; tries < 2000 && access(ANSWERED, F_OK); tries++)
		usleep(5000);
}

static void serve(void)
{
	static char bytes[65536];
	size_t have = 0;
	int port;

	wait_for_answer();
	port = open_port("bench.control");
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

/* The channel's driver needs time; meanwhile the state is restored. */
static void load_channel(void)
{
	if (fork())
		return;
	load_modules("/bench/modules.channel");
	_exit(0);
}

static void restore(void)
{
	pid_t pid = fork();

	if (!pid) {
		execl("/bin/fastboot-init", "fastboot-init", (char *)NULL);
		_exit(127);
	}
	must_run(ended(pid), "fastboot-init");
}

/* What comes before the application, by the way that this boot was asked for. */
static void give_state(const char *way)
{
	char options[64] = "size=90%,huge=within_size";

	/* As the first process fastboot-init was here. */
	if (!strcmp(way, "none") || !access("/run/fastboot/restore.lock", F_OK))
		return;
	kernel_word("tmpfs", options, sizeof(options));
	must(!mount("state", "/state", "tmpfs", 0, options), "/state");
	if (!strcmp(way, "fastboot")) {
		restore();
		return;
	}
	mount_tools();
	must_run(run("by-hand after", -1), "by-hand after");
}

static int start_up(char **argv)
{
	char way[32] = "none", words[256] = "-,268435456,1000,1,0";
	char *words_argument[] = { words, NULL };

	(void)argv;
	mount_all();
	open_standard_files();
	stamp("init");
	setenv("PATH", "/bin:" TOOLS "/bin", 1);
	kernel_word("way", way, sizeof(way));
	kernel_word("app", words, sizeof(words));
	load_modules("/bench/modules");
	load_channel();
	give_state(way);
	stamp("state");
	start(words_argument);
	serve();
	return 1;
}

static const struct {
	const char *name;
	int (*run)(char **argv);
} uses[] = {
	{ "init", start_up },	    { "app", app },	     { "fill", state_fill },
	{ "verify", state_verify }, { "quiesce", quiesce },  { "resume", resume },
	{ "start", start },	    { "memcpy", copy_time }, { "stamp", stamp_named },
	{ "clock", log_clock },
};

int main(int argc, char **argv)
{
	const char *slash = strrchr(argv[0], '/');
	const char *what = slash ? slash + 1 : argv[0];

	if (!strcmp(what, "bench") && argc > 1)
		what = *++argv;
	state_init();
	for (size_t i = 0; i < sizeof(uses) / sizeof(uses[0]); i++)
		if (!strcmp(what, uses[i].name))
			return uses[i].run(argv + 1);
	fprintf(stderr, "guest: '%s' is nothing that it does\n", what);
	return 2;
}
