//! Looks up unconfirmed changes in the history of their paths, and brings back contents that another device
//! wrote in between.

use obsync_client::Session;
use obsync_protocol::{ContentHash, Uid, VaultPath};

use crate::conflicted_copy::{self, COPIES, DeviceName};
use crate::destination::{DestinationError, Expect};
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::journal::{JournalChange, JournalEntry, Side};
use crate::merge::{MergeKind, merge};
use crate::model::{Direction, Intent, KnownContent, Record};
use crate::progress::FileAction;
use crate::publish::publish_one;
use crate::report::{Conflict, Failure, Report};
use crate::run::Run;
use crate::state::{Commit, VaultState};

use super::contents::Version;
use super::outgoing::{SendFile, sent};
use super::settlement::{Seen, SentChange, SentKind, Settlement, settle};

/// Pages of one path's history read at most.
const PAGES: usize = 20;

impl Run<'_> {
    /// Settles a change by the history of its path.
    pub(super) async fn settle_by_history(
        &self,
        path: &VaultPath,
        sent: SentChange,
        after: u64,
    ) -> Result<Settlement, PullError> {
        let mut session = Session::open(&self.source.client, &self.target(), after, false).await?;
        session.listing(&mut |_| {}).await?;
        let settlement = self.settle_over(&mut session, path, sent).await;
        session.close().await;
        settlement
    }

    async fn settle_over(
        &self,
        session: &mut Session,
        path: &VaultPath,
        sent: SentChange,
    ) -> Result<Settlement, PullError> {
        let seen = self.past(session, path, sent.above).await?;
        Ok(settle(sent, &self.source.client.options().device, &seen))
    }

    /// Returns the vault's versions of a path above a version, in order, and possibly some earlier ones.
    pub(super) async fn past(
        &self,
        session: &mut Session,
        path: &VaultPath,
        above: Uid,
    ) -> Result<Vec<Seen>, PullError> {
        let keys = &self.source.keys;
        let encoded = keys.encode_path(path);
        let (mut seen, mut last) = (Vec::new(), Uid(0));
        for _ in 0..PAGES {
            let page = session.history(&encoded, last).await?;
            let oldest = page.items.last().map(|item| item.uid);
            for item in page.items {
                if let Ok(entry) = RemoteEntry::decode(&item, keys) {
                    seen.push(Seen { entry, device: item.device });
                }
            }
            match oldest {
                Some(uid) if page.more && uid > above && uid != last => last = uid,
                _ => break,
            }
        }
        seen.sort_by_key(|seen| seen.entry.uid);
        Ok(seen)
    }

    /// Settles the changes that a dead run had announced to send. The following pull records those that the
    /// vault has, as it does for every change of the vault; this only brings back what another device wrote
    /// in between. Returns the changes that the vault does not have yet and may still accept: they stay
    /// announced until [`settle_late`](Self::settle_late).
    pub(crate) async fn settle_intents(&self, report: &mut Report) -> Result<Vec<Undecided>, PullError> {
        let (pushes, others): (Vec<Intent>, Vec<Intent>) =
            self.state.intents().await?.into_iter().partition(Intent::is_push);
        if pushes.is_empty() || self.options.dry_run {
            return Ok(Vec::new());
        }
        let known = self.state.load().await?;
        let undecided = pushes.into_iter().filter_map(|push| Undecided::of(push, known.version)).collect();
        let settled = self.settle_all(undecided, &known, report).await?;
        self.note_settled(settled, others, true).await
    }

    /// Settles again the changes that the vault did not have before it was listed: it may have accepted them
    /// since, and the listing does not show contents that another device wrote before them. Returns those
    /// that the vault still does not have; they are no longer announced.
    pub(crate) async fn settle_late(
        &self,
        undecided: Vec<Undecided>,
        report: &mut Report,
    ) -> Result<Vec<Undecided>, PullError> {
        if undecided.is_empty() {
            return Ok(undecided);
        }
        let known = self.state.load().await?;
        let looked_up: Vec<Intent> = undecided.iter().map(|undecided| undecided.intent.clone()).collect();
        let settled = self.settle_all(undecided, &known, report).await?;
        let mut others = self.state.intents().await?;
        others.retain(|intent| !looked_up.contains(intent));
        self.note_settled(settled, others, false).await
    }

    /// Commits the settled changes, so that no later run brings the same text back again. Waiting changes
    /// stay announced, and with `stays` also those that the vault does not have.
    async fn note_settled(
        &self,
        settled: Settled,
        others: Vec<Intent>,
        stays: bool,
    ) -> Result<Vec<Undecided>, PullError> {
        let Settled { still, waiting, journal, ended } = settled;
        let mut intents = others;
        intents.extend(waiting);
        if stays || ended.is_err() {
            intents.extend(still.iter().map(|undecided| undecided.intent.clone()));
        }
        let state = self.state.load().await?;
        self.state.commit(Commit { intents, journal, state, ..Commit::default() }).await?;
        ended.map(|()| still)
    }

    /// Looks all of them up over one session.
    async fn settle_all(
        &self,
        all: Vec<Undecided>,
        known: &VaultState,
        report: &mut Report,
    ) -> Result<Settled, PullError> {
        let mut settled =
            Settled { still: Vec::new(), waiting: Vec::new(), journal: Vec::new(), ended: Ok(()) };
        if all.is_empty() {
            return Ok(settled);
        }
        let opening = async {
            let mut session =
                Session::open(&self.source.client, &self.target(), known.version, !known.listed).await?;
            session.listing(&mut |_| {}).await?;
            Ok(session)
        };
        let mut session = self.unless_stopped(opening).await?;
        report.connections += 1;
        let mut all = all.into_iter();
        for mut undecided in all.by_ref() {
            let looked_up = self.settle_one(&mut session, &mut undecided, known, &mut settled, report).await;
            match looked_up {
                Ok(()) if undecided.left.is_empty() => {}
                Ok(()) => settled.still.push(undecided),
                // A text that the vault does not return does not delay the others, if it can be found again
                // later.
                Err(PullError::Client(error)) if undecided.can_wait() => {
                    let path = undecided.path().as_str().to_owned();
                    let reason = format!(
                        "what another device wrote to it just before this one cannot be had from the vault for the moment \
                         ({error}); the next run tries again"
                    );
                    report.fail(Failure { path, uid: undecided.above, reason });
                    settled.waiting.push(undecided.intent);
                }
                Err(error) => {
                    settled.still.push(undecided);
                    settled.ended = Err(error);
                    break;
                }
            }
        }
        settled.still.extend(all);
        if settled.ended.is_ok() {
            session.close().await;
        }
        Ok(settled)
    }

    /// Looks one of them up. Parts that the vault does not have yet stay in `undecided`.
    async fn settle_one(
        &self,
        session: &mut Session,
        undecided: &mut Undecided,
        known: &VaultState,
        settled: &mut Settled,
        report: &mut Report,
    ) -> Result<(), PullError> {
        for (at, kind) in std::mem::take(&mut undecided.left) {
            let record = self.state.records(std::slice::from_ref(&at)).await?.pop().flatten();
            let base_content = record.as_ref().and_then(Record::file).map(|file| file.hash);
            let sent = SentChange { kind, above: undecided.above, base_content };
            let settlement = self.unless_stopped(self.settle_over(session, &at, sent)).await?;
            if let Some(lost) = settlement.overwritten {
                settled.journal.extend(self.keep_copy(&at, &lost, known.version, report).await?);
            }
            if settlement.ours.is_none() {
                undecided.left.push((at, kind));
            }
        }
        Ok(())
    }

    /// Brings back a content that another device wrote while a change of the same path was in flight and that
    /// the vault no longer lists: merged with the local file, as the file that was deleted here, or under a
    /// name of its own. The following scan finds it. A push changes no file of its user, so there it always
    /// gets a name of its own.
    pub(super) async fn bring_back(
        &self,
        path: &VaultPath,
        ours: Option<&SendFile>,
        uid: Uid,
        lost: &RemoteEntry,
        after: u64,
        report: &mut Report,
    ) -> Result<BroughtBack, PullError> {
        let line = |change| JournalEntry::new(Side::Here, change, path.clone(), lost.uid);
        if self.direction == Direction::Push {
            return Ok(BroughtBack { record: None, line: self.keep_copy(path, lost, after, report).await? });
        }
        if let Some(ours) = ours {
            if self.merge_lost(path, ours, lost, after).await? {
                report.note_merged(path);
                self.progress.file(path, FileAction::Merged);
                let record = Record { facts: None, ..sent(&ours.local, uid) };
                return Ok(BroughtBack { record: Some(record), line: Some(line(JournalChange::Merge)) });
            }
        } else if self.put_version(path, lost, after).await? == Put::Done {
            // An edit wins over a deletion.
            self.progress
                .notice(&format!("another device wrote to {path} while its deletion was sent; it is back"));
            return Ok(BroughtBack { record: None, line: Some(line(JournalChange::Write)) });
        }
        Ok(BroughtBack { record: None, line: self.keep_copy(path, lost, after, report).await? })
    }

    /// Merges an overwritten content into the local file.
    async fn merge_lost(
        &self,
        path: &VaultPath,
        ours: &SendFile,
        lost: &RemoteEntry,
        after: u64,
    ) -> Result<bool, PullError> {
        let (Some(kind), Some(base), Some(version)) =
            (MergeKind::of(path, &self.config_dir(path)), ours.base.as_ref(), version_of(lost))
        else {
            return Ok(false);
        };
        let base = Version { uid: base.uid, content: KnownContent::from(base) };
        let mut texts = self.texts(vec![base, version], after).await?.into_iter();
        let (Some(base), Some(Some(remote))) = (texts.next(), texts.next()) else { return Ok(false) };
        let Some(local) = self.read_text(path).await? else { return Ok(false) };
        if KnownContent::of(&local) != ours.local.content {
            return Ok(false);
        }
        let Ok(merged) = merge(kind, base.as_deref(), &local, &remote) else { return Ok(false) };
        let now = jiff::Timestamp::now().as_millisecond();
        let expect = Expect::Content(ours.local.content);
        Ok(self.put_text(path, merged, expect, (now, ours.local.ctime)).await?.is_some())
    }

    /// Keeps a content under a name beside its own. Returns the line for the journal if that worked.
    pub(super) async fn keep_copy(
        &self,
        path: &VaultPath,
        lost: &RemoteEntry,
        after: u64,
        report: &mut Report,
    ) -> Result<Option<JournalEntry>, PullError> {
        let label = conflicted_copy::label(DeviceName::new(&self.source.client.options().device));
        let limit = self.destination.longest_name_beside(path);
        for copy in 1..COPIES {
            let Some(kept_as) = conflicted_copy::path(path, false, &label, copy, limit) else { break };
            let put = match self.put_version(&kept_as, lost, after).await {
                // The folder of a push may be read-only.
                Err(PullError::Store(error @ DestinationError::Unavailable { .. }))
                    if self.direction == Direction::Push =>
                {
                    tracing::debug!(%error, "a text cannot be kept here");
                    break;
                }
                put => put?,
            };
            match put {
                Put::Done => {
                    self.progress.notice(&format!("kept what another device wrote to {path} as {kept_as}"));
                    let line = JournalEntry::conflicted_copy(path, &kept_as, lost.uid, report.device.clone());
                    report.conflicts.push(Conflict { path: path.clone(), kept_as });
                    return Ok(Some(line));
                }
                Put::Occupied => {}
                Put::Gone => break,
            }
        }
        self.warn(
            format!(
                "what another device wrote to {path} meanwhile (version {}) could not be brought here; the vault has it in the \
                 history of that file",
                lost.uid.0
            ),
            report,
        );
        Ok(None)
    }

    /// Puts a version of the vault at an empty path.
    async fn put_version(&self, path: &VaultPath, entry: &RemoteEntry, after: u64) -> Result<Put, PullError> {
        let Some(version) = version_of(entry) else { return Ok(Put::Gone) };
        let times = (entry.mtime, entry.ctime);
        let Some(staged) = self.stage_version(version, path, times, after).await? else {
            return Ok(Put::Gone);
        };
        let published = publish_one(self.destination.as_ref(), staged, Expect::Absent).await?;
        Ok(published.map_or(Put::Occupied, |_| Put::Done))
    }
}

