# SPDX-License-Identifier: GPL-2.0
"""AMD's device-table entry and host page table (AMD I/O Virtualization
Technology Specification, 2.2.2.1 and 2.2.3).

Levels are numbered as the specification does: level 1 holds 4K entries, and a
device-table entry of mode N points at a table of level N.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

PAGE = 4096
ENTRIES = PAGE // 8
HIGHEST_LEVEL = 6

PRESENT = 1 << 0
ACCESSED = 1 << 5
DIRTY = 1 << 6
NEXT_LEVEL_SHIFT = 9
NEXT_LEVEL_MASK = 7 << NEXT_LEVEL_SHIFT
ADDRESS_MASK = ((1 << 52) - 1) & ~(PAGE - 1)
FORCE_COHERENT = 1 << 60
READ = 1 << 61
WRITE = 1 << 62

PLAIN_LEAF = 0  # "next level" of a leaf with its level's own size
SIZED_LEAF = 7  # "next level" of a leaf whose size is in its address

TABLE_BITS = PRESENT | ACCESSED | NEXT_LEVEL_MASK | ADDRESS_MASK | READ | WRITE
LEAF_BITS = TABLE_BITS | DIRTY | FORCE_COHERENT
# Bits that the IOMMU may set in one entry of a leaf alone.
HARDWARE_SETS = ACCESSED | DIRTY

DTE_SIZE = 32

# Reads the 4096 bytes at a page-aligned guest-physical address.
ReadPage = Callable[[int], bytes]


class Leaf(NamedTuple):
    """An entry (or several equal ones) that translates."""

    iova: int
    phys: int
    size: int
    read: bool
    write: bool


@dataclass(frozen=True)
class DeviceEntry:
    """A device-table entry: how the IOMMU treats one device."""

    valid: bool
    translation_valid: bool
    mode: int
    root: int
    read: bool
    write: bool
    domain_id: int

    @classmethod
    def decode(cls, raw: bytes) -> "DeviceEntry":
        low, high, _, _ = struct.unpack("<4Q", raw)
        return cls(
            valid=bool(low & 1),
            translation_valid=bool(low & 2),
            mode=low >> 9 & 7,
            root=low & ADDRESS_MASK,
            read=bool(low & READ),
            write=bool(low & WRITE),
            domain_id=high & 0xFFFF,
        )


@dataclass
class Walk:
    """All that one device-table entry leads to."""

    leaves: list[Leaf] = field(default_factory=list)
    tables: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def entry_size(level: int) -> int:
    """Bytes of IOVA that one entry of a table of this level covers."""
    return PAGE << 9 * (level - 1)


def sized_leaf_size(entry: int) -> int:
    """Size coded in a leaf's address: the lowest 0 from bit 12 up, doubled."""
    frame = (entry & ADDRESS_MASK) >> 12
    zero = (frame + 1) & ~frame
    return zero << 13


def walk_device(entry: DeviceEntry, read_page: ReadPage) -> Walk:
    """The leaves of a device, in rising IOVA order."""
    walk = Walk()
    if not entry.valid:
        walk.problems.append("device entry is not valid: DMA passes untranslated")
    elif not entry.translation_valid:
        walk.problems.append("device entry holds no valid translation")
    elif entry.mode == 0:
        if entry.read or entry.write:
            walk.problems.append("device entry has mode 0: DMA passes untranslated")
    elif entry.mode > HIGHEST_LEVEL:
        walk.problems.append(f"device entry has the reserved mode {entry.mode}")
    else:
        walk_table(walk, read_page, entry.mode, entry.root, 0, entry.read, entry.write)
    return walk


