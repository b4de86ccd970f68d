/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * reboot - the whole sequence: load the next kernel, take the region back,
 * save the state into it while the applications run, stop them, save what
 * changed meanwhile, start the next kernel. Every step before the last
 * has an undo, and all that were made are undone when one fails.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"
#include "cmd/cmd.h"
#include "cmd/hotplug.h"
#include "cmd/inplace.h"
#include "cmd/load.h"
#include "cmd/precopy.h"
#include "cmd/regionstore.h"
#include "cmd/save.h"
#include "engine/image.h"
#include "engine/region.h"
#include "engine/timeline.h"
#include "machine/clock.h"
#include "machine/hook.h"
#include "machine/kexec.h"
#include "machine/namespace.h"

struct options {
	struct fb_load_options load;
	bool firmware, now, no_precopy;
	uint64_t deadline_usec;
	int dir_count;
	char **dirs;
};

/* What there is to do, and what was done and must be undone. */
struct reboot {
	const struct fb_context *ctx;
	const struct options *options;
	struct fb_region region; /* as it was found */
	struct fb_save_dirs dirs;
	struct fb_load load;
	enum fb_carry carry;
	struct fb_tree_totals totals; /* of the first look at the state */
	uint64_t image_size;
	struct fb_origin stamps;

	struct fb_inplace place; /* of the region; it is released in the blackout */
	bool loaded, removed, quiesced, released, written;
	struct fb_store store; /* open from the hot-remove, or the release, on */
	struct fb_precopy *precopy;
};

/* ---- options ------------------------------------------------------------- */

static int parse(int argc, char **argv, struct options *o, struct fb_err *err)
{
	static const struct option options[] = {
		FB_LOAD_OPTIONS,
		{ "firmware", no_argument, NULL, 'f' },
		{ "now", no_argument, NULL, 'w' },
		{ "no-precopy", no_argument, NULL, 'p' },
		{ "dry-run", no_argument, NULL, 'n' },
		{ "deadline", required_argument, NULL, 'd' },
		{ NULL, 0, NULL, 0 },
	};
	int c, rc = 0;

	opterr = 0;
	while (!rc && (c = getopt_long(argc, argv, ":n", options, NULL)) != -1) {
		if (c == 'f')
			o->firmware = true;
		else if (c == 'w')
			o->now = true;
		else if (c == 'p')
			o->no_precopy = true;
		else if (c == 'd')
			rc = fb_option_deadline(optarg, false,
						&o->deadline_usec, err);
		else if (c != 'n' && !fb_load_option(&o->load, c))
			rc = fb_usage_option(err, argv, c);
	}
	if (!rc && o->firmware && o->load.any)
		rc = fb_usage(err,
			      "--firmware loads no kernel: the boot loader chooses "
			      "it");
	o->dir_count = argc - optind;
	o->dirs = argv + optind;
	return rc;
}

static bool wants_dry_run(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
		if (!strcmp(argv[i], "-n") || !strcmp(argv[i], "--dry-run"))
			return true;
	return false;
}

/* ---- check: nothing is changed ------------------------------------------- */

/* sd_booted(3) */
static int check_manager(const struct reboot *r, struct fb_err *err)
{
	if (r->options->now || r->ctx->dry_run ||
	    !fb_sys_exists(&r->ctx->sys, "/run/systemd/system"))
		return 0;
	return fb_err_set(
		err, EBUSY,
		"a service manager runs here: --now reboots without it, and no "
		"service is stopped but by the quiesce hook");
}

/* What is in place in the region, and not from a file. */
static int check_place(struct reboot *r, struct fb_err *err)
{
	int rc = fb_inplace_read(&r->place, err);

	if (!rc && !r->place.of_region)
		fb_inplace_free(&r->place);
	if (rc || !r->place.there)
		return rc;
	return fb_inplace_check_room(&r->place, r->totals.data_bytes, err);
}

static int check_size(struct reboot *r, struct fb_err *err)
{
	struct fb_save save;
	int rc = fb_save_prepare(r->ctx, &r->dirs, r->region.range.size, &save, err);

	if (rc)
		return rc;
	r->totals = save.totals;
	r->image_size = save.plan.size;
	fb_save_free(&save);
	return 0;
}

static int check_next(struct reboot *r, struct fb_err *err)
{
	int rc;

	if (r->options->firmware)
		return fb_load_prove_firmware(r->ctx, &r->region, &r->carry, err);
	rc = fb_load_prepare(r->ctx, &r->options->load, &r->region, &r->load, err);
	if (!rc)
		r->carry = r->load.carry;
	return rc;
}

