//! Pending work according to a state, for the `status` of every program.

use obsync_protocol::Redactor;
use serde::Serialize;

use crate::model::{Deferred, DeferredCause, DeferredKind};
use crate::report::Failure;
use crate::state::{StateError, StateStore};
use crate::two_way::Refusal;

/// The changes that were not applied, by what they wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Outstanding {
    /// Failed changes; the next run retries them.
    pub failures: Vec<Failure>,
    /// Failures that can never be resolved here, accepted by the user.
    pub accepted: Vec<Failure>,
    /// Changes of the vault that a push left alone: a sync applies them here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub diverged: Vec<String>,
    /// Local changes that wait to be sent again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Failure>,
    /// Deletions here that are held back until they are confirmed.
    pub held_back: Vec<String>,
    /// Deletions in the vault that are held back until they are confirmed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held_back_in_vault: Vec<String>,
    /// Confirmed deletions, here or in the vault; the next run makes them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub confirmed: Vec<String>,
}

impl Outstanding {
    /// Reads it from a state. The reasons may have been stored by a release that did not redact secrets.
    ///
    /// # Errors
    ///
    /// When the state cannot be read.
    pub async fn of(state: &dyn StateStore, redactor: &Redactor) -> Result<Self, StateError> {
        let deferred = state.deferred(DeferredKind::Failed).await?;
        Ok(Self::sorted(&deferred, redactor))
    }

    fn sorted(deferred: &[Deferred], redactor: &Redactor) -> Self {
        let mut sorted = Outstanding::default();
        for deferred in deferred {
            let path = || deferred.key.shown().to_owned();
            let failure = |reason: &str| Failure {
                path: path(),
                uid: deferred.message.uid,
                reason: redactor.take_out(reason).into_owned(),
            };
            match &deferred.cause {
                DeferredCause::Failed { reason } if deferred.key.is_outgoing() => {
                    let until = Refusal::of(deferred).map_or_else(String::new, again);
                    sorted.waiting.push(failure(&format!("{reason}{until}")));
                }
                DeferredCause::Failed { reason } | DeferredCause::Lasting { reason } => {
                    sorted.failures.push(failure(reason));
                }
                DeferredCause::Diverged => sorted.diverged.push(path()),
                DeferredCause::Acknowledged { reason } => sorted.accepted.push(failure(reason)),
                // Folders that become empty are removed with their files.
                DeferredCause::HeldBack { .. } if deferred.message.folder => {}
                DeferredCause::HeldBack { confirmed: None } if deferred.key.is_outgoing() => {
                    sorted.held_back_in_vault.push(path());
                }
                DeferredCause::HeldBack { confirmed: None } => sorted.held_back.push(path()),
                DeferredCause::HeldBack { confirmed: Some(_) } => sorted.confirmed.push(path()),
                DeferredCause::Filtered | DeferredCause::Retained => {}
            }
        }
        let Outstanding { diverged, held_back, held_back_in_vault, confirmed, .. } = &mut sorted;
        [diverged, held_back, held_back_in_vault, confirmed].into_iter().for_each(|paths| paths.sort());
        sorted
    }
}

/// Text with the time when a refused file is sent again.
fn again(refusal: Refusal) -> String {
    let until = jiff::Timestamp::from_millisecond(refusal.until()).unwrap_or_default();
    format!("; a follower sends it again after {until:.0}, any other run at once")
}
