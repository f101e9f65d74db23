//! Looks up unconfirmed changes in the history of their paths, and brings back contents that another device
//! wrote in between.
//!
//! A change whose answer was lost may arrive much later: the service may be slow, or the network deliver what
//! an ended connection had sent. So it stays announced until a listing shows it, or for an hour. Until then
//! the pull may have brought other texts here and the user may have written more: the change is older than
//! what is here.

use std::collections::HashMap;

use obsync_client::Session;
use obsync_protocol::{ContentHash, Uid, VaultPath};

use crate::conflicted_copy::{self, COPIES, DeviceName};
use crate::destination::{DestinationError, DestinationExt, Expect, Found, Wanted};
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::journal::{JournalChange, JournalEntry, Side};
use crate::merge::{MergeKind, merge};
use crate::model::{Direction, Intent, KnownContent, Record};
use crate::progress::FileAction;
use crate::publish::publish_one;
use crate::report::{Conflict, Failure, Report};
use crate::run::Run;
use crate::state::Commit;
use crate::survey::Survey;

use super::contents::Version;
use super::merging::seen;
use super::outgoing::{SendFile, sent};
use super::settlement::{Seen, SentChange, SentKind, Settlement, settle, settle_late};

/// Pages of one path's history read at most.
const PAGES: usize = 20;
/// A sent change that a listing did not have can still arrive for this long, in milliseconds: connections
/// that were given up deliver nothing after about a quarter of an hour, and a service may be slow as well.
const ARRIVES_WITHIN: u64 = 3_600_000;
/// Unanswered pushes of the same change that are remembered. Each may arrive by itself; more than a few within
/// [`ARRIVES_WITHIN`] stand for no more texts.
const TWINS: usize = 4;

