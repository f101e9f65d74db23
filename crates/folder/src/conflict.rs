//! Conflicted copies: a file in the way that obsync did not write gets a free name beside its own.

use cap_std::fs::Dir;
use obsync_core::{DestinationError, KnownContent};
use obsync_protocol::{ContentHash, VaultPath};
use rustix::io::Errno;

use super::context::Context;
use super::entry::{Facts, Kind, content_of, look};
use super::error::{Action, ErrorContext};
use super::rename::rename_new;
use super::rights::Rights;
use super::root::Root;
use super::steps::Step;
use super::taken::Replaced;
use obsync_core::conflicted_copy;

/// Conflicted copies of one file within one minute, at most.
const COPIES: u32 = 10_000;
/// Existing copies read, at most, to find one with the same content.
const COMPARED: usize = 100;

/// Renames the file or folder at `path`, whose open parent is `dir`, and returns its new path. Nothing is
/// overwritten, and a link is renamed itself. A file that already has a conflicted copy with its content is
/// removed like any other: it is taken out of its place and compared once more.
pub(super) fn set_aside(
    context: &Context,
    root: &Root,
    dir: &Dir,
    path: &VaultPath,
) -> Result<VaultPath, DestinationError> {
    let failed = |error| root.errors.error(Action::SetAside, path.as_str(), error);
    let facts = look(dir, path.file_name()).map_err(failed)?.ok_or_else(|| failed(Errno::NOENT))?;
    let ends_with_mark = facts.kind == Kind::Folder || conflicted_copy::is_configuration(path);
    if facts.kind == Kind::File {
        note_rights(context, dir, path);
        if let Some(copy) = equal_copy(root, dir, path.file_name(), ends_with_mark, facts)
            && goes_for_a_copy(context, root, dir, path, &copy)
        {
            root.touched(path.parent().as_ref());
            return beside(&root.errors, path, &copy.name);
        }
    }
    move_beside(root, dir, path.file_name(), dir, path, ends_with_mark)
}

/// Saves the rights of a renamed file, for the file that takes its place.
fn note_rights(context: &Context, dir: &Dir, path: &VaultPath) {
    match Rights::at(dir, path.file_name()) {
        Ok(rights) => rights.into_iter().for_each(|rights| context.rights.note(path, rights)),
        Err(error) => tracing::debug!(%error, "the rights of a file that is set aside are not known"),
    }
}

/// Removes a file that has an equal copy. `false`: it stays or is back in its place, because the copy is not
/// certain any more, or it cannot be taken out here.
fn goes_for_a_copy(context: &Context, root: &Root, dir: &Dir, path: &VaultPath, copy: &EqualCopy) -> bool {
    context.steps.reach(Step::CopyFound, Some(path));
    let replaced = Replaced { facts: copy.facts, content: copy.content };
    let is_still_there = || look(dir, &copy.name) == Ok(Some(copy.copy_facts));
    context.take_out_for_copy(root, dir, path, replaced, is_still_there).unwrap_or_else(|error| {
        tracing::debug!(%error, "a file with an equal copy is kept beside it");
        false
    })
}

/// Renames a file of another folder to a free name beside `path`, whose open parent is `dir`.
pub(super) fn place_beside(
    root: &Root,
    from: &Dir,
    name: &str,
    dir: &Dir,
    path: &VaultPath,
) -> Result<VaultPath, DestinationError> {
    move_beside(root, from, name, dir, path, conflicted_copy::is_configuration(path))
}

fn move_beside(
    root: &Root,
    from: &Dir,
    old: &str,
    dir: &Dir,
    path: &VaultPath,
    ends_with_mark: bool,
) -> Result<VaultPath, DestinationError> {
    let failed = |error| root.errors.error(Action::SetAside, path.as_str(), error);
    let label = conflicted_copy::label(root.device_name());
    let limit = root.name_max();
    for copy in 1..=COPIES {
        let name = conflicted_copy::name(path.file_name(), ends_with_mark, &label, copy, limit);
        let copy_path = beside(&root.errors, path, &name)?;
        match rename_new(from, old, dir, &name) {
            Ok(()) => {
                root.touched(path.parent().as_ref());
                return Ok(copy_path);
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(Errno::EXIST))
}

/// A conflicted copy with the content of a file.
struct EqualCopy {
    name: String,
    content: ContentHash,
    /// Facts of the file and of the copy when they were read.
    facts: Facts,
    copy_facts: Facts,
}

/// A conflicted copy of the file `name` with its content, if there is one: otherwise each run would leave one
/// more.
fn equal_copy(root: &Root, dir: &Dir, name: &str, ends_with_mark: bool, facts: Facts) -> Option<EqualCopy> {
    let is_another = |copy: &Facts| copy.size == facts.size && copy.identity != facts.identity;
    let mut copies = copies_of(root, dir, name, ends_with_mark, is_another)?.peekable();
    copies.peek()?;
    let (content, facts) = content_of(dir, name, &[facts.size]).ok()??;
    let content = content?;
    copies.find_map(|name| {
        let (found, copy_facts) = content_of(dir, &name, &[facts.size]).ok()??;
        (found == Some(content)).then_some(EqualCopy { name, content, facts, copy_facts })
    })
}

/// True if a file that was taken out of its place has a conflicted copy.
pub(super) fn has_equal_copy(root: &Root, dir: &Dir, path: &VaultPath, content: KnownContent) -> bool {
    let ends_with_mark = conflicted_copy::is_configuration(path);
    let is_as_large = |copy: &Facts| copy.size == content.size;
    copies_of(root, dir, path.file_name(), ends_with_mark, is_as_large).into_iter().flatten().any(|copy| {
        matches!(content_of(dir, &copy, &[content.size]), Ok(Some((Some(hash), _))) if hash == content.hash)
    })
}

/// Conflicted copies of the file `name` that may have its content.
fn copies_of<'c>(
    root: &Root,
    dir: &'c Dir,
    name: &'c str,
    ends_with_mark: bool,
    may_be: impl Fn(&Facts) -> bool + 'c,
) -> Option<impl Iterator<Item = String> + 'c> {
    let limit = root.name_max();
    let names = dir.entries().ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let copies = names
        .filter(move |copy| conflicted_copy::is_copy_of(copy, name, ends_with_mark, limit))
        .filter(move |copy| look(dir, copy).ok().flatten().is_some_and(|copy| may_be(&copy)))
        .take(COMPARED);
    Some(copies)
}

/// Returns a file that was set aside to its name, if that is still free. `false` if it keeps the new one.
pub(super) fn put_back(root: &Root, dir: &Dir, path: &VaultPath, copy_path: &VaultPath) -> bool {
    match rename_new(dir, copy_path.file_name(), dir, path.file_name()) {
        Ok(()) => {
            root.touched(path.parent().as_ref());
            true
        }
        Err(error) => {
            tracing::debug!(%error, "a conflicted copy keeps its new name");
            false
        }
    }
}

fn beside(errors: &ErrorContext, path: &VaultPath, name: &str) -> Result<VaultPath, DestinationError> {
    let copy_path = match path.parent() {
        Some(folder) => folder.join(name),
        None => VaultPath::parse(name),
    };
    // Only the length of the whole path can be wrong.
    copy_path.map_err(|_| errors.too_long(path.as_str()))
}
