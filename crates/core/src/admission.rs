//! Takes entries out of a listing that are not applied: filtered ones, and names that this destination cannot
//! have.

use std::collections::{HashMap, HashSet};

use obsync_protocol::{ContentHash, Filter, NameFolding, VaultPath, Verdict};

use crate::entry::{EntryKind, RemoteEntry};
use crate::model::Record;
use crate::reconcile::{Action, Local, decide};
use crate::schedule::{FileRemoval, FolderChange, Schedule, Scheduler, Transfer, wanted};

impl Scheduler {
    /// Sorts out filtered entries, entries that are no news, and names that this destination cannot have.
    pub(crate) fn admit(&mut self, entries: Vec<RemoteEntry>, filter: &Filter) -> Vec<RemoteEntry> {
        // Collected in place, without a second list.
        let mut admitted: Vec<RemoteEntry> =
            entries.into_iter().filter_map(|entry| self.admit_one(entry, filter)).collect();
        self.refuse_below_files(&mut admitted);
        if self.folds_names.is_any() {
            self.refuse_same_names(&mut admitted);
        }
        admitted
    }

    /// Returns an entry that is to be scheduled.
    fn admit_one(&mut self, entry: RemoteEntry, filter: &Filter) -> Option<RemoteEntry> {
        let is_left_out = !matches!(filter.verdict(&entry.path, entry.is_folder()), Verdict::Sync);
        let remote = if is_left_out { entry.left_out() } else { entry.remote() };
        let base = self.records.get(&entry.path);
        if is_left_out
            && let Some(known) = base.and_then(Record::file)
            && self.rules.is_full_for(entry.uid)
        {
            self.schedule.doubted.push(wanted(&entry.path, known));
        }
        match decide(base, Local::NotScanned, remote, &self.rules).action {
            Action::Skip => {}
            Action::DeferFiltered => self.schedule.filtered.push(entry),
            _ if is_left_out => self.schedule.unchanged.push(entry.path),
            _ => return Some(entry),
        }
        None
    }

    /// Refuses entries that lie below a path that is a file in this same listing.
    fn refuse_below_files(&mut self, entries: &mut Vec<RemoteEntry>) {
        // Folders are far fewer than files, and nearly always none of them is one.
        let mut folders: HashSet<&str> = HashSet::new();
        for entry in entries.iter().filter(|entry| entry.is_live()) {
            // The parents of a known folder are known too.
            let _ = above(&entry.path).all(|folder| folders.insert(folder));
        }
        let files: HashSet<VaultPath> = entries
            .iter()
            .filter(|entry| matches!(entry.kind, EntryKind::File { .. }))
            .filter(|entry| folders.contains(entry.path.as_str()))
            .map(|entry| entry.path.clone())
            .collect();
        if files.is_empty() {
            return;
        }
        let blocker = |entry: &RemoteEntry| {
            entry
                .is_live()
                .then(|| entry.path.ancestors().find(|ancestor| files.contains(ancestor)))
                .flatten()
        };
        let refused: Vec<_> = entries.extract_if(.., |entry| blocker(entry).is_some()).collect();
        for entry in refused {
            let reason = match blocker(&entry) {
                Some(file) => format!(
                    "the vault says that {:?}, which would have to be a folder, is a file",
                    file.as_str()
                ),
                None => continue,
            };
            self.schedule.refused.push((entry, reason));
        }
    }

