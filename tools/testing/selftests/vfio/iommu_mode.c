// SPDX-License-Identifier: GPL-2.0
/*
 * Linked with the kernel's tests of VFIO: those that do not say how they open their
 * container do it as VFIO_SELFTESTS_IOMMU_MODE says. Their own default is iommufd.
 */
#include <stdlib.h>

extern const char *default_iommu_mode;

static void __attribute__((constructor)) choose_iommu_mode(void)
{
	const char *mode = getenv("VFIO_SELFTESTS_IOMMU_MODE");

	if (mode)
		default_iommu_mode = mode;
}
