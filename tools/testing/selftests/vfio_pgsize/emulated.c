// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "container.h"
#include "emulated.h"
#include "wait.h"

#define DEVICE	"/sys/bus/platform/devices/emulated_test.%d"

static int result(int ret)
{
	return ret < 0 ? -errno : ret;
}

problem emulated_load(void)
{
	char path[64];

	snprintf(path, sizeof(path), DEVICE, 0);
	if (access(path, F_OK) && system(". /lib/vm.sh && load_emulated"))
		return problem_is("emulated_test.ko does not load: give vm.py --emulated");
	return NULL;
}

static int open_group(int index)
{
	struct wait wait = {};
	char path[64];
	int group;

	snprintf(path, sizeof(path), DEVICE, index);
	/* That of a process that was just killed is released a moment later. */
	do {
		group = group_open_at(path);
	} while (group == -EBUSY && wait_more(&wait, MOMENT));
	return group;
}

int emulated_join(struct emulated *emulated, int container, int index)
{
	int ret;

	emulated->device = -1;
	emulated->group = open_group(index);
	if (emulated->group < 0)
		return emulated->group;
	ret = group_join(emulated->group, container);
	if (ret)
		emulated_close(emulated);
	return ret;
}

problem emulated_open(struct emulated *emulated, int index)
{
	char name[32];

	snprintf(name, sizeof(name), "emulated_test.%d", index);
	emulated->device = group_device(emulated->group, name);
	return emulated->device < 0 ? problem_is("%s does not open: %s", name,
						 strerror(-emulated->device)) : NULL;
}

void emulated_close(struct emulated *emulated)
{
	if (emulated->device >= 0)
		close(emulated->device);
	if (emulated->group >= 0)
		close(emulated->group);
	emulated->device = -1;
	emulated->group = -1;
}

int emulated_pin(struct emulated *emulated, uint64_t iova, uint32_t npage, uint32_t prot,
		 uint64_t *pfns)
{
	struct emulated_pages pages = {
		.iova = iova,
		.npage = npage,
		.prot = prot,
		.pfns = (uintptr_t)pfns,
	};

	return result(ioctl(emulated->device, EMULATED_PIN, &pages));
}

int emulated_unpin(struct emulated *emulated, uint64_t iova, uint32_t npage)
{
	struct emulated_pages pages = { .iova = iova, .npage = npage };

	return result(ioctl(emulated->device, EMULATED_UNPIN, &pages));
}

static int move(struct emulated *emulated, unsigned long call, uint64_t iova, void *data,
		uint32_t size, uint32_t flags)
{
	struct emulated_bytes bytes = {
		.iova = iova,
		.data = (uintptr_t)data,
		.size = size,
		.flags = flags,
	};

	return result(ioctl(emulated->device, call, &bytes));
}

int emulated_rw(struct emulated *emulated, uint64_t iova, void *data, uint32_t size,
		uint32_t flags)
{
	return move(emulated, EMULATED_RW, iova, data, size, flags);
}

int emulated_touch(struct emulated *emulated, uint64_t iova, void *data, uint32_t size,
		   uint32_t flags)
{
	return move(emulated, EMULATED_TOUCH, iova, data, size, flags);
}

int emulated_set(struct emulated *emulated, unsigned long flags)
{
	return result(ioctl(emulated->device, EMULATED_SET, flags));
}

int emulated_hold(struct emulated *emulated, unsigned long milliseconds)
{
	return result(ioctl(emulated->device, EMULATED_HOLD, milliseconds));
}

problem emulated_was_told(struct emulated *emulated, uint32_t calls, uint64_t iova, uint64_t size,
			  uint32_t pinned)
{
	struct emulated_told told;

	if (ioctl(emulated->device, EMULATED_ASK, &told))
		return problem_is("EMULATED_ASK: %m");
	if (told.calls != calls || told.iova != iova || told.size != size)
		return problem_is("it was told %u times, at last of %#llx bytes at %#llx; expected %u, %#lx, %#lx",
				  told.calls, told.size, told.iova, calls, size, iova);
	if (told.pinned != pinned)
		return problem_is("it has %u pages, expected %u", told.pinned, pinned);
	return NULL;
}

problem alone_open(struct alone *alone, unsigned long type, int devices)
{
	problem wrong;
	int ret;

	*alone = (struct alone){ .container = -1, .devices = { { -1, -1 }, { -1, -1 } } };
	wrong = emulated_load();
	if (!wrong)
		wrong = kernel_log_start(&alone->log);
	if (!wrong)
		wrong = account_read(&alone->before);
	if (wrong)
		return wrong;
	alone->container = container_open();
	for (int i = 0; i < devices; i++) {
		ret = emulated_join(&alone->devices[i], alone->container, i);
		if (ret)
			return problem_is("device %d does not join: %s", i, strerror(-ret));
		ret = i ? 0 : container_set_type(alone->container, type);
		if (ret)
			return problem_is("VFIO_SET_IOMMU of type %#lx: %s", type, strerror(-ret));
		wrong = emulated_open(&alone->devices[i], i);
		if (wrong)
			return wrong;
	}
	return NULL;
}

problem alone_close(struct alone *alone)
{
	problem wrong;

	for (int i = 0; i < EMULATED_DEVICES; i++)
		emulated_close(&alone->devices[i]);
	close(alone->container);
	wrong = account_rose(&alone->before, 0, 0);
	kernel_log_read(&alone->log);
	kernel_log_stop(&alone->log);
	if (!wrong && alone->log.bug[0])
		wrong = problem_is("the kernel log has: %s", alone->log.bug);
	return wrong;
}
