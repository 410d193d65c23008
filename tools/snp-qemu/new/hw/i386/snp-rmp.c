/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reverse map table (RMP) of an AMD SEV-SNP host
 *
 * The table lies in the guest's own memory, at the end of what is below 4G,
 * and is in the format of Zen 3 and Zen 4: 16K for the processor, then 16 bytes
 * for each page of 4K. What PSMASH, RMPUPDATE and RMPREAD do to it is here, and
 * so are the checks that CPUs and the IOMMU make of it.
 *
 * A 2M entry is kept in all of its 512 places: the first has the size bit, the
 * others are assigned and else 0. An entry that is not assigned is all 0, or,
 * in a test, anything: its size counts for nothing.
 *
 * Callers that change the table hold the big lock. Readers may run beside
 * them, as CPUs that fill their TLB do: each entry is read as a whole, and who
 * changes the table flushes all TLBs before it goes on.
 *
 * Not modelled: guests with SNP, VMPLs, page states of the firmware, segmented
 * tables, and the checks of memory that the IOMMU itself uses.
 */

#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/units.h"
#include "exec/memory.h"
#include "hw/i386/e820_memory_layout.h"
#include "hw/i386/pc.h"
#include "hw/i386/snp-rmp.h"
#include "hw/i386/x86.h"
#include "monitor/hmp-target.h"
#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qom/object.h"
#include "trace.h"

#define TYPE_SNP_RMP    "snp-rmp"
OBJECT_DECLARE_SIMPLE_TYPE(SnpRmp, SNP_RMP)

#define BOOKKEEPING     (16 * KiB)
#define ENTRY_SIZE      16
#define PAGE_4K         (4 * KiB)
#define PAGE_2M         (2 * MiB)
#define PAGES_PER_2M    512

/* The first 8 bytes of an entry; the second 8 are 0 */
#define ENTRY_ASSIGNED      (1ULL << 0)
#define ENTRY_2M            (1ULL << 1)
#define ENTRY_IMMUTABLE     (1ULL << 2)
#define ENTRY_GPA_MASK      MAKE_64BIT_MASK(12, 39)
#define ENTRY_ASID_SHIFT    51
#define ENTRY_ASID_MASK     MAKE_64BIT_MASK(ENTRY_ASID_SHIFT, 10)

struct SnpRmp {
    Object parent;

    uint64_t base;              /* where the table begins ... */
    uint64_t size;              /* ... and its length, bookkeeping included */
    uint64_t *entries;          /* the same in QEMU's memory, without it */
    uint64_t pages;             /* 4K pages that have an entry */
    bool enabled;
    uint64_t unassigned;        /* what an entry is that is not assigned */

    /* How often each thing happened */
    uint64_t psmashes;
    uint64_t rmpupdates;
    uint64_t rmpreads;
    uint64_t dma_checks;
    uint64_t dma_faults;
    uint64_t dma_size_faults;   /* of these: a large leaf over a mixed 2M */
    uint64_t store_faults;
};

OBJECT_DEFINE_SIMPLE_TYPE(SnpRmp, snp_rmp, SNP_RMP, OBJECT)

static SnpRmp *rmp;

static void snp_rmp_init(Object *obj)
{
    SnpRmp *r = SNP_RMP(obj);
    struct {
        const char *name;
        uint64_t *value;
    } properties[] = {
        { "base", &r->base },
        { "size", &r->size },
        { "psmashes", &r->psmashes },
        { "rmpupdates", &r->rmpupdates },
        { "rmpreads", &r->rmpreads },
        { "dma-checks", &r->dma_checks },
        { "dma-faults", &r->dma_faults },
        { "dma-size-faults", &r->dma_size_faults },
        { "store-faults", &r->store_faults },
    };

    for (int i = 0; i < ARRAY_SIZE(properties); i++) {
        object_property_add_uint64_ptr(obj, properties[i].name,
                                       properties[i].value, OBJ_PROP_FLAG_READ);
    }
}

static void snp_rmp_finalize(Object *obj)
{
}

static void snp_rmp_class_init(ObjectClass *oc, void *data)
{
}

bool snp_rmp_present(void)
{
    Object *machine = object_dynamic_cast(qdev_get_machine(), TYPE_PC_MACHINE);

    return machine && PC_MACHINE(machine)->snp;
}

