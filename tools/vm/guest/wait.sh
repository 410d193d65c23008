# SPDX-License-Identifier: GPL-2.0
#
# /lib/wait.sh: waiting, in the virtual machine and in its guests.

# Seconds until what is waited for does not come any more: the host may be busy.
patience=300

# Wait until a command succeeds.
wait_for() {
	local left=$((patience * 5))

	until "$@"; do
		left=$((left - 1))
		[ $left -gt 0 ] || return 1
		usleep 200000
	done
}
