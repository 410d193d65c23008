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

# Load it with this parameter, which is wrong: what insmod says, and what the log advises.
refusal() {
	unload
	if answer=$(insmod "$module" "$1" 2>&1); then
		echo accepted
		return
	fi
	echo "$answer" | grep -o "Invalid argument"
	dmesg | tail -n 2 | sed -n "s/.*vfio_pgsize: \(${1%%=*}=.*\)/\1/p"
}

# refuses PARAMETER ADVICE
refuses() {
	expect "$1" "Invalid argument
$1: $2" "$(refusal "$1")"
}

# Write it later, which is wrong: what the log advises.
later() {
	if { echo "${1#*=}" >"$directory/${1%%=*}"; } 2>/dev/null; then
		echo accepted
	else
		dmesg | tail -n 1 | sed -n "s/.*vfio_pgsize: \(${1%%=*}=.*\)/\1/p"
	fi
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
expect "default of default_pgsizes" all "$(cat $directory/default_pgsizes)"
expect "default of default_follow" N "$(cat $directory/default_follow)"

# Root may open what is read only: the mode says whether the kernel takes it.
expect "serve_type1 is for loading" 444 "$(stat -c %a $directory/serve_type1)"
expect "serve_type1v2 is for loading" 444 "$(stat -c %a $directory/serve_type1v2)"
expect "reserve_tables is for loading" 444 "$(stat -c %a $directory/reserve_tables)"
expect "allow_unsafe_interrupts can be changed" Y "$(write allow_unsafe_interrupts Y)"
expect "dma_entry_limit can be changed" 7 "$(write dma_entry_limit 7)"
expect "join_mappings can be changed" Y "$(write join_mappings Y)"
expect "joined_entry_limit can be changed" 5 "$(write joined_entry_limit 5)"

expect "as many tables as there may be" yes "$(loads reserve_tables=1024)"
expect "fewer than none" no "$(loads reserve_tables=-1)"
expect "none" yes "$(loads reserve_tables=0)"

flag="give Y or N"
for name in serve_type1 serve_type1v2 allow_unsafe_interrupts default_follow join_mappings; do
	refuses "$name=perhaps" "$flag"
done
entries="give a number of mappings, 1 to 4294967295"
refuses dma_entry_limit=0 "$entries"
expect "the largest dma_entry_limit" yes "$(loads dma_entry_limit=4294967295)"
for text in 0 -1 4294967296 many; do
	expect "dma_entry_limit=$text later" "dma_entry_limit=$text: $entries" \
		"$(later "dma_entry_limit=$text")"
done
expect "joined_entry_limit=4K later" "joined_entry_limit=4K: give a number of mappings, 0 to 4294967295" \
	"$(later joined_entry_limit=4K)"
expect "no joined mapping" 0 "$(write joined_entry_limit 0)"
tables="give a number of tables, at most 1024"
refuses reserve_tables=1025 "$tables"
refuses reserve_tables=4K "$tables"
sizes="give all, or leaf sizes from 4K to 2P, 4K among them, as in 4K,2M"
refuses default_pgsizes=2M "$sizes"
refuses default_pgsizes= "$sizes"
expect "sizes, in rising order" yes "$(loads default_pgsizes=1G,4k,2M,65536)"
expect "they can be read" 4K,64K,2M,1G "$(cat $directory/default_pgsizes)"
for text in 2M "" 0 "4K," ,4K 4K,,2M 4K2M 4K,2K 4K,4P 4K,0 4096x "4K 2M" -4096 every 4K,all \
	18446744073709555712 0x10000000000001000; do
	expect "default_pgsizes=$text" "default_pgsizes=$text: $sizes" \
		"$(later "default_pgsizes=$text")"
done
expect "all sizes" all "$(write default_pgsizes all)"
expect "one size" 4K "$(write default_pgsizes 4K)"
expect "a set of sizes" 4K,2M "$(write default_pgsizes 0x201000)"
expect "the largest size" 4K,2P "$(write default_pgsizes 2P,4K)"
expect "default_pgsizes can be changed" 4K,2M "$(write default_pgsizes 4K,2M)"
expect "but not to nonsense" refused "$(write default_pgsizes 2M)"
expect "and stays" 4K,2M "$(cat $directory/default_pgsizes)"
expect "default_follow can be changed" Y "$(write default_follow Y)"

# The line in the log when it is loaded.
line() {
	loads "$@" >/dev/null
	dmesg | sed -n 's/.*vfio_pgsize: \(.*serves VFIO_PGSIZE_IOMMU.*\)/\1/p' | tail -n 1
}

loads >/dev/null
version=$(cat /sys/module/vfio_pgsize/version)
expect "a version" yes "$(echo "$version" | grep -qE '^[0-9]+\.[0-9]+$' && echo yes)"
start="$version, interface version 1: serves VFIO_PGSIZE_IOMMU"
end="the RMP cannot be followed: this is no SNP host"
expect "the line when it is loaded" "$start; default leaf sizes: all; $end" "$(line)"
expect "all that it serves" \
	"$start, VFIO_TYPE1v2_IOMMU, VFIO_TYPE1_IOMMU; default leaf sizes: 4K,2M, following the RMP; $end" \
	"$(line serve_type1=1 serve_type1v2 default_pgsizes=4K,2M default_follow=1)"

unload
echo "1..$count"
[ $failed -eq 0 ]
