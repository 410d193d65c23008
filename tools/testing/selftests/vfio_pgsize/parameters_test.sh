#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# The module's parameters: their bounds, their defaults, and which can be changed later.

. /lib/vm.sh

module="/lib/modules/$(uname -r)/extra/vfio_pgsize.ko"
directory=/sys/module/vfio_pgsize/parameters
count=0
failed=0

# expect NAME WANTED GOT
expect() {
	count=$((count + 1))
	if [ "$2" = "$3" ]; then
		echo "ok $count - $1"
	else
		echo "not ok $count - $1"
		echo "# $3, not $2"
		failed=$((failed + 1))
	fi
}

unload() {
	rmmod vfio_pgsize 2>/dev/null
}

# Load it with these parameters, and say how that went.
loads() {
	unload
	insmod "$module" "$@" 2>/dev/null && echo yes || echo no
}

write() {
	if { echo "$2" >"$directory/$1"; } 2>/dev/null; then cat "$directory/$1"; else echo refused; fi
}

unload
expect "it loads without parameters" yes "$(loads)"
expect "default of serve_type1" N "$(cat $directory/serve_type1)"
expect "default of serve_type1v2" N "$(cat $directory/serve_type1v2)"
expect "default of allow_unsafe_interrupts" N "$(cat $directory/allow_unsafe_interrupts)"
expect "default of dma_entry_limit" 65535 "$(cat $directory/dma_entry_limit)"
expect "default of join_mappings" N "$(cat $directory/join_mappings)"
expect "default of joined_entry_limit" 65535 "$(cat $directory/joined_entry_limit)"
expect "default of reserve_tables" 32 "$(cat $directory/reserve_tables)"

# Root may open what is read only: the mode says whether the kernel takes it.
expect "serve_type1 is for loading" 444 "$(stat -c %a $directory/serve_type1)"
expect "serve_type1v2 is for loading" 444 "$(stat -c %a $directory/serve_type1v2)"
expect "reserve_tables is for loading" 444 "$(stat -c %a $directory/reserve_tables)"
expect "allow_unsafe_interrupts can be changed" Y "$(write allow_unsafe_interrupts Y)"
expect "dma_entry_limit can be changed" 7 "$(write dma_entry_limit 7)"
expect "join_mappings can be changed" Y "$(write join_mappings Y)"
expect "joined_entry_limit can be changed" 5 "$(write joined_entry_limit 5)"

expect "as many tables as there may be" yes "$(loads reserve_tables=1024)"
expect "one more than that" no "$(loads reserve_tables=1025)"
expect "fewer than none" no "$(loads reserve_tables=-1)"
expect "none" yes "$(loads reserve_tables=0)"

unload
echo "1..$count"
[ $failed -eq 0 ]
