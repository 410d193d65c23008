/* SPDX-License-Identifier: GPL-2.0 */
/*
 * debugfs: a directory for each container. In C, for files of the kernel crate's
 * kernel::debugfs do not hold the module (fops.owner) while they are open.
 */
#ifndef VFIO_PGSIZE_DEBUGFS_H
#define VFIO_PGSIZE_DEBUGFS_H

#include <linux/types.h>

struct seq_file;

/* Once, when the module is loaded, and when it goes. */
void pgsize_debug_init(void);
void pgsize_debug_exit(void);

/* The files are called with `container`, not after the second returns: that waits for readers. */
void pgsize_debug_show(u64 id, void *container);
void pgsize_debug_hide(u64 id);

/* In Rust: the files. */
int pgsize_debug_policy(struct seq_file *seq, void *container);
int pgsize_debug_leaves(struct seq_file *seq, void *container);
int pgsize_debug_counters(struct seq_file *seq, void *container);

#endif
