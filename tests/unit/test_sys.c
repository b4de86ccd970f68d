/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine/sys.h"

struct fixture {
	char root[32];
	struct fb_sys sys;
};

static void put(const struct fixture *f, const char *path, const char *text)
{
	char full[128];
	FILE *file;

	snprintf(full, sizeof(full), "%s%s", f->root, path);
	file = fopen(full, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char path[128];

	strcpy(f->root, "/tmp/fb-sys-XXXXXX");
	if (!mkdtemp(f->root))
		return -1;
	f->sys.root = f->root;
	snprintf(path, sizeof(path), "%s/sys", f->root);
	mkdir(path, 0755);
	put(f, "/sys/state", "online\n");
	put(f, "/sys/hex", "0x8000000\n");
	put(f, "/sys/dec", "42\n");
	put(f, "/sys/memory10", "");
	put(f, "/sys/memory9", "");
	put(f, "/sys/.hidden", "");
	snprintf(path, sizeof(path), "%s/sys/driver", f->root);
	if (symlink("../../bus/dax/drivers/kmem", path))
		return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[64];
	int rc;

	snprintf(command, sizeof(command), "rm -rf %s", f->root);
	rc = system(command);
	free(f);
	return rc;
}

static void attributes_are_read_trimmed(void **state)
{
	struct fixture *f = *state;
	struct fb_err err = FB_ERR_INIT;
	char buf[16];
	uint64_t v;

	assert_int_equal(fb_sys_attr_read(&f->sys, "/sys/state", buf, sizeof(buf),
					  &err), 0);
	assert_string_equal(buf, "online");
	assert_int_equal(fb_sys_attr_read(&f->sys, "/sys/state", buf, 6, &err),
			 -EOVERFLOW);
	assert_int_equal(fb_sys_attr_u64(&f->sys, "/sys/hex", &v, &err), 0);
	assert_int_equal(v, 0x8000000);
	assert_int_equal(fb_sys_attr_u64(&f->sys, "/sys/dec", &v, &err), 0);
	assert_int_equal(v, 42);
	assert_int_equal(fb_sys_attr_u64(&f->sys, "/sys/state", &v, &err), -EINVAL);
	assert_non_null(strstr(err.text, "'online' is not a number"));
}

static void a_missing_attribute_is_named(void **state)
{
	struct fixture *f = *state;
	struct fb_err err = FB_ERR_INIT;
	char buf[16];

	assert_int_equal(fb_sys_attr_read(&f->sys, "/sys/none", buf, sizeof(buf),
					  &err), -ENOENT);
	assert_non_null(strstr(err.text, "/sys/none: No such file"));
	/* Never created by a write. */
	assert_int_equal(fb_sys_attr_write(&f->sys, "/sys/none", "1", &err), -ENOENT);
	assert_false(fb_sys_exists(&f->sys, "/sys/none"));
	assert_true(fb_sys_exists(&f->sys, "/sys/state"));
}

static void a_write_replaces_the_content(void **state)
{
	struct fixture *f = *state;
	struct fb_err err = FB_ERR_INIT;
	char buf[16];

	assert_int_equal(fb_sys_attr_write(&f->sys, "/sys/state", "off", &err), 0);
	assert_int_equal(fb_sys_attr_read(&f->sys, "/sys/state", buf, sizeof(buf),
					  &err), 0);
	assert_string_equal(buf, "off");
}

static void names_come_in_numerical_order(void **state)
{
	static const char *const want[] = { "dec", "driver", "hex", "memory9",
					    "memory10", "state" };
	struct fixture *f = *state;
	struct fb_err err = FB_ERR_INIT;
	char **names;

	assert_int_equal(fb_sys_list(&f->sys, "/sys", &names, &err), 0);
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		assert_string_equal(names[i], want[i]);
	assert_null(names[6]);
	fb_sys_list_free(names);
	assert_int_equal(fb_sys_list(&f->sys, "/nowhere", &names, &err), -ENOENT);
}

static void a_link_gives_its_last_component(void **state)
{
	struct fixture *f = *state;
	struct fb_err err = FB_ERR_INIT;
	char buf[16];

	assert_int_equal(fb_sys_link_name(&f->sys, "/sys/driver", buf, sizeof(buf),
					  &err), 0);
	assert_string_equal(buf, "kmem");
	assert_int_equal(fb_sys_link_name(&f->sys, "/sys/driver", buf, 4, &err),
			 -EOVERFLOW);
	assert_int_equal(fb_sys_link_name(&f->sys, "/sys/none", buf, sizeof(buf),
					  &err), -ENOENT);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(attributes_are_read_trimmed),
		TEST(a_missing_attribute_is_named),
		TEST(a_write_replaces_the_content),
		TEST(names_come_in_numerical_order),
		TEST(a_link_gives_its_last_component),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
