#!/bin/sh
# What `./do demo` shows: two FlexiNS hosts on this machine, Debian's own ib_write_bw between them,
# then a check of every byte by examples/integrity.
#
#   examples/demo.sh BUILD-FOLDER
set -eu
build=$(cd -- "$1" && pwd)
PATH=$build/bin:$PATH
FLEXINS_RUNTIME_DIR=$(mktemp -d)
export PATH FLEXINS_RUNTIME_DIR
port=$((20000 + $$ % 10000))
server=

clean_up() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || :
  for engine in a b; do flexins down --engine $engine >/dev/null 2>&1 || :; done
  rm -rf "$FLEXINS_RUNTIME_DIR"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

give_up() {
  echo "demo: $*" >&2
  exit 1
}

show() {
  printf '\n$ %s\n' "$*"
  "$@"
}

# Starts the server's end in the background, waits until it listens, and runs the client's.
between_the_hosts() { # PROGRAM ARGUMENT…
  log=$FLEXINS_RUNTIME_DIR/server.log
  printf '\n$ %s &\n' "flexins run --engine a -- $*"
  flexins run --engine a -- "$@" >"$log" 2>&1 &
  server=$!
  listening=" [0-9A-F]*:$(printf %04X "$port") [0-9A-F]*:0000 0A "
  tries=0
  until cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep -q "$listening"; do
    tries=$((tries + 1))
    if [ $tries -gt 100 ] || ! kill -0 "$server" 2>/dev/null; then
      cat "$log"
      give_up "the server did not start"
    fi
    sleep 0.1
  done
  show flexins run --engine b -- "$@" 127.0.0.1 || give_up "the client failed"
  wait "$server" || { cat "$log"; give_up "the server failed"; }
  server=
}

# The sum of that counter over the ports of an engine.
count() { # ENGINE COUNTER
  flexins status --engine "$1" --json | python3 -c '
import json, sys
ports = json.load(sys.stdin)["engine"]["ports"]
print(sum(port["counters"].get(sys.argv[1], 0) for port in ports))' "$2"
}

# Not 127.0.0.1, where an engine of your own may be at work.
echo "Two engines, each a host with one RDMA device and one address:"
show flexins up --name a --address 127.77.0.1
show flexins up --name b --address 127.77.0.2

printf '\nThe bandwidth test of the perftest package, as Debian ships it:\n'
between_the_hosts ib_write_bw -d flexins0 -x 0 -F --report_gbits -s 65536 -D 3 -p $port
sent=$(count b tx_packets)
received=$(count a rx_packets)

printf '\nThe same way, messages of random kinds, sizes and places, and every byte compared:\n'
port=$((port + 1))
between_the_hosts integrity --device flexins0 --seconds 3 --port $port
lost=$(($(count a socket_drops) + $(count b socket_drops)))

[ "$sent" -ge 1000 ] || give_up "host b sent only $sent packets"
[ "$received" -ge 1000 ] || give_up "host a received only $received packets"
cat <<END

What you saw: an unmodified libibverbs program wrote into the memory of another one, over RDMA that
is software. Host b sent $sent RoCEv2 packets (UDP port 4791) for it, host a received $received.
Then integrity moved random messages both ways, and every byte of them was right. Of all packets the
sockets of the two hosts dropped $lost. No RDMA hardware and no kernel RDMA driver took part.
END
