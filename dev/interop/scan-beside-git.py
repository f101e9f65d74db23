#!/usr/bin/env python3
"""How long a sync with nothing to do takes on a large folder, beside `git status` on the same tree, by turns.

    cargo build --release -p obsync -p obsync-dev
    dev/interop/scan-beside-git.py --files 100000 --runs 15

The development server is filled with notes, obsync syncs them into a folder, and git commits them there (obsync looks into no
folder whose name begins with a dot). Then both look at it by turns, with warm caches. Prints medians, the median of the ratios,
and the most memory that obsync took.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EMAIL, PASSWORD, VAULT = "e@example.com", "pw", "Notes"
PORT = 8803


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000, help="how many notes there are")
    parser.add_argument("--runs", type=int, default=15, help="how often each is measured")
    parser.add_argument("--programs", default="target/release", help="where obsync and obsync-dev are")
    parser.add_argument("--dir", help="the file system to measure on [default: that of the temporary folder]")
    return parser.parse_args()


def measured(command, environment):
    """Runs a command to its end; tells its time in seconds, and its peak of memory in MB."""
    begun = time.monotonic()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        raise SystemExit(f"{command}: status {status}")
    return time.monotonic() - begun, usage.ru_maxrss / 1000


def main():
    options = arguments()
    programs = Path(options.programs).resolve()
    with tempfile.TemporaryDirectory(prefix="scan-", dir=options.dir) as root:
        root = Path(root)
        notes = root / "notes"
        url = f"http://127.0.0.1:{PORT}"
        account = {"OBSIDIAN_EMAIL": EMAIL, "OBSIDIAN_PASSWORD": PASSWORD}
        git_says = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        environment = {**os.environ, **account, **git_says, "OBSYNC_HOME": str(root / "home"), "OBSYNC_API_URL": url}
        served = ["server", "--listen", f"127.0.0.1:{PORT}", "--user", f"{EMAIL}:{PASSWORD}"]
        filled = ["--managed", VAULT, "--fill", str(options.files)]
        server = subprocess.Popen([programs / "obsync-dev", *served, *filled], stdout=subprocess.PIPE, text=True)
        try:
            server.stdout.readline()
            time.sleep(2)
            sync = [programs / "obsync", "sync", VAULT, notes, "--quiet", "--encryption", "standard", "--yes"]
            subprocess.run(sync, env=environment, check=True)
            git = ["git", "-C", notes]
            subprocess.run([*git, "init", "--quiet"], env=environment, check=True)
            subprocess.run([*git, "add", "--all", "--force", "."], env=environment, check=True)
            who = ["-c", "user.name=n", "-c", f"user.email={EMAIL}"]
            subprocess.run([*git, *who, "commit", "--quiet", "-m", "all"], env=environment, check=True)
            pairs = []
            for number in range(-2, options.runs):
                pair = (measured(sync, environment), measured([*git, "status", "--porcelain"], environment))
                # The first ones fill caches.
                if number >= 0:
                    pairs.append(pair)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)
    ours = statistics.median(seconds for (seconds, _), _ in pairs)
    git = statistics.median(seconds for _, (seconds, _) in pairs)
    ratio = statistics.median(one / other for (one, _), (other, _) in pairs)
    memory = max(memory for (_, memory), _ in pairs)
    print(f"{options.files} notes, medians of {options.runs}: sync {ours:.3f} s, git status {git:.3f} s, {ratio:.2f} times; {memory:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
