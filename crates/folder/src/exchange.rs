//! Takes files out of their places by renaming, and compares them with the expected content: no file is lost
//! that a user saves between a check and a replacement.
//!
//! A new file and the one that it replaces are exchanged in one step (renameat2, `RENAME_EXCHANGE`). The old
//! one is then in the staging folder, under a name with its former path and the expected content. If it is
//! another file, it is put back. If it is the expected one, it stays until the batch is durable, and is
//! compared once more: a program that had it open may have written to it. A run that is killed in between
//! leaves it there, and the next one judges it ([`Context::return_taken`]).
//!
//! No rename leads from the staging folder to a file system that is mounted below the destination. There the
//! old file is beside its place meanwhile, under a hidden name, and the next run looks for it in the folders
//! of the announced paths ([`Context::return_beside`]).
//!
//! If a file system cannot exchange files, the last check is right before the replacement.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;

use cap_std::fs::Dir;
use obsync_core::{DestinationError, KnownContent};
use obsync_protocol::{ContentHash, VaultPath};
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::conflict::{has_equal_copy, place_beside};
use super::context::Context;
use super::entry::{Facts, Kind, LARGEST_REREAD, content_of, has_content, look};
use super::error::{Action, ErrorContext};
use super::own_folder::OWN_FOLDER;
use super::parents::Parents;
use super::rename::{rename_new, swap};
use super::root::Root;
use super::staging::{StagingFolder, remove_own};
use super::steps::Step;
use super::taken::{
    Aside, Replaced, Taken, Taking, has_copy, is_for_trash, is_taken, is_taken_beside, parse, rename_to_taken,
};
use super::transplant::remove_parts;
use obsync_core::blocking::lock;

/// A possible path of a taken file, with the content that was to be put there.
type KnownPath = (VaultPath, Option<KnownContent>);

/// These by the hashes of the paths.
type KnownPaths<'k> = HashMap<ContentHash, &'k KnownPath>;

/// The former path of a returned file, if known, and its path now.
type Returned = (Option<VaultPath>, VaultPath);

/// Facts of a taken file, if it seems to be the checked one. Renaming changes the time of the last change of
/// any kind; some file systems also give the file another number, so then its content decides.
fn same(dir: &Dir, name: &str, before: &Facts, content: ContentHash) -> Option<Facts> {
    let now = look(dir, name).ok()??;
    let looks_alike = (now.kind, now.size, now.modified) == (before.kind, before.size, before.modified);
    let is_same = looks_alike
        && (now.identity == before.identity || has_content(dir, name, content, before.size).unwrap_or(false));
    is_same.then_some(now)
}

/// True if a taken file still has the expected content. A program can reset the time after it wrote, so small
/// files are read; larger ones are read if anything at all changed since they were taken.
fn is_unchanged(dir: &Dir, taken: &Taken, now: &Facts) -> bool {
    let Taken { name, facts, content, .. } = taken;
    let is_alike = (now.size, now.modified) == (facts.size, facts.modified);
    let is_sure = now.changed == facts.changed && now.size > LARGEST_REREAD;
    is_alike && (is_sure || has_content(dir, name, *content, facts.size).unwrap_or(false))
}

impl Context {
    /// True if files can be exchanged here, as far as known.
    pub(super) fn exchanges(&self) -> bool {
        !self.no_exchange.load(Ordering::Relaxed)
    }

