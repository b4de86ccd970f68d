/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/timeline.h"

#include <stddef.h>

#include "machine/clock.h"

const char *fb_phase_text(unsigned int phase)
{
	switch (phase) {
	case FB_PHASE_START:
		return "start";
	case FB_PHASE_CHECKED:
		return "check";
	case FB_PHASE_LOADED:
		return "load the next kernel";
	case FB_PHASE_HOTREMOVED:
		return "hot-remove";
	case FB_PHASE_BLACKOUT:
		return "sync";
	case FB_PHASE_QUIESCED:
		return "quiesce";
	case FB_PHASE_SCANNED:
		return "read the tree";
	case FB_PHASE_COMMITTED:
		return "save and commit";
	case FB_PHASE_SYNCED:
		return "sync again";
	case FB_PHASE_PRECOPIED:
		return "copy ahead";
	case FB_PHASE_COPIED:
		return "copy what changed";
	case FB_PHASE_LEFT:
		return "commit and sync";
	case FB_PHASE_KERNEL:
		return "kexec";
	case FB_PHASE_INIT:
		return "kernel";
	case FB_PHASE_RESTORING:
		return "other programs";
	case FB_PHASE_FOUND:
		return "find the image";
	case FB_PHASE_VISIBLE:
		return "restore";
	case FB_PHASE_DRAINED:
		return "fill the files";
	case FB_PHASE_CONSUMED:
		return "mark the image";
	case FB_PHASE_HOTADDING:
		return "until the hot-add";
	case FB_PHASE_HOTADDED:
		return "hot-add";
	case FB_PHASE_RELEASED:
		return "release";
	}
	return "unknown";
}

void fb_timeline_stamp(struct fb_origin *origin, enum fb_phase phase)
{
	struct fb_stamp stamp = { (uint16_t)phase, fb_clock_counter() };

	if (origin->stamp_count < FB_HEADER_PHASES)
		origin->stamps[origin->stamp_count++] = stamp;
}

static const struct fb_stamp *find(const struct fb_origin *origin, enum fb_phase phase)
{
	for (uint32_t i = 0; i < origin->stamp_count; i++)
		if (origin->stamps[i].phase == phase)
			return &origin->stamps[i];
	return NULL;
}

uint64_t fb_timeline_usec(const struct fb_origin *origin, enum fb_phase from,
			  enum fb_phase to)
{
	const struct fb_stamp *a = find(origin, from), *b = find(origin, to);

	if (!a || !b || b->counter < a->counter)
		return 0;
	return fb_clock_ticks_usec(b->counter - a->counter, origin->counter_hz);
}
