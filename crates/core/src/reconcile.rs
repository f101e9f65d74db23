//! Decides what one path needs: a pure function of what the destination and the vault agreed on last (*base*), what the
//! destination has (*local*) and what the vault lists (*remote*). The table test is its specification.
//!
//! [`crate::schedule`] brings the decisions of all paths into a safe order.

use obsync_protocol::Uid;

use crate::model::{KnownContent, Record, RecordKind};

/// How thorough a pull is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Only what changed in the vault since the last pull.
    #[default]
    Incremental,
    /// Every file of the vault is looked at again in the destination, and what the vault no longer has is removed.
    Full,
}

/// How far a run may go with files and folders that are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// They become what the vault lists.
    #[default]
    Everything,
    /// The same, but what the vault does not list at all stays, and records follow entries to lower versions too. The user
    /// accepted a vault that is older than the destination.
    Listed,
    /// Nothing is removed, and only entries above a path's record are applied. The vault is older than the destination.
    Additions,
    /// Nothing is removed or replaced: a record that the listing does not confirm is given up, and the file becomes a
    /// conflicted copy where it is in the way.
    KeepEverything,
}

impl Reach {
    /// Whether records follow entries to lower versions.
    pub(crate) fn lowers(self) -> bool {
        matches!(self, Reach::Listed | Reach::KeepEverything)
    }
}

/// What applies to all paths of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) reach: Reach,
    /// Recorded paths whose entries are above this version are compared with the destination again. `None`: none are.
    pub(crate) full_above: Option<Uid>,
}

impl Rules {
    /// Whether a recorded path with an entry of this version is compared with the destination again.
    pub(crate) fn is_full_for(&self, uid: Uid) -> bool {
        self.full_above.is_some_and(|above| uid > above)
    }

    /// Whether an entry at `listed` takes a record at `known` to another version.
    fn is_renewal(&self, known: Uid, listed: Uid) -> bool {
        known < listed || (self.reach.lowers() && known != listed)
    }
}

/// What the destination has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// Nobody looked yet: a pull looks only where it is to write.
    NotScanned,
    /// Nothing.
    Absent,
    /// A file with this content.
    File(KnownContent),
    /// A file with this content, which the vault had at this path before: nobody's change.
    Earlier(KnownContent),
    /// A file that cannot be read, or a link or device.
    Other,
}

/// What the vault lists for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    /// Nothing, in a listing from the first version on.
    Unlisted,
    /// A file or folder that the filter leaves out, or the deletion of one.
    LeftOut { uid: Uid, is_folder: bool, is_live: bool },
    /// A file.
    File { content: KnownContent, mtime: i64, uid: Uid },
    /// A folder.
    Folder(Uid),
    /// That it was deleted.
    Deleted,
}

/// What a path needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// What becomes of the record before.
    pub(crate) before: Before,
    pub(crate) action: Action,
}

/// What becomes of a record before the entry of its path is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// It stays until it is replaced.
    Keep,
    /// The recorded file or folder is removed, if it still is what is recorded.
    Remove,
    /// The record is given up: what is there belongs to the user.
    Release,
}

/// How an entry is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing to do; an earlier deferral of the path is obsolete.
    Nothing,
    /// The entry is not applied by this run, and nothing is noted of it.
    Skip,
    /// The entry is noted as filtered out, for a later run with a wider filter.
    DeferFiltered,
    /// The record follows the entry; the destination is as it should be.
    Renew,
    /// The times of the file are set.
    SetTimes,
    /// The destination is looked at: the content may be there. Then it is decided again.
    Compare {
        /// Size of the content in bytes. Where the content is recorded, as it was counted when it came: the entry's is
        /// only the server's word.
        size: u64,
        /// The recorded content, which may be replaced.
        replaces: Option<KnownContent>,
    },
    /// The content is there: the file gets its times and is recorded.
    Adopt,
    /// The content is put there, in place of `replaces` or of nothing.
    Put { replaces: Option<KnownContent> },
    /// What is there belongs to a user. It is moved aside, and the content is put there.
    KeepBoth,
    /// The folder is made if it is not there.
    MakeFolder {
        /// Whether the record of it is exactly as it is to be.
        is_recorded: bool,
    },
    /// What is there belongs to a user and stays; the record goes.
    KeepLocal,
}

impl Decision {
    const fn of(action: Action) -> Self {
        Decision { before: Before::Keep, action }
    }

    const fn after_removal(action: Action) -> Self {
        Decision { before: Before::Remove, action }
    }
}

/// Decides what one path needs.
pub(crate) fn decide(base: Option<&Record>, local: Local, remote: Remote, rules: &Rules) -> Decision {
    if rules.reach == Reach::Additions && !is_addition(base, remote) {
        return Decision::of(Action::Skip);
    }
    if rules.reach == Reach::KeepEverything
        && base.is_some_and(|base| !is_confirmed(&base.kind, remote))
        && !matches!(remote, Remote::LeftOut { .. })
    {
        return Decision { before: Before::Release, ..decide(None, local, remote, rules) };
    }
    match remote {
        Remote::Unlisted => match base {
            Some(_) if rules.reach == Reach::Everything && rules.full_above.is_some() => {
                Decision::after_removal(Action::Nothing)
            }
            _ => Decision::of(Action::Nothing),
        },
        // The deletion of something that never was here is not worth a note.
        Remote::LeftOut { is_live, .. } if is_live || base.is_some() => Decision::of(Action::DeferFiltered),
        Remote::LeftOut { .. } => Decision::of(Action::Nothing),
        Remote::Deleted => decide_deletion(base, local),
        Remote::Folder(uid) => decide_folder(base.map(|base| &base.kind), uid, rules),
        Remote::File { content, mtime, uid } => match base.map(|base| &base.kind) {
            Some(RecordKind::Folder(_)) => Decision::after_removal(decide_content(None, local, content)),
            Some(RecordKind::File(known)) if known.hash == content.hash => {
                let same = KnownContent::from(known);
                Decision::of(if local != Local::NotScanned || rules.is_full_for(uid) {
                    decide_content(Some(same), local, same)
                } else if !rules.is_renewal(known.uid, uid) {
                    Action::Nothing
                } else if known.mtime == mtime {
                    Action::Renew
                } else {
                    Action::SetTimes
                })
            }
            Some(RecordKind::File(known)) => Decision::of(decide_content(Some(known.into()), local, content)),
            None => Decision::of(decide_content(None, local, content)),
        },
    }
}

