//! Push only: lists the changes of the vault since the last run and reports them, but applies none.
//!
//! A change that only the vault has is stored as a deferred change, so that nothing is sent over it; a later
//! sync applies it. With a mirror it counts as the state that the local files replace.

use obsync_client::Session;
use obsync_protocol::VaultPath;
use obsync_protocol::limits::LISTING_MEMORY;

use crate::destination::{Found, Wanted};
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::foreseen::Foreseen;
use crate::ledger::{Ledger, Remembered};
use crate::model::{DeferredCause, DeferredKey, DeferredKind, FileMeta, Record, RecordKind};
use crate::reconcile::Mode;
use crate::report::Report;
use crate::run::Run;
use crate::schedule::Schedule;
use crate::survey::{CatchesUp, Survey};
use crate::watermark::Watermark;

/// Meaning of a listed entry for a push.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Learned {
    /// The record is updated with it.
    Known(Record),
    /// Neither side has it.
    Gone,
    /// Only the vault has this version.
    Diverged,
    Nothing,
}

impl Run<'_> {
    /// Lists the changes of the vault. `false` if the run was stopped, or nothing may be sent.
    pub(super) async fn learn(&self, mirrors: bool, report: &mut Report) -> Result<bool, PullError> {
        let Some(mut survey) = self.survey(Mode::Incremental, CatchesUp::Yes, report).await? else {
            return Ok(false);
        };
        if report.older_vault.is_some() {
            self.end_listing(survey.session.take()).await;
            return Ok(false);
        }
        self.settle_announced(&mut survey, report).await?;
        if mirrors {
            self.add_diverged(&mut survey).await?;
        }
        let entries = survey.listing.entries.take();
        let learned = self.compare(&entries, mirrors).await?;
        for (entry, learned) in entries.iter().zip(&learned) {
            if *learned == Learned::Diverged {
                report.diverge(&entry.path);
            }
        }
        if self.options.dry_run {
            report.foreseen.learn(&entries, learned);
            return Ok(true);
        }
        let remembered = Remembered::within(self.options.listing_memory.unwrap_or(LISTING_MEMORY) / 8);
        let watermark = Watermark::new(survey.floor, survey.version);
        let (filter, keys) = (self.options.filter.clone(), self.source.keys.clone());
        let mut ledger = Ledger::new(
            self.state.clone(),
            keys,
            filter,
            (watermark, None),
            survey.known,
            remembered,
            report,
        );
        ledger.carry_pushes().await?;
        for (entry, learned) in entries.iter().zip(learned) {
            match learned {
                Learned::Known(record) => ledger.recorded(record),
                Learned::Gone => ledger.forgotten(entry.path.clone(), entry.uid),
                Learned::Diverged => ledger.diverged(entry),
                Learned::Nothing => ledger.resolved(DeferredKey::plain(&entry.path)),
            }
        }
        survey.listing.refused.into_values().for_each(|refused| ledger.undecodable(refused));
        ledger.withheld(survey.listing.withheld);
        if !self.options.is_narrowed {
            ledger.direct(self.direction);
        }
        ledger.close(self.options.filter.fingerprint(), Vec::new(), survey.cursor.next()).await?;
        // The destination needs its marker, or a deletion in it could never be detected.
        let marker = self.begin_marking(&mut ledger, &Schedule::default(), &survey.marker).await?;
        ledger.keep_identity();
        if let Some(destination) = self.write_marker(marker).await? {
            ledger.identify(destination);
        }
        ledger.commit().await?;
        if !ledger.report.conflicts.is_empty() {
            // The staging area was used to keep contents of another device here.
            self.destination.discard_staged().await?;
        }
        ledger.report.connections += 1;
        self.end_listing(survey.session.take()).await;
        Ok(true)
    }

    /// Returns the session of a listing to a follower's line, or closes it.
    async fn end_listing(&self, session: Option<Session>) {
        match session {
            session if self.lines.keeps() => self.lines.give_back(session),
            Some(session) => session.close().await,
            None => {}
        }
    }

    /// Adds to the listing the changes that earlier pushes left alone: a mirror replaces them, too.
    async fn add_diverged(&self, survey: &mut Survey) -> Result<(), PullError> {
        let mut deferred = self.state.deferred(DeferredKind::Failed).await?;
        deferred.retain(|deferred| deferred.cause == DeferredCause::Diverged);
        for deferred in deferred {
            survey.listing.add_deferred(deferred, &self.source.keys);
        }
        Ok(())
    }

    async fn compare(&self, entries: &[RemoteEntry], mirrors: bool) -> Result<Vec<Learned>, PullError> {
        let paths: Vec<VaultPath> = entries.iter().map(|entry| entry.path.clone()).collect();
        let records = self.state.records(&paths).await?;
        let unrecorded: Vec<Wanted> = entries
            .iter()
            .zip(&records)
            .filter(|(_, record)| record.is_none())
            .filter_map(|(entry, _)| match entry.kind {
                EntryKind::File { hash, size } => Some(Wanted { path: entry.path.clone(), hash, size }),
                EntryKind::Folder | EntryKind::Deleted { .. } => None,
            })
            .collect();
        let mut found = self.destination.look(unrecorded).await?.into_iter();
        Ok(entries
            .iter()
            .zip(records)
            .map(|(entry, record)| {
                let is_file = matches!(entry.kind, EntryKind::File { .. });
                let found = (is_file && record.is_none()).then(|| found.next()).flatten();
                learn(entry, record.as_ref(), found, mirrors)
            })
            .collect())
    }
}

