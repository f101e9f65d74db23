#!/usr/bin/env python3
"""Writes the notices of everything that a program of this workspace is built of: notices.py PACKAGE TARGET

PACKAGE is a package of the workspace (obsync, obsync-lambda), TARGET what it is built for
(x86_64-unknown-linux-gnu). The text goes to standard output: each licence text that comes with a dependency once, below
the names of those that it came with. It fails for a dependency without any licence.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

# What licence files are called, in lower case.
BEGINNINGS = ("license", "licence", "copying", "notice", "copyright", "unlicense")
# Texts that fill no page: somebody put a pointer there.
LARGEST_TEXT = 256 * 1024


def cargo(*arguments):
    command = [os.environ.get("CARGO", "cargo"), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def dependencies(package, target):
    """The names and versions of what is linked into the package: not of what only builds or tests it."""
    lines = cargo(
        "tree", "--locked", "--package", package, "--target", target, "--edges", "normal,no-proc-macro",
        "--prefix", "none", "--format", "{p}",
    )
    found = set()
    for line in lines.splitlines():
        # The rest of the line is a path, or says that the dependencies were listed above.
        name, version = line.split()[:2]
        found.add((name, version.removeprefix("v")))
    return found


def licence_files(folder):
    def is_licence(path):
        return path.is_file() and path.name.lower().startswith(BEGINNINGS) and path.stat().st_size < LARGEST_TEXT

    folders = [folder, folder / "LICENSES", folder / "LICENSE"]
    return sorted(path for place in folders if place.is_dir() for path in place.iterdir() if is_licence(path))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    package, target = sys.argv[1:]
    wanted = dependencies(package, target)
    metadata = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", target))
    packages = [found for found in metadata["packages"] if (found["name"], found["version"]) in wanted]
    missing = wanted - {(found["name"], found["version"]) for found in packages}
    if missing:
        sys.exit(f"cargo metadata does not know {sorted(missing)}")

    texts, lines = {}, []
    for found in sorted(packages, key=lambda found: (found["name"], found["version"])):
        if found["source"] is None:
            continue  # obsync itself: its licences lie beside this file
        title = f"{found['name']} {found['version']}"
        files = licence_files(Path(found["manifest_path"]).parent)
        if not found["license"] and not files:
            sys.exit(f"{title} comes without a licence")
        lines.append(f"{title}: {found['license'] or 'see its text below'}, {found['repository'] or 'crates.io'}")
        for path in files:
            text = path.read_text(encoding="utf-8", errors="replace").strip()
            # The same text in other lines is the same text.
            owners = texts.setdefault(" ".join(text.split()), (text, []))[1]
            owners.append(f"{title} ({path.name})")

    print(f"{package} contains the following software of others, beside the standard library of Rust")
    print("(MIT OR Apache-2.0, The Rust Project Developers, https://github.com/rust-lang/rust).\n")
    print("\n".join(lines))
    for text, owners in texts.values():
        print(f"\n{'=' * 100}\n" + "\n".join(owners) + f"\n{'-' * 100}\n\n{text}")


main()
