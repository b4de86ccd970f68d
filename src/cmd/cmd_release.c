/* SPDX-License-Identifier: GPL-2.0-or-later */
/* release - what `restore --mode inplace` mounted becomes an ordinary copy. */
#define _GNU_SOURCE
#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "cmd/inplace.h"

static void report(const struct fb_context *ctx, const struct fb_inplace *place,
		   const struct fb_inplace_result *result)
{
	char bytes[FB_SIZE_TEXT_MAX];
	struct json_object *o;

	if (!ctx->dry_run)
		fb_say(ctx,
		       "released %s: %llu files, %s copied in %.3f s, %.3f s in all%s",
		       place->from, (unsigned long long)result->totals.files,
		       fb_size_text(result->totals.data_bytes, bytes),
		       (double)result->copy_usec / 1e6,
		       (double)result->total_usec / 1e6,
		       place->of_region ? "; `fastboot hotadd` makes it memory" : "");
	for (size_t i = 0; i < place->state_count && ctx->dry_run; i++)
		fb_say(ctx, "would copy '%s' out of %s and unmount it",
		       place->states[i], place->from);
	if (!ctx->json)
		return;
	o = fb_inplace_json(place);
	json_object_object_add(o, "dry_run", json_object_new_boolean(ctx->dry_run));
	if (!ctx->dry_run) {
		fb_json_number(o, "files", result->totals.files);
		fb_json_number(o, "data_bytes", result->totals.data_bytes);
		fb_json_number(o, "copy_usec", result->copy_usec);
		fb_json_number(o, "total_usec", result->total_usec);
	}
	fb_json_print(o);
}

static int release(const struct fb_context *ctx, uint64_t wait_usec, struct fb_err *err)
{
	struct fb_inplace_result result = { .copy_usec = 0 };
	struct fb_inplace place;
	int rc = fb_inplace_read(&place, err);

	if (!rc && !place.there)
		rc = fb_err_set(err, ENOENT,
				"nothing is in place: there is nothing to release");
	if (!rc && !ctx->dry_run)
		rc = fb_inplace_release(ctx, &place, wait_usec, &result, err);
	if (!rc)
		report(ctx, &place, &result);
	fb_inplace_free(&place);
	return rc;
}

static int run(const struct fb_context *ctx, int argc, char **argv, struct fb_err *err)
{
	uint64_t wait_usec = 0;
	int rc = fb_options_deadline(argc, argv, true, &wait_usec, err);

	if (!rc)
		rc = fb_require_live_root(ctx, err);
	if (!rc && !fb_sys_live(&ctx->sys))
		rc = fb_usage(err, "--sysroot: on a captured tree nothing is in place");
	if (!rc && !ctx->dry_run)
		rc = fb_lock(err);
	return rc ? rc : release(ctx, wait_usec, err);
}

const struct fb_command fb_cmd_release = {
	.name = "release",
	.arguments = "[--deadline SECONDS]",
	.summary = "give the region back after `restore --mode inplace`",
	.help = "      --deadline SECONDS   wait that long for those who use the state "
		"(0)\n",
	.run = run,
};
