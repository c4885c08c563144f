#!/usr/bin/env bash
# From a fresh clone to a trained network in minutes: installs packages, builds, trains two workers on the generated
# data set and shows the accuracy beside that of guessing. Can be run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly kConfig=configs/tiny.yaml
readonly kRun=quickstart
readonly kTrain=build/release/bin/dcs3gd-train
readonly kSettings=(--config "$kConfig" --set "run.name=$kRun" --set run.output_dir=runs)

scripts/setup.sh
scripts/build.sh release

# Open MPI runs as root only when told twice, and counts two ranks as too many on one core.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
readonly kLaunch=(mpirun -n 2 --oversubscribe --bind-to none)
echo "quickstart.sh: training: ${kLaunch[*]} $kTrain ${kSettings[*]} --resume never"
"${kLaunch[@]}" "$kTrain" "${kSettings[@]}" --resume never

accuracy=$(sed -n 's/.*"final_top1": *\([0-9.eE+-]*\).*/\1/p' "runs/$kRun/summary.json")
classes=$("$kTrain" "${kSettings[@]}" --print-config | sed -n 's/.*classes: *\([0-9]*\).*/\1/p')
echo
echo "quickstart.sh: results are in runs/$kRun"
awk -v accuracy="$accuracy" -v classes="$classes" 'BEGIN {
  chance = 1 / classes
  printf "quickstart.sh: accuracy %.1f %%; guessing among %d classes gives %.1f %%\n", 100 * accuracy, classes, 100 * chance
  exit accuracy > 2 * chance ? 0 : 1
}' || { echo "quickstart.sh: error: that is not clearly above chance" >&2; exit 1; }
