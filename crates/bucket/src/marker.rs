//! The marker in the bucket, an object `.obsync/id` below the prefix: it identifies a destination.
//!
//! Each run begins with the first page of the list, which nearly always shows the marker and its entity tag,
//! so it is read only if it differs from the one last written.

use futures_util::TryStreamExt;
use object_store::{Attribute, Attributes, PutPayload, UpdateVersion};
use obsync_core::{DestinationError, Marked, Marker, MarkerError, MarkerFound};

use super::context::Context;
use super::error::Kind;
use super::error_context::Action;
use super::guard::Guard;
use super::marker_seen::Seen;
use super::objects::Doomed;

/// Most bytes of a marker. It has some 200.
const LONGEST: usize = 4096;

/// Reads the marker, unless its entity tag is the `known` one.
pub(super) async fn read(context: &Context, known: Option<&str>) -> Result<MarkerFound, DestinationError> {
    let seen = context.marker.get();
    match seen {
        Seen::Absent => return Ok(MarkerFound::Absent),
        Seen::Present(Some(tag)) if Some(tag.as_str()) == known => return Ok(MarkerFound::Unchanged),
        Seen::Present(_) | Seen::Unknown => {}
    }
    let key = context.keys.of_marker();
    let any = UpdateVersion { e_tag: None, version: None };
    let failed = |error| context.errors.error(Action::Read, key.as_ref(), &error);
    let mut content = match context.objects.read(&key, &any).await {
        Ok((_, content)) => content,
        Err(error) if error.is_missing_object() => return Ok(MarkerFound::Absent),
        Err(error) if error.kind == Kind::Denied || error.is_unreadable() => {
            tracing::debug!("the marker may not be read: {}", error.said());
            return Ok(MarkerFound::Impossible);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut text = Vec::new();
    while let Some(stretch) = content.try_next().await.map_err(failed)? {
        text.extend_from_slice(&stretch);
        if text.len() > LONGEST {
            return Ok(MarkerFound::Damaged { reason: "it is too long".to_owned() });
        }
    }
    let tag = match seen {
        Seen::Present(tag) => tag,
        Seen::Absent | Seen::Unknown => None,
    };
    match Marker::from_text(&String::from_utf8_lossy(&text)) {
        Ok(marker) => Ok(MarkerFound::Marker { marker, tag }),
        Err(error @ MarkerError::Newer { .. }) => {
            Err(context.errors.unavailable(format!("its marker {key}: {error}")))
        }
        Err(MarkerError::Damaged { reason }) => Ok(MarkerFound::Damaged { reason }),
    }
}

/// Writes the marker in the default storage class, whatever class the files get: it is read again.
pub(super) async fn write(context: &Context, marker: &Marker) -> Result<Marked, DestinationError> {
    let text =
        marker.to_text().map_err(|error| context.errors.unavailable(format!("its marker: {error}")))?;
    let key = context.keys.of_marker();
    let attributes = Attributes::from_iter([(Attribute::ContentType, "application/json")]);
    let mut denies = context.denies_writes.lock().await;
    let put = context.objects.put(&key, PutPayload::from(text), None, attributes, &Guard::Anything);
    let version = put.await.map_err(|error| {
        *denies = error.kind == Kind::Denied;
        context.errors.error(Action::Write, key.as_ref(), &error)
    })?;
    context.errors.wrote();
    Ok(Marked { tag: version.e_tag })
}

/// Removes the marker and the probe object. `false`: there was no marker.
pub(super) async fn remove(context: &Context) -> Result<bool, DestinationError> {
    let key = context.keys.of_marker();
    let doomed = [key.clone(), context.keys.of_probe()].map(|key| Doomed { key, version: None });
    let removed = context.objects.delete(doomed.to_vec()).await.into_iter().next();
    match removed.unwrap_or(Ok(())) {
        Ok(()) => Ok(true),
        Err(error) if error.is_missing_object() => Ok(false),
        Err(error) => Err(context.errors.error(Action::Remove, key.as_ref(), &error)),
    }
}
