#!/usr/bin/env python3
"""Measures how soon a change of a folder is in the vault, and a change of the vault in another folder.

    cargo build --release -p obsync -p obsync-dev
    dev/interop/follow-times.py --notes 10000 --times 200

Two folders with the same notes follow one vault of a development server, all on this machine. A note is written in the first folder:
"sent" is the time until the server has the change on its disk, "received" the time from there until the second folder has it, "both"
their sum. The notes are new ones and ones that were calm before; then notes that are saved five times, 0.3 s apart, for which the
time from the last save on is measured, less the quiet time. Exit status 1: a median is above its aim.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EMAIL, PASSWORD, VAULT, VAULT_PASSWORD = "e@example.com", "pw", "Notes", "secret"
PORT = 8803
QUIET = 2
# In seconds.
AIMS = {"sent": 0.100, "received": 0.100, "saved five times": 0.150}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--notes", type=int, default=10000, help="how many notes the vault has")
    parser.add_argument("--times", type=int, default=200, help="how many changes to measure")
    parser.add_argument("--programs", default="target/release", help="where obsync and obsync-dev are")
    return parser.parse_args()


def wait_for(condition, seconds=60.0):
    """The moment at which a condition holds."""
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            sys.exit("a change did not arrive within a minute")
        time.sleep(0.0005)
    return time.monotonic()


class Scene:
    def __init__(self, options, root):
        self.programs = Path(options.programs).resolve()
        self.root, self.children = root, []
        self.folders = [root / "first", root / "second"]

    def start(self, command, name, environment=None):
        log = open(self.root / f"{name}.log", "a", encoding="utf-8")
        self.children.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

    def begin(self, notes):
        server = ["server", "--listen", f"127.0.0.1:{PORT}", "--data", self.root / "server", "--fill", str(notes)]
        account = ["--user", f"{EMAIL}:{PASSWORD}", "--create", f"{VAULT}:{VAULT_PASSWORD}:3"]
        self.start([self.programs / "obsync-dev", *server, *account], "server")
        log = self.root / "server.log"
        wait_for(lambda: "listens on" in log.read_text(), 300)
        for folder in self.folders:
            self.follow(folder)
        (self.entries,) = (self.root / "server").glob("*/entries.jsonl")
        # Their first scans as followers.
        time.sleep(5)

    def follow(self, folder):
        secrets = {"OBSIDIAN_EMAIL": EMAIL, "OBSIDIAN_PASSWORD": PASSWORD, "OBSYNC_VAULT_PASSWORD": VAULT_PASSWORD}
        home = {"OBSYNC_HOME": str(self.root / f"{folder.name}-home"), "OBSYNC_API_URL": f"http://127.0.0.1:{PORT}"}
        environment = {**os.environ, **home, **secrets}
        sync = [self.programs / "obsync", "sync", VAULT, folder, "--device-name", folder.name]
        subprocess.run([*sync, "--yes", "--quiet"], env=environment, check=True, timeout=600)
        self.start([*sync, "--follow", "--quiet-for", f"{QUIET}s"], folder.name, environment)

    def end(self):
        for child in reversed(self.children):
            child.terminate()
            child.wait(timeout=30)

    def measure(self, name, text):
        """Writes a note, and tells how long it takes to the vault, and from there to the other folder."""
        here, there = (folder / name for folder in self.folders)
        size = self.entries.stat().st_size
        here.write_text(text)
        written = time.monotonic()
        sent = wait_for(lambda: self.entries.stat().st_size > size)
        received = wait_for(lambda: there.is_file() and there.read_text() == text)
        return sent - written, received - sent

    def measure_saves(self, name):
        """The same of a note that is saved five times: how long after the quiet time it is in the vault."""
        for save in range(4):
            (self.folders[0] / name).write_text(f"save {save}\n")
            time.sleep(0.3)
        # The first of them may have gone at once.
        sent, _ = self.measure(name, "save 5\n")
        return sent - QUIET


def row(name, times):
    times = sorted(times)
    median = statistics.median(times)
    longest, ninth = times[-1], times[len(times) * 9 // 10]
    print(f"{name:18} median {median * 1000:6.1f} ms, nine of ten {ninth * 1000:6.1f} ms, longest {longest * 1000:6.1f} ms", flush=True)
    return name, median


def main():
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="follow-times-") as root:
        scene = Scene(options, Path(root))
        try:
            scene.begin(options.notes)
            new = options.times // 2
            pairs = [scene.measure(f"new {time_} of many.md", f"new {time_}\n") for time_ in range(new)]
            # Those were new some seconds ago, and are calm now.
            time.sleep(QUIET * 2)
            pairs += [scene.measure(f"new {time_} of many.md", f"calm {time_}, changed\n") for time_ in range(options.times - new)]
            medians = [row("sent", [sent for sent, _ in pairs]), row("received", [received for _, received in pairs])]
            row("both", [sum(pair) for pair in pairs])
            saves = [scene.measure_saves(f"saved {number}.md") for number in range(max(3, options.times // 20))]
            medians.append(row("saved five times", saves))
        finally:
            scene.end()
    missed = [name for name, median in medians if median > AIMS[name]]
    for name in missed:
        print(f"{name}: above its aim of {AIMS[name] * 1000:.0f} ms")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
