/* SPDX-License-Identifier: GPL-2.0 */
/* Wrappers for inline functions and macros of the kernel. */
#ifndef VFIO_PGSIZE_HELPERS_H
#define VFIO_PGSIZE_HELPERS_H

#include <linux/completion.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/mutex.h>

void pgsize_gather_init(struct iommu_iotlb_gather *gather);
void pgsize_gather_sync(struct iommu_domain *domain, struct iommu_iotlb_gather *gather);

/* Flushes everything, including cached pointers to tables. */
void pgsize_flush_all(struct iommu_domain *domain);
void pgsize_list_init(struct iommu_pages_list *list);
void pgsize_list_take(struct iommu_pages_list *to, struct iommu_pages_list *from);
void pgsize_list_add_table(struct iommu_pages_list *list, void *table);

void *pgsize_phys_to_virt(phys_addr_t phys);
phys_addr_t pgsize_virt_to_phys(void *virt);
u64 pgsize_sme_me_mask(void);

unsigned long pgsize_page_to_pfn(struct page *page);
struct page *pgsize_pfn_to_page(unsigned long pfn);
bool pgsize_pfn_is_memory(unsigned long pfn);
bool pgsize_page_is_large(struct page *page);

int pgsize_mmap_read_lock_killable(struct mm_struct *mm);
void pgsize_mmap_read_unlock(struct mm_struct *mm);
unsigned long pgsize_untagged(struct mm_struct *mm, unsigned long address);
struct vm_area_struct *pgsize_vma_at(struct mm_struct *mm, unsigned long address);
bool pgsize_vma_is_plain(struct vm_area_struct *vma, bool write);

int pgsize_mmap_write_lock_killable(struct mm_struct *mm);
void pgsize_mmap_write_lock(struct mm_struct *mm);
void pgsize_mmap_write_unlock(struct mm_struct *mm);

/* For memory of the current process; a kernel thread can access any process. */
int pgsize_copy_process(struct mm_struct *mm, unsigned long address, void *data, size_t count,
			bool write);

void pgsize_completion_init(struct completion *completion);
int pgsize_completion_wait_killable(struct completion *completion);
int pgsize_mutex_lock_killable(struct mutex *mutex);
void pgsize_warn_memlock(pid_t process);
void pgsize_cond_resched(void);
/*
 * Waits until no task is on its way from VFIO to our ioctl, or back. The module is going:
 * nobody can take a reference to it.
 */
void pgsize_wait_for_callers(void);
void pgsize_request_type1(void);
unsigned long pgsize_index_nospec(unsigned long index, unsigned long size);
bool pgsize_fatal_signal_pending(void);

/* Does not fault: returns false if the memory is not present. For use with locks held. */
bool pgsize_copy_to_user_now(unsigned long to, const void *from, size_t size);
bool pgsize_copy_from_user_now(void *to, unsigned long from, size_t size);
/* Faults memory in for writing. Returns false if it is not writable. */
bool pgsize_fault_in(unsigned long address, size_t size);
bool pgsize_access_ok(unsigned long address, size_t size);

#endif
