/* SPDX-License-Identifier: GPL-2.0 */
/* The reverse map table (RMP) of an SNP host: what it says of a frame, and whether there is one. */
#ifndef VFIO_PGSIZE_RMP_H
#define VFIO_PGSIZE_RMP_H

#include <linux/types.h>

/* From now on it can be read. May sleep. -EOPNOTSUPP: this is no SNP host, or SNP is off. */
int pgsize_rmp_open(void);
void pgsize_rmp_close(void);
/* Nobody looks anything up now: what was found of SNP is nobody's, and who comes finds out anew. */
void pgsize_rmp_forget(void);

/* Is SNP on, as far as this processor knows? Atomic. */
bool pgsize_rmp_is_on(void);

/*
 * Is the frame assigned, and by an entry of 2M? Between open and close; atomic.
 * -EFAULT: the RMP has no entry for it; -ENODEV: SNP is off; -EIO: the entry can not
 * be read now.
 */
int pgsize_rmp_lookup(u64 pfn, bool *assigned, bool *large);

/*
 * See whether SNP is off, or on again: true if it is on again. Then what was looked up meanwhile
 * is to be looked up once more. May sleep.
 */
bool pgsize_rmp_look(void);
/* Was SNP found off since this was last asked? */
bool pgsize_rmp_take_off(void);

#endif
