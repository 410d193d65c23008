# SPDX-License-Identifier: GPL-2.0
#
# /lib/vm.sh: what tests in the virtual machine have in common.

# Load VFIO and its own IOMMU backend.
load_vfio() {
	modprobe vfio &&
		modprobe vfio_iommu_type1 allow_unsafe_interrupts=1 &&
		modprobe vfio-pci
}

# Load the module under test: load_pgsize [parameter=value...]
load_pgsize() {
	modprobe vfio &&
		insmod "/lib/modules/$(uname -r)/extra/vfio_pgsize.ko" allow_unsafe_interrupts=1 "$@" &&
		modprobe vfio-pci
}

# Load what plays KVM's part on an SNP host: it switches SNP on.
load_snp_host() {
	insmod "/lib/modules/$(uname -r)/extra/ccp.ko"
}

# Load VFIO devices that are software: /sys/bus/platform/devices/emulated_test.0 and .1.
load_emulated() {
	insmod "/lib/modules/$(uname -r)/extra/emulated_test.ko"
}

# Bind each PCI device of this kind to vfio-pci, and print their names: bind_pci VENDOR DEVICE
bind_pci() {
	local device bound=1

	modprobe vfio-pci || return 1
	for device in /sys/bus/pci/devices/*; do
		if [ "$(cat "$device/vendor" "$device/device" | tr '\n' ' ')" != "$1 $2 " ]; then
			continue
		fi
		echo vfio-pci >"$device/driver_override"
		if [ ! -e "$device/driver" ]; then
			echo "${device##*/}" >/sys/bus/pci/drivers/vfio-pci/bind || return 1
		fi
		echo "${device##*/}"
		bound=0
	done
	return $bound
}

bind_edu() {
	if ! bind_pci 0x1234 0x11e8 >/dev/null; then
		echo "bind_edu: the machine has no edu device" >&2
		return 1
	fi
}

# igb network cards.
bind_nics() {
	bind_pci 0x8086 0x10c9
}

# Mount the build root, which the host shares, at /host; what is written there
# stays in this machine's memory.
mount_share() {
	modprobe 9pnet_virtio && modprobe 9p && modprobe overlay || return 1
	mkdir -p /run/share /run/upper /host
	mount -t tmpfs tmpfs /run/upper && mkdir -p /run/upper/upper /run/upper/work &&
		mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro \
			share /run/share &&
		mount -t overlay -o lowerdir=/run/share,upperdir=/run/upper/upper,workdir=/run/upper/work \
			overlay /host
}

# Run a suite of tools/vm/suites.py: jobs.py finds its output by these lines.
suite() {
	local name=$1 status began

	shift
	began=$(cut -d. -f1 /proc/uptime)
	echo "# suite $name begins"
	"$@"
	status=$?
	echo "# suite $name ends: status $status, $(($(cut -d. -f1 /proc/uptime) - began)) s"
}