/// Decides about a path that is to have a content.
pub(crate) fn decide_content(recorded: Option<KnownContent>, local: Local, wanted: KnownContent) -> Action {
    match local {
        Local::NotScanned => Action::Compare { size: wanted.size, replaces: recorded },
        Local::Absent => Action::Put { replaces: None },
        Local::File(found) | Local::Earlier(found) if found.hash == wanted.hash => Action::Adopt,
        Local::Earlier(found) => Action::Put { replaces: Some(found) },
        Local::File(found) if recorded.is_some_and(|recorded| recorded.hash == found.hash) => {
            Action::Put { replaces: Some(found) }
        }
        Local::File(_) | Local::Other => Action::KeepBoth,
    }
}

/// What becomes of a file that a publication found in its place instead of what it expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occupied {
    /// The publication is tried again, and may replace this content.
    Retry { replaces: Option<KnownContent> },
    /// It is a user's: it gets another name, then the publication is tried again.
    KeepBoth,
    /// Another obsync wrote it, for a later version of the vault. It stays.
    Newer,
}

/// Decides about a file that was `found` where version `uid` of the vault's file is to be put. `version` is what the file says of
/// itself ([`DestinationError::Changed`](crate::DestinationError::Changed)).
pub(crate) fn decide_occupied(
    recorded: Option<KnownContent>,
    found: Option<KnownContent>,
    version: Option<Uid>,
    wanted: KnownContent,
    uid: Uid,
) -> Occupied {
    let is_known =
        |found: KnownContent| [Some(wanted), recorded].iter().flatten().any(|known| known.hash == found.hash);
    let local = match (found, version) {
        (None, _) => Local::Other,
        (Some(found), Some(version)) if !is_known(found) => match version <= uid {
            true => Local::Earlier(found),
            false => return Occupied::Newer,
        },
        (Some(found), _) => Local::File(found),
    };
    match decide_content(recorded, local, wanted) {
        Action::Put { replaces } => Occupied::Retry { replaces },
        Action::KeepBoth => Occupied::KeepBoth,
        _ => Occupied::Retry { replaces: recorded },
    }
}

fn decide_folder(base: Option<&RecordKind>, uid: Uid, rules: &Rules) -> Decision {
    match base {
        Some(RecordKind::Folder(known)) if rules.is_full_for(uid) => {
            Decision::of(Action::MakeFolder { is_recorded: *known == uid })
        }
        // The vault may have deleted it in between, and a run that was killed may have removed it without recording that.
        Some(RecordKind::Folder(known)) if rules.is_renewal(*known, uid) => {
            Decision::of(Action::MakeFolder { is_recorded: false })
        }
        Some(RecordKind::Folder(_)) => Decision::of(Action::Nothing),
        Some(RecordKind::File(_)) => Decision::after_removal(Action::MakeFolder { is_recorded: false }),
        None => Decision::of(Action::MakeFolder { is_recorded: false }),
    }
}

fn decide_deletion(base: Option<&Record>, local: Local) -> Decision {
    match (base, local) {
        (None, Local::Earlier(_)) => Decision::after_removal(Action::Nothing),
        (None, _) => Decision::of(Action::Nothing),
        (Some(_), Local::NotScanned | Local::Absent | Local::Earlier(_)) => {
            Decision::after_removal(Action::Nothing)
        }
        (Some(base), Local::File(found)) => match base.file() {
            Some(known) if known.hash == found.hash => Decision::after_removal(Action::Nothing),
            _ => Decision::of(Action::KeepLocal),
        },
        (Some(_), Local::Other) => Decision::of(Action::KeepLocal),
    }
}

/// Whether an entry of a vault that is older than the destination is news all the same: it is above its path's record,
/// removes nothing, and puts no file in a folder's place or the other way round.
fn is_addition(base: Option<&Record>, remote: Remote) -> bool {
    let is_newer = |uid: Uid, is_folder: bool| {
        base.is_none_or(|base| base.uid() < uid && base.file().is_none() == is_folder)
    };
    match remote {
        Remote::File { uid, .. } => is_newer(uid, false),
        Remote::Folder(uid) => is_newer(uid, true),
        Remote::LeftOut { uid, is_folder, is_live } => is_live && is_newer(uid, is_folder),
        Remote::Unlisted | Remote::Deleted => false,
    }
}

/// Whether the listing says what the record says.
fn is_confirmed(base: &RecordKind, remote: Remote) -> bool {
    match (base, remote) {
        (RecordKind::File(known), Remote::File { content, .. }) => known.hash == content.hash,
        (RecordKind::Folder(_), Remote::Folder(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
