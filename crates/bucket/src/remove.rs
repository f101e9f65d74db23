//! Removes objects, in bulk where the service can: files that the vault deleted, and what is obsync's own.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use object_store::path::Path;
use obsync_core::{Removable, Removal, StoreError};
use obsync_protocol::VaultPath;

use super::aside::keep_beside;
use super::conditions::Conditional;
use super::known::Occupant;
use super::listing::PAGE;
use super::objects::{Doomed, is_older};
use super::shared::Shared;
use super::stages::Stage;
use super::trouble::{Action, Trouble};
use obsync_core::blocking::lock;

/// After how long an upload of which nothing tells whose it is counts as forgotten.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// How long the end of a run waits for uploads to be aborted. What is not by then is aborted by a later run.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);

/// How often a removal is tried while somebody else keeps changing what is at its path.
const ATTEMPTS: usize = 4;

/// What is to be done about one file.
enum Fate {
    Known(Result<Removal, StoreError>),
    Doomed(Doomed),
}

/// Removes files whose content still is what obsync wrote. Answers in order.
pub(super) async fn remove_files(shared: &Shared, files: Vec<Removable>) -> Vec<Result<Removal, StoreError>> {
    if shared.options.keep_deleted {
        return files.into_iter().map(|_| Ok(Removal::Retained)).collect();
    }
    let mut answers: Vec<Option<Result<Removal, StoreError>>> = files.iter().map(|_| None).collect();
    find_out(shared, &files, &mut answers).await;
    for _ in 0..ATTEMPTS {
        let open: Vec<usize> = (0..files.len()).filter(|index| answers[*index].is_none()).collect();
        if open.is_empty() {
            break;
        }
        for (index, answer) in remove_once(shared, &files, open).await {
            answers[index] = Some(answer);
        }
    }
    let changing = |file: &Removable| {
        Err(shared.site.io(Action::Remove, file.path.as_str(), "another program keeps changing it"))
    };
    let answers = files.iter().zip(answers);
    answers.map(|(file, answer)| answer.unwrap_or_else(|| changing(file))).collect()
}

/// Finds out by the first file that may go whether the service keeps conditions of removals, unless that is known: if it does, what
/// is known of the others spares a look at each.
async fn find_out(shared: &Shared, files: &[Removable], answers: &mut [Option<Result<Removal, StoreError>>]) {
    for (file, answer) in files.iter().zip(answers) {
        if !shared.objects.is_unknown(Conditional::Delete) {
            return;
        }
        match fate(shared, file).await {
            Ok(Fate::Doomed(doomed)) => {
                if shared.objects.find_out_about_removals(&doomed).await {
                    shared.known.put(&file.path, Occupant::Nothing);
                    *answer = Some(Ok(Removal::Removed));
                }
                return;
            }
            Ok(Fate::Known(known)) => *answer = Some(known),
            Err(error) => *answer = Some(Err(error)),
        }
    }
}

/// Removes those of the files that may go. Those that became others meanwhile have no answer.
async fn remove_once(
    shared: &Shared,
    files: &[Removable],
    open: Vec<usize>,
) -> Vec<(usize, Result<Removal, StoreError>)> {
    let fates: Vec<(usize, Fate)> = stream::iter(open)
        .map(|index| async move {
            let fate = fate(shared, &files[index]).await;
            (index, fate.unwrap_or_else(|error| Fate::Known(Err(error))))
        })
        .buffered(shared.options.concurrency)
        .collect()
        .await;
    let doomed = fates.iter().filter_map(|(_, fate)| match fate {
        Fate::Doomed(doomed) => Some(doomed.clone()),
        Fate::Known(_) => None,
    });
    let mut removed = shared.objects.delete(doomed.collect()).await.into_iter();
    let mut answers = Vec::with_capacity(fates.len());
    for (index, fate) in fates {
        let path = &files[index].path;
        let answer = match fate {
            Fate::Known(answer) => answer,
            Fate::Doomed(_) => match removed.next() {
                Some(Ok(())) => {
                    shared.site.succeeded(Action::Remove);
                    shared.known.put(path, Occupant::Nothing);
                    Ok(Removal::Removed)
                }
                Some(Err(trouble)) if trouble.is_conflict() => {
                    shared.known.forget(path);
                    continue;
                }
                Some(Err(trouble)) => Err(shared.failed(Action::Remove, path, &trouble)),
                None => Err(shared.site.io(Action::Remove, path.as_str(), "there was no answer for it")),
            },
        };
        answers.push((index, answer));
    }
    answers
}

async fn fate(shared: &Shared, file: &Removable) -> Result<Fate, StoreError> {
    let key = shared.keys.of(&file.path)?;
    // What is known is enough where the removal tells if it is not so any more.
    let known = match shared.objects.keeps(Conditional::Delete) {
        true => shared.known.get(&file.path).filter(|occupant| occupant.facts().is_some()),
        false => None,
    };
    let occupant = match known {
        Some(occupant) => occupant,
        None => shared.look(&file.path, &key).await?,
    };
    let Occupant::Object(facts) = occupant else {
        return Ok(Fate::Known(Ok(Removal::Missing)));
    };
    Ok(match shared.has(&file.path, &key, &facts, file.content).await? {
        true => Fate::Doomed(Doomed { key, version: Some(facts.version) }),
        false => Fate::Known(Ok(Removal::Kept)),
    })
}

