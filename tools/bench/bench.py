#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Measure VFIO's IOMMU backends against each other, in guest instructions.

Boots the bench kernel, which has all backends, in a virtual machine that counts
instructions. Runs pgsize-bench there, pgsize-states in a second machine, and what
dirty tracking costs in a third one. Prints the results as tables, with their targets.
Runs in the build root.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import following
import report
from results import ResultError, Results
from targets import DIRTY_MIB, STOCK_MIB

HERE = Path(__file__).resolve().parent
VM = HERE.parent / "vm" / "vm.py"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 all targets reached, 1 some missed, 2 nothing measured.",
    )
    parser.add_argument(
        "input",
        nargs="?",
        help="use this output of the programs, or - for standard input, and do not run them",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--rst", type=Path, metavar="FILE", help="write the tables to FILE")
    parser.add_argument(
        "--check", action="store_true", help="print TAP, one test for each target"
    )
    parser.add_argument(
        "--mib", type=int, metavar="N", help=f"size of the mapping (256; {STOCK_MIB} on the stock kernel)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each row")
    parser.add_argument("--changes", type=int, default=1000000, help="random changes of page states")
    parser.add_argument(
        "--type1-changes", type=int, default=300000, help="maximum number of these changes on type1"
    )
    parser.add_argument(
        "--kernel",
        choices=("bench", "stock"),
        default="bench",
        help="the kernel to boot: stock has no iommufd, and its own targets (default: bench)",
    )
    parser.add_argument("--timeout", type=int, default=3000, help="time limit of a machine in seconds")
    arguments = parser.parse_args()
    if arguments.mib is None:
        arguments.mib = STOCK_MIB if arguments.kernel == "stock" else 256
    return arguments


def run_machine(
    arguments: argparse.Namespace, options: list[str], program: str, *rest: object
) -> list[str]:
    """The lines that a program prints in a virtual machine."""
    command = [
        sys.executable, str(VM), "run",
        "--kernel", arguments.kernel,
        "--icount",
        "--smp", "1",
        *options,
        "--timeout", str(arguments.timeout),
        "--",
        "/tests/bench.sh", program, *map(str, rest),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as machine:
        lines = []
        assert machine.stdout
        for line in machine.stdout:
            lines.append(line)
            if not line.startswith("{"):
                print("#", line, end="", file=sys.stderr)
    if machine.returncode:
        raise ResultError(f"{program}: the virtual machine failed, status {machine.returncode}")
    return lines


def run_machines(arguments: argparse.Namespace) -> list[str]:
    """The lines of all programs."""
    backends = run_machine(
        arguments, ["--mem", "2G"], "pgsize-bench",
        "--mib", arguments.mib, "--rounds", arguments.rounds,
    )  # fmt: skip
    states = run_machine(
        arguments, ["--mem", "4G", "--oracle"], "pgsize-states",
        "--changes", arguments.changes, "--type1-changes", arguments.type1_changes,
    )  # fmt: skip
    # The IOMMU of Debian's QEMU has no dirty bits.
    dirty = run_machine(
        arguments, ["--mem", "2G", "--snp", "off", "--dirty"], "pgsize-bench", "--dirty",
        "--memory", "hugetlb", "--mib", DIRTY_MIB, "--rounds", arguments.rounds,
    )  # fmt: skip
    return backends + states + dirty


def read_lines(arguments: argparse.Namespace) -> list[str]:
    if arguments.input is None:
        return run_machines(arguments)
    if arguments.input == "-":
        return sys.stdin.readlines()
    return Path(arguments.input).read_text(encoding="utf-8").splitlines()


def main() -> int:
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
