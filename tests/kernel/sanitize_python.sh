#!/bin/sh
# The Python tests of the kernel, with the kernel compiled under AddressSanitizer and UndefinedBehaviorSanitizer.
#   tests/kernel/sanitize_python.sh [pytest arguments]     without: all tests of the kernel
# Works in a copy of the tree, so the compiled kernel of the checkout stays as it is.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
tree=$root/build/sanitize-python
python=${PYTHON:-python3}
cc=${CC:-gcc}
flags="-std=c11 -D_GNU_SOURCE -DPy_LIMITED_API=0x030b0000 -g -O1 -fPIC -fno-omit-frame-pointer -fno-strict-aliasing
       -fsanitize=address,undefined -fno-sanitize=nonnull-attribute -fno-sanitize-recover=all -w"
mkdir -p "$tree"
for name in ztpipe tests pyproject.toml; do
    rm -rf "${tree:?}/$name"
    cp -r "$root/$name" "$tree/$name"
done
cd "$tree"
rm -f ztpipe/kernel/*.so
"$python" - <<'PYTHON'
from ztpipe.kernel import build
from cffi import FFI

ffi = FFI()
ffi.cdef(build.declarations())
ffi.set_source(build.MODULE, build.preamble(), py_limited_api=True)
ffi.emit_c_code("_kernel.c")
PYTHON
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
# shellcheck disable=SC2086
$cc $flags -shared -I"$include" -Iztpipe/kernel _kernel.c ztpipe/kernel/*.c -lsodium -lcrypto -o ztpipe/kernel/_kernel.abi3.so

[ $# -gt 0 ] || set -- tests/kernel tests/shm/test_pace.py tests/shm/test_regions.py tests/shm/test_tables.py
LD_PRELOAD="$($cc -print-file-name=libasan.so) $($cc -print-file-name=libubsan.so)" PYTHONMALLOC=malloc \
    PYTHONPATH="$tree" PYCRYPTODOME_DISABLE_DEEPBIND=1 ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
    "$python" -m pytest -q -p no:cacheprovider -p no:faulthandler "$@"
