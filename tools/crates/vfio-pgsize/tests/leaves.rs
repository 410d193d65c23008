// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Leaves and policies, against models by page.

use std::collections::BTreeMap;
use std::ptr::without_provenance_mut;

use proptest::prelude::*;

use vfio_pgsize::double::Double;
use vfio_pgsize::Change;
use vfio_pgsize::Container;
use vfio_pgsize::Error;
use vfio_pgsize::Follow;
use vfio_pgsize::IovaRange;
use vfio_pgsize::PageSizes;
use vfio_pgsize::Policy;
use vfio_pgsize::Scope;
use vfio_pgsize::State;
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::eventfd::EFD_NONBLOCK;

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;

fn map(container: &Double, range: IovaRange) {
    let memory = without_provenance_mut(0x7f00_0000_0000 + range.iova as usize);
    // SAFETY: the double does not access memory.
    unsafe { container.map(range, memory) }.unwrap();
}

/// Size and page size of all runs.
fn runs(container: &Double, range: IovaRange) -> Vec<(u64, Option<u64>)> {
    container
        .leaves(range)
        .map(|run| run.map(|run| (run.range().size, run.page_size())))
        .collect::<Result<_, _>>()
        .unwrap()
}

#[test]
fn policies_are_set_and_applied_and_inherited() {
    let container = Double::type1v2();
    let all = IovaRange::new(0, 4 * MIB);
    let first = IovaRange::new(0, 2 * MIB);
    let sizes = PageSizes::SIZE_4K | PageSizes::SIZE_2M;

    assert_eq!(container.policy().unwrap(), Policy::new(PageSizes::ALL));
    container
        .set_policy(Scope::Container, Policy::new(sizes))
        .unwrap();
    map(&container, all);
    assert_eq!(runs(&container, all), [(4 * MIB, Some(2 * MIB))]);

    // Set alone, it is for later maps.
    let small = Policy::new(PageSizes::SIZE_4K);
    container.set_policy(Scope::Range(first), small).unwrap();
    assert_eq!(runs(&container, all), [(4 * MIB, Some(2 * MIB))]);
    container.apply_policy(Scope::Range(first), small).unwrap();
    assert_eq!(
        runs(&container, all),
        [(2 * MIB, Some(PAGE)), (2 * MIB, Some(2 * MIB))]
    );

    let part = container.policy_at(MIB).unwrap();
    assert_eq!(
        (part.range.size, part.policy, part.is_inherited),
        (MIB, small, false)
    );
    let parts = container.policies().collect::<Result<Vec<_>, _>>().unwrap();
    let found: Vec<_> = parts
        .iter()
        .map(|part| (part.range.iova, part.is_inherited))
        .collect();
    assert_eq!(found, [(0, false), (2 * MIB, true)]);
    assert_eq!(container.info().unwrap().nr_ranges, 1);

    container.inherit_policy(first).unwrap();
    assert_eq!(runs(&container, all).len(), 2);
    container.apply_inherited_policy(first).unwrap();
    assert_eq!(runs(&container, all), [(4 * MIB, Some(2 * MIB))]);
    assert_eq!(container.info().unwrap().nr_ranges, 0);
    assert_eq!(container.policies().count(), 1);
}

#[test]
fn tracking_has_its_own_sizes() {
    let container = Double::pgsize();
    assert_eq!(container.tracking_sizes().unwrap(), PageSizes::SIZE_4K);
    let sizes = PageSizes::SIZE_4K | PageSizes::SIZE_2M;
    container.set_tracking_sizes(sizes).unwrap();
    assert_eq!(container.tracking_sizes().unwrap(), sizes);
    assert_eq!(container.policy().unwrap().sizes, PageSizes::ALL);
}

#[test]
fn the_info_is_read() {
    let container = Double::pgsize();
    map(&container, IovaRange::new(0, PAGE));
    let info = container.info().unwrap();
    assert!(info.supported.contains(PAGE) && !info.supported.contains(1 << 39));
    assert_eq!(info.sizes, PageSizes::ALL);
    assert_eq!((info.max_ranges, info.nr_ranges), (1024, 0));
    assert_eq!(info.available_mappings, Some(65534));
    assert_eq!(info.iova_ranges, [0..=0xfedf_ffff, 0xfef0_0000..=u64::MAX]);
    assert_eq!(container.domains().unwrap(), 1);
}

#[test]
fn an_eventfd_is_signalled() {
    let container = Double::pgsize();
    let event = EventFd::new(EFD_NONBLOCK).unwrap();
    container.set_eventfd(&event).unwrap();
    assert!(event.read().is_err());
    container.fall_back();
    assert_eq!(event.read().unwrap(), 1);
    assert_eq!(container.stats().unwrap().fallbacks, 1);
    container.clear_eventfd().unwrap();
    container.fall_back();
    assert!(event.read().is_err());
}

#[test]
fn leaves_are_of_one_domain_and_need_an_rmp_to_compare() {
    let container = Double::pgsize();
    let range = IovaRange::new(0, PAGE);
    let error = container
        .leaves(range)
        .mismatches()
        .next()
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, Error::NoRmp));
    let mut leaves = container.leaves(range).domain(1);
    assert!(leaves.next().unwrap().is_err());
    assert!(leaves.next().is_none());
}

