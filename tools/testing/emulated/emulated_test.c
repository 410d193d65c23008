// SPDX-License-Identifier: GPL-2.0
#include <linux/delay.h>
#include <linux/highmem.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>

#include "emulated_test.h"

#define NAME		"emulated_test"
#define MAX_BYTES	SZ_4M

struct pinned {
	struct list_head list;
	u64 iova;
	struct page *page;
};

struct emulated {
	struct vfio_device vdev;
	struct mutex strict;		/* held while pages are pinned, and in dma_unmap */
	struct mutex lock;		/* of all below; none is taken under it */
	struct list_head pinned;	/* the last first */
	struct emulated_told told;
	unsigned long flags;
};

static struct platform_device *platform[EMULATED_DEVICES];

static struct emulated *emulated_of(struct vfio_device *vdev)
{
	return container_of(vdev, struct emulated, vdev);
}

/* One page that was pinned last, of those from iova to last. */
static struct pinned *take_pinned(struct emulated *emulated, u64 iova, u64 last)
{
	struct pinned *pinned;

	guard(mutex)(&emulated->lock);
	list_for_each_entry(pinned, &emulated->pinned, list) {
		if (pinned->iova >= iova && pinned->iova <= last) {
			list_del(&pinned->list);
			emulated->told.pinned--;
			return pinned;
		}
	}
	return NULL;
}

static void unpin_all(struct emulated *emulated, u64 iova, u64 last)
{
	struct pinned *pinned;

	while ((pinned = take_pinned(emulated, iova, last))) {
		vfio_unpin_pages(&emulated->vdev, pinned->iova, 1);
		kfree(pinned);
	}
}

static int note_pinned(struct emulated *emulated, struct pinned **noted, u64 iova, u32 npage,
		       struct page **pages)
{
	guard(mutex)(&emulated->lock);
	for (u32 i = 0; i < npage; i++) {
		noted[i]->iova = ALIGN_DOWN(iova, PAGE_SIZE) + i * PAGE_SIZE;
		noted[i]->page = pages[i];
		list_add(&noted[i]->list, &emulated->pinned);
		noted[i] = NULL;
	}
	emulated->told.pinned += npage;
	return 0;
}

static int pin_and_note(struct emulated *emulated, const struct emulated_pages *request,
			struct pinned **noted, struct page **pages)
{
	bool strict = READ_ONCE(emulated->flags) & EMULATED_STRICT;
	/* Bits that are not known are passed on. */
	int prot = (request->prot & ~(EMULATED_READ | EMULATED_WRITE)) |
		   (request->prot & EMULATED_READ ? IOMMU_READ : 0) |
		   (request->prot & EMULATED_WRITE ? IOMMU_WRITE : 0);
	int ret;

	if (strict)
		mutex_lock(&emulated->strict);
	ret = vfio_pin_pages(&emulated->vdev, request->iova, request->npage, prot, pages);
	if (ret >= 0)
		ret = ret == request->npage ?
		      note_pinned(emulated, noted, request->iova, request->npage, pages) : -EPROTO;
	if (strict)
		mutex_unlock(&emulated->strict);
	return ret;
}

static int pin(struct emulated *emulated, const struct emulated_pages *request)
{
	struct pinned **noted = kvcalloc(request->npage, sizeof(*noted), GFP_KERNEL);
	struct page **pages = kvcalloc(request->npage, sizeof(*pages), GFP_KERNEL);
	u64 *pfns = kvcalloc(request->npage, sizeof(*pfns), GFP_KERNEL);
	int ret = noted && pages && pfns ? 0 : -ENOMEM;

	for (u32 i = 0; !ret && i < request->npage; i++) {
		noted[i] = kzalloc_obj(**noted);
		if (!noted[i])
			ret = -ENOMEM;
	}
	if (!ret)
		ret = pin_and_note(emulated, request, noted, pages);
	for (u32 i = 0; noted && i < request->npage; i++)
		kfree(noted[i]);
	if (!ret && request->pfns) {
		for (u32 i = 0; i < request->npage; i++)
			pfns[i] = page_to_pfn(pages[i]);
		if (copy_to_user(u64_to_user_ptr(request->pfns), pfns,
				 request->npage * sizeof(*pfns)))
			ret = -EFAULT;
	}
	kvfree(noted);
	kvfree(pages);
	kvfree(pfns);
	return ret;
}

