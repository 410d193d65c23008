# SPDX-License-Identifier: GPL-2.0
#
# What the tests with a Linux guest (L2) have in common. In the virtual machine (L1)
# Debian's QEMU with KVM, unmodified, passes an NVMe disk to the guest, whose own
# driver uses it. The guest executes lines (guest-init.sh); QEMU takes commands through
# its monitor (qmp.py).
# shellcheck disable=SC2034 # /lib/tap.sh and the tests read what is set here
# shellcheck disable=SC2317 # wait_for calls functions

. /lib/vm.sh
. /lib/tap.sh

backends="vfio_iommu_type1 vfio_pgsize"
root=/host
rounds=1
guest_mib=256
guest_pages=$((guest_mib << 8))
log=/tmp/l2.log
errors=/tmp/l2.errors

# The options that all tests have: one and its value, or not one of them.
common_option() {
	case $1 in
	--backend) backends=$2 ;;
	--rounds) rounds=$2 ;;
	--root) root=$2 ;;
	*) return 1 ;;
	esac
}

common_usage() {
	cat <<-END
	  --backend MODULES  who is to serve VFIO_TYPE1v2_IOMMU (default:
	                     vfio_iommu_type1, then vfio_pgsize)
	  --rounds N         do it N times (default 1)
	  --root DIR         a root file system with QEMU in it (default /host)
	END
}

# --- the guest ---------------------------------------------------------------

# Files of these modules and of what they need, in the order to load them.
modules_in_order() {
	local name

	for name; do
		sed -n "s|^\(.*/$name\.ko[^:]*\):|\1|p" "$modules/modules.dep" |
			awk '{ for (n = NF; n; n--) print $n }'
	done | awk '!seen[$0]++'
}

# Of a guest with these modules.
make_initramfs() {
	local tree=/tmp/l2 file nr=10

	rm -rf $tree
	mkdir -p $tree/bin $tree/dev $tree/proc $tree/sys $tree/tmp $tree/modules $tree/lib
	cp "$root/usr/bin/busybox" $tree/bin
	cp /lib/wait.sh $tree/lib
	cp /tests/guest-init.sh $tree/init
	chmod 755 $tree/init
	for file in $(modules_in_order "$@"); do
		name=${file##*/}
		case $name in
		*.xz) xzcat "$modules/$file" ;;
		*) cat "$modules/$file" ;;
		esac >"$tree/modules/$nr-${name%%.*}" || return 1
		nr=$((nr + 1))
	done
	(cd $tree && find . | cpio -o -H newc 2>/dev/null) >"$root/tmp/l2.cpio"
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

# Traffic goes on, and its data are right: so many rounds more.
rounds_go_on() {
	wait_for has_said $(($(grep -c '^l2: round' $log) + $1)) '^l2: round' && ! ended
}

# --- QEMU --------------------------------------------------------------------

# qmp COMMAND [ARGUMENTS] [--until EVENT]
qmp() {
	qmp_at "$monitor" "$@"
}

qmp_at() {
	chroot "$root" /usr/bin/python3 -B /tmp/qmp.py --patience "$patience" "$@" 2>>$errors
}

# QEMU with these options, the same guest as an earlier one.
monitors=0
add_qemu() {
	monitors=$((monitors + 1))
	monitor=/tmp/l2.qmp.$monitors
	chroot "$root" /usr/bin/qemu-system-x86_64 -M q35,accel=kvm,kernel-irqchip=split -cpu host \
		-m $guest_mib -nodefaults -display none "$@" \
		-device pcie-root-port,id=root-port,chassis=1,addr=4 \
		-device vfio-pci,host="$disk",id=disk,bus=root-port \
		-kernel "/usr/lib/modules/$release/vmlinuz" -initrd /tmp/l2.cpio \
		-append "console=ttyS0 quiet panic=-1 intel_iommu=on memhp_default_state=online_movable" \
		-serial file:/tmp/l2.console.$monitors -serial stdio \
		-qmp "unix:$monitor,server=on,wait=off" \
		<"$root/tmp/l2.in" >>$log 2>>$errors &
	qemu=$!
}

# With these options, and a new guest.
start_qemu() {
	: >$log
	: >$errors
	boots=0
	lines=0
	add_qemu "$@"
}

locked_kib() {
	awk '/^VmLck:/ { print $2 }' "/proc/$qemu/status"
}

unplug() {
	qmp device_del '{"id": "disk"}' --until DEVICE_DELETED
}

plug() {
	qmp device_add "{\"driver\": \"vfio-pci\", \"id\": \"disk\", \"bus\": \"root-port\", \"host\": \"$disk\"}"
}

# What was said, for one who looks for a failure.
tell() {
	tail -n 30 $log $errors "$root"/tmp/l2.console.* | tr -d '\r' | sed 's/^/# /'
}

# --- tests -------------------------------------------------------------------

tests_of_start() {
	boots
	result $? "the guest is up"
	! ended || { tell; bail "QEMU ended"; }
}

# In the middle of transfers.
tests_of_kill() {
	kill -KILL "$qemu"
	wait "$qemu"
	wait_for pinned_at_most "$before"
	[ "$(pinned)" -eq "$before" ] && [ "$(cat "/sys/module/$backend/refcnt")" -eq 0 ]
	result $? "QEMU is killed, and no page is pinned ($(pinned), before $before)"
}

# serve_by MODULE [PARAMETER=VALUE...]
serve_by() {
	local module=$1

	shift
	if [ "$module" = vfio_pgsize ]; then
		load_pgsize serve_type1v2=1 "$@" || bail "vfio_pgsize does not load"
		[ ! -d /sys/module/vfio_iommu_type1 ] || rmmod vfio_iommu_type1 ||
			bail "vfio_iommu_type1 is in use"
	else
		[ ! -d /sys/module/vfio_pgsize ] || rmmod vfio_pgsize || bail "vfio_pgsize is in use"
		load_vfio || bail "$module does not load"
	fi
}

# For guests with these modules. Their kernel is Debian's, whichever runs here.
set_up() {
	release=$(ls "$root/usr/lib/modules")
	modules=$root/usr/lib/modules/$release
	[ -e "$root/usr/bin/qemu-system-x86_64" ] ||
		bail "no QEMU in $root: is the machine run with --share?"
	modprobe kvm-amd || bail "no KVM in this machine"
	modprobe vfio-pci || bail "no vfio-pci"
	disk=$(bind_pci 0x1b36 0x0010) || bail "the machine has no NVMe disk"
	enter_root "$root"
	cp /tests/qmp.py "$root/tmp"
	make_initramfs "$@" || bail "the guest's initramfs cannot be made"
	mkfifo "$root/tmp/l2.in"
	exec 5<>"$root/tmp/l2.in"
	dmesg -c >/dev/null
}

# After the last test.
finish() {
	about=
	serve_by vfio_iommu_type1
	result $? "vfio_pgsize unloads"
	echo "1..$number"
	exit "$failed"
}
