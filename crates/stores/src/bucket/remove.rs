//! Removes objects, in bulk where the service can: files that the vault deleted, and what is obsync's own.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use obsync_core::{Removable, Removal, StoreError};
use obsync_protocol::VaultPath;

use super::aside::keep_beside;
use super::known::Occupant;
use super::listing::PAGE;
use super::objects::is_older;
use super::shared::Shared;
use super::stages::Stage;
use super::trouble::{Action, Trouble};
use crate::locking::lock;

/// After how long an upload of which nothing tells whose it is counts as forgotten.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
/// How long the end of a run waits for uploads to be aborted. What is not by then is aborted by a later run.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);

/// What is to be done about one file.
enum Fate {
    Known(Result<Removal, StoreError>),
    Doomed(VaultPath, Path),
}

/// Removes files whose content still is what obsync wrote. Answers in order.
pub(super) async fn remove_files(shared: &Shared, files: Vec<Removable>) -> Vec<Result<Removal, StoreError>> {
    if shared.options.keep_deleted {
        return files.into_iter().map(|_| Ok(Removal::Retained)).collect();
    }
    let fates: Vec<Fate> = stream::iter(files)
        .map(|file| async move { fate(shared, file).await.unwrap_or_else(|error| Fate::Known(Err(error))) })
        .buffered(shared.options.concurrency)
        .collect()
        .await;
    let doomed = fates.iter().filter_map(|fate| match fate {
        Fate::Doomed(_, key) => Some(key.clone()),
        Fate::Known(_) => None,
    });
    let mut removed = shared.objects.delete(doomed.collect()).await.into_iter();
    fates
        .into_iter()
        .map(|fate| match fate {
            Fate::Known(answer) => answer,
            Fate::Doomed(path, _) => match removed.next() {
                Some(Ok(())) => {
                    shared.known.put(&path, Occupant::Nothing);
                    Ok(Removal::Removed)
                }
                Some(Err(trouble)) => Err(shared.failed(Action::Remove, &path, &trouble)),
                None => Err(shared.site.io(Action::Remove, path.as_str(), "there was no answer for it")),
            },
        })
        .collect()
}

async fn fate(shared: &Shared, file: Removable) -> Result<Fate, StoreError> {
    let key = shared.keys.of(&file.path)?;
    let Occupant::Object(facts) = shared.look(&file.path, &key).await? else {
        return Ok(Fate::Known(Ok(Removal::Missing)));
    };
    if facts.size != file.content.size {
        return Ok(Fate::Known(Ok(Removal::Kept)));
    }
    let content = shared.content_of(&file.path, &key, &facts).await?;
    Ok(match content == Some(file.content.hash) {
        true => Fate::Doomed(file.path, key),
        false => Fate::Known(Ok(Removal::Kept)),
    })
}

/// Moves what is at `path` to a free name beside it.
pub(super) async fn set_aside(shared: &Shared, path: &VaultPath) -> Result<VaultPath, StoreError> {
    let key = shared.keys.of(path)?;
    while let Occupant::Object(facts) = shared.look(path, &key).await? {
        let Some(aside) = keep_beside(shared, path, &key, &facts).await? else {
            continue;
        };
        let removed = shared.objects.delete(vec![key]).await.pop().unwrap_or(Ok(()));
        removed.map_err(|trouble| shared.failed(Action::Remove, path, &trouble))?;
        shared.known.put(path, Occupant::Nothing);
        return Ok(aside);
    }
    Err(shared.site.io(Action::Look, path.as_str(), "there is nothing there"))
}

impl Shared {
    /// Removes copies that were parked and have found their place. What stays is removed at the end of a complete run.
    pub(super) async fn discard_parked(&self, parked: Vec<Path>) {
        if parked.is_empty() {
            return;
        }
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
            let is_left = object.modified.is_some_and(|modified| is_older(modified, age));
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
        stream::iter(open)
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