static int unpin(struct emulated *emulated, const struct emulated_pages *request)
{
	for (u32 i = 0; i < request->npage; i++) {
		u64 iova = request->iova + i * PAGE_SIZE;
		struct pinned *pinned = take_pinned(emulated, iova, iova);

		if (!pinned)
			return -ENOENT;
		kfree(pinned);
	}
	vfio_unpin_pages(&emulated->vdev, request->iova, request->npage);
	return 0;
}

struct work {
	struct emulated *emulated;
	const struct emulated_bytes *request;
	void *data;
	struct completion done;
	int ret;
};

static int dma_rw(void *arg)
{
	struct work *work = arg;

	work->ret = vfio_dma_rw(&work->emulated->vdev, work->request->iova, work->data,
				work->request->size, work->request->flags & EMULATED_WRITE);
	complete(&work->done);
	return 0;
}

static int rw(struct emulated *emulated, const struct emulated_bytes *request, void *data)
{
	struct work work = { .emulated = emulated, .request = request, .data = data };
	struct task_struct *thread;

	init_completion(&work.done);
	if (!(request->flags & EMULATED_THREAD)) {
		dma_rw(&work);
		return work.ret;
	}
	thread = kthread_run(dma_rw, &work, NAME);
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	wait_for_completion(&work.done);
	return work.ret;
}

static int touch(struct emulated *emulated, const struct emulated_bytes *request, void *data)
{
	u64 page = ALIGN_DOWN(request->iova, PAGE_SIZE);
	struct pinned *pinned;

	if (request->size > PAGE_SIZE - offset_in_page(request->iova))
		return -EINVAL;
	guard(mutex)(&emulated->lock);
	list_for_each_entry(pinned, &emulated->pinned, list) {
		if (pinned->iova != page)
			continue;
		if (request->flags & EMULATED_WRITE)
			memcpy_to_page(pinned->page, offset_in_page(request->iova), data,
				       request->size);
		else
			memcpy_from_page(data, pinned->page, offset_in_page(request->iova),
					 request->size);
		return 0;
	}
	return -ENOENT;
}

