#!/usr/bin/env bash
# Builds the zip of the function: build-lambda.sh [arm64|x86_64] (without an argument: this machine's architecture).
# build-lambda.sh --check builds it to be measured here: with the C library that there is, so it may not run on Lambda.
#
# Cross-compiling, and building on systems with a newer C library than Amazon Linux 2023 has, needs cargo-zigbuild and zig
# (https://github.com/rust-cross/cargo-zigbuild) and the Rust target (rustup target add aarch64-unknown-linux-gnu).
# Python 3 packs the zip, with the notices of everything that the program is built of.
set -euo pipefail
cd "$(dirname "$0")/.."

# The C library of Amazon Linux 2023.
glibc=2.34

check=no
if [ "${1:-}" = --check ]; then
  check=yes
  shift
fi
case "${1:-$(uname -m)}" in
  arm64 | aarch64) architecture=arm64 target=aarch64-unknown-linux-gnu ;;
  x86_64 | x86-64 | amd64) architecture=x86_64 target=x86_64-unknown-linux-gnu ;;
  *) echo "usage: $0 [--check] [arm64|x86_64]" >&2; exit 2 ;;
esac

# Whether the program built here asks for nothing that the C library of the function lacks.
runs_on_lambda() {
  local newest
  newest=$({ objdump -T "$1" 2>/dev/null || true; } | grep -o 'GLIBC_[0-9.]*' | cut -d_ -f2 | sort -V | tail -n 1)
  [ -n "$newest" ] && [ "$(printf '%s\n%s\n' "$newest" "$glibc" | sort -V | tail -n 1)" = "$glibc" ]
}

build=(--locked --profile lambda -p obsync-lambda --bin bootstrap)
directory=${CARGO_TARGET_DIR:-target}
if command -v cargo-zigbuild >/dev/null; then
  cargo zigbuild "${build[@]}" --target "$target.$glibc"
elif [ "$target" = "$(rustc -vV | sed -n 's/^host: //p')" ]; then
  cargo build "${build[@]}" --target "$target"
  if [ "$check" = no ] && ! runs_on_lambda "$directory/$target/lambda/bootstrap"; then
    echo "$0: the program needs a newer C library than Lambda's ($glibc): install cargo-zigbuild and zig, or build" >&2
    echo "in a container of public.ecr.aws/amazonlinux/amazonlinux:2023" >&2
    exit 1
  fi
else
  echo "$0: building for $target on another architecture needs cargo-zigbuild and zig" >&2
  exit 1
fi

mkdir -p target/lambda
zip=target/lambda/obsync-lambda-$architecture.zip
notices=target/lambda/THIRD-PARTY-NOTICES-$architecture.txt
deploy/notices.py obsync-lambda "$target" > "$notices"
deploy/pack-lambda.py "$directory/$target/lambda/bootstrap" "$notices" "$zip"
# What is small starts quickly (docs/decisions/0017-small-function.md).
most=$((6 * 1024 * 1024))
if [ "$(wc -c < "$zip")" -gt "$most" ]; then
  echo "$0: the zip has more than 6 MiB ($(wc -c < "$zip") bytes)" >&2
  exit 1
fi
if [ "$check" = no ]; then
  cp "$zip" target/lambda/obsync-lambda.zip
fi
ls -l "$zip"
