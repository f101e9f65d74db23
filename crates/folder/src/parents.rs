//! Folders used by a batch: opened beneath the root, and kept open for the next file of the same folder.

use std::collections::HashMap;
use std::sync::Arc;

use cap_std::fs::Dir;
use obsync_core::DestinationError;
use obsync_protocol::VaultPath;
use rustix::fs::Mode;
use rustix::io::Errno;

use super::error::{Action, is_escape, is_missing};
use super::file_system::device;
use super::mount_list::mount_of;
use super::root::Root;

/// Open folders at most. A vault's files are listed roughly folder by folder.
const KEPT: usize = 64;

/// Folders opened beneath the root. Lives for one batch only, so that a folder that the user moves meanwhile
/// is soon detected.
pub(super) struct Parents<'a> {
    root: &'a Root,
    open: HashMap<VaultPath, Kept>,
    clock: u64,
}

struct Kept {
    dir: Arc<Dir>,
    used: u64,
}

impl<'a> Parents<'a> {
    pub(super) fn new(root: &'a Root) -> Self {
        Parents { root, open: HashMap::new(), clock: 0 }
    }

    /// The folder, or the root if `None`; returns `None` if it does not exist or is not a folder.
    pub(super) fn find(&mut self, folder: Option<&VaultPath>) -> Result<Option<Arc<Dir>>, DestinationError> {
        match self.open(folder) {
            Ok(dir) => Ok(Some(dir)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(self.root.errors.error(Action::Read, text(folder), error)),
        }
    }

    /// The folder, created with its parents if it does not exist. `path` will be in it (or is the folder
    /// itself).
    pub(super) fn make(
        &mut self,
        folder: Option<&VaultPath>,
        path: &VaultPath,
    ) -> Result<Arc<Dir>, DestinationError> {
        let error = match (self.open(folder), folder) {
            (Ok(dir), _) => return Ok(dir),
            (Err(error), Some(folder)) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT) => return self.make_in_parent(folder, path),
                Some(Errno::NOTDIR) => return Err(self.obstructed(folder, path)),
                _ => error,
            },
            (Err(error), None) => error,
        };
        if is_escape(&error) {
            return Err(self.root.errors.leads_out(path.as_str()));
        }
        Err(self.root.errors.error(Action::Read, text(folder), error))
    }

    /// Forgets the handles of a removed or renamed folder and of those below it.
    pub(super) fn forget(&mut self, folder: &VaultPath) {
        self.open.retain(|open, _| open != folder && !open.is_below(folder));
    }

    fn make_in_parent(&mut self, folder: &VaultPath, path: &VaultPath) -> Result<Arc<Dir>, DestinationError> {
        let above = folder.parent();
        let parent = self.make(above.as_ref(), path)?;
        match rustix::fs::mkdirat(&*parent, folder.file_name(), Mode::from_raw_mode(0o777)) {
            Ok(()) => self.root.touched(above.as_ref()),
            Err(Errno::EXIST) => {}
            Err(error @ (Errno::ACCESS | Errno::PERM)) if above.is_none() => {
                return Err(self.root.errors.root_error(Action::MakeFolder, error));
            }
            Err(error) => return Err(self.root.errors.error(Action::MakeFolder, folder.as_str(), error)),
        }
        self.open(Some(folder)).map_err(|error| match Errno::from_io_error(&error) {
            // The name is taken and cannot be entered: a dangling link.
            Some(Errno::NOENT | Errno::NOTDIR) => self.in_the_way(folder, path),
            _ => self.root.errors.error(Action::MakeFolder, folder.as_str(), error),
        })
    }

    /// The error for a folder that cannot exist because it, or one of its parents, is something else.
    fn obstructed(&mut self, folder: &VaultPath, path: &VaultPath) -> DestinationError {
        let mut above: Vec<VaultPath> = folder.ancestors().collect();
        above.reverse();
        let not_a_folder = |error: std::io::Error| Errno::from_io_error(&error) == Some(Errno::NOTDIR);
        let occupant = above.into_iter().find(|one| self.open(Some(one)).is_err_and(not_a_folder));
        self.in_the_way(&occupant.unwrap_or_else(|| folder.clone()), path)
    }

    fn in_the_way(&self, occupant: &VaultPath, path: &VaultPath) -> DestinationError {
        DestinationError::InTheWay { path: path.as_str().to_owned(), occupant: occupant.clone() }
    }

    fn open(&mut self, folder: Option<&VaultPath>) -> std::io::Result<Arc<Dir>> {
        let Some(folder) = folder else {
            return Ok(self.root.dir.clone());
        };
        self.clock += 1;
        if let Some(kept) = self.open.get_mut(folder) {
            kept.used = self.clock;
            return Ok(kept.dir.clone());
        }
        let dir = Arc::new(self.root.dir.open_dir(folder.as_str())?);
        let facts = rustix::fs::fstat(&*dir)?;
        self.root.note_mounts(folder, mount_of(&*dir, device(&facts)))?;
        self.root.entered(device(&facts), &dir)?;
        self.make_room();
        self.open.insert(folder.clone(), Kept { dir: dir.clone(), used: self.clock });
        Ok(dir)
    }

    fn make_room(&mut self) {
        if self.open.len() >= KEPT
            && let Some(oldest) =
                self.open.iter().min_by_key(|(_, kept)| kept.used).map(|(path, _)| path.clone())
        {
            self.open.remove(&oldest);
        }
    }
}

fn text(folder: Option<&VaultPath>) -> &str {
    folder.map_or(".", VaultPath::as_str)
}
