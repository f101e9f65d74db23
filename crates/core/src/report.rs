//! The report of a pull, for people and for scripts (`obsync pull --json` prints this).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use obsync_protocol::limits::{CONFIG_DIRS_NAMED, FAILURES_LISTED};
use obsync_protocol::{Filter, SkipReason, Uid, VaultId, VaultInfo, VaultPath};
use serde::Serialize;

use crate::foreseen::Foreseen;
use crate::identity::Doubt;
use crate::model::{Deferred, Direction};
use crate::problem::Ending;

/// How a pull ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Outcome {
    /// The destination is what the vault was when it was listed.
    Complete,
    /// So it is, but for the failures reported.
    Failures,
    /// The vault on the server is older than the destination. Nothing was removed, and only entries newer than the files
    /// here were applied.
    VaultOlder,
    /// So it is, but for deletions that somebody has to confirm, and for the failures reported.
    HeldBack,
    /// The pull was told to stop; what is done is kept, and the next one goes on from there.
    Interrupted,
    /// Nothing was done: this is what a pull would do.
    DryRun,
}

impl From<Outcome> for Ending {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Complete => Ending::Complete,
            Outcome::Failures => Ending::Failures,
            Outcome::VaultOlder => Ending::VaultOlder,
            Outcome::HeldBack => Ending::HeldBack,
            Outcome::Interrupted => Ending::Interrupted,
            Outcome::DryRun => Ending::DryRun,
        }
    }
}

/// A number of files and the bytes of their content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Tally {
    /// Number of files.
    pub files: u64,
    /// Bytes of content (plaintext).
    pub bytes: u64,
}

impl Tally {
    fn is_none(&self) -> bool {
        self.files == 0
    }

    /// Counts one more file.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// A change that could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Failure {
    /// The path, or the encoded path if it could not be decoded.
    pub path: String,
    /// The version of the change in the vault.
    #[cfg_attr(feature = "schema", schemars(with = "u64"))]
    pub uid: Uid,
    /// The reason, in a sentence.
    pub reason: String,
}

impl Failure {
    /// The failure that a deferred change describes, if it is one, accepted or not.
    pub(crate) fn of_deferred(deferred: &Deferred) -> Option<Self> {
        let reason = deferred.cause.reason()?.to_owned();
        Some(Failure { path: deferred.key.shown().to_owned(), uid: deferred.message.uid, reason })
    }
}

/// A file that obsync had not written in its present form, moved out of the way of a file of the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Conflict {
    /// The old path.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub path: VaultPath,
    /// The new path.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub kept_as: VaultPath,
}

/// A file that has another path in the vault, and here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MovedFile {
    /// The new path.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub path: VaultPath,
    /// The old path.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub from: VaultPath,
}

/// One step of a dry run, or a file that a run changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Step {
    /// The action.
    pub action: StepAction,
    /// The path.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub path: VaultPath,
    /// Size in bytes, for files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The source of a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub from: Option<VaultPath>,
}

/// JSON of a [`Step`] without its paths, in bytes, in JSON that is a JSON string itself, such as the answer to a
/// request.
const STEP_ROOM: u64 = 128;

/// Upper bound of a path's bytes in such JSON: a quotation mark or a backslash is escaped twice, and every
/// character outside ASCII can be escaped.
fn room_of(path: &VaultPath) -> u64 {
    let room = |character: char| match character {
        '"' | '\\' => 4,
        ' '..='~' => 1,
        other => 7 * other.len_utf16() as u64,
    };
    path.as_str().chars().map(room).sum()
}

/// The action of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum StepAction {
    /// Download a file.
    Download,
    /// Copy the content from another path.
    Copy,
    /// Set only the times.
    Touch,
    /// Remove a file.
    Remove,
    /// Create a folder.
    CreateFolder,
    /// Remove a folder that becomes empty.
    RemoveFolder,
    /// Send a file to the vault.
    Push,
    /// Create a folder in the vault.
    PushFolder,
    /// Delete a file or folder in the vault.
    DeleteInVault,
    /// Merge a file that both sides changed.
    Merge,
    /// Record an existing file as the vault's.
    Adopt,
    /// Keep a file that obsync did not write under another name, because a file of the vault takes its path.
    KeepBeside,
}

