# SPDX-License-Identifier: GPL-2.0
"""What is run at a time: a suite, or several that share a virtual machine.

A machine takes longer to come up than many a suite takes. `suite` of /lib/vm.sh
marks where the output of each begins and ends.
"""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from paths import HERE
from suites import Guest, Suite

VM = str(HERE / "vm.py")

# How many suites share a machine at most: what goes wrong in one can end all.
TOGETHER = 5

# Seconds without a word, of the machine's own time; the debug kernel is several times slower.
TIMEOUTS = {"stock": 600, "debug": 900}

BEGINS = re.compile(r"^# suite (\S+) begins\r?\n", re.MULTILINE)
ENDS = re.compile(r"^# suite (\S+) ends: status (\d+), (\d+) s\r?\n", re.MULTILINE)


@dataclass(frozen=True)
class Job:
    """Suites that are run one after the other by one command."""

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
        line = [VM, "run", "--strict", "--whole", "--kernel", guest.kernel, "--timeout", timeout]
        steps = "; ".join(shlex.join(["suite", suite.name, *suite.command]) for suite in self.suites)
        return [*line, *guest.options.split(), "--", f". /lib/vm.sh; {guest.prepare} && {{ {steps}; }}"]


@dataclass(frozen=True)
class Part:
    """What a suite printed, its status, None if it did not end, and seconds."""

    text: str
    status: int | None
    seconds: int


def jobs(suites: Iterable[Suite]) -> list[Job]:
    """Suites of the same machine come together, in the order of the first of each."""
    machines: dict[object, list[Suite]] = {}
    for suite in suites:
        machines.setdefault(suite.guest or suite.name, []).append(suite)
    return [
        Job(tuple(group[first : first + TOGETHER]))
        for group in machines.values()
        for first in range(0, len(group), TOGETHER)
    ]


def parts(job: Job, text: str) -> dict[str, Part]:
    """The output of a job in a machine, by the suites that began."""
    found = {}
    begins = list(BEGINS.finditer(text))
    for begin, following in zip(begins, [*begins[1:], None]):
        part = text[begin.end() : following.start() if following else len(text)]
        end = next((end for end in ENDS.finditer(part) if end[1] == begin[1]), None)
        if end:
            found[begin[1]] = Part(part[: end.start()], int(end[2]), int(end[3]))
        else:
            found[begin[1]] = Part(part, None, 0)
    return found
