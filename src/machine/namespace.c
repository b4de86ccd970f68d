/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE
#include "machine/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <ndctl/libndctl.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/util.h"

#define DAX_ALIGN  (2 * FB_MIB)
#define INFO_BLOCK 4096u

struct handle {
	struct ndctl_ctx *ndctl;
	struct ndctl_region *region;
	struct ndctl_namespace *ns;
};

static void handle_close(struct handle *h)
{
	if (h->ndctl)
		ndctl_unref(h->ndctl);
}

static int handle_new(struct handle *h, struct fb_err *err)
{
	int rc;

	memset(h, 0, sizeof(*h));
	rc = ndctl_new(&h->ndctl);
	if (rc)
		return fb_err_sys(err, -rc, "cannot start libndctl");
	return 0;
}

static struct ndctl_region *find_region(struct ndctl_ctx *ndctl, struct fb_range range)
{
	struct ndctl_bus *bus;
	struct ndctl_region *region;

	ndctl_bus_foreach(ndctl, bus) ndctl_region_foreach(
		bus,
		region) if (ndctl_region_get_resource(region) == range.start &&
			    ndctl_region_get_size(region) == range.size) return region;
	return NULL;
}

static struct ndctl_namespace *find_namespace(struct ndctl_region *region)
{
	struct ndctl_namespace *ns;

	ndctl_namespace_foreach(region, ns) if (ndctl_namespace_get_size(ns)) return ns;
	return NULL;
}

static int handle_open(struct handle *h, struct fb_range range, struct fb_err *err)
{
	char text[FB_RANGE_TEXT_MAX];
	int rc = handle_new(h, err);

	if (rc)
		return rc;
	h->region = find_region(h->ndctl, range);
	if (h->region)
		h->ns = find_namespace(h->region);
	if (h->ns)
		return 0;
	handle_close(h);
	return fb_err_set(err, ENODEV, "libnvdimm has no %s for %s",
			  h->region ? "namespace" : "region",
			  fb_range_text(range, text));
}

int fb_namespace_settle(struct fb_err *err)
{
	struct handle h;
	struct ndctl_bus *bus;
	int rc = handle_new(&h, err);

	if (rc)
		return rc;
	ndctl_bus_foreach(h.ndctl, bus)
	{
		rc = ndctl_bus_wait_probe(bus);
		if (rc < 0)
			break;
	}
	handle_close(&h);
	return rc < 0 ? fb_err_sys(err, -rc, "waiting for libnvdimm") : 0;
}

/* The device or partition is not said by EBUSY: say what to look for. */
static int busy_error(struct handle *h, int rc, struct fb_err *err)
{
	const char *block = ndctl_namespace_get_block_device(h->ns);

	if (rc == -EBUSY && block && block[0])
		return fb_err_set(err, EBUSY,
				  "/dev/%s is in use (mounted, or held by a program or "
				  "a mapping): unmount it first",
				  block);
	return fb_err_sys(err, -rc, "cannot disable %s",
			  ndctl_namespace_get_devname(h->ns));
}

static int disable(struct handle *h, struct fb_err *err)
{
	int rc = ndctl_namespace_disable_safe(h->ns);

	if (rc)
		return busy_error(h, rc, err);
	if (ndctl_namespace_is_active(h->ns))
		return fb_err_set(err, EBUSY, "%s did not let go of its driver",
				  ndctl_namespace_get_devname(h->ns));
	return 0;
}

static int enable(struct handle *h, struct fb_err *err)
{
	int rc = ndctl_namespace_enable(h->ns);

	/* > 0: what was enabled is a dax, pfn or btt on top of it. */
	if (rc > 0)
		return fb_err_set(err, EEXIST, "%s came back in another mode than raw",
				  ndctl_namespace_get_devname(h->ns));
	if (rc)
		return fb_err_sys(err, -rc, "cannot enable %s",
				  ndctl_namespace_get_devname(h->ns));
	return 0;
}

/* Clear the first bytes of the enabled block device, past the page cache. */
static int clear_front(struct handle *h, size_t size, struct fb_err *err)
{
	fb_autoclose int fd = -1;
	char path[64];
	void *zeros;
	ssize_t n;

	snprintf(path, sizeof(path), "/dev/%s",
		 ndctl_namespace_get_block_device(h->ns));
	fd = open(path, O_WRONLY | O_DIRECT | O_EXCL | O_CLOEXEC);
	if (fd < 0)
		return errno == EBUSY ? busy_error(h, -EBUSY, err)
				      : fb_err_sys(err, errno, "cannot open %s", path);
	if (posix_memalign(&zeros, INFO_BLOCK, size))
		return fb_err_sys(err, ENOMEM, "%s", path);
	memset(zeros, 0, size);
	n = pwrite(fd, zeros, size, 0);
	free(zeros);
	if (n < 0 || fsync(fd))
		return fb_err_sys(err, errno, "cannot clear the front of %s", path);
	if ((size_t)n != size)
		return fb_err_sys(err, EIO, "cannot clear the front of %s", path);
	return 0;
}

