/* SPDX-License-Identifier: GPL-2.0 */
/*
 * pgsize-bench: the cost of VFIO's IOMMU backends, in guest instructions.
 *
 *   clock.c      counts instructions, and verifies the counter
 *   memory.c     memory of a known physical layout, prefaulted
 *   container.c  backends behind /dev/vfio/vfio: type1, vfio_pgsize
 *   iommufd.c    the backend behind /dev/iommu
 *   dirty.c      what dirty tracking costs
 *   pieces.c     memory that is mapped in pieces of 4K
 *   main.c       options, the other measurements, one JSON line for each
 */
#ifndef PGSIZE_BENCH_H
#define PGSIZE_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE		4096ULL
#define HUGE_PAGE	0x200000ULL

/* Where the device sees the memory. */
#define IOVA		0x100000000ULL

void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...);

/* Writes a number to a file of sysfs or procfs, and checks that it took effect. */
void write_number(const char *path, long number);

struct backend;

/* --- clock.c --- */

/* The number of instructions that the machine has executed. */
uint64_t instructions(void);

/* Instructions counted for a loop of LOOP_INSTRUCTIONS instructions. */
#define LOOP_INSTRUCTIONS	2000000ULL
uint64_t count_known_loop(void);

/* --- memory.c --- */

enum memory_kind {
	MEMORY_HUGETLB,		/* hugetlb pages of 2M */
	MEMORY_THP,		/* transparent huge pages */
	MEMORY_SEQUENTIAL,	/* 4K pages, faulted in sequentially */
	MEMORY_SCATTERED,	/* 4K pages, no two neighbours contiguous */
	MEMORY_KINDS,
};

struct memory {
	uint8_t *start;
	uint64_t size;
	void *reserved;
	uint64_t reserved_size;
	uint64_t runs;		/* number of physically contiguous runs */
};

extern const char *const memory_names[MEMORY_KINDS];

/* Memory of exactly this layout, all present; exits otherwise. */
struct memory allocate_memory(enum memory_kind kind, uint64_t size);
void free_memory(struct memory *memory);

/* --- pinning.c --- */

struct pinning {
	uint64_t pin;		/* instructions */
	uint64_t unpin;
};

/* Pins @size bytes and unpins them; false if the kernel has no benchmark for it. */
bool pin_and_unpin(const struct memory *memory, uint64_t size, struct pinning *cost);

/* --- container.c, iommufd.c --- */

/* A way to program the IOMMU, with a device attached to it. */
struct backend {
	const char *name;
	const char *file;	/* if it does not exist, the backend does not either */
	void (*open)(const struct backend *backend, const char *device);
	void (*close)(void);
	/* Maps @memory + @at to IOVA + @at. */
	void (*map)(void *memory, uint64_t at, uint64_t size);
	void (*unmap)(uint64_t at, uint64_t size);

	/* Dirty tracking: the bitmap has a bit for each 4K page. */
	void (*track)(bool on);
	void (*read_dirty)(uint64_t size, uint64_t *bitmap);
	/* A descriptor of the device, which the caller closes. */
	int (*open_device)(const char *device);

	/* vfio_pgsize only, otherwise NULL: */

	/* Leaf sizes for later maps; with @apply also for mapped memory. */
	void (*set_policy)(uint64_t pgsizes, bool apply);
	/* Leaves in the mapped range; stores the number of bytes in 4K leaves. */
	uint64_t (*query)(uint64_t size, uint64_t *in_4k);

	int type;		/* argument of VFIO_SET_IOMMU */
	uint32_t map_flags;	/* of VFIO_IOMMU_MAP_DMA, besides READ and WRITE */
	uint64_t pgsizes;	/* initial policy; 0: none */
	bool small;		/* the backend's own option for 4K leaves only */
	bool all_dirty;		/* all that is mapped is dirty, always */
};

extern const struct backend type1_backend, type1_small_backend;
extern const struct backend pgsize_backend, pgsize_small_backend, pgsize_joined_backend;
extern const struct backend iommufd_backend, iommufd_small_backend;

/* --- main.c --- */

#define MAX_ROUNDS	100

/* Where an operation was measured, for its JSON line. */
struct setting {
	const struct backend *backend;
	enum memory_kind kind;
	struct memory memory;
	const char *device;
	unsigned int rounds;
};

/* The costs of one operation, for each round. */
struct series {
	uint64_t counts[MAX_ROUNDS];
	unsigned int length;
};

#define COUNT(series, work)							\
	do {									\
		uint64_t start_ = instructions();				\
		work;								\
		(series).counts[(series).length++] = instructions() - start_;	\
	} while (0)

/* @bytes: what was worked on. @tables: pages of page tables, or -1. */
void print_series(const struct setting *setting, const char *work, uint64_t bytes,
		  const struct series *series, long tables);

/* --- pieces.c --- */

/* Maps and unmaps memory page by page, in ascending, descending and random order. */
void measure_pieces(const struct setting *setting);

/* --- dirty.c --- */

/* START, STOP, and bitmaps of the whole mapping: of a clean one, and if all pages were written. */
void measure_dirty(const struct setting *setting);

#endif
