//! The judgement of one file or folder by its owner and mode.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// The bits that let the group and others write.
const WRITABLE: u32 = 0o022;
/// The bits that give the group and others any permission.
pub(crate) const OPEN: u32 = 0o077;
/// In such a folder only the owner of an entry can rename or remove it.
const STICKY: u32 = 0o1000;

/// Why a file or folder is refused. Wrapped in an [`io::Error`] of the kind `PermissionDenied`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// It belongs to somebody else.
    #[error(
        "{} belongs to the user with the number {owner}, who could change it at any time; give it to the user who runs \
         obsync (`chown`), or run obsync as that user", .path.display()
    )]
    Owner {
        /// Its path.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Others can write to it, and this user cannot revoke that.
    #[error("{} can be written by other users; take that from them with `chmod go-w`", .path.display())]
    Writable {
        /// Its path.
        path: PathBuf,
    },
    /// It is a pipe, a device, a folder or a link to nowhere.
    #[error("{} is not a regular file; move it elsewhere", .path.display())]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// Something other than a folder is at its path.
    #[error("{} is not a folder; move it elsewhere", .path.display())]
    NotAFolder {
        /// Its path.
        path: PathBuf,
    },
    /// It is, or leads through, a link that others can change.
    #[error(
        "{} is a link that other users can change; put the file or folder itself there, or give the link and the folder \
         that it is in to the user who runs obsync", .path.display()
    )]
    Link {
        /// The path of the link.
        path: PathBuf,
    },
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal {
            Refusal::NotAFolder { .. } => io::ErrorKind::NotADirectory,
            _ => io::ErrorKind::PermissionDenied,
        };
        io::Error::new(kind, refusal)
    }
}

/// The judgement of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is this user's, and nobody else can write there.
    Private,
    /// It is root's, and only root can write there.
    Roots,
    /// It is this user's, and others can write there until their permission is removed.
    Open,
    /// It is somebody else's, or root's and others can write there.
    Foreign,
}

/// Judges an open folder.
///
/// # Errors
///
/// Errors of the system about it.
pub fn judge_folder(folder: impl AsFd) -> io::Result<Judgement> {
    let folder = folder.as_fd();
    let stat = rustix::fs::fstat(folder)?;
    Ok(match (is_trusted_owner(folder, &stat), can_others_write(&stat)) {
        (true, false) if is_ours(&stat) || stat.st_uid != 0 => Judgement::Private,
        (true, false) => Judgement::Roots,
        (true, true) if has_no_modes(folder) => Judgement::Private,
        (true, true) if is_ours(&stat) => Judgement::Open,
        _ => Judgement::Foreign,
    })
}

/// Removes others' permission to write to an open folder of this user's; `false` if that fails.
pub fn close_folder(folder: impl AsFd) -> bool {
    let folder = folder.as_fd();
    rustix::fs::fstat(folder).is_ok_and(|stat| close(folder, mode(&stat) & !WRITABLE))
        && judge_folder(folder).is_ok_and(|judgement| judgement == Judgement::Private)
}

/// True if in a folder only this user and root can replace their entries. Many systems give each user a group
/// of their own, with that user as the only member: such a group may write.
pub(crate) fn keeps_entries(folder: impl AsFd) -> io::Result<bool> {
    let folder = folder.as_fd();
    let stat = rustix::fs::fstat(folder)?;
    let is_closed = match mode(&stat) & WRITABLE {
        0 => true,
        0o020 if stat.st_gid == rustix::process::getegid().as_raw() => true,
        _ => mode(&stat) & STICKY != 0 || has_no_modes(folder),
    };
    Ok(is_closed && is_trusted_owner(folder, &stat))
}

/// True if an entry with these facts, of the open folder, is this user's or root's.
pub(crate) fn is_trusted_owner(folder: BorrowedFd<'_>, stat: &Stat) -> bool {
    is_ours(stat) || stat.st_uid == 0 || owner_of_new(folder).is_some_and(|(owner, _)| owner == stat.st_uid)
}

/// Judges an open file of an open folder, and removes others' permissions if it is this user's; `true` if
/// they had any.
///
/// # Errors
///
/// A [`Refusal`]; errors of the system about it.
pub(crate) fn secure_file(folder: BorrowedFd<'_>, file: impl AsFd, path: &Path) -> io::Result<bool> {
    let file = file.as_fd();
    let stat = rustix::fs::fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Refusal::NotAFile { path: path.to_owned() }.into());
    }
    if !is_trusted_owner(folder, &stat) {
        return Err(Refusal::Owner { path: path.to_owned(), owner: stat.st_uid }.into());
    }
    if mode(&stat) & OPEN == 0 {
        return Ok(false);
    }
    if is_ours(&stat) && close(file, mode(&stat) & !OPEN) {
        return Ok(true);
    }
    if can_others_write(&stat) && !has_no_modes(folder) {
        return Err(Refusal::Writable { path: path.to_owned() }.into());
    }
    // Root's, or without modes: this user does not decide who may read it.
    Ok(false)
}

/// Sets a mode; `false` if that fails, or has no effect as on FAT.
pub(crate) fn close(file: impl AsFd, wanted: u32) -> bool {
    let file = file.as_fd();
    let set = rustix::fs::fchmod(file, Mode::from_raw_mode(wanted as _)).is_ok();
    set && rustix::fs::fstat(file).is_ok_and(|stat| mode(&stat) & OPEN & !wanted == 0)
}

/// The permission bits, which have another type on each system.
#[allow(clippy::unnecessary_cast)]
pub(crate) fn mode(stat: &Stat) -> u32 {
    stat.st_mode as u32 & 0o7777
}

pub(crate) fn is_ours(stat: &Stat) -> bool {
    stat.st_uid == rustix::process::geteuid().as_raw()
}

pub(crate) fn can_others_write(stat: &Stat) -> bool {
    mode(stat) & WRITABLE != 0
}

/// True if modes of files in this folder are meaningless: a file created as private is writable for all.
fn has_no_modes(folder: BorrowedFd<'_>) -> bool {
    owner_of_new(folder).is_some_and(|(_, mode)| mode & WRITABLE != 0)
}

/// The owner and mode of a private file created in this folder; `None` if none can be created. Used only if
/// the direct judgement is negative.
fn owner_of_new(folder: BorrowedFd<'_>) -> Option<(u32, u32)> {
    let name = format!(".obsync-probe-{}", random_name()?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, &name, flags, Mode::from_raw_mode(0o600)) {
        Err(Errno::BADF) => {
            // The folder was opened for lookups only.
            let here = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder = rustix::fs::openat(folder, ".", here, Mode::empty()).ok()?;
            rustix::fs::openat(folder, &name, flags, Mode::from_raw_mode(0o600))
        }
        opened => opened,
    };
    let stat = rustix::fs::fstat(&file.ok()?);
    // A leftover one is empty and harmless.
    let _ = rustix::fs::unlinkat(folder, &name, AtFlags::empty());
    stat.ok().map(|stat| (stat.st_uid, mode(&stat)))
}

/// Sixteen hexadecimal digits that nobody can guess; `None` if the system has no random numbers.
pub fn random_name() -> Option<String> {
    Some(format!("{:016x}", getrandom::u64().ok()?))
}
