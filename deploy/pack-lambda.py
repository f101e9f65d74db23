#!/usr/bin/env python3
"""Packs the zip of the function: pack-lambda.py PROGRAM NOTICES ZIP

The same program and notices make the same zip, byte for byte.
"""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def add(archive, name, content, mode):
    # No times of this machine.
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.external_attr = (0o100000 | mode) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content, compresslevel=9)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    program, notices, path = map(Path, sys.argv[1:])
    with zipfile.ZipFile(path, "w") as archive:
        add(archive, "bootstrap", program.read_bytes(), 0o755)
        add(archive, "THIRD-PARTY-NOTICES.txt", notices.read_bytes(), 0o644)
        for licence in ("LICENSE-APACHE", "LICENSE-MIT"):
            add(archive, licence, (ROOT / licence).read_bytes(), 0o644)


main()
