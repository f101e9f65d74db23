//! Takes files out of their places by renaming, and compares them with the expected content: no file is lost
//! that a user saves between a check and a replacement.
//!
//! A new file and the one that it replaces are exchanged in one step (renameat2, `RENAME_EXCHANGE`). The old
//! one is then in the staging folder, under a name with its former path and the expected content. If it is
//! another file, it is put back. If it is the expected one, it stays until the batch is durable, and is
//! compared once more: a program that had it open may have written to it. A run that is killed in between
//! leaves it there, and the next one judges it ([`Context::return_taken`]).
//!
//! If a file system cannot exchange files, or another file system is mounted below the destination, the last
//! check is right before the replacement.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use cap_std::fs::Dir;
use obsync_core::{DestinationError, KnownContent};
use obsync_protocol::{ContentHash, VaultPath};
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::conflict::place_beside;
use super::context::Context;
use super::entry::{Facts, Kind, LARGEST_REREAD, content_of, has_content, look};
use super::error::{Action, ErrorContext};
use super::own_folder::OWN_FOLDER;
use super::parents::Parents;
use super::rename::{rename_new, swap};
use super::root::Root;
use super::staging::StagingFolder;
use super::steps::Step;
use super::taken::{Replaced, Taken, is_for_trash, is_taken, parse, rename_to_taken};
use obsync_core::blocking::lock;

/// Possible paths of files in the staging folder, by their hashes, with the content that was to be put there.
type KnownPaths<'k> = HashMap<ContentHash, &'k (VaultPath, Option<KnownContent>)>;

/// Facts of a taken file, if it seems to be the checked one. Renaming changes the time of the last change of
/// any kind; some file systems also give the file another number, so then its content decides.
fn same(staging: &StagingFolder, name: &str, before: &Facts, content: ContentHash) -> Option<Facts> {
    let now = look(&staging.dir, name).ok()??;
    let looks_alike = (now.kind, now.size, now.modified) == (before.kind, before.size, before.modified);
    let is_same = looks_alike
        && (now.identity == before.identity
            || has_content(&staging.dir, name, content, before.size).unwrap_or(false));
    is_same.then_some(now)
}

/// True if a taken file still has the expected content. A program can reset the time after it wrote, so small
/// files are read; larger ones are read if anything at all changed since they were taken.
fn is_unchanged(
    staging: &StagingFolder,
    name: &str,
    now: &Facts,
    facts: &Facts,
    content: ContentHash,
) -> bool {
    let is_alike = (now.size, now.modified) == (facts.size, facts.modified);
    let is_sure = now.changed == facts.changed && now.size > LARGEST_REREAD;
    is_alike && (is_sure || has_content(&staging.dir, name, content, facts.size).unwrap_or(false))
}

impl Context {
    /// True if files can be exchanged here, as far as known.
    pub(super) fn exchanges(&self) -> bool {
        !self.no_exchange.load(Ordering::Relaxed)
    }

