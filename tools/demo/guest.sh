#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The demo's part in the virtual machine: runs the two sample clients against
# an edu device and tells in plain words what came of each policy. What the
# module reports is asked again of the oracle, outside the machine.

usage() {
	cat <<-END
	Usage: guest.sh [--mib N] [--tap]

	Loads vfio_pgsize, runs /samples/pgsize-client and pgsize-client-rs with N
	MiB (default 64), and page-states, and prints a report. Exit status 0: all
	agreed.

	  --tap   the report as comments, and one TAP test: did all agree?
	END
}

mib=64
tap=
while [ $# -gt 0 ]; do
	case $1 in
	--mib) mib=$2; shift ;;
	--tap) tap=yes ;;
	--help) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
	shift || { usage >&2; exit 2; }
done

if [ "$tap" ]; then
	echo 1..1
	{ "$0" --mib "$mib" 2>&1 && touch /tmp/demo.passed; } | sed 's/^/# /'
	[ -e /tmp/demo.passed ] || printf 'not '
	echo "ok 1 - the sample clients get the leaves that they ask for"
	[ -e /tmp/demo.passed ]
	exit
fi

. /lib/vm.sh

device=0000:00:03.0
hugepages=/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages

stop() {
	echo "demo: $1" >&2
	exit 1
}

# 0x200000 -> 2M
human() {
	bytes=$(($1))
	for unit in '' K M G; do
		[ $((bytes % 1024)) -eq 0 ] && [ "$unit" != G ] || break
		bytes=$((bytes / 1024))
	done
	echo "$bytes$unit"
}

# The policy, as a person would put it.
words() {
	case $1 in
	all) echo "any leaf size that the IOMMU has" ;;
	*,*) echo "leaves of $(echo "$1" | sed 's/,/ or /g') only" ;;
	*) echo "leaves of $1 only" ;;
	esac
}

# share:2M:4K
conversion() {
	pages=${1#*:}
	case $1 in
	share:*) echo "shares ${pages#*:} from ${pages%:*} on" ;;
	*) echo "takes ${pages#*:} from ${pages%:*} on back" ;;
	esac
}

# Memory in huge pages of 2M gets the largest leaves that the policy $1 has:
# is $2 bytes that?
is_largest() {
	case $1 in
	'') true ;;	# no policy, but what the guest shares: the oracle knows
	all) [ $(($2)) -ge $((2 << 20)) ] ;;
	*2M) [ $(($2)) -eq $((2 << 20)) ] ;;
	*) [ $(($2)) -eq 4096 ] ;;
	esac
}

# Read the oracle's verdict on the runs that the client printed.
ask_oracle() {
	printf 'check %s\n%send\n' $device "$runs" >&4
	if ! read -r -t 300 verdict rest <&4; then
		verdict=silent
		rest="no answer"
	fi
	case $verdict in
	ok) echo "   oracle    read the same $rest leaves from the page table" ;;
	*)
		echo "   ORACLE    disagrees: $rest"
		touch /tmp/demo.failed
		;;
	esac
}

# Turn a client's lines into the report; each "." is the end of a step.
report() {
	runs=
	while read -r word first second third fourth rest; do
		case $word in
		policy)
			policy=${first%,}
			runs=
			echo
			case $second in
			set) echo "   policy    $(words "$policy"), asked for before mapping" ;;
			*) echo "   policy    $(words "$policy"), applied to the mapped memory while DMA goes on" ;;
			esac
			;;
		conversion)
			policy=
			runs=
			echo
			echo "   guest     $(conversion "$first")"
			;;
		private)
			echo "   private   $(human "$second") from IOVA $first on: not in the IOMMU"
			;;
		dma)
			echo "   DMA       the device copied $first bytes of the first page to the last: all arrived"
			;;
		run)
			count=$((second / third))
			echo "   leaves    $count of $(human "$third") from IOVA $first on ($(human "$second"), $fourth)"
			if ! is_largest "$policy" "$third"; then
				echo "   WRONG     that is not what the policy asks for"
				touch /tmp/demo.failed
			fi
			runs="$runs$first $second $third $fourth
"
			;;
		.)
			ask_oracle
			echo >&3
			;;
		*)
			touch /tmp/demo.failed
			echo "   $word $first $second $third $fourth $rest"
			;;
		esac
	done
}

# run_client PROGRAM ARGUMENTS...
run_client() {
	program=$1
	shift
	{
		"/samples/$program" --pause "$@" <&3 2>&1 ||
			touch /tmp/demo.failed
	} | report
}

[ -c /dev/ttyS1 ] || stop "no oracle: run the machine with --oracle"
stty -F /dev/ttyS1 raw -echo
exec 4<>/dev/ttyS1
mkfifo /tmp/demo.next
exec 3<>/tmp/demo.next
echo $((mib / 2)) > $hugepages
[ "$(cat $hugepages)" -eq $((mib / 2)) ] || stop "not enough memory for $mib MiB of huge pages"

echo "Linux $(uname -r) with a virtual AMD IOMMU; an edu device at $device;"
echo "$mib MiB of memory in huge pages of 2M, mapped for the device."

echo "Loading vfio_pgsize, binding the device to vfio-pci."
load_pgsize || stop "vfio_pgsize does not load"
bind_edu || stop "the edu device cannot be bound to vfio-pci"
echo
echo "1. The C client, on an IOMMU of type VFIO_PGSIZE_IOMMU"
run_client pgsize-client --mib "$mib" $device all 4K 4K,2M all

echo
echo "2. A VMM whose guest shares pages and takes them back: all of its 32M are one mapping"
run_client page-states $device

echo
echo "   The same calls from Rust"
run_client pgsize-client-rs --states --mib "$mib" $device

rmmod vfio_pgsize || stop "vfio_pgsize does not unload"
load_pgsize serve_type1v2=1 || stop "vfio_pgsize does not load again"
echo
echo "3. The Rust client, on rust-vmm's crates as they are: vfio_pgsize serves VFIO_TYPE1v2_IOMMU"
run_client pgsize-client-rs --mib "$mib" $device 4K all

faults=$(dmesg | grep -c IO_PAGE_FAULT)
echo
echo "IOMMU faults logged by the kernel: $faults"
if [ "$faults" -ne 0 ] || [ -e /tmp/demo.failed ]; then
	echo "The demo FAILED."
	exit 1
fi
echo "Every leaf was as asked for, every byte arrived, and the oracle agreed each time."
