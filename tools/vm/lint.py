#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Checks of the sources that need no virtual machine.

Each prints what is wrong and fails, or is silent. `all` runs all of them.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from checkpatch import checkpatch
from crates import cargo
from doc_names import (
    Tree,
    broken_links,
    read_allowed,
    unknown_names,
    untested_calls,
    wrong_parameters,
)
from kernels import kernel, kernel_doc, source
from layers import problems
from module import RUSTDOC, build_module, rustdoc, sparse
from paths import CACHE, HERE, SRC, Problem, require_build_root
from ruff import ruff

UAPI = SRC / "include/uapi/linux/vfio_pgsize.h"
HOST = "tools/testing/host"
CRATE = "tools/crates/vfio-pgsize"
CRATES = (HOST, CRATE, "tools/testing/selftests/crate", "samples/rust")

# Folders whose files have another licence than the rest: for VMMs of any licence.
PERMISSIVE = (SRC / "tools/crates",)

# Emulated hardware, in QEMU's style.
SNP_QEMU = SRC / "tools/snp-qemu"

# The Python in tools/.
PACKAGES = ("vm", "bench", "demo", "oracle", "testing/guests")

# Scripts for the virtual machine.
IN_BUSYBOX = ("tools/vm/guest/", "tools/demo/", "tools/bench/", "tools/testing/")

# False positives of shellcheck.
SHELLCHECK_WRONG = (
    "SC1091",  # a file that exists only in the machine
    "SC2016",  # '$a' for another program to expand
    "SC2015",  # A && B || C: C is right if B fails
    "SC2154",  # a variable of such a file
    "SC2319",  # [ ... ] and then $?: a test's result
    "SC3045",  # read -t: busybox has it
)

# Files without a place for a licence line.
UNMARKED = ("COPYING", "Cargo.lock", ".gitignore", ".json", ".md")
LICENCES = ("LICENSE-APACHE", "LICENSE-BSD-3-Clause")


def tracked(*patterns: str) -> list[Path]:
    """The files in git, and new ones that it does not ignore."""
    command = ["git", "-c", f"safe.directory={SRC}", "-C", str(SRC), "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard", "--", *patterns]
    git = subprocess.run(command, check=False, capture_output=True, text=True)
    if git.returncode:
        # The build root sees only the checkout.
        said = git.stderr.strip()
        raise Problem(f"git does not list the files ({said}): is this a worktree? clone it instead")
    listed = git.stdout
    return [SRC / name for name in sorted(set(listed.split("\0"))) if name and (SRC / name).exists()]


def succeed(command: list[str], what: str, cwd: Path = SRC) -> None:
    if subprocess.run(command, stdin=subprocess.DEVNULL, check=False, cwd=cwd).returncode:
        raise Problem(what)


def spdx(_: argparse.Namespace) -> None:
    bad = []
    for file in tracked():
        if file.name.endswith((*UNMARKED, *LICENCES)) or file.is_symlink():
            continue
        start = "\n".join(file.read_text(encoding="utf-8", errors="replace").splitlines()[:5])
        permissive = any(folder in file.parents for folder in PERMISSIVE)
        licence = "Apache-2.0 OR BSD-3-Clause" if permissive else "GPL-2.0"
        if f"SPDX-License-Identifier: {licence}" not in start:
            bad.append(str(file.relative_to(SRC)))
    if bad:
        raise Problem(f"no SPDX-License-Identifier in the first lines of {', '.join(bad)}")


def fmt(arguments: argparse.Namespace) -> None:
    files = [str(file) for file in tracked("*.rs")]
    command = ["rustfmt", "--edition", "2021", *([] if arguments.write else ["--check"]), *files]
    succeed(command, "rustfmt would write the sources differently: run make fmt")


def clippy(_: argparse.Namespace) -> None:
    for test in (False, True):
        build_module(kernel("stock"), clippy=True, pedantic=True, test=test)
    for crate in CRATES:
        if cargo(crate, ["clippy", "--all-targets", "--all-features"], "--", "-Dwarnings"):
            raise Problem(f"clippy complains of {crate}: see above")


def docs(_: argparse.Namespace) -> None:
    """rustdoc, for the module, for the part of it that is built on the host, and for the crate."""
    rustdoc(kernel("stock"))
    if cargo(HOST, ["rustdoc", "--lib"], "--", "--document-private-items", "-Dmissing_docs", *RUSTDOC):
        raise Problem(f"rustdoc complains of {HOST}: see above")
    if cargo(CRATE, ["rustdoc", "--lib", "--all-features"], "--", *RUSTDOC):
        raise Problem(f"rustdoc complains of {CRATE}: see above")


def layers(_: argparse.Namespace) -> None:
    """rust/ is in layers; tools/vm/layers.py prints the graph."""
    found = problems(SRC / "rust")
    if found:
        raise Problem("rust/ is not in layers:\n" + "\n".join(found))


def doc_comments(_: argparse.Namespace) -> None:
    complaints = kernel_doc([UAPI])
    if complaints:
        raise Problem("kernel-doc complains:\n" + "\n".join(complaints))


