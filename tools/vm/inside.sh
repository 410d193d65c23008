#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs a command in the build root, which is made if it is not there. The
# checkout is /src in it, the cache is /cache. All mounts and all processes
# are gone when the command ends.

set -eu

usage() {
	cat <<-END
	Usage: [KERNEL=7.3] inside.sh [--chdir DIR] COMMAND [ARGUMENT...]

	  --chdir DIR  where the command starts: a path in the checkout (default: its top)

	See buildroot.sh --help for KERNEL and the cache.
	END
}

dir=
case ${1:-} in
--help) usage; exit 0 ;;
--chdir) dir=${2:?--chdir wants a directory}; shift 2 ;;
esac
[ $# -gt 0 ] || { usage >&2; exit 2; }

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:?set HOME or XDG_CACHE_HOME}/.cache}/vfio-pgsize
[ "$(id -u)" = 0 ] || { echo "inside.sh: run as root: it uses chroot and mounts" >&2; exit 1; }

unshare --mount --pid --fork true 2>/dev/null || {
	echo "inside.sh: no mount or PID namespace is to be had here: a container wants --privileged" >&2
	exit 1
}

root=$("$here/buildroot.sh" | tail -n 1)
[ -d "$root" ] || exit 1

# What this machine trusts and how it reaches the network may have changed.
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
	[ ! -r "$file" ] || cmp -s "$file" "$root$file" || cp -L "$file" "$root$file"
done

# Of the environment, only what is meant to go in.
set -- "$dir" "$@"
for name in KERNEL CI V http_proxy https_proxy no_proxy TERM COLUMNS; do
	eval "value=\${$name-}"
	[ -z "$value" ] || kept="${kept-}
$name=$value"
done
export PGSIZE_ENVIRONMENT="${kept-}"

exec unshare --mount --pid --fork --kill-child --propagation private sh -euc '
	root=$1 top=$2 cache=$3 dir=$4
	shift 4
	mount --bind "$root" "$root"
	mount --bind "$top" "$root/src"
	mount --bind "$cache" "$root/cache"
	mount -t proc proc "$root/proc"
	mount -t sysfs -o ro sysfs "$root/sys" 2>/dev/null || true
	mount --rbind /dev "$root/dev"
	mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
	set -- sh -c "cd \"/src/\$0\" && exec \"\$@\"" "$dir" "$@"
	IFS="
"
	exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
		CARGO_HOME=/cache/cargo CARGO_TERM_QUIET=true PYTHONDONTWRITEBYTECODE=1 \
		PYTHONUNBUFFERED=1 $PGSIZE_ENVIRONMENT "$@"
' inside.sh "$root" "$top" "$cache" "$@"
