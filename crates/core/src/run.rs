//! The parts of a run: the vault, the destination, the state, and the options; and the common end of every
//! run.

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

/// The vault to pull, with client, token and keys.
#[derive(Clone, Debug)]
pub struct PullSource {
    /// Client of the service.
    pub client: Client,
    /// Token of the account.
    pub token: Token,
    /// The vault as the service lists it.
    pub vault: VaultInfo,
    /// Its keys.
    pub keys: VaultKeys,
}

/// Options of a pull.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// Selects the entries to sync.
    pub filter: Filter,
    /// Extent of the pull.
    pub mode: Mode,
    /// Only report what would be done.
    pub dry_run: bool,
    /// Undo local changes: changed files are set aside, and everything is checked again.
    pub mirrors: bool,
    /// Accept a vault that is older on the server than in the destination: the version of the destination is
    /// lowered to that of the vault. Files that the vault does not list are only removed in [`Mode::Full`].
    pub accept_older_vault: bool,
    /// List the vault from its first version on, remove nothing, and keep differing files under another name:
    /// a file that differs from the listing belongs to the user from then on. For a vault that is not the one
    /// that was pulled before, or has another form.
    pub keep_everything: bool,
    /// Accept lasting failures: names that the destination cannot have, and unreadable entries. They do not
    /// count as failures until the vault changes them.
    pub accept_failures: bool,
    /// List changed files in the report, up to this many bytes of JSON.
    pub list_changes: Option<u64>,
    /// Limit of deleted files; above it, deletions are held back.
    pub max_delete: MaxDelete,
    /// A doubt about the destination that the caller has and that is not in the state.
    pub doubt: Option<Doubt>,
    /// Connections and requests in flight.
    pub fetch: FetchOptions,
    /// Memory limit of transfers.
    pub governor: Governor,
    /// Memory limit of the listing in bytes; `None`:
    /// [`LISTING_MEMORY`](obsync_protocol::limits::LISTING_MEMORY).
    pub listing_memory: Option<u64>,
    /// A content that the run before could not transfer in its time.
    pub hurdle: Option<Hurdle>,
    /// A pull of a destination that is otherwise synced both ways: the state keeps that, so that the next
    /// sync is no first one.
    pub is_narrowed: bool,
}

pub(crate) struct Run<'a> {
    pub(crate) source: &'a PullSource,
    pub(crate) destination: Arc<dyn Destination>,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) options: &'a PullOptions,
    /// The direction in which the destination is synced, of which this run is a part.
    pub(crate) direction: Direction,
    pub(crate) progress: Arc<dyn Progress>,
    pub(crate) stop: CancellationToken,
    /// Everything is listed, though the state has a version: a dry run does not reset it.
    pub(crate) lists_all: bool,
    /// The session of a follower, if this is one of its runs.
    pub(crate) lines: &'a Lines,
}

impl Run<'_> {
    /// Ends a run, whatever its result.
    pub(crate) async fn conclude(
        &self,
        outcome: Result<(), PullError>,
        mut report: Report,
        begun: Instant,
    ) -> Result<Report, PullError> {
        let warnings = self.destination.warnings();
        self.destination.end_run().await;
        report.duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        match outcome {
            Err(PullError::Store(DestinationError::Stopped { .. })) if self.stop.is_cancelled() => {}
            Err(error) => {
                // Without a report nothing else says where a user's text was kept.
                warnings.iter().for_each(|warning| self.progress.notice(warning));
                return Err(error);
            }
            Ok(()) => {}
        }
        report.warnings.extend(warnings);
        report.conclude(self.options.dry_run, self.stop.is_cancelled());
        if report.outcome == Outcome::Complete {
            self.state.note_check(jiff::Timestamp::now().as_millisecond()).await;
        }
        Ok(report)
    }

    /// Result of a request to the service, unless the run is stopped first.
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
