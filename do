#!/bin/sh
# The one face of this repository; `./do help` lists what it does. Needs nothing but a POSIX shell.
set -eu
unset CDPATH
cd -- "$(dirname -- "$0")"
jobs=$(nproc)
# So that a compiler cache, where there is one, knows a file again in another checkout.
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1

usage() {
  cat <<'END'
./do demo            stock ib_write_bw between two software RDMA hosts on this machine
./do test            set up, build, run all tests but the soak tests
./do build [PRESET]  build into build/PRESET: release (default), debug, asan, tsan, clang,
                     fuzz, coverage
./do bench [ARGS]    measure against TCP on the same paths; results also go to build/bench/
./do interop [smoke] a FlexiNS engine against Linux Soft-RoCE in a virtual machine
./do coverage        lines and branches that the unit tests and the simulator reach; 90 % of the
                     lines of the protocol's rooms, or it fails
./do soak            the long doses of the end-to-end tests and of the simulator
./do setup [GROUP…]  install the Debian packages that are missing: build run test bench check,
                     and where they are named programs, interop
./do format [--check]  clang-format all sources, or only say what is not formatted
./do tidy            clang-tidy all sources
./do clean           remove build/
END
}

# The names that cmake/packages.txt lists for the given groups.
packages() {
  for group in "$@"; do sed -n "s/^$group: *//p" cmake/packages.txt; done | tr ' ' '\n' | sort -u
}

# Installs what the given groups miss. Needs no network, and no root, when nothing is missing.
setup() {
  if ! command -v dpkg-query >/dev/null; then
    echo "./do: not a Debian system, so nothing is installed; see cmake/packages.txt" >&2
    return
  fi
  wanted=$(packages "$@")
  # shellcheck disable=SC2086  # a list of words
  here=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $wanted 2>/dev/null |
         sed -n 's/^installed //p') || :
  missing=$(for name in $wanted; do
    echo "$here" | grep -qxF -- "$name" || printf ' %s' "$name"
  done)
  if [ -z "$missing" ]; then
    echo "./do: no package is missing ($*)"
    return
  fi
  if [ "$(id -u)" != 0 ]; then
    echo "./do: packages are missing. Install them with" >&2
    echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends$missing" >&2
    exit 1
  fi
  echo "./do: installing$missing"
  apt-get update -q
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -qy \
    --no-install-recommends $missing
}

# build PRESET [TARGET [CMAKE-OPTION]]
build() {
  cmake --preset "$1" "${3:--DFLEXINS_TESTS=ON}"
  cmake --build "build/$1" --parallel "$jobs" --target "${2:-all}"
}

run_ctest() {
  ctest --test-dir build/release --output-on-failure "$@"
}

sources() {
  find src tests examples bench include programs \
    \( -name '*.h' -o -name '*.cc' -o -name '*.c' \) 2>/dev/null | sort
}

verb=${1:-help}
[ $# = 0 ] || shift
case $verb in
  setup)
    [ $# -gt 0 ] || set -- build run test bench check
    setup "$@" ;;
  build)
    preset=${1:-release}
    case $preset in
      clang | fuzz) setup build test check ;;
      *) setup build test ;;
    esac
    target=all
    [ "$preset" != fuzz ] || target=fuzzers
    build "$preset" "$target" ;;
  test)
    setup build run test
    # Programs of others that must work. Without rights to install them their tests are skipped.
    [ "$(id -u)" != 0 ] || setup programs || :
    build release
    if [ $# -gt 0 ]; then
      run_ctest --parallel "$jobs" --label-exclude soak "$@"
    else
      run_ctest --parallel "$jobs" --label-regex unit
      # Real programs on real time: a machine that stalls for seconds gets a second chance.
      run_ctest --label-regex e2e --repeat until-pass:2
    fi ;;
  interop)
    setup build run test
    # Without QEMU, or rights to install it, this is skipped, and says so.
    [ "$(id -u)" != 0 ] || setup interop || :
    build release interop_programs
    status=0
    python3 tests/interop/run.py --build build/release --image build/interop "$@" || status=$?
    [ $status = 77 ] || exit $status ;;
  coverage)
    setup build run test coverage
    build coverage
    find build/coverage -name '*.gcda' -delete
    ctest --test-dir build/coverage --output-on-failure --parallel "$jobs" --label-regex unit
    gcovr --root . --object-directory build/coverage -j "$jobs" \
      --filter 'src/(wire|transport|cm|pipe|engine)/' \
      --exclude-throw-branches --exclude-unreachable-branches \
      --html-details build/coverage/index.html --txt build/coverage/files.txt \
      --print-summary --fail-under-line 90
    echo "./do: by file in build/coverage/files.txt, by line in build/coverage/index.html" ;;
  soak)
    setup build run test
    [ "$(id -u)" != 0 ] || setup programs || :
    build release
    run_ctest --label-regex soak "$@" ;;
  demo)
    setup build run
    # What only tests need is not installed for this, and not built.
    build release all -DFLEXINS_TESTS=OFF
    exec examples/demo.sh build/release ;;
  bench)
    setup build run bench
    build release
    exec python3 bench/run.py --build build/release "$@" ;;
  format)
    setup check
    case ${1:-} in
      --check) sources | xargs clang-format --dry-run -Werror ;;
      *) sources | xargs clang-format -i ;;
    esac ;;
  tidy)
    setup build test check
    cmake --preset clang -DFLEXINS_TESTS=ON
    run-clang-tidy -quiet -p build/clang -j "$jobs" "$@" ;;
  clean) rm -rf build ;;
  help | -h | --help) usage ;;
  *)
    echo "./do: unknown verb '$verb'" >&2
    usage >&2
    exit 2 ;;
esac
