# SPDX-License-Identifier: GPL-2.0
"""What `make check` runs: one entry for each suite.

A suite is a command, run at the top of the checkout in the build root, or in a
virtual machine, which it may share with others of its kind (jobs.py). It prints TAP,
or cargo's lines; otherwise its exit status is its one test. Documentation/testing.rst
says what each suite is for.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from kernels import stock_image
from lint import CHECKS
from paths import HERE, SRC

LINT = str(HERE / "lint.py")
SNP_SELFTESTS = SRC / "tools/testing/selftests/snp/suites"
SELFTESTS = SRC / "tools/testing/selftests/vfio_pgsize/suites"

# Kernels of selftests. Default: both; for those of SNP: stock.
KERNELS_OF = {
    "small_iommu_test": ("stock",),
    "domain_sizes_test": ("stock",),  # a probe event reads the field by BTF
    "pin_batches_test": ("stock",),  # a probe event
    "parameters_test.sh": ("stock",),
    "samples_test.sh": ("stock",),
    "snp_follow_test": ("stock", "debug"),
    "snp_random_test": ("stock", "debug"),
    "snp_event_test": ("stock", "debug"),
    "snp_host_test": ("stock", "debug"),
    "snp_default_test": ("stock", "debug"),
    "snp_warn_test": ("stock", "debug"),
    "snp_trace_test": ("debug",),  # makes allocations fail
    "snp_lost_test": ("debug",),  # makes allocations fail
    "snp_lost_race_test": ("debug",),  # makes allocations fail
    "concurrent_calls_test": ("stock", "debug"),
    "type1_claims_test": ("stock", "debug"),
    "state_pins_test": ("stock", "debug"),
    "unload_test": ("stock", "debug"),
    "dirty_unmap_test": ("stock", "debug"),
    "page_state_fault_test": ("debug",),  # makes allocations fail
    "dirty_fault_test": ("debug",),  # the same
    "dirty_test": ("stock",),
    "dirty_type1_test": ("stock",),
    "domains_fault_test": ("debug",),  # makes allocations fail
    "emulated_fault_test": ("debug",),  # the same
    "type1_fault_test": ("debug",),  # the same
    "emulated_samples_test": ("stock",),  # the debug kernel has no mdev bus
    "joined_fault_test": ("debug",),  # it injects failures too
    "joined_boot_test": ("stock",),  # too many calls for the debug kernel
    "joined_random_test": ("stock",),  # likewise
    "joined_intel_test": ("stock",),
    "joined_charge_test": ("stock",),  # the debug kernel's slabs have more than what is asked for
    "page_state_test": ("stock",),  # also by the quick path, as the next two
    "page_state_dma_test": ("stock",),
    "page_state_input_test": ("stock",),
}

# These run again with the quick path of page states, on the debug kernel.
QUICK_SELFTESTS = (
    "page_state_test",
    "page_state_memory_test",
    "page_state_dma_test",
    "page_state_fault_test",
    "joined_life_test",
)

# After these, on the debug kernel, kmemleak runs: they end containers, groups and VMMs in every
# way. It doubles the time of everything that allocates, so it is off for the others.
LEAKS = (
    "lifecycle_test",
    "page_state_life_test",
    "dirty_fault_test",
    "page_state_fault_test",
    "snp_lost_test",
    "snp_lost_race_test",
)


class Output(Enum):
    """How a suite reports its results."""

    TAP = "TAP"
    CARGO = "cargo"
    STATUS = "status"


@dataclass(frozen=True)
class Guest:
    """A machine: options of vm.py, and preparation before the first suite."""

    kernel: str
    options: str
    prepare: str = "true"


@dataclass(frozen=True)
class Suite:
    """A command in the build root or, if it has a guest, in that machine."""

    name: str
    command: list[str]
    output: Output = Output.TAP
    directory: str = "."
    guest: Guest | None = None
    kernel: str = ""  # for the command, if it has no guest

    @property
    def program(self) -> str:
        """map_test, of map_test@debug"""
        return self.name.partition("@")[0]


def rows(table: Path) -> Iterator[list[str]]:
    for line in table.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line.split("\t")


def kernels_of(program: str, usual: tuple[str, ...]) -> tuple[str, ...]:
    return KERNELS_OF.get(program, usual)


def in_guest(name: str, program: str, kernel: str, options: str, prepare: str) -> Suite:
    """A selftest in a machine that others may share."""
    words = shlex.split(program)
    if kernel == "debug" and words[0] in LEAKS:
        options += " --leaks"
    guest = Guest(kernel, canonical(options), prepare)
    return Suite(name, [f"/tests/{words[0]}", *words[1:]], guest=guest)


def canonical(options: str) -> str:
    """Sort options, so that those of the same machine are equal."""
    return " ".join(sorted(f"--{option.strip()}" for option in f" {options}".split(" --")[1:]))


# This machine can be an SNP host, and is not: its edu devices are faster.
FAST = "--snp off"
BIND = "load_vfio && bind_edu"
# The kernel's own tests need a device that they can reset, and a 1G page.
NIC = "--edu 0 --smp 2 --mem 4G --huge-1g 1 --qemu='-device igb,addr=0x6'"
# What one card sends, the other receives.
NIC_PAIR = "-netdev hubport,id=a,hubid=0 -netdev hubport,id=b,hubid=0"
NIC_PAIR += " -device igb,netdev=a,addr=0x6 -device igb,netdev=b,addr=0x8"
# Its data are in a temporary file of QEMU's.
DISK = "-drive if=none,id=disk,driver=null-co,size=64M,read-zeroes=on,snapshot=on"
DISK += " -device nvme,drive=disk,serial=disk,addr=0x7"


def selftests(kernel: str) -> Iterator[Suite]:
    """The selftests list themselves, and the machine that each needs."""
    for program, options in rows(SELFTESTS):
        if kernel in kernels_of(program, ("stock", "debug")):
            # It has only AMD's IOMMU.
            machine = options if "--iommu" in options else f"{FAST} {options}"
            yield in_guest(f"{program}@{kernel}", program, kernel, machine, BIND)


# All of them share this machine.
QUICK = f"{FAST} --quick-path --edu 2 --smp 2 --mem 8G --huge-1g 1 --oracle"


def quick_selftests() -> Iterator[Suite]:
    """The tests of page states on the debug kernel, with the quick path."""
    for program, _ in rows(SELFTESTS):
        if program in QUICK_SELFTESTS:
            yield in_guest(f"{program}@debug-quick", program, "debug", QUICK, BIND)


def snp_selftests(kernel: str) -> Iterator[Suite]:
    """Suites that need an SNP host, and the one that needs it off."""
    for program, model, options in rows(SNP_SELFTESTS):
        if kernel not in kernels_of(program, ("stock",)):
            continue
        never_on = model == "off" or program == "snp_off_test"
        prepare = BIND + ("" if never_on else " && load_snp_host")
        name = f"{program.replace(' -v ', '-')}@{kernel}-{model}"
        yield in_guest(name, program, kernel, f"--snp {model} {options}", prepare)


# The linters that compile the module.
BUILT = ("clippy", "rustdoc", "sparse")


def lints() -> Iterator[Suite]:
    for name in CHECKS:
        yield Suite(name, [LINT, name], Output.STATUS, kernel="stock" if name in BUILT else "")


def with_disk(name: str, *options: str) -> Suite:
    """An unmodified QEMU passes a disk to a Linux guest."""
    guest = Guest("stock", f"--share --edu 0 --qemu='{DISK}'")
    return Suite(name, [f"/tests/{name.partition('@')[0]}.sh", *options], guest=guest)


def soaks() -> Iterator[Suite]:
    """What takes too long for each check, but has a target of the Makefile."""
    yield with_disk("viommu", "--rounds", "5")
    yield with_disk("cpr", "--rounds", "5")
    yield with_disk("virtio-mem", "--rounds", "3")


def suites() -> Iterator[Suite]:
    """All suites, in start order."""
    yield from lints()
    yield Suite(
        "host",
        [str(HERE / "crates.py"), "tools/testing/host", "test"],
        Output.CARGO,
    )
    yield Suite("crate", [str(HERE / "crate.py")], Output.CARGO)
    yield Suite("oracle", ["python3", "-m", "oracle.tests"], directory="tools")
    tests = ["python3", "-m", "unittest", "-q", "test_vm", "test_doc_names", "test_layers"]
    yield Suite("vm", tests, Output.STATUS, "tools/vm")
    demo = ["/demo/guest.sh", "--tap"]
    yield Suite("demo@debug", demo, guest=Guest("debug", "--oracle"))
    yield from selftests("debug")
    yield from quick_selftests()
    yield from snp_selftests("debug")
    yield Suite("demo@stock", demo, guest=Guest("stock", "--oracle"))
    guest = ["/tests/qemu-l2.sh", "--kernel", str(stock_image())]
    yield Suite("qemu-l2@stock", guest, guest=Guest("stock", "--share --oracle"))
    nics = Guest("stock", f"--share --edu 0 --qemu='{NIC_PAIR}'", "load_vfio")
    yield Suite("dpdk@stock", ["/tests/dpdk.sh"], guest=nics)
    yield with_disk("viommu@stock", "--viommu", "virtio", "--backend", "vfio_pgsize")
    yield with_disk("cpr@stock", "--backend", "vfio_pgsize")
    yield with_disk("virtio-mem@stock", "--blocks", "2", "--backend", "vfio_pgsize")
    nic = Guest("stock", NIC, "load_vfio")
    yield Suite("vfio-selftests@stock", ["/tests/vfio_selftests.sh"], guest=nic)
    yield from snp_selftests("stock")
    yield Suite("panic@stock", [str(HERE / "panics.py")], kernel="stock")
    # `make bench` has its own kernel, with iommufd, which takes long to build.
    bench = [str(SRC / "tools/bench/bench.py"), "--check", "--kernel", "stock"]
    yield Suite("bench", [*bench, "--rounds", "3", "--type1-changes", "1000"], kernel="stock")
    yield from selftests("stock")