uint64_t snp_rmp_create(MachineState *machine)
{
    X86MachineState *x86ms = X86_MACHINE(machine);
    uint64_t low = x86ms->below_4g_mem_size, end = low;
    uint8_t *ram;

    if (!snp_rmp_present()) {
        return 0;
    }
    rmp = SNP_RMP(object_new(TYPE_SNP_RMP));
    object_property_add_child(OBJECT(machine), "snp-rmp", OBJECT(rmp));
    object_unref(OBJECT(rmp));

    if (x86ms->above_4g_mem_size) {
        end = x86ms->above_4g_mem_start + x86ms->above_4g_mem_size;
    }
    rmp->pages = end / PAGE_4K;
    rmp->size = ROUND_UP(BOOKKEEPING + rmp->pages * ENTRY_SIZE, PAGE_2M);
    if (rmp->size > low / 2) {
        error_setg(&error_fatal, "snp=on: too much memory above 4G, or too "
                   "little below, for a table of 1/256 of it");
    }
    rmp->base = QEMU_ALIGN_DOWN(low, PAGE_2M) - rmp->size;
    ram = memory_region_get_ram_ptr(machine->ram);
    rmp->entries = (uint64_t *)(ram + rmp->base + BOOKKEEPING);
    e820_add_entry(rmp->base, low - rmp->base, E820_RESERVED);
    return low - rmp->base;
}

uint64_t snp_rmp_base(void)
{
    return rmp ? rmp->base : 0;
}

uint64_t snp_rmp_end(void)
{
    return rmp ? rmp->base + rmp->size - 1 : 0;
}

void snp_rmp_enable(void)
{
    rmp->enabled = true;
}

static uint64_t entry_of(uint64_t pfn)
{
    return le64_to_cpu(qatomic_read(&rmp->entries[2 * pfn]));
}

static void set_entry(uint64_t pfn, uint64_t entry)
{
    qatomic_set(&rmp->entries[2 * pfn], cpu_to_le64(entry));
}

static bool is_of_table(uint64_t spa)
{
    return spa >= rmp->base && spa < rmp->base + rmp->size;
}

/* Is any page assigned in the 2M that this page is in? */
static bool any_assigned(uint64_t pfn)
{
    uint64_t first = QEMU_ALIGN_DOWN(pfn, PAGES_PER_2M);
    uint64_t end = MIN(first + PAGES_PER_2M, rmp->pages);

    for (pfn = first; pfn < end; pfn++) {
        if (entry_of(pfn) & ENTRY_ASSIGNED) {
            return true;
        }
    }
    return false;
}

static bool is_2m(uint64_t pfn)
{
    uint64_t first = entry_of(QEMU_ALIGN_DOWN(pfn, PAGES_PER_2M));

    return (first & ENTRY_ASSIGNED) && (first & ENTRY_2M);
}

void snp_rmp_test(uint64_t what)
{
    if (what & SNP_TEST_IOMMU_OFF) {
        rmp->enabled = false;
    }
    if (what & SNP_TEST_LEFTOVERS) {
        rmp->unassigned = ENTRY_2M | (0x123456000 & ENTRY_GPA_MASK) |
                          7ULL << ENTRY_ASID_SHIFT;
        for (uint64_t pfn = 0; pfn < rmp->pages; pfn++) {
            if (!(entry_of(pfn) & ENTRY_ASSIGNED)) {
                set_entry(pfn, rmp->unassigned);
            }
        }
    }
}

static uint64_t entry_from(const SnpRmpState *state)
{
    if (!state->assigned) {
        return rmp->unassigned;
    }
    return ENTRY_ASSIGNED | (state->pagesize ? ENTRY_2M : 0) |
           (state->immutable ? ENTRY_IMMUTABLE : 0) |
           (state->gpa & ENTRY_GPA_MASK) |
           (uint64_t)state->asid << ENTRY_ASID_SHIFT;
}

static int do_psmash(uint64_t spa)
{
    uint64_t pfn = spa / PAGE_4K, entry;

    if (spa % PAGE_2M || pfn + PAGES_PER_2M > rmp->pages) {
        return SNP_FAIL_INPUT;
    }
    entry = entry_of(pfn);
    if (!(entry & ENTRY_ASSIGNED) || !(entry & ENTRY_2M) ||
        (entry & ENTRY_IMMUTABLE)) {
        return SNP_FAIL_PERMISSION;
    }
    entry &= ~ENTRY_2M;
    for (int i = 0; i < PAGES_PER_2M; i++) {
        set_entry(pfn + i, entry + i * PAGE_4K);
    }
    return SNP_OK;
}

int snp_rmp_psmash(uint64_t spa)
{
    int ret = do_psmash(spa);

    rmp->psmashes++;
    trace_snp_psmash(spa, ret);
    return ret;
}

