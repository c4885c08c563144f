#!/usr/bin/env bash
# Runs a command on a bare Debian 13 in a folder, where this checkout stands as /dcs3gd-train. Needs root; keeps the folder.
#
#   scripts/debian13.sh FOLDER COMMAND [ARGUMENT]...
#   scripts/debian13.sh /var/tmp/debian13 bash -c 'scripts/setup.sh && scripts/build.sh'
#
# Packages come from the mirror that this machine uses. What is mounted inside goes away with the command. Exit code 77,
# with the reason, where such a folder cannot be made; else the command's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

(($# >= 2)) || {
  echo "debian13.sh: error: expected FOLDER COMMAND [ARGUMENT]..." >&2
  exit 2
}
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
readonly kSource=/dcs3gd-train kCache=/ccache kReady=$folder/var/lib/dcs3gd-ready

skip() {
  echo "skipped: $*"
  exit 77
}

((EUID == 0)) || skip "a folder with another release needs root"
unshare --mount true 2>/dev/null || skip "no mount namespaces here"
command -v debootstrap >/dev/null || skip "debootstrap is not installed"

if [[ ! -e $kReady ]]; then
  # shellcheck disable=SC2016  # apt-get's variable
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v -- '-security' | sort | uniq -c |
    sort -rn | awk 'NR == 1 {print $2}')
  echo "debian13.sh: making $folder from ${mirror:-debootstrap\'s own mirror}"
  # Elsewhere until it is whole: what an interruption leaves is made anew.
  rm -rf "$folder.new"
  debootstrap --variant=minbase trixie "$folder.new" ${mirror:+"$mirror"} >"$folder.log" 2>&1 ||
    skip "debootstrap cannot make it: $(tail -n 1 "$folder.log")"
  # How this machine reaches the mirror holds inside, too.
  apt-config dump | grep -E '^Acquire::(http|https|Retries)' >"$folder.new/etc/apt/apt.conf.d/50outside" || true
  echo force-unsafe-io >"$folder.new/etc/dpkg/dpkg.cfg.d/throw-away"  # no waiting for the disk
  touch "$folder.new/${kReady#"$folder"}"
  rmdir "$folder"  # what holds something else stays
  mv "$folder.new" "$folder"
fi
cp /etc/resolv.conf /etc/hosts "$folder/etc/"
mkdir -p "$folder$kSource" "$folder$kCache"
# Only what differs, as of now: a file that is older than what was built of another version of it would not be built again.
while IFS= read -r -d '' file; do
  [[ ! -f $file ]] || cmp -s "$file" "$folder$kSource/$file" ||
    install -D -m "$(stat -c %a "$file")" "$file" "$folder$kSource/$file"
done < <(git ls-files -z --cached --others --exclude-standard)

cache=$(ccache --get-config cache_dir 2>/dev/null || true)
export folder cache kSource kCache
# shellcheck disable=SC2016  # the inner shell's variables
exec unshare --mount --propagation private bash -c '
  mount --bind "$folder" "$folder"  # a root that is a mount has namespaces of its own
  for name in proc dev sys; do mount --rbind "/$name" "$folder/$name"; done
  [[ -z $cache || ! -d $cache ]] || mount --bind "$cache" "$folder$kCache"
  exec chroot "$folder" env -u DCS3GD_DATA -u TMPDIR -C "$kSource" CCACHE_DIR="$kCache" LC_ALL=C.UTF-8 "$@"' debian13.sh "$@"
