/* SPDX-License-Identifier: GPL-2.0 */
/*
 * debugfs: a directory for each container. In C, because files of kernel::debugfs do not
 * hold the module (fops.owner) while they are open.
 */
#ifndef VFIO_PGSIZE_DEBUGFS_H
#define VFIO_PGSIZE_DEBUGFS_H

#include <linux/types.h>

struct seq_file;

/* Call once when the module loads, and once when it unloads. */
void pgsize_debug_init(void);
void pgsize_debug_exit(void);

/* Readers call the Rust functions with `container`. The second call waits for all readers. */
void pgsize_debug_show(u64 id, void *container);
void pgsize_debug_hide(u64 id);

/* Implemented in Rust: the files' contents. */
int pgsize_debug_policy(struct seq_file *seq, void *container);
int pgsize_debug_leaves(struct seq_file *seq, void *container);
int pgsize_debug_counters(struct seq_file *seq, void *container);
int pgsize_debug_owner(struct seq_file *seq, void *container);
int pgsize_debug_mismatches(struct seq_file *seq, void *container);

#endif
