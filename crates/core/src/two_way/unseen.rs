//! Recognises versions of other devices whose writers had not seen a version that this device sent shortly
//! before, and merges both from the version that both writers had seen.
//!
//! A client that sends without checking (docs/PROTOCOL.md section 6) replaces a version that arrived a moment
//! before. To devices that receive both, its version looks like a later one that was based on ours. The
//! journal says when the vault accepted ours. A file that was saved before that, or within [`AFTER`] of it,
//! was made without ours. Its path is then recorded at the version before ours, so that the merge sees
//! changes of both sides.

use std::cmp::Reverse;
use std::collections::HashMap;

use obsync_client::Session;
use obsync_protocol::{ContentHash, Uid, VaultPath};

use crate::conflicted_copy;
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::journal::{JournalChange, JournalEntry, Side};
use crate::merge::MergeKind;
use crate::model::{FileMeta, Record, RecordKind};
use crate::report::Report;
use crate::run::Run;
use crate::state::{Commit, commit_beside};
use crate::survey::Survey;

use super::contents::Version;
use super::settlement::Seen;

/// Longest time from the saving of such a file until the vault accepted ours, in milliseconds. An older file
/// was put there with its times, from a backup or another folder.
const BEFORE: i64 = 5 * 60 * 1000;
/// Longest time after the vault accepted ours in which such a file can be saved and sent, because its device
/// has not received ours yet, in milliseconds.
const AFTER: i64 = 1000;
/// Number of journal entries read. A run sends at its end, so the newest entries are those of the previous
/// run.
const LINES: usize = 2000;
/// Maximum number of paths whose history a run requests.
const LOOKED_UP: usize = 100;

/// A version that this device sent.
#[derive(Clone, Copy, Debug)]
struct SentVersion {
    /// When the vault had accepted it, in milliseconds since the epoch.
    at: i64,
    /// The version that it was based on.
    base: Uid,
}

/// The versions of a path that this device sent.
type SentVersions = HashMap<Uid, SentVersion>;

impl Run<'_> {
    /// Records files at the version that the writer of the listed version had seen, if that is not the
    /// recorded version.
    pub(super) async fn take_back_unseen(
        &self,
        changed: &mut [(Record, RemoteEntry)],
        survey: &mut Survey,
        report: &mut Report,
    ) -> Result<(), PullError> {
        if changed.is_empty() {
            return Ok(());
        }
        let sent = sent_versions(self.state.journal(None, LINES).await?);
        let mut candidates: Vec<(&mut Record, &RemoteEntry, &SentVersions, SentVersion)> = changed
            .iter_mut()
            .filter_map(|(record, entry)| {
                let kind = MergeKind::of(&record.path, &self.config_dir(&record.path));
                let versions = sent.get(&record.path).filter(|_| kind == Some(MergeKind::Lines))?;
                let ours = *versions.get(&record.uid())?;
                Some((record, &*entry, versions, ours))
            })
            .collect();
        candidates.sort_by_key(|(_, entry, _, ours)| (!ours.may_be_unseen_at(entry.mtime), Reverse(ours.at)));
        let mut taken_back = Vec::new();
        for (record, entry, versions, _) in candidates.into_iter().take(LOOKED_UP) {
            if let Some(seen) = self.seen_version(record, entry, versions, survey, report).await? {
                record.kind = RecordKind::File(seen);
                record.facts = None;
                taken_back.push(record.clone());
            }
        }
        if self.options.dry_run {
            report.foreseen.taken_back = taken_back;
        } else if !taken_back.is_empty() {
            let state = survey.known.clone();
            let commit = Commit { records: taken_back, state, ..Commit::default() };
            commit_beside(self.state.as_ref(), commit).await?;
        }
        Ok(())
    }

    /// Returns the version that the writer of the listed version had seen, if that is not the recorded
    /// version and text of the recorded version is missing from the listed one.
    async fn seen_version(
        &self,
        record: &Record,
        entry: &RemoteEntry,
        sent: &SentVersions,
        survey: &mut Survey,
        report: &mut Report,
    ) -> Result<Option<FileMeta>, PullError> {
        let (Some(ours), Some(listed)) = (record.file(), file_of(entry)) else { return Ok(None) };
        // Another obsync that overwrote ours has kept it as a conflicted copy.
        let is_copy = |copy: &RemoteEntry| {
            file_of(copy).is_some_and(|copy| copy.hash == ours.hash)
                && conflicted_copy::is_of(&copy.path, &record.path)
        };
        if survey.listing.entries.iter().any(is_copy) {
            return Ok(None);
        }
        let oldest = sent.values().map(|version| version.base).min().unwrap_or_default();
        let past = self.past_of(&record.path, oldest, survey, report).await?;
        let device = &self.source.client.options().device;
        let Some(seen) = last_seen(ours.uid, sent, &past, device) else { return Ok(None) };
        // A file that is new on both sides has an empty base.
        let nothing = FileMeta { hash: ContentHash::EMPTY, size: 0, uid: Uid(0), ..ours.clone() };
        let found = past.iter().find(|past| past.entry.uid == seen);
        let base = found.and_then(|past| file_of(&past.entry)).unwrap_or(nothing);
        let versions = [&base, ours, &listed].map(|file| Version { uid: file.uid, content: file.into() });
        let texts = self.texts(versions.to_vec(), survey.version).await?;
        let [base_text, Some(ours), Some(theirs)] = texts.as_slice() else { return Ok(None) };
        let base_text = base_text.as_deref().unwrap_or_default();
        Ok((!has_all_that_is_new(base_text, ours, theirs)).then_some(base))
    }

    /// Returns the vault's versions of a path above a version, over the session of the listing, or over
    /// another one if that session is lost.
    pub(super) async fn past_of(
        &self,
        path: &VaultPath,
        above: Uid,
        survey: &mut Survey,
        report: &mut Report,
    ) -> Result<Vec<Seen>, PullError> {
        if let Some(session) = &mut survey.session {
            match self.unless_stopped(self.past(session, path, above)).await {
                Err(PullError::Client(error)) if error.is_retryable() => {
                    tracing::debug!(%error, "the past of a path is asked for over another session");
                    survey.session = None;
                }
                past => return past,
            }
        }
        report.connections += 1;
        let asking = async {
            let mut session =
                Session::open(&self.source.client, &self.target(), survey.version, false).await?;
            session.listing(&mut |_| {}).await?;
            let past = self.past(&mut session, path, above).await;
            session.close().await;
            past
        };
        self.unless_stopped(asking).await
    }
}

