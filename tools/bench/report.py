# SPDX-License-Identifier: GPL-2.0
"""The results as tables: plain, reStructuredText, TAP and JSON."""

from collections.abc import Iterator
from typing import Any

import following
from results import Results
from targets import (
    COLUMNS,
    COMPARISONS,
    CONVERSIONS,
    DIRTY,
    DIRTY_COLUMNS,
    DIRTY_MIB,
    JOINED,
    OURS,
    PIECES,
    STATES,
    TABLE_COLUMNS,
    TABLES,
    Comparison,
    verdicts,
)

Row = tuple[str, ...]


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _ratio(theirs: float | None, ours: float | None) -> str:
    return "-" if not theirs or not ours else f"{theirs / ours:.1f}x"


def _compared(
    results: Results, unit: str, rows: tuple[Comparison, ...], columns: tuple[str, ...]
) -> Iterator[Row]:
    yield (unit, *columns, "reach", "", "type1 /", "iommufd /")
    for row in rows:
        costs = row.costs(results)
        ours, target = costs.get(OURS), row.target(results)
        reached = ""
        if ours is not None and target is not None:
            reached = "yes" if round(ours, 1) <= round(target, 1) else "NO"
        yield (
            row.text,
            *(_figure(costs.get(column)) for column in columns),
            "" if target is None else f"<= {target:.0f}",
            reached,
            _ratio(costs.get("type1"), ours),
            _ratio(costs.get("iommufd"), ours),
        )


def _conversion_rows(results: Results) -> Iterator[Row]:
    yield ("per 2M", OURS)
    for row in CONVERSIONS:
        yield (row.text, _figure(row.costs(results).get(OURS)))


def _table_rows(results: Results) -> Iterator[Row]:
    yield ("pages of page table", *TABLE_COLUMNS)
    for row in TABLES:
        pages = row.pages(results)
        yield (row.text, *(str(pages.get(column, "-")) for column in TABLE_COLUMNS))


def _piece_rows(results: Results) -> Iterator[Row]:
    yield ("bytes per piece, tables apart", *JOINED)
    for memory in ("hugetlb", "sequential"):
        found = (results.piece_bytes(backend, memory) for backend in JOINED.values())
        yield (memory, *map(_figure, found))


def _state_rows(results: Results) -> Iterator[Row]:
    yield ("per page, or per 2M", OURS, "reach", "")
    for row in STATES:
        cost, target = row.cost(results), row.target(results)
        reached = ""
        if cost is not None and target is not None:
            reached = "yes" if round(cost) <= target else "NO"
        yield (row.text, _figure(cost), "" if target is None else f"<= {target}", reached)


def _checkpoint_rows(results: Results) -> Iterator[Row]:
    yield ("changes before", "bytes shared", "a change", "probe: share a page", "take it back")
    for point in results.of_kind("checkpoint"):
        last = point["last"]
        yield (
            f"{point['changes']:,}",
            f"{point['shared'] * 4 >> 10}M",
            _figure(point["last_instructions"] / last) if last else "-",
            _figure(point["probe_share"] / point["probe_pages"]),
            _figure(point["probe_unshare"] / point["probe_pages"]),
        )


def _piecewise_rows(results: Results) -> Iterator[Row]:
    yield ("type1, a mapping for each", "changes", "ended", "mappings", "type1", OURS, "ratio", "lost")
    for entry in results.of_kind("piecewise"):
        yield (
            entry["manner"],
            f"{entry['changes']:,}",
            entry["error"] or "no more changes",
            f"{entry['mappings']:,}",
            f"{entry['instructions'] / 1e6:.0f}M",
            f"{entry['states_instructions'] / 1e6:.0f}M",
            _ratio(entry["instructions"], entry["states_instructions"]),
            f"{entry['pages_lost']:,}",
        )


def _state_tables(results: Results) -> list[tuple[str, list[Row]]]:
    return [
        ("Page states: instructions for a change", list(_state_rows(results))),
        ("A guest that converts memory at random", list(_checkpoint_rows(results))),
        ("The same on type1", list(_piecewise_rows(results))),
    ]