#[test]
fn unmapping_a_part_wants_the_type_of_page_states() {
    let container = Double::type1v2();
    map(&container, IovaRange::new(0, 2 * MIB));
    let error = container.unmap(IovaRange::new(0, PAGE)).unwrap_err();
    assert!(matches!(error, Error::DividesMapping(_)), "{error}");
    assert_eq!(
        container.unmap(IovaRange::new(0, 4 * MIB)).unwrap(),
        2 * MIB
    );

    let container = Double::pgsize();
    map(&container, IovaRange::new(0, 2 * MIB));
    assert_eq!(container.unmap(IovaRange::new(MIB, PAGE)).unwrap(), PAGE);
    let size: u64 = runs(&container, IovaRange::new(0, 2 * MIB))
        .iter()
        .map(|run| run.0)
        .sum();
    assert_eq!(size, 2 * MIB - PAGE);
}

#[test]
fn a_run_is_printed() {
    let container = Double::pgsize();
    map(&container, IovaRange::new(2 * MIB, 4 * MIB));
    let run = container
        .leaves(IovaRange::new(0, 8 * MIB))
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(run.to_string(), "0x200000 0x400000 0x200000 rw (leaves: 2)");
    assert_eq!(run.count(), 2);
    assert!(run.is_readable() && run.is_writable() && !run.is_private());
}

/// Pages in a mapping of 4 MiB whose state changes.
fn changes() -> impl Strategy<Value = Vec<(u64, u64, bool)>> {
    prop::collection::vec((0..1024u64, 1..600u64, any::<bool>()), 0..40)
}

fn policies() -> impl Strategy<Value = Vec<(u64, u64, Option<u64>)>> {
    let sizes = prop::option::of((13u32..22).prop_map(|lg2| 1 << lg2));
    prop::collection::vec((0..1024u64, 1..600u64, sizes), 0..30)
}

proptest! {
    /// The iterator reports each page once, in order, in leaves that fit, however many calls it takes.
    #[test]
    fn runs_are_the_pages_that_are_shared(changes in changes()) {
        let container = Double::pgsize();
        let all = IovaRange::new(64 * MIB, 4 * MIB);
        let memory = without_provenance_mut(0x7f00_0000_0000);
        // SAFETY: the double does not access memory.
        unsafe { container.map_stateful(all, memory, State::Private) }.unwrap();
        let mut model = BTreeMap::new();
        for (first, pages, is_shared) in changes {
            let pages = pages.min(1024 - first);
            let state = if is_shared { State::Shared } else { State::Private };
            let range = IovaRange::new(all.iova + first * PAGE, pages * PAGE);
            container.set_state(&[Change::new(range, state)]).unwrap();
            (first..first + pages).for_each(|page| { model.insert(page, is_shared); });
        }
        // Every second page, so that there are more runs than one call reports.
        for page in (0..1024).step_by(2) {
            let range = IovaRange::new(all.iova + page * PAGE, PAGE);
            container.set_state(&[Change::new(range, State::Private)]).unwrap();
            model.insert(page, false);
        }
        let mut next = all.iova;
        for run in container.leaves(all).with_private() {
            let run = run.unwrap();
            prop_assert_eq!(run.range().iova, next);
            for page in (next..next + run.range().size).step_by(PAGE as usize) {
                let is_shared = model.get(&((page - all.iova) / PAGE)).copied().unwrap_or(false);
                prop_assert_eq!(run.is_private(), !is_shared);
            }
            if let Some(size) = run.page_size() {
                prop_assert_eq!(next % size, 0);
                prop_assert_eq!(run.range().size % size, 0);
            }
            next += run.range().size;
        }
        prop_assert_eq!(next, all.iova + all.size);
        let stats = container.stats().unwrap();
        prop_assert_eq!(stats.shared, model.values().filter(|shared| **shared).count() as u64 * PAGE);
        prop_assert_eq!(stats.stateful, all.size);
    }

    /// The parts cover all addresses in order, and each has the policy that was set last.
    #[test]
    fn parts_are_the_policies_that_were_set(policies in policies()) {
        let container = Double::pgsize();
        let mut model = BTreeMap::new();
        for (first, pages, size) in policies {
            let range = IovaRange::new(first * PAGE, pages * PAGE);
            match size {
                Some(size) => {
                    let sizes = PageSizes::SIZE_4K | PageSizes::from_bits(size);
                    container.set_policy(Scope::Range(range), Policy::new(sizes)).unwrap();
                }
                None => container.inherit_policy(range).unwrap(),
            }
            (first..first + pages).for_each(|page| { model.insert(page, size); });
        }
        let mut next = 0;
        for part in container.policies() {
            let part = part.unwrap();
            prop_assert_eq!(part.range.iova, next);
            prop_assert_eq!(part.policy.follow, Follow::No);
            next = next.wrapping_add(part.range.size);
            for page in part.range.iova / PAGE..(part.range.iova / PAGE + 2000).min(next.wrapping_sub(1) / PAGE) {
                let size = model.get(&page).copied().flatten();
                prop_assert_eq!(part.is_inherited, size.is_none());
                if let Some(size) = size {
                    prop_assert!(part.policy.sizes.contains(size));
                }
            }
        }
        // Up to 2^64; one policy everywhere is 4096 bytes short of that.
        prop_assert!(next == 0 || next == 0u64.wrapping_sub(PAGE));
    }
}
