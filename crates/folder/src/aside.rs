//! Conflicted copies: what is in the way and was not written by obsync gets a free name beside its own.

use cap_std::fs::Dir;
use obsync_core::StoreError;
use obsync_protocol::VaultPath;
use rustix::io::Errno;

use super::entry::{Kind, look};
use super::rename::rename_new;
use super::root::Root;
use super::site::{Action, Site};
use obsync_core::conflicted_copy;

/// How many conflicted copies of one file can be made within one minute.
const COPIES: u32 = 10_000;

/// Renames what is at `path`, whose open parent is `dir`, and tells its new path. Nothing is overwritten, and a link is
/// renamed itself.
pub(super) fn set_aside(root: &Root, dir: &Dir, path: &VaultPath) -> Result<VaultPath, StoreError> {
    let failed = |error| root.site.error(Action::SetAside, path.as_str(), error);
    let facts = look(dir, path.file_name()).map_err(failed)?.ok_or_else(|| failed(Errno::NOENT))?;
    let stamp = conflicted_copy::stamp();
    let limit = root.name_max();
    for copy in 1..=COPIES {
        let name = conflicted_copy::name(path.file_name(), facts.kind == Kind::Folder, &stamp, copy, limit);
        let aside = beside(&root.site, path, &name)?;
        match rename_new(dir, path.file_name(), dir, &name) {
            Ok(()) => {
                root.touched(path.parent().as_ref());
                return Ok(aside);
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(Errno::EXIST))
}

/// Gives what was set aside its name back, if that is still free.
pub(super) fn put_back(root: &Root, dir: &Dir, path: &VaultPath, aside: &VaultPath) {
    match rename_new(dir, aside.file_name(), dir, path.file_name()) {
        Ok(()) => root.touched(path.parent().as_ref()),
        Err(error) => tracing::debug!(%error, "a conflicted copy keeps its new name"),
    }
}

fn beside(site: &Site, path: &VaultPath, name: &str) -> Result<VaultPath, StoreError> {
    let aside = match path.parent() {
        Some(folder) => folder.join(name),
        None => VaultPath::parse(name),
    };
    // The one thing that can be wrong with it is the length of the whole.
    aside.map_err(|_| site.too_long(path.as_str()))
}
