//! Conflicted copies: what is in the way and was not written by obsync gets a free name beside its own.

use cap_std::fs::Dir;
use obsync_core::StoreError;
use obsync_protocol::VaultPath;
use rustix::io::Errno;

use super::entry::{Kind, look};
use super::rename::rename_new;
use super::root::Root;
use super::site::{Action, Site};

/// How many conflicted copies of one file can be made within one minute.
const COPIES: u32 = 10_000;

/// Renames what is at `path`, whose open parent is `dir`, and tells its new path. Nothing is overwritten, and a link is
/// renamed itself.
pub(super) fn set_aside(root: &Root, dir: &Dir, path: &VaultPath) -> Result<VaultPath, StoreError> {
    let failed = |error| root.site.error(Action::SetAside, path.as_str(), error);
    let facts = look(dir, path.file_name()).map_err(failed)?.ok_or_else(|| failed(Errno::NOENT))?;
    let stamp = jiff::Zoned::now().strftime("%Y%m%d%H%M").to_string();
    let limit = root.name_max();
    for copy in 1..=COPIES {
        let name = aside_name(path.file_name(), facts.kind == Kind::Folder, &stamp, copy, limit);
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

/// `name (Conflicted copy obsync 202501312359).md`, and from the second copy on `… 2).md`; at most `limit` bytes long.
fn aside_name(name: &str, is_folder: bool, stamp: &str, copy: u32, limit: usize) -> String {
    let (mut stem, mut extension) = match name.rfind('.') {
        Some(dot) if dot > 0 && dot + 1 < name.len() && !is_folder => name.split_at(dot),
        _ => (name, ""),
    };
    let mark = match copy {
        1 => format!(" (Conflicted copy obsync {stamp})"),
        _ => format!(" (Conflicted copy obsync {stamp} {copy})"),
    };
    if mark.len() + extension.len() >= limit {
        (stem, extension) = (name, "");
    }
    let room = limit.saturating_sub(mark.len() + extension.len());
    let kept = stem.get(..stem.floor_char_boundary(room)).unwrap_or_default();
    format!("{kept}{mark}{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: &str = "202501312359";

    #[test]
    fn the_mark_goes_before_the_extension() {
        assert_eq!(
            aside_name("Note.v2.md", false, STAMP, 1, 255),
            "Note.v2 (Conflicted copy obsync 202501312359).md"
        );
        assert_eq!(aside_name("Note", false, STAMP, 2, 255), "Note (Conflicted copy obsync 202501312359 2)");
        assert_eq!(
            aside_name(".hidden", false, STAMP, 1, 255),
            ".hidden (Conflicted copy obsync 202501312359)"
        );
        assert_eq!(aside_name("v1.2", true, STAMP, 1, 255), "v1.2 (Conflicted copy obsync 202501312359)");
    }

    #[test]
    fn a_long_name_is_shortened_between_two_characters() {
        for length in 60..85 {
            let name = format!("{}.md", "語".repeat(length));
            let aside = aside_name(&name, false, STAMP, 3, 255);
            assert!(aside.len() <= 255, "{} bytes", aside.len());
            assert!(aside.ends_with(" (Conflicted copy obsync 202501312359 3).md"));
            assert!(aside.starts_with('語'));
        }
    }

    #[test]
    fn an_extension_that_leaves_no_room_is_shortened_with_the_rest() {
        let name = format!("a.{}", "x".repeat(250));
        let aside = aside_name(&name, false, STAMP, 1, 255);
        assert_eq!(aside.len(), 255);
        assert!(aside.starts_with("a.xxx") && aside.ends_with("202501312359)"));
    }
}
