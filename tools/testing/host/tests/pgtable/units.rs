// SPDX-License-Identifier: GPL-2.0

//! Bounds of addresses, sizes and ranges.

use pgtable_host::pgtable::{
    Iova,
    IovaRange,
    PageSize,
    PageSizes,
    Phys, //
};

fn range(first: u64, last: u64) -> Option<IovaRange> {
    IovaRange::new(Iova::new(first), Iova::new(last))
}

#[test]
fn page_size_is_a_power_of_two_of_at_least_4k() {
    for lg2 in 0..64u8 {
        let bytes = 1u64 << lg2;
        let size = PageSize::new(bytes);
        assert_eq!(size.is_some(), lg2 >= 12);
        assert_eq!(size, PageSize::from_lg2(lg2));
        assert_eq!(size.map_or(bytes, PageSize::bytes), bytes);
        if bytes > 2 {
            assert_eq!(PageSize::new(bytes - 1), None);
            assert_eq!(PageSize::new(bytes + 1), None);
        }
    }
    assert_eq!(PageSize::new(0), None);
    assert_eq!(PageSize::from_lg2(64), None);
    assert_eq!(PageSize::from_lg2(u8::MAX), None);
    assert_eq!(PageSize::SIZE_2M.pages(), 512);
}

#[test]
fn set_of_sizes_is_a_bitmap() {
    for bits in [0, 1, 0xfff, 0x1000, 0x4020_1000, 1 << 63, u64::MAX] {
        let set = PageSizes::from_bits(bits);
        let members = || (12..64).filter(|lg2| bits & (1 << lg2) != 0);
        let size = |lg2: u8| PageSize::from_lg2(lg2).unwrap();
        assert_eq!(set.bits(), bits);
        assert_eq!(set.is_empty(), members().next().is_none());
        assert_eq!(set.largest(), members().next_back().map(size));
        assert_eq!(set.smallest(), members().next().map(size));
        for limit in 12..64 {
            let most = members().filter(|lg2| *lg2 <= limit).max().map(size);
            let limit = size(limit);
            assert_eq!(set.largest_at_most(limit), most);
            assert_eq!(set.allows(limit), most == Some(limit));
            assert_eq!(set.up_to(limit).union(set.above(limit)), set);
            assert!(!set.below(limit).allows(limit) && !set.above(limit).allows(limit));
        }
    }
    assert!(PageSizes::ALL.contains(PageSizes::ONLY_4K));
    assert!(!PageSizes::ONLY_4K.contains(PageSizes::ALL));
}

#[test]
fn range_is_whole_pages_and_may_end_where_addresses_end() {
    assert!(range(0, 0xfff).is_some());
    assert!(range(0, 0x1000).is_none());
    assert!(range(0, 0xffe).is_none());
    assert!(range(1, 0xfff).is_none());
    assert!(range(0x1000, 0xfff).is_none());
    assert_eq!(range(0, u64::MAX), Some(IovaRange::ALL));

    let top = Iova::new(u64::MAX - 0xfff);
    assert_eq!(
        IovaRange::with_len(top, 0x1000),
        range(u64::MAX - 0xfff, u64::MAX)
    );
    assert_eq!(IovaRange::with_len(top, 0x2000), None);
    assert_eq!(IovaRange::with_len(top, 0), None);
    assert_eq!(IovaRange::ALL.bytes(), None);
    assert_eq!(IovaRange::ALL.pages(), 1 << 52);
    assert_eq!(
        range(0x1000, 0x2fff).and_then(IovaRange::bytes),
        Some(0x2000)
    );
}

#[test]
fn ranges_meet_and_join() {
    let (low, high) = (
        range(0x1000, 0x3fff).unwrap(),
        range(0x3000, 0x5fff).unwrap(),
    );
    assert_eq!(low.intersect(high), range(0x3000, 0x3fff));
    assert_eq!(low.hull(high), range(0x1000, 0x5fff).unwrap());
    assert_eq!(low.from(Iova::new(0)), Some(low));
    assert_eq!(low.from(Iova::new(0x3000)), range(0x3000, 0x3fff));
    assert_eq!(low.from(Iova::new(0x4000)), None);
    assert_eq!(low.behind(Iova::new(0xfff)), Some(low));
    assert_eq!(low.behind(Iova::new(0x2fff)), range(0x3000, 0x3fff));
    assert_eq!(low.behind(Iova::new(0x3fff)), None);
    assert_eq!(low.behind(Iova::MAX), None);
    assert_eq!(low.intersect(range(0x4000, 0x4fff).unwrap()), None);
    assert!(low.covers(low) && !low.covers(high));
    assert!(low.contains(Iova::new(0x3fff)) && !low.contains(Iova::new(0x4000)));
}

#[test]
fn physical_address_fits_an_entry() {
    assert!(Phys::new((1 << 52) - 1).is_some());
    assert!(Phys::new(1 << 52).is_none());
    let last = Phys::new((1 << 52) - 0x1000).unwrap();
    assert_eq!(last.checked_add(0x1000), None);
    assert_eq!(last.checked_add(0xfff), Phys::new((1 << 52) - 1));
    assert_eq!(last.checked_add(u64::MAX), None);
}
