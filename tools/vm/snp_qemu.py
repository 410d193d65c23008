#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Builds the QEMU that emulates an SEV-SNP host, from Debian's source package.

tools/snp-qemu has the changes: patches and new files.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from paths import (
    CACHE,
    JOBS,
    SRC,
    Problem,
    key_of,
    locked,
    package_version,
    require_build_root,
    run_logged,
    say,
)

CHANGES = SRC / "tools/snp-qemu"
# The releases that the patches apply to.
SERIES = "10.0."
MINUTES = 4
PROGRAM = "qemu-system-x86_64"
# Enabled options, besides QEMU itself.
LIBRARIES = ("gcc", "libc6-dev", "libglib2.0-dev", "libattr1-dev", "libcap-ng-dev")
# The ROMs are not built: Debian packages them.
ROMS = ("/usr/share/qemu", "/usr/share/seabios")
CONFIGURE = (
    "--target-list=x86_64-softmmu",
    "--without-default-features",
    "--without-default-devices",
    "--with-devices-x86_64=snp",
    "--enable-tcg",
    "--enable-virtfs",
    "--enable-attr",
    "--enable-cap-ng",
    "--enable-trace-backends=log",
    "--disable-debug-info",
    "--disable-docs",
    "--disable-download",
    "--disable-fdt",
    "--disable-install-blobs",
    "--disable-tools",
    "--disable-werror",
)


def source_version() -> str:
    """The version of Debian's source package, if the patches apply to it."""
    shown = subprocess.run(
        ["apt-cache", "showsrc", "--only-source", "qemu"], capture_output=True, text=True, check=False
    ).stdout
    found: list[str] = re.findall(r"^Version: (\S+)", shown, re.MULTILINE)
    fitting = [version for version in found if version.split(":")[-1].startswith(SERIES)]
    if not fitting:
        has = f"QEMU {', '.join(found)}" if found else "no source of QEMU"
        raise Problem(f"the archive has {has}: tools/snp-qemu is for {SERIES}*")
    return fitting[-1]


def patches() -> list[Path]:
    return sorted(CHANGES.glob("patches/*/*.patch"))


def new_files() -> list[Path]:
    return sorted(path for path in CHANGES.glob("new/**/*") if path.is_file())


def place_of(version: str) -> Path:
    names = [str(path.relative_to(CHANGES)) for path in new_files()]
    key = key_of(
        version, CONFIGURE, package_version(*LIBRARIES), *patches(), *names, *new_files()
    )
    return CACHE / f"snp-qemu-{key}"


def is_made() -> bool:
    """Whether it is in the cache."""
    return (place_of(source_version()) / PROGRAM).exists()


def qemu() -> Path:
    """The program, built if it is not in the cache."""
    version = source_version()
    place = place_of(version)
    program = place / PROGRAM
    with locked(place):
        if not program.exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            build(version, place, program)
    return program


def build(version: str, place: Path, program: Path) -> None:
    tree, made, log = place / "source", place / "build", place / "build.log"
    say(f"building QEMU {version} as an SNP host (about {MINUTES} minutes on 2 busy processors, once)")
    fetch(version, place, tree, log)
    for patch in patches():
        apply(patch, tree, version)
    shutil.copytree(CHANGES / "new", tree, dirs_exist_ok=True)
    made.mkdir()
    run_logged([str(tree / "configure"), *CONFIGURE], log, "configuring QEMU", cwd=made)
    run_logged(["ninja", f"-j{JOBS}", program.name], log, "building QEMU", cwd=made)
    (made / program.name).rename(program)
    shutil.rmtree(tree)
    shutil.rmtree(made)


def fetch(version: str, place: Path, tree: Path, log: Path) -> None:
    """Download the source package with apt, which verifies it, and unpack it."""
    command = ["apt-get", "source", "--download-only", "--only-source", f"qemu={version}"]
    run_logged(command, log, "downloading QEMU's source", cwd=place)
    description = next(place.glob("qemu_*.dsc"))
    run_logged(["dpkg-source", "-x", str(description), str(tree)], log, "unpacking QEMU's source")
    for file in place.glob("qemu_*"):
        file.unlink()


def apply(patch: Path, tree: Path, version: str) -> None:
    command = ["patch", "--strip=1", "--forward", "--batch", "--fuzz=1", f"--input={patch}"]
    result = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = "".join(f"\n    {line}" for line in result.stdout.splitlines())
        raise Problem(f"{patch.relative_to(SRC)} does not apply to QEMU {version}:{lines}")


def main() -> int:
    try:
        require_build_root()
        print(qemu())
    except Problem as problem:
        print(f"snp_qemu.py: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
