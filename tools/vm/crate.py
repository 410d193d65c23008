#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Tests the crate vfio-pgsize, and the patch for vfio-ioctls beside it.

The bindings are those of the UAPI header; the tests and examples pass; the package is complete, and
builds without the checkout, and without the default features; the patch applies to the published
crate, whose own tests pass. The linters (lint.py) have clippy and rustdoc. In the virtual machine
tools/testing/selftests/crate tests both.
"""

import argparse
import difflib
import subprocess
import sys

from crates import PATCHED, cargo
from paths import SRC, Problem, require_build_root

CRATE = "tools/crates/vfio-pgsize"
BINDINGS = SRC / CRATE / "src/bindings.rs"
BINDGEN = (
    "bindgen",
    "--allowlist-file=.*/linux/vfio_pgsize.h",
    "--allowlist-file=.*/bindings.h",
    "--no-doc-comments",
    "--with-derive-default",
    "--with-derive-eq",
    "--use-core",
    str(SRC / CRATE / "bindings.h"),
    "--",
    f"-I{SRC}/include/uapi",
)


def bindings() -> str:
    """What bindgen makes of the header, without the prefix of bindings.h."""
    made = subprocess.run(BINDGEN, check=True, capture_output=True, text=True).stdout
    text = made.replace("RUST_CONST_HELPER_", "")
    return f"// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause\n{text}"


def check_bindings() -> None:
    old = BINDINGS.read_text(encoding="utf-8").splitlines()
    diff = list(difflib.unified_diff(old, bindings().splitlines(), "bindings.rs", "the header's"))
    if diff:
        print("\n".join(diff))
        raise Problem("src/bindings.rs is not the header's: run crate.py --write-bindings")


def check() -> None:
    check_bindings()
    for what, crate, command in (
        ("its tests", CRATE, ["test"]),
        ("its build without features", CRATE, ["check", "--no-default-features"]),
        ("the tests of the patched vfio-ioctls", PATCHED, ["test", "--no-default-features"]),
        ("its package", CRATE, ["package"]),
    ):
        if cargo(crate, command):
            raise Problem(f"{what} failed: see above")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write-bindings", action="store_true", help="only rewrite src/bindings.rs")
    arguments = parser.parse_args()
    try:
        require_build_root()
        if arguments.write_bindings:
            BINDINGS.write_text(bindings(), encoding="utf-8")
        else:
            check()
    except Problem as problem:
        print(f"crate.py: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
