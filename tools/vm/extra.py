# SPDX-License-Identifier: GPL-2.0
"""Builds the modules that tests load beside vfio_pgsize.ko, against a kernel.

ccp.ko stands in for KVM on the SNP host. emulated_test.ko has VFIO devices that are
software. mtty.ko and mdpy.ko are samples of the kernel's own for such devices, which
Debian does not build.
"""

import subprocess
import sys
from pathlib import Path

from kernels import Kernel, source
from paths import CACHE, SRC, Problem, locked, say

TESTS = SRC / "tools/testing"
SAMPLES = ("mtty", "mdpy")


def build(target: Kernel, name: str, sources: list[str], kbuild: str = "") -> Path:
    """The tree in the cache in which the sources are built; kbuild: the text of their Kbuild."""
    tree = CACHE / f"{name}-{target.build.name.removeprefix('kernel-')}"
    with locked(tree):
        tree.mkdir(parents=True, exist_ok=True)
        # by content, and with new time stamps: as module.py does
        subprocess.run(["rsync", "-rlp", "--checksum", *sources, str(tree)], check=True)
        if kbuild:
            (tree / "Kbuild").write_text(kbuild, encoding="utf-8")
        say(f"building {name} for {target.release}")
        command = [*target.make(), f"M={tree}", "modules"]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if result.returncode:
        raise Problem(f"{name} does not build: see above")
    return tree


def placed(target: Kernel, file: Path) -> tuple[Path, Path]:
    """(place in the machine, file)"""
    return Path("/lib/modules") / target.release / "extra" / file.name, file


def ccp(target: Kernel) -> tuple[Path, Path]:
    tree = build(target, "ccp", [f"{TESTS}/snp-host/"])
    return placed(target, tree / "ccp.ko")


def emulated(target: Kernel) -> list[tuple[Path, Path]]:
    """The test's devices, and the samples if the kernel has the bus that they are on."""
    tree = build(target, "emulated", [f"{TESTS}/emulated/"])
    built = [tree / "emulated_test.ko"]
    if "CONFIG_VFIO_MDEV=m" in (target.build / ".config").read_text(encoding="utf-8"):
        names = [*(f"{name}.c" for name in SAMPLES), "mdpy-defs.h"]
        files = [f"{source()}/samples/vfio-mdev/{name}" for name in names]
        kbuild = f"obj-m := {' '.join(f'{name}.o' for name in SAMPLES)}\n"
        tree = build(target, "vfio-mdev", files, kbuild)
        built += [tree / f"{name}.ko" for name in SAMPLES]
    return [placed(target, file) for file in built]
