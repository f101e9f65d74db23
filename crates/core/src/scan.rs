//! The result of a scan, compared with the records. It has only differences, so that a scan of an unchanged
//! folder needs no memory beyond the records.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use obsync_protocol::{ContentHash, Filter, VaultPath, normalize_local_name};
use tokio::io::AsyncRead;

use crate::model::{KnownContent, LocalFacts, Record};

/// Input of a scan.
#[derive(Clone, Debug)]
pub struct ScanInput {
    /// All records. A file with the facts of its record is not read.
    pub records: Arc<Vec<Record>>,
    /// The filter. Excluded files are neither read nor reported missing.
    pub filter: Filter,
}

/// Result of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalTree {
    /// Files whose content is not the recorded one, or that are not recorded. By path.
    pub files: Vec<LocalFile>,
    /// Folders that are not recorded as folders. By path.
    pub folders: Vec<VaultPath>,
    /// Recorded files with unchanged content but other facts than the record, which may be updated with
    /// these.
    pub renewed: Vec<(VaultPath, LocalFacts)>,
    /// Recorded files and folders that are missing, though everything was read where they would be. By path.
    /// A place with something else (a link, a folder in a file's place, a name that differs only in case or
    /// normalisation) is no absence.
    pub absent: Vec<VaultPath>,
    /// Recorded files that are missing in a place where that says nothing: objects may have expired. By path.
    pub missing: Vec<VaultPath>,
    /// Recorded paths that are there only under a name that differs in case, which is among the files or
    /// folders: a file that was renamed so. By recorded path.
    pub respelled: Vec<Respelled>,
    /// Files and folders whose name in the destination is not byte for byte that of their path: one is the
    /// normal form of the other. By path.
    pub spellings: Vec<Spelling>,
    /// Places that could not be scanned, with everything below them.
    pub unknown: Vec<Unknown>,
    /// Number of files found, without those that are never synced or that the filter excludes.
    pub found: u64,
    /// Number of files read.
    pub read: u64,
    /// True if a program is rewriting the folder as a whole (`.git/index.lock` is at its root), so absence
    /// does not count.
    pub is_in_flux: bool,
    /// The [digest](crate::Scan::digest) of the destination as scanned.
    pub digest: Option<ContentHash>,
}

/// A recorded path that has another spelling now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respelled {
    /// The recorded path.
    pub recorded: VaultPath,
    /// The path found instead.
    pub found: VaultPath,
}

/// A name in the destination that is another spelling of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spelling {
    /// The path.
    pub path: VaultPath,
    /// Its name in the destination, relative to the root.
    pub name: String,
}

/// A file found by a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    /// Its path in the vault: the local name if that is a known path, else the normalised name
    /// (docs/PROTOCOL.md section 4).
    pub path: VaultPath,
    /// Its content.
    pub content: KnownContent,
    /// Time of the last change, milliseconds since the epoch.
    pub mtime: i64,
    /// Time of creation, milliseconds since the epoch; if unknown, that of the last change.
    pub ctime: i64,
    /// Its facts when it was read.
    pub facts: LocalFacts,
}

/// A place that could not be scanned, or that has something that is never synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Its name in the destination, relative to the root.
    pub path: String,
    /// The cause.
    pub why: UnknownCause,
}

/// The reason why a scan says nothing about a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnknownCause {
    /// It cannot be read.
    Unreadable {
        /// The system's error message.
        reason: String,
    },
    /// Another file system was mounted there in an earlier scan, and none is now.
    NotMounted,
    /// A symbolic link. It is not followed.
    Link,
    /// A device, a socket or a pipe.
    Special,
    /// A vault cannot have such a name.
    Name {
        /// The reason.
        reason: String,
        /// The file's number in its file system, which identifies it under another name.
        inode: Option<u64>,
    },
    /// A folder with a name that a vault cannot have: it may be any missing folder.
    FolderName {
        /// The reason.
        reason: String,
    },
    /// Its name equals another one, except for case or normalisation.
    Twin {
        /// The other one.
        of: VaultPath,
    },
    /// It changed repeatedly while it was read. A later scan will read it.
    Changing,
}

