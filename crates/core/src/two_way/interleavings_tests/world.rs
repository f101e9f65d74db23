//! Two replicas and the vault between them, in memory. Nothing waits.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use obsync_protocol::{Filter, Uid, VaultPath};

use super::super::outgoing::{Outgoing, OutgoingInput, sent};
use super::super::recovery::{missing, pass_over, sent_to, wait_for_twins, without_twins};
use super::super::settlement::{Seen, SentKind, settle, settle_late};
use super::super::vault_change::VaultChange;
use super::{Op, PATHS};
use crate::entry::{EntryKind, RemoteEntry};
use crate::merge::{MergeKind, merge};
use crate::model::{FileMeta, Intent, KnownContent, LocalFacts, Record, RecordKind};
use crate::reconcile::{Action, Before, Local, Reach, Remote, Rules, decide, decide_content};
use crate::scan::{LocalFile, LocalTree};

/// Rounds of a run, at most.
const ROUNDS: usize = 6;
const RULES: Rules = Rules { reach: Reach::Everything, full_above: None };

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Well,
    /// Once the vault has everything.
    Dead,
    /// Before the vault has anything.
    Late,
}

#[derive(Clone)]
struct Entry {
    uid: u64,
    path: VaultPath,
    /// `None`: a deletion.
    text: Option<String>,
    device: usize,
}

#[derive(Clone, Default)]
struct Replica {
    files: BTreeMap<VaultPath, String>,
    /// Each with its text.
    records: BTreeMap<VaultPath, (Record, String)>,
    version: u64,
    announced: Vec<Intent>,
}

#[derive(Clone)]
pub(super) struct World {
    vault: Vec<Entry>,
    /// What was sent and not taken yet, with its device.
    late: Vec<(usize, VaultChange, Option<String>)>,
    replicas: [Replica; 2],
    /// The server leaves the old path of a rename to the client.
    keeps_related: bool,
    /// Both replicas have the same device name.
    are_alike: bool,
    words: usize,
    copies: usize,
    written: BTreeSet<String>,
    removed: BTreeSet<String>,
}

fn path(text: &str) -> VaultPath {
    VaultPath::parse(text).unwrap()
}

fn content(text: &str) -> KnownContent {
    KnownContent::of(text.as_bytes())
}

fn record(path: &VaultPath, text: &str, uid: u64) -> (Record, String) {
    let KnownContent { hash, size } = content(text);
    let meta = FileMeta { hash, size, mtime: 0, ctime: 0, uid: Uid(uid) };
    (Record::seen(path.clone(), RecordKind::File(meta), None), text.to_owned())
}

fn merged(path: &VaultPath, base: Option<&str>, local: &str, remote: &str) -> Option<String> {
    let kind = MergeKind::of(path, path)?;
    let merged = merge(kind, base.map(str::as_bytes), local.as_bytes(), remote.as_bytes()).ok()?;
    Some(String::from_utf8(merged).unwrap())
}

impl World {
    /// Both replicas are in sync with a vault that has a text at each path.
    pub(super) fn new(keeps_related: bool, are_alike: bool) -> Self {
        let mut world = World {
            vault: Vec::new(),
            late: Vec::new(),
            replicas: [Replica::default(), Replica::default()],
            keeps_related,
            are_alike,
            words: 0,
            copies: 0,
            written: BTreeSet::new(),
            removed: BTreeSet::new(),
        };
        for name in PATHS {
            world.record_there(path(name), Some(format!("base of {name}\n")), 2);
        }
        for replica in 0..2 {
            world.pull(replica);
        }
        world
    }

    fn record_there(&mut self, path: VaultPath, text: Option<String>, device: usize) {
        let uid = self.vault.len() as u64 + 1;
        self.vault.push(Entry { uid, path, text, device });
    }

