//! The cursor: the newest entry that was listed of a vault. A server that was restored from a backup and has
//! grown again has another entry in its place, or none, though its version looks as if nothing had happened.

use obsync_protocol::limits::ENTRIES_RECEIVED;
use obsync_protocol::{ContentHash, PushMessage, Uid, VaultKeys, VaultPath};

use crate::entry::{EntryKind, RemoteEntry};
use crate::model::CursorEntry;

impl CursorEntry {
    /// The stored part of an entry.
    pub(crate) fn of(entry: &RemoteEntry) -> Self {
        let (kind, hash, size) = match &entry.kind {
            EntryKind::File { hash, size } => ("file", hash.to_string(), *size),
            EntryKind::Folder => ("folder", String::new(), 0),
            EntryKind::Deleted { folder } => {
                (if *folder { "no folder" } else { "no file" }, String::new(), 0)
            }
        };
        let said = format!("{kind} {hash} {size} {} {}", entry.mtime, entry.ctime);
        CursorEntry {
            uid: entry.uid,
            path: fingerprint(&entry.path),
            entry: ContentHash::of(said.as_bytes()),
        }
    }
}

fn fingerprint(path: &VaultPath) -> ContentHash {
    ContentHash::of(path.as_str().as_bytes())
}

/// Known entries read after the cursor was found, at most. An honest listing has the cursor's entry, the
/// other half of a rename, and after an interrupted run the entries that it had finished.
const LOOKED_AT: u64 = 1000;

/// The newer one of a cursor and an entry.
pub(crate) fn newest_entry(cursor: Option<CursorEntry>, entry: &RemoteEntry) -> Option<CursorEntry> {
    cursor.filter(|cursor| cursor.uid >= entry.uid).or_else(|| Some(CursorEntry::of(entry)))
}

/// Evidence that the vault is the same as before.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Proof {
    /// None so far.
    Missing,
    /// A newer entry of the cursor's path, at this path. A vault restored to before the cursor can have one,
    /// too.
    Newer(VaultPath),
    /// The entry itself, or none is needed.
    Given,
}

/// Looks for the cursor in a listing that begins below it.
#[derive(Clone, Debug)]
pub(crate) struct CursorCheck {
    /// The destination's version: entries up to it are no news.
    version: u64,
    known: Option<CursorEntry>,
    proof: Proof,
    /// The newest entry that is no news.
    newest: Option<CursorEntry>,
    no_news: u64,
}

impl CursorCheck {
    /// A check for a listing of entries after `version`.
    pub(crate) fn new(version: u64, known: Option<CursorEntry>) -> Self {
        let proof = if known.is_none() { Proof::Given } else { Proof::Missing };
        CursorCheck { version, known, proof, newest: None, no_news: 0 }
    }

    /// A check that needs no proof: one unbroken session received everything since `version`.
    pub(crate) fn unbroken(version: u64, known: Option<CursorEntry>) -> Self {
        CursorCheck { proof: Proof::Given, ..CursorCheck::new(version, known) }
    }

    /// The version to list from: includes the cursor's entry, or the newest entry if no cursor is known yet.
    pub(crate) fn start(&self) -> u64 {
        let cursor = self.known.map_or(self.version, |cursor| cursor.uid.0.min(self.version));
        cursor.saturating_sub(1)
    }

    /// Handles a listed message. Returns whether it is news.
    pub(crate) fn see(&mut self, message: &PushMessage, keys: &VaultKeys) -> bool {
        if self.version == 0 || message.uid.0 > self.version {
            return true;
        }
        self.no_news += 1;
        if (self.no_news <= LOOKED_AT || !self.is_confirmed())
            && let Ok(entry) = RemoteEntry::decode(message, keys)
        {
            self.compare(&entry);
            let seen = CursorEntry::of(&entry);
            if self.newest.is_none_or(|newest| newest.uid < seen.uid) {
                self.newest = Some(seen);
            }
        }
        false
    }

