//! Advisory locks, and file systems that refuse them: network drives (NFS without a lock daemon, CIFS mounted
//! `nobrl`) and some of FUSE.
//!
//! There are two kinds. obsync locks a whole file with `flock`; SQLite locks records with `fcntl`. A file
//! system can support one kind and refuse the other. Over NFS, where `flock` is implemented by `fcntl`, they
//! conflict.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use thiserror::Error;

use crate::Folder;

/// Attempts at a record lock that another process has: its own probe lasts some microseconds.
const PROBES: u32 = 5;
/// The pause between two probes.
const PAUSE: Duration = Duration::from_millis(10);

/// Bytes of a holder's name that are read.
const NAME: u64 = 512;

/// Why a lock was refused.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another process has locked it")]
    Held,
    /// The file system has no locks.
    #[error("its file system refuses locks, as network drives can: {0}")]
    NoLocks(io::Error),
    /// It failed for another reason.
    #[error(transparent)]
    Other(io::Error),
}

/// Takes a `flock` on a whole file, for as long as the file is open.
///
/// # Errors
///
/// [`LockError`]
pub fn try_lock(file: &File) -> Result<(), LockError> {
    loop {
        return match file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(LockError::Held),
            // A signal interrupted a request to a file server.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(TryLockError::Error(error)) if is_refusal(&error) => Err(LockError::NoLocks(error)),
            Err(TryLockError::Error(error)) => Err(LockError::Other(error)),
        };
    }
}

impl LockError {
    /// The same, unless the file system claims for every `flock` that another process has it: also for a file
    /// that was just created in this folder, which nobody else knows.
    #[must_use]
    pub fn judged_in(self, folder: &Folder) -> Self {
        // No other answer contradicts the first one: the lock then counts as held.
        let is_refused = |file| matches!(try_lock(&file), Err(LockError::Held));
        match self {
            LockError::Held if folder.unnamed_file().is_ok_and(is_refused) => {
                LockError::NoLocks(Errno::AGAIN.into())
            }
            error => error,
        }
    }
}

/// Writes the owner of a lock and its time into a file that this process has locked. It is for people only;
/// nothing depends on it.
///
/// # Errors
///
/// When the file is not writable.
pub fn name_holder(mut file: &File) -> io::Result<()> {
    let system = rustix::system::uname();
    let (host, process) = (system.nodename().to_string_lossy(), std::process::id());
    let since = jiff::Timestamp::now();
    forget_holder(file)?;
    file.rewind()?;
    file.write_all(format!("host {host}, process {process} since {since:.0}\n").as_bytes())
}

/// The present lock holder of a file, or the last one if it was killed, as far as the file names it.
pub fn holder(mut file: &File) -> Option<String> {
    let mut name = Vec::new();
    file.rewind().ok()?;
    file.take(NAME).read_to_end(&mut name).ok()?;
    let name: String = String::from_utf8_lossy(&name).trim().chars().filter(|c| !c.is_control()).collect();
    (!name.is_empty()).then_some(name)
}

/// Removes the name of a holder from a file that this process has locked, and writes nothing if there is
/// none.
///
/// # Errors
///
/// When the file is not writable.
pub fn forget_holder(file: &File) -> io::Result<()> {
    match file.metadata()?.len() {
        0 => Ok(()),
        _ => file.set_len(0),
    }
}

/// True if another process has a `flock` on a whole file. Takes a shared lock for an instant to find out.
pub fn is_locked(file: &File) -> bool {
    match file.try_lock_shared() {
        Ok(()) => {
            let _ = file.unlock();
            false
        }
        Err(error) => matches!(error, TryLockError::WouldBlock),
    }
}

/// Takes a `flock` on a file of this folder that is open for writing, after checking that the file system has
/// record locks too.
///
/// # Errors
///
/// [`LockError`]
pub fn try_lock_beside_records(file: &File, folder: &Folder) -> Result<(), LockError> {
    // Before the lock is taken, which over NFS would conflict.
    let probed = probe(file);
    try_lock(file).map_err(|error| error.judged_in(folder))?;
    probed.map_err(LockError::NoLocks).inspect_err(|_| {
        let _ = file.unlock();
    })
}

