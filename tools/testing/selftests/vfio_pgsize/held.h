/* SPDX-License-Identifier: GPL-2.0 */
/* A page that is not there until the test says so: whoever touches it waits. */
#ifndef VFIO_PGSIZE_HELD_H
#define VFIO_PGSIZE_HELD_H

#include "problem.h"

struct held {
	int uffd;
	void *page;
};

problem held_open(struct held *held);
/* Wait until somebody waits for the page. */
problem held_is_wanted(struct held *held);
/* The page is there, and begins with this. */
problem held_comes(struct held *held, const void *content, unsigned int size);
/* The page is not there again. */
void held_goes(struct held *held);
void held_close(struct held *held);

#endif
