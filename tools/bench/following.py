# SPDX-License-Identifier: GPL-2.0
"""What following the RMP costs: the figures of snp_cost_test, as `make check` runs it."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from results import ResultError

sys.path.append(str(Path(__file__).resolve().parent.parent / "vm"))
from jobs import Job
from suites import Suite, snp_selftests

SUITE = "snp_cost_test@"

ALONE = re.compile(r"# instructions, nobody follows: smash (\d+), 2M made whole (\d+)")
NOBODYS = re.compile(r"# (\d+) following, none maps it: smash \+(\d+), 2M made whole \+(\d+)")
UNPREPARED = re.compile(r"# 1 following, all map it, no reserve: split \+(\d+)")
EVERYBODYS = re.compile(r"# (\d+) following, all map it: split \+(\d+), merge \+(\d+) on top")


def _suite() -> Suite:
    return next(suite for suite in snp_selftests("stock") if suite.name.startswith(SUITE))


def measure() -> str:
    """Run it, and return its output."""
    done = subprocess.run(Job((_suite(),)).command(), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise ResultError(f"{SUITE[:-1]} failed with status {done.returncode}:\n{done.stdout}")
    return done.stdout


def rows(output: str) -> Iterator[tuple[str, ...]]:
    """A table: the cost of each part by the number of containers that follow."""
    alone = ALONE.search(output)
    # By number of containers. One number is measured twice.
    nobodys = list({found[0]: found for found in NOBODYS.findall(output)}.values())
    unprepared = UNPREPARED.search(output)
    everybodys = {count: costs for count, *costs in EVERYBODYS.findall(output)}
    if not alone or not nobodys or not unprepared:
        raise ResultError(f"{SUITE[:-1]} printed no figures")
    yield ("containers that follow", "0", *(count for count, *_ in nobodys))
    texts = ("smash, frame of nobody's", "2M made whole, nobody's")
    for which, text in enumerate(texts):
        base = int(alone[which + 1])
        yield (text, str(base), *(str(base + int(costs[which])) for _, *costs in nobodys))
    for which, text in enumerate(("all have it: split, flush", "all have it: merge, flush")):
        yield (text, "", *(f"+{everybodys[count][which]}" for count, *_ in nobodys))
    yield ("split, no table in reserve", "", f"+{unprepared[1]}", *("" for _ in nobodys[1:]))
