/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * erofs - the metadata of an uncompressed EROFS file system, from and to a
 * `struct fb_tree`. Pure: buffers and structs in, structs out.
 *
 * What defines it: Linux fs/erofs/erofs_fs.h, inode.c, data.c, dir.c, namei.c,
 * xattr.c of 6.1 and 6.12; both kernels, fsck.erofs and dump.erofs 1.5 accept
 * what is written here. Every choice is in SPEC.md:
 *
 *  - 4096-byte blocks, 64-byte ("extended") inodes, which never cross a block;
 *  - a regular file is FLAT_PLAIN where one extent is all of it, else
 *    CHUNK_BASED with a 4-byte block map; its data is never inline;
 *  - a directory or symbolic link is FLAT_INLINE where inode, xattrs and
 *    content fit into one block, else FLAT_PLAIN with its blocks behind the
 *    inodes (Linux 6.1 refuses a link whose inline text is in a later block);
 *  - all xattrs inline.
 *
 * All of the metadata is one run of blocks (inodes first, then the blocks of
 * large directories), the root's inode at its very start. A nid is the inode's
 * offset in that run divided by 32.
 *
 * Calling sequence of a writer:
 *	fb_erofs_fit_extents() for each inode
 *	fb_erofs_layout_make()   - the size is known, no address needed
 *	... set extents[].block, choose the metadata's first block ...
 *	fb_erofs_encode(); fb_erofs_super_encode()
 * and of a reader:
 *	fb_erofs_super_decode(); fb_erofs_decode()
 */
#ifndef FB_FORMAT_EROFS_H
#define FB_FORMAT_EROFS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/tree.h"

#define FB_EROFS_BLOCK        4096u
#define FB_EROFS_BLOCK_BITS   12u
#define FB_EROFS_SUPER_OFFSET 1024u
#define FB_EROFS_MAGIC        0xe0f5e1e2u
#define FB_EROFS_NID_SIZE     32u
#define FB_EROFS_NAME_MAX     255u

/* First block that may hold data: 0 is the superblock's, 1 stays zero. */
#define FB_EROFS_FIRST_BLOCK 2u

struct fb_erofs_super {
	uint8_t uuid[16];
	uint64_t inodes;
	uint32_t blocks;     /* of the whole image */
	uint32_t meta_block; /* first block of the metadata */
	uint16_t root_nid;
	int64_t build_sec;
	uint32_t build_nsec;
};

/*
 * Write the superblock to bytes 1024..4095 of block 0, the rest of them zero;
 * bytes 0..1023 are left alone. The checksum (CRC32C, initial value ~0, not
 * inverted at the end, over bytes 1024..4095 with the field zero) is what
 * erofs_superblock_csum_verify() of super.c computes.
 */
void fb_erofs_super_encode(const struct fb_erofs_super *super,
			   uint8_t block[FB_EROFS_BLOCK]);

/*
 * The same backwards. -EINVAL: no EROFS magic; -EBADMSG: the checksum is
 * missing or wrong; -EOPNOTSUPP: an EROFS, but with features that fastboot
 * never writes.
 */
int fb_erofs_super_decode(const uint8_t block[FB_EROFS_BLOCK],
			  struct fb_erofs_super *super, struct fb_err *err);

/*
 * The block map of a sparse file has 4 bytes for each chunk, and a chunk is no
 * larger than the alignment of its holes: a 1 TiB file with one odd hole would
 * need 1 GiB of map. Where the exact map is larger than 1 MiB, widen the
 * extents to the chunk size that makes map and added zeros together smallest;
 * the file reads the same, it only has fewer holes. Extents may be merged.
 * -EFBIG where no chunk size gives a map that can be written.
 */
int fb_erofs_fit_extents(struct fb_inode *inode);

/* Where an inode lies in the metadata, and how. */
struct fb_erofs_place {
	uint64_t offset;     /* bytes from the start of the metadata */
	uint64_t size;       /* i_size: directories have one, too */
	uint32_t xattr_size; /* bytes behind the inode, 0 or at least 16 */
	uint32_t block;      /* first block, from the metadata's start; plain
				directories and links */
	uint8_t layout;      /* EROFS_INODE_* */
	uint8_t chunk_bits;  /* log2 of blocks a chunk; chunk-based files */
};

struct fb_erofs_layout {
	struct fb_erofs_place *places; /* one for each inode; owned */
	size_t count;
	uint64_t size; /* bytes of metadata, a multiple of FB_EROFS_BLOCK */
};

/*
 * Place every inode. The tree's extents must be as they will be written
 * (offset, length); their `block` is not looked at, except that extents which
 * follow each other in a file without a hole end a chunk. All limits of the
 * format are checked here, so that a state that cannot be kept is refused
 * before anything is changed: -EINVAL (a tree that breaks base/tree.h: not
 * sorted, two equal names, "." or "..", a name with '/', bad extents, unknown
 * type), -ENAMETOOLONG, -EOPNOTSUPP (an xattr of another namespace, a device
 * number that does not fit), -E2BIG (an xattr above 65,535 bytes, or all of an
 * inode above 256 KiB), -EFBIG, -ENOMEM; the text names file and xattr.
 */
int fb_erofs_layout_make(const struct fb_tree *tree,
			 struct fb_erofs_layout *layout, struct fb_err *err);
void fb_erofs_layout_free(struct fb_erofs_layout *layout);

uint64_t fb_erofs_nid(const struct fb_erofs_layout *layout, uint32_t inode);

/*
 * Write layout->size bytes of metadata to `meta`, which lies at block
 * `meta_block` of the image. Every extent must have its block by now. Cannot
 * fail for a tree that fb_erofs_layout_make() accepted.
 */
void fb_erofs_encode(const struct fb_tree *tree,
		     const struct fb_erofs_layout *layout, uint32_t meta_block,
		     uint8_t *meta);

/*
 * Read `size` bytes of metadata that lie at super->meta_block. Safe on any
 * bytes: everything is checked against the metadata's size, data blocks must
 * lie in FB_EROFS_FIRST_BLOCK..meta_block - 1, a directory has one parent,
 * names are sorted, and no byte is counted for two inodes (so memory stays
 * proportional to `size`).
 *
 * *tree is a new tree with the extents' blocks set, without states; *nids (may
 * be NULL) has the nid of each inode; the caller frees both. -EBADMSG with
 * what is wrong and where; -EOPNOTSUPP: an EROFS that fastboot did not write;
 * -ENOMEM.
 */
int fb_erofs_decode(const uint8_t *meta, size_t size,
		    const struct fb_erofs_super *super, struct fb_tree *tree,
		    uint64_t **nids, struct fb_err *err);

#endif