/// A sent change that the vault may or may not have.
pub(crate) struct Undecided {
    intent: Intent,
    /// The version that the change was made from: everything that the vault has of its paths above it is
    /// newer.
    above: Uid,
    /// The kind sent for each path whose fate is unknown.
    left: Vec<(VaultPath, SentKind)>,
}

/// Result of looking changes up.
struct Settled {
    /// Changes that the vault does not have, and those that were not looked up.
    still: Vec<Undecided>,
    /// Changes that the vault has, over a text that it does not return at the moment.
    waiting: Vec<Intent>,
    /// Lines for the journal.
    journal: Vec<JournalEntry>,
    /// Error if not all were looked up.
    ended: Result<(), PullError>,
}

impl Undecided {
    fn path(&self) -> &VaultPath {
        let (Intent::Place(Record { path, .. })
        | Intent::Remove { path, .. }
        | Intent::Exchange { path, .. }
        | Intent::Push { path, .. }) = &self.intent;
        path
    }

    /// The sent file and its content, if it was a file.
    pub(super) fn file(&self) -> Option<(VaultPath, ContentHash)> {
        let Intent::Push { path, content: Some(content), .. } = &self.intent else { return None };
        Some((path.clone(), content.hash))
    }

    /// True if a run can continue without it and the text can still be found later, by the version that the
    /// change was made from. For a new file, only the vault's version says where to start, and a pull
    /// advances that.
    fn can_wait(&self) -> bool {
        matches!(&self.intent, Intent::Push { base, .. } if *base > Uid(0))
    }

