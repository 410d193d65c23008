// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "oracle.h"
#include "units.h"
#include "vmm.h"
#include "wait.h"

/* The group of a VMM that was just killed is released a moment later. */
static int open_group_soon(const char *bdf)
{
	struct wait wait = {};
	int group;

	do {
		group = group_open(bdf);
	} while (group == -EBUSY && wait_more(&wait, MOMENT));
	return group;
}

static problem join(struct vmm *vmm, int index)
{
	struct vmm_device *device = &vmm->devices[index];
	problem wrong = edu_find(index, device->bdf);
	int ret;

	if (wrong)
		return wrong;
	device->group = open_group_soon(device->bdf);
	if (device->group < 0)
		return problem_is("the group of %s (bound to vfio-pci?): %s", device->bdf,
				  strerror(-device->group));
	ret = group_join(device->group, vmm->container);
	return ret ? problem_is("%s does not join: %s", device->bdf, strerror(-ret)) : NULL;
}

static problem start_device(struct vmm *vmm, int index)
{
	struct vmm_device *device = &vmm->devices[index];
	int fd = group_device(device->group, device->bdf);

	if (fd < 0)
		return problem_is("%s does not open: %s", device->bdf, strerror(-fd));
	return edu_open(&device->edu, fd, device->bdf);
}

problem vmm_attach(struct vmm *vmm, int index)
{
	problem wrong = join(vmm, index);

	return wrong ? wrong : start_device(vmm, index);
}

void vmm_detach(struct vmm *vmm, int index)
{
	struct vmm_device *device = &vmm->devices[index];

	edu_close(&device->edu);
	if (device->group >= 0)
		close(device->group);
	device->group = -1;
}

problem vmm_open_with(struct vmm *vmm, unsigned long type, int first, int devices)
{
	struct info info;
	problem wrong;
	int ret;

	memset(vmm, 0, sizeof(*vmm));
	vmm->first = first;
	for (int i = 0; i < MAX_DEVICES; i++)
		vmm->devices[i].group = -1;
	wrong = kernel_log_start(&vmm->log);
	if (!wrong)
		wrong = account_read(&vmm->before);
	if (wrong)
		return wrong;
	vmm->container = container_open();
	if (vmm->container < 0)
		return problem_is("/dev/vfio/vfio: %s", strerror(-vmm->container));
	wrong = join(vmm, first);
	if (wrong)
		return wrong;
	ret = container_set_type(vmm->container, type);
	if (ret)
		return problem_is("VFIO_SET_IOMMU of type %#lx: %s", type, strerror(-ret));
	wrong = start_device(vmm, first);
	for (int i = 1; !wrong && i < devices; i++)
		wrong = vmm_attach(vmm, first + i);
	if (!wrong)
		wrong = container_info(vmm->container, &info);
	vmm->sizes = info.policy.header.id ? info.policy.supported : info.pgsizes;
	return wrong;
}

problem vmm_open(struct vmm *vmm, unsigned long type, int devices)
{
	return vmm_open_with(vmm, type, 0, devices);
}

problem vmm_close(struct vmm *vmm)
{
	problem wrong;

	for (int i = 0; i < MAX_DEVICES; i++)
		vmm_detach(vmm, i);
	close(vmm->container);
	wrong = account_rose(&vmm->before, 0, 0);
	kernel_log_read(&vmm->log);
	kernel_log_stop(&vmm->log);
	if (wrong)
		return problem_is("after close: %s", wrong);
	if (vmm->log.bug[0])
		return problem_is("the kernel log has: %s", vmm->log.bug);
	if ((vmm->log.faults || vmm->log.rmp_faults) && !vmm->faults_expected)
		return problem_is("the IOMMU logged %d faults, %d of the RMP",
				  vmm->log.faults + vmm->log.rmp_faults, vmm->log.rmp_faults);
	return NULL;
}

problem vmm_policy(struct vmm *vmm, uint32_t flags, uint64_t sizes)
{
	int ret = policy_of_all(vmm->container, flags, sizes);

	return ret ? problem_is("the policy %#lx, flags %u: %s", sizes, flags, strerror(-ret)) : NULL;
}

