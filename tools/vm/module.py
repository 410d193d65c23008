#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Builds vfio_pgsize.ko against a kernel."""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from copies import copy
from kernels import NAMES, Kernel, kernel, source
from paths import CACHE, SRC, Problem, locked, require_build_root, say

# Debian's sparse is older than this keyword, which the kernel requires. It also does not treat
# strlen() of a literal as a constant, as MODULE_INFO() needs.
SPARSE = "sparse -D__typeof_unqual__=__typeof__ '-D__builtin_strlen(x)=(sizeof(x)-1)'"

# All lints of rustdoc are errors. Private items are documented, so links to them are allowed.
RUSTDOC = ("-Drustdoc::all", "-Arustdoc::private_intra_doc_links", "-Dwarnings")

# Added to the kernel's .clippy.toml: items that are visible outside their module need a doc comment.
CLIPPY_CONF = "missing-docs-in-crate-items = true"
PEDANTIC = ("-Dwarnings", "-Wclippy::missing_docs_in_private_items")

SOURCES = ("Kbuild", "rust", "include")


# Make's output, which the copy keeps.
MADE = ("*.o", ".*", "bindings_generated.rs", "bindgen.mk")


def build_module(
    target: Kernel, clippy: bool = False, pedantic: bool = False, test: bool = False
) -> Path:
    """Build the module, or its test build, for a kernel; with clippy, lint it too."""
    tree = CACHE / f"module-{target.build.name.removeprefix('kernel-')}"
    if test:
        tree = tree.with_name(f"{tree.name}-test")
    if clippy:
        tree = tree.with_name(f"{tree.name}-clippy")
    # There while a build runs. A build that was killed leaves half of a file that make takes for whole.
    unfinished = tree.with_name(f"{tree.name}.unfinished")
    with locked(tree):
        if unfinished.exists():
            shutil.rmtree(tree, ignore_errors=True)
        unfinished.touch()
        copy(SOURCES, tree, [*(f"--filter=P {name}" for name in MADE), "--exclude=target/"])
        what = "the test build of vfio_pgsize.ko" if test else "vfio_pgsize.ko"
        say(f"{'linting' if clippy else 'building'} {what} for {target.release}")
        command = [*target.make(), f"M={tree}", "modules"]
        if test:
            command.append("VFIO_PGSIZE_TEST=1")
        if clippy:
            conf = (source() / ".clippy.toml").read_text(encoding="utf-8")
            (tree / ".clippy.toml").write_text(f"{CLIPPY_CONF}\n{conf}", encoding="utf-8")
            command += ["CLIPPY=1", f"CLIPPY_CONF_DIR={tree}"]
            # clippy prints only when it compiles
            (tree / "rust/vfio_pgsize.o").unlink(missing_ok=True)
        if pedantic:
            command.append(f"KRUSTFLAGS={' '.join(PEDANTIC)}")
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
        unfinished.unlink()
    if result.returncode:
        raise Problem("the module does not build: see above")
    return tree / "vfio_pgsize.ko"


def rustdoc(target: Kernel) -> None:
    """Build the documentation of the module, including private items, with the flags of its build."""
    build_module(target)
    tree = CACHE / f"module-{target.build.name.removeprefix('kernel-')}"
    with locked(tree):
        saved = (tree / "rust/.vfio_pgsize.o.cmd").read_text(encoding="utf-8")
        words = shlex.split(saved.partition("\n")[0].partition(":= ")[2])
        compiler = words.index("rustc")
        environment = dict(word.split("=", 1) for word in words[:compiler])
        environment["RUSTC_BOOTSTRAP"] = "1"
        environment["VFIO_PGSIZE_BINDINGS"] = str(tree / "rust/bindings_generated.rs")
        out = words.index("--out-dir")
        flags = words[compiler + 1 : out] + words[out + 2 :]
        command = ["rustdoc", *(flag for flag in flags if not flag.startswith("--emit="))]
        command += ["--document-private-items", *RUSTDOC, "--output", str(tree / "rustdoc")]
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, check=False, cwd=tree, env=os.environ | environment
        )
    if result.returncode:
        raise Problem("rustdoc complains: see above")


def sparse(target: Kernel) -> list[str]:
    """The output of sparse for the module's C."""
    build_module(target)
    tree = CACHE / f"module-{target.build.name.removeprefix('kernel-')}"
    with locked(tree):
        # C=2: also files that are up to date
        command = [*target.make(), f"M={tree}", "C=2", f"CHECK={SPARSE}", "modules"]
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    # The kernel's build prints about BTF there, too.
    said = [line for line in result.stderr.splitlines() if "BTF" not in line]
    if result.returncode and not said:
        raise Problem(f"sparse does not run: {result.stdout}")
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kernel", nargs="?", default="stock", choices=NAMES)
    parser.add_argument("--clippy", action="store_true", help="compile with clippy")
    parser.add_argument("--pedantic", action="store_true", help="fail on warnings")
    parser.add_argument("--test-build", action="store_true", help="build with the additions for tests")
    parser.add_argument("--out", type=Path, metavar="DIR", help="copy the module to DIR/RELEASE/")
    arguments = parser.parse_args()
    try:
        require_build_root()
        target = kernel(arguments.kernel)
        module = build_module(target, arguments.clippy, arguments.pedantic, arguments.test_build)
        if arguments.out:
            place = arguments.out / target.release
            place.mkdir(parents=True, exist_ok=True)
            copy = place / module.name
            copy.write_bytes(module.read_bytes())
            print(f"built {copy.relative_to(SRC) if copy.is_relative_to(SRC) else copy}")
    except Problem as problem:
        print(f"module.py: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
