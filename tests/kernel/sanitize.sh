#!/bin/sh
# Compile the kernel and every C test under a sanitizer, and run the tests.
#   tests/kernel/sanitize.sh address,undefined [test...]     tests/kernel/sanitize.sh thread [test...]
# A test is the name of a file c/<name>_test.c; without names: all of them. CC and CFLAGS are respected.
set -eu

sanitizers=${1:-address,undefined}
[ $# -eq 0 ] || shift
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
kernel=$root/ztpipe/kernel
build=$root/build/sanitize-$(echo "$sanitizers" | tr , -)
cc=${CC:-gcc}
flags="-std=c11 -D_GNU_SOURCE -g -O1 -fno-omit-frame-pointer -fno-strict-aliasing -pthread -Wall -Wextra -Werror
       -Wno-unknown-warning-option -fsanitize=$sanitizers -fno-sanitize-recover=all -I$kernel -I$here/c ${CFLAGS:-}"
# gcc says that it does not follow fences: the thread sanitizer may then report what is none, never miss a race between plain accesses
case $sanitizers in *thread*) $cc --version | grep -q clang || flags="$flags -Wno-tsan" ;; esac
mkdir -p "$build"

# one object per source, compiled again when a source or any header is newer
newest_header=$(ls -t "$kernel"/*.h "$here"/c/*.h | head -1)
objects=
for source in "$kernel"/*.c; do
    [ "$(basename "$source")" = _kernel.c ] && continue
    object=$build/$(basename "$source" .c).o
    if [ ! -e "$object" ] || [ "$source" -nt "$object" ] || [ "$newest_header" -nt "$object" ]; then
        # shellcheck disable=SC2086
        $cc $flags -c "$source" -o "$object"
    fi
    objects="$objects $object"
done

[ $# -gt 0 ] || set -- $(cd "$here/c" && ls ./*_test.c | sed 's|^\./||; s|_test\.c$||')
for name in "$@"; do
    # shellcheck disable=SC2086
    $cc $flags "$here/c/${name}_test.c" $objects -lsodium -lcrypto -o "$build/${name}_test"
    echo "== $name ($sanitizers)"
    ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0} UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1} \
        "$build/${name}_test"
done