static int check(struct reboot *r, struct fb_err *err)
{
	int rc = check_manager(r, err);

	if (!rc)
		rc = fb_save_dirs(r->ctx, r->options->dir_count, r->options->dirs,
				  &r->dirs, err);
	if (!rc)
		rc = fb_hotplug_find(r->ctx, &r->region, err);
	if (!rc)
		rc = fb_hotplug_check_image(r->ctx, &r->region, "", err);
	if (!rc)
		rc = check_next(r, err);
	if (!rc)
		rc = check_size(r, err);
	if (!rc)
		rc = check_place(r, err);
	fb_timeline_stamp(&r->stamps, FB_PHASE_CHECKED);
	return rc;
}

/* ---- prepare: every step has an undo -------------------------------------- */

static int load(struct reboot *r, struct fb_err *err)
{
	struct fb_kexec_loaded loaded;
	int rc;

	if (r->options->firmware)
		return 0;
	fb_load_say(r->ctx, &r->load);
	rc = fb_load_perform(r->ctx, &r->load, &loaded, err);
	if (rc)
		return rc;
	r->loaded = true;
	if (loaded.replaced)
		fb_warn(r->ctx, "this replaces a kernel that was loaded before");
	fb_load_say_loaded(r->ctx, &loaded);
	fb_timeline_stamp(&r->stamps, FB_PHASE_LOADED);
	return 0;
}

static int open_region(struct reboot *r, struct fb_err *err)
{
	int rc = fb_regionstore_open(r->ctx, true, NULL, &r->store, err);

	return rc ? rc : fb_save_replaceable(&r->store, err);
}

static int take_region(struct reboot *r, struct fb_err *err)
{
	struct fb_hotplug_report report;
	int rc = fb_hotremove_run(r->ctx, &r->region, r->options->deadline_usec,
				  &report, err);

	if (rc)
		return rc;
	r->removed = report.plan.count > 0;
	fb_hotplug_report_free(&report);
	/* What is in place is still mounted. */
	if (!r->place.there)
		rc = open_region(r, err);
	fb_timeline_stamp(&r->stamps, FB_PHASE_HOTREMOVED);
	return rc;
}

static int copy_ahead(struct reboot *r, struct fb_err *err)
{
	struct fb_bar bar;
	struct fb_progress copying =
		fb_bar_start(&bar, r->ctx, "copying ahead", true);
	const struct fb_precopy_options options = { &r->dirs, &r->store, &fb_signals,
						    &copying, 0, 0 };
	int rc;

	r->written = true;
	rc = fb_precopy_run(&options, &r->precopy, err);
	fb_bar_end(&bar);
	/* In the blackout nobody watches, but signals still count. */
	if (r->precopy)
		r->precopy->options.copying = &fb_signals;
	fb_timeline_stamp(&r->stamps, FB_PHASE_PRECOPIED);
	return fb_interruption(rc, err);
}

/* ---- the blackout ---------------------------------------------------------- */

static int quiesce(struct reboot *r, struct fb_err *err)
{
	const char *hook = r->ctx->config.quiesce;
	int rc;

	/* What is dirty now need not be written while nothing runs. */
	sync();
	rc = fb_interrupted(err);
	fb_timeline_stamp(&r->stamps, FB_PHASE_BLACKOUT);
	if (rc || !hook)
		return rc;
	/* One that failed may have stopped a part: resume undoes that, too. */
	r->quiesced = true;
	rc = fb_hook_run(hook, "quiesce", fb_interrupted, err);
	fb_timeline_stamp(&r->stamps, FB_PHASE_QUIESCED);
	return rc;
}

/* Nobody uses it any more: only now it can go. */
static int release(struct reboot *r, struct fb_err *err)
{
	struct fb_inplace_result result;
	char bytes[FB_SIZE_TEXT_MAX];
	int rc;

	if (!r->place.there)
		return 0;
	rc = fb_inplace_release(r->ctx, &r->place, 0, &result, err);
	r->released = !rc;
	if (!rc)
		rc = open_region(r, err);
	if (!rc)
		fb_say(r->ctx, "released      %s in %.3f s",
		       fb_size_text(result.totals.data_bytes, bytes),
		       (double)result.total_usec / 1e6);
	fb_timeline_stamp(&r->stamps, FB_PHASE_RELEASED);
	return rc;
}

