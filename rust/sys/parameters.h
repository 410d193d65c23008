/* SPDX-License-Identifier: GPL-2.0 */
/* The module's parameters, as they are now. */
#ifndef VFIO_PGSIZE_PARAMETERS_H
#define VFIO_PGSIZE_PARAMETERS_H

#include <linux/types.h>

bool pgsize_serve_type1v2(void);
bool pgsize_allow_unsafe_interrupts(void);
unsigned int pgsize_dma_entry_limit(void);

/* Loading fails with more, which are 4 MiB. */
#define PGSIZE_RESERVE_MAX	1024
unsigned int pgsize_reserve_tables(void);

#endif
