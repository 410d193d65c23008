// SPDX-License-Identifier: GPL-2.0
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "debugfs.h"
#include "rmp/hook.h"

/* A decimal number. */
#define NAME_SIZE	24

static int policy_show(struct seq_file *seq, void *unused)
{
	return pgsize_debug_policy(seq, seq->private);
}
DEFINE_SHOW_ATTRIBUTE(policy);

static int leaves_show(struct seq_file *seq, void *unused)
{
	return pgsize_debug_leaves(seq, seq->private);
}
DEFINE_SHOW_ATTRIBUTE(leaves);

static int counters_show(struct seq_file *seq, void *unused)
{
	return pgsize_debug_counters(seq, seq->private);
}
DEFINE_SHOW_ATTRIBUTE(counters);

static int owner_show(struct seq_file *seq, void *unused)
{
	return pgsize_debug_owner(seq, seq->private);
}
DEFINE_SHOW_ATTRIBUTE(owner);

static int mismatches_show(struct seq_file *seq, void *unused)
{
	return pgsize_debug_mismatches(seq, seq->private);
}
DEFINE_SHOW_ATTRIBUTE(mismatches);

static struct dentry *root;

void pgsize_debug_init(void)
{
	root = debugfs_create_dir("vfio_pgsize", NULL);
	debugfs_create_u32("followers", 0400, root, &pgsize_followers);
	debugfs_create_u32("hooked", 0400, root, &pgsize_hooked);
}

void pgsize_debug_exit(void)
{
	debugfs_remove(root);
}

void pgsize_debug_show(u64 id, void *container)
{
	char name[NAME_SIZE];
	struct dentry *dir;

	snprintf(name, sizeof(name), "%llu", id);
	dir = debugfs_create_dir(name, root);
	debugfs_create_file("policy", 0400, dir, container, &policy_fops);
	debugfs_create_file("leaves", 0400, dir, container, &leaves_fops);
	debugfs_create_file("counters", 0400, dir, container, &counters_fops);
	debugfs_create_file("owner", 0400, dir, container, &owner_fops);
	debugfs_create_file("mismatches", 0400, dir, container, &mismatches_fops);
}

void pgsize_debug_hide(u64 id)
{
	char name[NAME_SIZE];

	snprintf(name, sizeof(name), "%llu", id);
	debugfs_lookup_and_remove(name, root);
}
