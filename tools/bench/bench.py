#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Measure VFIO's IOMMU backends against one another, in guest instructions.

Boots the bench kernel, which has all of them, in a virtual machine that counts
instructions; runs pgsize-bench there, and prints what it found as tables, with
the figures to reach. Runs in the build root.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import following
import report
from results import ResultError, Results

HERE = Path(__file__).resolve().parent
VM = HERE.parent / "vm" / "vm.py"


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 all targets reached, 1 some are not, 2 nothing measured.",
    )
    parser.add_argument(
        "input",
        nargs="?",
        help="output of pgsize-bench, or - for standard input: do not run it",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--rst", type=Path, metavar="FILE", help="write the tables there")
    parser.add_argument(
        "--check", action="store_true", help="print TAP, one test for each target"
    )
    parser.add_argument("--mib", type=int, default=256, help="size of the mapping")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--kernel", default="bench", help="the kernel to boot (default: bench)")
    parser.add_argument("--timeout", type=int, default=900, help="seconds for the machine")
    return parser.parse_args()


def run_machine(arguments):
    """Yield the lines that pgsize-bench prints in the virtual machine."""
    command = [
        sys.executable, str(VM), "run",
        "--kernel", arguments.kernel,
        "--icount",
        "--smp", "1",
        "--mem", "2G",
        "--timeout", str(arguments.timeout),
        "--",
        "/tests/bench.sh", "--mib", str(arguments.mib), "--rounds", str(arguments.rounds),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as machine:
        lines = []
        for line in machine.stdout:
            lines.append(line)
            if not line.startswith("{"):
                print("#", line, end="", file=sys.stderr)
    if machine.returncode:
        raise ResultError(f"the virtual machine failed with status {machine.returncode}")
    return lines


def read_lines(arguments):
    if arguments.input is None:
        return run_machine(arguments)
    if arguments.input == "-":
        return sys.stdin.readlines()
    return Path(arguments.input).read_text(encoding="utf-8").splitlines()


def main():
    arguments = parse_arguments()
    try:
        results = Results(read_lines(arguments))
    except (ResultError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        if arguments.check:
            print(f"Bail out! {error}")
        return 2

    figures = report.as_dict(results)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if arguments.rst:
        command = "make bench RST=" + str(arguments.rst)
        lines = report.rst(results, command, following.measure())
        arguments.rst.write_text("\n".join(lines), encoding="utf-8")
    for line in report.tap(results) if arguments.check else report.text(results):
        print(line)
    return 0 if all(target["reached"] for target in figures["targets"]) else 1


if __name__ == "__main__":
    sys.exit(main())