static int save_changes(struct reboot *r, struct fb_err *err)
{
	struct fb_precopy *p = r->precopy;
	int rc = fb_precopy_rescan(p, err);

	fb_timeline_stamp(&r->stamps, FB_PHASE_SCANNED);
	if (!rc)
		rc = fb_precopy_complete(p, err);
	if (!rc)
		rc = fb_interrupted(err);
	if (rc)
		return fb_interruption(rc, err);
	fb_timeline_stamp(&r->stamps, FB_PHASE_COPIED);
	r->image_size = p->save.plan.size;
	rc = fb_save_commit(r->ctx, &r->store, &p->save, p->generation, &r->stamps, err);
	fb_timeline_stamp(&r->stamps, FB_PHASE_COMMITTED);
	return rc;
}

static int save_all(struct reboot *r, struct fb_err *err)
{
	struct fb_save_result result;
	struct fb_save s;
	int rc = fb_save_prepare(r->ctx, &r->dirs, r->store.size, &s, err);

	if (rc)
		return rc;
	fb_timeline_stamp(&r->stamps, FB_PHASE_SCANNED);
	r->written = true;
	rc = fb_save_write(r->ctx, &r->store, &s, &r->stamps, &result, err);
	fb_save_free(&s);
	fb_timeline_stamp(&r->stamps, FB_PHASE_COMMITTED);
	return rc;
}

static int save(struct reboot *r, struct fb_err *err)
{
	return r->precopy ? save_changes(r, err) : save_all(r, err);
}

/* ---- what is said before the kernel ends ------------------------------------ */

static void say_precopy(const struct reboot *r)
{
	const struct fb_precopy_result *p = &r->precopy->result;
	char a[FB_SIZE_TEXT_MAX], b[FB_SIZE_TEXT_MAX], c[FB_SIZE_TEXT_MAX];

	fb_say(r->ctx, "copied ahead  %s in %u round%s, %s of it in place already",
	       fb_size_text(p->ahead_bytes, a), p->rounds, p->rounds == 1 ? "" : "s",
	       fb_size_text(p->ahead_bytes - p->ahead_written, b));
	fb_say(r->ctx, "blackout      %s clean, %s compared or copied, %s written",
	       fb_size_text(p->clean_bytes, a), fb_size_text(p->compared_bytes, b),
	       fb_size_text(p->written_bytes, c));
	fb_say(r->ctx, "leases        %zu held, %zu broken", p->leases_held,
	       p->leases_broken);
	if (p->moved)
		fb_say(r->ctx, "what changed did not fit between what was copied: all "
			       "was copied again");
}

static uint64_t phase_usec(const struct fb_origin *o, uint32_t i)
{
	return fb_clock_ticks_usec(o->stamps[i].counter - o->stamps[i - 1].counter,
				   o->counter_hz);
}

static void say_phases(const struct reboot *r)
{
	const struct fb_origin *o = &r->stamps;

	if (r->precopy)
		say_precopy(r);
	for (uint32_t i = 1; i < o->stamp_count; i++)
		fb_say(r->ctx, "%-22s %9.3f s", fb_phase_text(o->stamps[i].phase),
		       (double)phase_usec(o, i) / 1e6);
	fb_say(r->ctx, "%-22s %9.3f s", "blackout so far",
	       (double)fb_timeline_usec(o, FB_PHASE_BLACKOUT, FB_PHASE_SYNCED) / 1e6);
}

static struct json_object *phases_json(const struct fb_origin *o)
{
	struct json_object *list = json_object_new_array();

	for (uint32_t i = 1; i < o->stamp_count; i++) {
		struct json_object *p = json_object_new_object();

		json_object_object_add(
			p, "phase",
			json_object_new_string(fb_phase_text(o->stamps[i].phase)));
		json_object_object_add(p, "took_usec",
				       json_object_new_uint64(phase_usec(o, i)));
		json_object_array_add(list, p);
	}
	return list;
}

static struct json_object *precopy_json(const struct fb_precopy_result *p)
{
	struct json_object *o = json_object_new_object();

	fb_json_number(o, "rounds", p->rounds);
	fb_json_number(o, "ahead_bytes", p->ahead_bytes);
	fb_json_number(o, "ahead_written_bytes", p->ahead_written);
	fb_json_number(o, "clean_bytes", p->clean_bytes);
	fb_json_number(o, "compared_bytes", p->compared_bytes);
	fb_json_number(o, "written_bytes", p->written_bytes);
	fb_json_number(o, "leases_held", p->leases_held);
	fb_json_number(o, "leases_broken", p->leases_broken);
	json_object_object_add(o, "all_moved", json_object_new_boolean(p->moved));
	return o;
}

