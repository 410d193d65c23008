# SPDX-License-Identifier: GPL-2.0
"""Copies of the checkout in the cache, for tools that compare time stamps.

make and cargo rebuild what is newer than their output. A copy compares files by
content and does not take over time stamps: only changed files become newer,
whichever checkout they come from.
"""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from paths import SRC


def copy(names: Iterable[str], tree: Path, filters: Iterable[str]) -> None:
    """Update `tree` from the checkout's files of these names. The caller holds its lock."""
    tree.mkdir(parents=True, exist_ok=True)
    command = ["rsync", "--recursive", "--links", "--perms", "--checksum", "--delete", *filters]
    sources = [str(SRC / name) for name in names if (SRC / name).exists()]
    subprocess.run([*command, *sources, str(tree)], check=True)
