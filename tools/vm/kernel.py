#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Builds kernels in advance, and prints their directories."""

import argparse
import sys

from kernels import NAMES, kernel
from paths import Problem, require_build_root


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="+", choices=NAMES, help="the kernels to build")
    arguments = parser.parse_args()
    try:
        require_build_root()
        for name in arguments.name:
            ready = kernel(name)
            print(f"{name}: {ready.release} in {ready.build}")
    except Problem as problem:
        print(f"kernel.py: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
