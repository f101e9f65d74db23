//! The parts of a run: the vault, the destination, the state, and the options; and how every run ends.

use std::sync::Arc;
use std::time::Instant;

use obsync_client::{Client, FetchOptions, SessionTarget, Token};
use obsync_protocol::{Filter, VaultInfo, VaultKeys};
use tokio_util::sync::CancellationToken;

use crate::brake::MaxDelete;
use crate::destination::{Destination, DestinationError};
use crate::error::PullError;
use crate::governor::Governor;
use crate::hurdle::Hurdle;
use crate::identity::Doubt;
use crate::line::Lines;
use crate::model::Direction;
use crate::progress::Progress;
use crate::reconcile::Mode;
use crate::report::{Outcome, Report};
use crate::state::StateStore;

/// The vault to pull, and what is needed to reach and read it.
#[derive(Clone, Debug)]
pub struct PullSource {
    /// The way to the service.
    pub client: Client,
    /// Who is asking.
    pub token: Token,
    /// The vault as the service lists it.
    pub vault: VaultInfo,
    /// Its keys.
    pub keys: VaultKeys,
}

/// How to pull.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// Chooses the entries that are synced.
    pub filter: Filter,
    /// How thorough to be.
    pub mode: Mode,
    /// Only tell what would be done.
    pub dry_run: bool,
    /// Take back what was changed here: it is set aside, and everything is looked at again.
    pub mirrors: bool,
    /// Take a vault for what it says that is older on the server than in the destination: the version of the destination
    /// falls to that of the vault. What the vault does not list is only removed in [`Mode::Full`].
    pub accept_older_vault: bool,
    /// List the vault from its first version on, remove nothing, and keep what differs under another name: what is not as
    /// the vault lists it belongs to the user from then on. For a vault that is not the one that was pulled before, or not
    /// in the form that it had.
    pub keep_everything: bool,
    /// Accept what fails for good: names that the destination cannot have, and entries that cannot be read. They are no
    /// failures any more until the vault changes them.
    pub accept_failures: bool,
    /// Name the files that change in the report, as many as take so many bytes of JSON in it.
    pub list_changes: Option<u64>,
    /// How many files may be deleted before deletions are held back.
    pub max_delete: MaxDelete,
    /// A doubt about the destination that the caller has and the state does not know of.
    pub doubt: Option<Doubt>,
    /// Connections and requests in flight.
    pub fetch: FetchOptions,
    /// How much the transfers may hold in memory.
    pub governor: Governor,
    /// How much the listing may take in memory, in bytes; `None`: [`LISTING_MEMORY`](obsync_protocol::limits::LISTING_MEMORY).
    pub listing_memory: Option<u64>,
    /// A content that did not come through in the time of the run before.
    pub hurdle: Option<Hurdle>,
    /// A pull of what is synced both ways otherwise: that stays noted, so that the next sync is no first one.
    pub is_narrowed: bool,
}

pub(crate) struct Run<'a> {
    pub(crate) source: &'a PullSource,
    pub(crate) destination: Arc<dyn Destination>,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) options: &'a PullOptions,
    /// Which way the destination is synced; a run is one of its ways.
    pub(crate) direction: Direction,
    pub(crate) progress: Arc<dyn Progress>,
    pub(crate) stop: CancellationToken,
    /// Everything is listed, though the state says up to where the vault is known: a dry run does not forget it.
    pub(crate) lists_all: bool,
    /// The session of a follower, if this is one of its runs.
    pub(crate) lines: &'a Lines,
}

impl Run<'_> {
    /// Ends a run, however it went.
    pub(crate) async fn conclude(
        &self,
        outcome: Result<(), PullError>,
        mut report: Report,
        begun: Instant,
    ) -> Result<Report, PullError> {
        report.warnings.extend(self.destination.warnings());
        self.destination.end_run().await;
        report.duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        match outcome {
            Err(PullError::Store(DestinationError::Stopped { .. })) if self.stop.is_cancelled() => {}
            outcome => outcome?,
        }
        report.conclude(self.options.dry_run, self.stop.is_cancelled());
        if report.outcome == Outcome::Complete {
            self.state.note_check(jiff::Timestamp::now().as_millisecond()).await;
        }
        Ok(report)
    }

    /// What comes of work that waits for the service, unless the run is told to stop before.
    pub(crate) async fn unless_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, PullError>>,
    ) -> Result<T, PullError> {
        let stopped = || DestinationError::Stopped { location: self.destination.location() }.into();
        self.stop.run_until_cancelled(work).await.unwrap_or_else(|| Err(stopped()))
    }

    pub(crate) fn warn(&self, warning: String, report: &mut Report) {
        self.progress.notice(&warning);
        report.warn(warning);
    }

    pub(crate) fn target(&self) -> SessionTarget {
        SessionTarget {
            token: self.source.token.clone(),
            vault_id: self.source.vault.id.clone(),
            host: self.source.vault.host.clone(),
            keys: self.source.keys.clone(),
        }
    }
}