    /// Carries out an operation. `false` if it changes nothing.
    pub(super) fn happen(&mut self, op: Op, then: Option<Op>) -> bool {
        match op {
            Op::Edit(on, at) => {
                self.words += 1;
                let word = format!("w{}", self.words);
                let text = self.replicas[on].files.entry(path(PATHS[at])).or_default();
                // At opposite ends, so that lines can be merged.
                *text = if on == 0 { format!("{word}\n{text}") } else { format!("{text}{word}\n") };
                self.written.insert(word)
            }
            Op::Delete(on, at) => {
                let Some(text) = self.replicas[on].files.remove(&path(PATHS[at])) else { return false };
                self.removed.extend(text.split_whitespace().map(str::to_owned));
                true
            }
            Op::Rename(on, at) => {
                let files = &mut self.replicas[on].files;
                let (from, to) = (path(PATHS[at]), path(PATHS[1 - at]));
                if files.contains_key(&to) {
                    return false;
                }
                let Some(text) = files.remove(&from) else { return false };
                files.insert(to, text);
                true
            }
            Op::Sync(on) => self.sync(on, None, Ends::Well),
            Op::Dies(on) => self.sync(on, None, Ends::Dead),
            Op::Late(_) if self.are_alike => false,
            Op::Late(on) => self.sync(on, None, Ends::Late),
            Op::Lands => self.lands(),
            Op::Around(on) => self.sync(on, then, Ends::Well),
        }
    }

    /// One run. Returns whether it changed anything.
    fn sync(&mut self, on: usize, mut meanwhile: Option<Op>, ends: Ends) -> bool {
        let mut has_changed = false;
        for _ in 0..ROUNDS {
            has_changed |= self.pull(on);
            let changes = self.outgoing(on);
            if let Some(op) = meanwhile.take() {
                has_changed |= self.happen(op, None);
            }
            if changes.is_empty() {
                return has_changed;
            }
            has_changed = true;
            let version = self.replicas[on].version;
            if ends == Ends::Late {
                for change in changes {
                    let replica = &mut self.replicas[on];
                    replica.announced.extend(missing(change.intent(version), 0));
                    let text = replica.files.get(change.path()).cloned();
                    self.late.push((on, change, text));
                }
                return true;
            }
            let landed: Vec<VaultChange> =
                changes.into_iter().filter(|change| self.land(on, change)).collect();
            if ends == Ends::Dead {
                let intents = landed.iter().map(|change| change.intent(version));
                self.replicas[on].announced.extend(intents);
                return true;
            }
            if !self.settle(on, &landed) {
                return true;
            }
        }
        has_changed
    }

    /// The latest entry of each path above a version.
    fn listing(&self, above: u64) -> BTreeMap<VaultPath, Entry> {
        let entries = self.vault.iter().filter(|entry| entry.uid > above);
        entries.map(|entry| (entry.path.clone(), entry.clone())).collect()
    }

    fn pull(&mut self, on: usize) -> bool {
        let before = self.replicas[on].files.clone();
        self.settle_announced(on);
        let mut listing = self.listing(self.replicas[on].version);
        self.carry(on, &mut listing);
        for (path, entry) in &listing {
            match &entry.text {
                None => self.pull_deletion(on, path),
                Some(text) => self.pull_text(on, path, text, entry.uid),
            }
        }
        self.replicas[on].version = self.vault.len() as u64;
        self.replicas[on].files != before
    }

    /// Carries an edit along with a rename, as `carrying` does.
    fn carry(&mut self, on: usize, listing: &mut BTreeMap<VaultPath, Entry>) {
        let replica = &mut self.replicas[on];
        let gone: Vec<(VaultPath, String)> = listing
            .values()
            .filter(|entry| entry.text.is_none())
            .filter_map(|entry| Some((entry.path.clone(), replica.records.get(&entry.path)?.1.clone())))
            .filter(|(_, text)| !text.is_empty())
            .collect();
        for (from, text) in &gone {
            let new: Vec<Entry> =
                listing.values().filter(|entry| entry.text.as_ref() == Some(text)).cloned().collect();
            let is_one = gone.iter().filter(|(_, other)| other == text).count() == 1;
            let ([to], true) = (&new[..], is_one) else { continue };
            let is_free = !replica.records.contains_key(&to.path) && !replica.files.contains_key(&to.path);
            if let Some(local) = replica.files.get(from).filter(|local| *local != text && is_free).cloned() {
                replica.files.remove(from);
                replica.records.remove(from);
                replica.files.insert(to.path.clone(), local);
                replica.records.insert(to.path.clone(), record(&to.path, text, to.uid));
                listing.remove(from);
                listing.remove(&to.path);
            }
        }
    }

