# SPDX-License-Identifier: GPL-2.0
"""The progress of a virtual machine, on a host that may be busy.

Wall time says nothing about a machine that waits for the host's processors. So a
machine is judged by its own time: wall time minus the time that its processors,
which are threads of QEMU, waited to run. Output and log lines are progress.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Maximum share of its own time that an idle machine takes.
STILL_SHARE = 0.02

NANOSECONDS = 1_000_000_000


@dataclass
class Thread:
    """One processor of the machine, in seconds: time used, and time waited."""

    taken: float
    waited: float


class Pulse:
    """A machine's own time."""

    def __init__(self, pid: int, now: Callable[[], float] = time.monotonic):
        self._tasks = Path(f"/proc/{pid}/task")
        self._clock = now
        self._looked = now()
        self._waited: dict[str, float] = {}
        self._own = 0.0
        self._size = -1
        self._progress = 0.0
        self._taken = 0.0
        self._rested = 0.0

    def look(self, size: int) -> None:
        """Take the time; `size` grows with everything that the machine prints."""
        threads = self._threads()
        now = self._clock()
        passed = now - self._looked
        waits = [thread.waited - self._waited.get(name, 0.0) for name, thread in threads.items()]
        self._own += passed - min(passed, max(waits, default=0.0))
        self._looked = now
        self._waited = {name: thread.waited for name, thread in threads.items()}

        if size != self._size:
            self._size, self._progress = size, self._own
        taken = sum(thread.taken for thread in threads.values())
        if taken - self._taken > STILL_SHARE * (self._own - self._rested):
            self._taken, self._rested = taken, self._own

    def own(self) -> float:
        """Seconds since the machine started."""
        return self._own

    def silent(self) -> float:
        """Seconds since it last printed anything."""
        return self._own - self._progress

    def still(self) -> float:
        """Seconds for which its processors took hardly any time."""
        return self._own - self._rested

    def _threads(self) -> dict[str, Thread]:
        found = {}
        for task in self._tasks.glob("*"):
            try:
                if not (task / "comm").read_text(encoding="ascii").strip().endswith("TCG"):
                    continue
                found[task.name] = self._thread(task)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended in the meantime
        return found

    @staticmethod
    def _thread(task: Path) -> Thread:
        try:
            taken, waited, _ = (task / "schedstat").read_text(encoding="ascii").split()
            return Thread(int(taken) / NANOSECONDS, int(waited) / NANOSECONDS)
        except FileNotFoundError:
            # A host without CONFIG_SCHED_INFO does not report waiting time.
            words = (task / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
            return Thread(sum(map(int, words[11:13])) / os.sysconf("SC_CLK_TCK"), 0.0)