def _tables(results: Results) -> list[tuple[str, list[Row]]]:
    tables = [
        ("Instructions per 4K page", list(_compared(results, "per 4K page", COMPARISONS, COLUMNS))),
        (
            "Instructions per 4K piece",
            list(_compared(results, "per 4K piece", PIECES, tuple(JOINED))),
        ),
        ("Bytes of the kernel's memory per 4K piece", list(_piece_rows(results))),
        ("What vfio_pgsize alone can do: instructions per 2M", list(_conversion_rows(results))),
        ("Pages that the IOMMU's page tables take", list(_table_rows(results))),
    ]
    if results.of_kind("dirty-machine"):
        rows = list(_compared(results, "per 4K page, or per 2M", DIRTY, DIRTY_COLUMNS))
        tables.append(("Dirty tracking: instructions", rows))
    return tables + (_state_tables(results) if results.of_kind("checkpoint") else [])


def _aligned(rows: list[Row]) -> Iterator[tuple[list[str], list[int]]]:
    """Columns of equal width: words left-aligned, figures right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        first, *rest = row
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(rest, widths[1:])]
        yield cells, widths


def text(results: Results) -> Iterator[str]:
    size = results.size() >> 20
    yield f"{size} MiB, Linux {results.kernel}; the least of several runs."
    for title, rows in _tables(results):
        yield ""
        yield title
        yield ""
        for cells, _ in _aligned(rows):
            yield ("  " + "  ".join(cells)).rstrip()
    yield ""
    for verdict in verdicts(results):
        if not verdict.reached:
            yield f"NOT REACHED: {verdict.text}"


def tap(results: Results) -> Iterator[str]:
    found = list(verdicts(results))
    yield f"1..{len(found)}"
    for number, verdict in enumerate(found, 1):
        yield f"{'ok' if verdict.reached else 'not ok'} {number} - {verdict.text}"


RST_HEAD = """\
.. SPDX-License-Identifier: GPL-2.0
.. Written by: {command}

=======
Figures
=======

Use this page to look up what it costs to map and unmap memory for a device, with each
of Linux's VFIO backends: type1 (``vfio_iommu_type1``), iommufd (its own ioctls, with the
device's character device) and vfio_pgsize. Costs are in instructions. ``make bench``
measures them.

How it is measured
==================

QEMU runs a machine of one processor with ``-icount shift=0``: its clock advances by one
nanosecond for each instruction, so the time-stamp counter counts instructions. Each run
verifies that with a loop of {expected:,} instructions; here it counted {counted:,}. The
figures say how much work there is, the same on every host. They do not say how long
hardware takes for it.

All backends run in one kernel, {kernel}, and map the same {size} MiB, with one ioctl
each. The pages are present before the clock starts. The figure is the minimum of several
rounds. The program inspects the physical layout of its memory, and refuses memory that
does not match the row:

hugetlb 2M
    reserved huge pages ({hugetlb} contiguous in all)
THP
    transparent huge pages ({thp})
4K-backed
    4K pages that were touched in rising order, as the kernel allocates them:
    often contiguous, not often aligned ({sequential})
scattered
    4K pages that were touched at random: no two neighbours are contiguous
    ({scattered})

Pinning is ``pin_user_pages_fast`` and ``unpin_user_pages`` alone, 2048 pages a call, on the
same memory, by the kernel's own benchmark (``mm/gup_test.c``). All backends pay it. For 4K
pages it is most of the cost, and the target is the cost of iommufd.

"With 4K leaves" is ``disable_hugepages=1`` for type1, ``IOMMU_OPTION_HUGE_PAGES`` 0 for
iommufd, and a policy of 4K for vfio_pgsize. QEMU's AMD IOMMU announces NpCache, so the
driver also flushes the IOTLB when it maps. This affects all backends.

Dirty tracking (in its own machine, whose IOMMU has dirty bits): {dirty} MiB of huge pages. A bitmap
of the whole mapping is read while no page is dirty, and after a device wrote each page. vfio_pgsize
splits leaves to 4K when tracking starts and merges them when it stops. iommufd changes no leaves:
its bitmaps are read with 4K leaves, its START and STOP are those with large leaves. type1 reports all
pages as dirty, always.

