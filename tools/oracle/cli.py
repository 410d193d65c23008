# SPDX-License-Identifier: GPL-2.0
"""The oracle's command line."""

import argparse
import json
import logging
import sys

from oracle.memory import Machine, OracleError
from oracle.runs import runs_of
from oracle.server import serve_at


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="oracle.py",
        description="Reads a device's AMD IOMMU page table from a running QEMU.",
    )
    commands = top.add_subparsers(dest="command", required=True)

    dump = commands.add_parser("dump", help="print the contents of a device's page table")
    dump.add_argument("--qmp", required=True, metavar="SOCKET", help="QEMU's QMP unix socket")
    dump.add_argument("--device", required=True, metavar="BDF", help="PCI address: 0000:00:03.0")
    dump.add_argument("--leaves", action="store_true", help="print every leaf with its address")
    dump.add_argument("--json", action="store_true", help="print all information as JSON")

    serve = commands.add_parser("serve", help="answer tests in the guest over a serial port")
    serve.add_argument("--qmp", required=True, metavar="SOCKET", help="QEMU's QMP unix socket")
    serve.add_argument("--serial", required=True, metavar="SOCKET", help="the serial port's socket")
    serve.add_argument("--verbose", action="store_true", help="log each answer")
    return top


def dump(arguments: argparse.Namespace) -> int:
    with Machine(arguments.qmp) as machine:
        entry, walk = machine.walk(arguments.device)
    runs = runs_of(walk.leaves)
    if arguments.json:
        report = {
            "entry": vars(entry),
            "tables": walk.tables,
            "runs": [run._asdict() for run in runs],
            "leaves": [leaf._asdict() for leaf in walk.leaves],
            "problems": walk.problems,
        }
        print(json.dumps(report, indent=2))
    else:
        print(f"domain {entry.domain_id}, mode {entry.mode}, root {entry.root:#x}")
        print(f"{len(walk.tables)} table pages, {len(walk.leaves)} leaves, {len(runs)} runs")
        for run in runs:
            print(f"run {run}")
        for leaf in walk.leaves if arguments.leaves else ():
            access = "r" * leaf.read + "w" * leaf.write
            print(f"leaf {leaf.iova:#x} -> {leaf.phys:#x} {leaf.size:#x} {access}")
        for problem in walk.problems:
            print(f"problem: {problem}")
    return 1 if walk.problems else 0


def main() -> int:
    """Exit status: 0; 1 if the table is broken; 2 if it is not readable."""
    arguments = parser().parse_args()
    try:
        if arguments.command == "dump":
            return dump(arguments)
        logging.basicConfig(level=logging.INFO if arguments.verbose else logging.WARNING)
        serve_at(arguments.qmp, arguments.serial)
        return 0
    except OracleError as error:
        print(f"oracle.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
