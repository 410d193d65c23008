// SPDX-License-Identifier: GPL-2.0
/*
 * Stands in for KVM on an SNP host: assigns pages of a process to a simulated guest, smashes
 * entries, and takes the pages back. For tests only: a process that opens the device can stop
 * the machine.
 *
 * The module is called ccp because the kernel exports snp_prepare(), which enables SNP, only
 * to a module of that name: the driver of the security processor, which this machine lacks.
 */
#include <linux/cc_platform.h>
#include <linux/fprobe.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <asm/sev.h>

#include "machine.h"
#include "snp_host.h"

#define ASID		1
#define MAX_PAGES	(SZ_1G / PAGE_SIZE)
#define PAGES_PER_2M	(PMD_SIZE / PAGE_SIZE)

struct guest {
	struct mutex lock;	/* protects everything below */
	struct page **pages;	/* pinned; page i is at GPA i * PAGE_SIZE */
	unsigned long nr;
};

static int guest_open(struct inode *inode, struct file *file)
{
	struct guest *guest = kzalloc(sizeof(*guest), GFP_KERNEL);

	if (!guest)
		return -ENOMEM;
	mutex_init(&guest->lock);
	file->private_data = guest;
	return 0;
}

static int give_memory(struct guest *guest, const struct snp_host_memory *memory)
{
	unsigned long nr = memory->size / PAGE_SIZE;
	long pinned;

	if (guest->nr)
		return -EBUSY;
	if (!nr || nr > MAX_PAGES || !PAGE_ALIGNED(memory->va | memory->size))
		return -EINVAL;
	guest->pages = kvcalloc(nr, sizeof(*guest->pages), GFP_KERNEL_ACCOUNT);
	if (!guest->pages)
		return -ENOMEM;
	pinned = pin_user_pages_fast(memory->va, nr, FOLL_WRITE | FOLL_LONGTERM, guest->pages);
	if (pinned != nr) {
		if (pinned > 0)
			unpin_user_pages(guest->pages, pinned);
		kvfree(guest->pages);
		return pinned < 0 ? pinned : -EFAULT;
	}
	guest->nr = nr;
	return 0;
}

/* Whether these 512 pages are one 2M page. */
static bool is_huge(struct guest *guest, unsigned long first)
{
	u64 pfn;

	if (first % PAGES_PER_2M || first + PAGES_PER_2M > guest->nr)
		return false;
	pfn = page_to_pfn(guest->pages[first]);
	for (unsigned long i = 0; i < PAGES_PER_2M; i++)
		if (page_to_pfn(guest->pages[first + i]) != pfn + i)
			return false;
	return IS_ALIGNED(pfn, PAGES_PER_2M);
}

/*
 * KVM's compiler may leave garbage in the upper halves of registers with 32-bit arguments, so
 * these prototypes have 64-bit arguments.
 */
#define LEFT_OVER	BIT_ULL(40)

static int make_private(u64 pfn, u64 gpa, enum pg_level level)
{
	int (*call)(u64 pfn, u64 gpa, u64 level, u64 asid, u64 immutable);

	call = (typeof(call))(void *)rmp_make_private;
	OPTIMIZER_HIDE_VAR(call);
	return call(pfn, gpa, level | LEFT_OVER, ASID | LEFT_OVER, LEFT_OVER);
}

static int make_shared(u64 pfn, enum pg_level level)
{
	int (*call)(u64 pfn, u64 level);

	call = (typeof(call))(void *)rmp_make_shared;
	OPTIMIZER_HIDE_VAR(call);
	return call(pfn, level | LEFT_OVER);
}

/* As snp_lookup_rmpentry(), whose level is that of the first entry of the 2M, assigned or not. */
static int find_entry(u64 pfn, bool *assigned, bool *huge)
{
	bool first_assigned;
	int level, ret = snp_lookup_rmpentry(pfn, assigned, &level);

	if (!ret)
		ret = snp_lookup_rmpentry(ALIGN_DOWN(pfn, PAGES_PER_2M), &first_assigned, &level);
	*huge = !ret && first_assigned && level == PG_LEVEL_2M;
	return ret;
}

/* Whether RMPUPDATE at this size would find entries of the other size. */
static int check_overlap(u64 pfn, bool huge)
{
	bool assigned, is_2m;
	int ret;

	for (u64 i = 0; i < (huge ? PAGES_PER_2M : 1); i++) {
		ret = find_entry(pfn + i, &assigned, &is_2m);
		if (ret)
			return ret;
		if (assigned && is_2m != huge)
			return -EBUSY;
	}
	return 0;
}

