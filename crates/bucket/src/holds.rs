//! Tells which contents are where they are wanted, and which objects are of the vault though nobody wants them.

use futures_util::{StreamExt, TryStreamExt, stream};
use obsync_core::{Found, KnownContent, StoreError, StoredFile, Wanted};
use obsync_protocol::VaultPath;

use super::context::Context;
use super::error::Action;
use super::object_cache::Occupant;

/// Answers in the order of the questions. What cannot be looked at counts as not held, unless nothing can.
pub(super) async fn holds(context: &Context, wanted: Vec<Wanted>) -> Result<Vec<bool>, StoreError> {
    let prepared = context.listing.prepare(&context.objects, context.keys.prefix(), wanted.len()).await;
    prepared.map_err(|error| context.errors.bucket_error(Action::List, &error))?;
    stream::iter(wanted)
        .map(|wanted| async move {
            match holds_one(context, &wanted).await {
                Err(error) if error.is_fatal() => Err(error),
                answer => Ok(answer.unwrap_or(false)),
            }
        })
        .buffered(context.options.concurrency)
        .try_collect()
        .await
}

/// What is where the contents are wanted, in the order of the questions. What another content it is, is told where the object
/// says so itself: nothing is read for that.
pub(super) async fn look(context: &Context, wanted: Vec<Wanted>) -> Result<Vec<Found>, StoreError> {
    let prepared = context.listing.prepare(&context.objects, context.keys.prefix(), wanted.len()).await;
    prepared.map_err(|error| context.errors.bucket_error(Action::List, &error))?;
    stream::iter(wanted)
        .map(|wanted| async move {
            match look_at(context, &wanted).await {
                Err(error) if error.is_fatal() => Err(error),
                answer => Ok(answer.unwrap_or(Found::Unknown)),
            }
        })
        .buffered(context.options.concurrency)
        .try_collect()
        .await
}

async fn look_at(context: &Context, wanted: &Wanted) -> Result<Found, StoreError> {
    let key = context.keys.of(&wanted.path)?;
    if !context.listing.may_be(&key) {
        return Ok(Found::Nothing);
    }
    let Occupant::Object(facts) = context.look(&wanted.path, &key).await? else {
        return Ok(Found::Nothing);
    };
    if context.has(&wanted.path, &key, &facts, content_of(wanted)).await? {
        return Ok(Found::Wanted);
    }
    Ok(facts.content().map_or(Found::Unknown, |hash| Found::Other(KnownContent { hash, size: facts.size })))
}

async fn holds_one(context: &Context, wanted: &Wanted) -> Result<bool, StoreError> {
    let key = context.keys.of(&wanted.path)?;
    if !context.listing.may_hold(&key, wanted.size) {
        return Ok(false);
    }
    match context.look(&wanted.path, &key).await? {
        Occupant::Object(facts) => context.has(&wanted.path, &key, &facts, content_of(wanted)).await,
        Occupant::Nothing => Ok(false),
    }
}

fn content_of(wanted: &Wanted) -> KnownContent {
    KnownContent { hash: wanted.hash, size: wanted.size }
}

/// Whether each object says that it is of this vault. Answers in order; none is if nobody said which vault this is.
pub(super) async fn are_of_vault(context: &Context, files: Vec<StoredFile>) -> Result<Vec<bool>, StoreError> {
    if context.vault().is_none() {
        return Ok(vec![false; files.len()]);
    }
    stream::iter(files)
        .map(|file| async move {
            // A key that is no path of any vault is not of this one either.
            let Ok(path) = VaultPath::parse(&file.path) else { return Ok(false) };
            let Occupant::Object(facts) = context.look(&path, &context.keys.of(&path)?).await? else {
                return Ok(false);
            };
            Ok(facts.metadata.is_some_and(|metadata| metadata.vault.as_ref() == context.vault()))
        })
        .buffered(context.options.concurrency)
        .try_collect()
        .await
}
