#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs in the virtual machine: the kernel's own tests of VFIO on an igb network
# card, in each mode that has a container, with vfio_iommu_type1 and then with
# vfio_pgsize in its place. They are to pass with both. TAP on standard output.

case ${1:-} in
'') ;;
*) echo "Usage: vfio_selftests.sh"; [ "$1" = --help ]; exit ;;
esac

. /lib/vm.sh

modes="vfio_type1_iommu vfio_type1v2_iommu"
# The tests of one backend, and what is looked at after them.
each=$((12 + 6 + 2 + 2 * 5 + 2))
number=0
failed=0

bail() {
	echo "Bail out! $1"
	exit 1
}

# result STATUS TEXT: one test
result() {
	number=$((number + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $number - $2"
	else
		echo "not ok $number - $2"
		failed=1
	fi
}

# Run a program, and pass on its results as some of ours, the rest as comments.
run() {
	local name=$1 line

	shift
	"$@" "$device" >/tmp/vfio_selftests.out 2>&1
	while read -r line; do
		case $line in
		"ok "*)
			line=${line#ok }
			number=$((number + 1))
			echo "ok $number - $name: ${line#* }"
			;;
		"not ok "*)
			line=${line#not ok }
			result 1 "$name: ${line#* }"
			;;
		*) echo "# $line" ;;
		esac
	done </tmp/vfio_selftests.out
}

# Pages that are pinned.
pinned() {
	awk '/^nr_foll_pin_acquired / { sum += $2 } /^nr_foll_pin_released / { sum -= $2 }
	     END { print sum }' /proc/vmstat
}

tests_of() {
	local backend=$1 mode before variants

	before=$(pinned)
	for mode in $modes; do
		variants="-v $mode"
		for variant in anonymous anonymous_hugetlb_2mb anonymous_hugetlb_1gb; do
			variants="$variants -v ${mode}_$variant"
		done
		# shellcheck disable=SC2086 # they are words
		for program in vfio_dma_mapping_test vfio_dma_mapping_mmio_test \
			vfio_pci_device_init_perf_test; do
			run "$backend" $program $variants
		done
		VFIO_SELFTESTS_IOMMU_MODE=$mode run "$backend, $mode" vfio_pci_device_test
	done
	[ "$(pinned)" -eq "$before" ]
	result $? "$backend: as many pages are pinned as before: $before, $(pinned)"
	dmesg -c | grep -E 'IO_PAGE_FAULT|AMD-Vi: Event|WARNING:|BUG:|Oops' | sed 's/^/# /' >/tmp/vfio_selftests.faults
	cat /tmp/vfio_selftests.faults
	[ ! -s /tmp/vfio_selftests.faults ]
	result $? "$backend: the kernel logged no IOMMU fault and no warning"
}

device=$(bind_nics | head -n 1)
[ "$device" ] || bail "the machine has no igb: run it with --qemu='-device igb'"
echo 4 >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
dmesg -c >/dev/null

echo "1..$((2 * each))"
[ ! -d /sys/module/vfio_pgsize ] || rmmod vfio_pgsize || bail "vfio_pgsize is in use"
tests_of type1
load_pgsize serve_type1=1 serve_type1v2=1 || bail "vfio_pgsize does not load"
rmmod vfio_iommu_type1 || bail "vfio_iommu_type1 is in use"
tests_of vfio_pgsize
rmmod vfio_pgsize
modprobe vfio_iommu_type1 allow_unsafe_interrupts=1
exit $failed