impl SentVersion {
    /// True if a file that was saved at this time may have been made without this version.
    fn may_be_unseen_at(self, mtime: i64) -> bool {
        (self.at.saturating_sub(BEFORE)..=self.at.saturating_add(AFTER)).contains(&mtime)
    }
}

/// Versions that this device sent, by path. Renamed files are left out: their new paths had no earlier text.
fn sent_versions(lines: Vec<JournalEntry>) -> HashMap<VaultPath, SentVersions> {
    let mut sent: HashMap<VaultPath, SentVersions> = HashMap::new();
    for line in lines {
        if line.side == Side::Vault && line.change == JournalChange::Write && line.from.is_none() {
            let version = SentVersion { at: line.at, base: line.base };
            sent.entry(line.path).or_default().insert(line.uid, version);
        }
    }
    sent
}

/// Returns the last version that the writer of the version after `ours` had seen; 0 for none. `past` is in
/// the order of versions. `None` if the writer had seen ours, if no version follows ours, or if the next
/// version is this device's, not a file, or an earlier content that a user restored.
fn last_seen(ours: Uid, sent: &SentVersions, past: &[Seen], device: &str) -> Option<Uid> {
    let next = past.iter().find(|past| past.entry.uid > ours).filter(|next| next.device != device)?;
    let EntryKind::File { hash, .. } = next.entry.kind else { return None };
    let is_it =
        |past: &Seen| matches!(past.entry.kind, EntryKind::File { hash: earlier, .. } if earlier == hash);
    if past.iter().any(|past| past.entry.uid <= ours && is_it(past)) {
        return None;
    }
    let mut seen = ours;
    while let Some(version) = sent.get(&seen).filter(|version| version.may_be_unseen_at(next.entry.mtime))
        && version.base < seen
    {
        seen = version.base;
    }
    (seen < ours).then_some(seen)
}

/// True if `theirs` has each word that `ours` has more often than `base`, as often as `ours`. Also true if
/// `ours` or `theirs` is not text.
fn has_all_that_is_new(base: &[u8], ours: &[u8], theirs: &[u8]) -> bool {
    let (Ok(ours), Ok(theirs)) = (str::from_utf8(ours), str::from_utf8(theirs)) else { return true };
    let (base, theirs) = (words(str::from_utf8(base).unwrap_or_default()), words(theirs));
    let times = |words: &HashMap<&str, usize>, word: &str| words.get(word).copied().unwrap_or_default();
    words(ours).into_iter().all(|(word, count)| count <= times(&base, word) || count <= times(&theirs, word))
}

