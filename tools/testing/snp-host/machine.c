// SPDX-License-Identifier: GPL-2.0
/*
 * Events of the whole SNP host: SNP goes off and on again, an IOMMU stops answering, the kernel
 * panics. QEMU does the firmware's part (MSR_SNP_TEST in
 * tools/snp-qemu/new/include/hw/i386/snp-rmp.h).
 */
#include <linux/amd-iommu.h>
#include <linux/bits.h>
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/io.h>
#include <linux/panic.h>
#include <linux/panic_notifier.h>
#include <linux/smp.h>

#include <asm/msr.h>
#include <asm/sev.h>

#include "machine.h"

#define MSR_SNP_TEST		0x40005350
#define SNP_TEST_CPU_OFF	BIT(0)
#define SNP_TEST_IOMMU_OFF	BIT(1)
#define SNP_TEST_LEFTOVERS	BIT(2)

static void cpu_off(void *unused)
{
	wrmsrq(MSR_SNP_TEST, SNP_TEST_CPU_OFF);
}

/* As snp_prepare() does. */
static void cpu_on(void *unused)
{
	u64 syscfg;

	rdmsrq(MSR_AMD64_SYSCFG, syscfg);
	wrmsrq(MSR_AMD64_SYSCFG,
	       syscfg | MSR_AMD64_SYSCFG_SNP_EN | MSR_AMD64_SYSCFG_SNP_VMPL_EN);
}

int machine_switch(const struct snp_host_switch *what)
{
	smp_call_func_t call = what->op == SNP_HOST_CPU_ON ? cpu_on : cpu_off;
	unsigned int cpu;

	switch (what->op) {
	case SNP_HOST_CPU_ON:
	case SNP_HOST_CPU_OFF:
		cpus_read_lock();
		for_each_online_cpu(cpu)
			if (cpu < 32 && what->cpus & BIT(cpu))
				smp_call_function_single(cpu, call, NULL, 1);
		cpus_read_unlock();
		return 0;
	case SNP_HOST_IOMMU_OFF:
		wrmsrq(MSR_SNP_TEST, SNP_TEST_IOMMU_OFF);
		return 0;
	case SNP_HOST_LEFTOVERS:
		wrmsrq(MSR_SNP_TEST, SNP_TEST_LEFTOVERS);
		return 0;
	default:
		return -EINVAL;
	}
}

/* The address of the IOMMU's registers in QEMU. */
#define IOMMU_CONTROL		(0xfed80000 + 0x18)
#define COMMANDS_ENABLED	BIT(12)

int machine_queue(const struct snp_host_queue *what)
{
	void __iomem *control = ioremap(IOMMU_CONTROL, sizeof(u64));
	u64 value;

	if (!control)
		return -ENOMEM;
	value = readq(control);
	if (what->stopped)
		value &= ~COMMANDS_ENABLED;
	else
		value |= COMMANDS_ENABLED;
	writeq(value, control);
	iounmap(control);
	return 0;
}

static u64 panic_smashed;
static u64 panic_shared;

/* The effect of ccp's notifier: the firmware disables SNP, and ccp takes pages back. */
static int panic_call(struct notifier_block *nb, unsigned long action, void *data)
{
	int ret;

	pr_emerg("snp-host: in a panic\n");
	ret = psmash(panic_smashed);
	pr_emerg("snp-host: psmash: %d\n", ret);
	ret = rmp_make_shared(panic_shared, PG_LEVEL_4K);
	pr_emerg("snp-host: rmp_make_shared: %d\n", ret);
	ret = amd_iommu_snp_disable();
	pr_emerg("snp-host: amd_iommu_snp_disable: %d\n", ret);
	return NOTIFY_DONE;
}

static struct notifier_block panic_block = { .notifier_call = panic_call };

void machine_panic(u64 smashed, u64 shared)
{
	panic_smashed = smashed;
	panic_shared = shared;
	atomic_notifier_chain_register(&panic_notifier_list, &panic_block);
	panic("snp-host: as a test asks for");
}
