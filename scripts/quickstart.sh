#!/usr/bin/env bash
# From a fresh clone to a trained network in minutes: installs packages, builds, trains on the generated data set and
# shows the accuracy beside that of guessing. Can be run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly kConfig=configs/tiny.yaml
readonly kRun=quickstart
readonly kTrain=build/release/bin/dcs3gd-train
readonly kSettings=(--config "$kConfig" --set "run.name=$kRun" --set run.output_dir=runs)

scripts/setup.sh
scripts/build.sh release

echo "quickstart.sh: training: $kTrain ${kSettings[*]} --resume never"
"$kTrain" "${kSettings[@]}" --resume never

accuracy=$(sed -n 's/.*"final_top1": *\([0-9.eE+-]*\).*/\1/p' "runs/$kRun/summary.json")
classes=$("$kTrain" "${kSettings[@]}" --print-config | sed -n 's/.*classes: *\([0-9]*\).*/\1/p')
echo
echo "quickstart.sh: results are in runs/$kRun"
awk -v accuracy="$accuracy" -v classes="$classes" 'BEGIN {
  chance = 1 / classes
  printf "quickstart.sh: accuracy %.1f %%; guessing among %d classes gives %.1f %%\n", 100 * accuracy, classes, 100 * chance
  exit accuracy > 2 * chance ? 0 : 1
}' || { echo "quickstart.sh: error: that is not clearly above chance" >&2; exit 1; }