    /// Exchanges the new file `handle` with another. [`Errno::EXIST`]: something else is there now.
    /// [`Errno::OPNOTSUPP`]: files cannot be exchanged here. In both cases nothing was changed.
    pub(super) fn exchange(
        &self,
        aside: Aside<'_>,
        handle: &str,
        dir: &Dir,
        path: &VaultPath,
        replaced: Replaced,
    ) -> rustix::io::Result<()> {
        let (name, new) = (path.file_name(), aside.dir());
        let ours = look(new, handle)?.ok_or(Errno::NOENT)?;
        let taken = match rename_to_taken((new, handle), aside, path, replaced.content, self.taking()) {
            // It has no room for such a name.
            Err(Errno::NAMETOOLONG) => return Err(Errno::OPNOTSUPP),
            taken => taken?,
        };
        self.steps.reach(Step::Renamed, Some(path));
        let restore = || rustix::fs::renameat(new, &taken, new, handle);
        match swap(new, &taken, dir, name) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                // A mounted file system says nothing about the root's.
                self.no_exchange.fetch_or(!aside.is_beside(), Ordering::Relaxed);
                restore()?;
                return Err(Errno::OPNOTSUPP);
            }
            // It is gone.
            Err(Errno::NOENT) => return restore().and(Err(Errno::EXIST)),
            Err(error) => return restore().and(Err(error)),
        }
        self.steps.reach(Step::Exchanged, Some(path));
        if let Some(facts) = same(new, &taken, &replaced.facts, replaced.content) {
            self.note_taken(path, taken, aside, facts, replaced.content);
            return Ok(());
        }
        swap(new, &taken, dir, name)?;
        match look(new, &taken)? {
            Some(found) if found.identity == ours.identity => restore().and(Err(Errno::EXIST)),
            // Yet another file was saved there in the meantime. It is newer than the one that was put back:
            // the next run keeps it under another name.
            _ => Err(Errno::BUSY),
        }
    }

    /// Takes a file out of its place, to be removed. `false`: it is not the checked one, and was put back.
    pub(super) fn take_out(
        &self,
        root: &Root,
        dir: &Dir,
        path: &VaultPath,
        replaced: Replaced,
    ) -> rustix::io::Result<bool> {
        self.take_out_if(root, dir, path, replaced, self.taking(), || true)
    }

    /// The same for a file of which there is a copy, if `is_there` returns true once it is out; else it is put
    /// back as well.
    pub(super) fn take_out_for_copy(
        &self,
        root: &Root,
        dir: &Dir,
        path: &VaultPath,
        replaced: Replaced,
        is_there: impl FnOnce() -> bool,
    ) -> rustix::io::Result<bool> {
        let taking = if self.options.trash { Taking::ForTrash } else { Taking::HasCopy };
        self.take_out_if(root, dir, path, replaced, taking, is_there)
    }

    fn take_out_if(
        &self,
        root: &Root,
        dir: &Dir,
        path: &VaultPath,
        replaced: Replaced,
        taking: Taking,
        may_go: impl FnOnce() -> bool,
    ) -> rustix::io::Result<bool> {
        // Removing makes room on a full disk, so it works without a staging folder, too.
        let staging = self
            .staging_folder()
            .inspect_err(|error| tracing::debug!(%error, "there is no staging folder to take a file out to"));
        let take = |aside: Aside<'_>| {
            rename_to_taken((dir, path.file_name()), aside, path, replaced.content, taking)
        };
        let (aside, taken) = match staging.as_ref().map(|staging| Aside::Staging(&staging.dir)) {
            Ok(aside) => match take(aside) {
                Err(Errno::XDEV) => (Aside::Beside(dir), take(Aside::Beside(dir))?),
                taken => (aside, taken?),
            },
            Err(_) => (Aside::Beside(dir), take(Aside::Beside(dir))?),
        };
        self.steps.reach(Step::TakenOut, Some(path));
        if let Some(facts) = same(aside.dir(), &taken, &replaced.facts, replaced.content)
            && may_go()
        {
            self.note_taken(path, taken, aside, facts, replaced.content);
            return Ok(true);
        }
        match rename_new(aside.dir(), &taken, dir, path.file_name()) {
            // A user saved once more.
            Err(Errno::EXIST) => match place_beside(root, aside.dir(), &taken, dir, path) {
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

    /// Why files are taken that are removed or replaced.
    fn taking(&self) -> Taking {
        if self.options.trash { Taking::ForTrash } else { Taking::ToRemove }
    }

    fn note_taken(
        &self,
        path: &VaultPath,
        name: String,
        aside: Aside<'_>,
        facts: Facts,
        content: ContentHash,
    ) {
        let is_beside = aside.is_beside();
        lock(&self.taken).push(Taken { path: path.clone(), name, is_beside, facts, content });
    }

    /// Removes taken files that are still as expected. If a program that had one open wrote to it, the file
    /// is kept under another name.
    pub(super) fn release_taken(&self, root: &Root, staging: Option<&StagingFolder>) {
        let all = std::mem::take(&mut *lock(&self.taken));
        if all.is_empty() {
            return;
        }
        let mut parents = Parents::new(root);
        for taken in all {
            let beside = match taken.is_beside {
                true => parents.find(taken.path.parent().as_ref()).ok().flatten(),
                false => None,
            };
            let Some(dir) = beside.as_deref().or(staging.map(|staging| &staging.dir)) else { continue };
            self.release(root, &mut parents, staging, dir, &taken);
        }
        self.steps.reach(Step::Released, None);
    }

    fn release(
        &self,
        root: &Root,
        parents: &mut Parents<'_>,
        staging: Option<&StagingFolder>,
        dir: &Dir,
        taken: &Taken,
    ) {
        let Taken { path, name, .. } = taken;
        let Some(now) = look(dir, name).ok().flatten() else { return };
        if is_unchanged(dir, taken, &now) {
            return self.dispose(root, staging, dir, name, path);
        }
        match self.give_back(root, parents, dir, name, path) {
            Ok(kept_as) => {
                let kept = format!(
                    "{path}: a program that had it open went on writing to it while it was replaced or removed; that text \
                     is kept as {kept_as}"
                );
                lock(&self.kept).push(kept);
            }
            // The next run tries again.
            Err(error) => {
                tracing::warn!(%error, "a file that was changed while it was replaced stays as {name}")
            }
        }
    }

    /// Removes a taken file that is as expected, or moves it to the trash, if this run or the one that took it
    /// uses one.
    fn dispose(&self, root: &Root, staging: Option<&StagingFolder>, dir: &Dir, name: &str, path: &VaultPath) {
        if !self.options.trash && !is_for_trash(name) {
            return remove_own(dir, name);
        }
        if let Err(error) = self.move_to_trash(root, staging, (dir, name), path) {
            // The next run tries again.
            let stays = format!("{path} cannot be put into the trash and stays {}: {error}", place_of(name));
            lock(&self.kept).push(stays);
        }
    }

    /// The same for every staging folder.
    pub(super) fn release_all_taken(&self) -> Result<(), DestinationError> {
        if !lock(&self.taken).is_empty()
            && let Some(root) = self.root()?
        {
            self.release_taken(&root, self.find_staging(&root)?.as_deref());
        }
        Ok(())
    }

    /// True if a killed run left files in staging that it had taken out of their places.
    pub(super) fn has_taken(&self, everywhere: bool) -> Result<bool, DestinationError> {
        let Some(root) = self.root()? else { return Ok(false) };
        for staging in StagingFolder::open_all(&root, everywhere)? {
            if staging.names()?.iter().any(|name| is_taken(name)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Judges the files in staging that a killed run had taken out of their places. A file with the expected
    /// content, or with the content that was to be put there (`known` has the possible paths with it), is
    /// removed; any other is a user's, and is put back or gets another name.
    pub(super) fn return_taken(&self, known: &[KnownPath]) -> Result<Vec<Returned>, DestinationError> {
        let Some(root) = self.root_to_write()? else { return Ok(Vec::new()) };
        let paths = by_hash(known);
        let mut kept = Vec::new();
        for staging in StagingFolder::open_all(&root, true)? {
            let found = Found { staging: Some(&staging), dir: &staging.dir, names: staging.names()? };
            kept.extend(self.return_found(&root, found, &paths, &recovered(&self.errors, None)?)?);
            staging.remove_if_needless(&root)?;
        }
        root.flush()?;
        Ok(kept)
    }

    /// The same beside these paths. Copies that the run left there are removed. An unmounted file system keeps
    /// them until files come there again.
    pub(super) fn return_beside(&self, known: &[KnownPath]) -> Result<Vec<Returned>, DestinationError> {
        let Some(root) = self.root_to_write()? else { return Ok(Vec::new()) };
        let paths = by_hash(known);
        let folders: BTreeSet<Option<VaultPath>> = known.iter().map(|(path, _)| path.parent()).collect();
        let mut parents = Parents::new(&root);
        let mut kept = Vec::new();
        for folder in &folders {
            let found = parents.find(folder.as_ref()).and_then(|dir| match dir {
                Some(dir) => self.return_in(&root, &dir, folder.as_ref(), &paths),
                None => Ok(Vec::new()),
            });
            match found {
                Ok(found) => kept.extend(found),
                Err(error) if error.is_fatal() => return Err(error),
                Err(error) => tracing::warn!(%error, "files of a killed run may stay beside their places"),
            }
        }
        root.flush()?;
        Ok(kept)
    }

    /// Judges and removes files that an earlier run left in a folder that files are copied to.
    pub(super) fn return_earlier(&self, root: &Root, dir: &Dir, folder: Option<&VaultPath>) {
        match self.return_in(root, dir, folder, &HashMap::new()) {
            Ok(kept) => lock(&self.kept).extend(kept.into_iter().map(|(path, kept_as)| match path {
                Some(path) => format!("kept what was at {path} as {kept_as}"),
                None => format!("kept what an earlier run had taken out of its place as {kept_as}"),
            })),
            Err(error) => tracing::warn!(%error, "files of an earlier run may stay beside their places"),
        }
    }

    /// The same in one folder. A file whose path is in no list may be that of an existing one.
    pub(super) fn return_in(
        &self,
        root: &Root,
        dir: &Dir,
        folder: Option<&VaultPath>,
        paths: &KnownPaths<'_>,
    ) -> Result<Vec<Returned>, DestinationError> {
        let names = remove_parts(dir)
            .map_err(|error| self.errors.error(Action::List, folder.map_or(".", VaultPath::as_str), error))?;
        let pending: BTreeSet<String> = lock(&self.taken).iter().map(|taken| taken.name.clone()).collect();
        let (taken, others): (Vec<String>, Vec<String>) =
            names.into_iter().partition(|name| is_taken_beside(name));
        // No folder was ever taken.
        let is_file =
            |name: &String| matches!(look(dir, name), Ok(Some(facts)) if facts.kind != Kind::Folder);
        let taken: Vec<String> =
            taken.into_iter().filter(|name| !pending.contains(name) && is_file(name)).collect();
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let at = |name: &String| match folder {
            Some(folder) => folder.join(name),
            None => VaultPath::parse(name),
        };
        let others: Vec<KnownPath> = others.iter().filter_map(|name| Some((at(name).ok()?, None))).collect();
        let mut all = by_hash(&others);
        all.extend(paths);
        let found = Found { staging: None, dir, names: taken };
        self.return_found(root, found, &all, &recovered(&self.errors, folder)?)
    }

    fn return_found(
        &self,
        root: &Root,
        found: Found<'_>,
        paths: &KnownPaths<'_>,
        nameless: &VaultPath,
    ) -> Result<Vec<Returned>, DestinationError> {
        let Found { staging, dir, names } = found;
        let mut parents = Parents::new(root);
        let mut kept = Vec::new();
        for name in names {
            let Some((path, expected)) = parse(&name) else { continue };
            let entry = paths.get(&path);
            let to_come = entry.and_then(|entry| entry.1).map(|content| content.hash);
            let path = entry.map(|entry| &entry.0);
            match self.content_taken(dir, &name)? {
                Some(content) if Some(content.hash) == to_come => {
                    remove_own(dir, &name);
                    continue;
                }
                Some(content) if content.hash == expected && self.may_go(root, &name, path, content) => {
                    self.dispose(root, staging, dir, &name, path.unwrap_or(nameless));
                    continue;
                }
                _ => {}
            }
            let given_back = match self.give_back(root, &mut parents, dir, &name, path.unwrap_or(nameless)) {
                // Its folder does not exist any more, or cannot be written to.
                Err(error) if !error.is_fatal() => self.give_back(root, &mut parents, dir, &name, nameless),
                given_back => given_back,
            };
            let kept_as = match given_back {
                Err(error) if !error.is_fatal() => {
                    let stays = format!(
                        "a file that a killed run had taken out of its place stays {}: {error}",
                        place_of(&name)
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

    /// True if a taken file with the expected content is not needed: a user's only if it still has a copy.
    fn may_go(&self, root: &Root, name: &str, path: Option<&VaultPath>, content: KnownContent) -> bool {
        if !has_copy(name) {
            return true;
        }
        let Some(path) = path else { return false };
        let dir = Parents::new(root).find(path.parent().as_ref()).ok().flatten();
        dir.is_some_and(|dir| has_equal_copy(root, &dir, path, content))
    }

    /// Content of a taken file, if it can be read.
    fn content_taken(&self, dir: &Dir, name: &str) -> Result<Option<KnownContent>, DestinationError> {
        let facts = look(dir, name).map_err(|error| self.errors.root_error(Action::Read, error))?;
        let Some(facts) = facts.filter(|facts| facts.kind == Kind::File) else { return Ok(None) };
        let found = content_of(dir, name, &[facts.size]).ok().flatten();
        Ok(found.and_then(|(hash, facts)| Some(KnownContent { hash: hash?, size: facts.size })))
    }

    /// Renames a taken file to its former name, or to a free one with "Conflicted copy" if that is taken.
    fn give_back(
        &self,
        root: &Root,
        parents: &mut Parents<'_>,
        from: &Dir,
        name: &str,
        path: &VaultPath,
    ) -> Result<VaultPath, DestinationError> {
        let dir = parents.make(path.parent().as_ref(), path)?;
        match rename_new(from, name, &*dir, path.file_name()) {
            Ok(()) => {
                root.touched(path.parent().as_ref());
                Ok(path.clone())
            }
            Err(Errno::EXIST) => place_beside(root, from, name, &dir, path),
            Err(error) => Err(self.errors.error(Action::SetAside, path.as_str(), error)),
        }
    }
}

/// Files that a killed run left in one folder.
struct Found<'a> {
    /// The staging folder, if they are there.
    staging: Option<&'a StagingFolder>,
    dir: &'a Dir,
    names: Vec<String>,
}

fn by_hash(known: &[KnownPath]) -> KnownPaths<'_> {
    known.iter().map(|entry| (ContentHash::of(entry.0.as_str().as_bytes()), entry)).collect()
}

/// The place of a taken file, for users.
fn place_of(name: &str) -> String {
    if is_taken_beside(name) {
        format!("beside it as {name}")
    } else {
        format!("in {OWN_FOLDER}/staging/{name}")
    }
}

/// Name for a file whose former path is unknown: in the folder that it was found in, or the root.
fn recovered(errors: &ErrorContext, folder: Option<&VaultPath>) -> Result<VaultPath, DestinationError> {
    const NAME: &str = "Recovered.md";
    let path = folder.map_or_else(|| VaultPath::parse(NAME), |folder| folder.join(NAME));
    path.map_err(|_| errors.unavailable("a name is refused"))
}

/// Removes a file that cannot be taken out, because no other name can be given to it, after one more check.
pub(super) fn remove_after_a_look(dir: &Dir, name: &str, before: &Facts) -> rustix::io::Result<bool> {
    if look(dir, name)?.is_some_and(|now| now != *before) {
        return Ok(false);
    }
    rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
    Ok(true)
}
