# SPDX-License-Identifier: GPL-2.0
"""Guest memory and the IOMMU's registers, read through QEMU's monitor (QMP).

The registers of QEMU's AMD IOMMU are read like memory: the monitor's physical
reads go through the machine's address space, MMIO included.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from qemu.qmp import QMPError
from qemu.qmp.legacy import QEMUMonitorProtocol

from oracle.amdv1 import ADDRESS_MASK, DTE_SIZE, PAGE, DeviceEntry, Walk, walk_device
from oracle.rmp import QEMU_OBJECT, Rmp

# Where QEMU puts the registers of its one AMD IOMMU. The first is the device
# table's base address and size.
IOMMU_MMIO = 0xFED80000

PCI_ADDRESS = re.compile(r"(?:([0-9a-f]{4}):)?([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE)


class OracleError(Exception):
    """The oracle cannot read what a test asked about."""


def requester_id(address: str) -> int:
    """The IOMMU's number of the PCI device 0000:00:03.0."""
    match = PCI_ADDRESS.fullmatch(address)
    if not match or int(match[1] or "0", 16):
        raise OracleError(f"{address!r} is not a PCI address of segment 0, as 0000:00:03.0")
    device = int(match[3], 16)
    if device > 31:
        raise OracleError(f"{address!r}: a PCI bus has devices 00 to 1f")
    return int(match[2], 16) << 8 | device << 3 | int(match[4])


class Machine:
    """A running QEMU, behind its QMP socket."""

    def __init__(self, qmp_socket: str):
        self._qmp = QEMUMonitorProtocol(qmp_socket, nickname="oracle")
        self._scratch = tempfile.TemporaryDirectory(prefix="oracle-")
        try:
            self._qmp.connect()
        except QMPError as error:
            self._scratch.cleanup()
            raise OracleError(f"no QEMU answers at {qmp_socket}: {error}") from error

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._scratch.cleanup()
        # QEMU may have exited already.
        with suppress(QMPError, EOFError, OSError):
            self._qmp.close()

    def _command(self, name: str, **arguments: object) -> Any:
        try:
            answer = self._qmp.cmd(name, **arguments)
            self._qmp.clear_events()
            return answer
        except QMPError as error:
            raise OracleError(f"QEMU refused {name}: {error}") from error

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop all CPUs and devices in the meantime."""
        running = self._command("query-status")["running"]
        if running:
            self._command("stop")
        try:
            yield
        finally:
            if running:
                self._command("cont")

    def read(self, address: int, size: int) -> bytes:
        """Guest-physical memory, as a device sees it."""
        file = Path(self._scratch.name) / "memory"
        self._command("pmemsave", val=address, size=size, filename=str(file))
        data = file.read_bytes()
        if len(data) != size:
            raise OracleError(f"QEMU gave {len(data)} of {size} bytes at {address:#x}")
        return data

    def rmp(self) -> Rmp:
        """The reverse map table, if the machine is an SNP host."""
        return Rmp(lambda name: self._command("qom-get", path=QEMU_OBJECT, property=name), self.read)

    def device_entry(self, address: str) -> DeviceEntry:
        """The device-table entry of the device at this PCI address."""
        number = requester_id(address)
        register = int.from_bytes(self.read(IOMMU_MMIO, 8), "little")
        base = register & ADDRESS_MASK
        size = PAGE * ((register & 0x1FF) + 1)
        if not base:
            raise OracleError("the IOMMU has no device table: is it there, and switched on?")
        if (number + 1) * DTE_SIZE > size:
            raise OracleError(f"the device table ends before {address}")
        return DeviceEntry.decode(self.read(base + number * DTE_SIZE, DTE_SIZE))

    def walk(self, address: str) -> tuple[DeviceEntry, Walk]:
        """The device's entry and its whole page table, at one instant."""
        with self.stopped():
            entry = self.device_entry(address)
            return entry, walk_device(entry, lambda table: self.read(table, PAGE))
