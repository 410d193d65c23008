# SPDX-License-Identifier: GPL-2.0
"""Runs of like leaves, a test's expectation, and the comparison."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from oracle.amdv1 import PAGE, Leaf


class Run(NamedTuple):
    """Adjacent leaves of one size and one permission."""

    iova: int
    size: int
    pgsize: int
    access: str

    def __str__(self) -> str:
        return f"{self.iova:#x} {self.size:#x} {self.pgsize:#x} {self.access}"

    @classmethod
    def parse(cls, words: list[str]) -> "Run":
        """A line `<iova> <size> <pgsize> <r|w|rw>`, numbers in hex."""
        if len(words) != 4:
            raise ValueError("a run has four words")
        iova, size, pgsize = (int(word, 16) for word in words[:3])
        if words[3] not in ("r", "w", "rw"):
            raise ValueError(f"access is {words[3]!r}, not r, w or rw")
        if pgsize < PAGE or pgsize & (pgsize - 1):
            raise ValueError(f"page size {pgsize:#x} is not one")
        if not size or size % pgsize:
            raise ValueError(f"size {size:#x} is no multiple of {pgsize:#x}")
        return cls(iova, size, pgsize, words[3])


def join(runs: Iterable[Run]) -> list[Run]:
    """The fewest runs that are equivalent; `runs` rise in IOVA."""
    joined: list[Run] = []
    for run in runs:
        last = joined[-1] if joined else None
        if (
            last
            and last.iova + last.size == run.iova
            and last.pgsize == run.pgsize
            and last.access == run.access
        ):
            joined[-1] = last._replace(size=last.size + run.size)
        else:
            joined.append(run)
    return joined


def runs_of(leaves: Iterable[Leaf]) -> list[Run]:
    """The runs of these leaves."""
    return join(
        Run(leaf.iova, leaf.size, leaf.size, "r" * leaf.read + "w" * leaf.write) for leaf in leaves
    )


def translate(leaves: list[Leaf], iova: int) -> int | None:
    """What the IOMMU translates `iova` to, or None; `leaves` rise in IOVA."""
    at = bisect_right(leaves, iova, key=lambda leaf: leaf.iova) - 1
    if at < 0 or iova >= leaves[at].iova + leaves[at].size:
        return None
    return leaves[at].phys + (iova - leaves[at].iova)


@dataclass
class Expectation:
    """A test's expectation for a device: its runs, and some translations."""

    runs: list[Run] = field(default_factory=list)
    translations: list[tuple[int, int]] = field(default_factory=list)

    def differs(self, leaves: list[Leaf]) -> str | None:
        """The first difference between table and expectation, or None."""
        return self._runs_differ(runs_of(leaves)) or self._translations_differ(leaves)

    def _runs_differ(self, found: list[Run]) -> str | None:
        expected = join(self.runs)
        for want, have in zip(expected, found):
            if want != have:
                return f"expected the run {want}, the table has {have}"
        if len(expected) > len(found):
            return f"expected the run {expected[len(found)]}, the table has no more"
        if len(found) > len(expected):
            return f"expected no more runs, the table has {found[len(expected)]}"
        return None

    def _translations_differ(self, leaves: list[Leaf]) -> str | None:
        for iova, phys in self.translations:
            found = translate(leaves, iova)
            if found is None:
                return f"iova {iova:#x} is expected at {phys:#x}, the table has nothing there"
            if found != phys:
                return f"iova {iova:#x} is expected at {phys:#x}, the table has {found:#x}"
        return None
