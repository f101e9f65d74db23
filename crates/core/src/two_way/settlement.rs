//! Settles a sent change: whether the vault has it, and what another device wrote in between.
//!
//! The protocol has no compare-and-set, and its `ok` carries no version (docs/PROTOCOL.md section 3). The
//! entries of a path above the version that a change was made from, pushed live or read from its history,
//! answer both questions.

use obsync_protocol::{ContentHash, Uid};

use crate::entry::{EntryKind, RemoteEntry};

/// Kind of change sent for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SentKind {
    File(ContentHash),
    Folder,
    Deletion,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SentChange {
    pub(crate) kind: SentKind,
    /// The vault's version that was applied here before the change was sent: every entry of the path above it
    /// is newer.
    pub(crate) above: Uid,
    /// Content that the change was made from.
    pub(crate) base_content: Option<ContentHash>,
}

/// An entry of the vault for a path, with the device that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) entry: RemoteEntry,
    pub(crate) device: String,
}

/// Outcome of a sent change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settlement {
    /// Version that the vault gave it. `None` if the vault has not reported it.
    pub(crate) ours: Option<Uid>,
    /// Content written by another device before the change, and replaced by it.
    pub(crate) overwritten: Option<RemoteEntry>,
    /// A later entry exists.
    pub(crate) has_later: bool,
}

/// Settles a change that arrived late, possibly: by the version that it was made from (or another one that
/// the vault had before it) and the version recorded here, which a pull may have advanced since. What the
/// record covers was merged or kept here.
pub(crate) fn settle_late(
    kind: SentKind,
    (base, known): (Uid, Option<Uid>),
    device: &str,
    late: &[SentKind],
    seen: &[Seen],
) -> Settlement {
    let settled = |above: Uid| {
        let before = seen.iter().rev().filter(|seen| seen.entry.uid <= above);
        let base_content = before.map(|seen| seen.entry.kind).find_map(|kind| match kind {
            EntryKind::File { hash, .. } => Some(hash),
            EntryKind::Folder | EntryKind::Deleted { .. } => None,
        });
        settle(SentChange { kind, above, base_content }, device, late, seen)
    };
    let settlement = settled(base);
    match known.filter(|known| *known > base && settlement.ours.is_some_and(|ours| *known < ours)) {
        Some(known) => settled(known),
        None => settlement,
    }
}

/// Settles a change by the vault's entries of its path, in the order of versions. `late`: other changes of
/// this device that may arrive late. The file here was made after them.
pub(crate) fn settle(sent: SentChange, device: &str, late: &[SentKind], seen: &[Seen]) -> Settlement {
    let is_late =
        |seen: &Seen| seen.device == device && late.iter().any(|kind| kind.is_said_by(seen.entry.kind));
    let news = || seen.iter().filter(|seen| seen.entry.uid > sent.above);
    let is_ours = |seen: &Seen| seen.device == device && sent.kind.is_said_by(seen.entry.kind);
    // The last of several: another folder of this computer may have the same device name, and entries before
    // ours must be found.
    let Some(ours) = news().rfind(|seen| is_ours(seen)) else { return Settlement::default() };
    let uid = ours.entry.uid;
    let overwritten = news().filter(|seen| seen.entry.uid < uid && !is_ours(seen) && !is_late(seen)).rfind(
        |seen| match seen.entry.kind {
            // No text is lost if the entry has the content that the change was made from, or the content of
            // the change itself.
            EntryKind::File { hash, .. } => {
                Some(hash) != sent.base_content && sent.kind != SentKind::File(hash)
            }
            EntryKind::Folder | EntryKind::Deleted { .. } => false,
        },
    );
    Settlement {
        ours: Some(uid),
        overwritten: overwritten.map(|seen| seen.entry.clone()),
        has_later: news().any(|seen| seen.entry.uid > uid && !is_ours(seen)),
    }
}