    fn pull_deletion(&mut self, on: usize, path: &VaultPath) {
        let replica = &mut self.replicas[on];
        let known = replica.records.get(path).cloned();
        let decision =
            decide(known.as_ref().map(|(record, _)| record), Local::NotScanned, Remote::Deleted, &RULES);
        if let (Before::Remove, Some((_, text))) = (decision.before, known) {
            // A file that differs from its record is left alone.
            if replica.files.get(path) == Some(&text) {
                replica.files.remove(path);
            }
            replica.records.remove(path);
        }
    }

    fn pull_text(&mut self, on: usize, path: &VaultPath, text: &str, uid: u64) {
        let replica = &mut self.replicas[on];
        let (known, local) = (replica.records.get(path).cloned(), replica.files.get(path).cloned());
        if let (Some((_, base)), Some(local)) = (&known, &local)
            && base != text
            && local != base
            && let Some(merged) = merged(path, Some(base), local, text)
        {
            replica.files.insert(path.clone(), merged);
            replica.records.insert(path.clone(), record(path, text, uid));
            return;
        }
        let remote = Remote::File { content: content(text), mtime: 0, uid: Uid(uid) };
        let known = known.as_ref().map(|(record, _)| record);
        let action = match decide(known, Local::NotScanned, remote, &RULES).action {
            Action::Compare { replaces, .. } => {
                let found = local.as_ref().map_or(Local::Absent, |local| Local::File(content(local)));
                decide_content(replaces, found, content(text))
            }
            action => action,
        };
        match action {
            Action::Nothing | Action::Renew | Action::SetTimes | Action::Adopt => {}
            Action::Put { .. } => drop(replica.files.insert(path.clone(), text.to_owned())),
            Action::KeepBoth => {
                replica.files.insert(path.clone(), text.to_owned());
                self.keep_copy(on, path, &local.unwrap());
            }
            other => panic!("{other:?}"),
        }
        self.replicas[on].records.insert(path.clone(), record(path, text, uid));
    }

    fn keep_copy(&mut self, on: usize, of: &VaultPath, text: &str) {
        self.copies += 1;
        let (stem, extension) = of.as_str().rsplit_once('.').unwrap();
        let copy = path(&format!("{stem} {}.{extension}", self.copies));
        self.replicas[on].files.insert(copy, text.to_owned());
    }

    /// The changes to send, in order.
    fn outgoing(&self, on: usize) -> Vec<VaultChange> {
        let replica = &self.replicas[on];
        let is_new = |path: &VaultPath, text: &String| {
            replica.records.get(path).is_none_or(|(_, known)| known != text)
        };
        let files = replica.files.iter().filter(|(path, text)| is_new(path, text));
        let files = files.map(|(path, text)| LocalFile {
            path: path.clone(),
            content: content(text),
            mtime: 0,
            ctime: 0,
            facts: LocalFacts::File { size: text.len() as u64, modified: 0, changed: 0, inode: 0 },
        });
        let absent = replica.records.keys().filter(|path| !replica.files.contains_key(*path));
        let tree =
            LocalTree { files: files.collect(), absent: absent.cloned().collect(), ..LocalTree::default() };
        let records: Vec<Record> = replica.records.values().map(|(record, _)| record.clone()).collect();
        let outgoing = Outgoing::decide(OutgoingInput {
            records: &records,
            tree,
            filter: &Filter::default(),
            sends_configuration: false,
            unapplied: &HashSet::new(),
            held_back: &HashSet::new(),
            now: i64::MAX,
            may_delete: true,
        });
        let files = outgoing.files.into_iter().map(|file| VaultChange::File(Box::new(file)));
        let deletions = outgoing.replaced.into_iter().chain(outgoing.deletions).map(VaultChange::Deletion);
        files.chain(deletions).collect()
    }

