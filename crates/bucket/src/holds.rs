//! Checks which contents are at the paths where they are wanted, and which objects belong to the vault.

use futures_util::{StreamExt, TryStreamExt, stream};
use obsync_core::{Checked, CheckedBy, DestinationError, Found, KnownContent, Record, StoredFile, Wanted};
use obsync_protocol::VaultPath;

use super::context::Context;
use super::error_context::Action;
use super::object_cache::Occupant;

/// Checks each wanted content, and reports how it was determined: an object with a SHA-256 in its metadata is
/// not read. Answers in the order of `wanted`. Objects that cannot be looked at count as absent, unless none
/// can.
pub(super) async fn check(context: &Context, wanted: Vec<Wanted>) -> Result<Vec<Checked>, DestinationError> {
    let prepared = context.listing.prepare(&context.objects, context.keys.prefix(), wanted.len()).await;
    prepared.map_err(|error| context.errors.bucket_error(Action::List, &error))?;
    stream::iter(wanted)
        .map(|wanted| async move {
            match check_one(context, &wanted).await {
                Err(error) if error.is_fatal() => Err(error),
                answer => Ok(answer.unwrap_or(Checked {
                    holds: false,
                    is_unreadable: true,
                    by: CheckedBy::Metadata,
                })),
            }
        })
        .buffered(context.options.concurrency)
        .try_collect()
        .await
}

/// Looks for each wanted content. Answers in the order of `wanted`. For a different content, reports it only
/// if the object's metadata names it: nothing is read for that.
pub(super) async fn look(context: &Context, wanted: Vec<Wanted>) -> Result<Vec<Found>, DestinationError> {
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

async fn look_at(context: &Context, wanted: &Wanted) -> Result<Found, DestinationError> {
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

async fn check_one(context: &Context, wanted: &Wanted) -> Result<Checked, DestinationError> {
    let checked = |holds, by| Checked { holds, is_unreadable: false, by };
    let by_metadata = |holds| checked(holds, CheckedBy::Metadata);
    let key = context.keys.of(&wanted.path)?;
    if !context.listing.may_hold(&key, wanted.size) {
        return Ok(by_metadata(false));
    }
    let Occupant::Object(facts) = context.look(&wanted.path, &key).await? else {
        return Ok(by_metadata(false));
    };
    let is_read = facts.is_content(content_of(wanted)).is_none();
    let holds = context.has(&wanted.path, &key, &facts, content_of(wanted)).await?;
    Ok(if is_read { checked(holds, CheckedBy::Read) } else { by_metadata(holds) })
}

fn content_of(wanted: &Wanted) -> KnownContent {
    KnownContent { hash: wanted.hash, size: wanted.size }
}

/// For each record, true if the file is gone, or replaced by an older version or by another vault's file.
/// Answers in order. An object that cannot be looked at is not lost: a later step that needs it reports the
/// error.
pub(super) async fn are_lost(context: &Context, records: Vec<Record>) -> Vec<bool> {
    stream::iter(records)
        .map(|record| async move {
            let Ok(key) = context.keys.of(&record.path) else { return false };
            match context.look(&record.path, &key).await {
                Ok(Occupant::Nothing) => true,
                // An object without metadata, or with metadata of an earlier content, is a user's.
                Ok(Occupant::Object(facts)) => facts.proven_metadata().is_some_and(|said| {
                    let is_recorded = record.file().is_some_and(|file| file.hash == said.hash);
                    let is_of_other = said.vault.as_ref().zip(context.vault()).is_some_and(|(a, b)| a != b);
                    !is_recorded && (said.uid < record.uid() || is_of_other)
                }),
                Err(error) => {
                    tracing::debug!(%error, "a recorded file cannot be looked at");
                    false
                }
            }
        })
        .buffered(context.options.concurrency)
        .collect()
        .await
}

/// For each object, true if its metadata names this vault. Answers in order; all false if the vault is
/// unknown.
pub(super) async fn are_of_vault(
    context: &Context,
    files: Vec<StoredFile>,
) -> Result<Vec<bool>, DestinationError> {
    if context.vault().is_none() {
        return Ok(vec![false; files.len()]);
    }
    stream::iter(files)
        .map(|file| async move {
            // A key that is no valid vault path is not of this vault either.
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
