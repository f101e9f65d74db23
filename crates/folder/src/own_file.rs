//! Small files of obsync's own in `.obsync`, readable only by their owner, and replaced as a whole.

use std::fs::File;
use std::io::{self, Read, Write};

use cap_std::fs::Dir;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::root::Root;
use super::steps::Step;

/// Hides the folder from git.
const IGNORE_FILE: &str = ".gitignore";

/// Text of a file of at most `most` bytes, if it exists.
pub(super) fn read(own: &Dir, name: &str, most: usize) -> io::Result<Option<String>> {
    // Opening a FIFO would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(own, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is no ordinary file"));
    }
    let mut text = String::new();
    file.take(most as u64 + 1).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Durably replaces a file.
pub(super) fn write(root: &Root, own: &Dir, name: &str, text: &str) -> io::Result<()> {
    let new = format!("{name}.new");
    match rustix::fs::unlinkat(own, &new, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    create(own, &new, text)?;
    root.steps.reach(Step::OwnWritten, None);
    rustix::fs::renameat(own, &new, own, name)?;
    let is_new = match create(own, IGNORE_FILE, "*\n") {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    rustix::fs::fsync(own)?;
    // The name of a folder that was there before is durable.
    if is_new { root.handle.sync_all() } else { Ok(()) }
}

fn create(own: &Dir, name: &str, text: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(own, name, flags, Mode::from_raw_mode(0o600))?);
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
