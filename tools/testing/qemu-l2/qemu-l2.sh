#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs in the virtual machine (L1): an unmodified QEMU with KVM passes an edu
# device to a small guest (L2), which does DMA with it. The VFIO container that
# QEMU opens is of the type VFIO_TYPE1v2_IOMMU and must be served by the module
# under test. TAP on standard output.

usage() {
	cat <<-END
	Usage: qemu-l2.sh [--backend MODULE] [--init FILE] [--root DIR] [--kernel FILE]

	  --backend MODULE  who is to serve VFIO_TYPE1v2_IOMMU: vfio_pgsize, or
	                    vfio_iommu_type1 to see that all else works
	  --init FILE       the guest's program (default /tests/l2-init)
	  --root DIR        a root file system with QEMU in it (default /host)
	  --kernel FILE     the guest's kernel, a path in that root (default the
	                    running kernel's vmlinuz)
	END
}

backend=vfio_pgsize
init=/tests/l2-init
root=/host
kernel=/usr/lib/modules/$(uname -r)/vmlinuz
while [ $# -gt 0 ]; do
	case $1 in
	--backend) backend=$2; shift ;;
	--init) init=$2; shift ;;
	--root) root=$2; shift ;;
	--kernel) kernel=$2; shift ;;
	--help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift || { usage >&2; exit 2; }
done

. /lib/vm.sh
. /lib/tap.sh

guest_mib=256
device=0000:00:03.0

use_count() {
	cat "/sys/module/$backend/refcnt"
}

# Bytes that the device reaches, as the oracle outside reads the page table.
reachable() {
	total=0
	echo "list $device" >&4
	while read -r -t "$patience" first size pgsize access <&4; do
		case $first in
		end) echo $total; return 0 ;;
		mismatch) echo "# oracle: $size $pgsize $access" >&2; return 1 ;;
		*) total=$((total + size)) ;;
		esac
	done
	echo "# the oracle does not answer" >&2
	return 1
}

# shellcheck disable=SC2317 # wait_for calls it
is_gone() {
	! kill -0 "$1" 2>/dev/null
}

# QEMU's output has a line that begins with "l2:", and the end of it: it is the last. Or QEMU ended.
# shellcheck disable=SC2317 # wait_for calls it
guest_has_spoken() {
	grep -q '^l2: ' /tmp/l2.log && [ "$(tail -c 1 /tmp/l2.log | tr '\n' .)" = . ] || is_gone "$qemu"
}

[ -x "$init" ] || bail "$init is not there"
[ -e "$root/usr/bin/qemu-system-x86_64" ] || bail "no QEMU in $root: is the machine run with --share?"
[ -e "$root/$kernel" ] || bail "no guest kernel $kernel in $root"

modprobe kvm-amd || bail "no KVM in this machine"
if [ "$backend" = vfio_pgsize ]; then
	load_pgsize serve_type1v2=1 || bail "vfio_pgsize does not load"
	if [ -d /sys/module/vfio_iommu_type1 ]; then
		rmmod vfio_iommu_type1 || bail "vfio_iommu_type1 is in use"
	fi
else
	load_vfio || bail "$backend does not load"
fi
bind_edu || bail "the edu device cannot be bound to vfio-pci"
before=$(use_count)

mkdir -p /tmp/l2
cp "$init" /tmp/l2/init
enter_root "$root"
(cd /tmp/l2 && echo init | cpio -o -H newc 2>/dev/null) > "$root/tmp/l2.cpio"
mkfifo /tmp/l2.console
exec 5<>/tmp/l2.console

echo 1..6
chroot "$root" /usr/bin/qemu-system-x86_64 -M q35,accel=kvm -cpu host -m $guest_mib \
	-nodefaults -display none -no-reboot -serial stdio \
	-kernel "$kernel" -initrd /tmp/l2.cpio -append "console=ttyS0 quiet panic=-1" \
	-device vfio-pci,host=$device,addr=8 </tmp/l2.console >/tmp/l2.log 2>&1 &
qemu=$!

wait_for guest_has_spoken
tr -d '\r' </tmp/l2.log | sed 's/^/# /'
grep -q '^l2: [1-9][0-9]* pages copied by the device' /tmp/l2.log
result $? "the guest's device copies its memory by DMA"

[ "$(use_count)" -gt "$before" ]
result $? "$backend is in use: $before before, $(use_count) now"

others=
for module in vfio_pgsize vfio_iommu_type1; do
	[ $module != "$backend" ] && [ -d /sys/module/$module ] && others=$module
done
[ -z "$others" ]
result $? "no other module could have served the container"

if [ -c /dev/ttyS1 ] && [ -n "${ORACLE-yes}" ]; then
	stty -F /dev/ttyS1 raw -echo
	exec 4<>/dev/ttyS1
	bytes=$(reachable)
	[ "${bytes:-0}" -ge $((guest_mib << 20)) ]
	result $? "the page table read from outside covers the guest: ${bytes:-no} bytes"
else
	skip "the page table read from outside covers the guest" "no oracle: run with --oracle"
fi

echo >&5
wait_for is_gone "$qemu"
kill "$qemu" 2>/dev/null
wait "$qemu"
status=$?
[ $status -eq 0 ] && [ "$(use_count)" -eq "$before" ]
result $? "QEMU ends (status $status) and lets go of $backend ($(use_count) uses)"

log_is_clean
exit "$failed"
