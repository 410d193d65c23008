#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The benchmark's part in the virtual machine: loads all of the kernel's VFIO
# backends and runs a program, whose JSON lines are the output.

case $1 in
--help)
	cat <<-END
	Usage: bench.sh PROGRAM [OPTION OF PROGRAM]...

	Loads vfio_iommu_type1, iommufd and vfio_pgsize, as far as there are any,
	binds the edu devices to vfio-pci, and runs pgsize-bench or pgsize-states.
	END
	exit 0
	;;
esac

. /lib/vm.sh

stop() {
	echo "bench: $1" >&2
	exit 1
}

load_vfio || stop "VFIO does not load"
modprobe iommufd allow_unsafe_interrupts=1 2>/dev/null
switch=/sys/module/iommufd/parameters/allow_unsafe_interrupts
[ ! -e $switch ] || echo 1 > $switch
load_pgsize || stop "vfio_pgsize does not load"
bind_edu || stop "the edu device cannot be bound to vfio-pci"

# What the kernel still does after booting would be counted too.
sleep 3
program=$1
shift
exec "$(dirname "$0")/$program" "$@"
