/* SPDX-License-Identifier: GPL-2.0 */
/* Kills processes in the middle of their work. */
#ifndef VFIO_PGSIZE_KILL_H
#define VFIO_PGSIZE_KILL_H

#include <stdbool.h>

#include "problem.h"

/*
 * Forks a child that runs `work`, waits until it is ready, and kills it `after` microseconds
 * later. `work` calls kill_when_ready() with `ready` after its preparations, and never ends. A
 * child that ends by itself is a problem, which names its status.
 */
problem kill_at_work(void (*work)(void *arg, int ready), void *arg, unsigned int after);

/* The child may be killed from now on. Returns false if it cannot say so. */
bool kill_when_ready(int ready);

#endif
