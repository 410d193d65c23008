#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs in the virtual machine (L1): a QEMU with a passed-through NVMe disk hands its
# Linux guest (L2) over to another QEMU (cpr-transfer), while the disk transfers. The
# device stays open, and its memory mapped: the new QEMU gives the mappings its
# addresses (VFIO_UPDATE_VADDR). TAP on standard output.
# shellcheck disable=SC2034 # /lib/tap.sh reads what is set here
# shellcheck disable=SC2317 # wait_for calls functions

. /tests/rig.sh

usage() {
	cat <<-END
	Usage: cpr.sh [OPTION...]

	END
	common_usage
}

while [ $# -gt 0 ]; do
	case $1 in
	--help) usage; exit 0 ;;
	*) common_option "$@" || { usage >&2; exit 2; } ;;
	esac
	shift 2 || { usage >&2; exit 2; }
done

# Memory that another process can map.
set_memory() {
	set -- -object "memory-backend-memfd,id=ram,size=${guest_mib}M,share=on"
	set -- "$@" -machine memory-backend=ram,aux-ram-share=on
	memory=$*
}

# A channel of the migration, as an argument of QEMU and of its monitor: channel NAME
channel() {
	echo "{\"channel-type\": \"$1\", \"addr\": {\"transport\": \"socket\", \"type\": \"unix\", \"path\": \"/tmp/$1\"}}"
}

runs() {
	qmp query-status | grep -q '"status": "running"'
}

listens() {
	[ -S "$root/tmp/cpr" ] || ended
}

# A new QEMU takes the guest; the old one has it no more, and the device still.
transfer() {
	old=$qemu
	old_monitor=$monitor
	rm -f "$root/tmp/cpr" "$root/tmp/main"
	# shellcheck disable=SC2086 # words
	add_qemu $memory -incoming "$(channel main)" -incoming "$(channel cpr)"
	wait_for listens && ! ended || return 1
	qmp_at "$old_monitor" migrate-set-parameters '{"mode": "cpr-transfer"}' >/dev/null &&
		qmp_at "$old_monitor" migrate "{\"channels\": [$(channel main), $(channel cpr)]}" >/dev/null &&
		wait_for runs
}

tests_of_transfer() {
	local pages locked

	pages=$(pinned)
	locked=$(locked_kib)
	transfer
	result $? "transfer $1: the new QEMU runs the guest"
	! ended || { tell; bail "QEMU ended"; }
	[ "$(pinned)" -eq "$pages" ] && [ $((pages - before)) -ge "$guest_pages" ]
	result $? "transfer $1: the guest stays pinned: $((pages - before)) pages, then $(($(pinned) - before))"
	[ "$(locked_kib)" -eq "$locked" ] && [ "$locked" -ge $((guest_mib << 10)) ]
	result $? "transfer $1: it is charged to the new QEMU: $locked KiB, then $(locked_kib)"
	[ "$(qemu=$old locked_kib)" -eq 0 ]
	result $? "transfer $1: and not to the old one: $(qemu=$old locked_kib) KiB"
	qmp_at "$old_monitor" quit >/dev/null
	wait "$old"
	result $? "transfer $1: the old QEMU ends"
	rounds_go_on 3
	result $? "transfer $1: transfers go on, and their data are right"
	[ "$(pinned)" -eq "$pages" ]
	result $? "transfer $1: the guest is still pinned: $(($(pinned) - before)) pages"
}

tests_of_backend() {
	about=$backend
	before=$(pinned)
	# shellcheck disable=SC2086 # words
	start_qemu $memory
	tests_of_start
	guest disk_comes && guest endless_traffic && rounds_go_on 1
	result $? "traffic goes on"
	for round in $(seq "$rounds"); do
		tests_of_transfer "$round"
	done
	guest true
	result $? "the guest obeys"
	has_said 1 "^l2: up" && ! has_said 2 "^l2: up"
	result $? "it has booted once"
	tests_of_kill
	log_is_clean
	[ "$failed" -eq 0 ] || tell
}

set_memory
set_up nvme
for backend in $backends; do
	serve_by "$backend"
	tests_of_backend
done
finish
