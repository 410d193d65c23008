/* SPDX-License-Identifier: GPL-2.0 */
/* tools/bench/clock.c: the machine's clock counts instructions. */
#ifndef SNP_CLOCK_H
#define SNP_CLOCK_H

#include <stdint.h>

#define LOOP_INSTRUCTIONS	2000000ULL

uint64_t instructions(void);
uint64_t count_known_loop(void);

#endif
