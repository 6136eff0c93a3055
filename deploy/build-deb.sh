#!/usr/bin/env bash
# Builds the Debian package of this checkout, for the Debian release and the architecture of the machine it runs on.
#
#   deploy/build-deb.sh [-o DIRECTORY] [-V VERSION]
#
#   -o DIRECTORY  where the package goes; default dist
#   -V VERSION    of the package; default that of the checkout
#
# The last line of output is the package's path. Needs no root; from Debian: python3-venv python3-dev gcc libc6-dev
# libsodium-dev libssl-dev dpkg-dev binutils. PIP_* variables say where pip gets wheels.
#
# The Python packages that the program needs are in a virtual environment of the package's own, /usr/lib/ztpipe, because
# Debian 12 lacks one of them and has four that are too old. The interpreter is Debian's, so it gets Debian's updates;
# libsodium and OpenSSL of the C kernel too.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
out=$here/dist version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/pyproject.toml")

say() { printf 'build-deb: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

while getopts o:V: option; do
    case $option in
    o) out=$OPTARG ;;
    V) version=$OPTARG ;;
    *) exit 2 ;;
    esac
done
for program in dpkg-deb dpkg-shlibdeps strip gcc gzip; do
    command -v "$program" >/dev/null || fail "$program is missing: apt-get install dpkg-dev binutils gcc gzip"
done
python=/usr/bin/python3
"$python" -c 'import ensurepip' 2>/dev/null || fail "python3-venv is missing: apt-get install python3-venv"

umask 022
arch=$(dpkg --print-architecture)
scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/build-deb.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root private=usr/lib/ztpipe
prefix=$root/$private
mkdir -p "$root/DEBIAN" "$root/usr/sbin" "$root/usr/bin" "$root/etc/default" "$root/usr/share/doc/ztpipe/examples"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct 2>/dev/null || date +%s)}

say "installing into $private"
# A copy, so that nothing that lies in the checkout gets in, and nothing of the build stays there.
mkdir "$scratch/source"
(cd "$here" && tar -c --exclude='*.so' --exclude='*.o' --exclude=__pycache__ \
    LICENSE MANIFEST.in README.md man pyproject.toml setup.py ztpipe) | tar -C "$scratch/source" -x
"$python" -m venv "$prefix"
"$prefix/bin/pip" install -q --disable-pip-version-check --no-compile "$scratch/source" >&2
"$prefix/bin/pip" uninstall -y -q setuptools pip >&2
rm -rf "$prefix"/bin/[Aa]ctivate* "$prefix"/bin/pip* "$prefix/include" "${prefix:?}/lib64"
find "$prefix" \( -name '*.a' -o -name direct_url.json \) -delete
find "$prefix" -name __pycache__ -prune -exec rm -rf {} +
keep=$("$python" - "$here/pyproject.toml" <<'NAMES'
import sys, tomllib
print("\n".join(tomllib.load(open(sys.argv[1], "rb"))["project"]["scripts"]))
NAMES
)
for file in "$prefix"/bin/*; do
    name=${file##*/}
    [[ $name = python* ]] || grep -qx -e "$name" <<<"$keep" || rm -f "$file"
done
# What a virtual environment says of its own place.
grep -rlI --null -F "$root" "$prefix" | xargs -0 -r sed -i "s|$root||g"
strip --strip-unneeded "$prefix"/lib/python3*/site-packages/ztpipe/kernel/*.so
# Byte code that is taken as it is: nothing is written there by a node that starts, and the times of files do not matter.
"$python" -m compileall -q -s "$root" -p / --invalidation-mode unchecked-hash "$prefix/lib"

while read -r name; do
    if [[ $name = ztpipe ]]; then directory=bin; else directory=sbin; fi
    ln -s "../lib/ztpipe/bin/$name" "$root/usr/$directory/$name"
done <<<"$keep"

say "manual pages, completion, unit, examples"
mkdir -p "$root/usr/share/man"
mv "$prefix"/share/man/* "$root/usr/share/man/"
rm -rf "$prefix/share"
find "$root/usr/share/man" -type f -exec gzip -9n {} +
share=$root/usr/share
mkdir -p "$share/bash-completion/completions" "$share/zsh/vendor-completions" "$share/fish/vendor_completions.d"
complete() { PYTHONPATH=$(echo "$prefix"/lib/python3*/site-packages) "$python" -B -m ztpipe completion "$1"; }
complete bash >"$share/bash-completion/completions/ztpipe"
complete zsh >"$share/zsh/vendor-completions/_ztpipe"
complete fish >"$share/fish/vendor_completions.d/ztpipe.fish"
while read -r name; do
    [[ $name = ztpipe ]] && continue
    ln -s ztpipe "$share/bash-completion/completions/$name"
    ln -s ztpipe.fish "$share/fish/vendor_completions.d/$name.fish"
done <<<"$keep"
install -D -m 0644 "$here/deploy/systemd/zerotier-one.service" "$root/lib/systemd/system/zerotier-one.service"
install -m 0644 "$here/deploy/debian/default" "$root/etc/default/zerotier-one"
install -m 0644 "$here/deploy/debian/copyright" "$share/doc/ztpipe/copyright"
install -m 0644 "$here/README.md" "$share/doc/ztpipe/README.md"
cp -r "$here/deploy/systemd/90-zerotier-one.conf" "$here/deploy/prometheus" "$here/deploy/grafana" "$share/doc/ztpipe/examples/"
printf 'ztpipe (%s) unstable; urgency=medium\n\n  * %s\n\n -- ztpipe maintainers <ztpipe@localhost>  %s\n' "$version" \
    "Built from the source of version $(sed -n 's/^version = "\(.*\)"/\1/p' "$here/pyproject.toml")." \
    "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$share/doc/ztpipe/changelog.gz"

say "control files"
mkdir "$scratch/debian"
printf 'Source: ztpipe\n\nPackage: ztpipe\nArchitecture: any\n' >"$scratch/debian/control"
# What wheels link to is in the wheels, but for the C library, whose version they name no higher than Debian's.
libraries=$(cd "$scratch" && dpkg-shlibdeps -O --warnings=0 "$prefix"/lib/python3*/site-packages/ztpipe/kernel/*.so)
minor=$("$python" -c 'import sys; print(sys.version_info.minor)')
compatible=$(sed -n 's/^REFERENCE_VERSION.* = "\(.*\)"/\1/p' "$here/ztpipe/cli/version.py")
sed -e "s|@VERSION@|$version|; s|@ARCH@|$arch|; s|@COMPATIBLE@|$compatible|; s|@LIBRARIES@|${libraries#shlibs:Depends=}|" \
    -e "s|@PYTHON@|python3 (>= 3.$minor~), python3 (<< 3.$((minor + 1))~)|; s|@SIZE@|$(du -sk --exclude=DEBIAN "$root" | cut -f1)|" \
    "$here/deploy/debian/control.in" >"$root/DEBIAN/control"
install -m 0755 -t "$root/DEBIAN" "$here"/deploy/debian/{postinst,prerm,postrm}
echo /etc/default/zerotier-one >"$root/DEBIAN/conffiles"
(cd "$root" && find . -path ./DEBIAN -prune -o -type f ! -path './etc/*' -printf '%P\0' | sort -z | xargs -0 md5sum) \
    >"$root/DEBIAN/md5sums"

mkdir -p "$out"
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
package=$(realpath "$out")/ztpipe_${version}_$arch.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
say "built, $(du -h "$package" | cut -f1)"
echo "$package"
