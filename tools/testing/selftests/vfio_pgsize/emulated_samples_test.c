// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's own samples of devices that are software (samples/vfio-mdev), on the mdev
 * bus: they open and close in a container. They pin nothing.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

#include "backends.h"
#include "container.h"
#include "emulated.h"
#include "harness.h"
#include "module.h"
#include "text.h"
#include "units.h"

#define AT	GIB(1)
#define UUID	"83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"
#define DEVICE	"/sys/bus/mdev/devices/" UUID

FIXTURE(sample) {
	struct account before;
	struct kernel_log log;
};

BACKENDS(sample);

FIXTURE_SETUP(sample)
{
	ASSERT_SOUND(module_serve(variant->parameters));
	ASSERT_SOUND(kernel_log_start(&self->log));
	ASSERT_SOUND(account_read(&self->before));
}

FIXTURE_TEARDOWN(sample)
{
	EXPECT_SOUND(account_rose(&self->before, 0, 0));
	kernel_log_read(&self->log);
	EXPECT_STREQ("", self->log.bug);
	kernel_log_stop(&self->log);
}

static problem use(const char *kind, unsigned long type)
{
	struct vfio_device_info info = { .argsz = sizeof(info) };
	static char page[PAGE] __attribute__((aligned(PAGE)));
	int container, group, device, ret;
	uint64_t size = PAGE;
	problem wrong;

	wrong = text_write(kind, UUID);
	if (wrong)
		return wrong;
	container = container_open();
	group = group_open_at(DEVICE);
	ret = group < 0 ? group : group_join(group, container);
	if (!ret)
		ret = container_set_type(container, type);
	if (ret)
		return problem_is("the group does not join: %s", strerror(-ret));
	ret = dma_map(container, AT, page, PAGE, READ_WRITE);
	device = group_device(group, UUID);
	if (ret || device < 0 || ioctl(device, VFIO_DEVICE_GET_INFO, &info) || !info.num_regions)
		wrong = problem_is("the device does not open: %m");
	else if (dma_unmap(container, AT, &size, 0) || size != PAGE)
		wrong = problem_is("its container does not unmap: %m");
	close(device);
	close(group);
	close(container);
	if (!wrong)
		wrong = text_write(DEVICE "/remove", "1");
	return wrong;
}

#define SAMPLE(name, kind) do {								\
	struct utsname kernel;								\
	char file[256];									\
											\
	uname(&kernel);									\
	snprintf(file, sizeof(file), "/lib/modules/%s/extra/" name ".ko", kernel.release); \
	if (access(file, F_OK))								\
		SKIP(return, "this kernel has no mdev bus");				\
	ASSERT_EQ(0, system("modprobe mdev && insmod /lib/modules/$(uname -r)/extra/" name ".ko")); \
	EXPECT_SOUND(use("/sys/class/mdev_bus/" name "/mdev_supported_types/" name "-" kind \
			 "/create", variant->type));					\
	EXPECT_EQ(0, system("rmmod " name));						\
} while (0)

TEST_F_TIMEOUT(sample, mtty, TIMEOUT)
{
	SAMPLE("mtty", "1");
}

TEST_F_TIMEOUT(sample, mdpy, TIMEOUT)
{
	SAMPLE("mdpy", "vga");
}

TEST_PROGRAM("The kernel's own samples of devices that are software.")
