# SPDX-License-Identifier: GPL-2.0
"""Which rows are compared, and their targets."""

from collections.abc import Iterator
from dataclasses import dataclass

from results import PAGE, Clock, Results

LEAF = 512 * PAGE

# Name of the figures of the stock kernel.
STOCK_MIB = 64

# Dirty tracking: a device writes each page in each round.
DIRTY_MIB = 64

# The backends' columns: with their own leaf sizes, and with 4K leaves only.
# pin_user_pages_fast alone, which all backends pay.
PINNING = "pinning"
LARGE = {"type1": "type1", "iommufd": "iommufd", "vfio_pgsize": "pgsize", PINNING: PINNING}
SMALL = {"type1": "type1-4k", "iommufd": "iommufd-4k", "vfio_pgsize": "pgsize-4k", PINNING: PINNING}
COLUMNS = tuple(LARGE)
OURS = "vfio_pgsize"


@dataclass(frozen=True)
class Comparison:
    """One row of the table: the same operation by each backend."""

    text: str
    work: str
    memory: str
    backends: dict[str, str]
    reach: int | None = None
    # The target on Debian's kernel with its default options, for STOCK_MIB (or DIRTY_MIB): the
    # measured value plus ten percent.
    stock: int | None = None
    # The target there if it depends on the physical layout of memory, which differs at each boot:
    # a fraction of type1's cost in the same run.
    stock_of_type1: float | None = None
    unit: int = PAGE
    # The column whose cost is the target, if pinning dominates.
    like: str | None = None

    def costs(self, results: Results) -> dict[str, float]:
        """Column -> instructions per unit, for measured columns."""
        found = {}
        for column, backend in self.backends.items():
            cost = results.cost(backend, self.memory, self.work)
            if cost is not None:
                found[column] = cost.per(self.unit)
        return found

    def target(self, results: Results) -> float | None:
        """The target in instructions per unit, or None."""
        if results.is_stock:
            type1 = self.costs(results).get("type1")
            if self.stock_of_type1 and type1 is not None:
                return type1 * self.stock_of_type1
            return self.stock
        return self.costs(results).get(self.like) if self.like else self.reach

    def is_held(self, results: Results) -> bool:
        """Whether the row has a target."""
        if results.is_stock:
            return bool(self.stock or self.stock_of_type1)
        return bool(self.reach or self.like)


COMPARISONS = (
    Comparison("map, hugetlb 2M", "map", "hugetlb", LARGE, 10, 14),
    Comparison("map, THP", "map", "thp", LARGE, 10, 15),
    Comparison("unmap, hugetlb 2M", "unmap", "hugetlb", LARGE, 5, 2),
    Comparison("unmap, THP", "unmap", "thp", LARGE, 5, 2),
    Comparison("map, 4K-backed", "map", "sequential", LARGE, stock_of_type1=0.5, like="iommufd"),
    Comparison("unmap, 4K-backed", "unmap", "sequential", LARGE, 150, stock_of_type1=0.4),
    Comparison("map, 4K-backed, scattered", "map", "scattered", LARGE),
    Comparison("unmap, 4K-backed, scattered", "unmap", "scattered", LARGE),
    Comparison("map with 4K leaves, hugetlb", "map", "hugetlb", SMALL, 25, 23),
    Comparison("unmap with 4K leaves, hugetlb", "unmap", "hugetlb", SMALL, 25, 29),
    Comparison("map with 4K leaves, THP", "map", "thp", SMALL),
    Comparison("unmap with 4K leaves, THP", "unmap", "thp", SMALL),
)

# Memory that is mapped page by page, with a call for each, as by a VMM that does not know page
# states: at most type1's cost. vfio_pgsize joins the pieces.
JOINED = {"type1": "type1", "iommufd": "iommufd", "vfio_pgsize": "pgsize-joined"}
PIECES = tuple(
    Comparison(
        f"{work}, {order}, {text}",
        f"{work}-{order}",
        memory,
        JOINED,
        stock_of_type1=1.0,
        like="type1",
    )
    for memory, text in (("hugetlb", "hugetlb 2M"), ("sequential", "4K-backed"))
    for order in ("ascending", "descending", "random")
    for work in ("map", "unmap")
)

# By this factor a piece takes less kernel memory than with type1.
PIECE_MEMORY = 8

# No other backend has these operations.
ALONE = {OURS: "pgsize"}
CONVERSIONS = (
    Comparison("split a 2M leaf (APPLY 4K)", "split", "hugetlb", ALONE, unit=LEAF),
    Comparison("merge 512 4K leaves (APPLY 2M)", "merge", "hugetlb", ALONE, unit=LEAF),
    Comparison("query 2M as one leaf", "query-2m", "hugetlb", ALONE, unit=LEAF),
    Comparison("query 2M as 512 leaves", "query-4k", "hugetlb", ALONE, unit=LEAF),
)

# In a machine of their own. iommufd changes no leaves: they are as its option says.
READ = {"type1": "type1", "iommufd": "iommufd-4k", OURS: "pgsize"}
SWITCH = {"type1": "type1", "iommufd": "iommufd", OURS: "pgsize"}
DIRTY = (
    Comparison("GET_BITMAP, clean pages", "dirty-clean", "hugetlb", READ, stock=7),
    Comparison("GET_BITMAP, written pages", "dirty-written", "hugetlb", READ, stock=200),
    Comparison("START, a 2M", "start", "hugetlb", SWITCH, stock=7200, unit=LEAF),
    Comparison("STOP, a 2M", "stop", "hugetlb", SWITCH, stock=8200, unit=LEAF),
)
DIRTY_COLUMNS = tuple(READ)


