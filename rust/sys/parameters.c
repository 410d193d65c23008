// SPDX-License-Identifier: GPL-2.0
/*
 * In C, because Rust's module! has no writable parameters, and no bool parameters before
 * Linux 7.3. Two parameters have the name and meaning of vfio_iommu_type1's. `make check`
 * compares the tables in README.md and Documentation/admin-guide.rst with this file.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bits.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include <linux/vfio_pgsize.h>

#include "parameters.h"
#include "release.h"

MODULE_VERSION(PGSIZE_RELEASE);

/* Says what to write instead of `text`, which may end in a newline. Returns -EINVAL. */
static int refuse(const char *text, const struct kernel_param *param, const char *remedy)
{
	pr_err("%s=%.*s: %s\n", param->name, (int)strcspn(text, "\n"), text, remedy);
	return -EINVAL;
}

static int set_flag(const char *text, const struct kernel_param *param)
{
	return param_set_bool(text, param) ? refuse(text, param, "give Y or N") : 0;
}

static const struct kernel_param_ops flag_ops = {
	.flags = KERNEL_PARAM_OPS_FL_NOARG,
	.set = set_flag,
	.get = param_get_bool,
};

static bool serve_type1;
module_param_cb(serve_type1, &flag_ops, &serve_type1, 0444);
__MODULE_PARM_TYPE(serve_type1, "bool");
MODULE_PARM_DESC(serve_type1,
		 "Serve VFIO_TYPE1_IOMMU too, ahead of vfio_iommu_type1 (default: N)");

static bool serve_type1v2;
module_param_cb(serve_type1v2, &flag_ops, &serve_type1v2, 0444);
__MODULE_PARM_TYPE(serve_type1v2, "bool");
MODULE_PARM_DESC(serve_type1v2,
		 "Serve VFIO_TYPE1v2_IOMMU too, ahead of vfio_iommu_type1 (default: N)");

static bool allow_unsafe_interrupts;
module_param_cb(allow_unsafe_interrupts, &flag_ops, &allow_unsafe_interrupts, 0644);
__MODULE_PARM_TYPE(allow_unsafe_interrupts, "bool");
MODULE_PARM_DESC(allow_unsafe_interrupts,
		 "Take devices without interrupt isolation (default: N)");

static int set_entry_limit(const char *text, const struct kernel_param *param)
{
	if (param_set_uint_minmax(text, param, 1, UINT_MAX))
		return refuse(text, param, "give a number of mappings, 1 to 4294967295");
	return 0;
}

static const struct kernel_param_ops entry_limit_ops = {
	.set = set_entry_limit,
	.get = param_get_uint,
};

static unsigned int dma_entry_limit = U16_MAX;
module_param_cb(dma_entry_limit, &entry_limit_ops, &dma_entry_limit, 0644);
__MODULE_PARM_TYPE(dma_entry_limit, "uint");
MODULE_PARM_DESC(dma_entry_limit, "Mappings that a container can have (default: 65535)");

static bool join_mappings;
module_param_cb(join_mappings, &flag_ops, &join_mappings, 0644);
__MODULE_PARM_TYPE(join_mappings, "bool");
MODULE_PARM_DESC(join_mappings,
		 "Join mappings of up to 32M in containers of type1 and type1v2 (default: N)");

static int set_joined_limit(const char *text, const struct kernel_param *param)
{
	if (param_set_uint_minmax(text, param, 0, UINT_MAX))
		return refuse(text, param, "give a number of mappings, 0 to 4294967295");
	return 0;
}

static const struct kernel_param_ops joined_limit_ops = {
	.set = set_joined_limit,
	.get = param_get_uint,
};

static unsigned int joined_entry_limit = U16_MAX;
module_param_cb(joined_entry_limit, &joined_limit_ops, &joined_entry_limit, 0644);
__MODULE_PARM_TYPE(joined_entry_limit, "uint");
MODULE_PARM_DESC(joined_entry_limit,
		 "Joined mappings that a container can have (default: 65535)");

static int set_reserve_tables(const char *text, const struct kernel_param *param)
{
	if (param_set_uint_minmax(text, param, 0, PGSIZE_RESERVE_MAX))
		return refuse(text, param,
			      "give a number of tables, at most " __stringify(PGSIZE_RESERVE_MAX));
	return 0;
}

