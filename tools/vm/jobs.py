# SPDX-License-Identifier: GPL-2.0
"""A job: a suite, or several that share a virtual machine.

Booting a machine takes longer than many suites. `suite` of /lib/vm.sh marks the
beginning and the end of each suite's output.
"""

import math
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from paths import HERE
from suites import Guest, Suite

VM = str(HERE / "vm.py")

# Seconds of the suites that share a machine: jobs should take about the same time.
TOGETHER = 150

# Seconds of silence, in the machine's own time; the debug kernel is several times slower.
TIMEOUTS = {"stock": 600, "debug": 900}

BEGINS = re.compile(r"# suite (\S+) begins")
ENDS = re.compile(r"# suite (\S+) ends: status (\d+), (\d+) s")


@dataclass(frozen=True)
class Job:
    """Suites that one command runs one after the other."""

    suites: tuple[Suite, ...]

    @property
    def name(self) -> str:
        return self.suites[0].name

    @property
    def guest(self) -> Guest | None:
        return self.suites[0].guest

    def command(self) -> list[str]:
        guest = self.guest
        if guest is None:
            return self.suites[0].command
        timeout = str(TIMEOUTS[guest.kernel])
        line = [VM, "run", "--strict", "--kernel", guest.kernel, "--timeout", timeout]
        tests = {Path(suite.command[0]).name for suite in self.suites}
        line += ["--tests", ",".join(sorted(tests))]
        steps = "; ".join(shlex.join(["suite", suite.name, *suite.command]) for suite in self.suites)
        return [*line, *shlex.split(guest.options), "--", f". /lib/vm.sh; {guest.prepare} && {{ {steps}; }}"]


@dataclass(frozen=True)
class Part:
    """The output of a suite, its status (None if it did not end), and seconds."""

    name: str
    text: str
    status: int | None
    seconds: int


class Parts:
    """The output of a machine as it arrives, divided by suite."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._lines: list[str] = []

    def line(self, line: str) -> Part | None:
        """Process a line; return the suite that it ends, if any."""
        text = line.rstrip("\r\n")
        begins, ends = BEGINS.fullmatch(text), ENDS.fullmatch(text)
        if begins:
            self._name, self._lines = begins[1], []
        elif ends and ends[1] == self._name:
            part = Part(ends[1], "".join(self._lines), int(ends[2]), int(ends[3]))
            self._name = None
            return part
        elif self._name:
            self._lines.append(line)
        return None

    def under_way(self) -> Part | None:
        """The suite that has begun and not ended."""
        if self._name is None:
            return None
        return Part(self._name, "".join(self._lines), None, 0)


def jobs(suites: Iterable[Suite], seconds: Callable[[Suite], float] = lambda _: 0.0) -> list[Job]:
    """Group suites of the same machine; the longest jobs come first."""
    machines: dict[object, list[Suite]] = {}
    for suite in suites:
        machines.setdefault(suite.guest or suite.name, []).append(suite)
    found = []
    for group in machines.values():
        found += [Job(tuple(share)) for share in deal(group, seconds)]
    return sorted(found, key=lambda job: sum(map(seconds, job.suites)), reverse=True)


def deal(suites: list[Suite], seconds: Callable[[Suite], float]) -> list[list[Suite]]:
    """Distribute suites over as many machines as they need, of about the same length."""
    nr = max(1, math.ceil(sum(map(seconds, suites)) / TOGETHER))
    shares: list[list[Suite]] = [[] for _ in range(min(nr, len(suites)))]
    for suite in sorted(suites, key=seconds, reverse=True):
        min(shares, key=lambda share: sum(map(seconds, share))).append(suite)
    return shares
