/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What an operator has to know of the registration with VFIO: a line when the module is
 * loaded, and whether vfio_iommu_type1 gets ahead of it. In C, because the kernel crate
 * lacks module notifiers.
 */
#ifndef VFIO_PGSIZE_BACKEND_H
#define VFIO_PGSIZE_BACKEND_H

/* The line. Call after the registration. */
void pgsize_say_loaded(void);

/*
 * VFIO asks the last registered driver first. From init, after the registration, to exit:
 * if vfio_iommu_type1 is loaded, warns of each container of a type that is served. May
 * sleep, and take VFIO's iommu_drivers_lock.
 */
void pgsize_lookout_init(void);
void pgsize_lookout_exit(void);

#endif
