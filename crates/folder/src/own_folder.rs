//! The folder at the root that is obsync's own, and what is in it: whose it is, and who can write there.

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

/// The folder at the root that is obsync's own.
pub(super) const OWN_FOLDER: &str = ".obsync";
/// The folder in [`OWN_FOLDER`] with the staged files.
pub(super) const STAGING: &str = "staging";
/// The folder in obsync's own folder.
pub(super) const TRASH: &str = "trash";
/// What to tell when the ground is gone from under a run.
pub(super) const REMOVED: &str =
    "it, or .obsync in it, was removed while obsync was working; run the same command again";
/// How the name of a folder in the root begins that is used where [`OWN_FOLDER`] cannot be; random digits follow.
pub(super) const ELSEWHERE: &str = ".obsync-";
/// How many digits.
pub(super) const RANDOM_DIGITS: usize = 16;

pub(super) fn make_private(root: &Root, dir: &Dir, name: &str) -> Result<(), DestinationError> {
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) => Err(root.errors.unavailable(REMOVED)),
        Err(error) => Err(root.errors.root_error(Action::Write, error)),
    }
}

/// Whether an entry of the root is a folder of obsync's own, also where names are folded.
pub(super) fn is_own_name(name: &str) -> bool {
    let digits = name.get(..ELSEWHERE.len()).filter(|start| start.eq_ignore_ascii_case(ELSEWHERE));
    let digits = digits.and_then(|_| name.get(ELSEWHERE.len()..)).unwrap_or_default();
    alias_key(name) == alias_key(OWN_FOLDER)
        || (digits.len() == RANDOM_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// One of obsync's own folders, as it is found.
pub(super) enum Own {
    /// Nobody else can write there.
    Private(Dir),
    /// It is another user's, or others can write there, or it is no folder.
    Foreign,
    Absent,
}

/// The folder [`OWN_FOLDER`].
pub(super) fn own_folder(root: &Root) -> Result<Own, DestinationError> {
    open_judged(root, &root.dir, OWN_FOLDER)
}

/// Opens one of obsync's own folders, and closes it to others if it is this user's. What they may have put there by then is
/// not to be trusted, so that files that an earlier run staged are removed.
pub(super) fn open_judged(root: &Root, dir: &Dir, name: &str) -> Result<Own, DestinationError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        // Root made it, say.
        Err(Errno::ACCESS | Errno::PERM) => return Ok(Own::Foreign),
        // A file or a link of somebody who has another use for the name, or who wants to keep obsync out.
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

/// Removes what is staged in a folder that was open to others until now. (A staging folder that they made themselves is
/// theirs, and found out by that.)
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
        // It may be all that is left of a user's text, and is given back as one.
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
