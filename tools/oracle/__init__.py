# SPDX-License-Identifier: GPL-2.0
"""What the IOMMU really translates, read from outside the virtual machine.

The kernel under test reports a device's leaves (VFIO_PGSIZE_QUERY). The oracle
verifies that report: it stops the machine, reads the IOMMU's registers and the
guest's memory through QEMU's monitor, and walks

    IOMMU MMIO -> device table -> the device's entry -> page table -> leaves

amdv1   decodes the device-table entry and walks the table (pure functions)
runs    joins leaves to runs and compares them with what a test expects
memory  reads guest memory through QMP
server  answers a test in the guest over a serial port
cli     the command line: dump, serve
"""

from oracle.server import serve_in_thread

__all__ = ["serve_in_thread"]
