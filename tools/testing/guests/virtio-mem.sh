#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs in the virtual machine (L1): a Linux guest (L2) with a passed-through NVMe disk
# gets memory from virtio-mem, gives a part of it back, and gets it again. QEMU maps it
# block by block. It refuses as many blocks as type1 may have no mappings for; joined
# mappings have room for them. TAP on standard output.
# shellcheck disable=SC2034 # /lib/tap.sh reads what is set here
# shellcheck disable=SC2317 # wait_for calls functions

. /tests/rig.sh

usage() {
	cat <<-END
	Usage: virtio-mem.sh [--blocks MIB...] [OPTION...]

	  --blocks SIZES     of a block of memory, in MiB (default: 1 and 2)
	END
	common_usage
}

blocks="1 2"
while [ $# -gt 0 ]; do
	case $1 in
	--blocks) blocks=$2 ;;
	--help) usage; exit 0 ;;
	*) common_option "$@" || { usage >&2; exit 2; } ;;
	esac
	shift 2 || { usage >&2; exit 2; }
done

# GiB that virtio-mem may have. type1's mappings last for the fewer.
many=66
few=8

# With memory of SIZE GiB in blocks of BLOCK MiB, none of them plugged in: start SIZE BLOCK
start() {
	start_qemu -m "maxmem=$(($1 + 4))G" -object "memory-backend-ram,id=ram,size=$1G,reserve=off" \
		-device "virtio-mem-pci,id=memory,memdev=ram,block-size=$2M"
}

pinned_is() {
	[ "$(pinned)" -eq "$1" ] || ended
}

# MiB that are plugged in, as QEMU has them.
plugged() {
	echo $(($(qmp qom-get '{"path": "/machine/peripheral/memory", "property": "size"}') >> 20))
}

# A number of the container: of NAME
stat_of() {
	awk -v name="$1" '$1 == name { print $2 }' /sys/kernel/debug/vfio_pgsize/[0-9]*/counters
}

# The container has joined what came from virtio-mem: tests_of_joined WHEN MIB
tests_of_joined() {
	local bytes entries leaves

	bytes=$(($(stat_of joined) - joined_bytes))
	entries=$(($(stat_of joined_entries) - joined_entries))
	[ $bytes -eq $(($2 << 20)) ] && [ $entries -eq 1 ]
	result $? "$1: $((bytes >> 20)) MiB are in $entries mapping"
	leaves=$(leaves)
	leaves=$((${leaves% *} - unplugged_leaves))
	[ $leaves -gt $(($2 / 4)) ] && [ $leaves -le $(($2 / 2)) ]
	result $? "$1: the leaves are large: $leaves of 2M and more"
}

# The guest gets and has so many MiB: tests_of_size WHEN MIB
tests_of_size() {
	qmp qom-set "{\"path\": \"/machine/peripheral/memory\", \"property\": \"requested-size\", \"value\": $(($2 << 20))}" >/dev/null
	wait_for pinned_is $((unplugged + ($2 << 8))) && ! ended
	result $? "$1: $(($(pinned) - unplugged)) pages more are pinned for $2 MiB"
	found=$(plugged)
	[ "$found" -eq "$2" ]
	result $? "$1: the guest has them, as QEMU says: $found MiB"
	[ "$backend" != vfio_pgsize ] || tests_of_joined "$1" "$2"
	guest traffic && guest traffic
	result $? "$1: data go to the disk and come back"
}

# type1 reports fewer mappings than blocks.
tests_of_refusal() {
	about="$backend, ${many}G"
	start $many 2
	wait_for ended
	! wait "$qemu" && grep -q "DMA mappings" "$errors"
	result $? "QEMU refuses the disk: $(grep -o 'Maximum possible DMA mappings: [0-9]*' "$errors")"
}

tests_of_blocks() {
	local size=$few

	[ "$backend" != vfio_pgsize ] || size=$many
	about="$backend, ${size}G by ${1}M"
	before=$(pinned)
	start $size "$1"
	tests_of_start
	guest disk_comes && guest traffic
	result $? "data go to the disk and come back"
	unplugged=$(pinned)
	if [ "$backend" = vfio_pgsize ]; then
		joined_bytes=$(stat_of joined)
		joined_entries=$(stat_of joined_entries)
		unplugged_leaves=$(leaves)
		unplugged_leaves=${unplugged_leaves% *}
	fi
	for round in $(seq "$rounds"); do
		tests_of_size "plug $round" 256
		tests_of_size "unplug $round" 128
		tests_of_size "replug $round" 256
		tests_of_size "unplug all but little $round" 64
	done
	guest endless_traffic && rounds_go_on 1
	result $? "traffic goes on"
	tests_of_kill
	log_is_clean
	[ "$failed" -eq 0 ] || tell
}

set_up nvme virtio_mem
for backend in $backends; do
	if [ "$backend" = vfio_pgsize ]; then
		serve_by vfio_pgsize join_mappings=1
	else
		serve_by "$backend"
		tests_of_refusal
	fi
	for block in $blocks; do
		tests_of_blocks "$block"
	done
done
finish
