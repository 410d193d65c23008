/* SPDX-License-Identifier: GPL-2.0 */
/* The library's result for a test: NULL on success, otherwise the sentence to print. */
#ifndef VFIO_PGSIZE_PROBLEM_H
#define VFIO_PGSIZE_PROBLEM_H

typedef const char *problem;

/* The text stays valid until the second next call of the same thread. */
problem problem_is(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
