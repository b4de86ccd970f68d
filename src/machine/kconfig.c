/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "machine/kconfig.h"

#include <errno.h>
#include <string.h>
#include <zlib.h>

#include "base/util.h"

#define CONFIG_GZ "/proc/config.gz"
/* A full configuration is 300 KiB; what is far larger is none. */
#define TEXT_MAX (8u << 20)

static int inflate_text(const char *packed, size_t size, char **text)
{
	fb_autofree char *out = malloc(TEXT_MAX);
	z_stream z = { .next_in = (Bytef *)packed,
		       .avail_in = (uInt)size,
		       .next_out = (Bytef *)out,
		       .avail_out = TEXT_MAX - 1 };
	int rc;

	/* 16: a gzip header and its checksum. */
	if (!out || inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
		return -ENOMEM;
	rc = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	if (rc != Z_STREAM_END)
		return -EBADMSG;
	out[z.total_out] = '\0';
	*text = fb_steal_ptr(out);
	return 0;
}

static int read_packed(const struct fb_sys *sys, char **text, struct fb_err *err)
{
	fb_autofree char *packed = NULL;
	size_t size;
	int rc = fb_sys_read(sys, CONFIG_GZ, &packed, &size, err);

	if (rc)
		return rc;
	rc = size > UINT32_MAX ? -EBADMSG : inflate_text(packed, size, text);
	return rc ? fb_err_sys(err, -rc, CONFIG_GZ) : 0;
}

int fb_kconfig_read(const struct fb_sys *sys, char **text, struct fb_err *err)
{
	char release[128], path[192];

	if (!fb_sys_attr_read(sys, "/proc/sys/kernel/osrelease", release,
			      sizeof(release), NULL)) {
		snprintf(path, sizeof(path), "/boot/config-%s", release);
		if (!fb_sys_read(sys, path, text, NULL, NULL))
			return 0;
		snprintf(path, sizeof(path), "/lib/modules/%s/config", release);
		if (!fb_sys_read(sys, path, text, NULL, NULL))
			return 0;
	}
	return read_packed(sys, text, err);
}

char fb_kconfig_value(const char *text, const char *option)
{
	size_t length = strlen(option);

	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, "CONFIG_", 7) &&
		    !strncmp(line + 7, option, length) && line[7 + length] == '=')
			return line[8 + length] == 'm' ? 'm' : 'y';
	}
	return 'n';
}
