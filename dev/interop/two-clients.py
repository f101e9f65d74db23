#!/usr/bin/env python3
"""Lets obsync and another client of the protocol follow one vault, while both folders are edited, and looks what is lost.

    cargo build --release -p obsync -p obsync-dev
    dev/interop/two-clients.py --seconds 600 --other 'some-client --login {email} {password} --vault {vault} ... {dir}'

    dev/interop/two-clients.py --seconds 600 --kills 30 --pace 0.3 --appends

The second kills obsync 30 times on its way (SIGKILL, and started again at once), edits more than three times as often, and appends lines
only.

The other client's command line is a shell command that signs in and then stays connected until it is killed. It gets {url} (the
development server's), {dir} (its folder), {home} (a folder of its own), {email}, {password}, {vault} and {vault_password}.
Without --other a second obsync takes its place. The official client, where `ob` runs it against {url}:

    --other 'ob login --email {email} --password {password} && ob sync-setup --vault {vault} --path {dir} --password {vault_password} &&
             exec ob sync --path {dir} --continuous'

Each edit adds a word of its own to a note: a line in an existing note, a new note, the same note on both sides at once, several
in a row; notes are renamed and deleted, too. Nobody saves over a text that was not read: an edit of a note that a client
replaces meanwhile begins anew. In the end both folders must be equal, and each word must be in some note, unless it was in one that
was deleted by somebody who saw it there. Exit status 0: so it was. With --keep, the folders, the homes, the
logs and what the server has stay.
"""

import argparse
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EMAIL, PASSWORD, VAULT, VAULT_PASSWORD = "e@example.com", "pw", "Both", "secret"
PORT = 8802
URL = f"http://127.0.0.1:{PORT}"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="how long to edit")
    parser.add_argument("--seed", type=int, default=1, help="what is edited depends on it")
    parser.add_argument("--kills", type=int, default=0, help="how often to kill obsync meanwhile")
    parser.add_argument("--pace", type=float, default=1.0, help="what to multiply the pauses between two edits by")
    parser.add_argument("--appends", action="store_true", help="append lines only")
    parser.add_argument("--other", help="the other client's command line")
    parser.add_argument("--keep", action="store_true", help="leave everything where it is, and tell where")
    parser.add_argument("--programs", default="target/release", help="where obsync and obsync-dev are")
    return parser.parse_args()


