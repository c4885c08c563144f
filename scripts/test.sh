#!/usr/bin/env bash
# Installs what the tests need, builds, and runs every test. Ends at the first stage that fails, naming it; of those
# that run beside the tests (debug, clang, tidy, builds) it waits for the tests.
#
#   scripts/test.sh            all stages
#   scripts/test.sh --quick    the first stages only, without the slow tests
#   scripts/test.sh --fast     what they need and the fast tests alone, and the Debian package in build/package
#
# What was skipped stands at the end. With CI set in the environment a skip is a failure, unless its reason is in
# tests/allowed_skips.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly kExtent=${1:-}
case "$kExtent" in
  "" | --quick | --fast) ;;
  *)
    echo "test.sh: error: unknown argument '$1'; use no argument, --quick or --fast" >&2
    exit 2
    ;;
esac

# Ranks and threads of a test share the cores: a thread that waits must not spin.
export OMP_WAIT_POLICY=passive
export CTEST_OUTPUT_ON_FAILURE=1
readonly kCodeFolders=(app comm core data nn)
readonly kUnitTestFolders=(core nn comm data app)
readonly kWerror=-DDCS3GD_WARNINGS_AS_ERRORS=ON
readonly kDebian13=build/debian13
readonly kResults=$PWD/build/test_results
readonly kSummary=$kResults/stages.txt

# run_tests NAME ARGUMENT...: ctest, and what its tests said, for the list of skips.
run_tests() {
  local name=$1
  shift
  ctest --no-tests=error --test-output-size-passed 1000000 --output-junit "$kResults/$name.xml" "$@"
}

# --- stages -----------------------------------------------------------------------------------------------------------

stage_setup() { scripts/setup.sh --test; }

stage_setup_fast() { scripts/setup.sh --fast; }

