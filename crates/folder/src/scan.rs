//! Compares a folder with its records, and opens its files to be sent.
//!
//! Facts come first: a file is read only if they differ from those of its record, or if it changed so
//! recently that they need not differ (`clock`). `walk` goes through the folders, `names` pairs their names
//! with those of the records (`known`), `file` reads files.

mod clock;
mod file;
mod known;
mod names;
mod open;
mod walk;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;

use obsync_core::{DestinationError, LocalTree, ScanInput, Unknown, UnknownCause};
use obsync_protocol::VaultPath;
use rustix::fs::AtFlags;

use self::walk::{Walk, open_folder};
use crate::context::Context;
use crate::place;
use crate::root::Root;

pub(super) use self::open::open;

/// Threads of a scan, at most. More are no faster, since they wait for the same disk.
const THREADS: usize = 4;

/// Scans the destination, or a few paths only. After `stop` is set, the result is not needed any more.
pub(super) fn scan(
    context: &Context,
    input: &ScanInput,
    only: Option<&HashSet<VaultPath>>,
    stop: &AtomicBool,
) -> Result<LocalTree, DestinationError> {
    let Some(root) = context.root()? else {
        let why = UnknownCause::Unreadable { reason: "it is not there".to_owned() };
        return Ok(LocalTree { unknown: vec![Unknown { path: String::new(), why }], ..LocalTree::default() });
    };
    place::check(context, &root)?;
    let was_in_flux = is_in_flux(&root);
    let threads = available_parallelism().map_or(THREADS, usize::from).clamp(2, THREADS);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|number| format!("scan-{number}"))
        .build()
        .map_err(|error| context.errors.unavailable(&format!("it cannot be looked through: {error}")))?;
    let mounts = root.read_mounts()?;
    let (mut tree, mounted) = pool.install(|| Walk::new(context, &root, input, only, &mounts, stop).run())?;
    tree.is_in_flux = was_in_flux || is_in_flux(&root);
    // The result is invalid if another disk is there now.
    place::check(context, &root)?;
    if only.is_none() && mounted != *mounts && !stop.load(Ordering::Relaxed) {
        root.remember_mounts(mounted);
    }
    Ok(tree)
}

/// True if git is about to rewrite the folder.
fn is_in_flux(root: &Root) -> bool {
    open_folder(&root.handle, ".git")
        .is_ok_and(|git| rustix::fs::statat(git, "index.lock", AtFlags::SYMLINK_NOFOLLOW).is_ok())
}
