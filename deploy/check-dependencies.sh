#!/usr/bin/env bash
# Checks what obsync depends on against deny.toml: check-dependencies.sh [--release]
#
# Without cargo-deny, or without a database of advisories, the check is skipped. With --release nothing is skipped: it
# fails without cargo-deny (cargo install --locked cargo-deny), and without a database of at most 7 days.
set -euo pipefail
cd "$(dirname "$0")/.."

release=no
case "${1:-}" in
  "") ;;
  --release) release=yes ;;
  *) echo "usage: $0 [--release]" >&2; exit 2 ;;
esac

if ! cargo deny --version 2>/dev/null; then
  if [ "$release" = yes ]; then
    echo "$0: a release needs cargo-deny: cargo install --locked cargo-deny" >&2
    exit 1
  fi
  echo "skipped: cargo-deny is not installed"
  exit 0
fi

cargo deny --locked check bans licenses sources

if timeout 120 cargo deny fetch db >/dev/null 2>&1 || [ "$release" = yes ]; then
  # Fails by itself without a database, and with one that is older than maximum-db-staleness.
  cargo deny --locked --offline check advisories
else
  echo "skipped: the database of advisories cannot be fetched here"
fi
