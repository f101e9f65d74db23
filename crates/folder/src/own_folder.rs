//! obsync's own folder at the root: its owner, and who can write to it.

use std::fs::File;

use cap_std::fs::Dir;
use obsync_core::DestinationError;
use obsync_private::{Judgement, close_folder, judge_folder};
use obsync_protocol::alias_key;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::error::Action;
use super::root::Root;
use super::taken::is_taken;

/// obsync's own folder at the root.
pub(super) const OWN_FOLDER: &str = ".obsync";
/// Folder of staged files in [`OWN_FOLDER`].
pub(super) const STAGING: &str = "staging";
/// Folder of the trash in [`OWN_FOLDER`].
pub(super) const TRASH: &str = "trash";
/// Message if the folder was removed during a run.
pub(super) const REMOVED: &str =
    "it, or .obsync in it, was removed while obsync was working; run the same command again";
/// Prefix of a folder in the root that is used if [`OWN_FOLDER`] cannot be; random digits follow.
pub(super) const ELSEWHERE: &str = ".obsync-";
/// Number of these digits.
pub(super) const RANDOM_DIGITS: usize = 16;

pub(super) fn make_private(root: &Root, dir: &Dir, name: &str) -> Result<(), DestinationError> {
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) => Err(root.errors.unavailable(REMOVED)),
        Err(error) => Err(root.errors.root_error(Action::Write, error)),
    }
}

/// True if an entry of the root is a folder of obsync's own, also where names are folded.
pub(super) fn is_own_name(name: &str) -> bool {
    let digits = name.get(..ELSEWHERE.len()).filter(|start| start.eq_ignore_ascii_case(ELSEWHERE));
    let digits = digits.and_then(|_| name.get(ELSEWHERE.len()..)).unwrap_or_default();
    alias_key(name) == alias_key(OWN_FOLDER)
        || (digits.len() == RANDOM_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// State of one of obsync's own folders.
pub(super) enum Own {
    /// No other user can write to it.
    Private(Dir),
    /// It is another user's, or others can write to it, or it is no folder.
    Foreign,
    Absent,
}

/// The folder [`OWN_FOLDER`].
pub(super) fn own_folder(root: &Root) -> Result<Own, DestinationError> {
    open_judged(root, &root.dir, OWN_FOLDER)
}

/// Opens one of obsync's own folders, and closes it to others if it is this user's. Their files in it are not
/// trusted, so files that an earlier run staged are removed.
pub(super) fn open_judged(root: &Root, dir: &Dir, name: &str) -> Result<Own, DestinationError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        // For example, created by root.
        Err(Errno::ACCESS | Errno::PERM) => return Ok(Own::Foreign),
        // A file or a link of a user with another use for the name, or one who wants to keep obsync out.
        Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => return Ok(Own::Foreign),
        Err(_) => open_own(root, dir, name)?,
        Ok(handle) => Some(Dir::from_std_file(File::from(handle))),
    };
    let Some(opened) = opened else { return Ok(Own::Absent) };
    let judgement = judge_folder(&opened).map_err(|error| root.errors.root_error(Action::Read, error))?;
    Ok(match judgement {
        Judgement::Private => Own::Private(opened),
        Judgement::Open if close_folder(&opened) => {
            distrust(root, &opened, name);
            Own::Private(opened)
        }
        Judgement::Open | Judgement::Roots | Judgement::Foreign => Own::Foreign,
    })
}

/// Removes staged files from a folder that was open to others until now. (A staging folder that they created
/// is theirs, and detected by that.)
fn distrust(root: &Root, dir: &Dir, name: &str) {
    tracing::warn!(
        "{name} in {} could be written by other users; it cannot any more",
        root.errors.location()
    );
    let inner = (name == OWN_FOLDER).then(|| open_own(root, dir, STAGING));
    let staging = match &inner {
        None => dir,
        Some(Ok(Some(staging))) => staging,
        Some(_) => return,
    };
    for entry in staging.entries().into_iter().flatten().flatten() {
        // It may be the last copy of a user's text, and is returned to the user.
        if entry.file_name().to_str().is_some_and(is_taken) {
            continue;
        }
        if let Err(error) = staging.remove_file(entry.file_name()) {
            tracing::debug!(%error, "a staged file that others could change stays");
        }
    }
}

/// Opens one of obsync's own folders; a link in its place is not followed.
pub(super) fn open_own(root: &Root, dir: &Dir, name: &str) -> Result<Option<Dir>, DestinationError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(handle) => Ok(Some(Dir::from_std_file(File::from(handle)))),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => Err(root.errors.unavailable(
            "there is something named .obsync in it, where obsync keeps unfinished files; move that elsewhere",
        )),
        Err(error) => Err(root.errors.root_error(Action::Read, error)),
    }
}