/// A file opened to be sent.
pub struct OpenFile {
    /// Its content from the beginning.
    pub content: Box<dyn AsyncRead + Send + Unpin>,
    /// Its facts when it was opened.
    pub facts: LocalFacts,
}

impl LocalTree {
    /// True if the scan says nothing about this path, because of something at it or above it.
    pub fn is_unknown(&self, path: &VaultPath) -> bool {
        let covers = |at: &str, path: &str| {
            at.is_empty() || path == at || path.strip_prefix(at).is_some_and(|rest| rest.starts_with('/'))
        };
        if self.unknown.is_empty() {
            return false;
        }
        let path = path.as_str();
        let normal = if path.is_ascii() { path.to_owned() } else { normalize_local_name(path) };
        self.unknown.iter().any(|unknown| {
            covers(&unknown.path, path)
                || (!unknown.path.is_ascii() && covers(&normalize_local_name(&unknown.path), &normal))
        })
    }

    /// True if the scan found no difference from the records.
    pub(crate) fn is_as_recorded(&self) -> bool {
        self.files.is_empty()
            && self.folders.is_empty()
            && self.renewed.is_empty()
            && self.absent.is_empty()
            && self.respelled.is_empty()
    }

    /// True if every recorded entry was found, and every found entry can be recorded.
    pub(crate) fn differs_by_files_alone(&self) -> bool {
        self.absent.is_empty()
            && self.missing.is_empty()
            && self.respelled.is_empty()
            && self.unknown.is_empty()
            && !self.is_in_flux
    }

    /// True if a scan of a few paths is reliable: nothing is missing, and no name is in doubt.
    pub(crate) fn is_certain(&self) -> bool {
        self.absent.is_empty() && self.respelled.is_empty() && self.unknown.is_empty() && !self.is_in_flux
    }

    /// Adds the unrecorded parent folders of files, for a place without folders.
    pub(crate) fn add_folders(&mut self, records: &[Record]) {
        let known: HashSet<&VaultPath> =
            records.iter().filter(|record| record.file().is_none()).map(|record| &record.path).collect();
        let above = |path: &VaultPath| std::iter::successors(path.parent(), VaultPath::parent);
        let folders: HashSet<VaultPath> = self
            .files
            .iter()
            .flat_map(|file| above(&file.path))
            .filter(|path| !known.contains(path))
            .collect();
        self.folders.extend(folders);
        self.folders.sort_unstable();
    }

    /// Sorts every list by path.
    pub fn sort(&mut self) {
        self.files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        self.folders.sort_unstable();
        self.renewed.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        self.absent.sort_unstable();
        self.missing.sort_unstable();
        self.respelled.sort_unstable_by(|one, other| one.recorded.cmp(&other.recorded));
        self.spellings.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        self.unknown.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    }
}

impl LocalTree {
    /// Removes the results for these paths.
    pub(crate) fn leave(&mut self, paths: &HashSet<VaultPath>) {
        if !paths.is_empty() {
            self.files.retain(|file| !paths.contains(&file.path));
            self.absent.retain(|path| !paths.contains(path));
            self.folders.retain(|path| !paths.contains(path));
            self.respelled.retain(|respelled| !paths.contains(&respelled.recorded));
        }
    }

    /// Takes out files that an earlier scan did not find with the same facts: they are being changed at this
    /// moment. Files whose content is one of `moved` were renamed, and are complete. Returns the paths of the
    /// others.
    pub(crate) fn leave_what_changed_since(
        &mut self,
        earlier: &LocalTree,
        moved: &HashSet<ContentHash>,
    ) -> Vec<VaultPath> {
        let before: HashMap<&VaultPath, &LocalFacts> =
            earlier.files.iter().map(|file| (&file.path, &file.facts)).collect();
        let is_changing = |file: &mut LocalFile| {
            before.get(&file.path) != Some(&&file.facts) && !moved.contains(&file.content.hash)
        };
        self.files.extract_if(.., is_changing).map(|file| file.path).collect()
    }