def uapi(_: argparse.Namespace) -> None:
    """The header compiles alone, in C and in C++."""
    for compiler, standard in (("gcc", "-std=gnu90"), ("gcc", "-std=c11"), ("clang++", "-std=c++17")):
        language = "c++" if compiler == "clang++" else "c"
        command = [compiler, standard, "-x", language, "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
        command += ["-I", str(SRC / "include/uapi"), str(UAPI)]
        succeed(command, f"{UAPI.name} is no good {compiler} {standard}: see above")


def doc(arguments: argparse.Namespace) -> None:
    """Documentation/ as HTML, without warnings."""
    for file in tracked("Documentation/*.rst"):
        out = Path("/dev/null")
        if arguments.out:
            out = SRC / arguments.out / f"{file.stem}.html"
            out.parent.mkdir(parents=True, exist_ok=True)
        command = ["rst2html", "--report=2", "--halt=2", "--input-encoding=utf-8"]
        succeed([*command, str(file), str(out)], f"{file.name} is no good reStructuredText")


def doc_names(_: argparse.Namespace) -> None:
    """Names, links and tables in the documentation."""
    allowed = read_allowed((HERE / "doc_names.allow").read_text(encoding="utf-8"))
    files = [file for file in tracked() if file.is_file() and not file.is_symlink()]
    tree = Tree(SRC, files, source(), allowed)
    wrong = [*unknown_names(tree), *broken_links(tree)]
    wrong += [*wrong_parameters(tree), *untested_calls(tree)]
    if wrong:
        raise Problem("the documentation names what is not there:\n" + "\n".join(wrong))


def python(_: argparse.Namespace) -> None:
    """ruff and mypy, by tools/pyproject.toml."""
    tools = SRC / "tools"
    command = [str(ruff()), "check", "--quiet", "--no-cache", "."]
    succeed(command, "ruff complains: see above", cwd=tools)
    command = ["mypy", "--config-file", "pyproject.toml", "--cache-dir", str(CACHE / "mypy")]
    succeed([*command, *PACKAGES], "mypy complains: see above", cwd=tools)


def shell(_: argparse.Namespace) -> None:
    """shellcheck on all scripts; those for the virtual machine run in busybox."""
    scripts = {
        file: file.read_text(encoding="utf-8").partition("\n")[0]
        for file in tracked()
        if not file.is_symlink() and file.suffix in ("", ".sh") and file.read_bytes()[:2] == b"#!"
    }
    inside = [file for file in scripts if str(file.relative_to(SRC)).startswith(IN_BUSYBOX)]
    outside = [file for file, first in scripts.items() if "sh" in first and file not in inside]
    inside += [SRC / f"tools/vm/guest/{name}.sh" for name in ("vm", "tap", "wait")]
    inside.append(SRC / "tools/testing/guests/rig.sh")
    for dialect, files in (("busybox", inside), ("sh", outside)):
        command = ["shellcheck", f"--shell={dialect}", f"--exclude={','.join(SHELLCHECK_WRONG)}"]
        succeed([*command, *map(str, files)], "shellcheck complains: see above")


def spelling(_: argparse.Namespace) -> None:
    files = [file for file in tracked() if file.name != "COPYING" and file.suffix != ".lock"]
    command = ["codespell", "--toml", str(SRC / "tools/pyproject.toml"), *map(str, files)]
    succeed(command, "codespell complains: see above; a word that is right goes to pyproject.toml")


def c_style(_: argparse.Namespace) -> None:
    checkpatch(file for file in tracked("*.c", "*.h") if SNP_QEMU not in file.parents)


def c_types(_: argparse.Namespace) -> None:
    complaints = sparse(kernel("stock"))
    if complaints:
        raise Problem("sparse complains:\n" + "\n".join(complaints))


def every(arguments: argparse.Namespace) -> None:
    """Run each, two at a time, and print the results."""
    failed = []

    def run(name: str) -> None:
        started = time.monotonic()
        try:
            CHECKS[name](arguments)
            said = "ok"
        except Problem as problem:
            failed.append(name)
            said = str(problem)
        print(f"{name:12} {said}  ({time.monotonic() - started:.0f} s)", flush=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, CHECKS))
    if failed:
        raise Problem(f"not clean: {', '.join(failed)}")


CHECKS: dict[str, Callable[[argparse.Namespace], None]] = {
    "spdx": spdx,
    "fmt": fmt,
    "clippy": clippy,
    "rustdoc": docs,
    "layers": layers,
    "kernel-doc": doc_comments,
    "uapi": uapi,
    "doc": doc,
    "doc-names": doc_names,
    "python": python,
    "shell": shell,
    "spelling": spelling,
    "checkpatch": c_style,
    "sparse": c_types,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("check", choices=[*CHECKS, "all"])
    parser.add_argument("--write", action="store_true", help="fmt: rewrite the files")
    parser.add_argument("--out", metavar="DIR", help="doc: output directory for the HTML")
    arguments = parser.parse_args()
    try:
        require_build_root()
        (every if arguments.check == "all" else CHECKS[arguments.check])(arguments)
    except Problem as problem:
        print(f"lint.py: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
