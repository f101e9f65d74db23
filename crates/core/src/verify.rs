//! Compares a destination with the state: every file is read and hashed, or compared by its object's
//! metadata. Also reports gaps that the state knows of: an incomplete pull, failed changes, changes that a
//! push left alone, held-back deletions.

use std::collections::{HashMap, HashSet};

use futures_util::future::BoxFuture;
use obsync_protocol::{Filter, VaultPath, Verdict};
use serde::Serialize;

use crate::conflicted_copy::is_configuration;
use crate::destination::{Checked, CheckedBy, Destination, DestinationError, Inventory, StoredFile, Wanted};
use crate::model::{DeferredCause, DeferredKey, DeferredKind, Direction, FileMeta, Intent, KnownContent};
use crate::progress::Progress;
use crate::report::{Failure, Tally};
use crate::state::{self, StateError, StateStore, VaultState};

/// Files checked at once: enough to keep a disk busy, few enough for progress to move.
const BATCH: usize = 256;

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Verification {
    /// The vault version that the destination was compared with.
    pub version: u64,
    /// Number of files that are exactly as recorded in the state.
    pub intact: Tally,
    /// Number of intact files that were read and hashed.
    pub read: Tally,
    /// Number of intact files that were compared by size and by the SHA-256 in the object's metadata, without reading
    /// them.
    pub compared: Tally,
    /// Files of the vault that are missing.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub missing: Vec<VaultPath>,
    /// Files of the vault whose content differs from what obsync wrote.
    pub changed: Vec<ChangedFile>,
    /// Files that a run had placed or was replacing when it was killed, before it recorded them. The next pull
    /// compares and records them.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub left_by_killed_run: Vec<VaultPath>,
    /// Files that were kept when the vault deleted or renamed them. Their metadata says that they belong to this
    /// vault.
    pub retained: Vec<String>,
    /// Files that are not part of the vault as last pulled.
    pub extra: Vec<String>,
    /// Number of other files, which no run syncs: files that Obsidian never syncs, files that the last run's filter
    /// leaves out, and in a synced folder the configuration that is only here. They are not an error.
    pub never_synced: u64,
    /// These files.
    #[serde(skip)]
    pub never_synced_files: Vec<String>,
    /// Folders that cannot be read.
    pub unreadable: Vec<String>,
    /// Files of the vault that could not be read, or are in unreadable folders: they may be as recorded, or
    /// not.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub unverified: Vec<VaultPath>,
    /// Why the destination is not the whole vault, although its files may be as recorded.
    pub unfinished: Vec<Unfinished>,
    /// Changes of the vault that could not be applied.
    pub failures: Vec<Failure>,
    /// Number of `failures` that no run can resolve, unless the vault changes them again. `--accept-failures` accepts
    /// them.
    pub lasting_failures: u64,
    /// Failures that can never be resolved here, accepted by the user. They are not an error.
    pub accepted_failures: u64,
    /// Changes of the vault that a push left alone.
    pub diverged: Vec<String>,
    /// Deletions here that are held back until they are confirmed. Until then, the files count as files of the vault.
    pub held_back: Vec<String>,
    /// Deletions in the vault that are held back until they are confirmed, of files that were deleted here.
    pub held_back_in_vault: Vec<String>,
    /// Confirmed deletions, here or in the vault, that no run has made yet.
    pub confirmed: Vec<String>,
    /// Number of them that are to be made here.
    #[serde(skip)]
    pub confirmed_here: u64,
    /// Every checked file, with the method of comparison; only with `--list-files`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<VerifiedFile>>,
}

/// A file whose content differs from what obsync wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChangedFile {
    /// Its path.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub path: VaultPath,
    /// How the file was compared.
    pub checked_by: CheckedBy,
}

/// A file of the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct VerifiedFile {
    /// Its path.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub path: VaultPath,
    /// True if the file is as recorded in the state. A file that could not be read is also in `unverified`.
    pub intact: bool,
    /// How the file was compared.
    pub checked_by: CheckedBy,
}