stage_style() {
  find "${kCodeFolders[@]}" tests \( -name '*.h' -o -name '*.cpp' \) -print0 |
    xargs -0 clang-format-14 --dry-run --Werror
  shellcheck scripts/*.sh scripts/*.sbatch scripts/packaging/dcs3gd-train.bash tests/fuzz/run.sh .ci/run
  /usr/bin/python3 -B tests/architecture/check_dependencies.py
}

stage_release() { scripts/build.sh release "$kWerror"; }

stage_fast_tests() { run_tests fast_tests --test-dir build/release -LE slow; }

stage_slow_tests() { run_tests slow_tests --test-dir build/release -L slow; }

build_asan() {
  local folders=("${kUnitTestFolders[@]/#/tests/}")
  scripts/build.sh asan "$kWerror" --target "${folders[@]/%//all}"
}

stage_asan() {
  build_asan
  for folder in "${kUnitTestFolders[@]}"; do
    run_tests "asan_$folder" --test-dir "build/asan/tests/$folder" -LE 'slow|mpi'
  done
}

# The folders with threads of their own, and the whole trainer with ranks as threads. libgomp is not built for
# ThreadSanitizer, so these tests run without OpenMP threads; address randomisation is off because GCC 12's runtime cannot
# live with that of newer kernels.
build_tsan() {
  scripts/build.sh tsan "$kWerror" --target log_test trace_test app_algorithm_test app_checkpoint_test \
    tests/comm/all tests/data/all
}

stage_tsan() {
  build_tsan
  local fixed_addresses=()
  setarch -R true 2>/dev/null && fixed_addresses=(setarch -R)
  "${fixed_addresses[@]}" ctest --test-dir build/tsan/tests/core --no-tests=error -R '^(log|trace)_test$'
  for folder in comm data; do
    "${fixed_addresses[@]}" ctest --test-dir "build/tsan/tests/$folder" --no-tests=error -LE 'slow' -E '^real_'
  done
  "${fixed_addresses[@]}" ctest --test-dir build/tsan/tests/app --no-tests=error -R '^app_(algorithm|checkpoint)_test$'
}

# The folders with intrinsics: some want constants, which an argument becomes by optimisation alone.
stage_debug() { scripts/build.sh debug "$kWerror" --target core nn; }

stage_clang() { scripts/build.sh clang "$kWerror"; }

stage_package() {
  rm -rf build/package
  cpack -G DEB --config build/release/CPackConfig.cmake -B build/package
}

# The fast tests with the compiler, MPI and oneDNN of Debian 13; its package in a second folder that has nothing but what
# the package asks for.
stage_debian13() {
  local folder=$kDebian13 bare=${kDebian13}_bare log=$kResults/debian13.log status=0
  scripts/debian13.sh "$folder" scripts/test.sh --fast | tee "$log" || status=$?
  if ((status == 77)); then
    printf '<testsuite><testcase name="debian13" status="notrun"><system-out>%s</system-out></testcase></testsuite>\n' \
      "$(grep '^skipped: ' "$log" | tr -d '<>&')" >"$kResults/debian13.xml"
    return
  fi
  ((status == 0)) || return "$status"
  scripts/debian13.sh "$bare" apt-get -q -y update
  cp "$folder"/dcs3gd-train/build/package/*.deb "$bare/dcs3gd-train/package.deb"
  # shellcheck disable=SC2016  # the inner shell's variables
  scripts/debian13.sh "$bare" bash -c 'set -e
    export DEBIAN_FRONTEND=noninteractive
    dpkg --configure -a  # what an earlier run has left is no part of this one
    dpkg --purge dcs3gd-train
    apt-get -q -y autoremove --purge
    apt-get -q -y install --no-install-recommends ./package.deb
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    cd "$(mktemp -d)"
    dcs3gd-train --config tiny.yaml --set run.max_steps=64
    mpirun -n 2 --oversubscribe --bind-to none dcs3gd-train --config tiny.yaml --resume never --set run.max_steps=64'
}

build_fuzz() { scripts/build.sh fuzz "$kWerror" --target fuzz; }

# Seconds for each target: enough to see that they work and meet yesterday's mistakes. Longer: tests/README.md.
stage_fuzz() {
  build_fuzz
  tests/fuzz/run.sh 10
}

# What the stages after the tests run.
stage_builds() {
  build_asan
  build_fuzz
  build_tsan
  scripts/debian13.sh "$kDebian13" bash -c "scripts/setup.sh --fast && scripts/build.sh release $kWerror" || (($? == 77))
}

# Findings alone: a line for each file and its count of suppressed warnings would bury them.
stage_tidy() {
  run-clang-tidy-14 -quiet -p build/clang -j "$(nproc)" "^$PWD/($(IFS='|' && echo "${kCodeFolders[*]}"))/" 2>&1 |
    sed -u -e '/^clang-tidy-14 /d' -e '/ warnings generated\.$/d'
}

# --- run --------------------------------------------------------------------------------------------------------------

# run_stages NAME...: the function stage_NAME of each in a subshell of its own, where every failing command ends it.
run_stages() {
  local name start status
  for name in "$@"; do
    start=$SECONDS
    echo "=== $name"
    set +e
    (set -e; "stage_$name")
    status=$?
    set -e
    printf '%-12s %5d s%s\n' "$name" $((SECONDS - start)) "$( ((status == 0)) || echo '  FAILED')" >>"$kSummary"
    if ((status != 0)); then
      printf '\n%s\n' "$(<"$kSummary")"
      echo "test.sh: error: stage '$name' failed with exit code $status; its output stands above" >&2
      exit 1
    fi
  done
}

rm -rf "$kResults"
mkdir -p "$kResults"
if [[ $kExtent == --fast ]]; then
  run_stages setup_fast release fast_tests package
elif [[ $kExtent == --quick ]]; then
  run_stages setup style release fast_tests
else
  run_stages setup style release
  # What only compiles takes what the tests, which wait much of their time, leave of the cores. In a process group of its own,
  # to be ended with all it has started.
  set -m
  (renice -n 19 -p $BASHPID >/dev/null && run_stages debug clang tidy builds) >"$kResults/beside.log" 2>&1 &
  beside=$!
  set +m
  trap 'kill -- "-$beside" 2>/dev/null || true; ! grep -Eq "^(debug|clang|tidy|builds) .*FAILED" "$kSummary" || cat "$kResults/beside.log"' EXIT
  run_stages fast_tests slow_tests
  status=0
  wait "$beside" || status=$?
  ((status == 0)) || exit "$status"
  cat "$kResults/beside.log"
  run_stages asan fuzz tsan debian13
fi

printf '\n%s\n\n' "$(<"$kSummary")"
allowed=(tests/allowed_skips.txt)
[[ $kExtent != --fast ]] || allowed+=(tests/allowed_skips_fast.txt)
cat "${allowed[@]}" >"$kResults/allowed_skips.txt"
/usr/bin/python3 -B tests/support/list_skips.py "$kResults/allowed_skips.txt" "$kResults"/*.xml
printf 'test.sh: all %d stages passed in %d s\n' "$(wc -l <"$kSummary")" "$SECONDS"
