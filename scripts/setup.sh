#!/usr/bin/env bash
# Installs the packages that dcs3gd-train needs, on Debian 12 and 13 and on Ubuntu 22.04 and 24.04. Run again, it finds nothing to
# do and does not call apt.
#
#   scripts/setup.sh           what building and training need
#   scripts/setup.sh --fast    also what the fast tests need
#   scripts/setup.sh --test    also what scripts/test.sh needs (compilers to compare with, PyTorch as the oracle: 2 GB)
set -euo pipefail

# One line for each reason. Versions are those of Debian 12, and of Debian 13 where it matters.
readonly kBuildPackages=(
  cmake ninja-build ccache g++           # the tools; GCC 12, 14
  libdnnl-dev                            # nn: oneDNN 2.6, 3.7
  libopenmpi-dev openmpi-bin             # comm: Open MPI 4.1, 5.0 and mpirun
  zlib1g-dev                             # data: .gz files
  libjpeg-dev libstb-dev                 # data: JPEG and PNG
  libcli11-dev libyaml-cpp-dev nlohmann-json3-dev  # app: command line, configuration, metrics
  libspdlog-dev libfmt-dev libxxhash-dev # core: log, text, hashes
  doctest-dev                            # tests
  python3-matplotlib python3-yaml        # scripts: report.py, sweep.py
)
readonly kFastTestPackages=(
  python3 python3-numpy python3-pil         # tests written in Python
  iproute2                                  # several hosts on one machine
  dpkg-dev file lintian                     # the Debian package
)
readonly kTestPackages=(
  clang clang-format clang-tidy libomp-dev  # the second compiler (clang 14) and the checks
  libclang-rt-dev                           # clang's sanitizers and libFuzzer
  shellcheck                                # checks of the scripts
  python3-torch python3-torchvision         # the oracle: PyTorch 1.13
  debootstrap                               # another release of Debian in a folder
  slurmctld slurmd slurm-client munge       # a Slurm of the test's own
  python3-onnx python3-opencv               # readers of the ONNX files that are written
)

fail() {
  echo "setup.sh: error: $*" >&2
  exit 1
}

packages=("${kBuildPackages[@]}")
case "${1:-}" in
  "") ;;
  --fast) packages+=("${kFastTestPackages[@]}") ;;
  --test) packages+=("${kFastTestPackages[@]}" "${kTestPackages[@]}") ;;
  *) fail "unknown argument '$1'; use no argument, --fast or --test" ;;
esac

# Its own GCC is 11.
if grep -qs '^VERSION_CODENAME=jammy$' /etc/os-release; then packages+=(g++-12); fi

missing_packages() {
  local installed
  # Fails for packages it never heard of; those are missing.
  installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null || true)
  installed=$(sed -n 's/ installed$//p' <<<"$installed")
  comm -23 <(printf '%s\n' "${packages[@]}" | sort -u) <(sort -u <<<"$installed")
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

apt_get() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"
}

distribution=$(sed -n 's/^ID=//p' /etc/os-release 2>/dev/null || true)
if [[ $distribution != debian && $distribution != ubuntu ]]; then
  fail "this is '${distribution:-unknown}', neither Debian nor Ubuntu; install the counterparts of: ${packages[*]}"
fi

mapfile -t missing < <(missing_packages)
if ((${#missing[@]} == 0)); then
  echo "setup.sh: all ${#packages[@]} packages are installed"
  exit 0
fi
if ((EUID != 0)) && ! command -v sudo >/dev/null; then
  fail "neither root nor sudo; let an administrator run: apt-get install ${missing[*]}"
fi

echo "setup.sh: installing ${missing[*]}"
install_missing() { apt_get install --no-install-recommends "${missing[@]}"; }
if ! apt-get install --simulate "${missing[@]}" >/dev/null 2>&1; then
  echo "setup.sh: the package lists are missing or incomplete: apt-get update"
  apt_get update
fi
if ! install_missing; then
  echo "setup.sh: the package lists may be out of date: apt-get update, then once more"
  apt_get update
  install_missing || fail "apt-get could not install the packages; its messages stand above"
fi
echo "setup.sh: done"
