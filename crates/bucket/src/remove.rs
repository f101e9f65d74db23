//! Removes objects, in bulk where the service can: files that the vault deleted, and obsync's own temporary
//! ones.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use object_store::path::Path;
use obsync_core::{DestinationError, Removable, Removal};
use obsync_protocol::VaultPath;

use super::conflict::keep_beside;
use super::context::Context;
use super::error::RequestError;
use super::error_context::{Action, again};
use super::listing::PAGE;
use super::object_cache::Occupant;
use super::objects::{Doomed, is_older};
use super::staging::Stage;
use obsync_core::blocking::lock;

/// Age after which an upload of unknown owner counts as abandoned.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// Longest wait at the end of a run for uploads to be aborted. A later run aborts the rest.
const DRAIN_LIMIT: Duration = Duration::from_secs(15);

/// Attempts at a removal while somebody else keeps changing the object at its path.
const ATTEMPTS: usize = 4;

/// The decision about one file.
enum Fate {
    Decided(Result<Removal, DestinationError>),
    Doomed(Doomed),
}

/// Removes files whose content is still the one that obsync wrote. Answers in order.
pub(super) async fn remove_files(
    context: &Context,
    files: Vec<Removable>,
) -> Vec<Result<Removal, DestinationError>> {
    if context.options.keep_deleted {
        return files.into_iter().map(|_| Ok(Removal::Retained)).collect();
    }
    if let Err(error) = context.park_originals(files.iter().map(|file| &file.path)).await {
        return files.iter().map(|_| Err(again(&error))).collect();
    }
    let mut answers: Vec<Option<Result<Removal, DestinationError>>> = files.iter().map(|_| None).collect();
    find_out(context, &files, &mut answers).await;
    let mut conflicts: Vec<Option<RequestError>> = vec![None; files.len()];
    for _ in 0..ATTEMPTS {
        let open: Vec<usize> = (0..files.len()).filter(|index| answers[*index].is_none()).collect();
        if open.is_empty() {
            break;
        }
        for (index, answer) in remove_once(context, &files, open).await {
            match answer {
                Ok(answer) => answers[index] = Some(answer),
                Err(conflict) => conflicts[index] = Some(conflict),
            }
        }
    }
    let changing = |file: &Removable, conflict: Option<RequestError>| {
        Err(match conflict {
            Some(error) => context.failed(Action::Remove, &file.path, &error.into_hopeless()),
            None => {
                context.errors.io(Action::Remove, file.path.as_str(), "another program keeps changing it")
            }
        })
    };
    let answers = files.iter().zip(answers).zip(conflicts);
    answers.map(|((file, answer), conflict)| answer.unwrap_or_else(|| changing(file, conflict))).collect()
}

/// Probes with the first removable files whether the service honours conditions of removals, unless that is
/// known. If it does, cached facts of the other files replace a look at each.
async fn find_out(
    context: &Context,
    files: &[Removable],
    answers: &mut [Option<Result<Removal, DestinationError>>],
) {
    for (file, answer) in files.iter().zip(answers) {
        if !context.objects.are_removals_unknown() {
            break;
        }
        match fate(context, file).await {
            Ok(Fate::Doomed(doomed)) => {
                if context.objects.find_out_about_removals(&doomed).await {
                    context.cache.put(&file.path, Occupant::Nothing);
                    *answer = Some(Ok(Removal::Removed));
                }
            }
            Ok(Fate::Decided(known)) => *answer = Some(known),
            Err(error) => *answer = Some(Err(error)),
        }
    }
    context.objects.warn_of_removals();
}

/// Removes the files that may be removed. Those changed meanwhile have the conflict in place of an answer.
async fn remove_once(
    context: &Context,
    files: &[Removable],
    open: Vec<usize>,
) -> Vec<(usize, Result<Result<Removal, DestinationError>, RequestError>)> {
    let fates: Vec<(usize, Fate)> = stream::iter(open)
        .map(|index| async move {
            let fate = fate(context, &files[index]).await;
            (index, fate.unwrap_or_else(|error| Fate::Decided(Err(error))))
        })
        .buffered(context.options.concurrency)
        .collect()
        .await;
    let doomed = fates.iter().filter_map(|(_, fate)| match fate {
        Fate::Doomed(doomed) => Some(doomed.clone()),
        Fate::Decided(_) => None,
    });
    let mut removed = context.objects.delete(doomed.collect()).await.into_iter();
    let mut answers = Vec::with_capacity(fates.len());
    for (index, fate) in fates {
        let path = &files[index].path;
        let answer = match fate {
            Fate::Decided(answer) => answer,
            Fate::Doomed(_) => match removed.next() {
                Some(Ok(())) => {
                    context.errors.succeeded(Action::Remove);
                    context.cache.put(path, Occupant::Nothing);
                    Ok(Removal::Removed)
                }
                Some(Err(error)) if error.is_conflict() => {
                    context.cache.forget(path);
                    answers.push((index, Err(error)));
                    continue;
                }
                Some(Err(error)) => Err(context.failed(Action::Remove, path, &error)),
                None => Err(context.errors.io(Action::Remove, path.as_str(), "there was no answer for it")),
            },
        };
        answers.push((index, Ok(answer)));
    }
    answers
}

