/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reverse map table (RMP) of an AMD SEV-SNP host
 */
#ifndef HW_I386_SNP_RMP_H
#define HW_I386_SNP_RMP_H

#include "exec/hwaddr.h"
#include "hw/boards.h"

/* SYSCFG, MSR C001_0010 */
#define SNP_SYSCFG_MFDM         (1ULL << 19)
#define SNP_SYSCFG_MEM_ENCRYPT  (1ULL << 23)
#define SNP_SYSCFG_SNP_EN       (1ULL << 24)
#define SNP_SYSCFG_VMPL_EN      (1ULL << 25)

/*
 * A MSR of this machine alone, for tests; reads as 0. What the firmware's
 * SNP_SHUTDOWN_EX does: SNP goes off on the processor that writes, the IOMMU
 * checks no DMA any more. And: from now on entries that are not assigned keep
 * a size, a GPA and an ASID that mean nothing.
 */
#define MSR_SNP_TEST            0x40005350
#define SNP_TEST_CPU_OFF        (1 << 0)
#define SNP_TEST_IOMMU_OFF      (1 << 1)
#define SNP_TEST_LEFTOVERS      (1 << 2)

/* Results of PSMASH and RMPUPDATE */
#define SNP_OK                  0
#define SNP_FAIL_INPUT          1
#define SNP_FAIL_PERMISSION     2
#define SNP_FAIL_OVERLAP        4

/* The operand in memory of RMPUPDATE and RMPREAD */
typedef struct QEMU_PACKED SnpRmpState {
    uint64_t gpa;
    uint8_t assigned;
    uint8_t pagesize;           /* 1: 2M */
    uint8_t immutable;
    uint8_t reserved;
    uint32_t asid;
} SnpRmpState;

/* Does the machine have SNP (-machine snp=on)? */
bool snp_rmp_present(void);

/*
 * Make the RMP, if there is to be one, at the end of low memory. Returns how
 * many bytes the guest must not use there.
 */
uint64_t snp_rmp_create(MachineState *machine);

/* What the firmware would program into RMP_BASE and RMP_END */
uint64_t snp_rmp_base(void);
uint64_t snp_rmp_end(void);

/* From now on DMA is checked; CPUs check for themselves, by SYSCFG */
void snp_rmp_enable(void);

/* SNP_TEST_IOMMU_OFF and SNP_TEST_LEFTOVERS */
void snp_rmp_test(uint64_t what);

int snp_rmp_psmash(uint64_t spa);
int snp_rmp_update(uint64_t spa, const SnpRmpState *state);
int snp_rmp_read(uint64_t spa, SnpRmpState *state);

/*
 * May a CPU store to this address, mapped by a page of this size? @really:
 * it is about to, so that a refusal is counted.
 */
bool snp_rmp_allows_store(hwaddr spa, uint64_t page_size, bool really);

/*
 * May a device access this address through a leaf of @leaf_size? @granule:
 * within an aligned block of so many bytes the answer is the same.
 */
bool snp_rmp_allows_dma(uint16_t devid, hwaddr iova, hwaddr spa,
                        uint64_t leaf_size, bool is_write, uint64_t *granule);

#endif