Page states (``pgsize-states``, in its own machine): 512 pieces of 2M, of huge pages, are
spread evenly over one mapping of 16 GiB. A guest makes {changes:,} changes, with one call
for each: pieces of 4K to 2M, with equal bytes for each size, at random places, shared or
private at random. At each checkpoint the leaves that QUERY reports equal those of a model,
pinned and locked memory equal the shared memory, and one mapping is in use. At the last
checkpoint the oracle reads the same leaves from the page table. "A change" is the mean over
the tenth of changes before the checkpoint. The probe always shares and unshares the same
pages of a 2M, in one call of 512 changes.

On type1 the same changes use a mapping for each page, as QEMU's RamDiscardManager does, or
a mapping for each piece that becomes shared. UNMAP_DMA removes whole mappings only: if a part
of such a piece becomes private, the mapping is removed and the rest is mapped again; *lost* counts
pages that stay shared and were not translated meanwhile. Both run until type1 has no more
mappings (65535), or for {type1:,} changes. The instructions of vfio_pgsize are those of the
same changes.
"""


def _rst_table(rows: list[Row]) -> Iterator[str]:
    aligned = list(_aligned(rows))
    rule = "  ".join("=" * width for width in aligned[0][1])
    yield rule
    for number, (cells, _) in enumerate(aligned):
        # An empty first cell continues the row above in a simple table; other
        # cells may be empty.
        yield "  ".join(cells).rstrip()
        if number == 0:
            yield rule
    yield rule


def _runs(results: Results, memory: str) -> str:
    runs = results.runs(memory)
    return "not measured" if runs is None else f"{runs} run{'s' if runs != 1 else ''}"


RST_FOLLOWING = """\
What following the RMP costs
============================

Instructions of one call to the kernel, including the ioctl of the test module, on the
emulated SNP host with ``-icount``; the minimum of several calls. ``make check
ONLY=snp_cost_test`` measures them, and enforces bounds. If no container maps the frame,
the cost is that of the probes at entry and exit, including the work of fprobe and ftrace.
If all containers map it, each splits or merges its 2M leaf and flushes the IOTLB before the
call continues. The table for a split comes from a reserve. If the reserve is used up, the
table has to be allocated and cleared; clearing takes 4096 instructions on this machine (``rep
stosb``).
"""


def rst(results: Results, command: str, cost_test: str) -> Iterator[str]:
    yield RST_HEAD.format(
        command=command,
        expected=results.clock.expected,
        counted=results.clock.counted,
        kernel=results.kernel,
        size=results.size() >> 20,
        dirty=DIRTY_MIB,
        changes=max((p["changes"] for p in results.of_kind("checkpoint")), default=0),
        type1=max((p["changes"] for p in results.of_kind("piecewise")), default=0),
        **{m: _runs(results, m) for m in ("hugetlb", "thp", "sequential", "scattered")},
    )
    for title, rows in _tables(results):
        yield title
        yield "=" * len(title)
        yield ""
        yield from _rst_table([tuple(cell or "\\" for cell in row) for row in rows])
        yield ""
    yield RST_FOLLOWING
    yield from _rst_table([tuple(cell or "\\" for cell in row) for row in following.rows(cost_test)])
    yield ""


def as_dict(results: Results) -> dict[str, Any]:
    """For JSON: the compared figures, the verdicts, and their sources."""
    return {
        "kernel": results.kernel,
        "costs": [
            {
                "work": row.work,
                "memory": row.memory,
                "text": row.text,
                "unit": row.unit,
                "reach": row.target(results),
                "instructions": row.costs(results),
            }
            for row in COMPARISONS + CONVERSIONS + DIRTY
        ],
        "table_pages": [
            {"memory": row.memory, "text": row.text, "pages": row.pages(results)}
            for row in TABLES
        ],
        "states": [
            {"text": row.text, "reach": row.target(results), "instructions": row.cost(results)}
            for row in STATES
        ],
        "targets": [
            {"text": verdict.text, "reached": verdict.reached} for verdict in verdicts(results)
        ],
        "raw": results.raw,
    }
