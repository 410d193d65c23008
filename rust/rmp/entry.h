/* SPDX-License-Identifier: GPL-2.0 */
/* Reads entries of the reverse map table (RMP) of an SNP host. */
#ifndef VFIO_PGSIZE_RMP_H
#define VFIO_PGSIZE_RMP_H

#include <linux/types.h>

/*
 * Enables lookups until the same number of closes. May sleep. -EOPNOTSUPP: this is not an
 * SNP host, or SNP is off.
 */
int pgsize_rmp_open(void);
void pgsize_rmp_close(void);
/* Call while nothing follows: discards the recorded SNP state. A lookup may record it again. */
void pgsize_rmp_forget(void);

/* Whether this is an SNP host: SNP is on, or can be enabled. */
bool pgsize_rmp_is_host(void);
/* Whether SNP is on, as far as this processor knows. Atomic. */
bool pgsize_rmp_is_on(void);

/*
 * Whether the frame is assigned, and by a 2M entry. Between open and close; atomic.
 * -EFAULT: the RMP has no entry for it; -ENODEV: SNP is off; -EIO: the entry is not
 * readable now.
 */
int pgsize_rmp_lookup(u64 pfn, bool *assigned, bool *large);

/*
 * Checks whether SNP is off, or on again. Returns true if it is on again: repeat the
 * lookups made in between. May sleep.
 */
bool pgsize_rmp_look(void);
/* Whether SNP was found off since the last call. */
bool pgsize_rmp_take_off(void);

#endif