/// Why a destination is not the whole vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Unfinished {
    /// The first pull did not finish.
    FirstPull,
    /// A full pull or sync did not finish.
    FullPull,
    /// A pull with another filter did not finish.
    OtherChoice,
    /// A pull that keeps everything did not finish.
    KeepEverything,
    /// A run was killed while it put files in place.
    Killed,
    /// A run was stopped, was killed or failed, and no later run finished.
    Interrupted,
    /// Everything of the vault is here, but a run ended while it sent local changes.
    Unsent,
}

impl Unfinished {
    /// The incomplete runs according to a state. If a run `is_at_work`, its announced and unfinished changes
    /// are no sign of a killed one.
    pub async fn of(state: &dyn StateStore, is_at_work: bool) -> Result<Vec<Self>, StateError> {
        let known = state.load().await?;
        let mut unfinished = Self::in_state(&known);
        if is_at_work {
            return Ok(unfinished);
        }
        let intents = state.intents().await?;
        // Unsent changes say nothing about files here: a stopped run leaves them, too. What a later run did not
        // find in the vault, that run sent again.
        let is_unsent = |intent: &Intent| matches!(intent, Intent::Push { missing_since: None, .. });
        if intents.iter().any(|intent| !intent.is_push()) {
            unfinished.push(Unfinished::Killed);
        }
        let last = state.last_run().await?;
        if unfinished.is_empty() && last.is_some_and(|run| run.is_cut_short()) {
            unfinished.push(Unfinished::Interrupted);
        }
        if unfinished.is_empty() && intents.iter().any(is_unsent) {
            unfinished.push(Unfinished::Unsent);
        }
        Ok(unfinished)
    }

    fn in_state(known: &VaultState) -> Vec<Self> {
        let reasons = [
            (!known.listed, Unfinished::FirstPull),
            (known.full_up_to.is_some(), Unfinished::FullPull),
            (known.listed && known.filter.is_none(), Unfinished::OtherChoice),
            (known.keeping, Unfinished::KeepEverything),
        ];
        reasons.into_iter().filter(|(holds, _)| *holds).map(|(_, reason)| reason).collect()
    }
}

impl Verification {
    /// True if the destination equals the vault as last pulled: the state is right, and nothing is left to
    /// do.
    pub fn is_clean(&self) -> bool {
        self.is_as_recorded()
            && self.unfinished.is_empty()
            && self.failures.is_empty()
            && self.diverged.is_empty()
            && self.held_back.is_empty()
            && self.held_back_in_vault.is_empty()
            && self.confirmed.is_empty()
    }

    /// True if files of the vault are missing or changed.
    pub fn differs(&self) -> bool {
        !self.missing.is_empty() || !self.changed.is_empty()
    }

    /// True if the destination is exactly as recorded, except for files that were kept on purpose.
    pub fn is_as_recorded(&self) -> bool {
        self.missing.is_empty()
            && self.changed.is_empty()
            && self.extra.is_empty()
            && self.left_by_killed_run.is_empty()
            && self.unverified.is_empty()
    }

    fn sort(&mut self) {
        self.missing.sort();
        self.changed.sort_by(|one, other| one.path.cmp(&other.path));
        self.left_by_killed_run.sort();
        self.retained.sort();
        self.extra.sort();
        self.unreadable.sort();
        self.unverified.sort();
        [&mut self.diverged, &mut self.held_back, &mut self.held_back_in_vault, &mut self.confirmed]
            .into_iter()
            .for_each(|paths| paths.sort());
        if let Some(files) = &mut self.files {
            files.sort_by(|one, other| one.path.cmp(&other.path));
        }
    }
}

/// The reason why a destination could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The destination cannot be read.
    #[error(transparent)]
    Store(#[from] DestinationError),
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Checks every file of the destination, while no run is at work, and compares it with the state. Changes
/// nothing. With `lists` every file is named.
pub fn verify<'a>(
    destination: &'a dyn Destination,
    state: &'a dyn StateStore,
    lists: bool,
    progress: &'a dyn Progress,
) -> BoxFuture<'a, Result<Verification, VerifyError>> {
    Box::pin(verify_here(destination, state, lists, progress))
}

