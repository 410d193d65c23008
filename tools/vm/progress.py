# SPDX-License-Identifier: GPL-2.0
"""The progress of a check, and the time left.

The cache stores the last time of each suite and build. The pace of the current
check accounts for a slower or busier host.
"""

import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from paths import JOBS
from suites import Suite

# Bytes of memory for each machine. Few need that much.
MACHINE_MEMORY = 3 << 30


def at_once(processors: int, memory: int) -> int:
    """How many suites, or machines, run at a time: many wait for a device or sleep."""
    return max(2, min(2 * processors, memory // MACHINE_MEMORY))


AT_ONCE = at_once(JOBS, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))

# Seconds for unknown ones: measured on two processors under other load.
SUITE = {"debug": 60.0, "stock": 20.0, "": 10.0}
MACHINE = {"debug": 40.0, "stock": 20.0, "": 0.0}
BUILDS = {"stock": 150.0, "debug": 1100.0, "bench": 700.0, "qemu": 240.0}


class Progress:
    """Times of a check of which some suites and builds have ended."""

    def __init__(self, file: Path, suites: Iterable[Suite], builds: Iterable[str]):
        self._file = file
        self._known: dict[str, float] = {}
        with suppress(FileNotFoundError, json.JSONDecodeError):
            self._known = json.loads(file.read_text(encoding="ascii"))
        self._left = {suite.name: self.seconds(suite) for suite in suites}
        self._builds = {name: self.build_seconds(name) for name in builds}
        self._all = len(self._left)
        self._expected = self.expected()
        self._begun = time.monotonic()

    def seconds(self, suite: Suite) -> float:
        """The expected time of a suite."""
        kernel = suite.guest.kernel if suite.guest else ""
        return self._known.get(suite.name, SUITE[kernel]) + MACHINE[kernel] / 4

    def build_seconds(self, name: str) -> float:
        return self._known.get(f"build {name}", BUILDS[name])

    def expected(self) -> float:
        """Seconds for everything that is left, at the pace of earlier checks."""
        return sum(self._left.values()) / AT_ONCE + sum(self._builds.values())

    def ended(self, suite: Suite, seconds: float | None) -> None:
        """A suite has ended; None: incomplete."""
        self._left.pop(suite.name, None)
        if seconds is not None:
            self._known[suite.name] = seconds

    def built(self, name: str, seconds: float) -> None:
        """The same for a build."""
        self._builds.pop(name, None)
        self._known[f"build {name}"] = seconds

    def save(self) -> None:
        self._file.write_text(json.dumps(self._known, indent=1) + "\n", encoding="ascii")

    def count(self) -> str:
        """[12/66]"""
        width = len(str(self._all))
        return f"[{self._all - len(self._left):{width}}/{self._all}]"

    def left(self) -> str:
        """The estimated time left, in words."""
        seconds = self.expected()
        done = self._expected - seconds
        passed = time.monotonic() - self._begun
        # The pace is known after a tenth of the check.
        if done > self._expected / 10:
            seconds *= passed / done
        if not self._left:
            return "none left"
        return f"{seconds / 60:.0f} min left" if seconds >= 90 else "a minute left"
