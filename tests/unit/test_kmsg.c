/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/util.h"
#include "machine/kmsg.h"

static void test_parse(void **state)
{
	static const struct {
		const char *record;
		int rc;
		uint64_t usec;
		const char *text;
	} table[] = {
		{ "6,377,8441272,-;Run /init as init process\n", 0, 8441272,
		  "Run /init as init process" },
		{ "6,377,0,-;one\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:00.0\n", 0, 0,
		  "one" },
		{ "6,1,2,c,more;a,b;c\n", 0, 2, "a,b;c" },
		{ "6,1,2;\n", 0, 2, "" },
		{ "6,1,2,-;cut off", 0, 2, "cut off" },
		{ "", -EINVAL, 0, NULL },
		{ "6,377,8441272,-", -EINVAL, 0, NULL },
		{ "6,377;8441272,-\n", -EINVAL, 0, NULL },
		{ "6;1,2,3\n", -EINVAL, 0, NULL },
		{ "6,1,x,-;text\n", -EINVAL, 0, NULL },
		{ "6,1,,-;text\n", -EINVAL, 0, NULL },
		{ "6,1,18446744073709551616,-;text\n", -EINVAL, 0, NULL },
	};

	(void)state;
	for (size_t i = 0; i < FB_ARRAY_SIZE(table); i++) {
		const char *text = NULL;
		uint64_t usec = 0;
		char record[128];

		strcpy(record, table[i].record);
		assert_int_equal(fb_kmsg_parse(record, &usec, &text), table[i].rc);
		assert_int_equal(usec, table[i].usec);
		if (table[i].text)
			assert_string_equal(text, table[i].text);
	}
}

static void count(void *context, uint64_t usec, const char *text)
{
	(void)usec;
	if (!strncmp(text, "fastboot: test_kmsg", 19))
		++*(int *)context;
}

/* Where the log may be written to: what was written is found again. */
static void test_mark(void **state)
{
	uint64_t counter = 0, usec = 0;
	int found = 0, rc = fb_kmsg_mark("fastboot: test_kmsg", &counter, &usec);

	(void)state;
	if (rc) {
		assert_int_equal(counter, 0);
		skip();
	}
	assert_true(usec > 0);
	assert_int_equal(fb_kmsg_read(count, &found), 0);
	assert_true(found > 0);
}

/* dprintf(3) would fail on this file, which is why it is not used. */
static void test_say(void **state)
{
	fb_autoclose int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	uint64_t counter, usec;
	int before = 0, after = 0;

	(void)state;
	if (fd < 0 || fb_kmsg_mark("fastboot: test_kmsg", &counter, &usec))
		skip();
	assert_int_equal(fb_kmsg_read(count, &before), 0);
	assert_int_equal(fb_kmsg_say(fd, 7, "fastboot: test_kmsg %d", 2), 0);
	assert_int_equal(fb_kmsg_read(count, &after), 0);
	assert_int_equal(after, before + 1);
	assert_int_equal(fb_kmsg_say(-1, 7, "none"), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_mark),
		cmocka_unit_test(test_say),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
