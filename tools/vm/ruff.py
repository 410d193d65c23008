# SPDX-License-Identifier: GPL-2.0
"""ruff, which Debian lacks: from PyPI, one version, by its hash."""

import shutil
import sys
from pathlib import Path

from paths import CACHE, locked, run_logged, say

VERSION = "0.14.14"
HASH = "bb8481604b7a9e75eff53772496201690ce2687067e038b3cc31aaf16aa0b974"


def ruff() -> Path:
    """The program, installed if it is not in the cache."""
    place = CACHE / f"ruff-{VERSION}"
    with locked(place):
        if not place.exists():
            say(f"installing ruff {VERSION}")
            part = place.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            log = CACHE / f"{place.name}.log"
            run_logged([sys.executable, "-m", "venv", str(part)], log, "making room for ruff")
            wanted = part / "wanted"
            wanted.write_text(f"ruff=={VERSION} --hash=sha256:{HASH}\n", encoding="ascii")
            command = [str(part / "bin/pip"), "install", "--quiet", "--no-deps", "--require-hashes"]
            run_logged([*command, "--only-binary=:all:", "-r", str(wanted)], log, "installing ruff")
            part.rename(place)
    return place / "bin/ruff"