/*
 * A region that starts off its own alignment (16 MiB by default) needs a
 * smaller one, or the devdax namespace is refused (seen on arm64).
 */
static void fit_alignment(struct handle *h)
{
	unsigned long align = ndctl_region_get_align(h->region);

	if (align > DAX_ALIGN && align != ULONG_MAX &&
	    ndctl_region_get_resource(h->region) % align)
		ndctl_region_set_align(h->region, DAX_ALIGN);
}

/* 64 KiB pages (arm64) have larger alignments only: the default is right there. */
static bool can_align(struct ndctl_dax *dax)
{
	if (!ndctl_dax_has_align(dax))
		return false;
	for (int i = 0; i < ndctl_dax_get_num_alignments(dax); i++)
		if (ndctl_dax_get_supported_alignment(dax, i) == DAX_ALIGN)
			return true;
	return false;
}

static int setup_dax(struct handle *h, struct ndctl_dax *dax, struct fb_err *err)
{
	uuid_t uuid;
	int rc;

	/* A random one, version 4; libuuid would be one more library. */
	if (getrandom(uuid, sizeof(uuid), 0) != sizeof(uuid))
		return fb_err_sys(err, errno, "cannot make an identifier");
	uuid[6] = (unsigned char)((uuid[6] & 0x0f) | 0x40);
	uuid[8] = (unsigned char)((uuid[8] & 0x3f) | 0x80);
	rc = ndctl_dax_set_uuid(dax, uuid);
	if (!rc)
		rc = ndctl_dax_set_location(dax, NDCTL_PFN_LOC_RAM);
	if (!rc && can_align(dax))
		rc = ndctl_dax_set_align(dax, DAX_ALIGN);
	if (!rc)
		rc = ndctl_dax_set_namespace(dax, h->ns);
	if (!rc)
		rc = ndctl_dax_enable(dax);
	if (rc)
		return fb_err_sys(err, -rc, "cannot make a devdax namespace of %s",
				  ndctl_namespace_get_devname(h->ns));
	return 0;
}

static int make_devdax(struct handle *h, struct fb_err *err)
{
	struct ndctl_dax *dax;
	struct fb_err again = FB_ERR_INIT;
	int rc = disable(h, err);

	if (rc)
		return rc;
	fit_alignment(h);
	dax = ndctl_region_get_dax_seed(h->region);
	rc = dax ? setup_dax(h, dax, err)
		 : fb_err_exit(err, FB_EXIT_IMPOSSIBLE, ENODEV,
			       "this kernel offers no dax device for %s "
			       "(CONFIG_NVDIMM_DAX)",
			       ndctl_namespace_get_devname(h->ns));
	if (!rc)
		return 0;
	if (dax)
		ndctl_dax_delete(dax);
	if (enable(h, &again))
		fb_err_append(err, "; and %s", again.text);
	return rc;
}

int fb_namespace_to_devdax(struct fb_range region, struct fb_err *err)
{
	struct handle h;
	int rc = handle_open(&h, region, err);

	if (rc)
		return rc;
	if (ndctl_namespace_get_dax(h.ns)) {
		rc = ndctl_dax_enable(ndctl_namespace_get_dax(h.ns));
		if (rc)
			rc = fb_err_sys(err, -rc, "cannot enable the dax device of %s",
					ndctl_namespace_get_devname(h.ns));
	} else {
		rc = ndctl_namespace_is_enabled(h.ns) ? 0 : enable(&h, err);
		if (!rc)
			rc = clear_front(&h, INFO_BLOCK, err);
		if (!rc)
			rc = make_devdax(&h, err);
	}
	handle_close(&h);
	return rc;
}

/*
 * The info block of the old mode would bring it back on every probe: clear it
 * through the namespace in forced raw mode, which looks at no info block.
 */
static int forget_mode(struct handle *h, struct fb_err *err)
{
	int rc = ndctl_namespace_set_raw_mode(h->ns, 1);

	if (rc < 0)
		return fb_err_sys(err, -rc, "cannot force %s raw",
				  ndctl_namespace_get_devname(h->ns));
	rc = enable(h, err);
	if (!rc)
		rc = clear_front(h, 2 * INFO_BLOCK, err);
	ndctl_namespace_disable_invalidate(h->ns);
	ndctl_namespace_set_raw_mode(h->ns, 0);
	return rc;
}

static bool is_raw(struct handle *h)
{
	return !ndctl_namespace_get_dax(h->ns) && !ndctl_namespace_get_pfn(h->ns) &&
	       !ndctl_namespace_get_btt(h->ns) && ndctl_namespace_is_enabled(h->ns);
}

int fb_namespace_to_raw(struct fb_range region, struct fb_err *err)
{
	struct handle h;
	int rc = handle_open(&h, region, err);

	if (rc)
		return rc;
	if (!is_raw(&h)) {
		rc = disable(&h, err);
		if (!rc)
			rc = forget_mode(&h, err);
		if (!rc)
			rc = enable(&h, err);
	}
	handle_close(&h);
	return rc;
}
