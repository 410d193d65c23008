# SPDX-License-Identifier: GPL-2.0
#
# /lib/tap.sh: what shell tests with programs of the build root have in common:
# results, waiting, pinned pages, the kernel's log.
# shellcheck disable=SC2034 # the tests read what is set here

. /lib/wait.sh

number=0
failed=0

# One test: result STATUS TEXT. $about, if there is one, precedes the text.
result() {
	number=$((number + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $number - ${about:+$about: }$2"
	else
		echo "not ok $number - ${about:+$about: }$2"
		failed=1
	fi
}

skip() {
	number=$((number + 1))
	echo "ok $number - ${about:+$about: }$1 # SKIP $2"
}

bail() {
	echo "Bail out! $1"
	exit 1
}

# Pages that are pinned.
pinned() {
	awk '/^nr_foll_pin_acquired / { sum += $2 } /^nr_foll_pin_released / { sum -= $2 }
	     END { print sum }' /proc/vmstat
}

pinned_at_least() {
	[ "$(pinned)" -ge "$1" ]
}

pinned_at_most() {
	[ "$(pinned)" -le "$1" ]
}

# Leaves of the one container of vfio_pgsize that are of 2M or larger, then those that are smaller.
leaves() {
	local size count large=0 small=0

	while read -r _ size count; do
		[ "$size" != size ] || continue	# the header
		if [ $((size)) -ge $((2 << 20)) ]; then
			large=$((large + count))
		else
			small=$((small + count))
		fi
	done <<-END
	$(cat /sys/kernel/debug/vfio_pgsize/[0-9]*/leaves)
	END
	echo "$large $small"
}

# Programs in this root see the machine's devices and processes: enter_root DIR
enter_root() {
	mount --rbind /dev "$1/dev" && mount --bind /proc "$1/proc" &&
		mount --rbind /sys "$1/sys" && mount -t tmpfs tmpfs "$1/tmp" ||
		bail "cannot mount over $1"
}

# One test: since the last time, the log has neither IOMMU faults nor warnings.
log_is_clean() {
	dmesg -c | grep -E 'IO_PAGE_FAULT|AMD-Vi: Event|WARNING:|BUG:|Oops' | sed 's/^/# /' >/tmp/reports
	cat /tmp/reports
	[ ! -s /tmp/reports ]
	result $? "the kernel logged no IOMMU fault and no warning"
}
