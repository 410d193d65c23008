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
    OURS,
    STATES,
    TABLE_COLUMNS,
    TABLES,
    verdicts,
)

Row = tuple[str, ...]


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _ratio(theirs: float | None, ours: float | None) -> str:
    return "-" if not theirs or not ours else f"{theirs / ours:.1f}x"


def _cost_rows(results: Results) -> Iterator[Row]:
    yield ("per 4K page", *COLUMNS, "reach", "", "type1 /", "iommufd /")
    for row in COMPARISONS:
        costs = row.costs(results)
        ours, target = costs.get(OURS), row.target(results)
        reached = ""
        if ours is not None and target is not None:
            reached = "yes" if round(ours, 1) <= round(target, 1) else "NO"
        yield (
            row.text,
            *(_figure(costs.get(column)) for column in COLUMNS),
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
        ("Instructions per 4K page", list(_cost_rows(results))),
        ("What vfio_pgsize alone can do: instructions per 2M", list(_conversion_rows(results))),
        ("Pages that the IOMMU's page tables take", list(_table_rows(results))),
    ]
    return tables + (_state_tables(results) if results.of_kind("checkpoint") else [])


def _aligned(rows: list[Row]) -> Iterator[tuple[list[str], list[int]]]:
    """Columns of equal width: words to the left, figures to the right."""
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

What it costs to map and unmap memory for a device, counted in instructions
that the machine executes, with each of Linux's VFIO backends: type1
(``vfio_iommu_type1``), iommufd (its own ioctls, the device by its character
device) and vfio_pgsize. ``make bench`` measures it anew.

How it is measured
==================

QEMU runs a machine of one processor with ``-icount shift=0``: its clock
advances by one nanosecond for each instruction, so the time-stamp counter
counts instructions. That it does is checked in each run with a loop of
{expected:,} instructions; {counted:,} were counted here. What the hardware
takes for an instruction is another matter: the figures tell how much work there
is, the same on whatever machine they are taken.

All backends are in one kernel, {kernel}, and map the very same {size} MiB, one
ioctl each; the pages are present before the clock starts. Of several rounds the
least counts. The program looks at its memory's physical make-up and refuses one
that is not as the row says:

hugetlb 2M
    reserved huge pages ({hugetlb} contiguous in all)
THP
    transparent huge pages ({thp})
4K-backed
    4K pages that were touched in rising order, as the kernel hands them
    out: often contiguous, not often aligned ({sequential})
scattered
    4K pages that were touched at random: no two neighbours are contiguous
    ({scattered})

Pinning is ``pin_user_pages_fast`` by itself, and ``unpin_user_pages``, 2048
pages a call, of the same memory, from the kernel's own benchmark
(``mm/gup_test.c``): all backends pay that. Where it is most of the cost, for 4K
pages, what is to be reached is the cost of iommufd.

"With 4K leaves" is ``disable_hugepages=1`` for type1, ``IOMMU_OPTION_HUGE_PAGES``
0 for iommufd, and a policy of 4K for vfio_pgsize. QEMU's AMD IOMMU announces
NpCache: the driver flushes the IOTLB also when it maps, which counts for all.

Page states (``pgsize-states``, a machine of its own): 512 pieces of 2M, of huge pages,
lie evenly spread in one mapping of 16 GiB. A guest makes {changes:,} changes, a call
for each: pieces of 4K to 2M, of which each size converts as many bytes, at random
places, shared or private at random. At each checkpoint the leaves that QUERY reports are
those of a model, pinned and locked memory are what is shared, and one mapping is used;
at the last one the oracle reads the same leaves from the page table. "A change" is what
those of the tenth before the checkpoint cost; the probe shares the pages of a 2M in one
call of 512 changes, and takes them back, always the same.

On type1 the same changes are made with a mapping for each page, as QEMU's
RamDiscardManager makes them, or with a mapping for each piece that becomes shared. Of the
latter, UNMAP_DMA takes all or nothing: where a part becomes private, the mapping goes
and what stays of it is mapped anew; *lost* are the pages that stay shared and were not
translated meanwhile. Both go on until type1 has no more mappings (65535) or {type1:,}
changes are made; the instructions of vfio_pgsize are those of the same changes.
"""


def _rst_table(rows: list[Row]) -> Iterator[str]:
    aligned = list(_aligned(rows))
    rule = "  ".join("=" * width for width in aligned[0][1])
    yield rule
    for number, (cells, _) in enumerate(aligned):
        # A simple table takes an empty first cell for a continued row, and
        # empty cells elsewhere as they are.
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

Instructions of one call to the kernel, the ioctl of the test module included, on
the emulated SNP host with ``-icount``; the least of several. They are those of
``make check ONLY=snp_cost_test``, which has bounds for them. If no container
has the frame the price is that of the probes at entry and exit, fprobe's and
ftrace's own work included. If all have it, the leaf of 2M of each is split, or
merged, and its IOTLB flushed, before the call goes on. The table for a split comes
from a reserve; if that is used up it has to be made and cleared, and clearing takes
this machine 4096 instructions (``rep stosb``).
"""


def rst(results: Results, command: str, cost_test: str) -> Iterator[str]:
    yield RST_HEAD.format(
        command=command,
        expected=results.clock.expected,
        counted=results.clock.counted,
        kernel=results.kernel,
        size=results.size() >> 20,
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
    """For JSON: the compared figures, the verdicts, and what they come from."""
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
            for row in COMPARISONS + CONVERSIONS
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