impl Foreseen {
    /// True if a push would take the vault's version of this path for replaced.
    pub(super) fn is_learned(&self, path: &VaultPath) -> bool {
        self.forgotten.contains(path) || self.records.iter().any(|record| record.path == *path)
    }

    /// Notes the records that a push would write.
    fn learn(&mut self, entries: &[RemoteEntry], learned: Vec<Learned>) {
        for (entry, learned) in entries.iter().zip(learned) {
            match learned {
                Learned::Known(record) => self.records.push(record),
                Learned::Gone => drop(self.forgotten.insert(entry.path.clone())),
                Learned::Diverged => drop(self.left.insert(entry.path.clone())),
                Learned::Nothing => {}
            }
        }
    }
}

fn learn(entry: &RemoteEntry, record: Option<&Record>, found: Option<Found>, mirrors: bool) -> Learned {
    let kind = match entry.kind {
        EntryKind::File { hash, size } => {
            let (mtime, ctime, uid) = (entry.mtime, entry.ctime, entry.uid);
            RecordKind::File(FileMeta { hash, size, mtime, ctime, uid })
        }
        EntryKind::Folder => RecordKind::Folder(entry.uid),
        EntryKind::Deleted { .. } => {
            return match record {
                Some(_) if mirrors => Learned::Gone,
                Some(_) => Learned::Diverged,
                None => Learned::Nothing,
            };
        }
    };
    let path = entry.path.clone();
    match record {
        Some(record) if is_same(&record.kind, &kind) => {
            Learned::Known(Record { path, kind, facts: record.facts.clone(), witnessed: record.witnessed })
        }
        Some(record) if mirrors => {
            Learned::Known(Record { path, kind, facts: None, witnessed: record.witnessed })
        }
        None if found == Some(Found::Wanted) => Learned::Known(Record::seen(path, kind, None)),
        // A file that is missing here is not replaced; a later sync fetches it.
        None if mirrors && found == Some(Found::Nothing) => Learned::Diverged,
        // A folder that both sides have contains no text of its own.
        None if mirrors || matches!(kind, RecordKind::Folder(_)) => Learned::Known(Record::new(path, kind)),
        Some(_) | None => Learned::Diverged,
    }
}

