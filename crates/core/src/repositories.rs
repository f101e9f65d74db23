//! Keeps a pull from completing a bare git repository.
//!
//! Git treats a folder as a repository if it has a file `HEAD` beside `objects` and `refs`, or beside a
//! `commondir`, and then runs programs that the file `config` in it names. A vault can list all of these
//! under names that no rule about single names refuses. So a folder of the destination has either the head or
//! one of the others, never both: if both are wanted at once, the head is refused; if one is there already,
//! the other is refused.

use std::collections::{BTreeMap, BTreeSet};

use obsync_protocol::{RepositoryPart, VaultPath, alias_key};

const REFUSED: &str = "with it git would take its folder for a repository and run programs that the vault names; rename it \
                       in Obsidian";

/// Folders in which a part of a bare repository is wanted, with the parts that are there.
#[derive(Debug, Default)]
pub(crate) struct Repositories {
    /// By the folder's path as a file system that folds names compares it: `a` and `A` may be one folder.
    folders: BTreeMap<String, Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    /// The spellings of the folder's path in the vault; `None` is the top.
    spellings: BTreeSet<Option<VaultPath>>,
    wanted: BTreeSet<RepositoryPart>,
    present: BTreeSet<RepositoryPart>,
}

impl Parts {
    fn admits(&self, part: RepositoryPart) -> bool {
        use RepositoryPart::{Body, Head};
        match part {
            Body => !self.present.contains(&Head),
            Head if self.present.contains(&Body) => false,
            // A part that is there already came first.
            Head => self.present.contains(&Head) || !self.wanted.contains(&Body),
        }
    }
}

impl Repositories {
    /// Collects the parts among the wanted paths.
    pub(crate) fn wanted<'p>(paths: impl Iterator<Item = &'p VaultPath>) -> Self {
        let mut repositories = Repositories::default();
        for path in paths {
            for (folder, part) in parts(path.as_str()) {
                let parts = repositories.folders.entry(key(folder)).or_default();
                parts.wanted.insert(part);
                // The part of a path before a slash is a path.
                parts.spellings.insert(folder.and_then(|folder| VaultPath::parse(folder).ok()));
            }
        }
        repositories
    }

    /// The folders whose contents must be known.
    pub(crate) fn folders(&self) -> Vec<Option<VaultPath>> {
        self.folders.values().flat_map(|parts| parts.spellings.iter().cloned()).collect()
    }

    /// Notes the parts that are in these folders, in the order of [`folders`](Self::folders).
    pub(crate) fn present(&mut self, found: Vec<BTreeSet<RepositoryPart>>) {
        let mut found = found.into_iter();
        for parts in self.folders.values_mut() {
            let spellings = parts.spellings.len();
            parts.present.extend(found.by_ref().take(spellings).flatten());
        }
    }

    /// Refuses a path that would complete a git repository.
    pub(crate) fn admits(&self, path: &VaultPath) -> Result<(), String> {
        if self.folders.is_empty() {
            return Ok(());
        }
        let refused = parts(path.as_str())
            .any(|(folder, part)| self.folders.get(&key(folder)).is_some_and(|parts| !parts.admits(part)));
        if refused { Err(REFUSED.to_owned()) } else { Ok(()) }
    }
}

/// For each of the folders, the parts of a bare repository that are directly in it, found by going through
/// all files of the place. Folders with one [`alias_key`] are one.
pub fn repository_parts_among<'f>(
    files: impl Iterator<Item = &'f str>,
    folders: &[Option<VaultPath>],
) -> Vec<BTreeSet<RepositoryPart>> {
    let keys: Vec<String> =
        folders.iter().map(|folder| key(folder.as_ref().map(VaultPath::as_str))).collect();
    let mut found: BTreeMap<&str, BTreeSet<RepositoryPart>> =
        keys.iter().map(|key| (key.as_str(), BTreeSet::new())).collect();
    for file in files {
        for (folder, part) in parts(file) {
            if let Some(found) = found.get_mut(key(folder).as_str()) {
                found.insert(part);
            }
        }
    }
    keys.iter().map(|key| found.get(key.as_str()).cloned().unwrap_or_default()).collect()
}

/// The parts of bare repositories among the components of a path, each with its folder.
fn parts(path: &str) -> impl Iterator<Item = (Option<&str>, RepositoryPart)> {
    let mut begin = 0_usize;
    path.split('/').filter_map(move |segment| {
        let folder = begin.checked_sub(1).and_then(|end| path.get(..end));
        begin += segment.len() + 1;
        let part = RepositoryPart::of(segment)?;
        // A folder of this name is no head.
        let is_folder = begin <= path.len();
        (part != RepositoryPart::Head || !is_folder).then_some((folder, part))
    })
}

fn key(folder: Option<&str>) -> String {
    folder.map(alias_key).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> VaultPath {
        VaultPath::parse(text).unwrap()
    }

    /// The wanted paths that are refused if these files are present.
    fn refused<'w>(wanted: &[&'w str], present: &[&str]) -> Vec<&'w str> {
        let paths: Vec<VaultPath> = wanted.iter().map(|text| path(text)).collect();
        let mut repositories = Repositories::wanted(paths.iter());
        let folders = repositories.folders();
        repositories.present(repository_parts_among(present.iter().copied(), &folders));
        wanted.iter().copied().filter(|text| repositories.admits(&path(text)).is_err()).collect()
    }

    #[test]
    fn of_what_is_wanted_at_once_the_head_is_refused() {
        for body in
            ["r/objects/a.md", "r/refs/heads/main", "r/commondir", "r/OBJECTS/a", "R/refs/a", "r/Refs."]
        {
            for head in ["r/HEAD", "r/head", "r/Head.", "r/H\u{200d}EAD"] {
                assert_eq!(refused(&[head, body, "r/config"], &[]), [head], "{body}");
                assert_eq!(refused(&[body, head], &[]), [head], "{body}");
            }
        }
        assert_eq!(refused(&["HEAD", "refs/a"], &[]), ["HEAD"], "at the top as well");
    }

    #[test]
    fn of_what_comes_one_after_the_other_the_later_is_refused() {
        assert_eq!(refused(&["r/objects/a", "r/refs/b", "r/c"], &["r/HEAD"]), ["r/objects/a", "r/refs/b"]);
        assert_eq!(refused(&["r/HEAD", "r/c"], &["r/refs/a"]), ["r/HEAD"]);
        assert_eq!(refused(&["r/HEAD"], &["R/commondir"]), ["r/HEAD"]);
        assert_eq!(refused(&["r/HEAD", "r/objects/a"], &["r/HEAD"]), ["r/objects/a"]);
        assert_eq!(refused(&["r/HEAD", "r/objects/a"], &["r/refs/x"]), ["r/HEAD"]);
        assert_eq!(refused(&["refs/a"], &["HEAD"]), ["refs/a"]);
    }

    #[test]
    fn folders_of_these_names_without_a_head_pass() {
        assert_eq!(refused(&["objects/a.md", "refs/b.md", "lib/refs/c.md"], &["lib/objects/x"]), [""; 0]);
        assert_eq!(refused(&["r/HEAD", "s/refs/a", "r/x/refs/b"], &["refs/a"]), [""; 0]);
        assert_eq!(refused(&["r/HEAD/a.md", "r/refs/b.md"], &[]), [""; 0]);
        assert_eq!(refused(&["r/HEAD.md", "r/refs/b.md"], &[]), [""; 0]);
    }
}
