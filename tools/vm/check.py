#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Runs the suites of suites.py, some at a time, and sums up their results.

Prints each result when it is available. The last line is `N passed, N failed, N
skipped`. The exit status is nonzero after a failure or an incomplete suite, and
130 after an interrupt.
"""

import argparse
import fnmatch
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock
from types import FrameType

from builds import Builds
from busy import busy
from jobs import Job, Part, Parts, jobs
from machine import AGAIN_STATUS, BOOTS
from paths import CACHE, SRC, Problem, locked, outside, require_build_root, say
from progress import AT_ONCE, Progress
from suites import Suite, soaks, suites
from tally import Tally, judge, why_failed

LOGS = CACHE / "check"
TIMES = CACHE / "check-times.json"

# Seconds between two checks for work.
LOOK = 5

# Exit status of a command that Ctrl-C ends.
INTERRUPTED = (130, -signal.SIGINT, -signal.SIGTERM)


class Check:
    """One run of all chosen suites."""

    def __init__(self, chosen: list[Suite], loops: int = 0):
        self._chosen = chosen
        self._loops = loops
        self._builds = Builds(chosen, self._built)
        self._progress = Progress(TIMES, chosen, self._builds.missing)
        self._jobs = jobs(chosen, self._progress.seconds)
        self._under_way: dict[str, Suite] = {}
        self._interrupted = False
        self._lock = Lock()  # guards everything below, and the output
        self._told: set[str] = set()
        self.total = Tally()

    def run(self) -> bool:
        """Run all; return False if interrupted."""
        pool = ThreadPoolExecutor(AT_ONCE + 2)
        try:
            self._builds.start(pool)
            with busy(self._loops):
                for worker in wait([pool.submit(self._work) for _ in range(AT_ONCE)]).done:
                    worker.result()
        except KeyboardInterrupt:
            self._interrupted = True
        # Times on a host that is made busy say nothing about the next check.
        if not self._loops:
            self._progress.save()
        if self._interrupted:
            self._tell_interrupted()
            return False
        pool.shutdown()
        return True

    # --- what is run next ----------------------------------------------------

    def _work(self) -> None:
        while not self._interrupted:
            job, failure = self._next()
            if job is None:
                return
            if failure:
                for suite in job.suites:
                    self._tell(suite, Tally(failed=[failure]), "", None)
            else:
                self._run(job)

    def _next(self) -> tuple[Job | None, str]:
        """The longest job that can run; waits for builds if there is none yet."""
        with self._builds.changed:
            while self._jobs and not self._interrupted:
                for job in self._jobs:
                    state = self._builds.state(job.suites[0])
                    if state is not None:
                        self._jobs.remove(job)
                        return job, state
                self._builds.changed.wait(LOOK)
        return None, ""

    def _run(self, job: Job) -> None:
        say(f"started: {' '.join(suite.name for suite in job.suites)}")
        with self._lock:
            self._under_way |= {suite.name: suite for suite in job.suites}
        if job.guest is None:
            self._run_here(job)
        else:
            self._run_in_machines(job)

    # --- a command in the build root -----------------------------------------

    def _run_here(self, job: Job) -> None:
        suite = job.suites[0]
        results, messages = LOGS / f"{job.name}.out", LOGS / f"{job.name}.err"
        started = time.monotonic()
        with open(results, "wb") as output, open(messages, "wb") as errors:
            status = subprocess.run(
                job.command(),
                cwd=SRC / suite.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                check=False,
            ).returncode
        if self._is_interrupted(status):
            return
        text = results.read_text(encoding="utf-8", errors="replace")
        tally = judge(suite, text, status)
        self._tell(suite, tally, text, time.monotonic() - started)
        if tally.failed:
            self._show(messages)

    # --- suites in a machine ------------------------------------------------

    def _run_in_machines(self, job: Job) -> None:
        """One machine; and another for the remaining suites if it ends too early."""
        left = list(job.suites)
        tries = BOOTS
        while left:
            messages = LOGS / f"{left[0].name}.err"
            ended, broken, status = self._run_in_machine(Job(tuple(left)), messages)
            if self._is_interrupted(status):
                return
            left = [suite for suite in left if suite.name not in ended]
            if status == AGAIN_STATUS and left and tries > 1:
                tries -= 1
                last = messages.read_text(encoding="utf-8", errors="replace").splitlines()[-1:]
                self._print(f"  {''.join(last)}: {' '.join(s.name for s in left)} once more")
                continue
            if left:
                part = broken or Part(left[0].name, "", None, 0)
                suite = left.pop(0)
                self._tell(suite, judge(suite, part.text, None), part.text, None)
                if broken is None:
                    # No suite began: another machine would fail too.
                    for suite in left:
                        self._tell(suite, Tally(failed=["the machine did not run it"]), "", None)
                    left = []
                self._show(messages)
            elif status and all(ended.values()):
                with self._lock:
                    self.total.failed.append(f"{job.name}: all tests passed, yet the machine did not")
                self._show(messages)
            elif status:
                self._show(messages)

    def _run_in_machine(
        self, job: Job, messages: Path
    ) -> tuple[dict[str, bool], Part | None, int]:
        """Report results as they arrive: ended suites, incomplete suites, the machine's status."""
        names = {suite.name: suite for suite in job.suites}
        ended: dict[str, bool] = {}
        parts = Parts()
        results = messages.with_suffix(".out")
        with open(results, "w", encoding="utf-8") as output, open(messages, "wb") as errors:
            machine = subprocess.Popen(
                job.command(),
                cwd=SRC,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                errors="replace",
            )
            assert machine.stdout
            for line in machine.stdout:
                output.write(line)
                output.flush()
                part = parts.line(line)
                if part and part.name in names:
                    suite = names[part.name]
                    tally = judge(suite, part.text, part.status)
                    ended[part.name] = not tally.failed
                    self._tell(suite, tally, part.text, part.seconds)
        return ended, parts.under_way(), machine.wait()

    # --- output -------------------------------------------------------------------

    def _built(self, name: str, seconds: float) -> None:
        with self._lock:
            self._progress.built(name, seconds)
        say(f"{name}: made in {seconds / 60:.1f} min")

    def _is_interrupted(self, status: int) -> bool:
        self._interrupted |= status in INTERRUPTED
        return self._interrupted

    def _tell(self, suite: Suite, tally: Tally, text: str, seconds: float | None) -> None:
        """Print the results of a suite, and the progress of the run."""
        named = tally.named(suite.name)
        with self._lock:
            if self._interrupted:
                return
            self._told.add(suite.name)
            self._under_way.pop(suite.name, None)
            self._progress.ended(suite, seconds)
            self.total.add(named)
            took = f"{seconds:.0f} s, " if seconds is not None else ""
            print(f"{self._progress.count()} {suite.name:32} {tally}  ({took}{self._progress.left()})")
            for name in named.failed:
                print(f"    FAILED {name}")
            if tally.failed:
                print("".join(f"    | {line}\n" for line in why_failed(text)[-60:]), end="")
            sys.stdout.flush()

    def _tell_interrupted(self) -> None:
        with self._lock:
            for name in self._under_way:
                print(f"{name:40} interrupted")
            ended = len(self._told)
            print(f"\ninterrupted: {ended} of {len(self._chosen)} suites have ended")
            sys.stdout.flush()

    def _print(self, line: str) -> None:
        with self._lock:
            print(line, flush=True)

    def _show(self, messages: Path) -> None:
        errors = messages.read_text(encoding="utf-8", errors="replace").splitlines()
        with self._lock:
            for line in [*errors[:80], *errors[80:][-80:]]:
                print(f"    | {line}")
            print(f"    logs: {outside(messages.with_suffix('.*'))}", flush=True)


