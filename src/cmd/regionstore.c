/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "cmd/regionstore.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "engine/region.h"
#include "machine/modules.h"
#include "machine/namespace.h"

static int find(const struct fb_context *ctx, struct fb_region *region,
		struct fb_err *err)
{
	const struct fb_config *config = &ctx->config;

	return fb_region_find(&ctx->sys, config->region_set ? &config->region : NULL,
			      region, err);
}

/* The region, with its drivers loaded where that can be done. */
static int find_with_drivers(const struct fb_context *ctx, struct fb_region *region,
			     struct fb_err *err)
{
	struct fb_err load = FB_ERR_INIT;
	int rc = find(ctx, region, err);

	if (rc || region->mode != FB_NS_NONE || !fb_sys_live(&ctx->sys) || geteuid())
		return rc;
	rc = fb_modules_load(&ctx->sys, &load);
	if (!rc)
		rc = fb_namespace_settle(&load);
	if (find(ctx, region, err))
		return -err->error;
	/* Raw is enough here, whatever else could not be loaded. */
	if (rc && region->mode == FB_NS_NONE) {
		*err = load;
		return rc;
	}
	return 0;
}

int fb_regionstore_open(const struct fb_context *ctx, bool writable,
			struct fb_region *region, struct fb_store *store,
			struct fb_err *err)
{
	struct fb_region found;
	char path[PATH_MAX];
	int rc;

	if (!fb_sys_live(&ctx->sys))
		return fb_usage(err, "--sysroot: a captured tree has no image in it");
	rc = find_with_drivers(ctx, &found, err);
	if (!rc)
		rc = fb_region_device(&found, path, sizeof(path), err);
	if (!rc)
		rc = fb_store_open_block(path, writable, store, err);
	if (!rc && region)
		*region = found;
	return rc;
}

int fb_regionstore_open_image(const struct fb_context *ctx, const char *file,
			      bool writable, struct fb_store *store, struct fb_err *err)
{
	int rc;

	if (file)
		return fb_store_open_file(file, writable, store, err);
	rc = fb_regionstore_open(ctx, writable, NULL, store, err);
	if (rc == -ENXIO) {
		fb_err_prefix(err, "no image");
		err->status = FB_EXIT_NO_IMAGE;
	}
	return rc;
}
