# SPDX-License-Identifier: GPL-2.0
"""Places in the build root, and the cache.

The cache stores items under a name with a hash of all their inputs. An item that
exists is valid, and is never updated.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SRC = Path("/src")
CACHE = Path("/cache")
HERE = Path(__file__).resolve().parent
JOBS = os.cpu_count() or 1

# Seconds between two progress lines of a long command.
PATIENCE = 30


class Problem(Exception):
    """A message for the user, without a traceback."""


def say(text: str) -> None:
    print(f"vm: {text}", file=sys.stderr, flush=True)


def require_build_root() -> None:
    if not Path("/etc/vfio-pgsize-kernel").exists():
        raise Problem("this is not the build root: put tools/vm/inside.sh before the command")


def key_of(*parts: object) -> str:
    """A hash of texts, and of the contents of files given as Path."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else str(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:12]


def package_version(*names: str) -> str:
    """The versions of Debian packages in the build root."""
    command = ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *names]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a cache item, which other runs use too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that makes {path.name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run_logged(command: list[str], log: Path, what: str, cwd: Path | None = None) -> None:
    """Run with the output in a log; print progress, and the end of the log on failure."""
    started = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        output.write(f"$ {' '.join(map(str, command))}\n".encode())
        output.flush()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=cwd
        )
        while True:
            try:
                status = process.wait(PATIENCE)
                break
            except subprocess.TimeoutExpired:
                with open(log, "rb") as lines:
                    count = sum(1 for _ in lines)
                say(f"{what}: {time.monotonic() - started:.0f} s, {count} lines of log")
    if status:
        for line in log.read_text(errors="replace").splitlines()[-25:]:
            print(f"    {line}", file=sys.stderr)
        raise Problem(f"{what} failed ({status}); the whole log is {outside(log)}")


def outside(path: Path) -> str:
    """Approximate path outside the build root."""
    for inner, outer in ((CACHE, "the cache's "), (SRC, "")):
        if path.is_relative_to(inner):
            return f"{outer}{path.relative_to(inner)}"
    return f"{path} in the build root"
