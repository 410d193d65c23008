/* SPDX-License-Identifier: GPL-2.0 */
/*
 * emulated_test.ko has two VFIO devices that are software, emulated_test.0 and .1, on the
 * platform bus: they do by ioctls what drivers of such devices do by themselves. For tests
 * alone.
 */
#ifndef EMULATED_TEST_H
#define EMULATED_TEST_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define EMULATED_DEVICES	2

#define EMULATED_READ	1
#define EMULATED_WRITE	2

/* vfio_pin_pages(), at once; unpinned by EMULATED_UNPIN, by dma_unmap, or at the end. */
struct emulated_pages {
	__u64 iova;
	__u32 npage;
	__u32 prot;	/* EMULATED_READ, EMULATED_WRITE */
	__u64 pfns;	/* where to put a frame number of 64 bits for each page, or 0 */
};

#define EMULATED_PIN	_IOW('e', 0, struct emulated_pages)
/* vfio_unpin_pages(), of pages that were pinned. */
#define EMULATED_UNPIN	_IOW('e', 1, struct emulated_pages)

#define EMULATED_THREAD	4	/* by a thread of the kernel */

struct emulated_bytes {
	__u64 iova;
	__u64 data;
	__u32 size;
	__u32 flags;	/* EMULATED_WRITE: from data to iova; EMULATED_THREAD */
};

/* vfio_dma_rw(). */
#define EMULATED_RW	_IOW('e', 2, struct emulated_bytes)
/* The same by the kernel's own address of a page that is pinned: within one page. */
#define EMULATED_TOUCH	_IOW('e', 3, struct emulated_bytes)

/* What dma_unmap said since the last question, and how many pages are pinned. */
struct emulated_told {
	__u64 iova;	/* of the last call */
	__u64 size;
	__u32 calls;
	__u32 pinned;
};

#define EMULATED_ASK	_IOR('e', 4, struct emulated_told)

/*
 * EMULATED_SET: flags. STRICT: a lock is held while pages are pinned, and in dma_unmap.
 * KEEPS: dma_unmap and the end unpin nothing, which is wrong.
 */
#define EMULATED_STRICT	1
#define EMULATED_KEEPS	2
#define EMULATED_SET	_IO('e', 5)

/* The caller's mmap_lock is held for so many milliseconds. */
#define EMULATED_HOLD	_IO('e', 6)

#endif