@dataclass(frozen=True)
class StateCost:
    """The cost of a change of page states."""

    text: str
    work: str
    memory: str
    reach: int | None = None
    stock: int | None = None

    def cost(self, results: Results) -> float | None:
        return results.state_cost(self.memory, self.work)

    def target(self, results: Results) -> int | None:
        return self.stock if results.is_stock else self.reach


# Maximum instructions for a page in a batch with contiguous pages; and on Debian's kernel. If
# no pages are contiguous, each is pinned by a separate call, which alone costs more.
A_PAGE = 400, 620

STATES = (
    StateCost("share every other page, 512 in a call, memfd", "share-batch", "memfd"),
    StateCost("take it back", "unshare-batch", "memfd"),
    StateCost("share every other page, 512 in a call, hugetlb 2M", "share-batch", "hugetlb"),
    StateCost("take it back", "unshare-batch", "hugetlb"),
    StateCost("share a 2M by its pages, in a call, memfd", "share-2m-batch", "memfd", *A_PAGE),
    StateCost("take it back", "unshare-2m-batch", "memfd", *A_PAGE),
    StateCost("share a 2M by its pages, in a call, hugetlb 2M", "share-2m-batch", "hugetlb", *A_PAGE),
    StateCost("take it back", "unshare-2m-batch", "hugetlb", *A_PAGE),
    StateCost("share a page, a call for each, memfd", "share-one", "memfd"),
    StateCost("take it back", "unshare-one", "memfd"),
    StateCost("share a page, a call for each, hugetlb 2M", "share-one", "hugetlb"),
    StateCost("take it back", "unshare-one", "hugetlb"),
    StateCost("share a 2M, 512 in a call (boot), hugetlb 2M", "share-boot", "hugetlb"),
    StateCost("take it back", "unshare-boot", "hugetlb"),
)

# By how much the same pages may cost more after all changes than before the first.
FLAT = 1.02


@dataclass(frozen=True)
class TableComparison:
    """Page-table pages for the same memory and leaves."""

    text: str
    memory: str
    backends: dict[str, str]

    def pages(self, results: Results) -> dict[str, int]:
        found = {c: results.table_pages(b, self.memory) for c, b in self.backends.items()}
        return {column: pages for column, pages in found.items() if pages is not None}


TABLE_COLUMNS = COLUMNS[:-1]

TABLES = (
    TableComparison("hugetlb 2M", "hugetlb", LARGE),
    TableComparison("THP", "thp", LARGE),
    TableComparison("4K-backed", "sequential", LARGE),
    TableComparison("4K-backed, scattered", "scattered", LARGE),
    TableComparison("hugetlb, 4K leaves", "hugetlb", SMALL),
    TableComparison("THP, 4K leaves", "thp", SMALL),
)


@dataclass(frozen=True)
class Verdict:
    """One target, and whether it was reached."""

    text: str
    reached: bool


def state_verdicts(results: Results) -> Iterator[Verdict]:
    """The targets of pgsize-states, if it ran."""
    points = results.of_kind("checkpoint")
    if not points:
        return
    for row in STATES:
        cost, target = row.cost(results), row.target(results)
        if target is not None:
            said = "not measured" if cost is None else f"{cost:.0f} instructions"
            yield Verdict(
                f"{row.work}, {row.memory}: {said} a page, {target} to reach",
                cost is not None and round(cost) <= target,
            )
    for word in ("probe_share", "probe_unshare"):
        first, last = points[0][word], points[-1][word]
        yield Verdict(
            f"page states, {word}: {last} instructions after {points[-1]['changes']} changes, "
            f"{first} before",
            last <= first * FLAT,
        )


def verdicts(results: Results) -> Iterator[Verdict]:
    """All targets, in the order of the tables."""
    clock = results.clock
    yield Verdict(
        f"the clock counts instructions: {clock.counted} for a loop of {clock.expected}",
        clock.counts_instructions(),
    )
    for what in ("states", "dirty"):
        for machine in results.of_kind(f"{what}-machine"):
            clock = Clock(machine["loop_instructions"], machine["loop_counted"])
            yield Verdict(
                f"{what}: the clock counts instructions: {clock.counted} for {clock.expected}",
                clock.counts_instructions(),
            )
    dirty = DIRTY if results.of_kind("dirty-machine") else ()
    for row in (*COMPARISONS, *PIECES, *dirty):
        if not row.is_held(results):
            continue
        ours, target = row.costs(results).get(OURS), row.target(results)
        each = "2M" if row.unit == LEAF else "4K page"
        said = "not measured" if ours is None else f"{ours:.1f} instructions per {each}"
        wanted = "what it is held against was not measured" if target is None else f"{target:.0f} to reach"
        yield Verdict(
            f"{row.text}: {said}, {wanted}",
            # As printed: figures are known to a tenth.
            ours is not None and target is not None and round(ours, 1) <= round(target, 1),
        )
    for table in TABLES:
        pages = table.pages(results)
        both = (pages[OURS], pages["type1"]) if {OURS, "type1"} <= pages.keys() else None
        said = f"{both[0]} pages, type1 {both[1]}" if both else "not measured"
        yield Verdict(
            f"page tables, {table.text}: {said}: no more than type1's",
            both is not None and both[0] <= both[1],
        )
    for memory in ("hugetlb", "sequential"):
        ours, theirs = (results.piece_bytes(JOINED[name], memory) for name in (OURS, "type1"))
        yield Verdict(
            f"kernel memory of a piece, {memory}: "
            + ("not measured" if ours is None else f"{ours:.1f} bytes, type1 {theirs or 0:.1f}")
            + f": {PIECE_MEMORY} times less",
            ours is not None and theirs is not None and ours * PIECE_MEMORY <= theirs,
        )
    yield from state_verdicts(results)
