# SPDX-License-Identifier: GPL-2.0
"""The test programs and samples for the virtual machine.

They are built from a copy of the checkout in the cache (copies.py).
"""

import subprocess
import sys
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from copies import copy
from kernels import facts, source
from paths import CACHE, Problem, locked, say

TREE = CACHE / f"programs-{facts()['series']}"
OUT = TREE / "out"
COPIED = ("include", "rust", "samples", "tools")


@dataclass(frozen=True)
class Group:
    """A directory of programs: its source, and its place in the machine."""

    directory: str
    place: str
    arguments: tuple[str, ...] = ()
    copied: tuple[str, ...] = ()  # files of the directory that are copied unchanged
    runner: str = ""  # the script among them that runs all programs of the directory

    @property
    def name(self) -> str:
        return self.directory.replace("/", "-")

    @property
    def is_of_tests(self) -> bool:
        return "selftests" in self.directory

    def out(self) -> Path:
        return OUT / self.name

    def has_wanted(self, file: str, tests: Container[str] | None) -> bool:
        """Whether a machine that runs only these selftests needs this file."""
        return tests is None or not self.is_of_tests or file in tests or self.runner in tests


GROUPS = (
    Group("samples/c", "/samples"),
    Group("samples/rust", "/samples", (f"TARGET_DIR={OUT}/cargo",)),
    Group(
        "tools/testing/selftests/vfio_pgsize",
        "/tests",
        copied=("parameters_test.sh", "samples_test.sh"),
    ),
    Group("tools/testing/selftests/snp", "/tests"),
    Group("tools/testing/selftests/crate", "/tests", (f"TARGET_DIR={OUT}/cargo",)),
    Group(
        "tools/testing/selftests/vfio",
        "/tests",
        copied=("vfio_selftests.sh",),
        runner="vfio_selftests.sh",
    ),
    Group("tools/testing/qemu-l2", "/tests", copied=("qemu-l2.sh",)),
    Group("tools/testing/dpdk", "/tests", copied=("dpdk.sh",)),
    Group(
        "tools/testing/guests",
        "/tests",
        copied=("guest-init.sh", "rig.sh", "qmp.py", "viommu.sh", "cpr.sh", "virtio-mem.sh"),
    ),
    Group("tools/bench", "/tests"),
    Group("tools/demo", "/demo", copied=("snp.sh", "guest.sh")),
)


def build(group: Group) -> None:
    directory = TREE / group.directory
    if not (directory / "Makefile").exists():
        return
    command = ["make", "-s", "-C", str(directory), f"OUT={group.out()}", *group.arguments]
    if group.is_of_tests:
        command.append(f"KSELFTEST_DIR={source()}/tools/testing/selftests")
    group.out().mkdir(parents=True, exist_ok=True)
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if result.returncode:
        raise Problem(f"the programs of {group.directory} do not build: see above")


def files(group: Group) -> list[tuple[Path, Path]]:
    """(place in the machine, file) of a built group."""
    place = Path(group.place)
    found = [TREE / group.directory / name for name in group.copied]
    found += [
        file
        for file in sorted(group.out().glob("*"))
        if file.is_file() and file.suffix not in (".o", ".d")
    ]
    return [(place / file.name, file) for file in found if file.exists()]


def is_built() -> bool:
    """Whether programs were built from some checkout: then it takes seconds."""
    return OUT.exists()


def programs(strict: bool = True, tests: Container[str] | None = None) -> list[tuple[Path, Path]]:
    """Build all programs. Unless strict, print failures and continue.

    With `tests`, return of the selftests only these, and what they run: all of them take a second
    to unpack.
    """
    everything = []
    with locked(TREE):
        copy(COPIED, TREE, ("--exclude=target/", "--exclude=__pycache__/"))
        for group in GROUPS:
            if not (TREE / group.directory).exists():
                continue
            try:
                build(group)
                everything += [
                    (place, file)
                    for place, file in files(group)
                    if group.has_wanted(file.name, tests)
                ]
            except Problem as problem:
                if strict:
                    raise
                say(f"{problem}; going on without them")
    return everything