async fn verify_here(
    destination: &dyn Destination,
    state: &dyn StateStore,
    lists: bool,
    progress: &dyn Progress,
) -> Result<Verification, VerifyError> {
    let known = state.load().await?;
    let (version, left_out) = (known.version, LeftOut::of(&known));
    let Inventory { files, unreadable } = destination.list().await?;
    let mut found: HashMap<String, u64> = files.into_iter().map(|file| (file.path, file.size)).collect();
    let mut verification = Verification {
        version,
        unreadable,
        unfinished: Unfinished::of(state, false).await?,
        files: lists.then(Vec::new),
        ..Verification::default()
    };
    let deleted_here = add_deferred(state, &mut verification).await?;
    let mut killed = Killed::of(state).await?;
    let mut present = Vec::new();
    for record in state.all_records().await? {
        let Some(meta) = record.file() else { continue };
        let is_hidden = || {
            verification.unreadable.iter().any(|folder| {
                record.path.as_str().strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'))
            })
        };
        match found.remove(record.path.as_str()) {
            Some(_) => present.push(Wanted { hash: meta.hash, size: meta.size, path: record.path }),
            None if is_hidden() => verification.unverified.push(record.path),
            None if killed.was_about_to_remove(&record.path) => {
                verification.left_by_killed_run.push(record.path);
            }
            None if deleted_here.contains(record.path.as_str()) => {}
            None => verification.missing.push(record.path),
        }
    }
    progress.planned(present.len() as u64, present.iter().map(|wanted| wanted.size).sum());
    for batch in present.chunks(BATCH) {
        let checked = destination.check(batch.to_vec()).await?;
        for (wanted, checked) in batch.iter().zip(checked) {
            progress.placed(wanted.size);
            verification.take(wanted, checked, &mut killed, destination).await?;
        }
    }
    let known_as_retained = state::retained(state, |_| true).await?;
    let known_as_retained: HashSet<&str> = known_as_retained.iter().map(DeferredKey::shown).collect();
    let rest: Vec<StoredFile> = found.into_iter().map(|(path, size)| StoredFile { path, size }).collect();
    for batch in rest.chunks(BATCH) {
        let retained = destination.retained(batch.to_vec()).await?;
        for (file, is_retained) in batch.iter().zip(retained) {
            match killed.put(&file.path, destination).await? {
                Some(path) => verification.left_by_killed_run.push(path),
                None if is_retained || known_as_retained.contains(file.path.as_str()) => {
                    verification.retained.push(file.path.clone())
                }
                None if left_out.covers(&file.path) => {
                    verification.never_synced_files.push(file.path.clone());
                }
                None => verification.extra.push(file.path.clone()),
            }
        }
    }
    verification.never_synced = verification.never_synced_files.len() as u64;
    verification.sort();
    Ok(verification)
}

impl Verification {
    /// Checks one file of the vault that is there.
    async fn take(
        &mut self,
        wanted: &Wanted,
        checked: Checked,
        killed: &mut Killed,
        destination: &dyn Destination,
    ) -> Result<(), DestinationError> {
        let Checked { holds, is_unreadable, by } = checked;
        if let Some(files) = &mut self.files {
            files.push(VerifiedFile { path: wanted.path.clone(), intact: holds, checked_by: by });
        }
        if holds {
            self.intact.add(wanted.size);
            match by {
                CheckedBy::Read => self.read.add(wanted.size),
                CheckedBy::Metadata => self.compared.add(wanted.size),
            }
        } else if let Some(path) = killed.put(wanted.path.as_str(), destination).await? {
            self.left_by_killed_run.push(path);
        } else if is_unreadable {
            self.unverified.push(wanted.path.clone());
        } else {
            self.changed.push(ChangedFile { path: wanted.path.clone(), checked_by: by });
        }
        Ok(())
    }
}

