/* SPDX-License-Identifier: GPL-2.0 */
/* Sizes, and the sets of leaf sizes in the tests. */
#ifndef VFIO_PGSIZE_UNITS_H
#define VFIO_PGSIZE_UNITS_H

#include <linux/vfio_pgsize.h>

#define KIB(n)		((n) * 1024ULL)
#define MIB(n)		((n) * (1ULL << 20))
#define GIB(n)		((n) * (1ULL << 30))
#define PAGE		KIB(4)

#define ONLY_4K		KIB(4)
#define UPTO_2M		(KIB(4) | MIB(2))
#define UPTO_1G		(KIB(4) | MIB(2) | GIB(1))
#define ANY_SIZE	VFIO_PGSIZE_ALL

/* The whole address space, as far as a range of pages can cover it. */
#define EVERYWHERE	(~0ULL - (PAGE - 1))

#define READ_WRITE	(VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)

#endif