/// Number of occurrences of each word. ASCII punctuation does not count, because formatters rewrite it;
/// symbols outside ASCII do.
fn words(text: &str) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    let is_between = |c: char| c.is_whitespace() || (c.is_ascii() && !c.is_ascii_alphanumeric());
    for word in text.split(is_between).filter(|word| !word.is_empty()) {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

fn file_of(entry: &RemoteEntry) -> Option<FileMeta> {
    let EntryKind::File { hash, size } = entry.kind else { return None };
    Some(FileMeta { hash, size, mtime: entry.mtime, ctime: entry.ctime, uid: entry.uid })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KnownContent;

    const TAKEN: i64 = 1_700_000_000_000;

    fn version(uid: u64, device: &str, text: Option<&str>, mtime: i64) -> Seen {
        let kind = match text {
            Some(text) => {
                let KnownContent { hash, size } = KnownContent::of(text.as_bytes());
                EntryKind::File { hash, size }
            }
            None => EntryKind::Deleted { folder: false },
        };
        let path = VaultPath::parse("note.md").unwrap();
        let entry = RemoteEntry { path, uid: Uid(uid), kind, mtime, ctime: 0 };
        Seen { entry, device: device.to_owned() }
    }

    /// Returns the version that the writer had seen, for a base of version 5 and ours of version 8, accepted
    /// at [`TAKEN`].
    fn seen(after: &[Seen]) -> Option<u64> {
        let sent = HashMap::from([(Uid(8), SentVersion { at: TAKEN, base: Uid(5) })]);
        let before = [version(5, "there", Some("base"), 0), version(8, "here", Some("ours"), TAKEN - 9000)];
        last_seen(Uid(8), &sent, &[&before[..], after].concat(), "here").map(|uid| uid.0)
    }

    #[test]
    fn a_file_that_was_saved_before_ours_was_taken_was_made_without_it() {
        let theirs = |mtime| version(9, "there", Some("theirs"), mtime);
        assert_eq!(seen(&[]), None, "nothing came after it");
        assert_eq!(seen(&[theirs(TAKEN - 1000)]), Some(5));
        assert_eq!(seen(&[theirs(TAKEN + AFTER)]), Some(5), "its device had not heard of ours yet");
        assert_eq!(seen(&[theirs(TAKEN + AFTER + 1)]), None, "it had");
        assert_eq!(seen(&[theirs(TAKEN - BEFORE - 1)]), None, "put there with its times");
        let later = version(12, "there", Some("more"), TAKEN + 3_600_000);
        assert_eq!(
            seen(&[theirs(TAKEN - 1000), later.clone()]),
            Some(5),
            "whatever its user went on to write"
        );
        assert_eq!(seen(&[later]), None);
    }

    #[test]
    fn what_says_nothing_of_a_text_of_its_own_is_no_rival() {
        let at = TAKEN - 1000;
        for (what, next) in [
            ("our own later version", version(9, "here", Some("more"), at)),
            ("a deletion, which has no time", version(9, "there", None, at)),
            ("the base, put back", version(9, "there", Some("base"), at)),
            ("ours once more", version(9, "there", Some("ours"), at)),
        ] {
            assert_eq!(seen(&[next]), None, "{what}");
        }
    }

    #[test]
    fn of_several_versions_that_were_sent_all_may_be_unseen() {
        let sent = HashMap::from([
            (Uid(8), SentVersion { at: TAKEN, base: Uid(7) }),
            (Uid(7), SentVersion { at: TAKEN - 3000, base: Uid(6) }),
            (Uid(6), SentVersion { at: TAKEN - 60_000, base: Uid(0) }),
        ]);
        let past = |mtime| [version(9, "there", Some("theirs"), mtime)];
        let seen = |mtime| last_seen(Uid(8), &sent, &past(mtime), "here").map(|uid| uid.0);
        assert_eq!(seen(TAKEN), Some(7));
        assert_eq!(seen(TAKEN - 3000), Some(6));
        assert_eq!(seen(TAKEN - 60_000), Some(0), "the file was new on both sides");
    }

    #[test]
    fn words_that_are_new_in_ours_are_missed() {
        let has = |base: &str, ours: &str, theirs: &str| {
            has_all_that_is_new(base.as_bytes(), ours.as_bytes(), theirs.as_bytes())
        };
        assert!(!has("a\n", "a\nmilk\n", "a\neggs\n"));
        assert!(!has("the cat\n", "the cat\nthe\n", "the cat sat\n"), "as often as in ours");
        assert!(has("a\n", "a\n- milk\n", "a\n* *milk*\n\neggs\n"), "marks are nobody's text");
        assert!(has("a b\n", "a\n", "a b c\n"), "that something was removed is no text");
        assert!(has("a\n", "a\n", "b\n"));
        assert!(!has("", "naïve ☂", "naïve"));
        assert!(has_all_that_is_new(b"", b"\xff\xfe", b"a"), "not a text");
    }
}