def walk_table(
    walk: Walk,
    read_page: ReadPage,
    level: int,
    table: int,
    base: int,
    read: bool,
    write: bool,
) -> None:
    """Add the contents of the table at `table`, which covers IOVA from `base` on, to `walk`."""
    if table in walk.tables:
        walk.problems.append(f"table {table:#x} is used twice, again at iova {base:#x}")
        return
    walk.tables.append(table)
    entries = struct.unpack(f"<{ENTRIES}Q", read_page(table))
    step = entry_size(level)
    index = 0
    while index < ENTRIES:
        entry = entries[index]
        if not entry:
            index += 1
            continue
        iova = base + index * step
        if not entry & PRESENT:
            walk.problems.append(f"entry {entry:#x} at iova {iova:#x} is not present but not 0")
            index += 1
        elif iova >= 1 << 64:
            walk.problems.append(f"entry {entry:#x} lies beyond the last iova")
            index += 1
        elif level == 1 or entry & NEXT_LEVEL_MASK in (
            PLAIN_LEAF,
            SIZED_LEAF << NEXT_LEVEL_SHIFT,
        ):
            index += add_leaf(walk, entries, index, level, iova, read, write)
        else:
            descend(walk, read_page, entry, level, iova, read, write)
            index += 1


def descend(
    walk: Walk,
    read_page: ReadPage,
    entry: int,
    level: int,
    iova: int,
    read: bool,
    write: bool,
) -> None:
    """Follow an entry that points to the table of the next lower level."""
    next_level = (entry & NEXT_LEVEL_MASK) >> NEXT_LEVEL_SHIFT
    where = f"level-{level} entry {entry:#x} at iova {iova:#x}"
    if next_level != level - 1:
        walk.problems.append(f"{where} points at level {next_level}")
        return
    if entry & ~TABLE_BITS:
        walk.problems.append(f"{where} points at a table and has reserved bits set")
    walk_table(
        walk,
        read_page,
        next_level,
        entry & ADDRESS_MASK,
        iova,
        read and bool(entry & READ),
        write and bool(entry & WRITE),
    )


def add_leaf(
    walk: Walk,
    entries: tuple[int, ...],
    index: int,
    level: int,
    iova: int,
    read: bool,
    write: bool,
) -> int:
    """Add the leaf that starts at `index`. Returns the number of its entries."""
    entry = entries[index]
    step = entry_size(level)
    size = step
    count = 1
    phys = entry & ADDRESS_MASK
    where = f"level-{level} leaf {entry:#x} at iova {iova:#x}"
    next_level = (entry & NEXT_LEVEL_MASK) >> NEXT_LEVEL_SHIFT
    if entry & ~LEAF_BITS:
        walk.problems.append(f"{where} has reserved bits set")
    if level == HIGHEST_LEVEL:
        walk.problems.append(f"{where}: level {level} can hold no leaf")
    if next_level == SIZED_LEAF:
        size = sized_leaf_size(entry)
        phys &= ~(size - 1)
        if size <= step or size >= step * ENTRIES:
            walk.problems.append(f"{where} codes the size {size:#x}, not one of its level")
            return 1
        count = size // step
        if index % count:
            walk.problems.append(f"{where} of size {size:#x} is not aligned to its size")
            return 1
        expected = entry & ~HARDWARE_SETS
        run = entries[index : index + count]
        odd = [n for n, other in enumerate(run) if other & ~HARDWARE_SETS != expected]
        if odd:
            walk.problems.append(
                f"{where} of size {size:#x}: entry {odd[0]} of the run is {run[odd[0]]:#x}"
            )
            return count
    elif next_level != PLAIN_LEAF:
        walk.problems.append(f"{where} has next level {next_level}")
        return 1
    if phys % size:
        walk.problems.append(f"{where} of size {size:#x} has the misaligned address {phys:#x}")
    leaf_read = read and bool(entry & READ)
    leaf_write = write and bool(entry & WRITE)
    if not leaf_read and not leaf_write:
        walk.problems.append(f"{where} is present but allows nothing")
    walk.leaves.append(Leaf(iova, phys, size, leaf_read, leaf_write))
    return count
