#!/usr/bin/env bash
# Configures and builds a preset of CMakePresets.json into build/PRESET.
#
#   scripts/build.sh [PRESET] [ARGUMENT]...    PRESET: release (default), debug, asan, tsan, clang, fuzz
#
# Arguments go to cmake: those that begin with -D when configuring, all others when building (--target NAME …).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=release
if (($# > 0)) && [[ $1 != -* ]]; then
  preset=$1
  shift
fi
configure=()
build=()
for argument in "$@"; do
  if [[ $argument == -D* ]]; then configure+=("$argument"); else build+=("$argument"); fi
done

# One compiler a core, but no more than memory holds: the largest sources take about 1 GB under the sanitizers.
readonly kJobMegabytes=1500
cores=$(nproc)
by_memory=$(awk -v job=$kJobMegabytes '/^MemAvailable:/ {print int($2 / 1024 / job)}' /proc/meminfo)
jobs=$((by_memory < cores ? by_memory : cores))
((jobs >= 1)) || jobs=1

# Where the distribution's own compiler is too old, the one that setup.sh has installed beside it.
gcc_version=$(g++ -dumpversion 2>/dev/null || echo 0)
if [[ $preset != @(clang|fuzz) && -z ${CXX:-} ]] && ((${gcc_version%%.*} < 12)) && command -v g++-12 >/dev/null; then
  export CXX=g++-12
fi

quiet=()
[[ -t 1 ]] || ! ninja --quiet --version >/dev/null 2>&1 || quiet=(-- --quiet)  # from Ninja 1.11 on
echo "build.sh: $preset, $jobs jobs"
cmake --preset "$preset" "${configure[@]}"
cmake --build "build/$preset" -j "$jobs" "${build[@]}" "${quiet[@]}"