/// What a pull did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Report {
    /// How it ended. Not part of the JSON: the frame around it says that.
    #[serde(skip)]
    pub outcome: Outcome,
    /// The newest version of the vault that this run heard of.
    #[serde(skip)]
    pub vault_version: u64,
    /// A file was changed again before it was sent, or could not be read: a later scan is to find it.
    #[serde(skip)]
    pub(crate) was_overtaken: bool,
    /// When the first of the files that the vault refused is sent again, in milliseconds since the epoch.
    #[serde(skip)]
    pub(crate) retry_at: Option<i64>,
    /// The first path to which a file was copied, by the one from which.
    #[serde(skip)]
    pub(crate) copied_from: HashMap<VaultPath, VaultPath>,
    /// What a dry run foresees of the destination.
    #[serde(skip)]
    pub(crate) foreseen: Foreseen,
    /// The vault's id.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub vault_id: VaultId,
    /// The vault's name.
    pub vault: String,
    /// The destination.
    pub destination: String,
    /// The direction of the sync.
    pub direction: Direction,
    /// Name of this device in the vault's history and in the names of conflicted copies; only if changes are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The vault version up to which the destination is complete (its watermark).
    pub version: u64,
    /// The version of the destination before this run.
    pub previous_version: u64,
    /// The version of the vault on the server, if it is older than that of the destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_vault: Option<u64>,
    /// Why the state of the destination was not trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
    /// True if the vault no longer has its formerly newest entry: it was restored from a backup, or replaced.
    #[serde(skip_serializing_if = "is_false")]
    pub vault_restored: bool,
    /// Number of entries that the server listed.
    pub listed: u64,
    /// Downloaded.
    pub pulled: Tally,
    /// Copied from another path of the destination.
    pub copied: Tally,
    /// Found in place or left by an interrupted run, so neither downloaded nor copied.
    pub adopted: Tally,
    /// Removed.
    pub deleted: Tally,
    /// Files whose path changed in the vault: copied from a path that was then removed. They also count in `copied`
    /// and `deleted`.
    #[serde(skip_serializing_if = "Tally::is_none")]
    pub moved: Tally,
    /// Old and new paths of moved files; the first 1,000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub moved_files: Vec<MovedFile>,
    /// Deleted or renamed in the vault, and kept at their paths because of `--keep-deleted`.
    pub retained: Tally,
    /// Paths of removed files, without moved ones; the first 1,000.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub deleted_files: Vec<VaultPath>,
    /// Changed files, in order; only with `--list-changes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<Step>>,
    /// Number of changed files omitted from `changes` for its size.
    #[serde(skip_serializing_if = "is_zero")]
    pub changes_unlisted: u64,
    /// Remaining size of `changes`, in bytes.
    #[serde(skip)]
    pub(crate) changes_room: u64,
    /// Number of folders created.
    pub folders_created: u64,
    /// Number of folders removed.
    pub folders_deleted: u64,
    /// Sent to the vault.
    #[serde(skip_serializing_if = "Tally::is_none")]
    pub pushed: Tally,
    /// Number of folders created in the vault.
    #[serde(skip_serializing_if = "is_zero")]
    pub folders_pushed: u64,
    /// Deleted in the vault.
    #[serde(skip_serializing_if = "Tally::is_none")]
    pub deleted_in_vault: Tally,
    /// Paths deleted in the vault; the first 1,000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub deleted_in_vault_files: Vec<VaultPath>,
    /// Number of folders deleted in the vault.
    #[serde(skip_serializing_if = "is_zero")]
    pub folders_deleted_in_vault: u64,
    /// Changed on both sides, and merged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub merged: Vec<VaultPath>,
    /// Changed in the vault and not applied by a push; the first 1,000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub diverged: Vec<VaultPath>,
    /// Number of files and folders that are not in `diverged`.
    #[serde(skip_serializing_if = "is_zero")]
    pub diverged_unlisted: u64,
    /// Deletions in the vault that are held back until they are confirmed; the first 1,000 files.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub held_back_in_vault: Vec<VaultPath>,
    /// Number of files that are not in `held_back_in_vault`.
    #[serde(skip_serializing_if = "is_zero")]
    pub held_back_in_vault_unlisted: u64,
    /// Left out by the filter.
    pub skipped: Tally,
    /// Skipped files by reason.
    #[cfg_attr(feature = "schema", schemars(with = "std::collections::BTreeMap<String, Tally>"))]
    pub skipped_reasons: BTreeMap<&'static str, Tally>,
    /// Hidden folders that were left out although a file in them shows that a device uses them as its configuration
    /// folder; the first 20.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub other_config_dirs: BTreeSet<String>,
    /// Files with new content that Obsidian runs or applies by itself; the first 1,000.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub code: Vec<VaultPath>,
    /// Deleted in the vault but changed here, so not removed.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub kept: Vec<VaultPath>,
    /// Deletions here that are held back until they are confirmed; the first 1,000 files.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub held_back: Vec<VaultPath>,
    /// Number of files that are not in `held_back`.
    #[serde(skip_serializing_if = "is_zero")]
    pub held_back_unlisted: u64,
    /// Changed or added here, and moved to the destination's trash by a mirror.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub set_aside: Vec<VaultPath>,
    /// Changed or added here, and not reverted, because they are more than a mirror reverts at once; the first 1,000.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub not_taken_back: Vec<VaultPath>,
    /// Number of files that are not in `not_taken_back`.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_taken_back_unlisted: u64,
    /// Files that obsync did not write, kept as conflicted copies.
    pub conflicts: Vec<Conflict>,
    /// Warnings: nothing failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Changes that could not be applied; the first 1,000.
    pub failures: Vec<Failure>,
    /// Number of failures that are not in `failures`.
    pub failures_unlisted: u64,
    /// Whether some of the failures last as long as the vault does not change what failed.
    #[serde(skip)]
    pub has_lasting_failures: bool,
    /// Whether the filter could leave out some of those.
    #[serde(skip)]
    pub has_excludable_failures: bool,
    /// Number of failures that can never be resolved here, accepted by the user.
    #[serde(skip_serializing_if = "is_zero")]
    pub accepted_failures: u64,
    /// The steps of a dry run.
    pub steps: Vec<Step>,
    /// Number of connections opened.
    pub connections: u64,
    /// Number of contents requested.
    pub requests: u64,
    /// Bytes of content received (encrypted).
    pub bytes_received: u64,
    /// Duration in milliseconds.
    pub duration_ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Report {
    /// Adds a warning unless the report has it: several listings of one pull may cause the same.
    pub(crate) fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// The report of a pull that has not done anything yet.
    pub(crate) fn new(vault: &VaultInfo, destination: String, version: u64) -> Self {
        Report {
            outcome: Outcome::Complete,
            vault_version: version,
            was_overtaken: false,
            retry_at: None,
            moved: Tally::default(),
            moved_files: Vec::new(),
            copied_from: HashMap::new(),
            foreseen: Foreseen::default(),
            vault_id: vault.id.clone(),
            vault: vault.name.clone(),
            destination,
            direction: Direction::Pull,
            device: None,
            version,
            previous_version: version,
            older_vault: None,
            doubt: None,
            vault_restored: false,
            listed: 0,
            pulled: Tally::default(),
            copied: Tally::default(),
            adopted: Tally::default(),
            deleted: Tally::default(),
            retained: Tally::default(),
            deleted_files: Vec::new(),
            changes: None,
            changes_unlisted: 0,
            changes_room: 0,
            folders_created: 0,
            folders_deleted: 0,
            pushed: Tally::default(),
            folders_pushed: 0,
            deleted_in_vault: Tally::default(),
            deleted_in_vault_files: Vec::new(),
            folders_deleted_in_vault: 0,
            merged: Vec::new(),
            diverged: Vec::new(),
            diverged_unlisted: 0,
            held_back_in_vault: Vec::new(),
            held_back_in_vault_unlisted: 0,
            skipped: Tally::default(),
            skipped_reasons: BTreeMap::new(),
            other_config_dirs: BTreeSet::new(),
            code: Vec::new(),
            kept: Vec::new(),
            held_back: Vec::new(),
            held_back_unlisted: 0,
            set_aside: Vec::new(),
            not_taken_back: Vec::new(),
            not_taken_back_unlisted: 0,
            conflicts: Vec::new(),
            warnings: Vec::new(),
            failures: Vec::new(),
            failures_unlisted: 0,
            has_lasting_failures: false,
            has_excludable_failures: false,
            accepted_failures: 0,
            steps: Vec::new(),
            connections: 0,
            requests: 0,
            bytes_received: 0,
            duration_ms: 0,
        }
    }

    /// Sets the outcome.
    pub(crate) fn conclude(&mut self, dry_run: bool, stopped: bool) {
        self.failures.sort_by(|a, b| a.path.cmp(&b.path));
        self.code.sort();
        self.code.dedup();
        self.outcome = match (dry_run, stopped, self.failures.is_empty()) {
            // First, because the plan of a stopped dry run is incomplete.
            (_, true, _) => Outcome::Interrupted,
            (true, ..) => Outcome::DryRun,
            _ if self.older_vault.is_some() => Outcome::VaultOlder,
            _ if self.held_back() > 0 || self.not_taken_back() > 0 => Outcome::HeldBack,
            (.., false) => Outcome::Failures,
            (.., true) => Outcome::Complete,
        };
    }

    /// Notes a held-back deletion.
    pub(crate) fn hold_back(&mut self, path: &VaultPath, is_folder: bool) {
        if is_folder {
            return;
        }
        match self.held_back.len() < FAILURES_LISTED {
            true => self.held_back.push(path.clone()),
            false => self.held_back_unlisted += 1,
        }
    }

    /// Notes a file that a mirror leaves as it is.
    pub(crate) fn leave(&mut self, path: &VaultPath) {
        match self.not_taken_back.len() < FAILURES_LISTED {
            true => self.not_taken_back.push(path.clone()),
            false => self.not_taken_back_unlisted += 1,
        }
    }

    /// Number of files that a mirror left as they are.
    pub fn not_taken_back(&self) -> u64 {
        self.not_taken_back.len() as u64 + self.not_taken_back_unlisted
    }

    /// Number of held-back deletions, here and in the vault.
    pub fn held_back(&self) -> u64 {
        self.held_back_here() + self.held_back_in_vault.len() as u64 + self.held_back_in_vault_unlisted
    }

    /// Number of held-back deletions here.
    pub(crate) fn held_back_here(&self) -> u64 {
        self.held_back.len() as u64 + self.held_back_unlisted
    }

    /// Notes a change of the vault that a push does not apply.
    pub(crate) fn diverge(&mut self, path: &VaultPath) {
        if self.diverged.contains(path) {
            return;
        }
        match self.diverged.len() < FAILURES_LISTED {
            true => self.diverged.push(path.clone()),
            false => self.diverged_unlisted += 1,
        }
    }

    /// Notes a deletion that is held back from the vault.
    pub(crate) fn hold_back_in_vault(&mut self, path: &VaultPath) {
        match self.held_back_in_vault.len() < FAILURES_LISTED {
            true => self.held_back_in_vault.push(path.clone()),
            false => self.held_back_in_vault_unlisted += 1,
        }
    }

    /// Number of changes that were not applied.
    pub fn failed(&self) -> u64 {
        self.failures.len() as u64 + self.failures_unlisted
    }

    /// Notes a file that was put in place, or whose times were set.
    pub(crate) fn note_arrival(
        &mut self,
        action: StepAction,
        path: &VaultPath,
        size: u64,
        from: Option<&VaultPath>,
    ) {
        self.note_change(action, path, Some(size), from);
    }

    /// Lists changed files in the report, up to this many bytes of JSON.
    pub(crate) fn list_changes(&mut self, room: Option<u64>) {
        self.changes = room.map(|_| Vec::new());
        self.changes_room = room.unwrap_or_default();
    }

    fn note_change(
        &mut self,
        action: StepAction,
        path: &VaultPath,
        size: Option<u64>,
        from: Option<&VaultPath>,
    ) {
        let Some(changes) = &mut self.changes else { return };
        let room = STEP_ROOM + room_of(path) + from.map_or(0, room_of);
        // The list ends at the first change that does not fit, even if a later one is smaller.
        match self.changes_room.checked_sub(room).filter(|_| self.changes_unlisted == 0) {
            Some(left) => {
                self.changes_room = left;
                changes.push(Step { action, path: path.clone(), size, from: from.cloned() });
            }
            None => self.changes_unlisted += 1,
        }
    }

    /// Notes a copied file. If its source is removed, the copy counts as a move.
    pub(crate) fn note_copy(&mut self, path: &VaultPath, from: &VaultPath) {
        self.copied_from.entry(from.clone()).or_insert_with(|| path.clone());
    }

    /// Counts a removed file. Returns whether it was moved.
    pub(crate) fn count_removal(&mut self, path: &VaultPath, size: u64) -> bool {
        self.deleted.add(size);
        let Some(to) = self.copied_from.remove(path) else { return false };
        self.moved.add(size);
        if self.moved_files.len() < FAILURES_LISTED {
            self.moved_files.push(MovedFile { from: path.clone(), path: to });
        }
        true
    }

    /// Notes a removed file.
    pub(crate) fn note_removal(&mut self, path: &VaultPath, size: u64) {
        let is_moved = self.count_removal(path, size);
        if !is_moved && self.deleted_files.len() < FAILURES_LISTED {
            self.deleted_files.push(path.clone());
        }
        self.note_arrival(StepAction::Remove, path, size, None);
    }

    /// Notes a file that was deleted in the vault.
    pub(crate) fn delete_in_vault(&mut self, path: &VaultPath, size: u64) {
        self.deleted_in_vault.add(size);
        if self.deleted_in_vault_files.len() < FAILURES_LISTED {
            self.deleted_in_vault_files.push(path.clone());
        }
    }

    /// Notes a merged file.
    pub(crate) fn note_merged(&mut self, path: &VaultPath) {
        self.merged.push(path.clone());
        self.note_step(StepAction::Merge, path, None);
    }

    /// Notes a step that a sync has beyond those of a pull.
    pub(crate) fn note_step(&mut self, action: StepAction, path: &VaultPath, size: Option<u64>) {
        self.note_change(action, path, size, None);
    }

    /// Notes a change that was not applied.
    pub(crate) fn fail(&mut self, failure: Failure) {
        if self.failures.len() < FAILURES_LISTED {
            self.failures.push(failure);
        } else {
            self.failures_unlisted += 1;
        }
    }

    /// Removes a failure: the same run applied a later change of the path.
    pub(crate) fn withdraw_failure(&mut self, path: &VaultPath) {
        match self.failures.iter().position(|failure| failure.path == path.as_str()) {
            Some(listed) => drop(self.failures.remove(listed)),
            None => self.failures_unlisted = self.failures_unlisted.saturating_sub(1),
        }
        if self.failed() == 0 {
            self.has_lasting_failures = false;
            self.has_excludable_failures = false;
        }
    }

    /// Removes all failures, because all of them are retried.
    pub(crate) fn forget_failures(&mut self) {
        self.failures.clear();
        self.held_back.clear();
        self.held_back_unlisted = 0;
        self.held_back_in_vault.clear();
        self.held_back_in_vault_unlisted = 0;
        self.failures_unlisted = 0;
        self.retry_at = None;
        self.accepted_failures = 0;
        self.has_lasting_failures = false;
        self.has_excludable_failures = false;
    }

    /// Notes a file that the filter excludes.
    pub(crate) fn skip(&mut self, path: &VaultPath, reason: SkipReason, bytes: u64, filter: &Filter) {
        self.skipped.add(bytes);
        if let Some(folder) = filter.other_config_dir(path)
            && self.other_config_dirs.len() < CONFIG_DIRS_NAMED
        {
            self.other_config_dirs.insert(folder.to_owned());
        }
        self.skipped_reasons.entry(reason.name()).or_default().add(bytes);
    }

    /// Notes a file with new content if it is code.
    pub(crate) fn note_code(&mut self, path: &VaultPath, filter: &Filter) {
        if self.code.len() < FAILURES_LISTED && filter.is_code(path) {
            self.code.push(path.clone());
        }
    }

    /// True if nothing had to be done.
    pub fn is_unchanged(&self) -> bool {
        self.did_nothing() && self.failures.is_empty()
    }

    /// True if nothing was done, apart from failures.
    pub fn did_nothing(&self) -> bool {
        self.pulled.files == 0
            && self.copied.files == 0
            && self.adopted.files == 0
            && self.deleted.files == 0
            && self.retained.files == 0
            && self.folders_created == 0
            && self.folders_deleted == 0
            && self.pushed.files == 0
            && self.folders_pushed == 0
            && self.deleted_in_vault.files == 0
            && self.folders_deleted_in_vault == 0
            && self.merged.is_empty()
            && self.set_aside.is_empty()
            && self.diverged.is_empty()
            && self.conflicts.is_empty()
            && self.kept.is_empty()
    }
}
