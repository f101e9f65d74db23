#!/usr/bin/env bash
# Builds what a release publishes, in dist/: the function's zips, a bill of materials for each program, checksums.
#
# Fails without cargo-deny, without a database of advisories of at most 7 days, on anything that deny.toml refuses, and if the
# program is larger than 20 MiB.
# docs/RELEASE.md has what comes before and after.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "$(git status --porcelain)" ]; then
  echo "$0: the checkout has changes; a release is made of a tag in a fresh clone" >&2
  exit 1
fi
deploy/check-dependencies.sh --release
cargo cyclonedx --version >/dev/null || { echo "$0: needs cargo install --locked cargo-cyclonedx" >&2; exit 1; }

deploy/check-size.sh

mkdir -p dist
for machine in arm64 x86_64; do
  deploy/build-lambda.sh "$machine"
done
cp target/lambda/obsync-lambda-{arm64,x86_64}.zip dist/
for program in obsync lambda; do
  cargo cyclonedx --format json --target x86_64-unknown-linux-gnu --manifest-path "crates/$program/Cargo.toml"
done
find crates -name '*.cdx.json' -exec mv {} dist/ \;
(cd dist && sha256sum ./* > SHA256SUMS)
echo "dist/ has what is published; sign dist/SHA256SUMS as docs/RELEASE.md says"
