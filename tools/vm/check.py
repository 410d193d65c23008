#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Runs the suites of suites.py, two at a time, and sums up their results.

The last line is `N passed, N failed, N skipped`; a failure or a suite that
breaks off gives a non-zero exit status.
"""

import argparse
import fnmatch
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from tap.parser import Parser

from jobs import Job, Part, jobs, parts
from kernels import NAMES, kernel
from machine import RUN_AGAIN
from module import build_module
from paths import CACHE, SRC, Problem, locked, outside, require_build_root, say
from programs import programs
from suites import Output, Suite, suites

LOGS = CACHE / "check"
AT_ONCE = 2
CARGO_SUM = re.compile(r"test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored")

printing = Lock()


@dataclass
class Tally:
    """The results of a suite, or of all."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        return f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"


def read_tap(text: str) -> Tally:
    """Sum up TAP; a test that was planned and did not come has failed."""
    tally = Tally()
    planned = None
    seen = 0
    # Told of version 13, the parser warns that it can not read the YAML of it: there is none.
    for line in Parser().parse_text(text.replace("TAP version 13", "#")):
        if line.category == "plan":
            planned = line.expected_tests
            if line.skip:
                tally.skipped.append(str(line))
        elif line.category == "bail":
            tally.failed.append(f"bailed out: {line.reason}")
        elif line.category == "test":
            seen += 1
            words = line.description.lstrip("- ")
            if line.skip:
                tally.skipped.append(f"{words} ({line.directive.text})")
            elif line.ok or line.todo:
                tally.passed += 1
            else:
                tally.failed.append(words)
    if planned is None:
        tally.failed.append("no plan: the suite did not begin")
    elif seen != planned:
        tally.failed.append(f"{planned} tests planned, {seen} came")
    return tally


def read_cargo(text: str) -> Tally:
    """Sum up what `cargo test` printed."""
    tally = Tally()
    sums = [tuple(map(int, found)) for found in CARGO_SUM.findall(text)]
    tally.passed = sum(passed for passed, _, _ in sums)
    named = re.findall(r"^    (\S+)$", text, re.MULTILINE)
    failed = sum(failed for _, failed, _ in sums)
    names = list(dict.fromkeys(named)) if failed else []
    tally.failed = (names + ["a test"] * failed)[:failed]
    tally.skipped = ["ignored by its author"] * sum(ignored for _, _, ignored in sums)
    if not sums:
        tally.failed.append("no test ran")
    return tally


def judge(suite: Suite, text: str, status: int | None) -> Tally:
    """The results of a suite that ended with this output and status, or without one."""
    if suite.output is Output.STATUS:
        return Tally(passed=1) if status == 0 else Tally(failed=[f"exit status {status}"])
    tally = read_tap(text) if suite.output is Output.TAP else read_cargo(text)
    if status is None:
        tally.failed.append("the machine was gone before it ended")
    elif status and not tally.failed:
        tally.failed.append(f"all tests passed, yet the exit status is {status}")
    return tally


def run(job: Job) -> Tally:
    """Run a job and tell what came of it."""
    say(f"{' '.join(suite.name for suite in job.suites)} ...")
    started = time.monotonic()
    results = LOGS / f"{job.name}.out"
    messages = LOGS / f"{job.name}.err"
    with open(results, "wb") as output, open(messages, "wb") as errors:
        status = subprocess.run(
            job.command(),
            cwd=SRC / job.suites[0].directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            check=False,
        ).returncode
    seconds = time.monotonic() - started
    text = results.read_text(encoding="utf-8", errors="replace")
    total = Tally()
    with printing:
        if job.guest is None:
            total.add(tell(job.suites[0], judge(job.suites[0], text, status), text, seconds))
        else:
            found = parts(job, text)
            for suite in job.suites:
                part = found.get(suite.name, Part("", None, 0))
                tally = judge(suite, part.text, part.status)
                total.add(tell(suite, tally, part.text, part.seconds))
            if status and not total.failed:
                total.failed.append(f"{job.name}: all tests passed, yet the machine did not")
            print(f"  their machine: {seconds:.0f} s", flush=True)
            for line in messages.read_text(encoding="utf-8", errors="replace").splitlines():
                if line.endswith(RUN_AGAIN):
                    print(f"  {line}", flush=True)
        if total.failed:
            show(messages, f"logs: {outside(messages.with_suffix('.*'))}")
    return total


def tell(suite: Suite, tally: Tally, text: str, seconds: float) -> Tally:
    """Print the results of a suite, and name it in them."""
    print(f"{suite.name:32} {tally}  ({seconds:.0f} s)", flush=True)
    tally.failed = [f"{suite.name}: {name}" for name in tally.failed]
    tally.skipped = [f"{suite.name}: {name}" for name in tally.skipped]
    for name in tally.failed:
        print(f"    FAILED {name}")
    if tally.failed:
        print("".join(f"    | {line}\n" for line in text.splitlines()[-60:]), end="")
    return tally


def show(messages: Path, last: str) -> None:
    errors = messages.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in [*errors[:80], *errors[80:][-80:]]:
        print(f"    | {line}")
    print(f"    {last}", flush=True)


def prepare(chosen: list[Suite]) -> Tally:
    """Build what the suites share, so that they do not wait for one another."""
    used = {
        (suite.guest.kernel, "--test-build" in suite.guest.options)
        for suite in chosen
        if suite.guest
    }
    used |= {(name, False) for suite in chosen for name in NAMES if name in suite.command}
    try:
        for name, test in sorted(used):
            build_module(kernel(name), test=test)
        if used:
            programs()
    except Problem as problem:
        say(str(problem))
        return Tally(failed=[f"build: {problem}"])
    return Tally(passed=1) if used else Tally()


def choose(pattern: str | None) -> list[Suite]:
    everything = list(suites())
    if pattern is None:
        return everything
    chosen = [suite for suite in everything if fnmatch.fnmatch(suite.name, f"*{pattern}*")]
    if not chosen:
        names = " ".join(suite.name for suite in everything)
        raise Problem(f"no suite is called {pattern}; there are: {names}")
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="PATTERN", help="the suites with this in their name")
    parser.add_argument("--list", action="store_true", help="name the suites")
    arguments = parser.parse_args()
    try:
        require_build_root()
        chosen = choose(arguments.only)
    except Problem as problem:
        print(f"check.py: {problem}", file=sys.stderr)
        return 2
    if arguments.list:
        print("\n".join(suite.name for suite in chosen))
        return 0
    # One at a time: the machines want the processors, and the logs have one place.
    with locked(LOGS):
        return check(chosen)


def check(chosen: list[Suite]) -> int:
    LOGS.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    total = prepare(chosen)
    if total.failed:
        left = [suite for suite in chosen if not suite.guest]
        say(f"{len(chosen) - len(left)} suites in the machine are not run: the build failed")
        chosen = left
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for tally in pool.map(run, jobs(chosen)):
            total.add(tally)
    print(f"\n{len(chosen)} suites in {time.monotonic() - started:.0f} s")
    for word, names in (("FAILED", total.failed), ("skipped", total.skipped)):
        for name in names:
            print(f"{word} {name}")
    print(total)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
