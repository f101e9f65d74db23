//! One entry of an open folder, named by a single segment: its kind, its content, its times. Links are never
//! followed.

use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use obsync_core::LocalFacts;
use obsync_protocol::{ContentHash, ContentHasher};
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use super::file_system::device;

/// Bytes of a file read at once.
const READ_SIZE: usize = 128 * 1024;
/// Lower limit of that, so that a file that grew is not read byte by byte.
const LEAST_READ: usize = 4 * 1024;
/// The largest file, in bytes, that is read once more if facts leave a moment of doubt.
pub(super) const LARGEST_REREAD: u64 = 1 << 20;
/// The largest file, in bytes, that is read to identify its content: the service has limits of 200 MB and
/// less.
pub(super) const LARGEST_CONTENT: u64 = 1 << 30;

/// Kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// A link, a device, a pipe or a socket: obsync creates none of them.
    Foreign,
}

/// Facts that show whether an entry is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) kind: Kind,
    pub(super) size: u64,
    /// Device and inode.
    pub(super) identity: (u64, u64),
    /// Time of the last change of the content, in seconds and nanoseconds since the epoch.
    pub(super) modified: (i64, i64),
    /// Time of the last change of any kind, which no program can set.
    pub(super) changed: (i64, i64),
}

impl Facts {
    /// The same in the engine's form.
    pub(super) fn local(&self) -> LocalFacts {
        let nanoseconds =
            |(seconds, rest): (i64, i64)| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        LocalFacts::File {
            size: self.size,
            modified: nanoseconds(self.modified),
            changed: nanoseconds(self.changed),
            inode: self.identity.1,
        }
    }

    /// True if it is still the same file, unchanged. Some file systems have no stable inodes, and backup
    /// programs change the time of the last change of any kind: one of the two must be equal.
    pub(super) fn is_still(&self, before: &Facts) -> bool {
        (self.kind, self.size, self.modified) == (before.kind, before.size, before.modified)
            && (self.identity == before.identity || self.changed == before.changed)
    }
}

