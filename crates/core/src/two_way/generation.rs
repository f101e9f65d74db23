//! Gives the destination a new generation in every run that changes something on either side.
//!
//! The generation identifies older copies of the destination. Changes that this run sends look like edits to
//! such a copy, and the text that they replace would look like a user's newest one.

use crate::destination::DestinationError;
use crate::error::PullError;
use crate::identity::{DestinationIdentity, Doubt, MARKER_FORMAT, Marker, MarkerFound, judge};
use crate::problem::ProblemCode;
use crate::run::Run;
use crate::state::{Commit, VaultState, commit_beside};

impl Run<'_> {
    /// Draws a generation, unless this run (which began with `first`) already did. A destination without a
    /// marker gets one.
    ///
    /// The state stores the new generation before the destination does; after a crash either is accepted.
    pub(super) async fn renew_generation(
        &self,
        first: Option<&DestinationIdentity>,
    ) -> Result<(), PullError> {
        let known = self.state.load().await?;
        if self.options.dry_run || has_drawn(first, known.destination.as_ref()) {
            return Ok(());
        }
        let found = self.destination.identify(None).await?;
        if found == MarkerFound::Impossible {
            return Ok(());
        }
        let next = self.draw_id()?;
        let identity = match (known.destination.clone(), found) {
            // A killed run had written the generation that it announced, but may not have recorded it.
            (Some(identity), MarkerFound::Marker { marker, .. })
                if marker.id == identity.id && Some(marker.generation) == identity.next =>
            {
                DestinationIdentity { generation: marker.generation, next: Some(next), ..identity }
            }
            (Some(identity), _) => DestinationIdentity { next: Some(next), ..identity },
            // The state was lost, but the destination is the same.
            (None, MarkerFound::Marker { marker, .. })
                if marker.vault == self.source.vault.id && self.options.doubt != Some(Doubt::Copy) =>
            {
                let Marker { id, generation, .. } = marker;
                DestinationIdentity { id, generation, next: Some(next), tag: None }
            }
            (None, _) => {
                DestinationIdentity { id: self.draw_id()?, generation: next, next: Some(next), tag: None }
            }
        };
        let (id, vault) = (identity.id, self.source.vault.id.clone());
        self.commit_identity(&known, Some(identity)).await?;
        let marker = Marker { format: MARKER_FORMAT, id, vault, generation: next };
        let marked = self.destination.mark(&marker).await?;
        self.commit_identity(&known, marked.map(|marked| marker.identity(marked))).await
    }

    async fn commit_identity(
        &self,
        known: &VaultState,
        destination: Option<DestinationIdentity>,
    ) -> Result<(), PullError> {
        let state = VaultState { destination, ..known.clone() };
        Ok(commit_beside(self.state.as_ref(), Commit { state, ..Commit::default() }).await?)
    }

    /// Checks that the destination is still the one in the state, before anything is deleted in the vault.
    ///
    /// # Errors
    /// When it is another destination, or has no marker any more.
    pub(super) async fn must_be_the_same_place(
        &self,
        known: Option<&DestinationIdentity>,
    ) -> Result<(), PullError> {
        let found = self.destination.identify(None).await?;
        if known.is_none() || judge(known, true, &found, &self.source.vault.id).is_ok() {
            return Ok(());
        }
        let reason =
            "it is not the place any more that it was when this run began; nothing was deleted in the vault";
        let (location, code) = (self.destination.location(), ProblemCode::Destination);
        Err(DestinationError::Unavailable { location, reason: reason.to_owned(), code }.into())
    }
}

/// True if this run, which began with `first`, has drawn a generation: the current one was unknown then, even
/// as the one that a killed run was about to write.
fn has_drawn(first: Option<&DestinationIdentity>, now: Option<&DestinationIdentity>) -> bool {
    match (first, now) {
        (Some(first), Some(now)) => now.generation != first.generation && Some(now.generation) != first.next,
        (None, None) => false,
        (None, Some(_)) | (Some(_), None) => true,
    }
}
