/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/sysmacros.h>

#include "base/util.h"
#include "machine/mounts.h"

static const char table[] =
	"22 1 0:2 / / rw - rootfs rootfs rw,size=4000k\n"
	"40 22 0:33 / /state rw,relatime shared:7 master:1 - tmpfs none "
	"rw,huge=always\n"
	"41 22 259:0 / /run/image ro - erofs /dev/pmem0 ro,dax=always,acl\n"
	"not a line of it\n"
	"42 22 x:y / /strange rw - tmpfs none rw\n"
	"43 22 0:34 /a\\040b/c\\134d /a\\040b/c\\134d rw - overlay fastboot "
	"rw,xino=on\n"
	"44 40 0:35 / /state rw - tmpfs above rw";

static void test_parse(void **state)
{
	struct fb_mounts mounts;
	const struct fb_mount *m;

	(void)state;
	assert_int_equal(fb_mounts_parse(table, &mounts, NULL), 0);
	assert_int_equal(mounts.count, 5);
	m = fb_mounts_at(&mounts, "/run/image");
	assert_non_null(m);
	assert_string_equal(m->source, "/dev/pmem0");
	assert_string_equal(m->type, "erofs");
	assert_true(m->dev == makedev(259, 0));
	m = fb_mounts_at(&mounts, "/a b/c\\d");
	assert_non_null(m);
	assert_string_equal(m->root, "/a b/c\\d");
	/* The topmost. */
	m = fb_mounts_at(&mounts, "/state");
	assert_string_equal(m->source, "above");
	assert_string_equal(mounts.mounts[1].options, "rw,huge=always");
	assert_null(fb_mounts_at(&mounts, "/strange"));
	assert_null(fb_mounts_at(&mounts, "/sta"));
	fb_mounts_free(&mounts);
	assert_int_equal(mounts.count, 0);
	fb_mounts_free(&mounts);
}

static void test_has(void **state)
{
	char options[] = "ro,dax=always,acl";
	const struct fb_mount m = { .options = options };

	(void)state;
	assert_true(fb_mount_has(&m, "ro"));
	assert_true(fb_mount_has(&m, "dax=always"));
	assert_true(fb_mount_has(&m, "acl"));
	assert_false(fb_mount_has(&m, "dax"));
	assert_false(fb_mount_has(&m, "rw"));
	assert_false(fb_mount_has(&m, ""));
	assert_false(fb_mount_has(&m, "ro,dax=always"));
}

/* The real one of this process has a root. */
static void test_read(void **state)
{
	struct fb_mounts mounts;

	(void)state;
	assert_int_equal(fb_mounts_read(&mounts, NULL), 0);
	assert_non_null(fb_mounts_at(&mounts, "/"));
	fb_mounts_free(&mounts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_has),
		cmocka_unit_test(test_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