    /// Handles the news, at the end of the listing.
    pub(crate) fn see_news<'e>(&mut self, news: impl IntoIterator<Item = &'e RemoteEntry>) {
        let mut newest: Option<&RemoteEntry> = None;
        for entry in news {
            if !self.is_confirmed() && self.known.is_some_and(|known| entry.uid >= known.uid) {
                self.compare(entry);
            }
            if newest.is_none_or(|newest| newest.uid < entry.uid) {
                newest = Some(entry);
            }
        }
        self.newest = newest.map(CursorEntry::of).or(self.newest);
    }

    /// The entry itself, or a newer one of its path, is the proof.
    fn compare(&mut self, entry: &RemoteEntry) {
        let (Some(known), seen) = (&self.known, CursorEntry::of(entry)) else { return };
        if seen == *known {
            self.proof = Proof::Given;
        } else if seen.path == known.path && seen.uid > known.uid && self.proof == Proof::Missing {
            self.proof = Proof::Newer(entry.path.clone());
        }
    }

    /// True if the vault is the same as before.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.proof != Proof::Missing
    }

    /// Path and version of the cursor's entry, if the proof is a newer entry, which the path's history has to
    /// confirm.
    pub(crate) fn to_bear_out(&self) -> Option<(&VaultPath, Uid)> {
        match (&self.proof, &self.known) {
            (Proof::Newer(path), Some(known)) => Some((path, known.uid)),
            _ => None,
        }
    }

    /// Notes whether the path's history has the cursor's entry.
    pub(crate) fn bear_out(&mut self, has_entry: bool) {
        self.proof = if has_entry { Proof::Given } else { Proof::Missing };
    }

    /// True if the server repeats known entries without end.
    pub(crate) fn is_flooded(&self) -> bool {
        self.no_news > ENTRIES_RECEIVED
    }

    /// The cursor after this listing.
    pub(crate) fn next(&self) -> Option<CursorEntry> {
        self.newest.or(self.known)
    }
}

/// Evidence in a page of the history of the cursor's path about its entry, a file of this version and
/// content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// The entry is unchanged, or the history does not go back that far.
    SameVault,
    /// Another entry is in its place, or there are only older and newer ones: the history is a different one.
    OtherVault,
    /// The next page decides.
    GoesOn,
}

/// Looks for the cursor's entry in a page of the history of its path, newest entries first.
///
/// The server drops old versions, oldest first: the absence of entries as old as the cursor proves nothing,
/// but an older entry does.
pub(crate) fn look_back(page: &[PushMessage], uid: Uid, content: &ContentHash, keys: &VaultKeys) -> Past {
    if let Some(item) = page.iter().find(|item| item.uid == uid && !item.deleted && !item.folder) {
        return match keys.decode_hash(&item.hash) {
            Ok(hash) if hash != *content => Past::OtherVault,
            _ => Past::SameVault,
        };
    }
    match page.iter().map(|item| item.uid).min() {
        Some(oldest) if oldest < uid => Past::OtherVault,
        Some(_) => Past::GoesOn,
        None => Past::SameVault,
    }
}

/// Warning about a vault that lost an entry that it had.
pub(crate) const REGROWN: &str = "the vault on the server is not the one that was pulled before: it was restored from a backup, or replaced, and has \
     grown since. All of it is listed again, nothing is removed, and files that differ are kept under another name";

#[cfg(test)]
mod tests {
    use obsync_protocol::{MasterKey, SecretString};

    use super::*;

    fn keys() -> VaultKeys {
        let master = MasterKey::derive(&SecretString::from("password"), "a salt of sixteen");
        VaultKeys::new(&master, obsync_protocol::EncryptionVersion::V3, "a salt of sixteen")
    }

    fn entry(path: &str, uid: u64, text: &str) -> RemoteEntry {
        let kind = EntryKind::File { hash: ContentHash::of(text.as_bytes()), size: text.len() as u64 };
        RemoteEntry { path: VaultPath::parse(path).unwrap(), uid: Uid(uid), kind, mtime: 5, ctime: 4 }
    }

    /// True if a vault that lists these after the cursor `a.md` of version 7 is the same as before.
    fn is_confirmed(listed: &[RemoteEntry]) -> bool {
        let keys = keys();
        let mut check = CursorCheck::new(9, Some(CursorEntry::of(&entry("a.md", 7, "text"))));
        assert_eq!(check.start(), 6);
        for entry in listed {
            assert_eq!(check.see(&entry.encode(&keys), &keys), entry.uid.0 > 9);
        }
        check.see_news(listed.iter().filter(|entry| entry.uid.0 > 9));
        check.is_confirmed()
    }

    #[test]
    fn the_entry_itself_or_a_newer_one_of_its_path_confirms_a_vault() {
        assert!(is_confirmed(&[entry("a.md", 7, "text")]));
        assert!(is_confirmed(&[entry("b.md", 8, "b"), entry("a.md", 12, "new text")]));
        let deleted = RemoteEntry { kind: EntryKind::Deleted { folder: false }, ..entry("a.md", 10, "") };
        assert!(is_confirmed(&[deleted]));
        assert!(!is_confirmed(&[]));
        assert!(!is_confirmed(&[entry("a.md", 7, "another text"), entry("b.md", 12, "b")]));
        assert!(!is_confirmed(&[entry("c.md", 7, "text"), entry("c.md", 8, "text")]));
    }

