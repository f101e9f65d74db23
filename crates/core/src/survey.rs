//! Inspects the state, the destination and the vault before a run does anything.

use obsync_client::{ClientError, Session};
use obsync_protocol::VaultId;
use obsync_protocol::limits::{
    ENTRIES_KEPT, ENTRIES_RECEIVED, LISTING_BREAKS, LISTING_MEMORY, UNREADABLE_ENTRIES,
};
use tokio_util::sync::CancellationToken;

use crate::cursor::{CursorCheck, REGROWN};
use crate::error::PullError;
use crate::history;
use crate::identity::MarkerFound;
use crate::line::Line;
use crate::listing::{Excess, Listing};
use crate::model::{CursorEntry, Direction, Intent, Record};
use crate::progress::Phase;
use crate::reconcile::{Mode, Reach};
use crate::report::Report;
use crate::run::Run;
use crate::state::{Commit, VaultState};
use crate::transfer::Scout;

/// A listing that was interrupted after this many entries does not count as a failed attempt.
const GOOD_PART: u64 = 256;

/// Handling of a full pull that was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CatchesUp {
    Yes,
    /// Local changes have to stay: in a full pull they would count as damage.
    No,
}

/// Results of the survey.
pub(crate) struct Survey {
    pub(crate) mode: Mode,
    pub(crate) reach: Reach,
    pub(crate) known: VaultState,
    /// The version up to which nothing has to be done again.
    pub(crate) floor: u64,
    /// Checks the destination.
    pub(crate) scout: Scout,
    /// The state of the destination does not come from the run that filled it.
    pub(crate) is_lost: bool,
    /// The records are not trusted, though they could not be forgotten.
    pub(crate) disbelieved: bool,
    /// The destination's marker.
    pub(crate) marker: MarkerFound,
    pub(crate) listing: Listing,
    /// Comparison of the listing with the cursor.
    pub(crate) cursor: CursorCheck,
    /// The last version of the listing.
    pub(crate) version: u64,
    /// The session of the listing, until it is used up.
    pub(crate) session: Option<Session>,
    /// The listing has only entries after an earlier one of this run, whose plan was applied.
    pub(crate) is_sequel: bool,
}

impl Survey {
    /// True if the destination can have files that an earlier run put there, whose state is lost, and that
    /// the vault deleted since: the destination belongs to this vault, and nothing is recorded.
    pub(crate) fn may_have_vanished(&self, vault: &VaultId) -> bool {
        let is_whole = self.known.version == 0 && self.reach == Reach::Everything;
        is_whole && self.is_lost && !self.scout.is_empty && !self.is_sequel && self.marker.is_of(vault)
    }

    /// True if the listing covers the whole vault, so that earlier deferred changes do not count.
    pub(crate) fn is_whole(&self) -> bool {
        self.mode == Mode::Full || self.reach.lowers()
    }
}

/// Where a run begins.
struct Begun {
    known: VaultState,
    is_empty: bool,
    /// The earlier run's.
    intents: Vec<Intent>,
}

/// A listing of the server.
pub(crate) struct Listed {
    pub(crate) listing: Listing,
    pub(crate) cursor: CursorCheck,
    pub(crate) session: Session,
    /// The version that was listed from.
    start: u64,
    /// It came over a session that was open all the time, so no request is needed.
    is_heard: bool,
}

impl Listed {
    /// The last version of the listing: the highest received uid, whatever `ready` says.
    pub(crate) fn version(&self) -> u64 {
        self.start.max(self.listing.newest)
    }

    /// The newest version that the server knows, by its own claim or by an entry.
    fn server_version(&self) -> u64 {
        let heard = if self.is_heard { self.start } else { 0 };
        self.session.server_version().unwrap_or_default().max(self.listing.newest).max(heard)
    }
}

