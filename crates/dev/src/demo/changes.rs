//! The changes of the writing device after the first pull: one of each kind that people make to their notes.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use obsync_protocol::VaultPath;

use super::device::{Device, LocalFile};
use crate::human;

/// Number of edited notes.
const EDITS: usize = 3;

/// Number of deleted notes.
const DELETIONS: usize = 2;

/// The changes made.
#[derive(Debug)]
pub(super) struct Changes {
    edited: usize,
    deleted: usize,
    renamed: usize,
    folder: VaultPath,
    moved: usize,
    made: usize,
}

impl Changes {
    /// Contents new to the vault: the most that a pull has to download.
    pub(super) fn new_contents(&self) -> u64 {
        (self.edited + self.made) as u64
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} edited, {} renamed, {} deleted, the folder {:?} moved with {}, {} in a new folder",
            human::counted(self.edited as u64, "note", "notes"),
            self.renamed,
            self.deleted,
            self.folder.as_str(),
            human::files(self.moved as u64),
            human::counted(self.made as u64, "new note", "new notes")
        )
    }
}

pub(super) async fn make(device: &mut Device) -> Result<Changes> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    for number in 0..EDITS {
        edit(device, &note(device, number * 5)?, &number.to_string(), now).await?;
    }
    let renamed = note(device, 7)?;
    device.rename(&renamed, VaultPath::parse("Renamed.md")?).await?;
    for _ in 0..DELETIONS {
        let path = note(device, 11)?;
        device.delete(&path).await?;
    }
    let folder = some_folder(device)?;
    device.make_folder(&VaultPath::parse("Archive")?).await?;
    let moved = device.rename_folder(&folder, &VaultPath::parse("Archive/Moved")?).await?;
    let content = b"# Autumn\n\nThe first note of the season.\n".to_vec();
    device.write("Seasons/Autumn/First.md", LocalFile { content, ctime: now, mtime: now }).await?;
    device.make_folder(&VaultPath::parse("Seasons/Winter")?).await?;
    Ok(Changes { edited: EDITS, deleted: DELETIONS, renamed: 1, folder, moved, made: 1 })
}

/// Makes a few changes, as people do within minutes, and describes them.
pub(super) async fn make_few(device: &mut Device) -> Result<String> {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    for number in 0..EDITS {
        edit(device, &note(device, number * 3)?, &format!("{number}, again"), now).await?;
    }
    let renamed = note(device, 8)?;
    device.rename(&renamed, VaultPath::parse("Renamed again.md")?).await?;
    let deleted = note(device, 2)?;
    device.delete(&deleted).await?;
    let content = b"# Winter\n\nSnow.\n".to_vec();
    device.write("Seasons/Winter/First.md", LocalFile { content, ctime: now, mtime: now }).await?;
    let edited = human::counted(EDITS as u64, "note", "notes");
    Ok(format!("{edited} edited, 1 renamed, 1 deleted, 1 new note"))
}

/// Adds a line to a note.
async fn edit(device: &mut Device, path: &VaultPath, what: &str, now: i64) -> Result<()> {
    let file = device.files().get(path).cloned().context("the note is gone")?;
    let content = [&file.content, format!("\n\nEdited, {what}.\n").as_bytes()].concat();
    device.write(path.as_str(), LocalFile { content, mtime: now, ..file }).await
}

/// The note with this number, modulo the number of notes.
fn note(device: &Device, number: usize) -> Result<VaultPath> {
    let notes: Vec<&VaultPath> = device.files().keys().filter(|path| is_note(path)).collect();
    notes.get(number % notes.len().max(1)).copied().cloned().context("the vault has no notes")
}

fn is_note(path: &VaultPath) -> bool {
    path.extension() == "md" && !path.as_str().starts_with('.')
}

/// A folder at the top of the vault: that of the first note in one.
fn some_folder(device: &Device) -> Result<VaultPath> {
    let top = device.files().keys().filter(|path| is_note(path)).find_map(|path| path.ancestors().last());
    top.context("the vault has no folder with notes")
}
