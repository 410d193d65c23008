# SPDX-License-Identifier: GPL-2.0
#
# The devices of the emulated SNP host: what the tests need, and no more.

CONFIG_Q35=y
CONFIG_AMD_IOMMU=y
CONFIG_EDU=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_9P=y
