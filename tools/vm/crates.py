#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Runs cargo in a crate of ours, on a copy of the checkout."""

import argparse
import subprocess
import sys
from pathlib import Path

from copies import copy
from paths import CACHE, Problem, locked, require_build_root

TREE = CACHE / "crates"
# The source of vfio-ioctls with our patch is made here, and the crates that are built on it.
VFIO_IOCTLS = "tools/crates/vfio-ioctls"
PATCHED = f"{VFIO_IOCTLS}/target/vfio-ioctls"
ON_PATCHED = (PATCHED, "tools/testing/selftests/crate")
COPIED = ("include", "rust", "samples", "tools")

# Failing cases of proptest are kept, and tried again for each checkout.
FILTERS = (
    "--filter=P proptest-regressions/",
    "--filter=P *.proptest-regressions",
    "--exclude=target/",
    "--exclude=__pycache__/",
)


def cargo(crate: str, command: list[str], *arguments: str) -> int:
    """Run a cargo command in a crate, given by its path in the checkout. Return the exit status."""
    with locked(TREE):
        copy(COPIED, TREE, FILTERS)
        if crate in ON_PATCHED:
            subprocess.run(["make", "-s", "-C", str(TREE / VFIO_IOCTLS)], check=True)
        target = ["--target-dir", str(CACHE / "cargo-target" / Path(crate).name)]
        line = ["cargo", *command, "-q", "--locked", *target, *arguments]
        return subprocess.run(line, stdin=subprocess.DEVNULL, check=False, cwd=TREE / crate).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("crate", metavar="DIR", help="its path in the checkout")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="of cargo: test, ...")
    arguments = parser.parse_args()
    try:
        require_build_root()
        return cargo(arguments.crate, arguments.command)
    except Problem as problem:
        print(f"crates.py: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
