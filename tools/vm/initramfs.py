# SPDX-License-Identifier: GPL-2.0
"""The initramfs: busybox, modules, test programs and the command to run.

It consists of two archives. The first has what seldom changes (busybox, the
kernel's modules) and is cached; the second has what is under test.
"""

import io
import lzma
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from kernels import Kernel
from paths import CACHE, HERE, Problem, key_of, locked, package_version

BUSYBOX = Path("/usr/bin/busybox")


class Archive:
    """A cpio archive in the kernel's format (newc)."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._inode = 1
        self._directories: set[Path] = set()

    def _entry(self, name: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        self._inode += 1
        self._out.write(b"070701" + b"".join(b"%08x" % field for field in fields))
        for part in (encoded, data):
            self._out.write(part)
            self._out.write(bytes(-self._out.tell() % 4))

    def directory(self, path: Path) -> None:
        if path != Path("/") and path not in self._directories:
            self.directory(path.parent)
            self._directories.add(path)
            self._entry(str(path)[1:], stat.S_IFDIR | 0o755, b"")

    def file(self, path: Path, data: bytes, mode: int = 0o644) -> None:
        self.directory(path.parent)
        self._entry(str(path)[1:], stat.S_IFREG | mode, data)

    def copy(self, path: Path, source: Path) -> None:
        self.file(path, source.read_bytes(), stat.S_IMODE(source.stat().st_mode))

    def console(self) -> None:
        self.directory(Path("/dev"))
        self._entry("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1))

    def end(self) -> bytes:
        self._entry("TRAILER!!!", 0, b"")
        self._out.write(bytes(-self._out.tell() % 512))
        return self._out.getvalue()


def wanted_modules() -> list[str]:
    lines = (HERE / "modules.list").read_text(encoding="ascii").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def module_files(target: Kernel) -> list[Path]:
    """The files of these modules and their dependencies."""
    files: dict[str, list[str]] = {}
    for line in (target.modules / "modules.dep").read_text(encoding="ascii").splitlines():
        file, needs = line.split(":", 1)
        files[Path(file).name.split(".")[0].replace("-", "_")] = [file, *needs.split()]
    found: dict[str, None] = {}
    for name in wanted_modules():
        for file in files.get(name.replace("-", "_"), ()):
            found[file] = None
    return [target.modules / file for file in found]


def unpacked(module: Path) -> bytes:
    data = module.read_bytes()
    if module.suffix == ".xz":
        return lzma.decompress(data)
    if module.suffix == ".zst":
        command = ["zstd", "-dc", str(module)]
        return subprocess.run(command, check=True, capture_output=True).stdout
    return data


def base(target: Kernel) -> Path:
    """The archive of what seldom changes, from the cache or new."""
    key = key_of(
        target.build.name, Path(__file__), HERE / "modules.list", package_version("busybox-static")
    )
    path = CACHE / f"initramfs-{target.build.name.removeprefix('kernel-')}-{key}.cpio"
    with locked(path):
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_bytes(make_base(target))
            part.rename(path)
    return path


def make_base(target: Kernel) -> bytes:
    archive = Archive()
    archive.console()
    for directory in ("/proc", "/sys", "/tmp", "/root", "/run", "/host", "/tests", "/samples"):
        archive.directory(Path(directory))
    archive.copy(Path("/bin/busybox"), BUSYBOX)
    place = Path("/lib/modules") / target.release
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "lib/modules" / target.release
        for module in module_files(target):
            name = module.relative_to(target.modules)
            name = name.with_name(name.name.split(".ko")[0] + ".ko")
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(unpacked(module))
        for list_ in ("modules.builtin", "modules.order", "modules.builtin.modinfo"):
            if (target.modules / list_).exists():
                shutil.copy(target.modules / list_, tree)
        subprocess.run(["depmod", "-b", scratch, target.release], check=True)
        for path in sorted(tree.rglob("*")):
            if path.is_file():
                archive.copy(place / path.relative_to(tree), path)
    return archive.end()


def initramfs(
    target: Kernel,
    module: Path | None,
    command: str,
    parameters: dict[str, str],
    programs: list[tuple[Path, Path]],
) -> bytes:
    """The whole initramfs; programs are (place in the machine, file)."""
    archive = Archive()
    archive.file(Path("/init"), (HERE / "guest/init").read_bytes(), 0o755)
    for name in ("vm.sh", "tap.sh", "wait.sh"):
        archive.copy(Path("/lib") / name, HERE / "guest" / name)
    archive.file(Path("/command"), command.encode() + b"\n")
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in parameters.items()]
    archive.file(Path("/parameters"), "".join(lines).encode())
    if module:
        archive.copy(Path("/lib/modules") / target.release / "extra/vfio_pgsize.ko", module)
    for place, file in programs:
        if not os.access(file, os.R_OK):
            raise Problem(f"{file} is to be put in the machine, but is not there")
        archive.copy(place, file)
    return base(target).read_bytes() + archive.end()
