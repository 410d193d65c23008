#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Demonstrates the module in two virtual machines.

Prints what it builds, how long that takes, and what each part shows.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "vm"))
import kernels
import snp_qemu
from module import build_module
from paths import HERE, Problem, require_build_root
from programs import is_built, programs

VM = str(HERE / "vm.py")

# What to build, whether it exists, and the minutes that it takes.
MADE: tuple[tuple[str, Callable[[], bool], int], ...] = (
    ("the stock kernel's Rust metadata", lambda: kernels.is_made("stock"), kernels.MINUTES["stock"]),
    ("QEMU as an SNP host", snp_qemu.is_made, snp_qemu.MINUTES),
    ("programs and samples", is_built, 1),
)

PARTS = (
    (
        "An SNP host: a guest shares pages and takes them back while a device does DMA",
        "first with vfio_iommu_type1, whose DMA fails, then with vfio_pgsize, whose does not",
        ["--snp", "milan", "--icount", "--oracle", "--timeout", "600"],
        "/demo/snp.sh",
    ),
    (
        "Page sizes by request: two small VMM clients, in C and in Rust, map memory for a device",
        "what each asked for, the bytes that DMA moved, and the leaves that came of it",
        ["--oracle", "--timeout", "600"],
        "/demo/guest.sh",
    ),
)


def say(text: str) -> None:
    print(f"demo: {text}", flush=True)


def make_ready() -> None:
    missing = [(what, minutes) for what, there, minutes in MADE if not there()]
    if missing:
        minutes = sum(minutes for _, minutes in missing)
        say(f"the first run makes, in about {minutes} minutes on two processors:")
        for what, each in missing:
            say(f"  {what} ({each} min)")
    build_module(kernels.kernel("stock"))
    snp_qemu.qemu()
    say("building the programs")
    programs()


def main() -> int:
    try:
        require_build_root()
        make_ready()
    except Problem as problem:
        print(f"demo.py: {problem}", file=sys.stderr)
        return 1
    for number, (what, how, options, command) in enumerate(PARTS, 1):
        started = time.monotonic()
        print(flush=True)
        say(f"{number}/{len(PARTS)} {what}:")
        say(f"    {how}.")
        say("    Debian's kernel boots in QEMU; that takes half a minute, on a busy host more.")
        status = subprocess.run([VM, "run", "--strict", *options, "--", command], check=False).returncode
        if status:
            return status
        say(f"{number}/{len(PARTS)} is done, in {time.monotonic() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
