#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs in the virtual machine: Debian's dpdk-testpmd, unmodified, forwards between
# two igb network cards, with huge pages and without, and with memory that comes
# and goes meanwhile. It asks for VFIO_TYPE1_IOMMU, and gets it from
# vfio_iommu_type1 and then from vfio_pgsize. TAP on standard output.

usage() {
	cat <<-END
	Usage: dpdk.sh [--root DIR]

	  --root DIR  a root file system with DPDK in it (default /host)
	END
}

root=/host
while [ $# -gt 0 ]; do
	case $1 in
	--root) root=$2; shift ;;
	--help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift || { usage >&2; exit 2; }
done

. /lib/vm.sh
. /lib/tap.sh

# Packets that each card is to receive: they go round and round.
packets=2000

has_line() {
	grep -q "$1" /tmp/dpdk.log
}

# What a card has received since the last start.
received() {
	echo "show port stats $1" >&6
	usleep 300000
	awk -v card="port $1 " '/NIC statistics for/ { mine = index($0, card) }
		mine && /RX-packets:/ { count = $2 } END { print count + 0 }' /tmp/dpdk.log
}

# shellcheck disable=SC2317 # wait_for calls it
both_received() {
	[ "$(received 0)" -ge "$1" ] && [ "$(received 1)" -ge "$1" ]
}

# Start it with these options of its environment; it has its prompt in the end.
start_testpmd() {
	: >/tmp/dpdk.log
	# shellcheck disable=SC2086 # words
	chroot "$root" dpdk-testpmd -l 0,1 --no-telemetry --file-prefix=vm $cards "$@" -- \
		-i --nb-cores=1 --total-num-mbufs=4096 </tmp/dpdk.in >/tmp/dpdk.log 2>&1 &
	testpmd=$!
	wait_for has_line '^testpmd>'
}

forwards() {
	echo "start tx_first" >&6
	wait_for both_received $packets
	result $? "$1: forwards: $(received 0) and $(received 1) packets received"
}

ends() {
	echo "stop" >&6
	echo "quit" >&6
	wait $testpmd
	status=$?
	wait_for pinned_at_most "$before"
	[ $status -eq 0 ] && [ "$(pinned)" -eq "$before" ]
	result $? "$1: it ends (status $status) and leaves no page pinned"
}

# A second process captures packets of the first, which has to have memory for that: huge pages
# come, are mapped, and go, while it forwards.
hotplug() {
	local more=$((64 << 8)) with now

	with=$(pinned)
	chroot "$root" dpdk-dumpcap --file-prefix=vm -i 0 -n -N 16384 -s 2048 -w /tmp/dpdk.pcap \
		</dev/null >/tmp/dumpcap.log 2>&1 &
	dumpcap=$!
	wait_for pinned_at_least $((with + more))
	result $? "memory comes: $with pages were pinned, $(pinned) are"
	now=$(received 0)
	wait_for both_received $((now + packets))
	result $? "it goes on: $now and then $(received 0) packets received"
	kill -INT $dumpcap
	wait $dumpcap
	result $? "what was captured is written"
	# From 198.18.0.1 to 198.18.0.2, as testpmd makes them.
	[ "$(head -c 65536 "$root/tmp/dpdk.pcap" | xxd -p | tr -d '\n' | grep -o c6120001c6120002 | wc -l)" -gt 10 ]
	result $? "the packets have what was sent"
	wait_for pinned_at_most "$with"
	result $? "memory goes: $(pinned) pages are pinned"
	now=$(received 0)
	wait_for both_received $((now + packets))
	result $? "it goes on: $now and then $(received 0) packets received"
}

# By this module, whose name in results is this: tests_of_backend MODULE NAME
tests_of_backend() {
	module=$1
	# shellcheck disable=SC2034 # /lib/tap.sh reads it
	about=$2
	before=$(pinned)
	start_testpmd
	result $? "huge pages: it starts"
	[ "$(cat "/sys/module/$module/refcnt")" -gt 0 ] && has_line "Selected IOVA mode 'VA'"
	result $? "$module serves, and IOVAs are the process's addresses"
	forwards "huge pages"
	if [ "$module" = vfio_pgsize ]; then
		found=$(leaves)
		[ "${found% *}" -gt 0 ] && [ "${found#* }" -eq 0 ]
		result $? "huge pages: leaves of 2M and more, and smaller ones: $found"
	fi
	hotplug
	ends "huge pages"

	start_testpmd --no-huge -m 128
	result $? "no huge pages: it starts"
	forwards "no huge pages"
	ends "no huge pages"
	log_is_clean
}

[ -e "$root/usr/bin/dpdk-testpmd" ] || bail "no DPDK in $root: is the machine run with --share?"
nics=$(bind_nics) || bail "the machine has no igb"
cards=
for nic in $nics; do
	cards="$cards -a $nic"
done
enter_root "$root"
echo 192 >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
mkfifo /tmp/dpdk.in
exec 6<>/tmp/dpdk.in
dmesg -c >/dev/null

echo "1..29"
[ ! -d /sys/module/vfio_pgsize ] || rmmod vfio_pgsize || bail "vfio_pgsize is in use"
tests_of_backend vfio_iommu_type1 type1
load_pgsize serve_type1=1 || bail "vfio_pgsize does not load"
rmmod vfio_iommu_type1 || bail "vfio_iommu_type1 is in use"
tests_of_backend vfio_pgsize vfio_pgsize
rmmod vfio_pgsize
modprobe vfio_iommu_type1 allow_unsafe_interrupts=1
exit "$failed"
