//! Tells which contents are where they are wanted.

use futures_util::{StreamExt, TryStreamExt, stream};
use obsync_core::{StoreError, Wanted};

use super::known::Occupant;
use super::shared::Shared;
use super::trouble::Action;

/// Answers in the order of the questions. What cannot be looked at counts as not held, unless nothing can.
pub(super) async fn holds(shared: &Shared, wanted: Vec<Wanted>) -> Result<Vec<bool>, StoreError> {
    let prepared = shared.listing.prepare(&shared.objects, shared.keys.prefix(), wanted.len()).await;
    prepared.map_err(|trouble| shared.site.bucket_error(Action::List, &trouble))?;
    stream::iter(wanted)
        .map(|wanted| async move {
            match holds_one(shared, &wanted).await {
                Err(error) if error.is_fatal() => Err(error),
                answer => Ok(answer.unwrap_or(false)),
            }
        })
        .buffered(shared.options.concurrency)
        .try_collect()
        .await
}

async fn holds_one(shared: &Shared, wanted: &Wanted) -> Result<bool, StoreError> {
    let key = shared.keys.of(&wanted.path)?;
    if !shared.listing.may_hold(&key, wanted.size) {
        return Ok(false);
    }
    match shared.look(&wanted.path, &key).await? {
        Occupant::Object(facts) if facts.size == wanted.size => {
            Ok(shared.content_of(&wanted.path, &key, &facts).await? == Some(wanted.hash))
        }
        Occupant::Object(_) | Occupant::Nothing => Ok(false),
    }
}
