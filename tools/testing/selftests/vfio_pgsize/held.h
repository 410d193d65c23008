/* SPDX-License-Identifier: GPL-2.0 */
/* A page that is missing until the test provides it: whoever touches it waits. */
#ifndef VFIO_PGSIZE_HELD_H
#define VFIO_PGSIZE_HELD_H

#include "problem.h"

struct held {
	int uffd;
	void *page;
};

problem held_open(struct held *held);
/* Wait until a thread waits for the page. */
problem held_is_wanted(struct held *held);
/* Provide the page, which begins with this. */
problem held_comes(struct held *held, const void *content, unsigned int size);
/* The same, for reading: whoever writes to it waits, until it is released. */
problem held_comes_unwritable(struct held *held, const void *content, unsigned int size);
problem held_is_released(struct held *held);
/* Remove the page again. */
void held_goes(struct held *held);
void held_close(struct held *held);

#endif
