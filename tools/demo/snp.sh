#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The demo's first part: on an SNP host, what becomes of DMA to a guest's shared
# pages, with vfio_iommu_type1 and with vfio_pgsize.

if [ $# -gt 0 ]; then
	echo "Usage: snp.sh"
	echo
	echo "Runs /tests/snp_scenario --report in a machine of vm.py --snp."
	exit "$([ "$1" = --help ]; echo $?)"
fi

. /lib/vm.sh

echo "The machine is up: $(uname -r), $(nproc) processor. Loading VFIO, binding the edu device, switching SNP on."
load_vfio && bind_edu && load_snp_host || exit 1
echo
exec /tests/snp_scenario --report