class Duel:
    def __init__(self, options, root):
        self.random = random.Random(options.seed)
        self.options = options
        self.root = root
        self.programs = Path(options.programs).resolve()
        self.folders = [root / "other", root / "obsync"]
        self.words, self.seen_when_deleted, self.counts, self.renames = {}, set(), {}, 0
        self.children = []
        for folder in self.folders:
            folder.mkdir()

    def start(self, command, name, environment=None):
        log = open(self.root / f"{name}.log", "a", encoding="utf-8")
        child = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        self.children.append(child)
        return child

    def follow(self, name, folder):
        """Lets obsync follow: its first run, and on."""
        secrets = {"OBSIDIAN_EMAIL": EMAIL, "OBSIDIAN_PASSWORD": PASSWORD, "OBSYNC_VAULT_PASSWORD": VAULT_PASSWORD}
        home = {"OBSYNC_HOME": str(self.root / f"{name}-home"), "OBSYNC_API_URL": URL}
        environment = {**os.environ, **home, **secrets}
        sync = [self.programs / "obsync", "sync", VAULT, folder, "--device-name", name]
        subprocess.run([*sync, "--yes", "--quiet"], env=environment, check=True, timeout=120)
        # Deletions are a part of what is tried: none is to wait for somebody.
        free = ["--max-delete", "none", "--max-delete-in-vault", "none"]
        self.follower = ([*sync, "--follow", *free], name, environment)
        self.start(*self.follower)

    def kill(self):
        """Kills the obsync that was started last, and starts it again."""
        child = self.children.pop()
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(timeout=30)
        self.start(*self.follower)

    def begin(self, other):
        vault = f"{VAULT}:{VAULT_PASSWORD}:3"
        account, data = f"{EMAIL}:{PASSWORD}", self.root / "server"
        server = ["server", "--listen", f"127.0.0.1:{PORT}", "--data", data, "--user", account, "--create", vault]
        self.start([self.programs / "obsync-dev", *server], "server")
        time.sleep(2)
        for number in range(10):
            (self.folders[0] / f"note{number}.md").write_text(f"# note {number}\n\nbegin\n\nend\n")
        if other is None:
            self.follow("other", self.folders[0])
        else:
            given = {"url": URL, "dir": self.folders[0], "home": self.root / "other-home"}
            account = {"email": EMAIL, "password": PASSWORD, "vault": VAULT, "vault_password": VAULT_PASSWORD}
            words = {name: shlex.quote(str(value)) for name, value in {**given, **account}.items()}
            self.start(["sh", "-c", other.format(**words)], "other")
        self.follow("obsync", self.folders[1])
        time.sleep(20)

    def end(self):
        for child in reversed(self.children):
            try:
                os.killpg(child.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
            child.wait(timeout=30)

    def word(self, side, name):
        word = f"w{side}{len(self.words):05d}"
        self.words[word] = f"{time.strftime('%H:%M:%S')} in {name}"
        return word

    def save(self, path, text, read=None):
        """Saves a note as an editor does. False: it is not the one any more that was read."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.random.random() < 0.5:
            beside = path.with_name(path.name + ".tmp~")
            beside.write_text(text)
            if facts(path) != read:
                beside.unlink()
                return False
            beside.replace(path)
        else:
            if facts(path) != read:
                return False
            path.write_text(text)
        return True

    def edit(self, side, name):
        path = self.folders[side] / name
        word, read = self.word(side, name), None
        try:
            while True:
                read = facts(path)
                lines = path.read_text().splitlines(keepends=True)
                place = len(lines) if self.options.appends else self.random.randint(0, len(lines))
                lines.insert(place, f"{word} said here\n")
                if self.save(path, "".join(lines), read):
                    return
        except FileNotFoundError:
            del self.words[word]
            raise

    def somewhere(self, name):
        return f"dir{self.random.randint(0, 4)}/{name}" if self.random.random() < 0.5 else name

    def act(self):
        """Does one thing on one side, and tells what."""
        side, chance = self.random.randrange(2), self.random.random()
        folder = self.folders[side]
        # Copies of copies would have names too long for any file system in the end.
        names = [name for name in notes(folder) if "Conflicted copy" not in name]
        name = self.random.choice(names)
        if chance < 0.62 or (self.options.appends and chance < 0.85):
            self.edit(side, name)
            return "edit"
        if chance < 0.72:
            word = self.word(side, "a new note")
            self.save(folder / self.somewhere(f"new-{word}.md"), f"{word} is new\nsecond\nthird\n")
            return "new"
        if chance < 0.80 and len(names) > 8:
            # Nobody has given that name to another note, on either side.
            self.renames += 1
            new = folder / self.somewhere(f"renamed{self.renames}.md")
            new.parent.mkdir(exist_ok=True)
            (folder / name).rename(new)
            return "rename"
        if chance < 0.85 and len(names) > 12:
            # What comes between a look and the deletion is nobody's to see.
            removed = self.root / "removed.md"
            (folder / name).replace(removed)
            self.seen_when_deleted |= set(re.findall(r"w[01]\d{5}", removed.read_text()))
            return "delete"
        if chance < 0.95:
            for each in range(2):
                self.edit(each, name)
            return "both at once"
        for _ in range(4):
            self.edit(side, name)
            time.sleep(0.3)
        return "several"

    def play(self, seconds):
        begun = time.monotonic()
        until = begun + seconds
        kills = sorted(begun + self.random.random() * seconds for _ in range(self.options.kills))
        while time.monotonic() < until:
            if kills and kills[0] <= time.monotonic():
                kills.pop(0)
                self.kill()
                self.counts["kill"] = self.counts.get("kill", 0) + 1
            try:
                what = self.act()
                self.counts[what] = self.counts.get(what, 0) + 1
            except (FileNotFoundError, IndexError):
                pass  # The other side was quicker.
            time.sleep(self.random.choice([0.2, 0.6, 1.5]) * self.options.pace)

    def settle(self):
        """Waits until both folders are equal and stay so for a while; tells them as they are after three minutes at most."""
        until, calm = time.monotonic() + 180, 0
        before = None
        while time.monotonic() < until and calm < 9:
            trees = [tree(folder) for folder in self.folders]
            calm = calm + 1 if trees[0] == trees[1] == before else 0
            before = trees[0]
            time.sleep(5)
        return [tree(folder) for folder in self.folders]


def facts(path):
    """What tells one state of a file from another. None: it is not there."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def notes(folder):
    found = (path.relative_to(folder) for path in folder.rglob("*.md"))
    return sorted(str(path) for path in found if not any(part.startswith(".") for part in path.parts))


def tree(folder):
    return {name: (folder / name).read_text() for name in notes(folder)}


def main():
    options = arguments()
    root = tempfile.mkdtemp(prefix="two-clients-")
    duel = Duel(options, Path(root))
    try:
        duel.begin(options.other)
        duel.play(options.seconds)
        trees = duel.settle()
    finally:
        duel.end()
        if not options.keep:
            shutil.rmtree(root)
    everything = "\n".join(text for each in trees for text in each.values())
    lost = {word: said for word, said in duel.words.items() if word not in everything and word not in duel.seen_when_deleted}
    twice = [word for word in duel.words if any(text.count(word) > 1 for text in trees[1].values())]
    copies = [name for name in trees[1] if "Conflicted copy" in name]
    print(f"{len(duel.words)} words in {sum(duel.counts.values())} steps: {duel.counts}")
    print(f"equal: {trees[0] == trees[1]}; {len(trees[1])} notes, {len(copies)} of them conflicted copies")
    print(f"lost: {len(lost)} {dict(list(lost.items())[:10])}; twice in one note: {len(twice)}")
    if options.keep:
        print(f"kept: {root}")
    return 0 if trees[0] == trees[1] and not lost else 1


if __name__ == "__main__":
    sys.exit(main())