    #[test]
    fn a_newer_entry_has_to_be_borne_out_and_the_entry_itself_not() {
        let keys = keys();
        let known = entry("a.md", 7, "text");
        let check = |listed: &[RemoteEntry]| {
            let mut check = CursorCheck::new(9, Some(CursorEntry::of(&known)));
            listed.iter().for_each(|entry| {
                check.see(&entry.encode(&keys), &keys);
            });
            check.see_news(listed.iter().filter(|entry| entry.uid.0 > 9));
            check
        };
        let newer = entry("a.md", 12, "new text");
        assert_eq!(check(&[known.clone(), newer.clone()]).to_bear_out(), None);
        let mut newer = check(&[newer]);
        assert_eq!(newer.to_bear_out(), Some((&known.path, Uid(7))));
        newer.bear_out(true);
        assert!(newer.is_confirmed() && newer.to_bear_out().is_none());
        newer.bear_out(false);
        assert!(!newer.is_confirmed());
        assert_eq!(CursorCheck::unbroken(9, Some(CursorEntry::of(&known))).to_bear_out(), None);
    }

    #[test]
    fn the_past_of_a_path_bears_a_newer_entry_out_unless_it_was_another() {
        let keys = keys();
        let content = ContentHash::of(b"text");
        let past = |items: &[RemoteEntry]| {
            let page: Vec<PushMessage> = items.iter().map(|entry| entry.encode(&keys)).collect();
            look_back(&page, Uid(7), &content, &keys)
        };
        let newer = entry("a.md", 12, "new text");
        assert_eq!(past(&[newer.clone(), entry("a.md", 7, "text")]), Past::SameVault);
        assert_eq!(
            past(&[newer.clone(), entry("a.md", 7, "another"), entry("a.md", 3, "old")]),
            Past::OtherVault
        );
        assert_eq!(past(&[newer.clone(), entry("a.md", 3, "old")]), Past::OtherVault);
        assert_eq!(past(std::slice::from_ref(&newer)), Past::GoesOn);
        assert_eq!(past(&[]), Past::SameVault, "nothing that old is kept any more");
        let deleted = RemoteEntry { kind: EntryKind::Deleted { folder: false }, ..entry("a.md", 7, "") };
        assert_eq!(past(&[newer, deleted, entry("a.md", 3, "old")]), Past::OtherVault);
    }

    #[test]
    fn the_next_cursor_is_the_newest_entry_that_was_listed() {
        let keys = keys();
        let known = CursorEntry::of(&entry("a.md", 7, "text"));
        let mut check = CursorCheck::new(9, Some(known));
        assert_eq!(check.next(), Some(known));
        check.see(&entry("b.md", 9, "b").encode(&keys), &keys);
        assert_eq!(check.next(), Some(CursorEntry::of(&entry("b.md", 9, "b"))));
        let news = [entry("d.md", 12, "d"), entry("c.md", 11, "c")];
        check.see_news(&news);
        assert_eq!(check.next(), Some(CursorEntry::of(&news[0])));
        assert_eq!(CursorCheck::new(0, None).next(), None);
    }

    #[test]
    fn the_proof_may_come_late_where_a_run_was_cut_off() {
        let keys = keys();
        let mut check = CursorCheck::new(20_000, Some(CursorEntry::of(&entry("a.md", 7, "text"))));
        for uid in 8..8 + 2 * LOOKED_AT {
            check.see(&entry("other.md", uid, "text").encode(&keys), &keys);
        }
        assert!(!check.is_confirmed());
        check.see(&entry("a.md", 15_000, "new text").encode(&keys), &keys);
        assert!(check.is_confirmed());
    }

    #[test]
    fn what_is_no_news_is_bounded() {
        let (keys, mut check) = (keys(), CursorCheck::new(9, None));
        let old = entry("a.md", 3, "text").encode(&keys);
        (0..2 * LOOKED_AT).for_each(|_| assert!(!check.see(&old, &keys)));
        assert!(!check.is_flooded());
        check.no_news = ENTRIES_RECEIVED;
        check.see(&old, &keys);
        assert!(check.is_flooded());
    }
}
