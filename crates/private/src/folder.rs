//! An open folder that nobody else can write to, and the files in it.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::trust::{
    Judgement, OPEN, Refusal, can_others_write, close, close_folder, is_ours, judge_folder, keeps_entries,
    mode, random_name, secure_file,
};
use crate::walk::Walk;

/// Access to an opened file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading.
    Read,
    /// For reading and writing.
    Update,
    /// For reading and writing; created (mode 0600) if it does not exist.
    Write,
}

/// An open file of a [`Folder`].
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub file: File,
    /// Others could access it before; their permissions are removed now.
    pub was_open: bool,
}

/// An open folder of this user or root. Files are opened in it by a single segment.
#[derive(Debug)]
pub struct Folder {
    handle: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder at `path`; `None` when there is none. For one of this user's that others can write
    /// to, removes their permission.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if others can write there all the same; errors of the system.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let folder = match Self::walk(path) {
            Ok(folder) => folder,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        folder.secure()?;
        Ok(Some(folder))
    }

    /// Opens the folder at `path`, for reading only. A folder where others can create files, but not replace
    /// existing ones (a mount of Kubernetes secrets is such a folder), is accepted unchanged.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_to_read(path: &Path) -> io::Result<Option<Self>> {
        let folder = match Self::walk(path) {
            Ok(folder) => folder,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if !keeps_entries(&folder.handle)? {
            folder.secure()?;
        }
        Ok(Some(folder))
    }

    /// An open folder that was [judged](judge_folder) already, at `path`.
    pub fn of(handle: OwnedFd, path: PathBuf) -> Self {
        Folder { handle, path }
    }

    /// Opens the folder at `path`; creates it and its parents (mode 0700) if it does not exist.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn make(path: &Path) -> io::Result<Self> {
        if let Some(folder) = Self::open(path)? {
            return Ok(folder);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Self::open(path)?.ok_or_else(|| Errno::NOENT.into())
    }

    /// Removes all permissions of the group and others, if the folder is this user's. A failure is ignored.
    pub fn close_to_others(&self) {
        if let Ok(stat) = rustix::fs::fstat(&self.handle)
            && is_ours(&stat)
            && mode(&stat) & OPEN != 0
        {
            close(&self.handle, mode(&stat) & !OPEN);
        }
    }

    /// Its path, without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file `name`; `None` when there is none and it is not to be [created](Access::Write).
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if others can change it; errors of the system.
    pub fn file(&self, name: &str, access: Access) -> io::Result<Option<Opened>> {
        match open_file(self.handle.as_fd(), OsStr::new(name), access) {
            Ok(file) => Self::opened(self.handle.as_fd(), file, &self.path.join(name)).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP | Errno::MLINK) => self.linked(name, access),
            // A pipe without a reader, a socket, a folder.
            Err(Errno::NXIO | Errno::ISDIR | Errno::NODEV) => {
                Err(Refusal::NotAFile { path: self.path.join(name) }.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces the content of the file `name`. Writes a file beside it first, `name` with the extension
    /// `.new`, so that a crash leaves the old or the new one. The caller ensures that there is one writer at
    /// a time.
    ///
    /// # Errors
    ///
    /// Errors of the system.
    pub fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.write_new(name, content)?.sync_all()?;
        self.put_in_place(name)?;
        File::from(self.handle.try_clone()?).sync_all()
    }

    /// The same without a flush: a killed process leaves the old or the new content, a power failure possibly
    /// an empty file.
    ///
    /// # Errors
    ///
    /// Errors of the system.
    pub fn replace_unflushed(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.write_new(name, content)?;
        self.put_in_place(name)
    }

    /// Writes the file that will be `name`.
    fn write_new(&self, name: &str, content: &[u8]) -> io::Result<File> {
        let temporary = format!("{name}.new");
        match rustix::fs::unlinkat(&self.handle, &temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.handle, &temporary, flags, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(file);
        file.write_all(content)?;
        Ok(file)
    }

    fn put_in_place(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.handle, format!("{name}.new"), &self.handle, name)?)
    }

    /// Renames a file of the folder, replacing any file with the new name.
    ///
    /// # Errors
    ///
    /// Errors of the system.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.handle, from, &self.handle, to)?)
    }

    /// A new file without a name, so that it disappears with its handle and nobody else finds it.
    pub(crate) fn unnamed_file(&self) -> io::Result<File> {
        let name = random_name().ok_or_else(|| io::Error::other("the system has no random numbers"))?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.handle, &name, flags, Mode::from_raw_mode(0o600))?;
        rustix::fs::unlinkat(&self.handle, &name, AtFlags::empty())?;
        Ok(File::from(file))
    }

    fn walk(path: &Path) -> io::Result<Self> {
        let mut walk = Walk::begin(path)?;
        walk.enter(path)?;
        // The handle of the walk may be good for lookups only.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&walk.folder, ".", flags, Mode::empty())?;
        Ok(Folder { handle, path: walk.path })
    }

    fn secure(&self) -> io::Result<()> {
        let stat = rustix::fs::fstat(&self.handle)?;
        match judge_folder(&self.handle)? {
            Judgement::Private | Judgement::Roots => Ok(()),
            Judgement::Open if close_folder(&self.handle) => Ok(()),
            _ if can_others_write(&stat) => Err(Refusal::Writable { path: self.path.clone() }.into()),
            _ => Err(Refusal::Owner { path: self.path.clone(), owner: stat.st_uid }.into()),
        }
    }

    /// The file that a link leads to.
    fn linked(&self, name: &str, access: Access) -> io::Result<Option<Opened>> {
        let mut walk = Walk::from(self.handle.try_clone()?, self.path.clone());
        let not_a_file = |path: &Path| io::Error::from(Refusal::NotAFile { path: path.to_owned() });
        let Some(target) = walk.follow(Path::new(name))? else {
            return Err(not_a_file(&walk.path));
        };
        let path = walk.path.join(&target);
        if !keeps_entries(&walk.folder)? {
            return Err(Refusal::Link { path: self.path.join(name) }.into());
        }
        match open_file(walk.folder.as_fd(), &target, access) {
            Ok(file) => Self::opened(walk.folder.as_fd(), file, &path).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NXIO | Errno::ISDIR | Errno::NODEV) => Err(not_a_file(&path)),
            Err(error) => Err(error.into()),
        }
    }

    fn opened(folder: BorrowedFd<'_>, file: OwnedFd, path: &Path) -> io::Result<Opened> {
        let was_open = secure_file(folder, &file, path)?;
        Ok(Opened { file: File::from(file), was_open })
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Opens without waiting for the other end of a pipe, and without following a link.
fn open_file(folder: BorrowedFd<'_>, name: &OsStr, access: Access) -> rustix::io::Result<OwnedFd> {
    let flags = match access {
        Access::Read => OFlags::RDONLY,
        Access::Update => OFlags::RDWR,
        Access::Write => OFlags::RDWR | OFlags::CREATE,
    };
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR))
}
