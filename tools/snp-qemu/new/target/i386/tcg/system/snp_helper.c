/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CPU of an AMD SEV-SNP host: its instructions and its part of the checks
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "cpu.h"
#include "exec/cpu_ldst.h"
#include "exec/cputlb.h"
#include "exec/helper-proto.h"
#include "hw/i386/snp-rmp.h"
#include "tcg/helper-tcg.h"

static bool snp_enabled(CPUX86State *env)
{
    return env->amd_syscfg & SNP_SYSCFG_SNP_EN;
}

/* What SNP needs is locked once SNP is on */
void snp_write_syscfg(CPUX86State *env, uint64_t value)
{
    const uint64_t writable = SNP_SYSCFG_MFDM | SNP_SYSCFG_SNP_EN |
                              SNP_SYSCFG_VMPL_EN;

    if (!snp_rmp_present() || snp_enabled(env)) {
        return;
    }
    env->amd_syscfg = SNP_SYSCFG_MEM_ENCRYPT | (value & writable);
    if (snp_enabled(env)) {
        bql_lock();
        snp_rmp_enable();
        bql_unlock();
        tlb_flush(env_cpu(env));
    }
}

void snp_write_test(CPUX86State *env, uint64_t value)
{
    if (!snp_rmp_present()) {
        return;
    }
    if (value & SNP_TEST_CPU_OFF) {
        env->amd_syscfg &= ~(SNP_SYSCFG_SNP_EN | SNP_SYSCFG_VMPL_EN);
        tlb_flush(env_cpu(env));
    }
    bql_lock();
    snp_rmp_test(value);
    bql_unlock();
}

static void need_snp(CPUX86State *env, uintptr_t ra)
{
    if (!snp_enabled(env)) {
        raise_exception_ra(env, EXCP06_ILLOP, ra);
    }
}

uint32_t helper_psmash(CPUX86State *env, target_ulong spa)
{
    int ret;

    need_snp(env, GETPC());
    bql_lock();
    ret = snp_rmp_psmash(spa);
    bql_unlock();
    tlb_flush_all_cpus_synced(env_cpu(env));
    return ret;
}

/* The operand's two quadwords are laid out as SnpRmpState, little endian */
uint32_t helper_rmpupdate(CPUX86State *env, target_ulong spa,
                          target_ulong operand)
{
    uint64_t lo, hi;
    SnpRmpState state;
    int ret;

    need_snp(env, GETPC());
    lo = cpu_ldq_data_ra(env, operand, GETPC());
    hi = cpu_ldq_data_ra(env, operand + 8, GETPC());
    state = (SnpRmpState) {
        .gpa = lo,
        .assigned = extract64(hi, 0, 8),
        .pagesize = extract64(hi, 8, 8),
        .immutable = extract64(hi, 16, 8),
        .asid = extract64(hi, 32, 32),
    };
    bql_lock();
    ret = snp_rmp_update(spa, &state);
    bql_unlock();
    tlb_flush_all_cpus_synced(env_cpu(env));
    return ret;
}

uint32_t helper_rmpread(CPUX86State *env, target_ulong spa,
                        target_ulong operand)
{
    SnpRmpState state;
    int ret;

    if (!env_archcpu(env)->rmpread) {
        raise_exception_ra(env, EXCP06_ILLOP, GETPC());
    }
    need_snp(env, GETPC());
    bql_lock();
    ret = snp_rmp_read(spa, &state);
    bql_unlock();
    if (ret == SNP_OK) {
        cpu_stq_data_ra(env, operand, state.gpa, GETPC());
        cpu_stq_data_ra(env, operand + 8,
                        state.assigned | state.pagesize << 8 |
                        state.immutable << 16 | (uint64_t)state.asid << 32,
                        GETPC());
    }
    return ret;
}

bool snp_allows_store(CPUX86State *env, hwaddr spa, uint64_t page_size,
                      int mmu_idx, bool really)
{
    /* Guests would get a nested page fault, and page walks are not checked */
    if (!snp_enabled(env) || mmu_idx == MMU_PHYS_IDX ||
        mmu_idx == MMU_NESTED_IDX || (env->hflags & HF_GUEST_MASK)) {
        return true;
    }
    return snp_rmp_allows_store(spa, page_size, really);
}
