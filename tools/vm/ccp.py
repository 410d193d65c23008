# SPDX-License-Identifier: GPL-2.0
"""Builds ccp.ko, which stands in for KVM on the SNP host, against a kernel."""

import subprocess
import sys
from pathlib import Path

from kernels import Kernel
from paths import CACHE, SRC, Problem, locked, say

SOURCE = SRC / "tools/testing/snp-host"


def build_ccp(target: Kernel) -> Path:
    tree = CACHE / f"ccp-{target.build.name.removeprefix('kernel-')}"
    with locked(tree):
        tree.mkdir(parents=True, exist_ok=True)
        # By content and with new time stamps, as in module.py.
        subprocess.run(["rsync", "-rlp", "--checksum", f"{SOURCE}/", str(tree)], check=True)
        say(f"building ccp.ko for {target.release}")
        command = [*target.make(), f"M={tree}", "modules"]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if result.returncode:
        raise Problem("tools/testing/snp-host does not build: see above")
    return tree / "ccp.ko"


def ccp(target: Kernel) -> tuple[Path, Path]:
    """(place in the machine, file)"""
    return Path("/lib/modules") / target.release / "extra/ccp.ko", build_ccp(target)
