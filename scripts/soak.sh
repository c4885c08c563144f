#!/usr/bin/env bash
# The tests of faults at length, for a night: every crash point, ten thousand runs in a world of faults, a hundred deaths
# of a rank, a host that dies in each of twenty epochs, half an hour of each reader's fuzzing. After scripts/build.sh;
# ends at the first that fails.
#
#   scripts/soak.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly kTrainer=build/release/bin/dcs3gd-train
export OMP_WAIT_POLICY=passive

run() {
  local start=$SECONDS
  echo "=== $*"
  "$@"
  echo "soak.sh: passed in $((SECONDS - start)) s"
}

run /usr/bin/python3 -B tests/faults/crash_points_test.py $kTrainer mpirun build/release/tests/faults/libstorage_faults.so all
run build/release/bin/adverse_world 1 10000
for ranks in 2 3 4; do run /usr/bin/python3 -B tests/faults/kill_a_rank_test.py $kTrainer mpirun KILL --ranks $ranks --hits 34; done
run /usr/bin/python3 -B tests/faults/kill_a_rank_test.py $kTrainer mpirun TERM --ranks 4 --hits 34
run /usr/bin/python3 -B tests/mpi/host_loss_test.py scripts/netns_cluster.sh $kTrainer 20
scripts/build.sh fuzz --target fuzz
run tests/fuzz/run.sh 1800
