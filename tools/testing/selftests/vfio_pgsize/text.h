/* SPDX-License-Identifier: GPL-2.0 */
/* Files of proc, sysfs and their like. */
#ifndef VFIO_PGSIZE_TEXT_H
#define VFIO_PGSIZE_TEXT_H

#include "problem.h"

problem text_write(const char *path, const char *text);
/* All of a file, NUL-terminated: to be freed. NULL, and errno, if it cannot be read. */
char *text_read(const char *path);

#endif
