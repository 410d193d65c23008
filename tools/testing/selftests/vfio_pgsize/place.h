/* SPDX-License-Identifier: GPL-2.0 */
/* A container with one group and no open device, so that the group can leave. */
#ifndef VFIO_PGSIZE_PLACE_H
#define VFIO_PGSIZE_PLACE_H

#include "edu.h"
#include "problem.h"

struct place {
	char bdf[BDF_SIZE];
	int container, group;
};

problem place_open(struct place *place);
void place_close(struct place *place);
/* The group joins the container, which gets its IOMMU type again. */
problem place_enter(struct place *place);

#endif
