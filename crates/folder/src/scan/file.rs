//! Reads one file, and checks that it stays the same meanwhile.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use obsync_core::{KnownContent, LocalFile};
use obsync_protocol::VaultPath;
use rustix::fd::AsFd;

use super::clock::Clock;
use crate::entry::{LARGEST_CONTENT, hash, look, open_file};

/// Attempts to read a file that changes meanwhile.
const ATTEMPTS: u32 = 3;

/// The reason why a file could not be read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It changes repeatedly, or was removed.
    Changing,
    /// A system error.
    Failed(io::Error),
    /// The result is not needed any more.
    Stopped,
}

/// Reads the regular file at `name`, whose path in the vault is `path`.
pub(super) fn read(
    dir: impl AsFd,
    name: &str,
    path: &VaultPath,
    clock: &Clock,
    stop: &AtomicBool,
) -> Result<LocalFile, Unread> {
    for _ in 0..ATTEMPTS {
        let Some((file, facts)) = open_file(&dir, name).map_err(Unread::Failed)? else { break };
        if facts.size > LARGEST_CONTENT {
            return Err(Unread::Failed(io::Error::other("it is larger than 1 GiB, more than a vault takes")));
        }
        // Before it is read: any later write changes its facts.
        if !clock.settle(&facts.local()) {
            break;
        }
        let mut go_on = |_: &[u8]| match stop.load(Ordering::Relaxed) {
            true => Err(io::Error::from(io::ErrorKind::Interrupted)),
            false => Ok(()),
        };
        let hash = match hash(&file, facts.size, &mut go_on) {
            Ok(hash) => hash,
            Err(_) if stop.load(Ordering::Relaxed) => return Err(Unread::Stopped),
            Err(error) => return Err(Unread::Failed(error)),
        };
        if look(&dir, name).map_err(|error| Unread::Failed(error.into()))? == Some(facts) {
            let mtime = facts.modified.0.saturating_mul(1000).saturating_add(facts.modified.1 / 1_000_000);
            return Ok(LocalFile {
                path: path.clone(),
                content: KnownContent { hash, size: facts.size },
                mtime,
                ctime: created(&file).unwrap_or(mtime),
                facts: facts.local(),
            });
        }
    }
    Err(Unread::Changing)
}

/// Creation time of a file in milliseconds since the epoch, if the file system has it.
fn created(file: &File) -> Option<i64> {
    let created: SystemTime = file.metadata().ok()?.created().ok()?;
    i64::try_from(created.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}
