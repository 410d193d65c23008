// SPDX-License-Identifier: GPL-2.0
#include "scene.h"

problem scene_open(struct vmm *vmm, struct memory *memory, struct guest *guest,
		   struct device *device, uint64_t size)
{
	problem wrong = memory_alloc(memory, HUGETLB_2M, size);

	if (wrong)
		return wrong;
	fill_with_pattern(memory->va, size);
	wrong = guest_start(guest, memory->va, size);
	if (!wrong)
		wrong = vmm_open(vmm, VFIO_PGSIZE_IOMMU, 1);
	if (!wrong && device)
		wrong = device_start(device, vmm, 0);
	return wrong;
}

problem scene_close(struct vmm *vmm, struct memory *memory, struct guest *guest,
		    struct device *device)
{
	problem wrong;

	if (device)
		device_stop(device);
	wrong = vmm_close(vmm);
	guest_stop(guest);
	memory_free(memory);
	huge_pages_release();
	return wrong;
}

problem scene_follow(struct vmm *vmm, const struct memory *memory)
{
	problem wrong = vmm_policy(vmm, FOLLOW, UPTO_2M);

	return wrong ? wrong : vmm_map(vmm, AT, memory->va, memory->size, READ_WRITE);
}
