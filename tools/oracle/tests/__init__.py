# SPDX-License-Identifier: GPL-2.0
"""The oracle's own tests: no virtual machine, page tables made by hand."""