async fn fate(context: &Context, file: &Removable) -> Result<Fate, DestinationError> {
    let key = context.keys.of(&file.path)?;
    // Cached facts suffice if the removal's condition detects that they are stale.
    let known = match context.objects.keeps_removals() {
        true => context.cache.get(&file.path).filter(|occupant| occupant.facts().is_some()),
        false => None,
    };
    let occupant = match known {
        Some(occupant) => occupant,
        None => context.look(&file.path, &key).await?,
    };
    let Occupant::Object(facts) = occupant else {
        return Ok(Fate::Decided(Ok(Removal::Missing)));
    };
    Ok(match context.has(&file.path, &key, &facts, file.content).await? {
        true => Fate::Doomed(Doomed { key, version: Some(facts.version) }),
        false => Fate::Decided(Ok(Removal::Kept)),
    })
}

/// Moves the object at `path` to a free name beside it.
pub(super) async fn set_aside(context: &Context, path: &VaultPath) -> Result<VaultPath, DestinationError> {
    let key = context.keys.of(path)?;
    // With a service that reports every removal as a conflict this would make one copy after the other.
    for _ in 0..ATTEMPTS {
        let Occupant::Object(facts) = context.look(path, &key).await? else {
            return Err(context.errors.io(Action::Look, path.as_str(), "there is nothing there"));
        };
        let Some(kept_as) = keep_beside(context, path, &key, &facts).await? else {
            continue;
        };
        let doomed = Doomed { key: key.clone(), version: Some(facts.version) };
        match context.objects.delete(vec![doomed]).await.pop().unwrap_or(Ok(())) {
            Ok(()) => {
                context.cache.put(path, Occupant::Nothing);
                return Ok(kept_as);
            }
            // The present object is kept as well.
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(context.failed(Action::Remove, path, &error)),
        }
    }
    Err(context.errors.io(Action::Remove, path.as_str(), "another program keeps changing it"))
}

impl Context {
    /// Removes parked copies that have been copied to their place. Remaining ones are removed at the end of a
    /// full run.
    pub(super) async fn discard_parked(&self, parked: Vec<Path>) {
        if parked.is_empty() {
            return;
        }
        let parked = parked.into_iter().map(|key| Doomed { key, version: None }).collect();
        for error in self.objects.delete(parked).await.into_iter().filter_map(Result::err) {
            tracing::warn!(
                ?error,
                "a copy that is not needed any more could not be removed; a later run does it"
            );
            self.swept.store(false, Ordering::Relaxed);
        }
    }

    /// Drops all staged contents.
    pub(super) async fn discard_stages(&self) {
        let stages = self.stages.take_all();
        // Dropping an upload aborts it.
        let parked = stages.into_iter().filter_map(Stage::into_parked);
        self.discard_parked(parked.collect()).await;
        if !self.objects.drain(DRAIN_LIMIT).await {
            tracing::warn!("uploads are still being aborted; a later run looks for those that are left");
        }
    }

    /// Removes the remains of killed runs: parked copies, and abandoned uploads.
    pub(super) async fn sweep(&self) -> Result<(), DestinationError> {
        if self.swept.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let list = |error| self.errors.bucket_error(Action::List, &error);
        let (own, age) = (self.keys.own_prefix(), self.options.abandoned_after);
        let left = self.objects.list(&own, PAGE).try_filter_map(async |object| {
            // A younger one may be in use by another machine.
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
            Err(error) if error.is_unknown_operation() => self.objects.warn(format!(
                "the service lists no unfinished uploads ({}): those of a run that was killed are for the bucket's own rules",
                error.said()
            )),
            // Listing uploads needs a separate permission; without it, they are left to the bucket's
            // lifecycle rules.
            Err(error) => tracing::warn!(?error, "cannot look for uploads that earlier runs left"),
        }
        Ok(())
    }

    /// Aborts this vault's abandoned uploads, and returns their number. Uploads of unknown owner (of a file
    /// that was renamed or deleted since the run was killed) are aborted after a day; all others, such as
    /// other vaults' and other programs', are left to their owners and the bucket's lifecycle rules.
    async fn abort_uploads(&self) -> Result<usize, RequestError> {
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

    /// True if something of this age can be from this run or an earlier one.
    fn may_be_left(&self, time: Timestamp) -> bool {
        self.options.abandoned_before.is_none_or(|end| Timestamp::try_from(end).is_ok_and(|end| time <= end))
    }

    /// True if an upload for this key is ours: this run began one, the key is obsync's own, or the object
    /// there is this vault's. `None`: unknown.
    async fn is_ours(&self, key: &Path) -> Result<Option<bool>, RequestError> {
        if lock(&self.begun).contains(key) || *key == self.keys.of_probe() {
            return Ok(Some(true));
        }
        let Some(facts) = self.objects.head(key).await? else { return Ok(None) };
        Ok(Some(facts.metadata.is_some_and(|metadata| metadata.vault.as_ref() == self.vault())))
    }
}
