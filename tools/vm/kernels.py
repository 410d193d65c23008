# SPDX-License-Identifier: GPL-2.0
"""The kernels for the virtual machine and for building the module.

stock is Debian's own; debug and bench are small kernels of the same source. A
kernel's directory is the O= directory of its source, prepared so that modules,
including Rust modules, can be built against it.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from paths import CACHE, HERE, JOBS, Problem, key_of, locked, package_version, run_logged, say

NAMES = ("stock", "debug", "bench")
# Build minutes, measured on two processors under other load.
MINUTES = {"stock": 3, "debug": 24, "bench": 12}
RUST_LIB_SRC = "/usr/lib/rustlib/src/rust/library"
TOOLS = ("rustc", "bindgen", "make")


@dataclass(frozen=True)
class Kernel:
    name: str
    release: str
    build: Path
    image: Path
    modules: Path

    def make(self) -> list[str]:
        """The command to build against this kernel."""
        return ["make", "-s", f"-j{JOBS}", "-C", str(self.build), *make_arguments(self.name)]


def facts() -> dict[str, str]:
    """The Debian kernel that the build root was made for."""
    lines = Path("/etc/vfio-pgsize-kernel").read_text(encoding="ascii").split()
    return dict(line.split("=", 1) for line in lines)


def headers() -> Path:
    return Path(f"/usr/src/linux-headers-{facts()['release']}")


def compiler() -> str:
    """The C compiler that Debian built the kernel with."""
    config = (headers() / ".config").read_text(encoding="utf-8")
    found = re.search(r'^CONFIG_CC_VERSION_TEXT="(\S+)', config, re.MULTILINE)
    if not found or not shutil.which(found[1]):
        raise Problem("the kernel's compiler is not in the build root: run make distclean")
    return found[1]


def make_arguments(name: str) -> list[str]:
    if name == "debug":
        # Only clang has KASAN for Rust code.
        return ["LLVM=1"]
    arguments = [f"CC={compiler()}"]
    if name == "stock":
        release = facts()["release"]
        arguments.append(f"LOCALVERSION={release[release.index('+') :]}")
    return arguments


def fragments(name: str) -> list[Path]:
    return [HERE / "config" / "base.config", HERE / "config" / f"{name}.config"]


def toolchain(name: str) -> str:
    """The versions of everything that compiles a kernel."""
    gcc = compiler().removeprefix("x86_64-linux-gnu-")
    return package_version("clang" if name == "debug" else gcc, *TOOLS)


def source() -> Path:
    """The kernel's source, unpacked and never written to."""
    archive = Path(f"/usr/src/linux-source-{facts()['series']}.tar.xz")
    tree = CACHE / f"linux-{facts()['version']}"
    with locked(tree):
        if not tree.exists():
            say(f"unpacking the source of Linux {facts()['version']}")
            part = tree.with_name(f"{tree.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            log = CACHE / f"{tree.name}.log"
            command = ["tar", "-xJf", str(archive), "-C", str(part), "--strip-components=1"]
            run_logged(command, log, "unpacking")
            part.rename(tree)
    return tree


def build_directory(name: str) -> Path:
    key: list[object] = [facts()["version"], toolchain(name)]
    if name != "stock":
        key += fragments(name)
    return CACHE / f"kernel-{facts()['series']}-{name}-{key_of(*key)}"


def is_made(name: str) -> bool:
    """Whether the kernel is in the cache."""
    return (build_directory(name) / "complete").exists()


def kernel(name: str) -> Kernel:
    """The kernel of that name, built if it is not in the cache."""
    build = build_directory(name)
    with locked(build):
        if not is_made(name):
            shutil.rmtree(build, ignore_errors=True)
            build.mkdir()
            (make_stock if name == "stock" else make_own)(name, build)
            (build / "complete").touch()
    release = (build / "include/config/kernel.release").read_text(encoding="ascii").strip()
    if name == "stock":
        return Kernel(name, release, build, stock_image(), Path(f"/usr/lib/modules/{release}"))
    image = build / "arch/x86/boot/bzImage"
    return Kernel(name, release, build, image, build / f"root/lib/modules/{release}")


def stock_image() -> Path:
    """The stock kernel itself, from its package."""
    release = facts()["release"]
    for image in (Path(f"/usr/lib/modules/{release}/vmlinuz"), Path(f"/boot/vmlinuz-{release}")):
        if image.exists():
            return image
    raise Problem("the kernel's package brought no vmlinuz: run make distclean")


def make_stock(name: str, build: Path) -> None:
    """Build what no package contains: the Rust metadata of the stock kernel."""
    tree = source()
    release = facts()["release"]
    say(f"preparing the stock kernel {release} for Rust modules (about {MINUTES[name]} minutes, once)")
    for file in (".config", "Module.symvers"):
        shutil.copy(headers() / file, build)
    run_make(tree, build, name, ["rustavailable", "olddefconfig", "modules_prepare"])
    made = (build / "include/config/kernel.release").read_text(encoding="ascii").strip()
    if made != release:
        raise Problem(f"the source makes {made}, not the stock kernel {release}")


def make_own(name: str, build: Path) -> None:
    """Build the debug or the bench kernel."""
    tree = source()
    say(f"building the {name} kernel (about {MINUTES[name]} minutes on 2 busy processors, once)")
    run_make(tree, build, name, ["tinyconfig"])
    merge = [str(tree / "scripts/kconfig/merge_config.sh"), "-m", "-O", str(build)]
    merge += [str(build / ".config"), *map(str, fragments(name))]
    run_logged(merge, build / "build.log", "merging the configuration", cwd=tree)
    run_make(tree, build, name, ["olddefconfig"])
    check_config(build / ".config", fragments(name))
    run_make(tree, build, name, ["bzImage", "modules"])
    install = ["modules_install", f"INSTALL_MOD_PATH={build / 'root'}"]
    run_make(tree, build, name, install)


def run_make(tree: Path, build: Path, name: str, targets: list[str]) -> None:
    command = ["make", f"-j{JOBS}", "-C", str(tree), f"O={build}"]
    command += [*make_arguments(name), f"RUST_LIB_SRC={RUST_LIB_SRC}", *targets]
    run_logged(command, build / "build.log", f"the {name} kernel's {targets[-1]}")


def check_config(config: Path, wanted: list[Path]) -> None:
    """Check each requested option: Kconfig drops options silently."""
    got = set(config.read_text(encoding="utf-8").splitlines())
    missing = []
    for fragment in wanted:
        lines = fragment.read_text(encoding="utf-8").splitlines()
        missing += [line for line in lines if re.match(r"CONFIG_\w+=[^n]", line) and line not in got]
    if missing:
        raise Problem(f"the kernel cannot be configured with {', '.join(missing)}")


def kernel_doc(files: list[Path]) -> list[str]:
    """Complaints of the kernel's kernel-doc about these files."""
    script = source() / "scripts/kernel-doc"
    command = [str(script), "-none", "-Wall", *map(str, files)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (result.stdout + result.stderr).splitlines()
    if result.returncode and not lines:
        raise Problem(f"kernel-doc failed with {result.returncode} and no word")
    return lines
