/* SPDX-License-Identifier: GPL-2.0 */
#ifndef VFIO_PGSIZE_WARNING_H
#define VFIO_PGSIZE_WARNING_H

#include <linux/types.h>

/* Kinds of warnings: see warning.rs. */
#define PGSIZE_WARNINGS	4

bool pgsize_may_warn(u32 kind);

#endif
