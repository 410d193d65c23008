#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0
#
# /init of the guest (L2) of rig.sh: loads its modules, and executes the lines
# that arrive on the second serial port. To each it answers
#
#	l2: NUMBER ended: STATUS

/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1 2>&1

# The disk is the passed-through device. Its data: so many MiB at a time.
disk=/dev/nvme0n1
mib=4

. /lib/wait.sh

# Or the other way: lacks disk
lacks() {
	! [ -b "$1" ]
}

disk_comes() {
	wait_for [ -b $disk ]
}

disk_goes() {
	wait_for lacks $disk
}

# The disk's driver uses a vIOMMU's DMA address space: not the guest's physical addresses.
is_translated() {
	local type

	type=$(cat "/sys/block/${disk##*/}/device/device/iommu_group/type")
	echo "# the guest's IOMMU: $(echo /sys/class/iommu/*), domain: $type"
	case $type in
	DMA*) return 0 ;;
	esac
	return 1
}

sum_of() {
	sha256sum | cut -d' ' -f1
}

# Past the page cache.
read_disk() {
	dd if=$disk bs=256k count=$((mib * 4)) iflag=direct 2>/dev/null
}

write_disk() {
	dd if="$1" of=$disk bs=256k oflag=direct conv=notrunc 2>/dev/null
}

# New data go to the disk and come back.
traffic() {
	local wrote

	head -c $((mib << 20)) /dev/urandom >/tmp/data
	write_disk /tmp/data || return 1
	wrote=$(sum_of </tmp/data)
	echo "l2: wrote $wrote"
	[ "$(read_disk | sum_of)" = "$wrote" ]
}

# The disk has data with this sum.
has_data() {
	[ "$(read_disk | sum_of)" = "$1" ]
}

# Traffic that only the end of the machine ends.
endless_traffic() {
	while traffic >/dev/null; do
		echo "l2: round"
	done &
	while read_disk >/dev/null; do
		true
	done &
}

for module in /modules/*; do
	insmod "$module" || echo "# no $module"
done
echo "l2: up"
while read -r number line; do
	eval "$line"
	echo "l2: $number ended: $?"
done
