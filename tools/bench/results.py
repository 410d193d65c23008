# SPDX-License-Identifier: GPL-2.0
"""The output of pgsize-bench, as numbers."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

PAGE = 4096

# A line of JSON.
Entry = dict[str, Any]

CLOCK_TOLERANCE = 0.01


class ResultError(Exception):
    """The output is not a result: the text says why."""


@dataclass(frozen=True)
class Clock:
    """The count of a loop of known length, which verifies the counter."""

    expected: int
    counted: int

    def counts_instructions(self) -> bool:
        return abs(self.counted - self.expected) <= self.expected * CLOCK_TOLERANCE


@dataclass(frozen=True)
class Cost:
    """The minimum of several counts of one operation on one memory."""

    instructions: int
    size: int
    spread: float

    def per(self, unit: int) -> float:
        return self.instructions * unit / self.size


class Results:
    """All costs of one run, by backend, memory and operation."""

    def __init__(self, lines: Iterable[str]):
        self.raw: list[Entry] = []
        for number, line in enumerate(lines, 1):
            # The output also has kernel messages and notes on missing backends.
            if not line.startswith("{"):
                continue
            try:
                self.raw.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ResultError(f"line {number} is no JSON: {error}") from error
        machines = [entry for entry in self.raw if entry.get("kind") == "machine"]
        if len(machines) != 1:
            raise ResultError(
                f"there are {len(machines)} lines that describe the machine, not one: "
                "did pgsize-bench run to its end?"
            )
        self.kernel = machines[0]["kernel"]
        self.clock = Clock(machines[0]["loop_instructions"], machines[0]["loop_counted"])
        # Debian's kernel executes more instructions, so it has its own targets.
        self.is_stock = not self.kernel.endswith("-pgsize-bench")
        self._entries = {
            (entry["backend"], entry["memory"], entry["work"]): entry
            for entry in self.raw
            if entry.get("kind") == "result"
        }
        if not self._entries:
            raise ResultError("nothing was measured")

    def of_kind(self, kind: str) -> list[Entry]:
        """The lines of another kind: those of pgsize-states, if it ran."""
        return [entry for entry in self.raw if entry.get("kind") == kind]

    def state_cost(self, memory: str, work: str) -> float | None:
        """Instructions for each change of page states, or None if not measured."""
        for entry in self.of_kind("state"):
            if (entry["memory"], entry["work"]) == (memory, work):
                return float(entry["instructions"] / entry["count"])
        return None

    def piece_bytes(self, backend: str, memory: str) -> float | None:
        """Bytes of the kernel's memory that each of many pieces takes, or None."""
        for entry in self.of_kind("pieces"):
            if (entry["backend"], entry["memory"]) == (backend, memory):
                return float(entry["kernel_bytes"] / entry["pieces"])
        return None

    def cost(self, backend: str, memory: str, work: str) -> Cost | None:
        """The Cost, or None if not measured."""
        entry = self._entries.get((backend, memory, work))
        if entry is None:
            return None
        counts = entry["instructions"]
        return Cost(min(counts), entry["bytes"], max(counts) / min(counts) - 1)

    def table_pages(self, backend: str, memory: str) -> int | None:
        """Pages of IOMMU page tables for the mapping, or None."""
        entry = self._entries.get((backend, memory, "map"))
        return None if entry is None else int(entry["table_pages"])

    def runs(self, memory: str) -> int | None:
        """Number of physically contiguous runs of the memory, or None."""
        found = {e["runs"] for key, e in self._entries.items() if key[1] == memory}
        return max(found) if found else None

    def size(self) -> int:
        return int(next(iter(self._entries.values()))["bytes"])
