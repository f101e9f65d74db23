//! From a path to an open folder, one segment after the other, so that every link on the way is judged before it is followed.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::trust::{Refusal, is_trusted_owner, keeps_entries};

/// Most links on the way to one file, as on Linux.
const LINKS: u32 = 40;

/// Opened for lookups, where the system can: such a folder need not be readable.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LOOKUP: OFlags = OFlags::PATH;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const LOOKUP: OFlags = OFlags::RDONLY;

/// The position of a walk.
pub(crate) struct Walk {
    /// The open folder.
    pub(crate) folder: OwnedFd,
    /// Its path, without links.
    pub(crate) path: PathBuf,
    links: u32,
}

impl Walk {
    /// Begins at the root, or at the working directory for a path that is not absolute.
    pub(crate) fn begin(path: &Path) -> io::Result<Self> {
        let start = if path.is_absolute() { PathBuf::from("/") } else { std::env::current_dir()? };
        Ok(Walk { folder: open_folder(rustix::fs::CWD, start.as_os_str())?, path: start, links: 0 })
    }

    /// Goes on from an open folder.
    pub(crate) fn from(folder: OwnedFd, path: PathBuf) -> Self {
        Walk { folder, path, links: 0 }
    }

    /// Enters the folder at `path`.
    pub(crate) fn enter(&mut self, path: &Path) -> io::Result<()> {
        match self.follow(path)? {
            None => Ok(()),
            Some(name) => Err(match self.kind_of(&name)? {
                Some(_) => Refusal::NotAFolder { path: self.path.join(name) }.into(),
                None => Errno::NOENT.into(),
            }),
        }
    }

    /// Follows `path` as far as there are folders; returns the last segment if that is missing, or neither a
    /// folder nor a link.
    pub(crate) fn follow(&mut self, path: &Path) -> io::Result<Option<OsString>> {
        let mut ahead: VecDeque<OsString> = segments(path);
        while let Some(name) = ahead.pop_front() {
            if name == "/" {
                (self.folder, self.path) = (open_folder(rustix::fs::CWD, &name)?, PathBuf::from("/"));
                continue;
            }
            match self.kind_of(&name)? {
                Some(FileType::Symlink) => {
                    for segment in segments(&self.read_link(&name)?).into_iter().rev() {
                        ahead.push_front(segment);
                    }
                }
                Some(FileType::Directory) => {
                    self.folder = open_folder(&self.folder, &name)?;
                    match name == ".." {
                        true => _ = self.path.pop(),
                        false => self.path.push(&name),
                    }
                }
                _ if ahead.is_empty() => return Ok(Some(name)),
                Some(_) => return Err(Errno::NOTDIR.into()),
                None => return Err(Errno::NOENT.into()),
            }
        }
        Ok(None)
    }

    fn kind_of(&self, name: &OsStr) -> io::Result<Option<FileType>> {
        match rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The target of a link, if nobody else can change it.
    fn read_link(&mut self, name: &OsStr) -> io::Result<PathBuf> {
        self.links += 1;
        if self.links > LINKS {
            return Err(Errno::LOOP.into());
        }
        let stat = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !is_trusted_owner(self.folder.as_fd(), &stat) || !keeps_entries(&self.folder)? {
            return Err(Refusal::Link { path: self.path.join(name) }.into());
        }
        let target = rustix::fs::readlinkat(&self.folder, name, Vec::new())?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }
}

fn segments(path: &Path) -> VecDeque<OsString> {
    let segment = |component: Component<'_>| match component {
        Component::CurDir | Component::Prefix(_) => None,
        other => Some(other.as_os_str().to_owned()),
    };
    path.components().filter_map(segment).collect()
}

fn open_folder(above: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = LOOKUP | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(above, name, flags, Mode::empty())?)
}
