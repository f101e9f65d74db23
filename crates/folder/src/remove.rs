//! Removes files that still have the content that obsync wrote, and empty folders.

use cap_std::fs::Dir;
use obsync_core::{DestinationError, Removable, Removal};
use obsync_protocol::VaultPath;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::context::{Context, is_own};
use super::entry::{Kind, content_of, look};
use super::error::Action;
use super::exchange::remove_after_a_look;
use super::parents::Parents;
use super::root::Root;
use super::spelling::{respell, spell};
use super::steps::Step;
use super::taken::Replaced;

/// Removes one file if it has the content that obsync wrote: it is taken out of its place, compared, and
/// removed at the next flush.
pub(super) fn remove_file(
    context: &Context,
    root: &Root,
    parents: &mut Parents<'_>,
    file: &Removable,
) -> Result<Removal, DestinationError> {
    let (path, name) = (&file.path, file.path.file_name());
    if is_own(path) {
        return Ok(Removal::Kept);
    }
    root.mounts()?.check(root, path, Action::Remove)?;
    let folder = path.parent();
    let Some(dir) = parents.find(folder.as_ref())? else {
        return Ok(Removal::Missing);
    };
    let spelling = respell(&dir, name);
    let removed = remove_in(context, root, &dir, file);
    if let Some(spelling) = spelling
        && !matches!(removed, Ok(Removal::Removed))
    {
        // It stays under the name that its user chose.
        spell(&dir, name, &spelling);
    }
    removed
}

fn remove_in(
    context: &Context,
    root: &Root,
    dir: &Dir,
    file: &Removable,
) -> Result<Removal, DestinationError> {
    let (path, name) = (&file.path, file.path.file_name());
    let folder = path.parent();
    let failed = |error: std::io::Error| root.errors.error(Action::Remove, path.as_str(), error);
    match look(dir, name).map_err(|error| failed(error.into()))? {
        None => return Ok(Removal::Missing),
        // Whoever wrote it.
        Some(_) if context.options.keep_deleted => return Ok(Removal::Retained),
        // A file of another size need not be read.
        Some(facts) if facts.kind == Kind::File && facts.size == file.content.size => {}
        Some(_) => return Ok(Removal::Kept),
    }
    let Some((content, facts)) = content_of(dir, name, &[file.content.size]).map_err(failed)? else {
        return Ok(Removal::Missing);
    };
    if content != Some(file.content.hash) {
        return Ok(Removal::Kept);
    }
    context.steps.reach(Step::ToBeRemoved, Some(path));
    let expected = Replaced { facts, content: file.content.hash };
    let removed = match context.take_out(root, dir, path, expected) {
        // There is no room for another name, and removing makes some.
        Err(Errno::NAMETOOLONG | Errno::NOSPC | Errno::DQUOT) => {
            let facts = match context.options.trash {
                true => context.copy_to_trash(root, dir, path, expected).map_err(failed)?,
                false => Some(facts),
            };
            facts.map_or(Ok(false), |facts| remove_after_a_look(dir, name, &facts))
        }
        removed => removed,
    };
    match removed {
        Ok(true) => {
            root.touched(folder.as_ref());
            Ok(Removal::Removed)
        }
        Ok(false) => Ok(Removal::Kept),
        Err(Errno::NOENT) => Ok(Removal::Missing),
        Err(error) => Err(failed(error.into())),
    }
}

/// Removes one folder if it is empty; `true` if it does not exist any more.
pub(super) fn remove_folder(
    _: &Context,
    root: &Root,
    parents: &mut Parents<'_>,
    folder: &VaultPath,
) -> Result<bool, DestinationError> {
    root.mounts()?.check(root, folder, Action::Remove)?;
    let above = folder.parent();
    let Some(dir) = parents.find(above.as_ref())? else {
        return Ok(true);
    };
    match rustix::fs::unlinkat(&*dir, folder.file_name(), AtFlags::REMOVEDIR) {
        Ok(()) => {
            parents.forget(folder);
            root.touched(above.as_ref());
            Ok(true)
        }
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Ok(false),
        Err(error) => Err(root.errors.error(Action::Remove, folder.as_str(), error)),
    }
}