problem vmm_map(struct vmm *vmm, uint64_t iova, const void *va, uint64_t size, uint32_t flags)
{
	int ret = dma_map(vmm->container, iova, va, size, flags);

	return ret ? problem_is("mapping %#lx bytes at %#lx: %s", size, iova, strerror(-ret)) : NULL;
}

/* Whether this container answers QUERY; vfio_iommu_type1 does not. */
static int has_query(struct vmm *vmm)
{
	return container_extension(vmm->container, VFIO_PGSIZE_IOMMU) >= VFIO_PGSIZE_VERSION;
}

int vmm_domains(struct vmm *vmm)
{
	struct vfio_pgsize_run run;
	struct vfio_pgsize_query query = {
		.argsz = sizeof(query),
		.size = PAGE,
		.nr = 1,
		.runs = (uintptr_t)&run,
	};

	while (!ioctl(vmm->container, VFIO_PGSIZE_QUERY, &query)) {
		query.domain++;
		query.size = PAGE;
		query.iova = 0;
		query.nr = 1;
	}
	return query.domain;
}

problem vmm_has_leaves(struct vmm *vmm, const struct leaves *expected)
{
	int domains = has_query(vmm) ? vmm_domains(vmm) : 0;
	problem wrong = NULL;

	for (int i = 0; i < domains; i++) {
		struct leaves found = {};

		wrong = leaves_query(&found, vmm->container, i, 0, EVERYWHERE);
		if (!wrong)
			wrong = leaves_differ(expected, &found);
		leaves_free(&found);
		if (wrong)
			return problem_is("QUERY of domain %d: %s", i, wrong);
	}
	for (int i = 0; !wrong && i < MAX_DEVICES; i++)
		if (vmm->devices[i].group >= 0)
			wrong = oracle_agrees(vmm->devices[i].bdf, expected);
	return wrong;
}

problem vmm_has_tiles(struct vmm *vmm, uint64_t iova, const void *va, uint64_t size,
		      uint64_t sizes, uint32_t flags)
{
	struct leaves expected = {};
	problem wrong = leaves_tile(&expected, iova, va, size, sizes & vmm->sizes, flags);

	if (!wrong)
		wrong = vmm_has_leaves(vmm, &expected);
	leaves_free(&expected);
	return wrong;
}

problem vmm_has_nothing(struct vmm *vmm)
{
	struct leaves none = {};

	return vmm_has_leaves(vmm, &none);
}

problem vmm_moves_bytes(struct vmm *vmm, int device, uint64_t iova, uint8_t *va, uint64_t size)
{
	struct edu *edu = &vmm->devices[device].edu;
	uint64_t middle = size / 2 & -PAGE, end = size - PAGE;
	problem wrong = edu_copy(edu, iova, va, iova + end, va + end, PAGE);

	if (!wrong && middle != end)
		wrong = edu_copy(edu, iova + end, va + end, iova + middle, va + middle, PAGE);
	if (!wrong && middle)
		wrong = edu_copy(edu, iova + middle, va + middle, iova, va, PAGE);
	return wrong;
}

/*
 * The kernel logs only some faults of a device in some seconds, and the IOMMU faults for each
 * word: transfer one word, and repeat until its fault is logged.
 */
static problem faults(struct vmm *vmm, int device, uint64_t iova,
		      problem (*transfer)(struct edu *edu, uint64_t iova, uint32_t size))
{
	struct edu *edu = &vmm->devices[device].edu;
	struct wait wait = {};
	int before;

	vmm->faults_expected = 1;
	kernel_log_read(&vmm->log);
	before = vmm->log.faults;
	do {
		problem wrong = transfer(edu, iova, sizeof(uint32_t));

		if (wrong)
			return wrong;
		if (!kernel_log_wait_for_fault(&vmm->log, before))
			continue;
		if (vmm->log.fault_iova == iova)
			return NULL;
		return problem_is("DMA at %#lx is to fault, and it does at %#lx", iova,
				  vmm->log.fault_iova);
	} while (wait_more(&wait, 0));
	return problem_is("DMA at %#lx is to fault, and no fault was logged", iova);
}

problem vmm_fetch_faults(struct vmm *vmm, int device, uint64_t iova)
{
	return faults(vmm, device, iova, edu_fetch);
}

problem vmm_store_faults(struct vmm *vmm, int device, uint64_t iova)
{
	return faults(vmm, device, iova, edu_store);
}
