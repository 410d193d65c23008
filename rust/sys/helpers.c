// SPDX-License-Identifier: GPL-2.0
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/io.h>
#include <linux/kmod.h>
#include <linux/kthread.h>
#include <linux/math64.h>
#include <linux/mem_encrypt.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/pagemap.h>
#include <linux/printk.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include <asm/msr.h>
#include <asm/tsc.h>

#include <drivers/iommu/iommu-pages.h>

#include "helpers.h"

/* Here, because the module! macro of some kernels has no field for it. */
MODULE_IMPORT_NS("GENERIC_PT_IOMMU");

void pgsize_gather_init(struct iommu_iotlb_gather *gather)
{
	iommu_iotlb_gather_init(gather);
}

/*
 * AMD's driver gives up after 100,000 polls of a microsecond if an IOMMU does not answer
 * (drivers/iommu/amd/iommu.c: wait_on_sem), and reports it only in the log. The IOTLB may
 * then still hold stale entries. The elapsed time reveals this: a little less, since the
 * frequency of the TSC is refined after udelay() has it.
 */
#define FLUSH_MS	90

static void look_at_time(u64 began)
{
	s64 ticks = rdtsc() - began;

	if (unlikely(tsc_khz && ticks > (s64)tsc_khz * FLUSH_MS))
		pr_err_ratelimited("vfio_pgsize: a flush took %lld ms: if the IOMMU did not answer, its IOTLB is stale\n",
				   div_s64(ticks, tsc_khz));
}

void pgsize_gather_sync(struct iommu_domain *domain, struct iommu_iotlb_gather *gather)
{
	u64 began = rdtsc();

	iommu_iotlb_sync(domain, gather);
	look_at_time(began);
}

void pgsize_flush_all(struct iommu_domain *domain)
{
	u64 began = rdtsc();

	iommu_flush_iotlb_all(domain);
	look_at_time(began);
}

void pgsize_list_init(struct iommu_pages_list *list)
{
	INIT_LIST_HEAD(&list->pages);
}

/* @to is uninitialized on entry; @from is empty afterwards. */
void pgsize_list_take(struct iommu_pages_list *to, struct iommu_pages_list *from)
{
	INIT_LIST_HEAD(&to->pages);
	iommu_pages_list_splice(from, to);
	INIT_LIST_HEAD(&from->pages);
}

void pgsize_list_add_table(struct iommu_pages_list *list, void *table)
{
	iommu_pages_list_add(list, table);
}

void *pgsize_phys_to_virt(phys_addr_t phys)
{
	return phys_to_virt(phys);
}

phys_addr_t pgsize_virt_to_phys(void *virt)
{
	return virt_to_phys(virt);
}

u64 pgsize_sme_me_mask(void)
{
	return sme_me_mask;
}

unsigned long pgsize_page_to_pfn(struct page *page)
{
	return page_to_pfn(page);
}

struct page *pgsize_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}

/* Memory that is pinned and charged, as opposed to device registers and the like. */
bool pgsize_pfn_is_memory(unsigned long pfn)
{
	return pfn_valid(pfn) && !PageReserved(pfn_to_page(pfn));
}

/* In a folio of 2M or more. */
bool pgsize_page_is_large(struct page *page)
{
	return folio_order(page_folio(page)) >= PMD_ORDER;
}

int pgsize_mmap_read_lock_killable(struct mm_struct *mm)
{
	return mmap_read_lock_killable(mm);
}

void pgsize_mmap_read_unlock(struct mm_struct *mm)
{
	mmap_read_unlock(mm);
}

/* Call these with mmap_lock held. */
unsigned long pgsize_untagged(struct mm_struct *mm, unsigned long address)
{
	return untagged_addr_remote(mm, address);
}

struct vm_area_struct *pgsize_vma_at(struct mm_struct *mm, unsigned long address)
{
	return vma_lookup(mm, address);
}

/*
 * Whether GUP may be called without a check of the VMA, because it would give the same
 * answer as with the check (mm/gup.c: check_vma_flags). GUP checks properties of the page.
 */
bool pgsize_vma_is_plain(struct vm_area_struct *vma, bool write)
{
	if (vma->vm_flags & (VM_IO | VM_PFNMAP) || vma_is_fsdax(vma))
		return false;
	if (write)
		return vma->vm_flags & VM_WRITE && !(vma->vm_flags & VM_SHADOW_STACK);
	return vma->vm_flags & VM_READ;
}

int pgsize_mmap_write_lock_killable(struct mm_struct *mm)
{
	return mmap_write_lock_killable(mm);
}

void pgsize_mmap_write_lock(struct mm_struct *mm)
{
	mmap_write_lock(mm);
}

void pgsize_mmap_write_unlock(struct mm_struct *mm)
{
	mmap_write_unlock(mm);
}

int pgsize_copy_process(struct mm_struct *mm, unsigned long address, void *data, size_t count,
			bool write)
{
	void __user *user = (void __user *)address;
	bool is_thread = !current->mm;
	unsigned long left;

	if (is_thread)
		kthread_use_mm(mm);
	else if (current->mm != mm)
		return -EFAULT;
	left = write ? copy_to_user(user, data, count) : copy_from_user(data, user, count);
	if (is_thread)
		kthread_unuse_mm(mm);
	return left ? -EFAULT : 0;
}

void pgsize_completion_init(struct completion *completion)
{
	init_completion(completion);
}

int pgsize_completion_wait_killable(struct completion *completion)
{
	return wait_for_completion_killable(completion);
}

int pgsize_mutex_lock_killable(struct mutex *mutex)
{
	return mutex_lock_killable(mutex);
}

/* Any process can trigger this message, so it is rate limited. */
void pgsize_warn_memlock(pid_t process)
{
	pr_warn_ratelimited("RLIMIT_MEMLOCK exceeded by process %d\n", process);
}

void pgsize_cond_resched(void)
{
	cond_resched();
}

/*
 * Tasks in vfio_fops_unl_ioctl() on their way to this module, or back, do not sleep there,
 * so RCU-tasks waits for them. The first wait also covers a task that has put its module
 * reference but has not yet cleared the container's driver
 * (vfio_group_detach_container()): until then other tasks can start. The second wait covers
 * those.
 */
void pgsize_wait_for_callers(void)
{
	synchronize_rcu_tasks();
	synchronize_rcu_tasks();
}

void pgsize_request_type1(void)
{
	request_module("vfio_iommu_type1");
}

unsigned long pgsize_index_nospec(unsigned long index, unsigned long size)
{
	return array_index_nospec(index, size);
}

bool pgsize_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

bool pgsize_copy_to_user_now(unsigned long to, const void *from, size_t size)
{
	return !copy_to_user_nofault((void __user *)to, from, size);
}

bool pgsize_copy_from_user_now(void *to, unsigned long from, size_t size)
{
	return !copy_from_user_nofault(to, (const void __user *)from, size);
}

bool pgsize_fault_in(unsigned long address, size_t size)
{
	return !fault_in_safe_writeable((const char __user *)address, size);
}

bool pgsize_access_ok(unsigned long address, size_t size)
{
	return access_ok((void __user *)address, size);
}
