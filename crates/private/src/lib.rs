//! Files and folders that other users of the machine cannot prepare or change: obsync's home, its configuration and state,
//! its lock files and the folder in which it stages files.
//!
//! Opened files and folders are regular, belong to this user or to root, and cannot be written by others; if
//! one of this user's is accessible to others, their permissions are removed. Links are followed if they,
//! their targets and the folders of both are this user's or root's: secrets in Kubernetes, credentials of
//! systemd and files managed by `stow` are links. A pipe in place of a file does not block. On file systems
//! without owners (FAT, SMB, some of FUSE), where every file has one owner and one mode, a newly created file
//! there shows which.
//!
//! - [`Folder`]: an open folder, and opening and replacing files in it.
//! - `walk`: from a path to an open folder, without links of others. `trust`: the judgement of one file or
//!   folder.
//! - [`try_lock`]: one process at a time, and detection of file systems without locks.
//! - [`refuse_core_dumps`]: keeps keys out of core dumps.

#[cfg(unix)]
mod folder;
#[cfg(unix)]
mod lock;
#[cfg(unix)]
mod process;
#[cfg(unix)]
mod trust;
#[cfg(unix)]
mod walk;

#[cfg(unix)]
pub use folder::{Access, Folder, Opened};
#[cfg(unix)]
pub use lock::{
    LockError, forget_holder, holder, is_locked, look_for_records, name_holder, try_lock,
    try_lock_beside_records,
};
#[cfg(unix)]
pub use process::refuse_core_dumps;
#[cfg(unix)]
pub use trust::{Judgement, Refusal, close_folder, judge_folder, random_name};