/// Moves what is at `path` to a free name beside it.
pub(super) async fn set_aside(shared: &Shared, path: &VaultPath) -> Result<VaultPath, StoreError> {
    let key = shared.keys.of(path)?;
    // A service that calls every removal a conflict would get one copy after the other.
    for _ in 0..ATTEMPTS {
        let Occupant::Object(facts) = shared.look(path, &key).await? else {
            return Err(shared.site.io(Action::Look, path.as_str(), "there is nothing there"));
        };
        let Some(aside) = keep_beside(shared, path, &key, &facts).await? else {
            continue;
        };
        let doomed = Doomed { key: key.clone(), version: Some(facts.version) };
        match shared.objects.delete(vec![doomed]).await.pop().unwrap_or(Ok(())) {
            Ok(()) => {
                shared.known.put(path, Occupant::Nothing);
                return Ok(aside);
            }
            // What is there now is kept as well.
            Err(trouble) if trouble.is_conflict() => {}
            Err(trouble) => return Err(shared.failed(Action::Remove, path, &trouble)),
        }
    }
    Err(shared.site.io(Action::Remove, path.as_str(), "another program keeps changing it"))
}

impl Shared {
    /// Removes copies that were parked and have found their place. What stays is removed at the end of a complete run.
    pub(super) async fn discard_parked(&self, parked: Vec<Path>) {
        if parked.is_empty() {
            return;
        }
        let parked = parked.into_iter().map(|key| Doomed { key, version: None }).collect();
        for trouble in self.objects.delete(parked).await.into_iter().filter_map(Result::err) {
            tracing::warn!(
                ?trouble,
                "a copy that is not needed any more could not be removed; a later run does it"
            );
            self.swept.store(false, Ordering::Relaxed);
        }
    }

    /// Lets go of all that is staged.
    pub(super) async fn discard_stages(&self) {
        let stages = self.stages.take_all();
        let parked = stages.iter().filter_map(|stage| match stage {
            Stage::Parked(key, _) => Some(key.clone()),
            Stage::Content { .. } | Stage::Upload { .. } | Stage::Original(..) => None,
        });
        self.discard_parked(parked.collect()).await;
        // Uploads are aborted when they are dropped.
        drop(stages);
        if !self.objects.settle(SETTLE_LIMIT).await {
            tracing::warn!("uploads are still being aborted; a later run looks for those that are left");
        }
    }

    /// Removes what runs that were killed left: parked copies, and uploads that nobody will complete.
    pub(super) async fn sweep(&self) -> Result<(), StoreError> {
        if self.swept.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let list = |trouble| self.site.bucket_error(Action::List, &trouble);
        let (own, age) = (self.keys.own_prefix(), self.options.abandoned_after);
        let left = self.objects.list(&own, PAGE).try_filter_map(async |object| {
            // A younger one may be in the hands of another machine.
            let is_left =
                object.modified.is_some_and(|modified| is_older(modified, age) && self.may_be_left(modified))
                    && self.keys.is_own(&object.key);
            Ok(if is_left { Path::parse(object.key).ok() } else { None })
        });
        let left: Vec<Path> = left.try_collect().await.map_err(list)?;
        self.discard_parked(left).await;
        match self.abort_uploads().await {
            Ok(0) => {}
            Ok(aborted) => tracing::info!(aborted, "aborted uploads that an earlier run left"),
            // The right to list uploads is one of its own; without it, they are for the bucket's life cycle rules.
            Err(trouble) => tracing::warn!(?trouble, "cannot look for uploads that earlier runs left"),
        }
        Ok(())
    }

    /// Aborts this vault's uploads that nobody will complete, and tells how many. Those of which nothing tells whose they are
    /// (a file that was renamed or deleted since its upload was killed leaves such) are aborted after a day; all
    /// others, such as other vaults' and other programs', are for their owners and the bucket's life cycle rules.
    async fn abort_uploads(&self) -> Result<usize, Trouble> {
        let open = self.objects.open_uploads(self.keys.prefix(), self.options.abandoned_after).await?;
        stream::iter(open.into_iter().filter(|upload| self.may_be_left(upload.begun)))
            .map(|upload| async move {
                let is_left = match self.is_ours(&upload.key).await? {
                    Some(is_ours) => is_ours,
                    None => is_older(upload.begun, FORGOTTEN),
                };
                Ok(is_left && self.objects.abort_upload(&upload).await?)
            })
            .buffer_unordered(self.options.concurrency)
            .try_fold(0, async |aborted, was_open| Ok(aborted + usize::from(was_open)))
            .await
    }

    /// Whether something of this time can be this run's, or that of one before it.
    fn may_be_left(&self, time: Timestamp) -> bool {
        self.options.abandoned_before.is_none_or(|end| Timestamp::try_from(end).is_ok_and(|end| time <= end))
    }

    /// Whether an upload for this key is ours: this run began one, or what is there is this vault's. `None`: there is nothing
    /// that tells.
    async fn is_ours(&self, key: &Path) -> Result<Option<bool>, Trouble> {
        if lock(&self.begun).contains(key) {
            return Ok(Some(true));
        }
        let Some(facts) = self.objects.head(key).await? else { return Ok(None) };
        Ok(Some(facts.stamp.is_some_and(|stamp| stamp.vault.as_ref() == self.vault())))
    }
}
