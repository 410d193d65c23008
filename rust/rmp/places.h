/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where a followed contiguous run is: in the tree of all, by its frames, which is the
 * rmap, and in the tree of its domain, by its IOVAs. There may be half a million
 * of them for each terabyte, so they are small.
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
	u8 marks[4];		/* the owner's */
};

/*
 * The lock of the rmap, irq-safe, which everybody takes to edit leaves that are
 * followed.
 */
unsigned long pgsize_rmap_lock(void);
void pgsize_rmap_unlock(unsigned long flags);

/* The rmap: its lock is held. */
void pgsize_rmap_insert(struct pgsize_place *place);
void pgsize_rmap_remove(struct pgsize_place *place);
/* The first, and the next, that has any block from `first` to `last`; NULL: there is none. */
struct pgsize_place *pgsize_rmap_first(u32 first, u32 last);
struct pgsize_place *pgsize_rmap_next(struct pgsize_place *place, u32 first, u32 last);

/* A domain's, of which no two overlap. */
void pgsize_places_insert(struct rb_root *root, struct pgsize_place *place);
void pgsize_places_remove(struct rb_root *root, struct pgsize_place *place);
/* The first that does not end before `iova`; NULL: there is none. */
struct pgsize_place *pgsize_places_from(const struct rb_root *root, u64 iova);

/* Memory for objects of `size` bytes, and no more than that. */
int pgsize_places_init(unsigned int size);
void pgsize_places_exit(void);
/* May sleep. */
void *pgsize_places_alloc(void);
void pgsize_places_free(void *object);

#endif
