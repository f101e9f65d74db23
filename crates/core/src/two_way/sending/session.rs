//! The session for sending changes: opened for a run, or taken over from a follower and returned to it
//! afterwards.

use std::collections::{HashMap, HashSet};

use obsync_client::{LiveChanges, WritingSession};

use crate::error::PullError;
use crate::line::Line;
use crate::model::Intent;
use crate::progress::Phase;
use crate::report::Report;
use crate::run::Run;
use crate::state::VaultState;
use crate::two_way::refusal_pauses::Refusals;

use super::{Outbox, Sent};

impl<'s, 'r> Outbox<'s, 'r> {
    /// Opens a session with the state that the last round left. `None` if the vault has changed since: its
    /// changes are applied before anything is sent. `slow_since`: when this run began, if it has a deadline.
    /// The files that the previous run was sending when it ended are missing since then.
    pub(in crate::two_way) async fn open(
        run: &'s Run<'r>,
        known: VaultState,
        slow_since: Option<i64>,
        report: &mut Report,
    ) -> Result<Option<Self>, PullError> {
        run.progress.phase(Phase::Sending);
        let (session, live) = match run.kept_session(&known).await {
            Kept::News => return Ok(None),
            Kept::Open(session, live) => (*session, live),
            Kept::None => {
                report.connections += 1;
                let (session, live, has_news) = run.unless_stopped(Box::pin(run.opened(&known))).await?;
                if has_news {
                    session.close().await;
                    return Ok(None);
                }
                (session, live)
            }
        };
        let mut waiting = run.state.intents().await?;
        waiting.retain(Intent::is_push);
        let missing = |begun: i64| waiting.iter().filter_map(move |push| push.file_missing_since(begun));
        let slow = slow_since.into_iter().flat_map(missing).collect();
        Ok(Some(Outbox {
            run,
            session,
            live,
            messages: Vec::new(),
            newest: known.version,
            cursor: known.cursor,
            known,
            journal: Vec::new(),
            taken: HashMap::new(),
            heard: HashMap::new(),
            has_foreign: false,
            has_restored: false,
            is_settled: true,
            unsettled: Vec::new(),
            waiting,
            full: None,
            refusals: Refusals::default(),
            counted: HashSet::new(),
            refused: Vec::new(),
            slow,
            lost: None,
        }))
    }

    /// Ends the session. If all received changes are this device's and are settled, the destination is
    /// complete up to the newest of them.
    pub(super) async fn close(mut self, report: &mut Report) -> Result<Sent, PullError> {
        while let Ok(Some(message)) = self.live.try_next() {
            self.take_note(&message);
        }
        self.has_foreign |= !self.heard.is_empty();
        if !self.refused.is_empty() {
            self.commit(Vec::new(), Vec::new(), Vec::new()).await?;
        }
        let is_whole = self.is_settled && self.session.is_open() && !self.has_foreign;
        if is_whole && self.newest > self.known.version {
            self.known.version = self.newest;
            self.known.cursor = self.cursor;
            self.commit(Vec::new(), Vec::new(), Vec::new()).await?;
            report.version = self.newest;
        }
        report.vault_version = report.vault_version.max(self.newest);
        let needs_another_round = self.has_foreign || self.has_restored || !self.unsettled.is_empty();
        let sent = Sent { needs_another_round, lost: self.lost.take() };
        match self.run.lines.keeps() {
            true => self.keep(is_whole),
            false => self.session.close().await,
        }
        Ok(sent)
    }

    /// Leaves the session open for the next run. Received messages that are not accounted for become part of
    /// that run's listing.
    fn keep(self, is_whole: bool) {
        let Some((session, permit)) = self.session.into_reading() else { return };
        let backlog = if is_whole { Vec::new() } else { self.messages };
        let (session, permit) = (Some(session), Some(permit));
        self.run.lines.put(Line { session, permit, live: self.live, backlog, taken: self.known.version });
    }
}

/// The session of a follower, for sending.
enum Kept {
    Open(Box<WritingSession>, LiveChanges),
    /// It received changes that have to be applied here first.
    News,
    /// There is none.
    None,
}

impl Run<'_> {
    /// Opens a session and receives its listing. The last value is true if the vault has a change that is not
    /// known.
    async fn opened(&self, known: &VaultState) -> Result<(WritingSession, LiveChanges, bool), PullError> {
        let (client, target) = (&self.source.client, self.target());
        let session = WritingSession::open(client, &target, known.version, !known.listed).await?;
        let mut has_news = false;
        let (session, live) = session.listing(&mut |entry| has_news |= entry.uid.0 > known.version).await?;
        Ok((session, live, has_news))
    }

    async fn kept_session(&self, known: &VaultState) -> Kept {
        let Some(mut line) = self.lines.take().filter(|line| line.taken == known.version) else {
            return Kept::None;
        };
        if !line.gather() {
            return Kept::None;
        }
        // A late echo of a recorded change is not news.
        line.backlog.retain(|change| change.uid.0 >= known.version);
        if line.has_news() {
            self.lines.put(line);
            return Kept::News;
        }
        let Line { session: Some(session), permit: Some(permit), live, .. } = line else { return Kept::None };
        match permit.writing(session) {
            Ok(session) => Kept::Open(Box::new(session), live),
            Err(session) => {
                session.close().await;
                Kept::None
            }
        }
    }
}
