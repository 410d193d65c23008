# SPDX-License-Identifier: GPL-2.0
"""Processes that take the processors' time, as on a busy host."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from paths import JOBS


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """Run this many endless loops for each processor until the block ends."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for _ in range(loops * JOBS)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
