/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * load - what `load` and `reboot` share: which kernel comes next, with which
 * command line, and the proof that it will find the region at its place.
 *
 *	while (getopt_long(...))
 *		if (fb_load_option(&options, c)) continue;
 *	fb_load_prepare(ctx, &options, &region, &load, err)   reads only
 *	fb_load_say(ctx, &load)
 *	fb_load_perform(ctx, &load, &loaded, err)   undone by fb_kexec_unload()
 *	fb_load_free(&load)
 */
#ifndef FB_CMD_LOAD_H
#define FB_CMD_LOAD_H

#include <getopt.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/facts.h"
#include "cmd/cmd.h"
#include "format/acpi.h"
#include "machine/kexec.h"

/* As given; nothing is owned, NULL: not given. */
struct fb_load_options {
	const char *kernel, *initrd, *command_line, *append, *dtb;
	bool reuse;
	bool any; /* at least one of them was given */
};

enum {
	FB_LOAD_OPT_KERNEL = 0x1000,
	FB_LOAD_OPT_INITRD,
	FB_LOAD_OPT_COMMAND_LINE,
	FB_LOAD_OPT_APPEND,
	FB_LOAD_OPT_REUSE,
	FB_LOAD_OPT_DTB,
};

/* For a table of getopt_long(); spelled as kexec(8) spells them. */
#define FB_LOAD_OPTIONS                                                                \
	{ "kernel", required_argument, NULL, FB_LOAD_OPT_KERNEL },                     \
		{ "initrd", required_argument, NULL, FB_LOAD_OPT_INITRD },             \
		{ "ramdisk", required_argument, NULL, FB_LOAD_OPT_INITRD },            \
		{ "command-line", required_argument, NULL, FB_LOAD_OPT_COMMAND_LINE }, \
		{ "append", required_argument, NULL, FB_LOAD_OPT_APPEND },             \
		{ "dtb", required_argument, NULL, FB_LOAD_OPT_DTB },                   \
	{                                                                              \
		"reuse-cmdline", no_argument, NULL, FB_LOAD_OPT_REUSE                  \
	}

#define FB_LOAD_HELP                                                                   \
	"      --kernel FILE         the next kernel\n"                                \
	"      --initrd FILE         its initrd; none if only --kernel is given\n"     \
	"      --reuse-cmdline       the running kernel's command line (default)\n"    \
	"      --append TEXT         that, with TEXT added\n"                          \
	"      --command-line TEXT   exactly TEXT; must carry the region\n"                \
	"      --dtb FILE            its device tree, instead of the running one\n"

/* Take in an answer of getopt_long() with optarg; false: not one of these. */
bool fb_load_option(struct fb_load_options *options, int answer);

/* Why the next kernel will see the region. */
enum fb_carry {
	FB_CARRY_NONE,	       /* there is no region to carry */
	FB_CARRY_COMMAND_LINE, /* memmap= was there */
	FB_CARRY_ADDED,	       /* memmap= was added */
	FB_CARRY_FIRMWARE,     /* the firmware's map or its NFIT has the range */
	FB_CARRY_DEVICE_TREE,  /* the node, and what keeps RAM away from it */
	FB_CARRY_TABLES,       /* the initrd begins with the ACPI tables */
	FB_CARRY_TABLES_ADDED, /* they are put in front of the initrd */
};

struct fb_load {
	char *kernel, *initrd, *command_line; /* owned; initrd NULL: none */
	char *dtb; /* owned; NULL: the running tree, where there is one */
	enum fb_carry carry;
	/* How the kernel takes it; what was asked for, and what that rests on. */
	enum fb_kexec_method wanted;
	struct fb_kexec_facts facts;
	struct fb_kexec_choice choice;
	/* The region; without one, what the command line, the device tree or the
	 * ACPI tables carve newly; or empty. */
	struct fb_range region;
	/* fb_load_perform() puts it in front of the initrd; region.size 0: nothing */
	struct fb_acpi_tables tables;
};

/*
 * Decide and check everything, change nothing. `region` may be NULL: there is
 * none yet. The kernel: option, then [kexec] kernel, then /vmlinuz, then
 * /boot/vmlinuz-RELEASE, each of the last two with the initrd beside it. The
 * command line: as given, or the running one with what is to be added and, if
 * the region needs it, its memmap=. A device tree can only be given through
 * kexec-tools; it must have the region at its place (fb_dtb_carries()). Where
 * the region comes from ACPI tables mem= must stay, and the initrd must begin
 * with them; they are put in front of one that has none.
 *
 * FB_EXIT_USAGE: options that contradict each other. -ENOENT: no kernel, or a
 * given command line that does not carry the region (*err has the text to
 * add). -ENOTSUP, -EPERM: [kexec] method, fb_kexec_choose(). -EINVAL, -E2BIG:
 * fb_cmdline_carries(), fb_cmdline_kaslr_avoids(). -EEXIST: the initrd begins with
 * other tables. Otherwise as fb_kexec_files_check().
 * On success free with fb_load_free().
 */
int fb_load_prepare(const struct fb_context *ctx, const struct fb_load_options *options,
		    const struct fb_region *region, struct fb_load *load,
		    struct fb_err *err);
void fb_load_free(struct fb_load *load);

/*
 * The carry-over proof for a reboot through firmware, where the boot loader
 * chooses the command line: the firmware's map, the device tree, or at least
 * the running command line has the region. 0 and *carry, or -ENOENT, also where
 * the device tree came by `load --dtb` since the last boot by firmware; -ENOTSUP
 * with FB_EXIT_IMPOSSIBLE where it comes from ACPI tables, of which firmware and
 * boot loader know nothing.
 */
int fb_load_prove_firmware(const struct fb_context *ctx, const struct fb_region *region,
			   enum fb_carry *carry, struct fb_err *err);

/* The lines that say what comes next, and why the region survives. */
void fb_load_say(const struct fb_context *ctx, const struct fb_load *load);

/* After fb_load_perform(): how it went. */
void fb_load_say_loaded(const struct fb_context *ctx,
			const struct fb_kexec_loaded *loaded);

/* "memmap= on its command line", for messages. */
const char *fb_carry_text(enum fb_carry carry);
/* "as printed by the kernel", how it is known that nothing lies in the region. */
const char *fb_proof_text(enum fb_kexec_proof proof);

/*
 * Load it: fb_kexec_load(). With method = auto, where the kernel turns out to
 * lack the call or to want a signature, load->choice becomes the other one.
 */
int fb_load_perform(const struct fb_context *ctx, struct fb_load *load,
		    struct fb_kexec_loaded *loaded, struct fb_err *err);

#endif
