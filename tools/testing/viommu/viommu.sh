#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs in the virtual machine (L1): Debian's QEMU with KVM, unmodified, emulates an
# IOMMU for a Linux guest (L2) and passes an NVMe disk to it, whose driver maps and
# unmaps what it transfers. The disk is unplugged and plugged in, the guest
# reboots, QEMU is killed in the middle of transfers. TAP on standard output.
# shellcheck disable=SC2034 # /lib/tap.sh reads what is set here
# shellcheck disable=SC2317 # wait_for calls functions

usage() {
	cat <<-END
	Usage: viommu.sh [--viommu NAMES] [--backend MODULES] [--rounds N] [--root DIR]

	  --viommu NAMES     the IOMMUs to emulate: amd, intel, virtio (default: all)
	  --backend MODULES  who is to serve VFIO_TYPE1v2_IOMMU (default:
	                     vfio_iommu_type1, then vfio_pgsize)
	  --rounds N         unplug and plug in, and reboot, N times (default 1)
	  --root DIR         a root file system with QEMU in it (default /host)
	END
}

viommus="amd intel virtio"
backends="vfio_iommu_type1 vfio_pgsize"
rounds=1
root=/host
while [ $# -gt 0 ]; do
	case $1 in
	--viommu) viommus=$2; shift ;;
	--backend) backends=$2; shift ;;
	--rounds) rounds=$2; shift ;;
	--root) root=$2; shift ;;
	--help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift || { usage >&2; exit 2; }
done

. /lib/vm.sh
. /lib/tap.sh

guest_mib=256
guest_pages=$((guest_mib << 8))
release=$(uname -r)
log=/tmp/l2.log
modules=$root/usr/lib/modules/$release

# --- the guest ---------------------------------------------------------------

# Files of these modules and of what they need, in the order to load them.
modules_in_order() {
	local name

	for name; do
		sed -n "s|^\(.*/$name\.ko[^:]*\):|\1|p" "$modules/modules.dep" |
			awk '{ for (n = NF; n; n--) print $n }'
	done | awk '!seen[$0]++'
}

make_initramfs() {
	local tree=/tmp/l2 file nr=10

	mkdir -p $tree/bin $tree/dev $tree/proc $tree/sys $tree/tmp $tree/modules $tree/lib
	cp "$root/usr/bin/busybox" $tree/bin
	cp /lib/wait.sh $tree/lib
	cp /tests/guest-init.sh $tree/init
	chmod 755 $tree/init
	for file in $(modules_in_order virtio-iommu nvme); do
		name=${file##*/}
		case $name in
		*.xz) xzcat "$modules/$file" ;;
		*) cat "$modules/$file" ;;
		esac >"$tree/modules/$nr-${name%%.*}" || return 1
		nr=$((nr + 1))
	done
	(cd $tree && find . | cpio -o -H newc 2>/dev/null) >"$root/tmp/l2.cpio"
}

# Its options of QEMU, and of the kernel.
viommu_options() {
	case $1 in
	amd) echo "-device amd-iommu,dma-remap=on" ;;
	intel) echo "-device intel-iommu,caching-mode=on" ;;
	virtio) echo "-device virtio-iommu-pci" ;;
	*) return 1 ;;
	esac
}

has_line() {
	grep -q "$1" $log
}

ended() {
	! kill -0 "$qemu" 2>/dev/null
}

# It has said this so many times, or it is gone: has_said TIMES LINE
has_said() {
	[ "$(grep -c "$2" "$log")" -ge "$1" ] || ended
}

boots=0
boots() {
	boots=$((boots + 1))
	wait_for has_said $boots '^l2: up' && ! ended
}

# The guest executes a line; its status: guest WORD...
lines=0
guest() {
	lines=$((lines + 1))
	echo "$lines $*" >&5
	wait_for has_said 1 "^l2: $lines ended: " && has_line "^l2: $lines ended: 0"
}

# Sum of the data that the guest wrote last.
last_written() {
	sed -n 's/^l2: wrote //p' $log | tail -n 1
}

# --- QEMU --------------------------------------------------------------------

qmp() {
	echo "$1" >&6
}

# QEMU reports this so many times: has_event TIMES TEXT
has_event() {
	[ "$(grep -c "$2" /tmp/l2.events)" -ge "$1" ] || ended
}

