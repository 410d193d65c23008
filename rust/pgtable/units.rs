// SPDX-License-Identifier: GPL-2.0

//! Types of addresses and page sizes.

/// The size of the smallest page in bytes. All ranges are aligned to it.
pub const PAGE_BYTES: u64 = 1 << PAGE_LG2;

pub(super) const PAGE_LG2: u8 = 12;

/// One past the highest physical address that an entry can hold.
const PHYS_END: u64 = 1 << 52;

/// An I/O virtual address: the address that a device uses. Any 64-bit value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iova(u64);

impl Iova {
    /// The lowest address.
    pub const ZERO: Self = Self(0);

    /// The highest address.
    pub const MAX: Self = Self(u64::MAX);

    /// The address `value`.
    #[inline]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The address as a number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether the address is a multiple of `size`.
    #[inline]
    pub const fn is_aligned(self, size: PageSize) -> bool {
        self.0 & size.mask() == 0
    }

    /// The start of the aligned block of `size` that contains this address.
    #[inline]
    pub const fn align_down(self, size: PageSize) -> Self {
        Self(self.0 & !size.mask())
    }

    /// The last byte of the aligned block of `size` that contains this address.
    #[inline]
    pub const fn align_last(self, size: PageSize) -> Self {
        Self(self.0 | size.mask())
    }

    /// The address `bytes` higher, unless that overflows.
    #[inline]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The address after this one, if there is one.
    #[inline]
    pub const fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    /// The address before this one, if there is one.
    #[inline]
    pub const fn before(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// The distance in bytes from `lower` to this address; 0 if `lower` is higher.
    #[inline]
    pub const fn above(self, lower: Self) -> u64 {
        self.0.saturating_sub(lower.0)
    }
}

/// A physical address that a page-table entry can hold: below 2^52.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Phys(u64);

impl Phys {
    /// The address `value`; `None` if an entry cannot hold it.
    #[inline]
    pub const fn new(value: u64) -> Option<Self> {
        if value < PHYS_END {
            Some(Self(value))
        } else {
            None
        }
    }

    /// The address in the low 52 bits of `value`.
    #[inline]
    pub const fn from_low_bits(value: u64) -> Self {
        Self(value & (PHYS_END - 1))
    }

    /// The address as a number.
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether the address is a multiple of `size`.
    #[inline]
    pub const fn is_aligned(self, size: PageSize) -> bool {
        self.0 & size.mask() == 0
    }

    /// The address `bytes` higher, if an entry can hold it.
    #[inline]
    pub const fn checked_add(self, bytes: u64) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(sum) => Self::new(sum),
            None => None,
        }
    }

    /// The physical address of `iova`, if this is the physical address of `base`. The distance is
    /// added modulo 2^52.
    #[inline]
    pub const fn at(self, base: Iova, iova: Iova) -> Self {
        Self::from_low_bits(self.0.wrapping_add(iova.0.wrapping_sub(base.0)))
    }
}

/// A page size.
///
/// # Invariants
///
/// A power of two, from 2^12 to 2^63.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u8);

impl PageSize {
    /// 4 KiB: the smallest.
    pub const SIZE_4K: Self = Self(12);
    /// 2 MiB: what one entry of a level-1 table covers.
    pub const SIZE_2M: Self = Self(21);
    /// 1 GiB: what one entry of a level-2 table covers.
    pub const SIZE_1G: Self = Self(30);

    /// The size of `bytes`; `None` unless that is a power of two and at least 4096.
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes.is_power_of_two() {
            Self::from_lg2(low_u8(bytes.trailing_zeros()))
        } else {
            None
        }
    }

    /// The size of 2^`lg2` bytes; `None` unless that is at least 4096 and fits 64 bits.
    #[inline]
    pub const fn from_lg2(lg2: u8) -> Option<Self> {
        if lg2 >= PAGE_LG2 && lg2 < 64 {
            // INVARIANT: just checked.
            Some(Self(lg2))
        } else {
            None
        }
    }

    /// The size in bytes.
    #[inline]
    pub const fn bytes(self) -> u64 {
        1u64.wrapping_shl(self.0 as u32)
    }

    /// The binary logarithm of the size in bytes.
    #[inline]
    pub const fn lg2(self) -> u8 {
        self.0
    }

    /// The size in pages of 4096 bytes.
    #[inline]
    pub const fn pages(self) -> u64 {
        self.bytes() >> PAGE_LG2
    }

    /// The address bits that are an offset within a page of this size.
    #[inline]
    pub const fn mask(self) -> u64 {
        self.bytes().wrapping_sub(1)
    }
}

/// A set of page sizes, one bit for each size, as in `struct iommu_domain::pgsize_bitmap`. Bits
/// below 12 have no meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PageSizes(u64);

impl PageSizes {
    /// Every size.
    pub const ALL: Self = Self(u64::MAX);
    /// No size.
    pub const NONE: Self = Self(0);
    /// 4 KiB alone.
    pub const ONLY_4K: Self = Self::only(PageSize::SIZE_4K);

    /// The set whose bitmap is `bits`.
    #[inline]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The set of one size.
    #[inline]
    pub const fn only(size: PageSize) -> Self {
        Self(size.bytes())
    }

    /// The bitmap.
    #[inline]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the set holds no size.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 >> PAGE_LG2 == 0
    }

    /// Whether the set holds `size`.
    #[inline]
    pub const fn allows(self, size: PageSize) -> bool {
        self.0 & size.bytes() != 0
    }

    /// Whether the set holds every size of `other`.
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// The sizes that both sets hold.
    #[inline]
    pub const fn intersect(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The sizes that either set holds.
    #[inline]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The sizes of the set that are not larger than `limit`.
    #[inline]
    pub const fn up_to(self, limit: PageSize) -> Self {
        Self(self.0 & (limit.mask() | limit.bytes()))
    }

    /// The sizes of the set that are smaller than `limit`.
    #[inline]
    pub const fn below(self, limit: PageSize) -> Self {
        Self(self.0 & limit.mask())
    }

    /// The sizes of the set that are larger than `limit`.
    #[inline]
    pub const fn above(self, limit: PageSize) -> Self {
        Self(self.0 & !(limit.mask() | limit.bytes()))
    }

    /// The largest size of the set.
    #[inline]
    pub const fn largest(self) -> Option<PageSize> {
        match self.0.checked_ilog2() {
            Some(lg2) => PageSize::from_lg2(low_u8(lg2)),
            None => None,
        }
    }

    /// The smallest size of the set.
    #[inline]
    pub const fn smallest(self) -> Option<PageSize> {
        let sizes = self.0 & !(PAGE_BYTES - 1);

        if sizes == 0 {
            None
        } else {
            PageSize::from_lg2(low_u8(sizes.trailing_zeros()))
        }
    }

    /// The largest size of the set that is not larger than `limit`.
    #[inline]
    pub const fn largest_at_most(self, limit: PageSize) -> Option<PageSize> {
        self.up_to(limit).largest()
    }
}

/// The low eight bits: lossless for a result of `trailing_zeros` or `ilog2`.
#[inline]
const fn low_u8(value: u32) -> u8 {
    (value & 0xff) as u8
}

/// A number below 512 as an index. Lossless.
#[inline]
pub(super) const fn to_index(value: u64) -> usize {
    (value & 0x1ff) as usize
}
