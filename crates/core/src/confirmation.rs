//! Releases deletions that a run held back ([`crate::brake`]).
//!
//! The user who confirms them may not have the destination's lock, if a follower or a function works there.
//! Then the confirmation is stored beside the state ([`StateStore::leave_confirmations`]), and the run with
//! the lock takes it over.

use std::collections::HashSet;

use crate::model::{Deferred, DeferredCause, DeferredKind};
use crate::state::{Commit, StateError, StateStore, commit_beside};

/// Confirms held-back deletions by the paths that [`held_back`] returned: the next run makes exactly these,
/// and removes the folders that are empty then. Returns their paths.
///
/// # Errors
///
/// When the state cannot be read or written.
pub async fn confirm(
    state: &dyn StateStore,
    paths: &[String],
    at: jiff::Timestamp,
) -> Result<Vec<String>, StateError> {
    let mut chosen = chosen(state, paths).await?;
    let paths = shown(&chosen);
    for deferred in &mut chosen {
        deferred.cause = DeferredCause::HeldBack { confirmed: Some(at.as_millisecond()) };
    }
    commit(state, chosen).await?;
    Ok(paths)
}

/// Paths of the files whose deletions are held back and unconfirmed.
///
/// # Errors
///
/// When the state cannot be read.
pub async fn held_back(state: &dyn StateStore) -> Result<Vec<String>, StateError> {
    Ok(shown(&waiting(state).await?))
}

/// Leaves the same confirmation for the process that has the lock of the destination, or the next one to get
/// it. `state` may be open for reading only. Returns the paths.
///
/// # Errors
///
/// When the state cannot be read, or the confirmation cannot be stored.
pub async fn leave_confirmation(state: &dyn StateStore, paths: &[String]) -> Result<Vec<String>, StateError> {
    let chosen = chosen(state, paths).await?;
    if !chosen.is_empty() {
        state.leave_confirmations(chosen.iter().map(|deferred| deferred.message.uid.0).collect()).await?;
    }
    Ok(shown(&chosen))
}

/// Takes over stored confirmations if any of these changes is held back. A confirmation for a change that no
/// longer waits is dropped.
pub(crate) async fn take_over(state: &dyn StateStore, deferred: &mut [Deferred]) -> Result<(), StateError> {
    if !deferred.iter().any(is_held_back) {
        return Ok(());
    }
    let left = state.confirmations().await?;
    if left.is_empty() {
        return Ok(());
    }
    let uids: HashSet<u64> = left.iter().copied().collect();
    let at = jiff::Timestamp::now();
    let mut confirmed = Vec::new();
    for deferred in deferred.iter_mut().filter(|deferred| is_held_back(deferred)) {
        if uids.contains(&deferred.message.uid.0) {
            deferred.cause = DeferredCause::HeldBack { confirmed: Some(at.as_millisecond()) };
            confirmed.push(deferred.clone());
        }
    }
    commit(state, confirmed).await?;
    state.forget_confirmations(&left).await
}

/// The same for a follower that was woken by confirmations.
pub(crate) async fn take_all_over(state: &dyn StateStore) -> Result<(), StateError> {
    let mut deferred = state.deferred(DeferredKind::Failed).await?;
    match deferred.iter().any(is_held_back) {
        true => take_over(state, &mut deferred).await,
        // They would wake the follower for ever.
        false => state.forget_confirmations(&state.confirmations().await?).await,
    }
}

async fn commit(state: &dyn StateStore, deferred: Vec<Deferred>) -> Result<(), StateError> {
    if deferred.is_empty() {
        return Ok(());
    }
    let known = state.load().await?;
    commit_beside(state, Commit { deferred, state: known, ..Commit::default() }).await
}

/// The changes that wait for confirmation at these paths, and all folders, which are removed once empty.
async fn chosen(state: &dyn StateStore, paths: &[String]) -> Result<Vec<Deferred>, StateError> {
    let wanted: HashSet<&str> = paths.iter().map(String::as_str).collect();
    let mut waiting = waiting(state).await?;
    waiting.retain(|deferred| deferred.message.folder || wanted.contains(deferred.key.shown()));
    Ok(waiting)
}

/// Paths of the files among these.
fn shown(deferred: &[Deferred]) -> Vec<String> {
    let files = deferred.iter().filter(|deferred| !deferred.message.folder);
    files.map(|deferred| deferred.key.shown().to_owned()).collect()
}

async fn waiting(state: &dyn StateStore) -> Result<Vec<Deferred>, StateError> {
    let mut deferred = state.deferred(DeferredKind::Failed).await?;
    deferred.retain(is_held_back);
    Ok(deferred)
}

fn is_held_back(deferred: &Deferred) -> bool {
    deferred.cause == DeferredCause::HeldBack { confirmed: None }
}