    /// Paths that are absent in this scan and in an earlier one.
    pub(crate) fn absent_as_in(&self, earlier: &LocalTree) -> Vec<VaultPath> {
        let before: HashSet<&VaultPath> = earlier.absent.iter().collect();
        self.absent.iter().filter(|path| before.contains(path)).cloned().collect()
    }
}

/// Names per sentence, at most.
const NAMED: usize = 5;

/// Some of these names, quoted, and the number of the others.
pub(crate) fn some_of(names: &[&str]) -> String {
    some_of_quoted(&names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>())
}

fn some_of_quoted(names: &[String]) -> String {
    let some = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => some,
        more => format!("{some} and {more} more"),
    }
}

impl Unknown {
    /// Its name, and the words about it and about several such places, if the user may expect them in the
    /// vault.
    fn name_and_words(&self) -> Option<(String, (String, String))> {
        let path = &self.path;
        Some(match &self.why {
            UnknownCause::Unreadable { reason } => {
                let rest = |it| {
                    format!(
                        "cannot be read ({reason}); nothing in {it} is sent, and nothing counts as deleted"
                    )
                };
                // The root has no name.
                let name = if path.is_empty() { "the folder".to_owned() } else { format!("{path:?}") };
                (name, (rest("it"), rest("them")))
            }
            UnknownCause::NotMounted => {
                let words = |was, it| {
                    format!(
                        "{was} no longer mounted; nothing in {it} is sent, and nothing counts as deleted. Mount {it} again, \
                         or remove {it} from the list in .obsync/mounts if no file system is mounted there from now on"
                    )
                };
                (format!("{path:?}"), (words("is", "it"), words("are", "them")))
            }
            UnknownCause::Name { reason, .. } => (format!("{path:?}"), stays_here(reason)),
            UnknownCause::FolderName { reason } => {
                let words = |stay, it| {
                    format!(
                        "{stay} here only: {reason}. As long as {it} so named, no folder that is missing here is deleted in the \
                         vault; rename it"
                    )
                };
                (format!("{path:?}"), (words("stays", "it is"), words("stay", "they are")))
            }
            UnknownCause::Twin { of } => (
                format!("{path:?} and {:?}", of.as_str()),
                (
                    "are one name to other devices; only the second is synced until one of them is renamed"
                        .to_owned(),
                    "are one name each to other devices; only the second is synced until one is renamed"
                        .to_owned(),
                ),
            ),
            UnknownCause::Link => (
                format!("{path:?}"),
                (
                    "is a symbolic link, which is neither followed nor replaced".to_owned(),
                    "are symbolic links, which are neither followed nor replaced".to_owned(),
                ),
            ),
            UnknownCause::Special | UnknownCause::Changing => return None,
        })
    }
}

/// Words about one and about several names that are not sent.
pub(crate) fn stays_here(reason: &str) -> (String, String) {
    (format!("stays here only: {reason}"), format!("stay here only: {reason}"))
}

/// Warnings about these places: one sentence for each cause.
pub(crate) fn sentences(unknown: &[Unknown]) -> Vec<String> {
    grouped(unknown.iter().filter_map(Unknown::name_and_words))
}

/// One sentence for all names with the same words, about one of them and about several.
pub(crate) fn grouped(named: impl Iterator<Item = (String, (String, String))>) -> Vec<String> {
    let mut by_words: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for (name, words) in named {
        by_words.entry(words).or_default().push(name);
    }
    let sentence = |((of_one, of_several), names): (_, Vec<String>)| {
        format!("{} {}", some_of_quoted(&names), if names.len() == 1 { of_one } else { of_several })
    };
    by_words.into_iter().map(sentence).collect()
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile").field("facts", &self.facts).finish_non_exhaustive()
    }
}
