/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The nodes of a watch: in the rmap, a tree by frames of all watches, and in the
 * tree of its domain by IOVA. A terabyte can have half a million of them, so they are small.
 */
#ifndef VFIO_PGSIZE_PLACES_H
#define VFIO_PGSIZE_PLACES_H

#include <linux/rbtree_types.h>
#include <linux/types.h>

struct pgsize_place {
	struct rb_node by_frame;
	struct rb_node by_iova;
	u64 iova;		/* of the first block */
	u32 first, last;	/* blocks of 2M, of physical memory */
	u32 subtree_last;
	u8 marks[4];		/* for the owner */
};

/* The rmap lock, irq-safe. Everybody who edits leaves that follow the RMP holds it. */
unsigned long pgsize_rmap_lock(void);
void pgsize_rmap_unlock(unsigned long flags);

/* The rmap. Call with its lock held. */
void pgsize_rmap_insert(struct pgsize_place *place);
void pgsize_rmap_remove(struct pgsize_place *place);
/* The first, and the next, that contains any block from `first` to `last`; NULL: none. */
struct pgsize_place *pgsize_rmap_first(u32 first, u32 last);
struct pgsize_place *pgsize_rmap_next(struct pgsize_place *place, u32 first, u32 last);

/* The tree of a domain, without overlaps. */
void pgsize_places_insert(struct rb_root *root, struct pgsize_place *place);
void pgsize_places_remove(struct rb_root *root, struct pgsize_place *place);
/* The first that does not end before `iova`; NULL: none. */
struct pgsize_place *pgsize_places_from(const struct rb_root *root, u64 iova);

/* A slab cache for objects of exactly `size` bytes. */
int pgsize_places_init(unsigned int size);
void pgsize_places_exit(void);
/* May sleep. */
void *pgsize_places_alloc(void);
void pgsize_places_free(void *object);

#endif
