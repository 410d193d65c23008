/* SPDX-License-Identifier: GPL-2.0 */
/* The current values of the module's parameters. */
#ifndef VFIO_PGSIZE_PARAMETERS_H
#define VFIO_PGSIZE_PARAMETERS_H

#include <linux/types.h>

bool pgsize_serve_type1(void);
bool pgsize_serve_type1v2(void);
bool pgsize_allow_unsafe_interrupts(void);
unsigned int pgsize_dma_entry_limit(void);
bool pgsize_join_mappings(void);
unsigned int pgsize_joined_entry_limit(void);

/* The policy of containers whose VMM sets none: VFIO_PGSIZE_ALL or a set with 4K ... */
u64 pgsize_default_pgsizes(void);
/* ... and whether it follows the RMP if there is one. */
bool pgsize_default_follow(void);
/* The sizes as text, without a newline; returns its length. */
#define PGSIZE_SIZES_ROOM	256
int pgsize_default_pgsizes_text(char *text, size_t room);

/* Maximum of reserve_tables (4 MiB); loading fails above it. */
#define PGSIZE_RESERVE_MAX	1024
unsigned int pgsize_reserve_tables(void);

#endif
