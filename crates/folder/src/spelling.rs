//! Files whose names are other spellings of their paths in the vault: either may be in decomposed form
//! (docs/PROTOCOL.md section 4).

use std::ffi::OsStr;

use cap_std::fs::Dir;
use obsync_protocol::is_same_name;

use super::entry::{Kind, look};
use super::folding::has_other_spelling;
use super::rename::rename_new;

/// Renames a recorded file that has another spelling to its recorded name, so that it is not missing. Returns
/// its former spelling.
pub(super) fn respell(dir: &Dir, name: &str) -> Option<String> {
    let spelling = other_spelling(dir, name)?;
    rename_new(dir, &spelling, dir, name).is_ok().then_some(spelling)
}

/// The spelling of a recorded file that does not have its recorded name.
pub(super) fn other_spelling(dir: &Dir, name: &str) -> Option<String> {
    if name.is_ascii() || !matches!(look(dir, name), Ok(None)) {
        return None;
    }
    let names = dir.entries().ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut spelled = names.filter(|found| found != name && is_same_name(found, name));
    // With two, it is unknown which one it is.
    let (spelling, None) = (spelled.next()?, spelled.next()) else { return None };
    let is_file = look(dir, &spelling).ok().flatten().is_some_and(|facts| facts.kind == Kind::File);
    is_file.then_some(spelling)
}

/// True if the entry found by a name has that very name, or one with the same normal form. Where names are
/// folded a file that was renamed by letter case is also found by its old name, though it does not have it
/// any more.
pub(super) fn is_named(dir: &Dir, name: &str) -> bool {
    if !has_other_spelling(dir, OsStr::new(name)) {
        return true;
    }
    let Ok(entries) = dir.entries() else { return true };
    let mut names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.any(|found| is_same_name(&found, name))
}

/// Renames a file back to the spelling that its user chose. Returns whether it has it.
pub(super) fn spell(dir: &Dir, name: &str, spelling: &str) -> bool {
    rename_new(dir, name, dir, spelling).is_ok()
}
