//! Tells which contents are where they are wanted, and which objects are of the vault though nobody wants them.

use futures_util::{StreamExt, TryStreamExt, stream};
use obsync_core::{Checked, CheckedBy, Found, KnownContent, StoreError, StoredFile, Wanted};
use obsync_protocol::VaultPath;

use super::known::Occupant;
use super::shared::Shared;
use super::trouble::Action;

/// Answers in the order of the questions. What cannot be looked at counts as not held, unless nothing can.
pub(super) async fn holds(shared: &Shared, wanted: Vec<Wanted>) -> Result<Vec<bool>, StoreError> {
    Ok(check(shared, wanted).await?.into_iter().map(|checked| checked.holds).collect())
}

/// The same with how it was found out: an object that says its SHA-256 is not read.
pub(super) async fn check(shared: &Shared, wanted: Vec<Wanted>) -> Result<Vec<Checked>, StoreError> {
    let prepared = shared.listing.prepare(&shared.objects, shared.keys.prefix(), wanted.len()).await;
    prepared.map_err(|trouble| shared.site.bucket_error(Action::List, &trouble))?;
    stream::iter(wanted)
        .map(|wanted| async move {
            match check_one(shared, &wanted).await {
                Err(error) if error.is_fatal() => Err(error),
                answer => Ok(answer.unwrap_or(Checked { holds: false, by: CheckedBy::Metadata })),
            }
        })
        .buffered(shared.options.concurrency)
        .try_collect()
        .await
}

/// What is where the contents are wanted, in the order of the questions. What another content it is, is told where the object
/// says so itself: nothing is read for that.
pub(super) async fn look(shared: &Shared, wanted: Vec<Wanted>) -> Result<Vec<Found>, StoreError> {
    let prepared = shared.listing.prepare(&shared.objects, shared.keys.prefix(), wanted.len()).await;
    prepared.map_err(|trouble| shared.site.bucket_error(Action::List, &trouble))?;
    stream::iter(wanted)
        .map(|wanted| async move {
            match look_at(shared, &wanted).await {
                Err(error) if error.is_fatal() => Err(error),
                answer => Ok(answer.unwrap_or(Found::Unknown)),
            }
        })
        .buffered(shared.options.concurrency)
        .try_collect()
        .await
}

async fn look_at(shared: &Shared, wanted: &Wanted) -> Result<Found, StoreError> {
    let key = shared.keys.of(&wanted.path)?;
    if !shared.listing.may_be(&key) {
        return Ok(Found::Nothing);
    }
    let Occupant::Object(facts) = shared.look(&wanted.path, &key).await? else {
        return Ok(Found::Nothing);
    };
    if shared.has(&wanted.path, &key, &facts, content_of(wanted)).await? {
        return Ok(Found::Wanted);
    }
    Ok(facts.content().map_or(Found::Unknown, |hash| Found::Other(KnownContent { hash, size: facts.size })))
}

async fn check_one(shared: &Shared, wanted: &Wanted) -> Result<Checked, StoreError> {
    let by_metadata = |holds| Checked { holds, by: CheckedBy::Metadata };
    let key = shared.keys.of(&wanted.path)?;
    if !shared.listing.may_hold(&key, wanted.size) {
        return Ok(by_metadata(false));
    }
    let Occupant::Object(facts) = shared.look(&wanted.path, &key).await? else {
        return Ok(by_metadata(false));
    };
    let is_read = facts.is_content(content_of(wanted)).is_none();
    let holds = shared.has(&wanted.path, &key, &facts, content_of(wanted)).await?;
    Ok(if is_read { Checked { holds, by: CheckedBy::Read } } else { by_metadata(holds) })
}

fn content_of(wanted: &Wanted) -> KnownContent {
    KnownContent { hash: wanted.hash, size: wanted.size }
}

/// Whether each object says that it is of this vault. Answers in order; none is if nobody said which vault this is.
pub(super) async fn are_of_vault(shared: &Shared, files: Vec<StoredFile>) -> Result<Vec<bool>, StoreError> {
    if shared.vault().is_none() {
        return Ok(vec![false; files.len()]);
    }
    stream::iter(files)
        .map(|file| async move {
            // A key that is no path of any vault is not of this one either.
            let Ok(path) = VaultPath::parse(&file.path) else { return Ok(false) };
            let Occupant::Object(facts) = shared.look(&path, &shared.keys.of(&path)?).await? else {
                return Ok(false);
            };
            Ok(facts.stamp.is_some_and(|stamp| stamp.vault.as_ref() == shared.vault()))
        })
        .buffered(shared.options.concurrency)
        .try_collect()
        .await
}
