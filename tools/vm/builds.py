# SPDX-License-Identifier: GPL-2.0
"""Builds kernels and QEMU while suites run that do not need them.

The stock kernel comes first and takes little time. While the debug kernel
compiles, the suites of the stock kernel run.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Condition

import snp_qemu
from kernels import is_made, kernel
from module import build_module
from paths import Problem
from programs import programs
from suites import Suite

QEMU = "qemu"

# Options of vm.py that use the module's test build.
TEST_BUILD = {"--test-build", "--quick-path"}

# In this order, with QEMU in parallel.
KERNELS = ("stock", "bench", "debug")


def needs(suite: Suite) -> set[str]:
    """The builds that a suite needs."""
    if suite.guest is None:
        return {suite.kernel} if suite.kernel else set()
    wanted = {suite.guest.kernel}
    if "--snp" in suite.guest.options.split():
        wanted.add(QEMU)
    return wanted


def is_there(name: str) -> bool:
    return snp_qemu.is_made() if name == QEMU else is_made(name)


class Builds:
    """Makes what suites need; reports what is ready and what failed."""

    def __init__(self, suites: Iterable[Suite], tell: Callable[[str, float], None]):
        self._suites = list(suites)
        self._tell = tell
        self.changed = Condition()
        self.ready: set[str] = set()
        self.failed: dict[str, str] = {}
        self._names = sorted(set().union(*(needs(suite) for suite in self._suites)))
        # Builds that are not in the cache.
        self.missing = [name for name in self._names if not is_there(name)]

    def start(self, pool: ThreadPoolExecutor) -> None:
        if QEMU in self._names:
            pool.submit(self._build, QEMU, snp_qemu.qemu)
        pool.submit(self._kernels)

    def _kernels(self) -> None:
        for name in KERNELS:
            if name in self._names:
                self._build(name, partial(self._for_kernel, name))

    def _for_kernel(self, name: str) -> None:
        target = kernel(name)
        of_it = [suite.guest for suite in self._suites if suite.guest and suite.guest.kernel == name]
        for test in sorted({not TEST_BUILD.isdisjoint(guest.options.split()) for guest in of_it}):
            build_module(target, test=test)
        programs()

    def _build(self, name: str, build: Callable[[], object]) -> None:
        started = time.monotonic()
        failure = None
        try:
            build()
        except Problem as problem:
            failure = str(problem)
        except Exception as error:
            # No other thread sees an exception of this one.
            failure = f"{type(error).__name__}: {error}"
        seconds = time.monotonic() - started
        with self.changed:
            if failure is None:
                self.ready.add(name)
            else:
                self.failed[name] = failure
            self.changed.notify_all()
        if name in self.missing:
            self._tell(name, seconds)

    def state(self, suite: Suite) -> str | None:
        """Whether the suite can run. None: not yet; "": yes; otherwise why not."""
        wanted = needs(suite)
        for name in wanted & set(self.failed):
            return f"{name} is not built: {self.failed[name]}"
        return "" if wanted <= self.ready else None
