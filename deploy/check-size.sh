#!/usr/bin/env bash
# Fails if the installed program is larger than 20 MiB (20,971,520 bytes). docs/PERFORMANCE.md, "Size of the program", says what
# it is made of.
#
#   deploy/check-size.sh            builds the program first: eight minutes on two cores, from nothing
#   deploy/check-size.sh PROGRAM    looks at one that was built
set -euo pipefail

most=20971520
program=${1:-}
if [ -z "$program" ]; then
  cd "$(dirname "$0")/.."
  cargo build --locked --release -p obsync
  program=${CARGO_TARGET_DIR:-target}/release/obsync
fi
size=$(wc -c < "$program")
if [ "$size" -gt "$most" ]; then
  echo "$0: $program has $size bytes, more than $most" >&2
  exit 1
fi
echo "$program has $size bytes, at most $most"