static void print_json(const struct reboot *r, struct json_object *steps)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "dry_run", json_object_new_boolean(r->ctx->dry_run));
	json_object_object_add(o, "firmware",
			       json_object_new_boolean(r->options->firmware));
	json_object_object_add(o, "carried_by",
			       json_object_new_string(fb_carry_text(r->carry)));
	json_object_object_add(o, "image_bytes", json_object_new_uint64(r->image_size));
	if (steps)
		json_object_object_add(o, "hotremove_steps", steps);
	else
		json_object_object_add(o, "phases", phases_json(&r->stamps));
	if (r->precopy)
		json_object_object_add(o, "precopy",
				       precopy_json(&r->precopy->result));
	if (!r->options->firmware)
		json_object_object_add(o, "command_line",
				       json_object_new_string(r->load.command_line));
	if (!r->options->firmware)
		json_object_object_add(o, "method",
				       json_object_new_string(fb_kexec_method_text(
					       r->load.choice.method)));
	fb_json_print(o);
}

/* ---- undo: in reverse, as much as can be ------------------------------------- */

/* Take one undo's result into the error that made it necessary. */
static void note(struct fb_err *err, int rc, const struct fb_err *undo)
{
	if (!rc)
		return;
	fb_err_append(err, "; the undo is incomplete: %s", undo->text);
	err->status = FB_EXIT_UNDO;
}

/* Nothing stale may be found after a later reboot. */
static void undo_image(struct reboot *r, struct fb_err *err)
{
	struct fb_err undo = FB_ERR_INIT;
	uint64_t generation;
	int rc;

	if (!r->written)
		return;
	rc = fb_image_begin(&r->store, &generation, &undo);
	note(err, rc, &undo);
}

static void undo_quiesce(struct reboot *r, struct fb_err *err)
{
	struct fb_err undo = FB_ERR_INIT;

	if (r->quiesced && r->ctx->config.resume)
		note(err, fb_hook_run(r->ctx->config.resume, "resume", NULL, &undo),
		     &undo);
}

static void undo_region(struct reboot *r, struct fb_err *err)
{
	struct fb_err undo = FB_ERR_INIT;
	int rc;

	fb_store_close(&r->store);
	if (!r->removed)
		return;
	/* A devdax that was not hot-added becomes that again, no more. */
	rc = r->region.hotadded.size ? fb_hotremove_undo(r->ctx, &undo)
				     : fb_namespace_to_devdax(r->region.range, &undo);
	note(err, rc, &undo);
}

static void undo_load(struct reboot *r, struct fb_err *err)
{
	struct fb_err undo = FB_ERR_INIT;

	if (r->loaded)
		note(err, fb_kexec_unload(&undo), &undo);
}

/* `err` has the reason and gets what could not be undone. */
static void undo(struct reboot *r, struct fb_err *err)
{
	/* The leases first: who wants to write waits for them. */
	fb_precopy_free(r->precopy);
	r->precopy = NULL;
	undo_image(r, err);
	undo_quiesce(r, err);
	undo_region(r, err);
	undo_load(r, err);
	if (r->released)
		fb_err_append(err, "; the state is no longer in place but an ordinary "
				   "copy");
}

/* ---- the sequence -------------------------------------------------------------- */

/*
 * The last stamps are too late for the header, but how long it took since is
 * written beside it: only right before a kexec, which the counter survives.
 */
static int mark_left(struct reboot *r, struct fb_err *err)
{
	uint64_t usec;

	fb_timeline_stamp(&r->stamps, FB_PHASE_LEFT);
	usec = fb_timeline_usec(&r->stamps, FB_PHASE_COPIED, FB_PHASE_LEFT);
	if (r->options->firmware || usec > UINT32_MAX)
		return 0;
	return fb_image_mark_left(&r->store, (uint32_t)usec, err);
}

/* Comes back only on failure. */
static int leave(struct reboot *r, struct fb_err *err)
{
	int rc;

	sync();
	fb_timeline_stamp(&r->stamps, FB_PHASE_SYNCED);
	say_phases(r);
	if (r->ctx->json)
		print_json(r, NULL);
	fflush(stdout);
	rc = mark_left(r, err);
	if (rc)
		return rc;
	return r->options->firmware ? fb_kexec_restart(err) : fb_kexec_start(err);
}

