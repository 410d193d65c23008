/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What an operator has to know of the registration with VFIO. In C, beside the code that
 * knows it.
 */
#ifndef VFIO_PGSIZE_BACKEND_H
#define VFIO_PGSIZE_BACKEND_H

/* The line. Call after the registration. */
void pgsize_say_loaded(void);

#endif