fn is_same(known: &RecordKind, listed: &RecordKind) -> bool {
    match (known, listed) {
        (RecordKind::File(known), RecordKind::File(listed)) => known.hash == listed.hash,
        (RecordKind::Folder(_), RecordKind::Folder(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use obsync_protocol::Uid;

    use super::*;
    use crate::model::{KnownContent, LocalFacts};

    const FACTS: LocalFacts = LocalFacts::File { size: 1, modified: 1, changed: 1, inode: 1 };

    fn file_kind(text: &str, uid: u64) -> RecordKind {
        let KnownContent { hash, size } = KnownContent::of(text.as_bytes());
        RecordKind::File(FileMeta { hash, size, mtime: 1000, ctime: 0, uid: Uid(uid) })
    }

    fn entry(kind: EntryKind) -> RemoteEntry {
        RemoteEntry { path: VaultPath::parse("a").unwrap(), uid: Uid(20), kind, mtime: 1000, ctime: 0 }
    }

    fn listed(text: &str) -> RemoteEntry {
        let KnownContent { hash, size } = KnownContent::of(text.as_bytes());
        entry(EntryKind::File { hash, size })
    }

    fn bases() -> Vec<(&'static str, Option<Record>)> {
        let record = |kind| Record::seen(VaultPath::parse("a").unwrap(), kind, Some(FACTS));
        vec![
            ("-", None),
            ("file A", Some(record(file_kind("A", 10)))),
            ("file A, unseen", Some(Record { witnessed: false, ..record(file_kind("A", 10)) })),
            ("folder", Some(record(RecordKind::Folder(Uid(10))))),
        ]
    }

    fn entries() -> [(&'static str, RemoteEntry); 4] {
        [
            ("file A", listed("A")),
            ("file B", listed("B")),
            ("folder", entry(EntryKind::Folder)),
            ("deleted", entry(EntryKind::Deleted { folder: false })),
        ]
    }

    /// Cases of the local file, where it is looked at: at the place of a file without a record.
    fn founds(base: Option<&Record>, entry: &RemoteEntry) -> Vec<(&'static str, Option<Found>)> {
        match (base, entry.kind) {
            (None, EntryKind::File { .. }) => vec![
                ("the same", Some(Found::Wanted)),
                ("another file", Some(Found::Other(KnownContent::of(b"C")))),
                ("no file", Some(Found::Nothing)),
                ("nobody can tell", Some(Found::Unknown)),
            ],
            _ => vec![("not looked at", None)],
        }
    }

    fn shown(learned: &Learned) -> String {
        match learned {
            Learned::Known(record) => {
                let seen = if record.witnessed { "seen" } else { "unseen" };
                let facts = if record.facts.is_some() { "its facts count" } else { "to be looked at" };
                format!("record {}, {seen}, {facts}", record.uid())
            }
            Learned::Gone => "forget the record".to_owned(),
            Learned::Diverged => "leave it and tell".to_owned(),
            Learned::Nothing => "-".to_owned(),
        }
    }

    #[test]
    fn the_table_of_what_a_push_learns() {
        let mut table = String::new();
        for mirrors in [false, true] {
            table.push_str(if mirrors { "# push --mirror\n" } else { "# push\n" });
            for (base_name, base) in bases() {
                for (listed, entry) in entries() {
                    for (here, found) in founds(base.as_ref(), &entry) {
                        let learned = learn(&entry, base.as_ref(), found, mirrors);
                        table.push_str(&format!(
                            "{base_name:14} | {listed:7} | {here:15} | {}\n",
                            shown(&learned)
                        ));
                    }
                }
            }
            table.push('\n');
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn a_push_that_does_not_mirror_takes_nothing_for_known_that_is_not_here() {
        for (name, base) in bases() {
            for (listed, entry) in entries() {
                for (here, found) in founds(base.as_ref(), &entry) {
                    let learned = learn(&entry, base.as_ref(), found, false);
                    let Learned::Known(record) = learned else { continue };
                    let is_here = found == Some(Found::Wanted)
                        || base.as_ref().is_some_and(|base| is_same(&base.kind, &record.kind))
                        || record.file().is_none();
                    assert!(is_here, "{name}, {listed}, {here}");
                }
            }
        }
    }
}