static int do_update(uint64_t spa, const SnpRmpState *state)
{
    uint64_t size = state->pagesize ? PAGE_2M : PAGE_4K;
    uint64_t pfn = spa / PAGE_4K, pages = size / PAGE_4K, entry;

    if (spa % size || pfn + pages > rmp->pages ||
        state->assigned > 1 || state->pagesize > 1 || state->immutable > 1 ||
        state->asid > ENTRY_ASID_MASK >> ENTRY_ASID_SHIFT ||
        (state->assigned && state->gpa & ~(ENTRY_GPA_MASK & -size))) {
        return SNP_FAIL_INPUT;
    }
    if (is_of_table(spa) || is_of_table(spa + size - 1)) {
        return SNP_FAIL_PERMISSION;
    }
    if (pages == 1 ? is_2m(pfn) : any_assigned(pfn) && !is_2m(pfn)) {
        return SNP_FAIL_OVERLAP;
    }
    if (entry_of(pfn) & ENTRY_IMMUTABLE) {
        return SNP_FAIL_PERMISSION;
    }
    entry = entry_from(state);
    set_entry(pfn, entry);
    for (int i = 1; i < pages; i++) {
        set_entry(pfn + i, state->assigned ? ENTRY_ASSIGNED : entry);
    }
    return SNP_OK;
}

int snp_rmp_update(uint64_t spa, const SnpRmpState *state)
{
    int ret = do_update(spa, state);

    rmp->rmpupdates++;
    trace_snp_rmpupdate(spa, state->assigned, state->pagesize ? "2M" : "4K",
                        state->gpa, state->asid, ret);
    return ret;
}

static void decode(uint64_t entry, SnpRmpState *state)
{
    *state = (SnpRmpState) {
        .gpa = entry & ENTRY_GPA_MASK,
        .assigned = !!(entry & ENTRY_ASSIGNED),
        .pagesize = !!(entry & ENTRY_2M),
        .immutable = !!(entry & ENTRY_IMMUTABLE),
        .asid = (entry & ENTRY_ASID_MASK) >> ENTRY_ASID_SHIFT,
    };
}

int snp_rmp_read(uint64_t spa, SnpRmpState *state)
{
    uint64_t pfn = spa / PAGE_4K;
    int ret = spa % PAGE_4K || pfn >= rmp->pages ? SNP_FAIL_INPUT : SNP_OK;

    if (ret == SNP_OK) {
        decode(entry_of(pfn), state);
    }
    rmp->rmpreads++;
    trace_snp_rmpread(spa, ret);
    return ret;
}

/* The entry that forbids an access through a page of this size, if any does */
static bool forbidden(hwaddr spa, uint64_t page_size)
{
    uint64_t pfn = spa / PAGE_4K;

    if (pfn >= rmp->pages) {
        return false;
    }
    return page_size < PAGE_2M ? entry_of(pfn) & ENTRY_ASSIGNED
                               : any_assigned(pfn);
}

bool snp_rmp_allows_store(hwaddr spa, uint64_t page_size, bool really)
{
    if (!is_of_table(spa) && !forbidden(spa, page_size)) {
        return true;
    }
    if (really) {
        qatomic_inc(&rmp->store_faults);
        trace_snp_store_fault(spa, page_size);
    }
    return false;
}

bool snp_rmp_allows_dma(uint16_t devid, hwaddr iova, hwaddr spa,
                        uint64_t leaf_size, bool is_write, uint64_t *granule)
{
    bool assigned;

    if (!rmp || !rmp->enabled) {
        return true;
    }
    *granule = leaf_size < PAGE_2M ? PAGE_4K : PAGE_2M;
    rmp->dma_checks++;
    if (!is_of_table(spa) && !forbidden(spa, leaf_size)) {
        return true;
    }
    assigned = is_of_table(spa) || forbidden(spa, PAGE_4K);
    rmp->dma_faults++;
    rmp->dma_size_faults += !assigned;
    trace_snp_dma_fault(devid, is_write ? "write" : "read", iova, spa,
                        leaf_size, assigned ? "assigned" : "size");
    return false;
}

void hmp_info_rmp(Monitor *mon, const QDict *qdict)
{
    uint64_t spa, entry;

    if (!rmp) {
        monitor_printf(mon, "The machine has no RMP: it wants snp=on\n");
        return;
    }
    if (!qdict_haskey(qdict, "addr")) {
        monitor_printf(mon, "%#" PRIx64 "-%#" PRIx64 ", %s\n", snp_rmp_base(),
                       snp_rmp_end(), rmp->enabled ? "enforced" : "off");
        return;
    }
    spa = qdict_get_int(qdict, "addr");
    if (spa / PAGE_4K >= rmp->pages) {
        monitor_printf(mon, "The RMP has no entry for %#" PRIx64 "\n", spa);
        return;
    }
    entry = entry_of(spa / PAGE_4K);
    monitor_printf(mon, "%s %s%s gpa %#" PRIx64 " asid %" PRIu64 "\n",
                   entry & ENTRY_ASSIGNED ? "assigned" : "shared",
                   is_2m(spa / PAGE_4K) ? "2M" : "4K",
                   entry & ENTRY_IMMUTABLE ? " immutable" : "",
                   (uint64_t)(entry & ENTRY_GPA_MASK),
                   (uint64_t)((entry & ENTRY_ASID_MASK) >> ENTRY_ASID_SHIFT));
}