    /// An announced change, with the vault's version at that time. `None` for a folder, which replaces no
    /// text.
    fn of(intent: Intent, version: u64) -> Option<Self> {
        let Intent::Push { path, from, content, base } = &intent else { return None };
        let above = match *base {
            Uid(0) if content.is_none() => return None,
            Uid(0) => Uid(version),
            // A pull may have advanced beyond later versions.
            base => base.min(Uid(version)),
        };
        let kind = content.map_or(SentKind::Deletion, |content| SentKind::File(content.hash));
        let old = from.iter().map(|from| (from.clone(), SentKind::Deletion));
        let left = std::iter::once((path.clone(), kind)).chain(old).collect();
        Some(Undecided { intent, above, left })
    }
}

/// Result of bringing a content back that another device wrote in between.
pub(super) struct BroughtBack {
    /// The new record of the sent file, if it changed.
    pub(super) record: Option<Record>,
    /// Line for the journal.
    pub(super) line: Option<JournalEntry>,
}

/// Result of putting a version at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Done,
    /// The path is not empty.
    Occupied,
    /// The vault does not return the version (any more).
    Gone,
}

fn version_of(entry: &RemoteEntry) -> Option<Version> {
    match entry.kind {
        EntryKind::File { hash, size } => {
            Some(Version { uid: entry.uid, content: KnownContent { hash, size } })
        }
        EntryKind::Folder | EntryKind::Deleted { .. } => None,
    }
}