impl Run<'_> {
    /// Connects and lists. `None` if the run was stopped.
    pub(crate) async fn survey(
        &self,
        mode: Mode,
        catches_up: CatchesUp,
        report: &mut Report,
    ) -> Result<Option<Survey>, PullError> {
        let begin = async {
            let known = self.state.load().await?;
            let is_empty = self.destination.is_empty().await?;
            // Before anything is committed: intents have the paths of the files.
            Ok::<_, PullError>((known, is_empty, self.state.intents().await?))
        };
        // A service or a table that does not respond must not delay cancellation.
        let Some(begun) = self.stop.run_until_cancelled(begin).await.transpose()? else { return Ok(None) };
        let (known, is_empty, intents) = begun;
        // Runs to its end, so that each file which is returned is reported.
        self.return_taken(mode, &known, &intents, report).await?;
        let look = self.look(mode, catches_up, Begun { known, is_empty, intents }, report);
        self.stop.run_until_cancelled(look).await.transpose()
    }

    /// Inspects the state, the destination and the vault.
    async fn look(
        &self,
        mode: Mode,
        catches_up: CatchesUp,
        Begun { mut known, is_empty, intents }: Begun,
        report: &mut Report,
    ) -> Result<Survey, PullError> {
        // Records that a dry run would have forgotten are listed again, too.
        if self.lists_all || !report.foreseen.forgotten.is_empty() {
            known.version = 0;
        }
        if !self.options.is_narrowed {
            if self.direction == Direction::Pull && known.direction != Direction::Pull {
                // A pending full sync is left to a sync: in a full pull local changes would count as damage.
                known.full_up_to = None;
            }
            // The first run of a direction counts as first until its pull completes.
            let is_first_sync = self.direction == Direction::Both && known.is_first(Direction::Both);
            if known.direction != Direction::Pull && !is_first_sync || !known.listed {
                known.direction = self.direction;
            }
        }
        let had_identity = known.destination.is_some();
        let marker = self.judge_destination(&mut known, is_empty, report).await?;
        // An unknown or doubtful identity means that there may be files of an earlier run.
        let is_lost = !had_identity || report.doubt.is_some() || known.was_doubted();
        if self.options.keep_everything && !known.keeping && !self.options.dry_run {
            known.keeping = true;
            let intents = intents.clone();
            self.state.commit(Commit { intents, state: known.clone(), ..Commit::default() }).await?;
        }
        let keeps = self.options.keep_everything || known.keeping;
        let unclear = self.recover(&known, intents, report).await?;
        if is_empty || mode == Mode::Full {
            // The checked files are gone, or a full check from the beginning is wanted.
            known.full_up_to = known.full_up_to.map(|_| 0);
        }
        let asked = mode;
        let is_of_pull = self.options.is_narrowed || self.direction == Direction::Pull;
        let is_due = known.full_up_to.is_some() && known.direction == Direction::Pull && is_of_pull;
        let mode = if is_due && catches_up == CatchesUp::Yes { Mode::Full } else { mode };
        let start = match mode {
            Mode::Incremental if !keeps => known.version,
            _ => 0,
        };
        let may_be_heard = mode == Mode::Incremental
            && !keeps
            && !self.options.dry_run
            && known.listed
            && report.doubt.is_none();
        let heard = if may_be_heard { self.heard(&known) } else { None };
        let mut listed = match heard {
            Some(listed) => listed,
            None => self.list(start, &known).await?,
        };
        report.listed += listed.listing.received;
        let server = listed.server_version();
        // The records may have been forgotten; the newest listed entry is kept.
        let newest = known.cursor.map_or(0, |cursor| cursor.uid.0);
        let is_older = server < known.version.max(newest);
        let mode = match is_older && self.options.accept_older_vault && !is_empty {
            // The interrupted full pull was about the vault at that time; this one may remove files only if
            // the user asks for it.
            true => {
                known.full_up_to = known.full_up_to.filter(|_| asked == Mode::Full);
                asked
            }
            false => mode,
        };
        let is_restored = !is_older && !keeps && !listed.cursor.is_confirmed();
        if is_restored {
            self.warn(REGROWN.to_owned(), report);
            report.vault_restored = true;
        }
        let reach = match is_restored || keeps {
            true => Reach::KeepEverything,
            false => self.reach(mode, is_older),
        };
        if reach != Reach::Everything && start > 0 {
            listed = self.list(0, &known).await?;
            report.listed += listed.listing.received;
        }
        let mode = match reach {
            Reach::Additions => {
                report.older_vault = Some(server);
                // What a session hears does not tell how old the vault is.
                self.lines.distrust();
                self.warn(older(server, known.version.max(newest)), report);
                // Files are compared with the listing, not checked: an older listing is not trusted that far.
                Mode::Incremental
            }
            _ => mode,
        };
        let floor = match reach {
            Reach::Everything if server >= known.version => known.version,
            Reach::Additions => known.version,
            Reach::Everything | Reach::Listed | Reach::KeepEverything => 0,
        };
        if floor < known.version {
            known.full_up_to = known.full_up_to.map(|_| 0);
        }
        let version = listed.version();
        let Listed { listing, cursor, session, .. } = listed;
        self.forget_relisted(unclear, &listing, &known).await?;
        // With `keep_everything`, an earlier content of the vault counts as a user's, whatever the service
        // says.
        let historian = (reach != Reach::KeepEverything).then(|| self.historian(version));
        let is_recorded = self.direction == Direction::Pull
            && (mode, reach) == (Mode::Incremental, Reach::Everything)
            && start > 0
            && !is_lost;
        let scout = Scout { destination: self.destination.clone(), is_empty, is_recorded, historian };
        let disbelieved = self.options.dry_run && report.doubt.is_some();
        Ok(Survey {
            mode,
            reach,
            known,
            floor,
            scout,
            is_lost,
            disbelieved,
            marker,
            listing,
            cursor,
            version,
            session: Some(session),
            is_sequel: false,
        })
    }

    /// Limits on changes of recorded files, depending on whether the vault is older than the destination.
    fn reach(&self, mode: Mode, is_older: bool) -> Reach {
        match (is_older, self.options.accept_older_vault) {
            (true, false) => Reach::Additions,
            (true, true) if mode == Mode::Incremental => Reach::Listed,
            _ => Reach::Everything,
        }
    }

    /// Changes that a follower's session received since the last run, as a listing. `None` if no session
    /// received everything.
    fn heard(&self, known: &VaultState) -> Option<Listed> {
        let (session, news) = self.lines.news(known.version)?;
        let mut listing = Listing::within(self.options.listing_memory.unwrap_or(LISTING_MEMORY));
        for message in news {
            listing.add(message, &self.source.keys);
        }
        if listing.excess.is_some() {
            return None;
        }
        let mut cursor = CursorCheck::unbroken(known.version, known.cursor);
        cursor.see_news(listing.entries.iter());
        Some(Listed { listing, cursor, session, start: known.version, is_heard: true })
    }

    /// Lists the entries after `start`.
    async fn list(&self, start: u64, known: &VaultState) -> Result<Listed, PullError> {
        self.list_from(start, start == 0 || !known.listed, known.cursor).await
    }

    /// Lists the entries after `start`, and the cursor's entry. Checks whether that is proof.
    pub(crate) async fn list_from(
        &self,
        start: u64,
        initial: bool,
        known: Option<CursorEntry>,
    ) -> Result<Listed, PullError> {
        let mut listed = self.list_entries(start, initial, known).await?;
        let Some((path, uid)) = listed.cursor.to_bear_out() else { return Ok(listed) };
        let record = self.state.records(std::slice::from_ref(path)).await?.pop().flatten();
        let file = record.as_ref().and_then(Record::file).filter(|file| file.uid == uid);
        let is_borne_out = match file {
            Some(file) => history::has_version(&mut listed.session, &self.source.keys, path, file).await,
            None => Ok(true),
        };
        match is_borne_out {
            Ok(is_borne_out) => listed.cursor.bear_out(is_borne_out),
            // A vault that counts as another one costs a complete listing and copies of differing files, so a
            // failed check counts as proof. The session may be in any state now.
            Err(error) => {
                tracing::debug!(%error, "the past of the newest entry cannot be looked up");
                listed = self.list_entries(start, initial, known).await?;
                listed.cursor.bear_out(listed.cursor.is_confirmed());
            }
        }
        Ok(listed)
    }

    async fn list_entries(
        &self,
        start: u64,
        initial: bool,
        known: Option<CursorEntry>,
    ) -> Result<Listed, PullError> {
        let retry = &self.source.client.options().retry;
        let mut pauses = retry.pauses();
        let mut listing = Listing::within(self.options.listing_memory.unwrap_or(LISTING_MEMORY));
        let mut cursor = CursorCheck::new(start, known);
        // Start of the next part of an interrupted listing.
        let (mut from, mut breaks) = (cursor.start(), 0);
        loop {
            self.progress.phase(Phase::Connecting);
            let (mut session, line) =
                self.lines.open(&self.source.client, &self.target(), from, initial).await?;
            self.progress.phase(Phase::Listing);
            let (before, newest) = (listing.received, listing.newest);
            let listed = self.receive(&mut session, &mut listing, &mut cursor).await;
            if let Some(excess) = listing.excess {
                return Err(self.too_large(excess, &listing));
            }
            let error = match listed {
                Ok(_) => {
                    cursor.see_news(listing.entries.iter());
                    let listed = Listed { listing, cursor, session, start, is_heard: false };
                    if let Some(line) = line {
                        self.lines.put(Line { taken: listed.version(), ..line });
                    }
                    return Ok(listed);
                }
                Err(error) if !error.is_retryable() => return Err(error.into()),
                Err(error) => error,
            };
            // The highest received uid is listed once more: a rename's two entries can share one
            // (docs/PROTOCOL.md section 3).
            from = from.max(session.version().saturating_sub(1));
            // Repeated entries are no progress, and the parts must not become ever smaller.
            let is_good = listing.received - before >= GOOD_PART && listing.newest > newest;
            if is_good && breaks < LISTING_BREAKS {
                breaks += 1;
                pauses = retry.pauses();
            }
            let Some(pause) = pauses.next() else {
                return Err(error.into());
            };
            self.progress
                .notice(&format!("the list of changes broke off ({error}); going on from version {from}"));
            tokio::time::sleep(pause).await;
        }
    }

    /// Receives a listing to its end, or until it is too large; if only memory is short, to its end
    /// nevertheless, to report how much it needs.
    async fn receive(
        &self,
        session: &mut Session,
        listing: &mut Listing,
        cursor: &mut CursorCheck,
    ) -> Result<(), ClientError> {
        let enough = CancellationToken::new();
        let mut take = |message| {
            if !cursor.see(&message, &self.source.keys) {
                if cursor.is_flooded() {
                    listing.excess = Some(Excess::Received);
                    enough.cancel();
                }
                return;
            }
            listing.add(message, &self.source.keys);
            self.progress.listed(listing.received);
            if matches!(listing.excess, Some(Excess::Received | Excess::Paths | Excess::Unreadable)) {
                enough.cancel();
            }
        };
        tokio::select! {
            biased;
            () = enough.cancelled() => Ok(()),
            listed = session.listing(&mut take) => listed.map(|_| ()),
        }
    }

    pub(crate) fn too_large(&self, excess: Excess, listing: &Listing) -> PullError {
        match excess {
            Excess::Received => PullError::TooManyEntries { limit: ENTRIES_RECEIVED },
            Excess::Unreadable => PullError::TooManyUnreadable { limit: UNREADABLE_ENTRIES },
            Excess::Paths => PullError::TooManyPaths { limit: ENTRIES_KEPT },
            Excess::Memory => {
                let allowed = self.options.listing_memory.unwrap_or(LISTING_MEMORY);
                let entries = listing.received.saturating_add(listing.recalled);
                PullError::ListingTooLarge { entries, needed: listing.memory(), allowed }
            }
        }
    }
}

/// Warning about a vault that is older than the destination.
fn older(server: u64, destination: u64) -> String {
    format!(
        "the vault on the server is at version {server}, but the destination was pulled from version {destination}: the \
         vault was rolled back or replaced. Nothing was removed, and only entries newer than the files here were \
         applied. Look at the vault in Obsidian; if it is as it should be, `obsync pull --accept-older-vault` \
         continues from its version"
    )
}