static const struct kernel_param_ops reserve_tables_ops = {
	.set = set_reserve_tables,
	.get = param_get_uint,
};

static unsigned int reserve_tables = 32;
module_param_cb(reserve_tables, &reserve_tables_ops, &reserve_tables, 0444);
__MODULE_PARM_TYPE(reserve_tables, "uint");
MODULE_PARM_DESC(reserve_tables,
		 "Page tables kept ready for each container that follows the RMP, at most 1024 (default: 32)");

/* What a set of leaf sizes can consist of, in any format: 4K to 2P. */
#define LEAF_SIZES	GENMASK_ULL(51, 12)

/* More characters of a number overflow. */
#define NUMBER_SIZE	18

static u64 default_pgsizes = VFIO_PGSIZE_ALL;

/* Sizes, or sets of them: 4K,2M is the same as 0x201000. 0 if it is wrong. */
static u64 parse_sizes(const char *text)
{
	u64 sizes = 0, more;
	char *end;

	if (sysfs_streq(text, "all"))
		return VFIO_PGSIZE_ALL;
	for (;; text = end + 1) {
		more = memparse(text, &end);
		if (!more || end - text > NUMBER_SIZE)
			return 0;
		sizes |= more;
		if (*end != ',')
			break;
	}
	return sysfs_streq(end, "") && sizes & SZ_4K && !(sizes & ~LEAF_SIZES) ? sizes : 0;
}

static int set_default_pgsizes(const char *text, const struct kernel_param *param)
{
	u64 sizes = parse_sizes(text);

	if (!sizes)
		return refuse(text, param,
			      "give all, or leaf sizes from 4K to 2P, 4K among them, as in 4K,2M");
	WRITE_ONCE(default_pgsizes, sizes);
	return 0;
}

int pgsize_default_pgsizes_text(char *text, size_t room)
{
	static const char units[] = "KMGTP";
	u64 sizes = READ_ONCE(default_pgsizes);
	int length = 0;

	if (sizes == VFIO_PGSIZE_ALL)
		return scnprintf(text, room, "all");
	for (int lg2 = 12; lg2 < 52; lg2++) {
		if (sizes & BIT_ULL(lg2))
			length += scnprintf(text + length, room - length, "%s%u%c",
					    length ? "," : "", 1U << lg2 % 10, units[lg2 / 10 - 1]);
	}
	return length;
}

static int get_default_pgsizes(char *text, const struct kernel_param *param)
{
	int length = pgsize_default_pgsizes_text(text, PAGE_SIZE);

	return length + scnprintf(text + length, PAGE_SIZE - length, "\n");
}

static const struct kernel_param_ops default_pgsizes_ops = {
	.set = set_default_pgsizes,
	.get = get_default_pgsizes,
};

module_param_cb(default_pgsizes, &default_pgsizes_ops, NULL, 0644);
__MODULE_PARM_TYPE(default_pgsizes, "sizes");
MODULE_PARM_DESC(default_pgsizes,
		 "Leaf sizes in containers whose VMM sets no policy: all, or such as 4K,2M (default: all)");

static bool default_follow;
module_param_cb(default_follow, &flag_ops, &default_follow, 0644);
__MODULE_PARM_TYPE(default_follow, "bool");
MODULE_PARM_DESC(default_follow,
		 "On an SNP host, leaves in such containers follow the RMP (default: N)");

bool pgsize_serve_type1(void)
{
	return serve_type1;
}

bool pgsize_serve_type1v2(void)
{
	return serve_type1v2;
}

bool pgsize_allow_unsafe_interrupts(void)
{
	return READ_ONCE(allow_unsafe_interrupts);
}

unsigned int pgsize_dma_entry_limit(void)
{
	return READ_ONCE(dma_entry_limit);
}

bool pgsize_join_mappings(void)
{
	return READ_ONCE(join_mappings);
}

unsigned int pgsize_joined_entry_limit(void)
{
	return READ_ONCE(joined_entry_limit);
}

unsigned int pgsize_reserve_tables(void)
{
	return reserve_tables;
}

u64 pgsize_default_pgsizes(void)
{
	return READ_ONCE(default_pgsizes);
}

bool pgsize_default_follow(void)
{
	return READ_ONCE(default_follow);
}
