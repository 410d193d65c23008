# SPDX-License-Identifier: GPL-2.0
"""Builds AMDv1 page tables in simulated memory, entry by entry."""

import struct
from typing import Any

from oracle.amdv1 import DeviceEntry, Walk, walk_device

PR = 1
RW = 3 << 61
R = 1 << 61
W = 1 << 62


class Table:
    """Memory that holds one device's page table."""

    def __init__(self, mode: int = 3):
        self.mode = mode
        self.pages: dict[int, list[int]] = {}
        self._free = 0x100000
        self.root = self.new_page()

    def new_page(self) -> int:
        page = self._free
        self._free += 0x1000
        self.pages[page] = [0] * 512
        return page

    def page_for(self, iova: int, level: int) -> int:
        """The table of this level that covers `iova`, created if needed."""
        table = self.root
        for above in range(self.mode, level, -1):
            index = iova >> 12 + 9 * (above - 1) & 511
            if not self.pages[table][index]:
                self.pages[table][index] = PR | (above - 1) << 9 | self.new_page() | RW
            table = self.pages[table][index] & 0xFFFFFFFFFF000
        return table

    def put(self, iova: int, level: int, entry: int, count: int = 1) -> None:
        """Store `entry` `count` times from `iova` on."""
        index = iova >> 12 + 9 * (level - 1) & 511
        page = self.pages[self.page_for(iova, level)]
        page[index : index + count] = [entry] * count

    def map(self, iova: int, phys: int, size: int, bits: int = RW) -> None:
        """Map one leaf of `size`, a power of two from 4K, in the format."""
        level = 1
        while size >= 0x1000 << 9 * level:
            level += 1
        step = 0x1000 << 9 * (level - 1)
        if size == step:
            self.put(iova, level, PR | phys | bits)
        else:
            ones = (size >> 1) - 0x1000
            self.put(iova, level, PR | 7 << 9 | phys | ones | bits, size // step)

    def entry(self, **change: Any) -> DeviceEntry:
        fields: dict[str, Any] = {
            "valid": True,
            "translation_valid": True,
            "mode": self.mode,
            "root": self.root,
            "read": True,
            "write": True,
            "domain_id": 1,
        }
        return DeviceEntry(**(fields | change))

    def walk(self, **change: Any) -> Walk:
        return walk_device(
            self.entry(**change), lambda page: struct.pack("<512Q", *self.pages[page])
        )
