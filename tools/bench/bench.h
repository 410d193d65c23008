/* SPDX-License-Identifier: GPL-2.0 */
/*
 * pgsize-bench: the cost of VFIO's IOMMU backends, in guest instructions.
 *
 *   clock.c      counts instructions, and verifies the counter
 *   memory.c     memory of a known physical layout, prefaulted
 *   container.c  backends behind /dev/vfio/vfio: type1, vfio_pgsize
 *   iommufd.c    the backend behind /dev/iommu
 *   main.c       options, the measurements, one JSON line for each
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
	void (*map)(void *memory, uint64_t size);
	void (*unmap)(uint64_t size);

	/* vfio_pgsize only, otherwise NULL: */

	/* Leaf sizes for later maps; with @apply also for mapped memory. */
	void (*set_policy)(uint64_t pgsizes, bool apply);
	/* Leaves in the mapped range; stores the number of bytes in 4K leaves. */
	uint64_t (*query)(uint64_t size, uint64_t *in_4k);

	int type;		/* argument of VFIO_SET_IOMMU */
	uint64_t pgsizes;	/* initial policy; 0: none */
	bool small;		/* the backend's own option for 4K leaves only */
};

extern const struct backend type1_backend, type1_small_backend;
extern const struct backend pgsize_backend, pgsize_small_backend;
extern const struct backend iommufd_backend, iommufd_small_backend;

#endif
