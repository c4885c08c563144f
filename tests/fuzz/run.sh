#!/usr/bin/env bash
# Runs every fuzz target of build/fuzz for a time, one a core, from seeds made by code, and ends at the first that finds
# something. The inputs it makes up go away at the end; an input that breaks a target stays in build/fuzz/findings.
#
#   tests/fuzz/run.sh SECONDS [FOLDER]...    also from all files below the folders (absolute paths), for every target
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly kSeconds=${1:?run.sh: expected the seconds for each target}
shift

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TMPDIR=$folder  # of the targets too, which do not clean up when they break
build/fuzz/bin/make_seeds "$folder/seeds"
mkdir -p "$folder/more" build/fuzz/findings
for more in "$@"; do
  find "$more" -type f -exec cp -t "$folder/more" --backup=numbered {} +
done

# run_target NAME: 1280 MiB for each input, which is twice the readers' limits, for the sanitizers; the targets have their
# own limit of time, so this one is for what never ends.
run_target() {
  local name=$1 log=$folder/$1.log
  if ! "build/fuzz/bin/$name" -max_total_time="$kSeconds" -timeout=300 -rss_limit_mb=1280 -max_len=65536 \
    -print_final_stats=1 -artifact_prefix="build/fuzz/findings/$name-" \
    "$folder/seeds/$name" "$folder/more" >"$log" 2>&1; then
    tail -n 60 "$log"
    echo "run.sh: error: $name found something; again with: build/fuzz/bin/$name build/fuzz/findings/$name-…" >&2
    return 255 # ends xargs
  fi
  awk -v name="$name" '/^stat::number_of_executed_units/ {inputs = $2} /^stat::peak_rss_mb/ {memory = $2}
                       END {printf "%-20s %9d inputs, at most %d MB\n", name, inputs, memory}' "$log"
}
export -f run_target
export folder kSeconds
export ASAN_OPTIONS=quarantine_size_mb=16:allocator_may_return_null=0

find "$folder/seeds" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort |
  xargs -P "$(nproc)" -I{} bash -c 'set -euo pipefail; run_target {}'
