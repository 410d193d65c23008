# SPDX-License-Identifier: GPL-2.0
"""The results of a suite, from its output and exit status."""

import re
from dataclasses import dataclass, field

from tap.parser import Parser

from suites import Output, Suite

CARGO_SUM = re.compile(r"test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored")

# Lines of output: of a test that failed, and behind the last test.
SAID_BY_A_TEST = 20
SAID_LAST = 40


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

    def named(self, name: str) -> "Tally":
        """The same, with the suite's name in each failure."""
        failed = [f"{name}: {text}" for text in self.failed]
        return Tally(self.passed, failed, [f"{name}: {text}" for text in self.skipped])

    def __str__(self) -> str:
        return f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"


def read_tap(text: str) -> Tally:
    """Sum up TAP; a test that was planned and did not run has failed."""
    tally = Tally()
    planned = None
    seen = 0
    # For version 13 the parser warns that it cannot read YAML; there is none.
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


def why_failed(text: str) -> list[str]:
    """Lines of TAP that say why tests failed: what each printed since the one before it."""
    lines: list[str] = []
    said: list[str] = []
    for line in text.splitlines():
        said.append(line)
        if line.startswith("not ok"):
            lines += said[-SAID_BY_A_TEST:]
        if line.startswith(("ok", "not ok")):
            said = []
    return [*lines, *said[-SAID_LAST:]]


def read_cargo(text: str) -> Tally:
    """Sum up the output of `cargo test`."""
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