static int perform(struct reboot *r, struct fb_err *err)
{
	int rc = fb_interrupted(err);

	if (!rc)
		rc = load(r, err);
	if (!rc)
		rc = fb_interrupted(err);
	if (!rc)
		rc = take_region(r, err);
	if (!rc)
		rc = fb_interrupted(err);
	if (!rc && !r->options->no_precopy && !r->place.there)
		rc = copy_ahead(r, err);
	if (!rc)
		rc = quiesce(r, err);
	if (!rc)
		rc = fb_interrupted(err);
	if (!rc)
		rc = release(r, err);
	if (!rc)
		rc = save(r, err);
	if (!rc)
		rc = leave(r, err);
	undo(r, err);
	return rc;
}

static void say_state(const struct reboot *r)
{
	char size[FB_SIZE_TEXT_MAX];

	for (size_t i = 0; i < r->dirs.count; i++)
		fb_say(r->ctx, "     save %s%s",
		       r->options->no_precopy || r->place.there ? ""
								: "what changed in ",
		       r->dirs.dirs[i].path);
	fb_say(r->ctx, "     commit the image: %s, %" PRIu64 " regular file%s",
	       fb_size_text(r->image_size, size), r->totals.files,
	       r->totals.files == 1 ? "" : "s");
}

static void say_ahead(const struct reboot *r)
{
	fb_say(r->ctx, "while the applications run:");
	for (size_t i = 0; i < r->dirs.count; i++)
		fb_say(r->ctx, "     copy %s, again as long as less changes each time",
		       r->dirs.dirs[i].path);
}

static void say_steps(const struct reboot *r, const struct fb_hotplug_report *report)
{
	const struct fb_config *config = &r->ctx->config;

	if (!r->options->firmware) {
		fb_load_say(r->ctx, &r->load);
		fb_say(r->ctx, "\nload the next kernel");
	}
	fb_say(r->ctx, "%s",
	       report->plan.count ? "hot-remove the region:"
				  : "the region is raw already");
	fb_hotplug_say_plan(r->ctx, report);
	if (!r->options->no_precopy && !r->place.there)
		say_ahead(r);
	fb_say(r->ctx, "sync\nrun the quiesce hook: %s",
	       config->quiesce ? config->quiesce : "none");
	if (r->place.there)
		fb_say(r->ctx, "release %s: copy what is in place into memory",
		       r->place.from);
	say_state(r);
	fb_say(r->ctx, "sync, and %s",
	       r->options->firmware ? "reboot through the firmware"
				    : "start the next kernel");
}

static int dry_run(struct reboot *r, struct fb_err *err)
{
	struct fb_hotplug_report report;
	int rc = fb_hotremove_run(r->ctx, &r->region, r->options->deadline_usec,
				  &report, err);

	if (rc)
		return rc;
	if (r->ctx->json)
		print_json(r, fb_hotplug_steps_json(&report));
	else
		say_steps(r, &report);
	fb_hotplug_report_free(&report);
	return 0;
}

static int reboot_or_print(const struct fb_context *ctx, const struct options *o,
			   struct fb_err *err)
{
	struct reboot r = { .ctx = ctx, .options = o, .store = { .fd = -1 } };
	int rc = fb_require_live_root(ctx, err);

	if (!rc && !ctx->dry_run)
		rc = fb_lock(err);
	if (rc)
		return rc;
	r.stamps.counter_hz = fb_clock_frequency();
	fb_timeline_stamp(&r.stamps, FB_PHASE_START);
	rc = check(&r, err);
	if (!rc)
		rc = ctx->dry_run ? dry_run(&r, err) : perform(&r, err);
	fb_load_free(&r.load);
	fb_save_dirs_free(&r.dirs);
	fb_inplace_free(&r.place);
	return rc;
}

static int run(const struct fb_context *ctx, int argc, char **argv, struct fb_err *err)
{
	struct options o = { .deadline_usec = ctx->config.deadline_usec };
	struct fb_context own = *ctx;
	int rc;

	/* `fastboot reboot --dry-run` is what one types. */
	own.dry_run |= wants_dry_run(argc, argv);
	rc = parse(argc, argv, &o, err);
	return rc ? rc : reboot_or_print(&own, &o, err);
}

const struct fb_command fb_cmd_reboot = {
	.name = "reboot",
	.arguments = "[OPTION…] [DIR…]",
	.summary = "save the state and start the next kernel with it",
	.help = FB_LOAD_HELP
	"      --firmware            through the firmware instead of kexec\n"
	"      --now                 do not go through the service manager\n"
	"      --no-precopy          copy nothing before the applications stop\n"
	"      --deadline SECONDS    for taking the region back\n"
	"  -n, --dry-run             print every step, change nothing\n"
	"Without DIR the states of the configuration are saved.\n",
	.run = run,
};
