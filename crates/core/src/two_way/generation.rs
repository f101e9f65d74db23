//! Gives the destination a new generation in every run that changes something on either side.
//!
//! A copy that was made before is told apart by it: what this run sends is an edit to such a copy, and the text that it takes
//! the place of would look like a user's newest one.

use crate::destination::DestinationError;
use crate::error::PullError;
use crate::identity::{DestinationIdentity, Doubt, MARKER_FORMAT, Marker, MarkerFound, judge};
use crate::problem::ProblemCode;
use crate::run::Run;
use crate::state::{Commit, VaultState, commit_beside};

impl Run<'_> {
    /// Draws a generation, unless this run did so already: it began with what `first` says. A destination without a marker
    /// gets one.
    ///
    /// The state knows it before the destination has it: after a crash either is right.
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
            // A run that was killed had written the one that it announced, and may not have come to say so.
            (Some(identity), MarkerFound::Marker { marker, .. })
                if marker.id == identity.id && Some(marker.generation) == identity.next =>
            {
                DestinationIdentity { generation: marker.generation, next: Some(next), ..identity }
            }
            (Some(identity), _) => DestinationIdentity { next: Some(next), ..identity },
            // The state was lost, and the destination is the one that it was.
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

    /// Makes sure that the destination is the one still that the state speaks of: before anything is deleted in the vault.
    ///
    /// # Errors
    /// When it is another one, or there is none any more.
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

/// Whether a run that began with `first` has drawn a generation since: one that it did not know then, not even as the one that a
/// killed run was about to write.
fn has_drawn(first: Option<&DestinationIdentity>, now: Option<&DestinationIdentity>) -> bool {
    match (first, now) {
        (Some(first), Some(now)) => now.generation != first.generation && Some(now.generation) != first.next,
        (None, None) => false,
        (None, Some(_)) | (Some(_), None) => true,
    }
}
