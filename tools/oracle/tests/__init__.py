# SPDX-License-Identifier: GPL-2.0
"""The oracle's own tests: no virtual machine, hand-made page tables."""
