// SPDX-License-Identifier: GPL-2.0
/*
 * Under QEMU's -icount shift=0 the machine's clock advances by one nanosecond for each
 * instruction, and its time-stamp counter ticks once a nanosecond: it counts
 * instructions. count_known_loop() verifies that; on any other machine the result differs.
 */
#include <x86intrin.h>

#include "bench.h"

uint64_t instructions(void)
{
	unsigned int processor;

	return __rdtscp(&processor);
}

uint64_t count_known_loop(void)
{
	uint64_t best = UINT64_MAX;

	/* Interrupts only add instructions: the minimum is correct. */
	for (int try = 0; try < 5; try++) {
		uint64_t left = LOOP_INSTRUCTIONS / 2;
		uint64_t start = instructions();
		uint64_t count;

		asm volatile("1: dec %0; jnz 1b" : "+r" (left) : : "cc");
		count = instructions() - start;
		if (count < best)
			best = count;
	}
	return best;
}
