/* SPDX-License-Identifier: GPL-2.0 */
/* Tests that are the same for type1 and for vfio_pgsize, in all of its roles. */
#ifndef VFIO_PGSIZE_BACKENDS_H
#define VFIO_PGSIZE_BACKENDS_H

#include "harness.h"
#include "module.h"

/* Variants of a fixture: vfio_pgsize serves, with these parameters; or type1. */
#define BACKENDS(fixture)							\
	FIXTURE_VARIANT(fixture) {						\
		const char *parameters;						\
		unsigned long type;						\
		bool joined;							\
	};									\
	FIXTURE_VARIANT_ADD(fixture, type1) { NULL, VFIO_TYPE1v2_IOMMU };	\
	FIXTURE_VARIANT_ADD(fixture, pgsize_as_type1v2) {			\
		"serve_type1v2=1", VFIO_TYPE1v2_IOMMU				\
	};									\
	FIXTURE_VARIANT_ADD(fixture, joined) {					\
		"serve_type1v2=1 join_mappings=1", VFIO_TYPE1v2_IOMMU, true	\
	};									\
	FIXTURE_VARIANT_ADD(fixture, pgsize) { "", VFIO_PGSIZE_IOMMU }

#endif
