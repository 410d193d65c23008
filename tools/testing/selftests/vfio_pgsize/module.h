/* SPDX-License-Identifier: GPL-2.0 */
/* Loading and unloading vfio_pgsize, by the machine's own /lib/vm.sh. */
#ifndef VFIO_PGSIZE_MODULE_H
#define VFIO_PGSIZE_MODULE_H

#include <stdbool.h>

#include "problem.h"

bool module_is_loaded(void);

/* Load it with these parameters ("" for none); it must not be loaded. */
problem module_load(const char *parameters);
/* 0 or -errno; does not wait for a module that is in use. */
int module_unload(void);

/* See that it is loaded with these parameters: reloads it if it was with others. */
problem module_require(const char *parameters);
/* See that it is not loaded: vfio_iommu_type1 serves alone. */
problem module_require_none(void);

#endif