impl Run<'_> {
    /// Settles a change by the history of its path, over a session that was opened for others before it.
    pub(super) async fn settle_by_history(
        &self,
        session: &mut Option<Session>,
        path: &VaultPath,
        (sent, late): (SentChange, &[SentKind]),
        after: u64,
    ) -> Result<Settlement, PullError> {
        let mut open = match session.take() {
            Some(open) => open,
            None => {
                let mut open = Session::open(&self.source.client, &self.target(), after, false).await?;
                open.listing(&mut |_| {}).await?;
                open
            }
        };
        let seen = self.past(&mut open, path, sent.above).await?;
        *session = Some(open);
        Ok(settle(sent, &self.source.client.options().device, late, &seen))
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

    /// Settles announced changes whose outcome is unknown, by the history of their paths: those that a dead
    /// run announced, and those that an earlier listing did not have, if this one has an entry of their path.
    /// The following pull records what the vault has, as it does for every change of the vault. This brings
    /// back what another device wrote in between, and keeps the file here if it is newer than the change.
    pub(crate) async fn settle_announced(
        &self,
        survey: &mut Survey,
        report: &mut Report,
    ) -> Result<(), PullError> {
        let mut pushes = self.state.intents().await?;
        pushes.retain(Intent::is_push);
        // The listing of an older vault does not cover what was sent after it.
        if pushes.is_empty() || self.options.dry_run || report.older_vault.is_some() {
            return Ok(());
        }
        let now = jiff::Timestamp::now().as_millisecond();
        let mut left = Vec::new();
        for at in 0..pushes.len() {
            let push = pushes[at].clone();
            let (fate, landed) = self.look_for(&push, &pushes, survey, report).await?;
            match fate {
                Fate::Waits => left.push(always_looked_for(push)),
                Fate::Missing => left.extend(missing(push, now)),
                Fate::Landed => wait_for_twins(&mut pushes[at + 1..], &landed.versions),
            }
            // Recorded at once: no later run brings the same text back again.
            if !landed.versions.is_empty() {
                let announced = left.iter().chain(&pushes[at + 1..]).cloned().collect();
                self.note_landed(landed, announced, survey).await?;
            }
        }
        let left = without_twins(left);
        self.note_landed(Landed::default(), left, survey).await
    }

    /// Commits the pushes that stay announced, and what follows from one that the vault has.
    async fn note_landed(
        &self,
        landed: Landed,
        pushes: Vec<Intent>,
        survey: &Survey,
    ) -> Result<(), PullError> {
        let Landed { records, forgotten, journal, .. } = landed;
        let mut intents = self.state.intents().await?;
        let is_same = intents.iter().filter(|intent| intent.is_push()).eq(&pushes);
        if is_same && records.is_empty() && forgotten.is_empty() && journal.is_empty() {
            return Ok(());
        }
        intents.retain(|intent| !intent.is_push());
        intents.extend(pushes);
        let state = survey.known.clone();
        let commit = Commit { records, forgotten, journal, intents, state, ..Commit::default() };
        Ok(self.state.commit(commit).await?)
    }

    /// Looks for a change in the vault, one of `all`. Returns what follows from the parts that the vault has.
    async fn look_for(
        &self,
        push: &Intent,
        all: &[Intent],
        survey: &mut Survey,
        report: &mut Report,
    ) -> Result<(Fate, Landed), PullError> {
        let (mut landed, mut is_missing) = (Landed::default(), false);
        let Intent::Push { base, missing_since, .. } = push else { return Ok((Fate::Waits, landed)) };
        let parts = push.sent();
        let paths: Vec<VaultPath> = parts.iter().map(|(path, _)| path.clone()).collect();
        let is_listed = parts.iter().any(|(path, _)| survey.listing.entries.get(path).is_some());
        if missing_since.is_some() && !is_listed {
            return Ok((Fate::Missing, landed));
        }
        // An earlier release announced new files without the vault's version.
        let base = if *base == Uid(0) { Uid(survey.known.version) } else { *base };
        for (path, kind) in parts {
            let mut past = match self.past_of(&path, base, survey, report).await {
                // Nor does a history that the server refuses. What is listed may be an old text of this device.
                Err(PullError::Client(error)) if error.is_of_one_path() => {
                    let reason = format!(
                        "whether the vault has what was sent cannot be had from it for the moment ({error}); the next run \
                         tries again"
                    );
                    paths.iter().for_each(|path| survey.listing.withhold(path, &reason));
                    return Ok((Fate::Waits, landed));
                }
                past => past?,
            };
            // What came after the listing is settled with the next one, which shows it.
            past.retain(|seen| seen.entry.uid.0 <= survey.version);
            let late = sent_to(all.iter().filter(|other| *other != push), &path);
            let sent = SentPart { path: &path, kind, base, late: &late, past };
            match self.settle_part(sent, &mut landed, survey, report).await {
                Ok(Some(uid)) => landed.versions.push((path, kind, uid)),
                Ok(None) => is_missing = true,
                // A text that the vault does not return does not delay the others. It is asked for again.
                Err(PullError::Client(error)) => {
                    let reason = format!(
                        "what another device wrote to it just before this one cannot be had from the vault for the moment \
                         ({error}); the next run tries again"
                    );
                    report.fail(Failure { path: path.as_str().to_owned(), uid: base, reason });
                    return Ok((Fate::Waits, landed));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((if is_missing { Fate::Missing } else { Fate::Landed }, landed))
    }

    /// Looks for one path of a change. Returns its version if the vault has it.
    async fn settle_part(
        &self,
        sent: SentPart<'_>,
        landed: &mut Landed,
        survey: &Survey,
        report: &mut Report,
    ) -> Result<Option<Uid>, PullError> {
        let SentPart { path, kind, base, late, past } = sent;
        let record = self.state.records(std::slice::from_ref(path)).await?.pop().flatten();
        let device = &self.source.client.options().device;
        let known = record.as_ref().map(Record::uid);
        let settlement = settle_late(kind, (base, known), device, late, &past);
        let Some(uid) = settlement.ours else { return Ok(None) };
        if let Some(lost) = settlement.overwritten {
            landed.journal.extend(self.keep_copy(path, &lost, survey.version, report).await?);
        }
        let entry = past.into_iter().map(|seen| seen.entry).find(|entry| entry.uid == uid);
        // In a destination in doubt, a file may be older than the change, too.
        let may_be_newer = !survey.is_lost && known.is_none_or(|known| known < uid);
        if let Some(entry) = entry.filter(|_| may_be_newer) {
            self.keep_what_is_newer(entry, record.as_ref(), landed).await?;
        }
        Ok(Some(uid))
    }

    /// Records a landed change if the file here is another one by now: that was made after the change, so it
    /// stays, and the following scan sends it.
    async fn keep_what_is_newer(
        &self,
        entry: RemoteEntry,
        record: Option<&Record>,
        landed: &mut Landed,
    ) -> Result<(), PullError> {
        let sent = match entry.kind {
            EntryKind::File { hash, size } => KnownContent { hash, size },
            EntryKind::Deleted { .. } if record.is_none_or(|record| record.file().is_some()) => {
                KnownContent { hash: ContentHash::EMPTY, size: 0 }
            }
            EntryKind::Folder | EntryKind::Deleted { .. } => return Ok(()),
        };
        let KnownContent { hash, size } = sent;
        let wanted = Wanted { path: entry.path.clone(), hash, size };
        let found = self.destination.look(vec![wanted]).await?.pop();
        match (entry.kind, found) {
            // What cannot be read, or is not read in a bucket, is not the sent content either.
            (EntryKind::File { .. }, Some(Found::Other(_) | Found::Unknown)) => {
                self.progress.notice(&format!(
                    "the vault took an earlier text of {} only now; what is here is sent again",
                    entry.path
                ));
                landed.records.push(seen(&entry, sent, None));
            }
            (EntryKind::Deleted { .. }, Some(Found::Other(_) | Found::Wanted | Found::Unknown)) => {
                landed.forgotten.push(entry.path);
            }
            _ => {}
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
        if self.has_copy(path, lost).await? {
            return Ok(None);
        }
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
                // A run that was killed kept it.
                Put::Occupied if self.is_at(&kept_as, lost).await? => return Ok(None),
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

    /// True if an earlier run kept this content beside the file.
    async fn has_copy(&self, path: &VaultPath, lost: &RemoteEntry) -> Result<bool, PullError> {
        let Some(version) = version_of(lost) else { return Ok(false) };
        let copy = self.state.sources(&[version.content.hash]).await?.pop().flatten();
        Ok(copy.is_some_and(|copy| conflicted_copy::is_of(&copy, path)))
    }

    async fn is_at(&self, path: &VaultPath, lost: &RemoteEntry) -> Result<bool, PullError> {
        let Some(version) = version_of(lost) else { return Ok(false) };
        let KnownContent { hash, size } = version.content;
        Ok(self.destination.holds(vec![Wanted { path: path.clone(), hash, size }]).await? == [true])
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

/// What became of an announced change.
enum Fate {
    /// The vault has it.
    Landed,
    /// The vault does not have it, or not all of it.
    Missing,
    /// The vault has it, over a text that it does not return at the moment.
    Waits,
}

/// One path of an announced change.
struct SentPart<'a> {
    path: &'a VaultPath,
    kind: SentKind,
    /// The vault has nothing of the change up to this version.
    base: Uid,
    /// Other announced changes of the path.
    late: &'a [SentKind],
    /// What the vault had at the path, up to its listing.
    past: Vec<Seen>,
}

/// What follows from the parts of a change that the vault has.
#[derive(Default)]
struct Landed {
    versions: Vec<(VaultPath, SentKind, Uid)>,
    records: Vec<Record>,
    forgotten: Vec<VaultPath>,
    journal: Vec<JournalEntry>,
}

impl Intent {
    /// The kind sent for each path of a push. Empty for a folder, which replaces no text.
    pub(crate) fn sent(&self) -> Vec<(VaultPath, SentKind)> {
        let Intent::Push { path, from, content, base, .. } = self else { return Vec::new() };
        let kind = match content {
            Some(content) => SentKind::File(content.hash),
            None if *base == Uid(0) => return Vec::new(),
            None => SentKind::Deletion,
        };
        let old = from.iter().map(|from| (from.clone(), SentKind::Deletion));
        std::iter::once((path.clone(), kind)).chain(old).collect()
    }

    /// The sent file and its content, if a listing since a time did not have it.
    pub(super) fn file_missing_since(&self, time: i64) -> Option<(VaultPath, ContentHash)> {
        match self {
            Intent::Push { path, content: Some(content), missing_since: Some(since), .. }
                if *since >= time =>
            {
                Some((path.clone(), content.hash))
            }
            _ => None,
        }
    }
}

/// The kinds that these pushes sent to a path.
pub(super) fn sent_to<'a>(pushes: impl Iterator<Item = &'a Intent>, path: &VaultPath) -> Vec<SentKind> {
    pushes.flat_map(Intent::sent).filter(|(at, _)| at == path).map(|(_, kind)| kind).collect()
}

/// Notes that the vault has a change of a path, as this version, and what this device wrote there shortly before
/// it. Pushes that arrived before it are over, one for each arrival. A twin of it can arrive only after it.
pub(super) fn pass_over<'a>(
    waiting: &mut Vec<Intent>,
    path: &VaultPath,
    (kind, ours): (SentKind, Uid),
    before: impl Iterator<Item = &'a Seen>,
) {
    let is_missing = |push: &Intent| matches!(push, Intent::Push { missing_since: Some(_), .. });
    waiting.retain(|push| !is_missing(push) || !push.sent().is_empty());
    let arrived = |waiting: &mut Vec<Intent>, kind: SentKind, uid: Uid| {
        let twins = waiting.iter_mut().filter(|push| is_missing(push));
        twins.for_each(|push| arrives_after(push, path, kind, uid));
    };
    arrived(waiting, kind, ours);
    for seen in before {
        let of_seen = |push: &Intent| match &push.sent()[..] {
            [(at, sent)] if is_missing(push) && at == path && sent.is_said_by(seen.entry.kind) => Some(*sent),
            _ => None,
        };
        let over = waiting.iter().enumerate().find_map(|(at, push)| Some((at, of_seen(push)?)));
        if let Some((at, kind)) = over {
            waiting.remove(at);
            arrived(waiting, kind, seen.entry.uid);
        }
    }
}

/// Notes that the vault has a change, its parts as these versions. If the same change was sent once more,
/// that arrives with versions of its own.
pub(super) fn wait_for_twins(others: &mut [Intent], landed: &[(VaultPath, SentKind, Uid)]) {
    for push in others {
        landed.iter().for_each(|(path, kind, uid)| arrives_after(push, path, *kind, *uid));
    }
}

/// Notes that this version is that of another push, which sent the same to the path.
fn arrives_after(push: &mut Intent, path: &VaultPath, kind: SentKind, uid: Uid) {
    let is_twin = push.sent().iter().any(|(at, sent)| at == path && *sent == kind);
    if let (Intent::Push { base, .. }, true) = (push, is_twin) {
        *base = (*base).max(uid);
    }
}

/// A push that each run looks for, whatever the vault lists.
fn always_looked_for(mut push: Intent) -> Intent {
    if let Intent::Push { missing_since, .. } = &mut push {
        *missing_since = None;
    }
    push
}

/// A push that the vault does not have. `None` once it can no longer arrive.
pub(super) fn missing(push: Intent, now: i64) -> Option<Intent> {
    let Intent::Push { path, from, content, base, missing_since } = push else { return None };
    if content.is_none() && base == Uid(0) {
        return None;
    }
    let since = missing_since.unwrap_or(now);
    // Also after a jump of the clock.
    let is_over = now.abs_diff(since) > ARRIVES_WITHIN;
    (!is_over).then_some(Intent::Push { path, from, content, base, missing_since: Some(since) })
}

/// Pushes of the same change, sent again and again over a bad connection, are announced a few times only.
pub(super) fn without_twins(pushes: Vec<Intent>) -> Vec<Intent> {
    let mut kept: Vec<Intent> = Vec::new();
    let mut places: HashMap<_, Vec<usize>> = HashMap::new();
    for push in pushes {
        let Intent::Push { path, from, content, base, missing_since: Some(since) } = &push else {
            kept.push(push);
            continue;
        };
        let twins =
            places.entry((path.clone(), from.clone(), content.map(|content| content.hash))).or_default();
        match twins.last() {
            Some(last) if twins.len() >= TWINS => {
                if let Some(Intent::Push { base: earliest, missing_since: Some(latest), .. }) =
                    kept.get_mut(*last)
                {
                    *earliest = (*earliest).min(*base);
                    *latest = (*latest).max(*since);
                }
            }
            _ => {
                twins.push(kept.len());
                kept.push(push);
            }
        }
    }
    kept
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
