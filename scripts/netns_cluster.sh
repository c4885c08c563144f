#!/usr/bin/env bash
# Several hosts on one machine: network namespaces on a bridge, each with its own name, address and shaped link. For
# tests and measurements of what crosses a network. Needs root and iproute2; touches only what it made.
#
#   scripts/netns_cluster.sh up N [RATE]      hosts h1 … hN at 10.77.0.1 …; RATE as tc writes it: 250mbit, 4gbit
#   scripts/netns_cluster.sh mpirun CMD…      RANKS_PER_HOST ranks a host (default 1), TCP between hosts, shared memory
#                                             within; options of mpirun may come before CMD
#   scripts/netns_cluster.sh on I CMD…        CMD on host I
#   scripts/netns_cluster.sh check            exit 0 if this machine can do it, else 77 with the reason
#   scripts/netns_cluster.sh down
set -euo pipefail

readonly kPrefix=dcs3gd kNetwork=10.77.0 kBridge=dcs3gd-hub
self=$(readlink -f "${BASH_SOURCE[0]}")
readonly self

fail() {
  echo "netns_cluster.sh: error: $*" >&2
  exit 2
}

host_count() { ip netns list | grep -c "^$kPrefix-h[0-9]" || true; }

add_host() {
  local i=$1 rate=$2 netns="$kPrefix-h$1"
  ip netns add "$netns"
  # `ip netns exec` shows this file as /etc/hosts inside the namespace.
  mkdir -p "/etc/netns/$netns"
  cp "/etc/netns/$kBridge.hosts" "/etc/netns/$netns/hosts"
  ip link add e0 netns "$netns" type veth peer name "port$i" netns "$kBridge"
  ip -n "$kBridge" link set "port$i" master br0 up
  ip -n "$netns" addr add "$kNetwork.$i/24" dev e0
  ip -n "$netns" link set e0 up
  ip -n "$netns" link set lo up
  [[ -z $rate ]] || tc -n "$netns" qdisc add dev e0 root tbf rate "$rate" burst 256kb latency 20ms
}

up() {
  local n=${1:-} rate=${2:-}
  [[ $n =~ ^[1-9][0-9]?$ ]] || fail "up: expected a number of hosts, found '$n'"
  [[ $(host_count) == 0 ]] || fail "up: a cluster is up already; take it down first: $self down"
  trap down ERR
  mkdir -p /etc/netns
  { echo "127.0.0.1 localhost"; for i in $(seq "$n"); do echo "$kNetwork.$i h$i"; done; } > "/etc/netns/$kBridge.hosts"
  ip netns add "$kBridge"
  ip -n "$kBridge" link add br0 type bridge
  ip -n "$kBridge" link set br0 up
  for i in $(seq "$n"); do add_host "$i" "$rate"; done
  trap - ERR
  echo "netns_cluster.sh: $n hosts up, links ${rate:-not shaped}"
}

down() {
  local netns
  for netns in $(ip netns list | grep -o "^$kPrefix-[a-z0-9]*" || true); do
    ip netns del "$netns"
    rm -rf "/etc/netns/$netns"
  done
  rm -f "/etc/netns/$kBridge.hosts"
}

on() {
  local i=$1
  shift
  # shellcheck disable=SC2016  # expanded by the inner shell
  exec ip netns exec "$kPrefix-h$i" unshare --uts bash -c 'hostname "$0"; exec "$@"' "h$i" "$@"
}

# Open MPI starts its daemons by AGENT HOST COMMAND, as with ssh.
agent() {
  local host=$1
  shift
  on "${host#h}" bash -c "$*"
}

run_mpirun() {
  local n per_host=${RANKS_PER_HOST:-1}
  n=$(host_count)
  ((n > 0)) || fail "mpirun: no cluster is up; start one: $self up N"
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  on 1 mpirun -H "$(seq -s, -f "h%g:$per_host" "$n")" -n "$((n * per_host))" --bind-to none \
    --mca plm_rsh_agent "$self agent" --mca plm_rsh_no_tree_spawn 1 --mca pml ob1 --mca btl tcp,vader,self \
    --mca btl_tcp_if_include "$kNetwork.0/24" --mca oob_tcp_if_include "$kNetwork.0/24" \
    --mca oob_tcp_keepalive_time 20 --mca oob_tcp_keepalive_intvl 10 --mca oob_tcp_keepalive_probes 3 "$@"
}

check() {
  local reason=""
  if [[ $(id -u) != 0 ]]; then
    reason="not root"
  elif ! command -v ip > /dev/null || ! command -v tc > /dev/null; then
    reason="iproute2 is not installed"
  elif ! ip netns add "$kPrefix-check" 2> /dev/null; then
    reason="network namespaces cannot be made here"
  elif ! ip -n "$kPrefix-check" link add br0 type bridge 2> /dev/null; then
    reason="bridges cannot be made here"
  elif ! tc -n "$kPrefix-check" qdisc add dev br0 root tbf rate 1gbit burst 256kb latency 20ms 2> /dev/null; then
    reason="links cannot be shaped here (tbf)"
  fi
  ip netns del "$kPrefix-check" 2> /dev/null || true
  [[ -z $reason ]] && return
  echo "netns_cluster.sh: skipped: $reason"
  exit 77
}

case ${1:-} in
  up) shift; up "$@" ;;
  down) down ;;
  on) shift; on "$@" ;;
  agent) shift; agent "$@" ;;
  mpirun) shift; run_mpirun "$@" ;;
  check) check ;;
  *) sed -n '2,10s/^# \{0,1\}//p' "$self"; exit 2 ;;
esac