    /// Applies a change to the vault. `false` if its precondition no longer holds.
    fn land(&mut self, on: usize, change: &VaultChange) -> bool {
        let files = &self.replicas[on].files;
        let text = files.get(change.path()).cloned();
        let holds = match change {
            VaultChange::File(file) => {
                let is_back = file.from.as_ref().is_some_and(|from| files.contains_key(from.path()));
                text.as_ref().is_some_and(|text| content(text) == file.local.content) && !is_back
            }
            VaultChange::Deletion(_) => text.is_none(),
            VaultChange::Folder(_) => unreachable!("there are no folders"),
        };
        if holds {
            self.take(on, change, text);
        }
        holds
    }

    fn lands(&mut self) -> bool {
        let late = std::mem::take(&mut self.late);
        late.iter().for_each(|(on, change, text)| self.take(*on, change, text.clone()));
        !late.is_empty()
    }

    fn take(&mut self, on: usize, change: &VaultChange, text: Option<String>) {
        match change {
            VaultChange::File(file) => {
                if let (Some(from), false) = (&file.from, self.keeps_related) {
                    self.record_there(from.path().clone(), None, on);
                }
                self.record_there(file.local.path.clone(), text, on);
                if let Some(from) = &file.from {
                    self.record_there(from.path().clone(), None, on);
                }
            }
            VaultChange::Deletion(absent) => self.record_there(absent.path().clone(), None, on),
            VaultChange::Folder(_) => unreachable!("there are no folders"),
        }
    }

    fn name(&self, device: usize) -> String {
        let name = if self.are_alike { device.max(1) } else { device };
        name.to_string()
    }

    /// History of a path, as a device sees it.
    fn seen(&self, path: &VaultPath) -> Vec<Seen> {
        let entries = self.vault.iter().filter(|entry| entry.path == *path);
        entries
            .map(|entry| {
                let kind = match &entry.text {
                    Some(text) => {
                        let KnownContent { hash, size } = content(text);
                        EntryKind::File { hash, size }
                    }
                    None => EntryKind::Deleted { folder: false },
                };
                let entry_of =
                    RemoteEntry { path: path.clone(), uid: Uid(entry.uid), kind, mtime: 0, ctime: 0 };
                Seen { entry: entry_of, device: self.name(entry.device) }
            })
            .collect()
    }

    /// Records the sent changes. Returns whether others wrote meanwhile, or something was put here.
    fn settle(&mut self, on: usize, changes: &[VaultChange]) -> bool {
        let version = self.replicas[on].version;
        let mut heard: BTreeSet<VaultPath> = self.listing(version).into_keys().collect();
        let (mut has_foreign, mut has_restored) = (false, false);
        for change in changes {
            for (path, sent_change) in change.sent(Uid(version)) {
                let late = sent_to(self.replicas[on].announced.iter(), &path);
                let settlement = settle(sent_change, &self.name(on), &late, &self.seen(&path));
                let uid = settlement.ours.expect("the vault has it");
                let (device, seen) = (self.name(on), self.seen(&path));
                let is_before = |seen: &&Seen| {
                    seen.device == device && seen.entry.uid > Uid(version) && seen.entry.uid < uid
                };
                let before = seen.iter().filter(is_before);
                pass_over(&mut self.replicas[on].announced, &path, (sent_change.kind, uid), before);
                has_foreign |= settlement.has_later;
                heard.remove(&path);
                let replica = &mut self.replicas[on];
                let ours = match change {
                    VaultChange::File(file) if file.local.path == path => Some(file),
                    _ => None,
                };
                match ours {
                    Some(file) => {
                        let text = replica.files[&path].clone();
                        replica.records.insert(path.clone(), (sent(&file.local, uid), text));
                    }
                    None => drop(replica.records.remove(&path)),
                }
                if let Some(lost) = settlement.overwritten {
                    has_restored = true;
                    let base = ours.and_then(|file| file.base.as_ref()).map(|base| base.uid.0);
                    self.bring_back(on, &path, base, lost.uid.0, ours.is_some());
                }
            }
        }
        has_foreign |= !heard.is_empty();
        if !has_foreign {
            self.replicas[on].version = self.vault.len() as u64;
        }
        has_foreign || has_restored
    }

