#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Makes the build root: a Debian with the compilers, QEMU and the packages of
# one kernel, in which everything else runs. It is cached; the last line of
# output is its path.

set -eu

usage() {
	cat <<-END
	Usage: [KERNEL=7.3] [MIRROR=URL] buildroot.sh

	  KERNEL  a series or a release of kernels.list (default: its first)
	  MIRROR  a Debian mirror (default: this machine's own, from apt's sources)

	The cache is \${XDG_CACHE_HOME:-\$HOME/.cache}/vfio-pgsize.
	END
}

say() {
	echo "buildroot: $*" >&2
}

stop() {
	say "$*"
	exit 1
}

case ${1:-} in
'') ;;
--help) usage; exit 0 ;;
*) usage >&2; exit 2 ;;
esac

# Change it when a change of this script makes old build roots useless.
recipe=2

# Where QEMU's source is taken from, whatever the kernel: tools/snp-qemu fits it.
qemu_suite=trixie

here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-${HOME:?set HOME or XDG_CACHE_HOME}/.cache}/vfio-pgsize
: "${KERNEL:=$(awk '!/^#/ && NF { print $1; exit }' "$here/kernels.list")}"

# "7.3.4" is a release of the series "7.3"
line=$(awk -v kernel="$KERNEL" \
	'!/^#/ && NF && index(kernel ".", $1 ".") == 1 { print; exit }' "$here/kernels.list")
[ -n "$line" ] || stop "kernels.list has no kernel series for KERNEL=$KERNEL; it has:" \
	"$(awk '!/^#/ && NF { printf "%s ", $1 }' "$here/kernels.list")"
# shellcheck disable=SC2086
set -- $line
series=$1 suite=$2 source=$3

packages=$(awk '!/^#/ && NF { print $1 }' "$here/packages.list")
key=$(echo "$recipe" "$qemu_suite" "$KERNEL" "$line" "$packages" | sha256sum | cut -c1-12)
root=$cache/root-$KERNEL-$key

if [ -e "$root/etc/vfio-pgsize-kernel" ]; then
	echo "$root"
	exit 0
fi

[ "$(id -u)" = 0 ] || stop "run as root: a build root is made by chroot"
command -v apt-get >/dev/null || stop "this is no Debian: there is no apt-get"
mkdir -p "$cache"

exec 9>"$root.lock"
flock -n 9 || { say "waiting for another run that makes $root"; flock 9; }
if [ -e "$root/etc/vfio-pgsize-kernel" ]; then
	echo "$root"
	exit 0
fi
started=$(date +%s)
rm -rf "$root.part"
log=$root.log
: >"$log"

# Run quietly; on failure show the end of the log.
quietly() {
	"$@" >>"$log" 2>&1 9>&- || {
		status=$?
		tail -n 20 "$log" >&2
		stop "'$*' failed ($status); the whole log is $log. Is the network there?"
	}
}

if ! command -v mmdebstrap >/dev/null; then
	say "installing mmdebstrap on this machine"
	quietly apt-get update
	quietly env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends mmdebstrap
fi

mirror() {
	apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
		awk -F'|' '$1 == "Debian" && $2 == "Debian" { print $3; exit }'
}

: "${MIRROR:=$(mirror)}"
if [ -z "$MIRROR" ]; then
	quietly apt-get update
	MIRROR=$(mirror)
fi
[ -n "$MIRROR" ] || stop "apt's sources name no Debian mirror: give one as MIRROR=URL"
MIRROR=${MIRROR%/}

suites=$suite
[ "$source" = "$suite" ] || suites="$suite $source"
say "making a Debian $suite with the $KERNEL kernel's packages from $MIRROR"
say "about 3 minutes; log: $log"

# This machine's way out to the network is the build root's, too.
apt-config dump | grep -E '^Acquire::(.*::)?(Proxy|Proxy-Auto-Detect|Check-Valid-Until|Check-Date|Retries) ' \
	>"$root.apt" || true

say "1/3 the base system"
quietly mmdebstrap --mode=root --variant=apt --components=main --include=ca-certificates \
	--aptopt="$root.apt" --aptopt='Acquire::Languages "none"' \
	--aptopt='APT::Install-Recommends "false"' --aptopt='APT::Sandbox::User "root"' \
	"$suite" "$root.part" "$MIRROR"
: >"$root.part/etc/apt/sources.list"
for name in $suites; do
	echo "deb $MIRROR $name main" >>"$root.part/etc/apt/sources.list"
done
echo "deb-src $MIRROR $qemu_suite main" >>"$root.part/etc/apt/sources.list"
for file in /etc/resolv.conf /etc/ssl/certs/ca-certificates.crt; do
	[ ! -r $file ] || cp -L $file "$root.part$file"
done
rm -f "$root.apt"

# In the new root, with /proc and /dev, which are gone when the command ends.
in_root() {
	quietly unshare --mount --propagation private sh -ec '
		root=$1
		shift
		mount -t proc proc "$root/proc"
		mount --rbind /dev "$root/dev"
		exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
			LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"
	' in_root "$root.part" "$@"
}

newest() {
	chroot "$root.part" apt-cache pkgnames "$1" | grep -E "^$2\$" | sort -V | tail -n 1
}

in_root apt-get update
exact=$(echo "$KERNEL" | sed 's/\./\\./g')
headers=$(newest "linux-headers-$series" "linux-headers-$exact(\\.[0-9]+)?\\+deb[0-9]+-amd64")
[ -n "$headers" ] || stop "the archive's $source has no kernel $KERNEL now;" \
	"choose another by KERNEL= (the archive drops old versions) or add a line to kernels.list"
release=${headers#linux-headers-}
say "2/3 compilers and QEMU; the kernel is $release"
# shellcheck disable=SC2086
in_root apt-get install -y $packages
# A QEMU as new as the kernel, where the archive has one.
[ "$source" = "$suite" ] || in_root apt-get install -y -t "$source" qemu-system-x86 python3-qemu-qmp

say "3/3 the kernel's packages"
image=linux-image-$release
if [ -n "$(newest "linux-binary-$series" "linux-binary-$(echo "$release" | sed 's/[.+]/\\&/g')")" ]; then
	# split packages: no boot loader's hooks
	image="linux-binary-$release linux-modules-$release"
fi
# shellcheck disable=SC2086
in_root apt-get install -y -t "$source" "$headers" "linux-source-$series" $image
version=$(chroot "$root.part" dpkg-query -W -f '${Version}' "linux-source-$series")
[ "$version" = "$(chroot "$root.part" dpkg-query -W -f '${Version}' "$headers")" ] ||
	stop "the archive has the source of $version only, not of $release: use KERNEL=$series"
in_root apt-get clean

mkdir -p "$root.part/src" "$root.part/cache" "$root.part/build"
# Last, the mark of a complete build root: what the kernel is.
cat >"$root.part/etc/vfio-pgsize-kernel" <<END
release=$release
series=$series
version=$version
END
rm -rf "$root"
mv "$root.part" "$root"
say "done in $(($(date +%s) - started)) s"
echo "$root"