    /// Exchanges the staged file `handle` with another. [`Errno::EXIST`]: something else is there now.
    /// [`Errno::OPNOTSUPP`]: files cannot be exchanged here. In both cases nothing was changed.
    pub(super) fn exchange(
        &self,
        staging: &StagingFolder,
        handle: &str,
        dir: &Dir,
        path: &VaultPath,
        replaced: Replaced,
    ) -> rustix::io::Result<()> {
        let name = path.file_name();
        let ours = look(&staging.dir, handle)?.ok_or(Errno::NOENT)?;
        let uses_trash = self.options.trash;
        let taken =
            rename_to_taken((&staging.dir, handle), &staging.dir, path, replaced.content, uses_trash)?;
        self.steps.reach(Step::Renamed, Some(path));
        let restore = || rustix::fs::renameat(&staging.dir, &taken, &staging.dir, handle);
        match swap(&staging.dir, &taken, dir, name) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                self.no_exchange.store(true, Ordering::Relaxed);
                restore()?;
                return Err(Errno::OPNOTSUPP);
            }
            // It is gone.
            Err(Errno::NOENT) => return restore().and(Err(Errno::EXIST)),
            Err(error) => return restore().and(Err(error)),
        }
        self.steps.reach(Step::Exchanged, Some(path));
        if let Some(facts) = same(staging, &taken, &replaced.facts, replaced.content) {
            self.note_taken(path, taken, facts, replaced.content);
            return Ok(());
        }
        swap(&staging.dir, &taken, dir, name)?;
        match look(&staging.dir, &taken)? {
            Some(found) if found.identity == ours.identity => restore().and(Err(Errno::EXIST)),
            // Yet another file was saved there in the meantime. It is newer than the one that was put back:
            // the next run keeps it under another name.
            _ => Err(Errno::BUSY),
        }
    }

    /// Takes a file out of its place. `false`: it is not the checked one, and was put back.
    pub(super) fn take_out(
        &self,
        root: &Root,
        staging: &StagingFolder,
        dir: &Dir,
        path: &VaultPath,
        replaced: Replaced,
    ) -> rustix::io::Result<bool> {
        self.take_out_if(root, staging, dir, path, replaced, || true)
    }

    /// The same, if `may_go` returns true once it is out; else it is put back as well.
    pub(super) fn take_out_if(
        &self,
        root: &Root,
        staging: &StagingFolder,
        dir: &Dir,
        path: &VaultPath,
        replaced: Replaced,
        may_go: impl FnOnce() -> bool,
    ) -> rustix::io::Result<bool> {
        let (from, uses_trash) = ((dir, path.file_name()), self.options.trash);
        let taken = rename_to_taken(from, &staging.dir, path, replaced.content, uses_trash)?;
        self.steps.reach(Step::TakenOut, Some(path));
        if let Some(facts) = same(staging, &taken, &replaced.facts, replaced.content)
            && may_go()
        {
            self.note_taken(path, taken, facts, replaced.content);
            return Ok(true);
        }
        match rename_new(&staging.dir, &taken, dir, path.file_name()) {
            // A user saved once more.
            Err(Errno::EXIST) => match place_beside(root, &staging.dir, &taken, dir, path) {
                Ok(kept_as) => {
                    let kept = format!(
                        "{path} was saved twice while it was to be removed; the first text is kept as {kept_as}"
                    );
                    lock(&self.kept).push(kept);
                    Ok(false)
                }
                // The next run judges it.
                Err(_) => Err(Errno::BUSY),
            },
            given_back => given_back.map(|()| false),
        }
    }

    fn note_taken(&self, path: &VaultPath, name: String, facts: Facts, content: ContentHash) {
        lock(&self.taken).push(Taken { path: path.clone(), name, facts, content });
    }

    /// Removes taken files that are still as expected. If a program that had one open wrote to it, the file
    /// is kept under another name.
    pub(super) fn release_taken(&self, root: &Root, staging: &StagingFolder) {
        let taken = std::mem::take(&mut *lock(&self.taken));
        if taken.is_empty() {
            return;
        }
        let mut parents = Parents::new(root);
        for Taken { path, name, facts, content } in taken {
            let Some(now) = look(&staging.dir, &name).ok().flatten() else { continue };
            if is_unchanged(staging, &name, &now, &facts, content) {
                self.dispose(root, staging, &name, &path);
                continue;
            }
            match self.give_back(root, &mut parents, staging, &name, Some(&path)) {
                Ok(kept_as) => {
                    let kept = format!(
                        "{path}: a program that had it open went on writing to it while it was replaced or removed; that text \
                         is kept as {kept_as}"
                    );
                    lock(&self.kept).push(kept);
                }
                // The next run tries again.
                Err(error) => {
                    tracing::warn!(%error, "a file that was changed while it was replaced stays in staging")
                }
            }
        }
        self.steps.reach(Step::Released, None);
    }

    /// Removes a taken file that is as expected, or moves it to the trash, if this run or the one that took it
    /// uses one.
    fn dispose(&self, root: &Root, staging: &StagingFolder, name: &str, path: &VaultPath) {
        if !self.options.trash && !is_for_trash(name) {
            return staging.remove_file(name);
        }
        if let Err(error) = self.move_to_trash(root, staging, name, path) {
            // The next run tries again.
            let stays = format!(
                "{path} cannot be put into the trash and stays in {OWN_FOLDER}/staging/{name}: {error}"
            );
            lock(&self.kept).push(stays);
        }
    }

    /// The same for every staging folder.
    pub(super) fn release_all_taken(&self) -> Result<(), DestinationError> {
        if !lock(&self.taken).is_empty()
            && let Some(root) = self.root()?
            && let Some(staging) = self.find_staging(&root)?
        {
            self.release_taken(&root, &staging);
        }
        Ok(())
    }

    /// True if a killed run left files that it had taken out of their places.
    pub(super) fn has_taken(&self, everywhere: bool) -> Result<bool, DestinationError> {
        let Some(root) = self.root()? else { return Ok(false) };
        for staging in StagingFolder::open_all(&root, everywhere)? {
            if staging.names()?.iter().any(|name| is_taken(name)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Judges the files that a killed run had taken out of their places. A file with the expected content, or
    /// with the content that was to be put there (`known` has the possible paths with it), is removed; any
    /// other is a user's, and is put back or gets another name.
    pub(super) fn return_taken(
        &self,
        known: &[(VaultPath, Option<KnownContent>)],
    ) -> Result<Vec<(Option<VaultPath>, VaultPath)>, DestinationError> {
        let Some(root) = self.root_to_write()? else { return Ok(Vec::new()) };
        let paths: KnownPaths<'_> =
            known.iter().map(|entry| (ContentHash::of(entry.0.as_str().as_bytes()), entry)).collect();
        let mut kept = Vec::new();
        for staging in StagingFolder::open_all(&root, true)? {
            kept.extend(self.return_taken_in(&root, &staging, &paths)?);
            staging.remove_if_needless(&root)?;
        }
        root.flush()?;
        Ok(kept)
    }

    fn return_taken_in(
        &self,
        root: &Root,
        staging: &StagingFolder,
        paths: &KnownPaths<'_>,
    ) -> Result<Vec<(Option<VaultPath>, VaultPath)>, DestinationError> {
        let mut parents = Parents::new(root);
        let mut kept = Vec::new();
        for name in staging.names()? {
            let Some((path, expected)) = parse(&name) else { continue };
            let entry = paths.get(&path);
            let to_come = entry.and_then(|entry| entry.1).map(|content| content.hash);
            let path = entry.map(|entry| &entry.0);
            match self.content_taken(staging, &name)? {
                Some(content) if Some(content) == to_come => {
                    staging.remove_file(&name);
                    continue;
                }
                Some(content) if content == expected => {
                    match path {
                        Some(path) => self.dispose(root, staging, &name, path),
                        None => self.dispose(root, staging, &name, &recovered(&self.errors)?),
                    }
                    continue;
                }
                _ => {}
            }
            let given_back = match self.give_back(root, &mut parents, staging, &name, path) {
                // Its folder does not exist any more, or cannot be written to.
                Err(error) if !error.is_fatal() => self.give_back(root, &mut parents, staging, &name, None),
                given_back => given_back,
            };
            let kept_as = match given_back {
                Err(error) if !error.is_fatal() => {
                    let stays = format!(
                        "a file that a killed run had taken out of its place stays in {OWN_FOLDER}/staging/{name}: {error}"
                    );
                    lock(&self.kept).push(stays);
                    continue;
                }
                given_back => given_back?,
            };
            if path != Some(&kept_as) {
                kept.push((path.cloned(), kept_as));
            }
        }
        Ok(kept)
    }

    /// Content of a file in the staging folder, if it can be read.
    fn content_taken(
        &self,
        staging: &StagingFolder,
        name: &str,
    ) -> Result<Option<ContentHash>, DestinationError> {
        let facts = look(&staging.dir, name).map_err(|error| self.errors.root_error(Action::Read, error))?;
        let Some(facts) = facts.filter(|facts| facts.kind == Kind::File) else { return Ok(None) };
        let found = content_of(&staging.dir, name, &[facts.size]).ok().flatten();
        Ok(found.and_then(|(content, _)| content))
    }

    /// Renames a file in the staging folder to its former name, or to a free one with "Conflicted copy" if
    /// that is taken.
    fn give_back(
        &self,
        root: &Root,
        parents: &mut Parents<'_>,
        staging: &StagingFolder,
        name: &str,
        path: Option<&VaultPath>,
    ) -> Result<VaultPath, DestinationError> {
        let recovered = recovered(&self.errors)?;
        let path = path.unwrap_or(&recovered);
        let dir = parents.make(path.parent().as_ref(), path)?;
        match rename_new(&staging.dir, name, &*dir, path.file_name()) {
            Ok(()) => {
                root.touched(path.parent().as_ref());
                Ok(path.clone())
            }
            Err(Errno::EXIST) => place_beside(root, &staging.dir, name, &dir, path),
            Err(error) => Err(self.errors.error(Action::SetAside, path.as_str(), error)),
        }
    }
}

/// Name for a file whose former path is unknown.
fn recovered(errors: &ErrorContext) -> Result<VaultPath, DestinationError> {
    VaultPath::parse("Recovered.md").map_err(|_| errors.unavailable("a name is refused"))
}

/// Removes a file that cannot be taken out, because staging is in another file system, after one more check.
pub(super) fn remove_after_a_look(dir: &Dir, name: &str, before: &Facts) -> rustix::io::Result<bool> {
    if look(dir, name)?.is_some_and(|now| now != *before) {
        return Ok(false);
    }
    rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
    Ok(true)
}