static int update(u64 pfn, struct snp_host_page *op)
{
	enum pg_level level = op->huge ? PG_LEVEL_2M : PG_LEVEL_4K;
	int ret = check_overlap(pfn, op->huge);

	if (ret)
		return ret;
	if (op->op == SNP_HOST_ASSIGN)
		op->result = make_private(pfn, op->gpa, level);
	else
		op->result = make_shared(pfn, level);
	return 0;
}

static int lookup(u64 pfn, struct snp_host_page *op)
{
	bool assigned, huge;

	op->result = find_entry(pfn, &assigned, &huge);
	if (op->result)
		return 0;
	op->assigned = assigned;
	op->huge = huge;
	return 0;
}

static int store(struct page *page, struct snp_host_page *op)
{
	u8 *byte = page_address(page);

	pagefault_disable();
	__put_kernel_nofault(byte, &(u8){ *byte + 1 }, u8, fault);
	pagefault_enable();
	op->result = 0;
	return 0;
fault:
	pagefault_enable();
	op->result = -EFAULT;
	return 0;
}

static int do_page(struct guest *guest, struct snp_host_page *op)
{
	unsigned long i = op->gpa / PAGE_SIZE;
	u64 pfn;

	if (!PAGE_ALIGNED(op->gpa) || i >= guest->nr)
		return -EINVAL;
	if (op->huge && op->op != SNP_HOST_LOOKUP && !is_huge(guest, i))
		return -EINVAL;
	pfn = page_to_pfn(guest->pages[i]);
	switch (op->op) {
	case SNP_HOST_ASSIGN:
	case SNP_HOST_SHARE:
		return update(pfn, op);
	case SNP_HOST_SMASH:
		op->result = psmash(pfn);
		return 0;
	case SNP_HOST_LOOKUP:
		return lookup(pfn, op);
	case SNP_HOST_STORE:
		return store(guest->pages[i], op);
	default:
		return -EINVAL;
	}
}

/* A #UD leaves EAX unchanged. */
#define EXECUTE(bytes, eax, ...)				\
	asm volatile("1: .byte " bytes "\n2:\n"			\
		     _ASM_EXTABLE(1b, 2b)			\
		     : "+a" (eax) : __VA_ARGS__ : "memory", "cc")

static int do_raw(struct snp_host_raw *op)
{
	struct rmp_state state = {
		.gpa = op->gpa,
		.assigned = op->assigned,
		.pagesize = op->pagesize,
		.immutable = op->immutable,
		.rsvd = op->reserved,
		.asid = op->asid,
	};
	u64 rax = op->spa;

	switch (op->insn) {
	case SNP_HOST_PSMASH:
		EXECUTE("0xf3, 0x0f, 0x01, 0xff", rax, "c" (0));
		break;
	case SNP_HOST_RMPUPDATE:
		EXECUTE("0xf2, 0x0f, 0x01, 0xfe", rax, "c" (&state));
		break;
	case SNP_HOST_RMPREAD:
		EXECUTE("0xf2, 0x0f, 0x01, 0xfd", rax, "c" (&state));
		break;
	default:
		return -EINVAL;
	}
	/* Tests use no address as small as a result code. */
	op->eax = rax == op->spa ? SNP_HOST_UNDEFINED : rax;
	op->gpa = state.gpa;
	op->assigned = state.assigned;
	op->pagesize = state.pagesize;
	op->immutable = state.immutable;
	op->reserved = state.rsvd;
	op->asid = state.asid;
	return 0;
}

/*
 * All fprobes of a function share 32 words of the task's shadow stack. If they need more,
 * none is called, and each counts a miss.
 */
static const char *missed_symbols[] = { "psmash", "rmp_make_private", "rmp_make_shared" };

static void greedy_exit(struct fprobe *fp, unsigned long entry_ip, unsigned long ret_ip,
			struct ftrace_regs *regs, void *data)
{
}

static struct fprobe greedy[] = {
	{ .exit_handler = greedy_exit, .entry_data_size = MAX_FPROBE_DATA_SIZE },
	{ .exit_handler = greedy_exit, .entry_data_size = MAX_FPROBE_DATA_SIZE },
	{ .exit_handler = greedy_exit, .entry_data_size = MAX_FPROBE_DATA_SIZE },
};

static DEFINE_MUTEX(greedy_lock);
static struct guest *missing;

static void stop_missing(struct guest *guest)
{
	mutex_lock(&greedy_lock);
	if (missing == guest) {
		for (unsigned int i = 0; i < ARRAY_SIZE(greedy); i++)
			unregister_fprobe(&greedy[i]);
		missing = NULL;
	}
	mutex_unlock(&greedy_lock);
}