start_qemu() {
	: >$log
	: >/tmp/l2.events
	boots=0
	lines=0
	# shellcheck disable=SC2046 # words
	chroot "$root" /usr/bin/qemu-system-x86_64 -M q35,accel=kvm,kernel-irqchip=split -cpu host \
		-m $guest_mib -nodefaults -display none \
		$(viommu_options "$1") \
		-device pcie-root-port,id=root-port,chassis=1,addr=4 \
		-device vfio-pci,host="$disk",id=disk,bus=root-port \
		-kernel "/usr/lib/modules/$release/vmlinuz" -initrd /tmp/l2.cpio \
		-append "console=ttyS0 quiet panic=-1 intel_iommu=on" \
		-serial file:/tmp/l2.console -serial stdio \
		-chardev pipe,id=qmp,path=/tmp/l2.qmp -mon chardev=qmp,mode=control \
		<"$root/tmp/l2.in" >$log 2>/tmp/l2.errors &
	qemu=$!
	qmp '{"execute": "qmp_capabilities"}'
}

locked_kib() {
	awk '/^VmLck:/ { print $2 }' "/proc/$qemu/status"
}

unplug() {
	qmp '{"execute": "device_del", "arguments": {"id": "disk"}}'
	wait_for has_event "$1" '"DEVICE_DELETED".*"device": "disk"' && ! ended
}

plug() {
	qmp '{"execute": "device_add", "arguments": {"driver": "vfio-pci", "id": "disk", "bus": "root-port", "host": "'"$disk"'"}}'
}

# What was said, for one who looks for a failure.
tell() {
	tail -n 30 $log /tmp/l2.events /tmp/l2.errors "$root/tmp/l2.console" | tr -d '\r' | sed 's/^/# /'
}

# --- tests -------------------------------------------------------------------

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
	unplug "$1"
	result $? "unplug $1: the guest lets go of the disk"
	guest disk_goes
	result $? "unplug $1: it is gone"
	# The event comes before the last file is closed.
	wait_for pinned_at_most "$before"
	[ "$(pinned)" -eq "$before" ] && [ "$(locked_kib)" -eq 0 ]
	result $? "unplug $1: no page is pinned ($(pinned), before $before), $(locked_kib) KiB are locked"
	plug
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

tests_of_kill() {
	guest endless_traffic && wait_for has_said 2 '^l2: round' && ! ended
	result $? "traffic goes on"
	kill -KILL "$qemu"
	wait "$qemu"
	wait_for pinned_at_most "$before"
	[ "$(pinned)" -eq "$before" ] && [ "$(cat "/sys/module/$backend/refcnt")" -eq 0 ]
	result $? "QEMU is killed, and no page is pinned ($(pinned), before $before)"
}

tests_of_viommu() {
	about="$backend, $1"
	before=$(pinned)
	start_qemu "$1"
	boots
	result $? "the guest is up"
	! ended || { tell; bail "QEMU ended"; }
	tests_of_disk boot
	for round in $(seq "$rounds"); do
		tests_of_hotplug "$round"
		tests_of_reboot "$round"
	done
	tests_of_kill
	log_is_clean
	[ "$failed" -eq 0 ] || tell
}

serve_by() {
	if [ "$1" = vfio_pgsize ]; then
		load_pgsize serve_type1v2=1 || bail "vfio_pgsize does not load"
		[ ! -d /sys/module/vfio_iommu_type1 ] || rmmod vfio_iommu_type1 ||
			bail "vfio_iommu_type1 is in use"
	else
		[ ! -d /sys/module/vfio_pgsize ] || rmmod vfio_pgsize || bail "vfio_pgsize is in use"
		load_vfio || bail "$1 does not load"
	fi
}

[ -e "$root/usr/bin/qemu-system-x86_64" ] || bail "no QEMU in $root: is the machine run with --share?"
modprobe kvm-amd || bail "no KVM in this machine"
modprobe vfio-pci || bail "no vfio-pci"
disk=$(bind_pci 0x1b36 0x0010) || bail "the machine has no NVMe disk"
enter_root "$root"
make_initramfs || bail "the guest's initramfs cannot be made"
mkfifo "$root/tmp/l2.in" "$root/tmp/l2.qmp.in" "$root/tmp/l2.qmp.out"
exec 5<>"$root/tmp/l2.in" 6<>"$root/tmp/l2.qmp.in"
cat <>"$root/tmp/l2.qmp.out" >>/tmp/l2.events &
reader=$!
dmesg -c >/dev/null

for backend in $backends; do
	serve_by "$backend"
	for viommu in $viommus; do
		tests_of_viommu "$viommu"
	done
done
about=
kill $reader
serve_by vfio_iommu_type1
result $? "vfio_pgsize unloads"
echo "1..$number"
exit "$failed"