impl SentKind {
    pub(crate) fn is_said_by(self, entry: EntryKind) -> bool {
        match (self, entry) {
            (SentKind::File(sent), EntryKind::File { hash, .. }) => sent == hash,
            (SentKind::Folder, EntryKind::Folder) | (SentKind::Deletion, EntryKind::Deleted { .. }) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use obsync_protocol::VaultPath;

    use super::*;

    fn hash(text: &str) -> ContentHash {
        ContentHash::of(text.as_bytes())
    }

    fn seen(uid: u64, device: &str, text: Option<&str>) -> Seen {
        let kind = match text {
            Some(text) => EntryKind::File { hash: hash(text), size: text.len() as u64 },
            None => EntryKind::Deleted { folder: false },
        };
        let path = VaultPath::parse("note.md").unwrap();
        Seen {
            entry: RemoteEntry { path, uid: Uid(uid), kind, mtime: 0, ctime: 0 },
            device: device.to_owned(),
        }
    }

    fn settled(kind: SentKind, entries: &[Seen]) -> (Option<u64>, Option<u64>, bool) {
        let sent = SentChange { kind, above: Uid(5), base_content: Some(hash("base")) };
        let settlement = settle(sent, "here", &[], entries);
        let overwritten = settlement.overwritten.map(|entry| entry.uid.0);
        (settlement.ours.map(|uid| uid.0), overwritten, settlement.has_later)
    }

    #[test]
    fn a_change_is_settled_by_its_echo_and_by_what_came_before_it() {
        let ours = SentKind::File(hash("ours"));
        let echo = || seen(9, "here", Some("ours"));
        type Settled = (Option<u64>, Option<u64>, bool);
        let cases: [(&str, Vec<Seen>, Settled); 9] = [
            ("nothing", vec![], (None, None, false)),
            ("the echo", vec![echo()], (Some(9), None, false)),
            ("another device's only", vec![seen(8, "there", Some("x"))], (None, None, false)),
            ("one in between", vec![seen(8, "there", Some("x")), echo()], (Some(9), Some(8), false)),
            (
                "the last of two",
                vec![seen(7, "there", Some("x")), seen(8, "there", Some("y")), echo()],
                (Some(9), Some(8), false),
            ),
            ("the base once more", vec![seen(8, "there", Some("base")), echo()], (Some(9), None, false)),
            ("a deletion in between", vec![seen(8, "there", None), echo()], (Some(9), None, false)),
            ("one that was applied", vec![seen(5, "there", Some("x")), echo()], (Some(9), None, false)),
            ("a later one", vec![echo(), seen(10, "there", Some("x"))], (Some(9), None, true)),
        ];
        for (what, entries, expected) in cases {
            assert_eq!(settled(ours, &entries), expected, "{what}");
        }
    }

    /// Settles "ours", made from version 5, with these entries and this recorded version.
    fn settled_late(known: u64, late: &[SentKind], entries: &[Seen]) -> (Option<u64>, Option<u64>) {
        let entries = [&[seen(5, "there", Some("base"))], entries].concat();
        let ours = SentKind::File(hash("ours"));
        let settlement = settle_late(ours, (Uid(5), Some(Uid(known))), "here", late, &entries);
        (settlement.ours.map(|uid| uid.0), settlement.overwritten.map(|entry| entry.uid.0))
    }

    #[test]
    fn a_change_that_arrives_late_replaces_what_is_not_recorded_here() {
        let (rival, other) = (seen(8, "there", Some("x")), seen(9, "there", Some("y")));
        let ours = |uid| seen(uid, "here", Some("ours"));
        assert_eq!(settled_late(5, &[], std::slice::from_ref(&rival)), (None, None));
        assert_eq!(settled_late(5, &[], &[rival.clone(), ours(9)]), (Some(9), Some(8)));
        assert_eq!(settled_late(8, &[], &[rival.clone(), ours(9)]), (Some(9), None), "it was pulled");
        let both = [rival.clone(), other, ours(10)];
        assert_eq!(settled_late(8, &[], &both), (Some(10), Some(9)), "the second came after the pull");
        assert_eq!(settled_late(12, &[], &both), (Some(10), Some(9)), "ours was recorded without a look");
        let put_back = [rival, seen(9, "there", Some("base")), ours(10)];
        assert_eq!(settled_late(5, &[], &put_back), (Some(10), Some(8)), "the base is no news");
    }

    #[test]
    fn an_own_earlier_change_in_between_is_no_rival_and_hides_none() {
        let newer = [SentKind::File(hash("newer"))];
        let entries =
            [seen(8, "there", Some("x")), seen(9, "here", Some("newer")), seen(10, "here", Some("ours"))];
        assert_eq!(settled_late(5, &newer, &entries), (Some(10), Some(8)));
        assert_eq!(
            settled_late(5, &[], &entries),
            (Some(10), Some(9)),
            "another folder of this computer wrote it"
        );
    }

    #[test]
    fn an_echo_is_consumed_once_and_a_twin_of_it_is_no_news() {
        let ours = SentKind::Deletion;
        let twice = [seen(8, "here", None), seen(9, "here", None)];
        assert_eq!(settled(ours, &twice), (Some(9), None, false));
        // Another folder of this computer deleted it first, and a device edited it in between.
        let alike = [seen(7, "here", None), seen(8, "there", Some("edited")), seen(9, "here", None)];
        assert_eq!(settled(ours, &alike), (Some(9), Some(8), false));
        let edited = [seen(7, "there", Some("edited")), seen(8, "here", None)];
        assert_eq!(settled(ours, &edited), (Some(8), Some(7), false));
    }
}