static int start_missing(struct guest *guest)
{
	unsigned int i;
	int ret = 0;

	mutex_lock(&greedy_lock);
	if (missing)
		ret = -EBUSY;
	for (i = 0; !ret && i < ARRAY_SIZE(greedy); i++)
		ret = register_fprobe_syms(&greedy[i], missed_symbols,
					   ARRAY_SIZE(missed_symbols));
	if (!ret) {
		missing = guest;
	} else if (i) {
		/* The last request was refused. */
		for (i--; i--;)
			unregister_fprobe(&greedy[i]);
	}
	mutex_unlock(&greedy_lock);
	return ret;
}

static int do_miss(struct guest *guest, const struct snp_host_miss *miss)
{
	if (miss->on)
		return start_missing(guest);
	stop_missing(guest);
	return 0;
}

static int do_panic(struct guest *guest, const struct snp_host_panic *panic)
{
	unsigned long smashed = panic->smashed / PAGE_SIZE, shared = panic->shared / PAGE_SIZE;

	if (smashed >= guest->nr || shared >= guest->nr)
		return -EINVAL;
	machine_panic(page_to_pfn(guest->pages[smashed]), page_to_pfn(guest->pages[shared]));
	return 0;
}

static long guest_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct guest *guest = file->private_data;
	union {
		struct snp_host_memory memory;
		struct snp_host_page page;
		struct snp_host_raw raw;
		struct snp_host_miss miss;
		struct snp_host_switch what;
		struct snp_host_queue queue;
		struct snp_host_panic panic;
	} u;
	long ret;

	if (_IOC_SIZE(cmd) > sizeof(u))
		return -ENOTTY;
	if (copy_from_user(&u, (void __user *)arg, _IOC_SIZE(cmd)))
		return -EFAULT;
	mutex_lock(&guest->lock);
	switch (cmd) {
	case SNP_HOST_MEMORY:
		ret = give_memory(guest, &u.memory);
		break;
	case SNP_HOST_PAGE:
		ret = do_page(guest, &u.page);
		break;
	case SNP_HOST_RAW:
		ret = do_raw(&u.raw);
		break;
	case SNP_HOST_MISS:
		ret = do_miss(guest, &u.miss);
		break;
	case SNP_HOST_SWITCH:
		ret = machine_switch(&u.what);
		break;
	case SNP_HOST_QUEUE:
		ret = machine_queue(&u.queue);
		break;
	case SNP_HOST_PANIC:
		ret = do_panic(guest, &u.panic);
		break;
	default:
		ret = -ENOTTY;
	}
	mutex_unlock(&guest->lock);
	if (!ret && copy_to_user((void __user *)arg, &u, _IOC_SIZE(cmd)))
		return -EFAULT;
	return ret;
}

/* Takes a page back, with its whole 2M if that is one entry. */
static int take_back(u64 pfn)
{
	u64 first = ALIGN_DOWN(pfn, PAGES_PER_2M);
	bool assigned, huge;
	int ret = find_entry(pfn, &assigned, &huge);

	if (ret || !assigned)
		return ret;
	if (huge)
		return make_shared(first, PG_LEVEL_2M);
	return make_shared(pfn, PG_LEVEL_4K);
}

static int guest_release(struct inode *inode, struct file *file)
{
	struct guest *guest = file->private_data;

	stop_missing(guest);
	for (unsigned long i = 0; i < guest->nr; i++) {
		/* A page that must not be written to must not be reused. */
		if (!take_back(page_to_pfn(guest->pages[i])))
			unpin_user_page(guest->pages[i]);
	}
	kvfree(guest->pages);
	kfree(guest);
	return 0;
}

static const struct file_operations guest_fops = {
	.owner = THIS_MODULE,
	.open = guest_open,
	.unlocked_ioctl = guest_ioctl,
	.release = guest_release,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = SNP_HOST_DEVICE,
	.fops = &guest_fops,
	.mode = 0600,
};

static int __init snp_host_init(void)
{
	int ret;

	if (!cc_platform_has(CC_ATTR_HOST_SEV_SNP))
		return -ENODEV;
	ret = snp_prepare();
	return ret ? ret : misc_register(&device);
}

static void __exit snp_host_exit(void)
{
	misc_deregister(&device);
}

module_init(snp_host_init);
module_exit(snp_host_exit);
MODULE_DESCRIPTION("Plays KVM's part on an SNP host, for the tests of vfio_pgsize");
MODULE_LICENSE("GPL");
