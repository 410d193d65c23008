/* SPDX-License-Identifier: GPL-2.0 */
/* Loading and unloading vfio_pgsize, with the machine's /lib/vm.sh. */
#ifndef VFIO_PGSIZE_MODULE_H
#define VFIO_PGSIZE_MODULE_H

#include <stdbool.h>

#include "problem.h"

bool module_is_loaded(void);

/* Load it with these parameters ("" for none); it must not be loaded. */
problem module_load(const char *parameters);
/* 0 or -errno; does not wait for a module in use. */
int module_unload(void);

/* Ensure that it is loaded with these parameters: reloads it if they differ. */
problem module_require(const char *parameters);
/* Ensure that it is not loaded: only vfio_iommu_type1 serves. */
problem module_require_none(void);
/* The one with parameters, the other with NULL. */
problem module_serve(const char *parameters);

#endif
