//! The records, folder by folder.

use std::collections::HashMap;

use obsync_core::Record;
use obsync_protocol::VaultPath;

/// The records of a scan by their folders, and those folders themselves, recorded or not.
pub(super) struct Known<'r> {
    records: &'r [Record],
    folders: HashMap<&'r str, Vec<Name<'r>>>,
}

/// A recorded name in a folder, or the name of a folder with records in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name<'r> {
    pub(super) name: &'r str,
    /// The index of its record, if it has one of its own.
    pub(super) record: Option<u32>,
}

impl<'r> Known<'r> {
    pub(super) fn new(records: &'r [Record]) -> Self {
        let mut known = Known { records, folders: HashMap::new() };
        known.folders.insert("", Vec::new());
        let (mut last, mut names): (&str, Vec<Name<'r>>) = ("", Vec::new());
        for (index, record) in (0..).zip(records) {
            let (folder, name) = split(record.path.as_str());
            // Records come folder by folder, more or less.
            if folder != last {
                known.folder(last).append(&mut names);
                last = folder;
            }
            names.push(Name { name, record: Some(index) });
        }
        known.folder(last).append(&mut names);
        known
    }

    /// The names of a folder, to be extended. Adds its own name to its parent, and so on up to the root.
    fn folder(&mut self, folder: &'r str) -> &mut Vec<Name<'r>> {
        let mut new = Vec::new();
        let mut at = folder;
        while !self.folders.contains_key(at) && !at.is_empty() {
            new.push(at);
            at = split(at).0;
        }
        for folder in new.into_iter().rev() {
            let (above, name) = split(folder);
            self.folders.entry(above).or_default().push(Name { name, record: None });
            self.folders.insert(folder, Vec::new());
        }
        self.folders.entry(folder).or_default()
    }

    pub(super) fn record(&self, index: u32) -> &'r Record {
        &self.records[index as usize]
    }

    /// The names in a folder (`None`: the root), sorted, each once.
    pub(super) fn names(&self, folder: Option<&VaultPath>) -> Vec<Name<'r>> {
        let mut names = self.folders.get(folder.map_or("", VaultPath::as_str)).cloned().unwrap_or_default();
        // Of two equal names, the one with a record.
        names.sort_unstable_by(|one, other| (one.name, other.record).cmp(&(other.name, one.record)));
        names.dedup_by_key(|name| name.name);
        names
    }

    /// True if anything below a path is recorded.
    pub(super) fn has_below(&self, path: &str) -> bool {
        self.folders.get(path).is_some_and(|names| !names.is_empty())
    }

    /// The records of everything below a path.
    pub(super) fn below(&self, path: &str) -> Vec<&'r Record> {
        let mut found = Vec::new();
        let mut pending: Vec<&str> =
            self.folders.get_key_value(path).map(|(key, _)| *key).into_iter().collect();
        while let Some(folder) = pending.pop() {
            for name in self.folders.get(folder).into_iter().flatten() {
                found.extend(name.record.map(|index| self.record(index)));
                if name.record.is_none() {
                    let path = format!("{folder}/{}", name.name);
                    pending.extend(self.folders.get_key_value(path.as_str()).map(|(key, _)| *key));
                }
            }
        }
        found
    }
}

/// The folder and the name of a path.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

#[cfg(test)]
mod tests {
    use obsync_core::RecordKind;
    use obsync_protocol::Uid;

    use super::*;

    fn records(paths: &[&str]) -> Vec<Record> {
        let record = |path: &&str| Record::new(VaultPath::parse(path).unwrap(), RecordKind::Folder(Uid(1)));
        paths.iter().map(record).collect()
    }

    #[test]
    fn folders_are_known_by_what_is_recorded_in_them() {
        let records = records(&["b/c/d.md", "a.md", "b/c", "b/e.md", "x/y/z.md"]);
        let known = Known::new(&records);
        let names = |folder: Option<&str>| {
            let folder = folder.map(|folder| VaultPath::parse(folder).unwrap());
            known.names(folder.as_ref()).iter().map(|name| (name.name, name.record)).collect::<Vec<_>>()
        };
        assert_eq!(names(None), [("a.md", Some(1)), ("b", None), ("x", None)]);
        assert_eq!(names(Some("b")), [("c", Some(2)), ("e.md", Some(3))]);
        assert_eq!(names(Some("x")), [("y", None)]);
        assert_eq!(names(Some("nowhere")), []);
        let below = |path: &str| {
            let mut below: Vec<&str> = known.below(path).iter().map(|record| record.path.as_str()).collect();
            below.sort_unstable();
            below
        };
        assert_eq!(below("b"), ["b/c", "b/c/d.md", "b/e.md"]);
        assert_eq!(below("x"), ["x/y/z.md"]);
        assert_eq!(below("a.md"), [] as [&str; 0]);
    }
}
