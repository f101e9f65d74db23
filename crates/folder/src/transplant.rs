//! Publishes into another file system that is mounted below the root, which a rename from staging cannot
//! reach: the content is first copied to a hidden file beside the target.

use std::fs::File;
use std::io;
use std::sync::Arc;

use cap_std::fs::Dir;
use obsync_core::{DestinationError, FileMeta};
use obsync_protocol::ContentHash;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::entry::{hash, open_file, set_file_time};
use super::error::{Action, ErrorContext};
use super::staging::{StagingFolder, remove_own};
use super::taken::is_taken_beside;

/// Prefix of a copy's name; the content hash and [`SUFFIX`] follow. (Shorter than any file system's limit.)
const PREFIX: &str = ".obsync-";
const SUFFIX: &str = ".part";

/// A complete, flushed copy beside its target. Removed on drop, unless it was renamed before.
pub(super) struct Part {
    pub(super) dir: Arc<Dir>,
    pub(super) name: String,
    /// Only its owner can read it until it is in its place.
    pub(super) file: File,
}

impl Drop for Part {
    fn drop(&mut self) {
        match rustix::fs::unlinkat(&*self.dir, &self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => tracing::debug!(%error, "a temporary copy cannot be removed"),
        }
    }
}

/// Copies the staged file `handle` into `dir`.
pub(super) fn transplant(
    errors: &ErrorContext,
    staging: &StagingFolder,
    handle: &str,
    meta: &FileMeta,
    dir: &Arc<Dir>,
    path: &str,
) -> Result<Part, DestinationError> {
    let failed = |error: io::Error| errors.error(Action::Place, path, error);
    let source = open_file(&staging.dir, handle).map_err(failed)?;
    let (source, _) = source.ok_or_else(|| errors.not_found(Action::Read, path))?;
    let name = part_name(meta.hash);
    let file = create(dir, &name).map_err(|error| failed(error.into()))?;
    let part = Part { dir: dir.clone(), name, file };
    let copied = hash(&source, meta.size, &mut |stretch| io::Write::write_all(&mut &part.file, stretch))
        .and_then(|copied| {
            set_file_time(&part.file, meta.mtime)?;
            part.file.sync_all()?;
            Ok(copied)
        });
    if copied.map_err(failed)? != meta.hash {
        return Err(failed(io::Error::other("the staged file was changed by something else")));
    }
    Ok(part)
}

/// Removes copies that interrupted runs left in `dir`, and returns the names of all other entries. What cannot
/// be removed (a folder, in a folder like `/tmp` another user's file) stays.
pub(super) fn remove_parts(dir: &Dir) -> io::Result<Vec<String>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = Dir::from_std_file(File::from(rustix::fs::openat(dir, ".", flags, Mode::empty())?));
    let mut others = Vec::new();
    for entry in readable.entries()? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        match is_part(&name) {
            true => remove_own(dir, &name),
            false => others.push(name),
        }
    }
    Ok(others)
}

/// True if a name is that of a file of obsync's own beside users' files; users' files have no such names.
pub(super) fn is_own_beside(name: &str) -> bool {
    is_part(name) || is_taken_beside(name)
}

/// True if a name is that of such a copy.
fn is_part(name: &str) -> bool {
    let digits = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    digits.is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// Name of a copy with this content.
pub(super) fn part_name(content: ContentHash) -> String {
    format!("{PREFIX}{content}{SUFFIX}")
}

fn create(dir: &Dir, name: &str) -> rustix::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600)).map(File::from)
}
