# SPDX-License-Identifier: GPL-2.0
"""The reverse map table of an SNP host, read from outside.

The table is in the machine's memory. A QEMU object gives its place, and counts
events. The format of an entry is that of Zen 3 and Zen 4, as in Linux's
arch/x86/virt/svm/sev.c: 16K for the processor, then 16 bytes for each page.
"""

from collections.abc import Callable
from typing import NamedTuple

QEMU_OBJECT = "/machine/snp-rmp"
BOOKKEEPING = 0x4000
ENTRY_SIZE = 16
PAGE = 4096
HUGE = 1 << 21

ASSIGNED = 1 << 0
LARGE = 1 << 1
GPA_MASK = ((1 << 39) - 1) << 12
ASID_SHIFT = 51
ASID_MASK = (1 << 10) - 1

COUNTS = (
    "dma-checks",
    "dma-faults",
    "dma-size-faults",
    "store-faults",
    "psmashes",
    "rmpupdates",
    "rmpreads",
)


class Entry(NamedTuple):
    """The table's entry for a 4K page."""

    assigned: bool
    large: bool
    gpa: int
    asid: int

    def __str__(self) -> str:
        state = "assigned" if self.assigned else "shared"
        return f"{state} {'2M' if self.large else '4K'} {self.gpa:#x} {self.asid}"


class Rmp:
    """The table of a running QEMU, read through get(property) and read(address, size)."""

    def __init__(self, get: Callable[[str], int], read: Callable[[int, int], bytes]):
        self._get = get
        self._read = read

    def _raw(self, address: int) -> int:
        base, size = self._get("base"), self._get("size")
        offset = BOOKKEEPING + address // PAGE * ENTRY_SIZE
        if offset + ENTRY_SIZE > size:
            raise ValueError(f"the RMP has no entry for {address:#x}")
        return int.from_bytes(self._read(base + offset, 8), "little")

    def entry(self, address: int) -> Entry:
        """A page's own entry says if it is assigned; the first entry of its 2M, if assigned, the size."""
        own, first = self._raw(address), self._raw(address & -HUGE)
        whole = ASSIGNED | LARGE
        asid = own >> ASID_SHIFT & ASID_MASK
        return Entry(bool(own & ASSIGNED), first & whole == whole, own & GPA_MASK, asid)

    def counts(self) -> list[int]:
        return [self._get(name) for name in COUNTS]