def choose(everything: list[Suite], wanted: str | None) -> list[Suite]:
    """Suites by name, by program, or by pattern; each word of `wanted` selects some."""
    if wanted is None:
        return everything
    chosen: dict[str, Suite] = {}
    for word in wanted.split():
        found = [suite for suite in everything if is_meant(suite, word)]
        if not found:
            names = " ".join(suite.name for suite in everything)
            raise Problem(f"no suite is called {word}; there are: {names}")
        chosen |= {suite.name: suite for suite in found}
    return list(chosen.values())


def is_meant(suite: Suite, word: str) -> bool:
    if set("*?[") & set(word):
        return fnmatch.fnmatchcase(suite.name, word)
    return word in (suite.name, suite.program)


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only",
        metavar="NAMES",
        help="run only these: a suite, a program (all its suites), a shell pattern with *",
    )
    parser.add_argument("--soak", action="store_true", help="of the long ones")
    parser.add_argument("--list", action="store_true", help="list the suites")
    parser.add_argument(
        "--busy",
        type=int,
        default=0,
        metavar="N",
        help="meanwhile run N endless loops on each processor, as on a busy host",
    )
    arguments = parser.parse_args()
    try:
        require_build_root()
        chosen = choose(list(soaks() if arguments.soak else suites()), arguments.only)
    except Problem as problem:
        print(f"check.py: {problem}", file=sys.stderr)
        return 2
    if arguments.list:
        print("\n".join(suite.name for suite in chosen))
        return 0
    signal.signal(signal.SIGTERM, interrupt)
    # One check at a time: it uses all processors, and there is one place for logs.
    with locked(LOGS):
        return check(chosen, arguments.busy)


def check(chosen: list[Suite], loops: int) -> int:
    LOGS.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    run = Check(chosen, loops)
    completed = run.run()
    total = run.total
    if completed:
        print(f"\n{len(chosen)} suites in {time.monotonic() - started:.0f} s")
    for word, names in (("FAILED", total.failed), ("skipped", total.skipped)):
        for name in names:
            print(f"{word} {name}")
    print(total, flush=True)
    if not completed:
        # Threads wait for commands that the interrupt ends. They end with this process.
        os._exit(130)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
