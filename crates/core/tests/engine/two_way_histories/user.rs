//! A user who works in a folder during a run: edits, saves by rename, deletes, renames, moves trees, checks
//! out another branch.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::PATHS;
use super::world::{with_word, words};

/// An action of a user.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    /// Appends a line to a file, and keeps text that arrived since the user last looked.
    Append {
        at: usize,
    },
    /// Writes a new file beside the old one, and renames it to the old one's name.
    SaveByRename {
        at: usize,
    },
    Delete {
        at: usize,
    },
    Rename {
        from: usize,
        to: usize,
    },
    /// Renames a folder with everything in it, or renames it back.
    MoveTree,
    /// Removes some of the files, and changes or creates others; one bit for each file.
    CheckOut {
        gone: u8,
        changed: u8,
    },
}

impl Deed {
    /// The name under which the action is counted.
    pub(super) fn name(self) -> &'static str {
        match self {
            Deed::Append { .. } => "edited",
            Deed::SaveByRename { .. } => "saved by rename",
            Deed::Delete { .. } => "deleted",
            Deed::Rename { .. } => "renamed",
            Deed::MoveTree => "moved a tree",
            Deed::CheckOut { .. } => "checked out a branch",
        }
    }
}

/// A user who acts once.
pub(super) struct User {
    folder: PathBuf,
    deed: Deed,
    /// A new word for each path.
    words: Vec<String>,
    done: Mutex<Done>,
}

/// The result of an action.
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    pub(super) is_done: bool,
    pub(super) written: Vec<String>,
    /// Words of files at the moment of their deletion.
    pub(super) removed: Vec<String>,
}

impl User {
    pub(super) fn new(folder: PathBuf, deed: Deed, words: Vec<String>) -> Self {
        User { folder, deed, words, done: Mutex::default() }
    }

    pub(super) fn done(&self) -> Done {
        self.done.lock().unwrap().clone()
    }

    /// Performs the action, if it is possible.
    pub(super) fn act(&self) {
        let mut done = self.done.lock().unwrap();
        done.is_done = match self.deed {
            Deed::Append { at } => self.write(at, append, &mut done),
            Deed::SaveByRename { at } => self.write(at, save_by_rename, &mut done),
            Deed::Delete { at } => self.delete(at, &mut done),
            Deed::Rename { from, to } => self.rename(from, to),
            Deed::MoveTree => self.move_tree(),
            Deed::CheckOut { gone, changed } => {
                let is_in = |bits: u8, at: usize| bits & (1 << at) != 0;
                let all = 0..PATHS.len();
                all.filter(|at| match (is_in(gone, *at), is_in(changed, *at)) {
                    (true, _) => self.delete(*at, &mut done),
                    (false, true) => self.write(*at, save_by_rename, &mut done),
                    (false, false) => false,
                })
                .count()
                    > 1
            }
        };
    }

    fn at(&self, at: usize) -> PathBuf {
        self.folder.join(PATHS[at])
    }

    fn write(&self, at: usize, how: fn(&Path, &str) -> io::Result<()>, done: &mut Done) -> bool {
        let (file, word) = (self.at(at), &self.words[at]);
        let _ = file.parent().map(fs::create_dir_all);
        let is_written = !file.is_dir() && how(&file, word).is_ok();
        done.written.extend(is_written.then(|| word.clone()));
        is_written
    }

    /// Moves a file away before it reads its words, so that they are those at the moment of deletion.
    fn delete(&self, at: usize, done: &mut Done) -> bool {
        let (file, gone) = (self.at(at), self.folder.with_file_name("gone"));
        let is_gone = file.is_file() && fs::rename(&file, &gone).is_ok();
        if is_gone {
            done.removed.extend(words(&fs::read_to_string(&gone).unwrap()));
            fs::remove_file(gone).unwrap();
        }
        is_gone
    }

    fn rename(&self, from: usize, to: usize) -> bool {
        let (from, to) = (self.at(from), self.at(to));
        let is_free = from.is_file() && !to.exists();
        is_free && to.parent().is_some_and(|folder| fs::create_dir_all(folder).is_ok()) && {
            fs::rename(from, to).is_ok()
        }
    }

    fn move_tree(&self) -> bool {
        let [here, there] = ["x", "moved"].map(|name| self.folder.join(name));
        match (here.is_dir(), there.is_dir()) {
            (true, false) => fs::rename(here, there).is_ok(),
            (false, true) => !here.exists() && fs::rename(there, here).is_ok(),
            _ => false,
        }
    }
}

fn append(file: &Path, word: &str) -> io::Result<()> {
    fs::File::options().append(true).create(true).open(file)?.write_all(format!("{word}\n").as_bytes())
}

fn save_by_rename(file: &Path, word: &str) -> io::Result<()> {
    let before = if file.exists() { fs::read_to_string(file)? } else { String::new() };
    let beside = file.with_file_name(".saving");
    fs::write(&beside, with_word(&before, word, false))?;
    fs::rename(&beside, file).inspect_err(|_| drop(fs::remove_file(&beside)))
}
