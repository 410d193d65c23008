#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# What the sample clients say when something is in their way: the cause, and what to do.

. /lib/vm.sh

c=/samples/pgsize-client
rs=/samples/pgsize-client-rs
states=/samples/page-states
hugepages=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
before=$(cat $hugepages)
device=0000:00:03.0
other=0000:00:04.0
count=0
failed=0

result() {
	count=$((count + 1))
	echo "$1 $count - $2"
	[ "$1" = ok ] || failed=$((failed + 1))
}

# fails TEXT COMMAND...: the command fails, and says TEXT.
fails() {
	local text=$1 name="$2" said status

	shift
	name="${*##/samples/}: $text"
	said=$("$@" </dev/null 2>&1)
	status=$?
	case $status:$said in
	0:*) result "not ok" "$name"; echo "# it did not fail" ;;
	*:*"$text"*) result ok "$name" ;;
	*) result "not ok" "$name"; echo "$said" | sed 's/^/# /' ;;
	esac
}

with_module() {
	rmmod vfio_pgsize 2>/dev/null
	load_pgsize "$@" || { echo "Bail out! vfio_pgsize does not load"; exit 1; }
}

rmmod vfio_pgsize 2>/dev/null
echo 0 >$hugepages

# Without the module, and without VFIO.
for client in $c $states $rs "$rs --states"; do
	# shellcheck disable=SC2086 # a program, and what it is called with
	fails "load the module vfio_pgsize" $client $device
done
mv /dev/vfio/vfio /dev/vfio/away
for client in $c $states $rs "$rs --states"; do
	# shellcheck disable=SC2086 # a program, and what it is called with
	fails "modprobe vfio" $client $device
done
mv /dev/vfio/away /dev/vfio/vfio

# With it, but not for type1v2, and without the right to use the group.
with_module allow_unsafe_interrupts=0
fails "allow_unsafe_interrupts=1" $c $device
with_module
fails "load vfio_pgsize with serve_type1v2=1, after vfio_iommu_type1" $rs $device
rmmod vfio_iommu_type1
fails "no backend of VFIO serves VFIO_TYPE1v2_IOMMU" $rs $device
modprobe vfio_iommu_type1 allow_unsafe_interrupts=1

# The device.
fails "there is no such device" $c 0000:00:1f.7
fails "there is no such device" $rs --states 0000:00:1f.7
echo $other >/sys/bus/pci/drivers/vfio-pci/unbind
fails "bind $other to vfio-pci" $c $other
fails "bind its devices to vfio-pci" $rs --states $other
echo $other >/sys/bus/pci/drivers/vfio-pci/bind

# Memory.
fails "no 8 huge pages of 2M: reserve them in $hugepages" $c $device
fails "no 16 huge pages of 2M: reserve them in $hugepages" $states $device
fails "no 8 huge pages of 2M: reserve them in $hugepages" $rs --states $device
echo 32 >$hugepages

# What the guest asks for, and is told.
fails "the range is not in the guest's memory" $states $device share:64M:4K
fails "the guest is told EINVAL" $states $device share:64M:4K
fails "the range is not in the guest's memory" $states $device private:30M:4M

# Policies. The machine is no SNP host.
with_module serve_type1v2=1
for client in $c $rs; do
	fails "the set of page sizes 2M lacks 4K" "$client" $device 2M
	fails "the set of page sizes 2M lacks 4K" "$client" $device 4K 2M
	fails "the IOMMU has no leaves of 512G; it has 4K,8K,16K" "$client" $device 4K,512G
	fails "Leave out --follow" "$client" --follow $device
done

# A group that is in use. The client has it when it prints its first report.
mkfifo /tmp/samples.stop
exec 3<>/tmp/samples.stop
$c --pause $device <&3 >/tmp/samples.out &
until grep -q '^\.$' /tmp/samples.out; do sleep 0.1; done
fails "another program uses a device" $c $device
fails "end who uses" $rs --states $device
exec 3>&-
kill $!
wait $! 2>/dev/null
rm /tmp/samples.stop /tmp/samples.out

rmmod vfio_pgsize
echo "$before" >$hugepages
echo "1..$count"
[ $failed -eq 0 ]