// The fields of `Stat` have different types on each system.
#[allow(clippy::unnecessary_cast)]
impl From<&Stat> for Facts {
    fn from(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            _ => Kind::Foreign,
        };
        Facts {
            kind,
            size: stat.st_size as u64,
            identity: (device(stat), stat.st_ino as u64),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

/// Facts of an open file.
pub(super) fn facts_of_open(file: &File) -> rustix::io::Result<Facts> {
    rustix::fs::fstat(file).map(|stat| Facts::from(&stat))
}

/// Facts of the entry at `name` in `dir`, if it exists.
pub(super) fn look(dir: impl AsFd, name: &str) -> rustix::io::Result<Option<Facts>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Facts::from(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The regular file at `name`, open for reading; `None` if there is none, or something else.
pub(super) fn open_file(dir: impl AsFd, name: &str) -> io::Result<Option<(File, Facts)>> {
    // Checked first: opening a device or a pipe can have effects.
    match look(&dir, name)? {
        Some(facts) if facts.kind == Kind::File => {}
        _ => return Ok(None),
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // Another process was faster.
        Err(Errno::NOENT | Errno::LOOP | Errno::MLINK) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let facts = facts_of_open(&file)?;
    Ok((facts.kind == Kind::File).then_some((file, facts)))
}

/// The same, open for writing if that is allowed: some network file systems flush nothing through another handle.
pub(super) fn open_to_flush(dir: impl AsFd, name: &str) -> io::Result<Option<File>> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match look(&dir, name)? {
        Some(facts) if facts.kind == Kind::File => {}
        _ => return Ok(None),
    }
    match rustix::fs::openat(&dir, name, flags, Mode::empty()) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(_) => Ok(open_file(dir, name)?.map(|(file, _)| file)),
    }
}

/// SHA-256 of the regular file at `name` if its size is one of `sizes` (bytes), with its facts at that time;
/// `None` if there is no such file. A file of another size is not read: a sparse one of terabytes takes an
/// hour.
pub(super) fn content_of(
    dir: impl AsFd,
    name: &str,
    sizes: &[u64],
) -> io::Result<Option<(Option<ContentHash>, Facts)>> {
    let Some((file, facts)) = open_file(dir, name)? else {
        return Ok(None);
    };
    let hash = |size| hash(&file, size, &mut |_| Ok(()));
    let content = sizes.contains(&facts.size).then(|| hash(facts.size)).transpose()?;
    Ok(Some((content, facts)))
}

/// True if the regular file at `name` has exactly this content. The size saves reading a file that cannot
/// have it.
pub(super) fn has_content(dir: impl AsFd, name: &str, content: ContentHash, size: u64) -> io::Result<bool> {
    match open_file(dir, name)? {
        Some((file, facts)) if facts.size == size => Ok(hash(&file, size, &mut |_| Ok(()))? == content),
        _ => Ok(false),
    }
}

/// SHA-256 of the rest of `file`, about `size` bytes; `part` is called for each part of it.
pub(super) fn hash(
    mut file: &File,
    size: u64,
    part: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<ContentHash> {
    let mut hasher = ContentHasher::new();
    let mut buffer = vec![0; read_size(size)];
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let stretch = buffer.get(..read).unwrap_or_default();
        hasher.update(stretch);
        part(stretch)?;
    }
}

/// Bytes to read at once of a file of `size` bytes: most notes are far smaller than the limit.
fn read_size(size: u64) -> usize {
    usize::try_from(size).unwrap_or(READ_SIZE).clamp(LEAST_READ, READ_SIZE)
}

/// A time in milliseconds since the epoch as seconds and nanoseconds.
pub(super) fn moment(milliseconds: i64) -> (i64, i64) {
    (milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000) * 1_000_000)
}

/// Sets the modification time of an open file that obsync has just written, milliseconds since the epoch.
pub(super) fn set_file_time(file: &File, mtime: i64) -> rustix::io::Result<()> {
    static WARNED: AtomicBool = AtomicBool::new(false);
    match set_open_time(file, mtime) {
        // Some file systems of phones and network drives do not allow it. The content matters more.
        Err(error @ (Errno::PERM | Errno::ACCESS)) => {
            if !WARNED.swap(true, Ordering::Relaxed) {
                tracing::warn!(%error, "the destination's file system does not let obsync set the times of files");
            }
            Ok(())
        }
        result => result,
    }
}

/// Sets the modification time of an open file, milliseconds since the epoch.
pub(super) fn set_open_time(file: &File, mtime: i64) -> rustix::io::Result<()> {
    set_time(mtime, |times| rustix::fs::futimens(file, times))
}

/// Sets the modification time of an open file to now.
pub(super) fn set_time_to_now(file: &File) -> rustix::io::Result<()> {
    let at = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    rustix::fs::futimens(file, &Timestamps { last_access: at(UTIME_OMIT), last_modification: at(UTIME_NOW) })
}

/// Sets the modification time of the entry at `name`, milliseconds since the epoch.
pub(super) fn set_entry_time(dir: impl AsFd, name: &str, mtime: i64) -> rustix::io::Result<()> {
    set_time(mtime, |times| rustix::fs::utimensat(&dir, name, times, AtFlags::SYMLINK_NOFOLLOW))
}

/// Sets the time, or the nearest one that the file system supports: a vault can have the year 300,000.
fn set_time(mtime: i64, set: impl Fn(&Timestamps) -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    let (seconds, nanoseconds) = moment(mtime);
    let ranges = [(i64::MIN, i64::MAX), (i64::from(i32::MIN), i64::from(i32::MAX)), (0, i64::from(i32::MAX))];
    let mut result = Ok(());
    for (least, most) in ranges {
        let within = seconds.clamp(least, most);
        result = set(&Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: within,
                tv_nsec: if within == seconds { nanoseconds as _ } else { 0 },
            },
        });
        match result {
            Err(Errno::INVAL | Errno::OVERFLOW | Errno::RANGE) => {}
            Err(error @ (Errno::NOSYS | Errno::OPNOTSUPP)) => {
                tracing::debug!(%error, "the destination's file system keeps no times");
                return Ok(());
            }
            _ => return result,
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_file_is_read_in_little_memory_and_a_large_one_in_large_stretches() {
        assert_eq!(read_size(0), LEAST_READ);
        assert_eq!(read_size(2000), LEAST_READ);
        assert_eq!(read_size(100_000), 100_000);
        assert_eq!(read_size(u64::MAX), READ_SIZE);
    }

    #[test]
    fn a_file_is_hashed_to_its_end_whatever_its_size_is_thought_to_be() {
        let content = vec![b'x'; 3 * READ_SIZE + 1];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, &content).unwrap();
        for size in [0, 1, content.len() as u64, u64::MAX] {
            let mut seen = 0;
            let mut count = |part: &[u8]| {
                seen += part.len();
                Ok(())
            };
            let hashed = hash(&File::open(&path).unwrap(), size, &mut count).unwrap();
            assert_eq!((hashed, seen), (ContentHash::of(&content), content.len()));
        }
    }

    #[test]
    fn times_before_the_epoch_have_positive_nanoseconds() {
        assert_eq!(moment(-1), (-1, 999_000_000));
        assert_eq!(moment(1_700_000_000_123), (1_700_000_000, 123_000_000));
        assert_eq!(moment(i64::MIN).0, i64::MIN.div_euclid(1000));
    }
}
