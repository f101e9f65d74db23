//! Sends announced changes: one by one over the session that receives all changes, or over several
//! connections in parallel.

use std::collections::HashMap;
use std::sync::Arc;

use obsync_client::{
    ClientError, PushFailure, Upload, UploadFailure, UploadOptions, UploadPool, UploadSource, WritingSession,
};
use obsync_protocol::VaultPath;
use tokio::sync::mpsc;

use crate::destination::DestinationError;
use crate::error::PullError;
use crate::report::Report;
use crate::run::Run;
use crate::state::StateError;
use crate::two_way::vault_change::{Contents, VaultChange};

use super::Outbox;

/// Why a change was not accepted.
pub(super) enum NotTaken {
    /// For a reason that concerns this change; the next run tries again.
    Refused(String),
    /// It is unknown whether the vault has the change.
    Unknown,
    /// It was changed again before it was sent; the next scan finds it.
    Overtaken,
    /// The connection was lost; the next scan finds the change again.
    Lost(ClientError),
    /// The run was stopped while it was sent; the outcome is unknown, and there is no time to determine it.
    Stopped,
    /// The vault is full.
    Full(String),
}

/// The outcomes of changes that were sent one by one, and the changes that were not sent.
pub(super) type InTurn = (Vec<(VaultChange, Option<NotTaken>)>, Vec<VaultChange>);

impl Outbox<'_, '_> {
    /// Sends changes one by one over the session that receives all changes. If a file that changes while it
    /// is read ends that session, returns the remaining changes, to be sent without it.
    pub(super) async fn push_in_turn(&mut self, changes: Vec<VaultChange>) -> Result<InTurn, PullError> {
        let run = self.run;
        let contents = Contents::of(run);
        let mut outcomes = Vec::new();
        let mut changes = changes.into_iter();
        for change in changes.by_ref() {
            if run.stop.is_cancelled() {
                outcomes.push((change, Some(NotTaken::Overtaken)));
                continue;
            }
            require_lease(run)?;
            // Boxed, like the others here, because a run is large for a thread's stack.
            let pushed = Box::pin(push(&mut self.session, &contents, &change));
            let Some(not_taken) = run.stop.run_until_cancelled(pushed).await.transpose()? else {
                outcomes.push((change, Some(NotTaken::Stopped)));
                continue;
            };
            contents.progress.placed(change.path(), change.size());
            if not_taken.is_none() {
                self.taken.insert(change.path().clone(), now());
            }
            let is_ended = matches!(not_taken, Some(NotTaken::Overtaken)) && !self.session.is_open();
            outcomes.push((change, not_taken));
            if is_ended {
                break;
            }
        }
        Ok((outcomes, changes.collect()))
    }

