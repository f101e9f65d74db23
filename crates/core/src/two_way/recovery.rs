//! Looks up in the history of a path what became of changes that nobody saw to their end, and brings back what another device
//! wrote in between.

use obsync_client::Session;
use obsync_protocol::{Uid, VaultPath};

use crate::conflicted_copy::{self, DeviceName};
use crate::destination::Expect;
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::journal::{JournalChange, JournalEntry, Side};
use crate::merge::{MergeKind, merge};
use crate::model::{Intent, KnownContent, Record};
use crate::progress::FileAction;
use crate::publish::publish_one;
use crate::report::{Conflict, Report};
use crate::run::Run;
use crate::state::Commit;

use super::contents::Version;
use super::outgoing::{SendFile, sent};
use super::settlement::{Seen, SentChange, SentKind, Settlement, settle};

/// How many pages of one path's history are read at most.
const PAGES: usize = 20;
/// How many names a conflicted copy may find taken.
const NAMES: u32 = 1000;
/// The longest name that every file system takes, in bytes.
const LONGEST_NAME: usize = 255;

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
                Some(uid) if page.more && uid > sent.above && uid != last => last = uid,
                _ => break,
            }
        }
        seen.sort_by_key(|seen| seen.entry.uid);
        Ok(settle(sent, &self.source.client.options().device, &seen))
    }

    /// Settles what a run that died had announced to send. What the vault has of it is recorded by the pull that follows, as
    /// everything that the vault has; here only what another device wrote in between is brought back.
    pub(crate) async fn settle_intents(&self, report: &mut Report) -> Result<(), PullError> {
        let intents = self.state.intents().await?;
        let (pushes, others): (Vec<Intent>, Vec<Intent>) =
            intents.into_iter().partition(|intent| matches!(intent, Intent::Push { .. }));
        if pushes.is_empty() || self.options.dry_run {
            return Ok(());
        }
        let known = self.state.load().await?;
        let mut session =
            Session::open(&self.source.client, &self.target(), known.version, !known.listed).await?;
        session.listing(&mut |_| {}).await?;
        report.connections += 1;
        let mut journal = Vec::new();
        for intent in pushes {
            let Intent::Push { path, from, content, base } = intent else { continue };
            if content.is_none() && base == Uid(0) {
                // A folder: it takes the place of no text.
                continue;
            }
            let kind = content.map_or(SentKind::Deletion, |content| SentKind::File(content.hash));
            let old = from.map(|from| (from, SentKind::Deletion));
            for (at, kind) in std::iter::once((path, kind)).chain(old) {
                let record = self.state.records(std::slice::from_ref(&at)).await?.pop().flatten();
                let base_content = record.as_ref().and_then(Record::file).map(|file| file.hash);
                let sent = SentChange { kind, above: Uid(known.version), base_content };
                let settlement = self.settle_over(&mut session, &at, sent).await?;
                if let Some(lost) = settlement.overwritten {
                    journal.extend(self.keep_copy(&at, &lost, known.version, report).await?);
                }
            }
        }
        session.close().await;
        let commit = Commit { intents: others, journal, state: known, ..Commit::default() };
        Ok(self.state.commit(commit).await?)
    }

    /// Brings a content back that another device wrote while a change of the same path was under way and that the vault shows
    /// no longer: merged with the file here, as the file that was deleted here, or under a name of its own. The scan that
    /// follows finds it.
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
        if let Some(ours) = ours {
            if self.merge_lost(path, ours, lost, after).await? {
                report.note_merged(path);
                self.progress.file(path, FileAction::Merged);
                let record = Record { facts: None, ..sent(&ours.local, uid) };
                return Ok(BroughtBack { record: Some(record), line: Some(line(JournalChange::Merge)) });
            }
        } else if self.put_version(path, lost, after).await? == Put::Done {
            // An edit survives a deletion.
            return Ok(BroughtBack { record: None, line: Some(line(JournalChange::Write)) });
        }
        Ok(BroughtBack { record: None, line: self.keep_copy(path, lost, after, report).await? })
    }

    /// Merges a content that was overwritten into the file here.
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

    /// Keeps a content under a name beside its own. Tells the line for the journal, if that could be done.
    pub(super) async fn keep_copy(
        &self,
        path: &VaultPath,
        lost: &RemoteEntry,
        after: u64,
        report: &mut Report,
    ) -> Result<Option<JournalEntry>, PullError> {
        let label = conflicted_copy::label(DeviceName::new(&self.source.client.options().device));
        let ends_with_mark = conflicted_copy::is_configuration(path);
        for copy in 1..NAMES {
            let name = conflicted_copy::name(path.file_name(), ends_with_mark, &label, copy, LONGEST_NAME);
            let kept_as = match path.parent() {
                Some(parent) => VaultPath::parse(&format!("{parent}/{name}")),
                None => VaultPath::parse(&name),
            };
            let Ok(kept_as) = kept_as else { break };
            match self.put_version(&kept_as, lost, after).await? {
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

    /// Puts a version of the vault at a path where nothing is.
    async fn put_version(&self, path: &VaultPath, entry: &RemoteEntry, after: u64) -> Result<Put, PullError> {
        let Some(version) = version_of(entry) else { return Ok(Put::Gone) };
        let times = (entry.mtime, entry.ctime);
        let Some(staged) = self.stage_version(version, path, times, after).await? else {
            return Ok(Put::Gone);
        };
        let published = publish_one(self.store.as_ref(), staged, Expect::Absent).await?;
        Ok(published.map_or(Put::Occupied, |_| Put::Done))
    }
}

/// What came of a content that another device wrote in between.
pub(super) struct BroughtBack {
    /// The record of the file that was sent, where that is another one now.
    pub(super) record: Option<Record>,
    /// What the journal gets.
    pub(super) line: Option<JournalEntry>,
}

/// What came of putting a version at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Put {
    Done,
    /// Something else is there.
    Occupied,
    /// The vault does not give it (any more).
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