    /// If names are folded: of several live entries with one folded name only one can be applied, the one
    /// that is already here, or else the oldest.
    fn refuse_same_names(&mut self, entries: &mut Vec<RemoteEntry>) {
        entries.sort_by(|a, b| a.uid.cmp(&b.uid).then_with(|| a.path.cmp(&b.path)));
        let unlisted =
            self.schedule.folder_removals.iter().map(|folder| &folder.path).chain(&self.vanishing_paths);
        let deleted = entries.iter().filter(|entry| !entry.is_live()).map(|entry| &entry.path);
        let leaving: HashSet<&VaultPath> = unlisted.chain(deleted).collect();
        let mut recorded: Vec<&Record> =
            self.records.iter().filter(|record| !leaving.contains(&record.path)).collect();
        // If both are recorded (by a system that does not fold names), the choice is always the same.
        recorded.sort_unstable_by(|a, b| b.path.cmp(&a.path));
        let key = |path: &VaultPath| self.folds_names.key(path).into_owned();
        let mut holders: HashMap<String, (VaultPath, bool)> = recorded
            .into_iter()
            .map(|record| (key(&record.path), (record.path.clone(), record.file().is_none())))
            .collect();
        let mut refused = Vec::new();
        entries.retain(|entry| {
            if !entry.is_live() {
                return true;
            }
            let is_folder = entry.is_folder();
            let (holder, holder_is_folder) =
                holders.entry(key(&entry.path)).or_insert_with(|| (entry.path.clone(), is_folder));
            // Two folders with one folded name are one folder; nothing is lost.
            if *holder == entry.path || (is_folder && *holder_is_folder) {
                return true;
            }
            let reason = format!(
                "its name differs only {} from {:?}, and this destination can hold only one of the two; rename \
                 one of them in Obsidian",
                NameFolding::difference(holder, &entry.path),
                holder.as_str()
            );
            refused.push((entry.clone(), reason));
            false
        });
        self.schedule.refused.extend(refused);
    }
}

impl Schedule {
    /// Takes out entries that the destination cannot name. A file whose new name is among them keeps its old
    /// one.
    pub(crate) fn refuse(&mut self, admits: impl Fn(&VaultPath) -> Result<(), String>) {
        let mut sources = HashSet::new();
        for transfer in self.rescues.iter_mut().chain(&mut self.transfers) {
            if transfer.targets.iter().all(|target| admits(&target.path).is_ok()) {
                continue;
            }
            let whole = transfer.clone();
            let (good, bad): (Vec<_>, Vec<_>) =
                transfer.targets.drain(..).partition(|target| admits(&target.path).is_ok());
            transfer.targets = good;
            sources.extend(transfer.source.local().cloned());
            let bad = Transfer { targets: bad, ..whole };
            self.refused.extend(
                bad.entries().filter_map(|entry| Some((admits(&entry.path).err()?, entry))).map(swap),
            );
        }
        self.rescues.retain(|transfer| !transfer.targets.is_empty());
        self.transfers.retain(|transfer| !transfer.targets.is_empty());
        self.keep_old_names(&sources);
        for FolderChange { path, uid, .. } in
            self.folders.extract_if(.., |folder| admits(&folder.path).is_err())
        {
            let Err(reason) = admits(&path) else { continue };
            self.refused
                .push((RemoteEntry { path, uid, kind: EntryKind::Folder, mtime: 0, ctime: 0 }, reason));
        }
    }

    /// Takes out the removals of files whose content is refused under another name. Of several equal files
    /// any may be the renamed one, and any that stays may have been edited here, so each of them is kept, and
    /// so are `sources` of refused transfers.
    fn keep_old_names(&mut self, sources: &HashSet<VaultPath>) {
        let refused: HashSet<ContentHash> = self
            .refused
            .iter()
            .filter_map(|(entry, _)| match entry.kind {
                // Nothing is lost with an empty file.
                EntryKind::File { hash, .. } if hash != ContentHash::EMPTY => Some(hash),
                _ => None,
            })
            .collect();
        let is_kept = |removal: &FileRemoval| {
            let is_wanted =
                refused.contains(&removal.file.content.hash) || sources.contains(&removal.file.path);
            // A file that needs this place could never be put there if it stayed; the vault has its content in
            // any case.
            is_wanted && !removal.in_the_way
        };
        for removal in self.removals.extract_if(.., |removal| is_kept(removal)) {
            let kind = EntryKind::Deleted { folder: false };
            let entry = RemoteEntry { path: removal.file.path, uid: removal.uid, kind, mtime: 0, ctime: 0 };
            self.refused.push((
                entry,
                "kept: the vault has the same content under another name, which cannot be had here"
                    .to_owned(),
            ));
        }
    }
}

fn swap((reason, entry): (String, RemoteEntry)) -> (RemoteEntry, String) {
    (entry, reason)
}

/// Parent folders of a path, nearest first.
fn above(path: &VaultPath) -> impl Iterator<Item = &str> {
    let path = path.as_str();
    path.rmatch_indices('/').map(|(at, _)| &path[..at])
}
