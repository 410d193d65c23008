// SPDX-License-Identifier: GPL-2.0
#include <linux/interval_tree_generic.h>
#include <linux/rbtree.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "places.h"
#include "sys/testing.h"

static DEFINE_SPINLOCK(rmap_lock);

unsigned long pgsize_rmap_lock(void)
{
	unsigned long flags;

	spin_lock_irqsave(&rmap_lock, flags);
#ifdef VFIO_PGSIZE_TEST
	pgsize_lock_taken();
#endif
	return flags;
}

void pgsize_rmap_unlock(unsigned long flags)
{
#ifdef VFIO_PGSIZE_TEST
	pgsize_lock_held();
#endif
	spin_unlock_irqrestore(&rmap_lock, flags);
}

#define FIRST(place)	((place)->first)
#define LAST(place)	((place)->last)

INTERVAL_TREE_DEFINE(struct pgsize_place, by_frame, u32, subtree_last, FIRST, LAST, static, frames)

static struct rb_root_cached rmap = RB_ROOT_CACHED;

void pgsize_rmap_insert(struct pgsize_place *place)
{
	frames_insert(place, &rmap);
}

void pgsize_rmap_remove(struct pgsize_place *place)
{
	frames_remove(place, &rmap);
}

struct pgsize_place *pgsize_rmap_first(u32 first, u32 last)
{
	return frames_iter_first(&rmap, first, last);
}

struct pgsize_place *pgsize_rmap_next(struct pgsize_place *place, u32 first, u32 last)
{
	return frames_iter_next(place, first, last);
}

#define by_iova_entry(node) rb_entry(node, struct pgsize_place, by_iova)

static bool is_below(struct rb_node *node, const struct rb_node *other)
{
	return by_iova_entry(node)->iova < by_iova_entry(other)->iova;
}

void pgsize_places_insert(struct rb_root *root, struct pgsize_place *place)
{
	rb_add(&place->by_iova, root, is_below);
}

void pgsize_places_remove(struct rb_root *root, struct pgsize_place *place)
{
	rb_erase(&place->by_iova, root);
}

static u64 last_iova(const struct pgsize_place *place)
{
	return place->iova + ((u64)(place->last - place->first) + 1) * SZ_2M - 1;
}

struct pgsize_place *pgsize_places_from(const struct rb_root *root, u64 iova)
{
	struct rb_node *node = root->rb_node;
	struct pgsize_place *found = NULL;

	while (node) {
		struct pgsize_place *place = by_iova_entry(node);

		if (last_iova(place) < iova) {
			node = node->rb_right;
		} else {
			found = place;
			node = node->rb_left;
		}
	}
	return found;
}

static struct kmem_cache *cache;

int pgsize_places_init(unsigned int size)
{
	cache = kmem_cache_create("vfio_pgsize_watch", size, __alignof__(struct pgsize_place), 0,
				  NULL);
	return cache ? 0 : -ENOMEM;
}

void pgsize_places_exit(void)
{
	kmem_cache_destroy(cache);
}

void *pgsize_places_alloc(void)
{
	return kmem_cache_alloc(cache, GFP_KERNEL_ACCOUNT);
}

void pgsize_places_free(void *object)
{
	kmem_cache_free(cache, object);
}
