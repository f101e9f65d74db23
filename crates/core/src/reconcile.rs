//! Decides the action for one path: a pure function of the version that the destination and the vault last
//! agreed on (*base*), the destination's state (*local*) and the vault's entry (*remote*). The table test is
//! its specification.
//!
//! [`crate::schedule`] puts the decisions of all paths in a safe order.

use obsync_protocol::Uid;

use crate::model::{KnownContent, Record, RecordKind};

/// Extent of a pull.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Only changes of the vault since the last pull.
    #[default]
    Incremental,
    /// Every file of the vault is checked again in the destination, and files that the vault no longer has
    /// are removed.
    Full,
}

/// Limits of a run's changes to recorded files and folders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// They become equal to the listing.
    #[default]
    Everything,
    /// The same, but files that the vault does not list at all stay, and records follow entries to lower
    /// versions too. The user accepted a vault that is older than the destination.
    Listed,
    /// Nothing is removed, and only entries above a path's record are applied. The vault is older than the destination.
    Additions,
    /// Nothing is removed or replaced: a record that the listing does not confirm is dropped, and the file
    /// becomes a conflicted copy if it is in the way.
    KeepEverything,
}

impl Reach {
    /// True if records follow entries to lower versions.
    pub(crate) fn lowers(self) -> bool {
        matches!(self, Reach::Listed | Reach::KeepEverything)
    }
}

/// Rules for all paths of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) reach: Reach,
    /// Recorded paths whose entries are above this version are compared with the destination again. `None`: none are.
    pub(crate) full_above: Option<Uid>,
}

impl Rules {
    /// True if a recorded path with an entry of this version is compared with the destination again.
    pub(crate) fn is_full_for(&self, uid: Uid) -> bool {
        self.full_above.is_some_and(|above| uid > above)
    }

    /// True if an entry at `listed` moves a record at `known` to another version.
    fn is_renewal(&self, known: Uid, listed: Uid) -> bool {
        known < listed || (self.reach.lowers() && known != listed)
    }
}

/// The destination's state at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Local {
    /// Not checked yet: a pull checks only paths that it is going to write.
    NotScanned,
    /// Nothing.
    Absent,
    /// A file with this content.
    File(KnownContent),
    /// A file with this content, which the vault had at this path before, so it is not a user's change.
    Earlier(KnownContent),
    /// A file that cannot be read, or a link or device.
    Other,
}

/// The vault's entry for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    /// None, in a listing from the first version on.
    Unlisted,
    /// A file or folder that the filter excludes, or its deletion.
    LeftOut { uid: Uid, is_folder: bool, is_live: bool },
    /// A file.
    File { content: KnownContent, mtime: i64, uid: Uid },
    /// A folder.
    Folder(Uid),
    /// A deletion.
    Deleted,
}

/// Decision for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Action on the existing record.
    pub(crate) before: Before,
    pub(crate) action: Action,
}

/// Action on a record before the entry of its path is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// Keep it until it is replaced.
    Keep,
    /// Remove the recorded file or folder, if it is unchanged.
    Remove,
    /// Drop the record: the file belongs to the user.
    Release,
}

/// Action to apply an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing to do; an earlier deferral of the path is obsolete.
    Nothing,
    /// This run does not apply the entry, and stores nothing about it.
    Skip,
    /// Store the entry as filtered, for a later run with a wider filter.
    DeferFiltered,
    /// Update the record; the destination is already correct.
    Renew,
    /// Set the times of the file.
    SetTimes,
    /// Check the destination, which may have the content already, and decide again.
    Compare {
        /// Size of the content in bytes. For a recorded content, the size counted when it was received: the
        /// entry's is only the server's claim.
        size: u64,
        /// The recorded content, which may be replaced.
        replaces: Option<KnownContent>,
    },
    /// The content is there already: set the times and record it.
    Adopt,
    /// Put the content there, in place of `replaces` or of nothing.
    Put { replaces: Option<KnownContent> },
    /// The file there belongs to a user. Move it aside and put the content there.
    KeepBoth,
    /// Create the folder if it does not exist.
    MakeFolder {
        /// True if its record is already exactly right.
        is_recorded: bool,
    },
    /// The file there belongs to a user and stays; drop the record.
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

/// Decides the action for one path.
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
        // The deletion of a file that was never here need not be stored.
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

/// Decides the action for a path that has to get a content.
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

/// Action on an unexpected file that a publication found in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occupied {
    /// Retry the publication; it may replace this content.
    Retry { replaces: Option<KnownContent> },
    /// The file is a user's: rename it, then retry the publication.
    KeepBoth,
    /// Another obsync wrote it for a later version of the vault. It stays.
    Newer,
}

/// Decides about a file that was `found` where version `uid` of the vault's file should be put. `version` is
/// the one in the file's own metadata ([`DestinationError::Changed`](crate::DestinationError::Changed)).
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
        // The vault may have deleted it in between, and a killed run may have removed it without recording
        // that.
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

/// True if an entry of a vault that is older than the destination is news nevertheless: it is above its
/// path's record, removes nothing, and does not exchange a file for a folder or the other way round.
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

/// True if the listing and the record are equal.
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
