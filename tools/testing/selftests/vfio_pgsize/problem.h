/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How the library tells a test that something is wrong: NULL is "all well",
 * anything else is the sentence that the test prints.
 */
#ifndef VFIO_PGSIZE_PROBLEM_H
#define VFIO_PGSIZE_PROBLEM_H

typedef const char *problem;

/* The text stays valid until the second next call of the same thread. */
problem problem_is(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