static int move(struct emulated *emulated, const struct emulated_bytes *request,
		int (*how)(struct emulated *emulated, const struct emulated_bytes *request,
			   void *data))
{
	void __user *user = u64_to_user_ptr(request->data);
	void *data;
	int ret;

	if (!request->size || request->size > MAX_BYTES)
		return -EINVAL;
	data = kvzalloc(request->size, GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	ret = 0;
	if (request->flags & EMULATED_WRITE && copy_from_user(data, user, request->size))
		ret = -EFAULT;
	if (!ret)
		ret = how(emulated, request, data);
	if (!ret && !(request->flags & EMULATED_WRITE) && copy_to_user(user, data, request->size))
		ret = -EFAULT;
	kvfree(data);
	return ret;
}

static long tell(struct emulated *emulated, void __user *user)
{
	struct emulated_told told;

	scoped_guard(mutex, &emulated->lock) {
		told = emulated->told;
		emulated->told = (struct emulated_told){ .pinned = told.pinned };
	}
	return copy_to_user(user, &told, sizeof(told)) ? -EFAULT : 0;
}

static long hold(unsigned long milliseconds)
{
	if (mmap_write_lock_killable(current->mm))
		return -EINTR;
	msleep(milliseconds);
	mmap_write_unlock(current->mm);
	return 0;
}

static long emulated_ioctl(struct vfio_device *vdev, unsigned int cmd, unsigned long arg)
{
	struct emulated *emulated = emulated_of(vdev);
	void __user *user = (void __user *)arg;
	struct emulated_pages pages;
	struct emulated_bytes bytes;

	switch (cmd) {
	case EMULATED_PIN:
	case EMULATED_UNPIN:
		if (copy_from_user(&pages, user, sizeof(pages)))
			return -EFAULT;
		return cmd == EMULATED_PIN ? pin(emulated, &pages) : unpin(emulated, &pages);
	case EMULATED_RW:
	case EMULATED_TOUCH:
		if (copy_from_user(&bytes, user, sizeof(bytes)))
			return -EFAULT;
		return move(emulated, &bytes, cmd == EMULATED_RW ? rw : touch);
	case EMULATED_ASK:
		return tell(emulated, user);
	case EMULATED_SET:
		WRITE_ONCE(emulated->flags, arg);
		return 0;
	case EMULATED_HOLD:
		return hold(arg);
	}
	return -ENOTTY;
}

static void emulated_dma_unmap(struct vfio_device *vdev, u64 iova, u64 length)
{
	struct emulated *emulated = emulated_of(vdev);
	unsigned long flags = READ_ONCE(emulated->flags);

	if (flags & EMULATED_STRICT)
		mutex_lock(&emulated->strict);
	scoped_guard(mutex, &emulated->lock) {
		emulated->told.iova = iova;
		emulated->told.size = length;
		emulated->told.calls++;
	}
	if (!(flags & EMULATED_KEEPS))
		unpin_all(emulated, iova, iova + length - 1);
	if (flags & EMULATED_STRICT)
		mutex_unlock(&emulated->strict);
}

static int emulated_open(struct vfio_device *vdev)
{
	struct emulated *emulated = emulated_of(vdev);

	emulated->flags = 0;
	emulated->told = (struct emulated_told){};
	return 0;
}

static void emulated_close(struct vfio_device *vdev)
{
	struct emulated *emulated = emulated_of(vdev);
	struct pinned *pinned;

	if (!(emulated->flags & EMULATED_KEEPS))
		unpin_all(emulated, 0, U64_MAX);
	while ((pinned = take_pinned(emulated, 0, U64_MAX)))
		kfree(pinned);
}

static int emulated_init(struct vfio_device *vdev)
{
	struct emulated *emulated = emulated_of(vdev);

	mutex_init(&emulated->strict);
	mutex_init(&emulated->lock);
	INIT_LIST_HEAD(&emulated->pinned);
	return 0;
}

static const struct vfio_device_ops emulated_ops = {
	.name = NAME,
	.init = emulated_init,
	.open_device = emulated_open,
	.close_device = emulated_close,
	.ioctl = emulated_ioctl,
	.dma_unmap = emulated_dma_unmap,
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
};

static int emulated_probe(struct platform_device *device)
{
	struct emulated *emulated = vfio_alloc_device(emulated, vdev, &device->dev, &emulated_ops);
	int ret;

	if (IS_ERR(emulated))
		return PTR_ERR(emulated);
	ret = vfio_register_emulated_iommu_dev(&emulated->vdev);
	if (ret) {
		vfio_put_device(&emulated->vdev);
		return ret;
	}
	platform_set_drvdata(device, emulated);
	return 0;
}

static void emulated_remove(struct platform_device *device)
{
	struct emulated *emulated = platform_get_drvdata(device);

	vfio_unregister_group_dev(&emulated->vdev);
	vfio_put_device(&emulated->vdev);
}

static struct platform_driver driver = {
	.driver.name = NAME,
	.probe = emulated_probe,
	.remove = emulated_remove,
};

static void forget_devices(void)
{
	for (int i = 0; i < EMULATED_DEVICES; i++)
		platform_device_unregister(platform[i]);
	platform_driver_unregister(&driver);
}

static int __init emulated_load(void)
{
	int ret = platform_driver_register(&driver);

	if (ret)
		return ret;
	for (int i = 0; i < EMULATED_DEVICES; i++) {
		platform[i] = platform_device_register_simple(NAME, i, NULL, 0);
		if (IS_ERR(platform[i])) {
			ret = PTR_ERR(platform[i]);
			platform[i] = NULL;
			forget_devices();
			return ret;
		}
	}
	return 0;
}
module_init(emulated_load);
module_exit(forget_devices);

MODULE_DESCRIPTION("VFIO devices that are software, for tests");
MODULE_LICENSE("GPL");