    fn bring_back(&mut self, on: usize, path: &VaultPath, base: Option<u64>, lost: u64, is_file: bool) {
        let (lost, base) = (self.text_of(lost).unwrap(), base.and_then(|base| self.text_of(base)));
        let files = &mut self.replicas[on].files;
        if !is_file && !files.contains_key(path) {
            files.insert(path.clone(), lost);
            return;
        }
        let merged = match (is_file, &base) {
            (true, Some(base)) => merged(path, Some(base), &files[path], &lost),
            _ => None,
        };
        match merged {
            Some(merged) => drop(files.insert(path.clone(), merged)),
            None => self.keep_copy(on, path, &lost),
        }
    }

    /// Settles announced changes, as `recovery` does.
    fn settle_announced(&mut self, on: usize) {
        let (mut announced, mut left) = (std::mem::take(&mut self.replicas[on].announced), Vec::new());
        for at in 0..announced.len() {
            let push = announced[at].clone();
            let parts = push.sent();
            let landed: Vec<_> =
                parts.iter().filter_map(|part| self.settle_part(on, part, &push, &announced)).collect();
            match landed.len() == parts.len() {
                true => wait_for_twins(&mut announced[at + 1..], &landed),
                false => left.extend(missing(push, 0)),
            }
        }
        self.replicas[on].announced = without_twins(left);
    }

    fn settle_part(
        &mut self,
        on: usize,
        (path, kind): &(VaultPath, SentKind),
        push: &Intent,
        all: &[Intent],
    ) -> Option<(VaultPath, SentKind, Uid)> {
        let Intent::Push { base, .. } = push else { unreachable!("only pushes are announced") };
        let late = sent_to(all.iter().filter(|other| *other != push), path);
        let known = self.replicas[on].records.get(path).map(|(record, _)| record.uid());
        let settlement = settle_late(*kind, (*base, known), &self.name(on), &late, &self.seen(path));
        let uid = settlement.ours?;
        if let Some(lost) = settlement.overwritten {
            let text = self.text_of(lost.uid.0).unwrap();
            if !self.replicas[on].files.values().any(|other| *other == text) {
                self.keep_copy(on, path, &text);
            }
        }
        if known.is_none_or(|known| known < uid) {
            self.keep_what_is_newer(on, path, uid.0);
        }
        Some((path.clone(), *kind, uid))
    }

    fn keep_what_is_newer(&mut self, on: usize, path: &VaultPath, uid: u64) {
        let text = self.text_of(uid);
        let replica = &mut self.replicas[on];
        let Some(local) = replica.files.get(path) else { return };
        match text {
            Some(text) if text == *local => {}
            Some(text) => drop(replica.records.insert(path.clone(), record(path, &text, uid))),
            None => drop(replica.records.remove(path)),
        }
    }

    fn text_of(&self, uid: u64) -> Option<String> {
        self.vault[uid as usize - 1].text.clone()
    }

    /// Runs both until nothing changes, and compares.
    pub(super) fn check(mut self, history: &[Op]) {
        if !self.late.is_empty() {
            let _ = self.sync(0, None, Ends::Well) | self.sync(1, None, Ends::Well);
            self.lands();
        }
        for round in 0.. {
            if !(self.sync(0, None, Ends::Well) | self.sync(1, None, Ends::Well)) {
                break;
            }
            assert!(round < 10, "they do not come to rest: {history:?}");
        }
        let there: BTreeMap<VaultPath, String> =
            self.listing(0).into_iter().filter_map(|(path, entry)| Some((path, entry.text?))).collect();
        for replica in &self.replicas {
            assert_eq!(replica.files, there, "{history:?}");
        }
        let words: HashSet<&str> = there.values().flat_map(|text| text.split_whitespace()).collect();
        let is_lost = |word: &&String| !words.contains(word.as_str()) && !self.removed.contains(*word);
        let lost: Vec<&String> = self.written.iter().filter(is_lost).collect();
        assert!(lost.is_empty(), "lost {lost:?}: {history:?}");
    }
}
