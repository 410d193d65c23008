#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs in the virtual machine (L1): QEMU emulates an IOMMU for a Linux guest (L2) and
# passes an NVMe disk to it, whose driver maps and unmaps what it transfers. The disk
# is unplugged and plugged in, the guest reboots, QEMU is killed in the middle of
# transfers. TAP on standard output.
# shellcheck disable=SC2034 # /lib/tap.sh reads what is set here

. /tests/rig.sh

usage() {
	cat <<-END
	Usage: viommu.sh [--viommu NAMES] [OPTION...]

	  --viommu NAMES     the IOMMUs to emulate: amd, intel, virtio (default: all)
	END
	common_usage
}

viommus="amd intel virtio"
while [ $# -gt 0 ]; do
	case $1 in
	--viommu) viommus=$2 ;;
	--help) usage; exit 0 ;;
	*) common_option "$@" || { usage >&2; exit 2; } ;;
	esac
	shift 2 || { usage >&2; exit 2; }
done

# Its options of QEMU.
viommu_options() {
	case $1 in
	amd) echo "-device amd-iommu,dma-remap=on" ;;
	intel) echo "-device intel-iommu,caching-mode=on" ;;
	virtio) echo "-device virtio-iommu-pci" ;;
	*) return 1 ;;
	esac
}

# What is mapped is what the driver maps: by far not the guest's memory.
few_are_pinned() {
	local now

	now=$(($(pinned) - before))
	[ $now -gt 0 ] && [ $now -lt $((guest_pages / 4)) ]
	result $? "$1: the driver's buffers are pinned, not the guest: $now of $guest_pages pages"
}

# The disk has these data, or any, and takes and gives others: tests_of_disk WHEN [SUM]
tests_of_disk() {
	guest disk_comes && guest is_translated
	result $? "$1: the driver of the disk is behind the vIOMMU"
	few_are_pinned "$1"
	if [ "${2-}" ]; then
		guest has_data "$2"
		result $? "$1: the disk has its data"
	fi
	guest traffic && guest traffic
	result $? "$1: data go to the disk and come back"
}

tests_of_hotplug() {
	local sum

	sum=$(last_written)
	unplug >/dev/null
	result $? "unplug $1: the guest lets go of the disk"
	guest disk_goes
	result $? "unplug $1: it is gone"
	# The event comes before the last file is closed.
	wait_for pinned_at_most "$before"
	[ "$(pinned)" -eq "$before" ] && [ "$(locked_kib)" -eq 0 ]
	result $? "unplug $1: no page is pinned ($(pinned), before $before), $(locked_kib) KiB are locked"
	plug >/dev/null
	tests_of_disk "plug $1" "$sum"
}

tests_of_reboot() {
	local sum

	sum=$(last_written)
	echo "0 reboot -f" >&5
	boots
	result $? "reboot $1: the guest is up"
	tests_of_disk "reboot $1" "$sum"
}

tests_of_viommu() {
	about="$backend, $1"
	before=$(pinned)
	# shellcheck disable=SC2046 # words
	start_qemu $(viommu_options "$1")
	tests_of_start
	tests_of_disk boot
	for round in $(seq "$rounds"); do
		tests_of_hotplug "$round"
		tests_of_reboot "$round"
	done
	guest endless_traffic && rounds_go_on 2
	result $? "traffic goes on"
	tests_of_kill
	log_is_clean
	[ "$failed" -eq 0 ] || tell
}

set_up virtio-iommu nvme
for backend in $backends; do
	serve_by "$backend"
	for viommu in $viommus; do
		tests_of_viommu "$viommu"
	done
done
finish
