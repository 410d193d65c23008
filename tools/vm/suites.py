# SPDX-License-Identifier: GPL-2.0
"""What `make check` runs: one entry for each suite.

A suite is a command, run at the top of the checkout in the build root. It
prints TAP, or cargo's lines, or nothing that counts: then its exit status is
its one test. What each suite is for is said in Documentation/testing.rst.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from kernels import stock_image
from paths import HERE, SRC

VM = str(HERE / "vm.py")
LINT = str(HERE / "lint.py")
SNP_SELFTESTS = SRC / "tools/testing/selftests/snp/suites"
SELFTESTS = SRC / "tools/testing/selftests/vfio_pgsize/suites"

# The selftests are for both kernels, those of SNP for the stock kernel, but for these.
KERNELS_OF = {
    "snp_follow_test": ("stock", "debug"),
    "snp_random_test": ("stock", "debug"),
    "snp_event_test": ("stock", "debug"),
    "snp_trace_test": ("debug",),  # it makes allocations fail
    "snp_lost_test": ("debug",),  # it makes allocations fail
    "page_state_fault_test": ("debug",),  # it does, too
    "page_state_test": ("stock",),  # and by the quick path, as the next
    "page_state_dma_test": ("stock",),
    "page_state_input_test": ("stock",),
}

# What is run once more by the quick path of page states, on the debug kernel.
QUICK_SELFTESTS = (
    "page_state_test",
    "page_state_memory_test",
    "page_state_dma_test",
    "page_state_fault_test",
)

# Seconds for one machine; the debug kernel is several times slower.
TIMEOUTS = {"stock": 900, "debug": 2400}


class Output(Enum):
    """How a suite tells its results."""

    TAP = "TAP"
    CARGO = "cargo"
    STATUS = "status"


@dataclass(frozen=True)
class Suite:
    name: str
    command: list[str]
    output: Output = Output.TAP
    directory: str = "."


def machine(kernel_name: str, options: str, command: str) -> list[str]:
    """Run a shell command in a virtual machine."""
    timeout = str(TIMEOUTS[kernel_name])
    line = [VM, "run", "--strict", "--whole", "--kernel", kernel_name, "--timeout", timeout]
    return [*line, *options.split(), "--", command]


def rows(table: Path) -> Iterator[list[str]]:
    for line in table.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line.split("\t")


def selftests(kernel_name: str) -> Iterator[Suite]:
    """The selftests name themselves, and the machine that each wants."""
    for program, options in rows(SELFTESTS):
        if kernel_name not in KERNELS_OF.get(program, ("stock", "debug")):
            continue
        command = f". /lib/vm.sh; load_vfio && bind_edu && exec /tests/{program}"
        yield Suite(f"{program}@{kernel_name}", machine(kernel_name, options, command))


# The quick path of page states is off where the IOMMU core counts what devices reach, which the
# debug kernel does: with the test build, and the counting off, it is tested there, too.
QUICK = "--test-build --append iommu.debug_pagealloc=0"


def quick_selftests() -> Iterator[Suite]:
    """The tests of page states once more on the debug kernel, by the quick path."""
    for program, options in rows(SELFTESTS):
        if program in QUICK_SELFTESTS:
            command = f". /lib/vm.sh; load_vfio && bind_edu && exec /tests/{program}"
            options = f"{options} {QUICK}"
            yield Suite(f"{program}@debug-quick", machine("debug", options, command))


def snp_selftests(kernel_name: str) -> Iterator[Suite]:
    """Those that want an SNP host, and the one that wants it not to be one."""
    for program, model, options in rows(SNP_SELFTESTS):
        if kernel_name not in KERNELS_OF.get(program, ("stock",)):
            continue
        load = "load_vfio && bind_edu" + ("" if model == "off" else " && load_snp_host")
        command = f". /lib/vm.sh; {load} && exec /tests/{program}"
        options = f"--snp {model} {options}"
        name = program.replace(" -v ", "-")
        yield Suite(f"{name}@{kernel_name}-{model}", machine(kernel_name, options, command))


def lints() -> Iterator[Suite]:
    for name in ("spdx", "fmt", "uapi", "kernel-doc", "doc", "clippy"):
        yield Suite(name, [LINT, name], Output.STATUS)


def suites() -> Iterator[Suite]:
    """All suites, in the order in which they are started."""
    yield from lints()
    yield Suite(
        "host",
        ["cargo", "test", "-q", "--locked", "--target-dir", "/cache/cargo-target/host"],
        Output.CARGO,
        "tools/testing/host",
    )
    yield Suite("oracle", ["python3", "-m", "oracle.tests"], directory="tools")
    yield Suite("vm", ["python3", "-m", "unittest", "-q", "test_vm"], Output.STATUS, "tools/vm")
    yield Suite("demo@stock", machine("stock", "--oracle", "/demo/guest.sh --tap"))
    guest = f"/tests/qemu-l2.sh --kernel {stock_image()}"
    yield Suite("qemu-l2@stock", machine("stock", "--share --oracle", guest))
    yield from snp_selftests("stock")
    bench = [str(SRC / "tools/bench/bench.py"), "--check", "--kernel", "bench"]
    yield Suite("bench", [*bench, "--changes", "100000", "--type1-changes", "40000"])
    yield from selftests("stock")
    yield Suite("demo@debug", machine("debug", "--oracle", "/demo/guest.sh --tap"))
    yield from selftests("debug")
    yield from quick_selftests()
    yield from snp_selftests("debug")