/// Adds the changes that were not applied. Returns the files that were deleted here and that the vault still
/// has, because their deletion waits.
async fn add_deferred(
    state: &dyn StateStore,
    verification: &mut Verification,
) -> Result<HashSet<String>, StateError> {
    let mut deleted_here = HashSet::new();
    for deferred in state.deferred(DeferredKind::Failed).await? {
        let path = deferred.key.shown().to_owned();
        let is_outgoing = deferred.key.is_outgoing();
        match &deferred.cause {
            // A file with a waiting outgoing change is right here.
            DeferredCause::Failed { .. } if is_outgoing => {}
            DeferredCause::Failed { .. } | DeferredCause::Lasting { .. } => {
                let is_lasting = matches!(deferred.cause, DeferredCause::Lasting { .. });
                verification.lasting_failures += u64::from(is_lasting);
                verification.failures.extend(Failure::of_deferred(&deferred));
            }
            DeferredCause::Diverged => verification.diverged.push(path),
            // Folders that become empty are removed with their files.
            DeferredCause::HeldBack { .. } if deferred.message.folder => {}
            DeferredCause::HeldBack { confirmed } => {
                if is_outgoing {
                    deleted_here.insert(path.clone());
                }
                verification.confirmed_here += u64::from(confirmed.is_some() && !is_outgoing);
                let waiting = match (confirmed, is_outgoing) {
                    (Some(_), _) => &mut verification.confirmed,
                    (None, true) => &mut verification.held_back_in_vault,
                    (None, false) => &mut verification.held_back,
                };
                waiting.push(path);
            }
            DeferredCause::Acknowledged { .. } => verification.accepted_failures += 1,
            DeferredCause::Filtered | DeferredCause::Retained => {}
        }
    }
    Ok(deleted_here)
}

/// Paths that no run pulls or sends (docs/PROTOCOL.md section 5).
struct LeftOut {
    filter: Filter,
    /// True if runs send; then they ignore a configuration folder.
    sends: bool,
}

impl LeftOut {
    fn of(known: &VaultState) -> Self {
        let filter = known.filter.as_deref().and_then(Filter::of_fingerprint).unwrap_or_default();
        LeftOut { filter, sends: known.direction != Direction::Pull }
    }

    fn covers(&self, path: &str) -> bool {
        let Ok(path) = VaultPath::parse(path) else { return false };
        self.filter.verdict(&path, false) != Verdict::Sync || (self.sends && is_configuration(&path))
    }
}

/// The announced changes of a killed run.
struct Killed {
    put: HashMap<VaultPath, FileMeta>,
    removed: HashMap<VaultPath, KnownContent>,
}

impl Killed {
    async fn of(state: &dyn StateStore) -> Result<Self, StateError> {
        let mut killed = Killed { put: HashMap::new(), removed: HashMap::new() };
        for intent in state.intents().await? {
            match intent {
                Intent::Place(record) => {
                    if let Some(meta) = record.file() {
                        killed.put.insert(record.path.clone(), meta.clone());
                    }
                }
                Intent::Remove { path, content } => {
                    killed.removed.insert(path, content);
                }
                Intent::Exchange { .. } | Intent::Push { .. } => {}
            }
        }
        Ok(killed)
    }

    fn was_about_to_remove(&self, path: &VaultPath) -> bool {
        self.removed.contains_key(path)
    }

    /// The path, if it has the very content that the run was about to put there.
    async fn put(
        &mut self,
        path: &str,
        destination: &dyn Destination,
    ) -> Result<Option<VaultPath>, DestinationError> {
        let Ok(path) = VaultPath::parse(path) else { return Ok(None) };
        let Some(meta) = self.put.get(&path) else { return Ok(None) };
        let wanted = Wanted { path: path.clone(), hash: meta.hash, size: meta.size };
        let checked = destination.check(vec![wanted]).await?;
        Ok(checked.first().is_some_and(|checked| checked.holds).then_some(path))
    }
}
