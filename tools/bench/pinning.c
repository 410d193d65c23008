// SPDX-License-Identifier: GPL-2.0
/*
 * The cost of pinning alone, for the same memory, in the calls that the backends make: none
 * can map 4K pages for less. From the kernel's own benchmark, mm/gup_test.c
 * (CONFIG_GUP_TEST), which reports the time of each half.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/types.h>

#include "bench.h"

#define GUP_TEST		"/sys/kernel/debug/gup_test"
#define PAGES_PER_CALL		2048

/* From mm/gup_test.h, which programs cannot include. */
struct gup_test {
	__u64 get_delta_usec;
	__u64 put_delta_usec;
	__u64 addr;
	__u64 size;
	__u32 nr_pages_per_call;
	__u32 gup_flags;
	__u32 test_flags;
	__u32 which_pages[8];
};

#define PIN_FAST_BENCHMARK	_IOWR('g', 2, struct gup_test)
/* From include/linux/mm_types.h. */
#define FOLL_WRITE		(1 << 0)
#define FOLL_LONGTERM		(1 << 8)

bool pin_and_unpin(const struct memory *memory, uint64_t size, struct pinning *cost)
{
	struct gup_test test = {
		.addr = (uintptr_t)memory->start,
		.size = size,
		.nr_pages_per_call = PAGES_PER_CALL,
		.gup_flags = FOLL_WRITE | FOLL_LONGTERM,
	};
	int fd = open(GUP_TEST, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return false;
	if (ioctl(fd, PIN_FAST_BENCHMARK, &test) || test.size != size)
		die(GUP_TEST ": %llu bytes pinned", (unsigned long long)test.size);
	close(fd);
	/* Under -icount shift=0 a nanosecond is an instruction. */
	cost->pin = test.get_delta_usec * 1000;
	cost->unpin = test.put_delta_usec * 1000;
	return true;
}
