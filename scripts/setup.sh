#!/usr/bin/env bash
# Everything `make demo` and `make test` need on a Debian 12 machine: system packages, a virtual environment, the build.
# Quick when it is already done. Usage: setup.sh VENV [EXTRA]
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv} extra=${2:-}
python=${PYTHON:-python3}
packages=(gcc make libc6-dev python3-dev python3-venv libsodium-dev libssl-dev iproute2 nftables iputils-ping iperf3 ethtool procps)
[[ $extra != dev ]] || packages+=(fish zsh) # whose completion is tested

[[ $extra != dev ]] || packages+=(postgresql)
# a router's port mapping service, for its tests only
[[ $extra != dev ]] || packages+=(miniupnpd-nftables)
# systemd-analyze, which checks the unit
[[ $extra != dev ]] || packages+=(systemd)
# containers, an emulator of arm64, a bare Debian to install the package in, promtool: for tests that are marked long
[[ $extra != dev || ${ZTPIPE_LONG:-} != 1 ]] || packages+=(buildah podman runc debootstrap qemu-user-static binfmt-support dpkg-dev binutils prometheus)

say() { printf 'setup: %s\n' "$*" >&2; }

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed$' || missing+=("$package")
done
if ((${#missing[@]})); then
    if ((EUID != 0)) && ! command -v sudo >/dev/null; then
        say "these packages are missing and installing them needs root: ${missing[*]}"
        say "run as root: apt-get install ${missing[*]}"
        exit 1
    fi
    say "installing ${missing[*]}"
    root=()
    ((EUID == 0)) || root=(sudo)
    export DEBIAN_FRONTEND=noninteractive
    # Tests start a PostgreSQL server of their own: the package need not make one that runs all the time.
    conf=/etc/postgresql-common/createcluster.conf
    [[ $extra != dev || -e $conf ]] || "${root[@]}" sh -c "mkdir -p ${conf%/*} && echo 'create_main_cluster = false' >$conf"
    "${root[@]}" apt-get update -q >/dev/null || say "apt-get update failed; trying with the lists at hand"
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null
fi

"$python" - <<'CHECK' || { say "Python 3.11 or newer is needed; $python is $("$python" -V 2>&1)"; exit 1; }
import sys
sys.exit(sys.version_info < (3, 11))
CHECK

[[ -x $venv/bin/python ]] || { say "creating $venv"; "$python" -m venv "$venv"; }
# The stamp holds what the last build was made from; nothing is done while that is unchanged.
stamp=$venv/.ztpipe-$extra
want=$(cat pyproject.toml setup.py ztpipe/kernel/*.[ch] ztpipe/kernel/build.py | sha256sum; pwd)
if [[ "$(cat "$stamp" 2>/dev/null)" != "$want" ]]; then
    say "building into $venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -e ".${extra:+[$extra]}"
    "$venv/bin/python" -m ztpipe.kernel.build >/dev/null
    printf '%s' "$want" >"$stamp"
fi