    /// Sends changes over several connections, or one by one over one additional connection, while the
    /// session receives their echoes.
    pub(super) async fn push_at_once(
        &mut self,
        changes: Vec<VaultChange>,
        in_turn: bool,
        report: &mut Report,
    ) -> Result<Vec<(VaultChange, Option<NotTaken>)>, PullError> {
        let count = changes.len();
        let mut without_answer: HashMap<VaultPath, VaultChange> =
            changes.iter().map(|change| (change.path().clone(), change.clone())).collect();
        let (jobs, job_queue) = mpsc::channel(count);
        let (results, mut result_queue) = mpsc::channel(count);
        for change in changes {
            // The channel has room for all of them.
            let _ = jobs.try_send(change);
        }
        drop(jobs);
        let contents = Arc::new(Contents::of(self.run));
        let pool = UploadPool {
            client: self.run.source.client.clone(),
            target: self.run.target(),
            version: self.known.version,
            options: match in_turn {
                true => UploadOptions { connections: 1, ..UploadOptions::default() },
                false => UploadOptions::default(),
            },
            source: contents.clone(),
            jobs: job_queue,
            results,
            cancel: self.run.stop.clone(),
            first_session: None,
        };
        let mut outcomes = Vec::with_capacity(count);
        let mut taken = Vec::with_capacity(count);
        let run = self.run;
        let collect = async {
            while let Some(result) = result_queue.recv().await {
                contents.progress.placed(result.job.path(), result.job.size());
                let not_taken = match result.outcome {
                    Ok(_) => {
                        taken.push((result.job.path().clone(), now()));
                        None
                    }
                    Err(UploadFailure::Source(error)) if DestinationError::is_fatal(&error) => {
                        require_lease(run)?;
                        return Err(error.into());
                    }
                    Err(UploadFailure::Source(error)) => {
                        tracing::debug!(%error, "a file cannot be sent");
                        Some(NotTaken::Overtaken)
                    }
                    Err(UploadFailure::Push(failure)) => Some(not_taken(&failure)?),
                };
                outcomes.push((result.job, not_taken));
            }
            Ok::<_, PullError>(())
        };
        let mut send = Box::pin(async { tokio::join!(pool.run(), collect) });
        let (summary, collected) = loop {
            tokio::select! {
                biased;
                ended = &mut send => break ended,
                error = self.session.idle(), if self.session.is_open() => {
                    tracing::debug!(%error, "the session that hears echoes is over; the history says what came of the changes");
                }
            }
        };
        drop(send);
        self.taken.extend(taken);
        collected?;
        report.connections += summary?.connections;
        outcomes.iter().for_each(|(change, _)| drop(without_answer.remove(change.path())));
        outcomes.extend(without_answer.into_values().map(|change| (change, Some(NotTaken::Stopped))));
        Ok(outcomes)
    }
}

/// Sends one change. Returns the reason if it was not accepted.
async fn push(
    session: &mut WritingSession,
    contents: &Contents,
    change: &VaultChange,
) -> Result<Option<NotTaken>, PullError> {
    let pushed = match contents.upload(change) {
        Upload::Folder(path) => session.push_folder(path).await.map(|_| ()),
        Upload::Deletion { path, folder } => session.push_deletion(path, folder).await.map(|_| ()),
        Upload::File(file, size) => match contents.open(change).await {
            Err(error) if error.is_fatal() => return Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, "a file cannot be sent");
                return Ok(Some(NotTaken::Overtaken));
            }
            Ok(content) => {
                let (may_delete, on_sent) =
                    (|| contents.check(change).is_ok(), |bytes| contents.sent(change, bytes));
                match file.related {
                    None => session.push_file_noting(&file, size, content, &on_sent).await.map(|_| ()),
                    Some(from) => session
                        .push_rename(from, &file, size, content, may_delete, &on_sent)
                        .await
                        .map(|_| ()),
                }
            }
        },
    };
    pushed.err().map(|failure| not_taken(&failure)).transpose()
}

/// Milliseconds since the epoch.
fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// Maps a failed push to the reason for its change.
///
/// # Errors
/// Failures that no single change causes.
fn not_taken(failure: &PushFailure) -> Result<NotTaken, PullError> {
    match failure {
        PushFailure::Refused(
            error @ (ClientError::ReadOnly { .. }
            | ClientError::SubscriptionExpired
            | ClientError::NotSignedIn),
        ) => Err(error.clone().into()),
        PushFailure::Refused(error @ ClientError::VaultFull) => Ok(NotTaken::Full(error.to_string())),
        PushFailure::Refused(error) => Ok(NotTaken::Refused(error.to_string())),
        PushFailure::NotRecorded(ClientError::SourceChanged | ClientError::Source { .. }) => {
            Ok(NotTaken::Overtaken)
        }
        PushFailure::NotRecorded(error) if error.is_retryable() => Ok(NotTaken::Lost(error.clone())),
        PushFailure::NotRecorded(error) => Ok(NotTaken::Refused(error.to_string())),
        PushFailure::Unknown(_) => Ok(NotTaken::Unknown),
    }
}

/// Fails once another run may have the destination, so that nothing more is sent.
fn require_lease(run: &Run<'_>) -> Result<(), PullError> {
    match run.state.is_held() {
        true => Ok(()),
        false => Err(StateError::LeaseLost { destination: run.destination.location() }.into()),
    }
}
