// SPDX-License-Identifier: GPL-2.0
#include <string.h>
#include <unistd.h>

#include <linux/vfio_pgsize.h>

#include "container.h"
#include "place.h"

problem place_enter(struct place *place)
{
	int ret = group_join(place->group, place->container);

	if (!ret)
		ret = container_set_type(place->container, VFIO_PGSIZE_IOMMU);
	return ret ? problem_is("a group and a type: %s", strerror(-ret)) : NULL;
}

problem place_open(struct place *place)
{
	problem wrong = edu_find(0, place->bdf);

	if (wrong)
		return wrong;
	place->container = container_open();
	place->group = group_open(place->bdf);
	if (place->container < 0 || place->group < 0)
		return problem_is("container %d, group %d", place->container, place->group);
	return place_enter(place);
}

void place_close(struct place *place)
{
	close(place->group);
	close(place->container);
}
