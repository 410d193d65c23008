/* SPDX-License-Identifier: GPL-2.0 */
/* Files of proc, sysfs and the like. */
#ifndef VFIO_PGSIZE_TEXT_H
#define VFIO_PGSIZE_TEXT_H

#include "problem.h"

problem text_write(const char *path, const char *text);
/* The whole file, NUL-terminated; free it. NULL and errno if it is not readable. */
char *text_read(const char *path);

#endif
