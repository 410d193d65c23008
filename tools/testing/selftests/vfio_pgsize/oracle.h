/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The oracle reads the page table from outside the virtual machine, and answers over the
 * second serial port. Without that port the test prints a note and continues.
 */
#ifndef VFIO_PGSIZE_ORACLE_H
#define VFIO_PGSIZE_ORACLE_H

#include <stdbool.h>
#include <stddef.h>

#include "leaves.h"
#include "problem.h"

bool oracle_is_there(void);

/* Write a line and read one. Unlike oracle_agrees() this requires the port. */
problem oracle_ask(const char *question, char *answer, size_t size);

/* All leaves that the device reaches, and the number of table pages. */
problem oracle_list(const char *bdf, struct leaves *found, uint64_t *tables);

/* Whether these are all the leaves that the device reaches. */
problem oracle_agrees(const char *bdf, const struct leaves *leaves);

#endif
