#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Runs a command, or a shell, in a virtual machine with an IOMMU."""

import argparse
import shlex
import sys
from pathlib import Path

from extra import ccp, emulated
from kernels import NAMES, kernel
from machine import SNP_MODELS, Machine, Result, Settings
from module import build_module
from paths import Problem, require_build_root
from programs import programs


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__)
    commands = top.add_subparsers(dest="action", required=True)
    run = commands.add_parser("run", help="run a command; its exit status is vm.py's")
    shell = commands.add_parser("shell", help="start an interactive shell; exit ends it")
    for command in (run, shell):
        command.add_argument("--kernel", choices=NAMES, default="stock")
        command.add_argument("--smp", type=int, default=2, metavar="N", help="number of processors (2)")
        command.add_argument("--mem", default="2G", help="memory size (2G)")
        command.add_argument("--edu", type=int, default=1, metavar="N", help="number of edu devices (1)")
        command.add_argument("--icount", action="store_true", help="count instructions as time")
        command.add_argument("--share", action="store_true", help="mount the build root at /host")
        command.add_argument("--oracle", action="store_true", help="serve the oracle on ttyS1")
        command.add_argument("--iommu", choices=("amd", "intel"), default="amd")
        command.add_argument("--snp", choices=SNP_MODELS, default="", help="emulate an SEV-SNP host")
        command.add_argument("--emulated", action="store_true", help="devices that are software")
        command.add_argument("--log", type=Path, metavar="FILE", help="write the kernel log to FILE")
        command.add_argument("--no-module", action="store_true", help="leave out vfio_pgsize.ko")
        command.add_argument("--test-build", action="store_true", help="use the module's test build")
        command.add_argument(
            "--quick-path",
            action="store_true",
            help="use the test build, and the quick path of page states on the debug kernel, too",
        )
        command.add_argument("--leaks", action="store_true", help="run kmemleak (debug kernel)")
        command.add_argument("--huge-1g", type=int, default=0, metavar="N", help="reserve N 1G pages (0)")
        command.add_argument("--append", default="", help="add to the kernel command line")
        command.add_argument("--qemu", default="", metavar="ARGS", help="add to QEMU's command line")
        command.add_argument("--strict", action="store_true", help="fail if a program does not build")
        command.add_argument(
            "--tests", metavar="NAMES", help="include only these selftests, separated by commas (all)"
        )
        command.add_argument(
            "--dirty", action="store_true", help="give the IOMMU dirty bits (with --snp)"
        )
        command.add_argument(
            "--no-reports",
            action="store_true",
            help="do not fail on reports in the kernel log (lockdep, KASAN, WARNING, leak ...)",
        )
    run.add_argument(
        "--timeout",
        type=int,
        default=300,
        metavar="S",
        help="seconds of silence in the machine's own time (300)",
    )
    run.add_argument("command", nargs="+", metavar="COMMAND", help="a shell command, after --")
    return top


def settings(arguments: argparse.Namespace) -> Settings:
    interactive = arguments.action == "shell"
    return Settings(
        smp=arguments.smp,
        mem=arguments.mem,
        edu=arguments.edu,
        icount=arguments.icount,
        share=arguments.share,
        oracle=arguments.oracle,
        iommu=arguments.iommu,
        snp=arguments.snp,
        dirty=arguments.dirty,
        timeout=24 * 3600 if interactive else arguments.timeout,
        log=arguments.log,
        reports=not arguments.no_reports and not interactive,
        interactive=interactive,
        leaks=arguments.leaks,
        huge_1g=arguments.huge_1g,
        append=arguments.append,
        quick_path=arguments.quick_path,
        qemu=shlex.split(arguments.qemu),
    )


def command_line(arguments: argparse.Namespace) -> str:
    """One argument is a shell command; several are a command's words."""
    if arguments.action == "shell":
        return '. /lib/vm.sh; echo "load_vfio, load_pgsize, bind_edu are to hand"; ENV=/lib/vm.sh sh -i'
    words = arguments.command
    return words[0] if len(words) == 1 else shlex.join(words)


def tell(result: Result) -> None:
    if result.failure:
        print(f"vm.py: {result.failure}", file=sys.stderr)
    for report in result.reports:
        print("vm.py: the kernel reported:", file=sys.stderr)
        for line in report.splitlines():
            print(f"    {line}", file=sys.stderr)


def main() -> int:
    arguments = parser().parse_args()
    try:
        require_build_root()
        target = kernel(arguments.kernel)
        module = None
        if not arguments.no_module:
            module = build_module(target, test=arguments.test_build or arguments.quick_path)
        tests = None if arguments.tests is None else arguments.tests.split(",")
        built = programs(arguments.strict, tests)
        if arguments.snp:
            built.append(ccp(target))
        if arguments.emulated:
            built += emulated(target)
        machine = Machine(target, settings(arguments))
        result = machine.run(command_line(arguments), module, built)
    except Problem as problem:
        print(f"vm.py: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    tell(result)
    return result.exit_status()


if __name__ == "__main__":
    sys.exit(main())