/// Checks whether the file system of a file, which need only be open for reading, reports that it has no
/// record locks. A file system that claims that every record is locked already cannot be distinguished from
/// one with locks.
///
/// # Errors
///
/// [`LockError::NoLocks`]
pub fn look_for_records(file: &File) -> Result<(), LockError> {
    match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            let _ = rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingUnlock);
            Ok(())
        }
        Err(error) if is_held(error) => Ok(()),
        Err(error) => Err(LockError::NoLocks(error.into())),
    }
}

/// Takes a record lock and releases it.
fn probe(file: &File) -> io::Result<()> {
    for attempt in 1.. {
        match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(error) if is_held(error) && attempt < PROBES => std::thread::sleep(PAUSE),
            Err(error) => return Err(error.into()),
            Ok(()) => break,
        }
    }
    Ok(rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingUnlock)?)
}

/// True if `fcntl` reports that another process has a lock; POSIX allows either error.
fn is_held(error: Errno) -> bool {
    matches!(error, Errno::AGAIN | Errno::ACCESS)
}

/// True if `flock` failed because of the file system: the handle and the operation are valid.
fn is_refusal(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::OPNOTSUPP
                | Errno::NOSYS
                | Errno::NOLCK
                | Errno::ACCESS
                | Errno::PERM
                | Errno::IO
                | Errno::INVAL
                | Errno::BADF
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Access;

    /// A folder with an empty file `lock`.
    fn folder_with_lock() -> (tempfile::TempDir, Folder, File) {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::make(&place.path().join("private")).unwrap();
        let file = folder.file("lock", Access::Write).unwrap().unwrap().file;
        (place, folder, file)
    }

    #[test]
    fn a_lock_keeps_others_out_until_it_goes() {
        let (_place, folder, first) = folder_with_lock();
        let second = folder.file("lock", Access::Write).unwrap().unwrap().file;
        try_lock_beside_records(&first, &folder).unwrap();
        assert!(matches!(try_lock_beside_records(&second, &folder), Err(LockError::Held)));
        assert!(is_locked(&second));
        drop(first);
        assert!(!is_locked(&second));
        try_lock_beside_records(&second, &folder).unwrap();
        let names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["lock"], "nothing is left of the look whether the file system has locks");
    }

    #[test]
    fn a_lock_says_who_has_it_and_since_when() {
        let (_place, folder, file) = folder_with_lock();
        let other = folder.file("lock", Access::Read).unwrap().unwrap().file;
        assert_eq!(holder(&other), None);
        for _ in 0..2 {
            name_holder(&file).unwrap();
            let name = holder(&other).unwrap();
            assert!(name.contains(&format!("process {} since 2", std::process::id())), "{name}");
            assert_eq!(name.matches("host").count(), 1, "{name}");
        }
        forget_holder(&file).unwrap();
        assert_eq!(holder(&other), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_system_that_refuses_either_kind_of_lock_is_found_out() {
        use obsync_conformance::refused_locks::{FLOCK_REFUSALS, Kind, RECORD_REFUSALS, without_locks};

        let refused = |kind, error| {
            let (_place, folder, file) = folder_with_lock();
            without_locks(kind, error, move || {
                let refused = matches!(try_lock_beside_records(&file, &folder), Err(LockError::NoLocks(_)));
                (refused, look_for_records(&file).is_err())
            })
        };
        for error in FLOCK_REFUSALS {
            let Some((refused, records)) = refused(Kind::Flock, error) else { return };
            assert!(refused && !records, "{error:?}");
        }
        for error in RECORD_REFUSALS {
            let Some((refused, records)) = refused(Kind::Records, error) else { return };
            assert!(refused, "{error:?}");
            assert_eq!(records, !is_held(error), "{error:?}");
        }
    }
}
