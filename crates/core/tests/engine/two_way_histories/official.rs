//! A device with the official client. Its user changes several things offline. Later it sends them one by
//! one, in its own order: deletions of files, deletions of folders, new folders, files (the smallest first).

use std::collections::{BTreeMap, VecDeque};

use obsync_testkit::VaultHandle;

use super::world::{vault_texts, with_word, words, write};
use super::{FOLDERS, PATHS};

/// An action of its user.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Edit { at: usize },
    Rename { from: usize, to: usize },
    RemoveFolder { at: usize },
}

type Files = BTreeMap<String, String>;

/// A change that it has not sent yet.
#[derive(Debug)]
enum Op {
    /// Deletion of a file that had this text when its user removed it.
    Delete {
        path: &'static str,
        text: String,
    },
    DeleteFolder(&'static str),
    CreateFolder(String),
    Write {
        path: &'static str,
        text: String,
    },
}

#[derive(Debug, Default)]
pub(super) struct Official {
    pending: VecDeque<Op>,
}

impl Official {
    pub(super) fn is_sending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn forget(&mut self) {
        self.pending.clear();
    }

    /// Performs these actions of its user, who sees the present content of the vault. Returns the new and the
    /// removed words.
    pub(super) fn act(
        &mut self,
        vault: &VaultHandle,
        acts: &[Act],
        mut new_word: impl FnMut() -> String,
    ) -> (Vec<String>, Vec<String>) {
        let before = vault_texts(vault);
        let mut files = before.clone();
        let (mut written, mut removed, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for act in acts {
            match *act {
                Act::Edit { at } if is_free(&files, PATHS[at]) => {
                    let word = new_word();
                    let text = with_word(files.get(PATHS[at]).map_or("", String::as_str), &word, false);
                    files.insert(PATHS[at].to_owned(), text);
                    written.push(word);
                }
                Act::Rename { from, to } if !files.contains_key(PATHS[to]) => {
                    if let Some(text) = files.remove(PATHS[from]) {
                        let to = if is_free(&files, PATHS[to]) { to } else { from };
                        files.insert(PATHS[to].to_owned(), text);
                    }
                }
                Act::Edit { .. } | Act::Rename { .. } => {}
                Act::RemoveFolder { at } => {
                    let below = format!("{}/", FOLDERS[at]);
                    let is_inside = |path: &String, _: &mut String| path.starts_with(&below);
                    let inside = files.extract_if(.., is_inside);
                    removed.extend(inside.flat_map(|(_, text)| words(&text)));
                    gone.push(FOLDERS[at]);
                }
            }
        }
        removed.retain(|word| !files.values().any(|text| words(text).contains(word)));
        self.send_later(&before, &files, gone);
        (written, removed)
    }

    fn send_later(&mut self, before: &Files, files: &Files, mut gone: Vec<&'static str>) {
        let at = |path: &str| PATHS.into_iter().find(|known| *known == path);
        let deleted = before.iter().filter(|(path, _)| !files.contains_key(*path));
        self.pending.extend(
            deleted.filter_map(|(path, text)| Some(Op::Delete { path: at(path)?, text: text.clone() })),
        );
        gone.sort_by_key(|folder| std::cmp::Reverse(folder.len()));
        gone.dedup();
        self.pending.extend(gone.into_iter().map(Op::DeleteFolder));
        let mut new: Vec<(&String, &String)> =
            files.iter().filter(|(path, text)| before.get(*path) != Some(text)).collect();
        new.sort_by_key(|(_, text)| text.len());
        let mut folders: Vec<String> =
            new.iter().filter_map(|(path, _)| Some(path.rsplit_once('/')?.0.to_owned())).collect();
        folders.sort_by_key(String::len);
        folders.dedup();
        self.pending.extend(folders.into_iter().map(Op::CreateFolder));
        self.pending.extend(
            new.into_iter()
                .filter_map(|(path, text)| Some(Op::Write { path: at(path)?, text: text.clone() })),
        );
    }

    /// Sends this many of its changes. It compares each with the vault's content at that moment, as the
    /// client does with the changes that it received.
    pub(super) fn send(&mut self, vault: &VaultHandle, most: usize, time: i64) -> u64 {
        let mut sent = 0;
        for _ in 0..most {
            let Some(op) = self.pending.pop_front() else { break };
            let there = vault_texts(vault);
            let is_done = match op {
                // A file that was changed since is not deleted.
                Op::Delete { path, text } => there.get(path) == Some(&text) && vault.delete(path).is_ok(),
                Op::DeleteFolder(folder) => {
                    let below = format!("{folder}/");
                    !there.keys().any(|path| path.starts_with(&below)) && vault.delete_folder(folder).is_ok()
                }
                Op::CreateFolder(folder) => {
                    !there.contains_key(&folder)
                        && !FOLDERS
                            .iter()
                            .any(|above| folder.starts_with(above) && there.contains_key(*above))
                        && vault.create_folder(&folder).is_ok()
                }
                Op::Write { path, text } => {
                    if !Self::write(vault, path, &text, time) {
                        // The path is in use by now, so its user takes another name.
                        let beside = PATHS[0];
                        assert!(
                            Self::write(vault, beside, &text, time),
                            "nothing can be in the way of {beside}"
                        );
                    }
                    true
                }
            };
            sent += u64::from(is_done);
        }
        sent
    }

    /// Writes a text, with the lines of the vault's file whose words it lacks.
    fn write(vault: &VaultHandle, path: &str, text: &str, time: i64) -> bool {
        let there = vault_texts(vault).remove(path).unwrap_or_default();
        let known = words(text);
        let missing = there.lines().filter(|line| words(line).iter().any(|word| !known.contains(word)));
        let text: String = missing.map(|line| format!("{line}\n")).chain([text.to_owned()]).collect();
        write(vault, path, &text, time)
    }
}

/// True if no file is in the way of one at this path, as a folder above it or the other way round.
fn is_free(files: &Files, path: &str) -> bool {
    let is_below = |path: &str, above: &str| path.starts_with(&format!("{above}/"));
    !files.keys().any(|other| is_below(other, path) || is_below(path, other))
}
