//! Publishes staged files: each by one rename, after the file in the way was compared; the batch is durable
//! at the end.
//!
//! The order of the steps gives the guarantees. The content is flushed before it gets its name, so that no
//! crash shows a name with half its content; the names are flushed before the batch is reported, so that the
//! state never claims anything that a crash could undo.

use std::collections::HashSet;
use std::io::{self, Seek};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use cap_std::fs::Dir;
use obsync_core::{
    DestinationError, FileMeta, KnownContent, LocalFacts, Publication, PublicationContent, PublishFailure,
    Published, Staged,
};
use obsync_protocol::VaultPath;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::context::Context;
use super::entry::{
    Facts, Kind, LARGEST_REREAD, content_of, facts_of_open, hash, look, moment, open_file, open_to_flush,
    set_open_time, set_time_to_now,
};
use super::error::{Action, again};
use super::parents::Parents;
use super::place;
use super::rename::rename_new;
use super::rights;
use super::root::Root;
use super::spelling::{respell, spell};
use super::staging::StagingFolder;
use super::steps::Step;
use super::taken::{Aside, Replaced};
use super::transplant::{Part, transplant};

/// Attempts for a publication while another program keeps changing its path.
const ATTEMPTS: u32 = 16;

/// Files flushed concurrently, if each has to be flushed.
const FLUSHERS: usize = 8;

type Answer = Result<Published, PublishFailure>;

/// Publishes a batch. Answers in its order.
pub(super) fn publish(context: &Context, mut batch: Vec<Publication>) -> Vec<Answer> {
    if batch.is_empty() {
        return Vec::new();
    }
    let mut unwritten = context.write_buffer.write_out(batch.iter_mut().map(staged_in));
    context.make_copies(&mut batch, &mut unwritten);
    if let Some(fatal) = unwritten.values().find(|error| error.is_fatal()) {
        return fail_all(batch, fatal);
    }
    let (root, staging) = match prepare(context, &batch) {
        Ok(ready) => ready,
        Err(error) => return fail_all(batch, &error),
    };
    let mut publisher =
        Publisher { context, root: &root, staging, parents: Parents::new(&root), swept: HashSet::new() };
    let mut fatal: Option<DestinationError> = None;
    let mut results: Vec<_> = batch.iter().map(|_| Ok(Published::default())).collect();
    for index in by_folder(&batch) {
        let result = match (&fatal, unwritten.remove(&index)) {
            (Some(error), _) => Err(again(error)),
            (None, Some(error)) => Err(error),
            (None, None) => publisher.publish(&batch[index]),
        };
        if let (None, Err(error)) = (&fatal, &result)
            && error.is_fatal()
        {
            fatal = Some(again(error));
        }
        results[index] = result;
    }
    let staging = publisher.staging.clone();
    let flushed = context.flushes.flush_all(|| root.flush());
    context.steps.reach(Step::Flushed, None);
    // Also after a failed flush: a taken file may be a user's text.
    if let Some(staging) = staging {
        context.release_taken(&root, Some(&staging));
    }
    let flushed = flushed.inspect_err(|_| distrust(context)).and_then(|()| place::check(context, &root));
    let answer = |(publication, result)| match (result, &flushed) {
        (Ok(published), Ok(())) => Ok(published),
        (Ok(_), Err(error)) => {
            Err(PublishFailure { publication: Box::new(publication), error: again(error) })
        }
        (Err(error), _) => Err(PublishFailure { publication: Box::new(publication), error }),
    };
    batch.into_iter().zip(results).map(answer).collect()
}

/// The order of publishing a batch: folder by folder, so that each is opened once.
fn by_folder(batch: &[Publication]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_by_cached_key(|index| {
        let path = batch[*index].path().as_str();
        path.rsplit_once('/').map_or("", |(folder, _)| folder)
    });
    order
}

/// The answers if nothing of a batch could be done.
pub(super) fn fail_all(batch: Vec<Publication>, error: &DestinationError) -> Vec<Answer> {
    batch
        .into_iter()
        .map(|publication| Err(PublishFailure { publication: Box::new(publication), error: again(error) }))
        .collect()
}

/// Opens the folders and flushes the content of the staged files.
fn prepare(
    context: &Context,
    batch: &[Publication],
) -> Result<(Arc<Root>, Option<Arc<StagingFolder>>), DestinationError> {
    let root = context.make_root()?;
    let staged: Vec<&Staged> = batch.iter().filter_map(|publication| publication.content.staged()).collect();
    if staged.is_empty() {
        return Ok((root, None));
    }
    let staging = context.staging_folder()?;
    let flushed = match root.unsynced.each_file() {
        true => flush_files(&root, &staging.dir, &staged),
        false => {
            let names = staged.iter().map(|staged| staged.handle.as_str());
            context.flushes.make_durable(names, || root.flush())
        }
    };
    flushed.inspect_err(|_| distrust(context))?;
    context.steps.reach(Step::Prepared, None);
    Ok((root, Some(staging)))
}

/// Discards all staged files after a failed flush. The system reports once that data was lost, not which;
/// reading would show the content from memory. So no staged file can be trusted.
fn distrust(context: &Context) {
    context
        .discard_staged()
        .unwrap_or_else(|error| tracing::warn!(%error, "what was staged cannot be discarded"));
}

/// The staged file of a publication, and whether it stays staged for others.
fn staged_in(publication: &mut Publication) -> Option<(&mut Staged, bool)> {
    match &mut publication.content {
        PublicationContent::Staged(staged) => Some((staged, false)),
        PublicationContent::CopyOfStaged(staged) => Some((staged, true)),
        PublicationContent::InPlace { .. } => None,
    }
}

/// Flushes staged files, several at once: a disk takes them together far faster than one after the other.
fn flush_files(root: &Root, dir: &Dir, staged: &[&Staged]) -> Result<(), DestinationError> {
    let flush = |part: &[&Staged]| part.iter().try_for_each(|staged| flush_staged(root, dir, staged));
    thread::scope(|scope| {
        let parts = staged.chunks(staged.len().div_ceil(FLUSHERS).max(1));
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || flush(part))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// Flushes one staged file.
fn flush_staged(root: &Root, dir: &Dir, staged: &Staged) -> Result<(), DestinationError> {
    let failed = |error| root.errors.root_error(Action::Flush, error);
    flush_file(root, dir, &staged.handle, &staged.path, failed)
}

/// Flushes one file. A missing one fails later, by itself.
fn flush_file(
    root: &Root,
    dir: &Dir,
    name: &str,
    path: &VaultPath,
    failed: impl FnOnce(io::Error) -> DestinationError,
) -> Result<(), DestinationError> {
    match open_to_flush(dir, name) {
        Ok(Some(file)) => file.sync_all().map_err(failed),
        Ok(None) => Ok(()),
        Err(error) => Err(root.errors.error(Action::Read, path.as_str(), error)),
    }
}

/// State of a publication's path.
enum Occupant {
    /// There is nothing any more.
    Gone,
    /// It has the content that should be published.
    Same(Facts),
    /// It is the file to replace, unchanged.
    Expected(Facts),
    /// It is another file, with its content if that was read. It is left alone.
    Foreign(Option<KnownContent>),
}

/// Result of adopting a file in place that may have the content.
enum Adoption {
    /// It counts, with these facts if they are the wanted ones.
    Adopted(Option<Facts>),
    /// It has the content, but another user's file's time cannot be set.
    Untimed,
    /// It has another content.
    Other,
    /// A program changed or replaced it in the meantime.
    Changing,
    Gone,
}

struct Publisher<'a> {
    context: &'a Context,
    root: &'a Root,
    staging: Option<Arc<StagingFolder>>,
    parents: Parents<'a>,
    /// Folders of other file systems in which leftovers of transplants were removed.
    swept: HashSet<Option<VaultPath>>,
}

impl Publisher<'_> {
    fn publish(&mut self, publication: &Publication) -> Result<Published, DestinationError> {
        self.context.admit(publication.path())?;
        match (&publication.content, self.staging.clone()) {
            (PublicationContent::Staged(staged), Some(staging)) => {
                self.place(&staging, staged, publication.expect.content())
            }
            (PublicationContent::Staged(staged) | PublicationContent::CopyOfStaged(staged), _) => {
                Err(self.root.errors.not_found(Action::Place, staged.path.as_str()))
            }
            (PublicationContent::InPlace { path, meta }, _) => self.touch(path, meta),
        }
    }

    /// Sets the times of a file that has the content already. A file that changed since that check is left
    /// alone.
    fn touch(&mut self, path: &VaultPath, meta: &FileMeta) -> Result<Published, DestinationError> {
        let folder = path.parent();
        let needed = |reason: &str| DestinationError::ContentNeeded {
            path: path.as_str().to_owned(),
            location: self.root.errors.location(),
            reason: reason.to_owned(),
        };
        let gone = "the file there was removed meanwhile";
        let dir = self.parents.find(folder.as_ref())?.ok_or_else(|| needed(gone))?;
        match self.adopt_unchanged(&dir, path, meta)? {
            Adoption::Adopted(facts) => Ok(Published { facts: facts.map(|facts| facts.local()) }),
            // Another user's file with the right content: that is enough.
            Adoption::Untimed => {
                self.context.untimed.store(true, Ordering::Relaxed);
                Ok(Published::default())
            }
            Adoption::Gone => Err(needed(gone)),
            Adoption::Other | Adoption::Changing => Err(needed("the file there was changed meanwhile")),
        }
    }

    /// [Adopts](Self::adopt) a file that had the content when it was checked, or still has it.
    fn adopt_unchanged(
        &self,
        dir: &Dir,
        path: &VaultPath,
        meta: &FileMeta,
    ) -> Result<Adoption, DestinationError> {
        let mut seen = self.context.hashes.take(path, meta.hash);
        for _ in 0..ATTEMPTS {
            match self.adopt(dir, path, meta, seen.take())? {
                Adoption::Changing => {}
                adoption => return Ok(adoption),
            }
        }
        Err(self.busy(path))
    }

    /// Sets the times of a file in place that has the content, if they differ, and counts it as changed. With
    /// the facts in `seen` it had the content.
    ///
    /// Everything uses one handle, and only facts that are certain for the file at the name in the end count:
    /// a user may save at any moment.
    fn adopt(
        &self,
        dir: &Dir,
        path: &VaultPath,
        meta: &FileMeta,
        seen: Option<Facts>,
    ) -> Result<Adoption, DestinationError> {
        let unread = |error| self.root.errors.error(Action::Read, path.as_str(), error);
        let failed = |error: Errno| self.root.errors.error(Action::SetTimes, path.as_str(), error);
        let Some((file, before)) = open_file(dir, path.file_name()).map_err(unread)? else {
            return Ok(Adoption::Gone);
        };
        let has_content = || -> io::Result<bool> {
            (&file).rewind()?;
            Ok(before.size == meta.size && hash(&file, meta.size, &mut |_| Ok(()))? == meta.hash)
        };
        if seen != Some(before) && !has_content().map_err(unread)? {
            return Ok(Adoption::Other);
        }
        let mut expected = before;
        if before.modified != moment(meta.mtime) {
            if facts_of_open(&file).map_err(failed)? != before {
                return Ok(Adoption::Changing);
            }
            self.context.steps.reach(Step::Recognized, Some(path));
            match set_open_time(&file, meta.mtime) {
                Err(Errno::PERM | Errno::ACCESS) => return Ok(Adoption::Untimed),
                set => set.map_err(failed)?,
            }
            expected = facts_of_open(&file).map_err(failed)?;
            self.context.steps.reach(Step::Timed, Some(path));
            // A file that was saved right before has the time that was set, and no facts show that.
            if before.size <= LARGEST_REREAD && !has_content().map_err(unread)? {
                if facts_of_open(&file).map_err(failed)?.modified == expected.modified {
                    set_time_to_now(&file).map_err(failed)?;
                }
                return Ok(Adoption::Other);
            }
        }
        let after = facts_of_open(&file).map_err(failed)?;
        let named = look(dir, path.file_name()).map_err(failed)?.filter(|named| named.is_still(&after));
        let Some(named) = named.filter(|_| after == expected) else { return Ok(Adoption::Changing) };
        self.root.touched(path.parent().as_ref());
        if self.root.flushes_each_file_in(dir) {
            let failed = |error| self.root.errors.error(Action::Flush, path.as_str(), error);
            flush_file(self.root, dir, path.file_name(), path, failed)?;
        }
        let is_as_wanted = (named.size, named.modified) == (meta.size, moment(meta.mtime));
        Ok(Adoption::Adopted(is_as_wanted.then_some(named)))
    }

    /// Renames a staged file to its path.
    fn place(
        &mut self,
        staging: &StagingFolder,
        staged: &Staged,
        replaces: Option<KnownContent>,
    ) -> Result<Published, DestinationError> {
        let dir = self.parents.make(staged.path.parent().as_ref(), &staged.path)?;
        let name = staged.path.file_name();
        // The replaced file may have another spelling, which is kept.
        let spelling = replaces.and_then(|_| respell(&dir, name));
        self.take_place(staging, staged, replaces, &dir)?;
        self.root.touched(staged.path.parent().as_ref());
        let spelling = spelling.filter(|spelling| spell(&dir, name, spelling));
        let name = spelling.as_deref().unwrap_or(name);
        Ok(Published { facts: facts_of(&dir, name, &staged.meta) })
    }

    fn take_place(
        &mut self,
        staging: &StagingFolder,
        staged: &Staged,
        replaces: Option<KnownContent>,
        dir: &Arc<Dir>,
    ) -> Result<(), DestinationError> {
        let mut source = Source { staging, handle: &staged.handle, part: None, has_rights: false };
        let mut replace = None;
        // Where a file is to be replaced, the place is taken.
        let mut is_taken = replaces.is_some();
        for _ in 0..ATTEMPTS {
            if !std::mem::take(&mut is_taken) {
                self.set_rights(&mut source, dir, staged, replace.is_some())?;
                match self.rename(&source, staged, dir, replace.take()) {
                    Ok(()) => return self.placed(&source, staged, dir),
                    Err(Errno::EXIST | Errno::ISDIR) => {}
                    Err(Errno::XDEV) if source.part.is_none() => {
                        source.part = Some(self.transplant(staging, staged, dir)?);
                        continue;
                    }
                    Err(error) => {
                        return Err(self.root.errors.error(Action::Place, staged.path.as_str(), error));
                    }
                }
            }
            match self.judge(dir, staged, replaces)? {
                Occupant::Gone => {}
                Occupant::Expected(facts) => {
                    let content = replaces.map_or(staged.meta.hash, |known| known.hash);
                    replace = Some(Replaced { facts, content });
                }
                Occupant::Same(facts) => match self.adopt(dir, &staged.path, &staged.meta, Some(facts))? {
                    Adoption::Adopted(_) => {
                        staging.remove_file(&staged.handle);
                        return Ok(());
                    }
                    // It is another user's file. Ours, with the same content, may replace it.
                    Adoption::Untimed => replace = Some(Replaced { facts, content: staged.meta.hash }),
                    Adoption::Other | Adoption::Changing | Adoption::Gone => {}
                },
                Occupant::Foreign(found) => {
                    return Err(self.root.errors.changed(staged.path.as_str(), found));
                }
            }
        }
        Err(self.busy(&staged.path))
    }

    /// A staged file is at its path.
    fn placed(&self, source: &Source<'_>, staged: &Staged, dir: &Dir) -> Result<(), DestinationError> {
        self.context.rights.forget(&staged.path);
        if let Some(part) = source.part.as_ref().filter(|_| self.root.flushes_each_file_in(dir)) {
            let failed = |error| self.root.errors.error(Action::Flush, staged.path.as_str(), error);
            part.file.sync_all().map_err(failed)?;
        }
        self.context.steps.reach(Step::Placed, Some(&staged.path));
        Ok(())
    }

    /// Renames a staged file; with `replace`, over that file if it is still there.
    fn rename(
        &self,
        source: &Source<'_>,
        staged: &Staged,
        dir: &Dir,
        replace: Option<Replaced>,
    ) -> rustix::io::Result<()> {
        let name = staged.path.file_name();
        let Some(replace) = replace else { return source.rename(dir, name, None) };
        self.context.steps.reach(Step::Compared, Some(&staged.path));
        if look(dir, name)? != Some(replace.facts) {
            return source.rename(dir, name, None);
        }
        if self.context.exchanges() {
            let (from, handle) = source.place();
            let aside = if source.part.is_some() { Aside::Beside(from) } else { Aside::Staging(from) };
            match self.context.exchange(aside, handle, dir, &staged.path, replace) {
                Err(Errno::OPNOTSUPP) => {}
                exchanged => return exchanged.map(|()| source.is_placed()),
            }
        }
        if !self.context.options.trash {
            return source.rename(dir, name, Some(replace.facts));
        }
        let kept = self.context.copy_to_trash(self.root, dir, &staged.path, replace);
        let facts = kept.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        source.rename(dir, name, facts)
    }

    fn busy(&self, path: &VaultPath) -> DestinationError {
        let busy = io::Error::new(io::ErrorKind::ResourceBusy, "another program keeps changing it");
        self.root.errors.error(Action::Place, path.as_str(), busy)
    }

    /// Sets the rights of a staged file: those of the file that it is about to replace, or of the one that
    /// was there and was renamed, or else those of a new file in its folder.
    fn set_rights(
        &self,
        source: &mut Source<'_>,
        dir: &Dir,
        staged: &Staged,
        replaces: bool,
    ) -> Result<(), DestinationError> {
        let failed = |error| self.root.errors.error(Action::Place, staged.path.as_str(), error);
        let kept = if replaces { None } else { self.context.rights.of(&staged.path) };
        let folder = match source.part {
            // The copy is created in that folder.
            Some(_) => None,
            None => rights::group_of_folder(&source.staging.dir, dir).map_err(failed)?,
        };
        if !replaces && kept.is_none() && folder.is_none() {
            return Ok(());
        }
        let (from, handle) = source.place();
        let Some(file) = open_to_flush(from, handle).map_err(failed)? else { return Ok(()) };
        match (&kept, folder) {
            _ if replaces => rights::take_over(dir, staged.path.file_name(), &file).map_err(failed)?,
            (Some(rights), _) => rights.give(&file).map_err(failed)?,
            (None, Some(group)) => rights::give_group(&source.staging.dir, &file, group),
            (None, None) => {}
        }
        source.has_rights |= replaces || kept.is_some();
        let flushed = if self.root.flushes_each_file_in(dir) { file.sync_all() } else { Ok(()) };
        flushed.map_err(|error| match source.part {
            Some(_) => self.root.errors.error(Action::Flush, staged.path.as_str(), error),
            None => self.root.errors.root_error(Action::Flush, error),
        })
    }

    /// Checks the path of a staged file. An empty folder there is removed: it contains nothing to keep.
    fn judge(
        &mut self,
        dir: &Dir,
        staged: &Staged,
        replaces: Option<KnownContent>,
    ) -> Result<Occupant, DestinationError> {
        let (path, name) = (&staged.path, staged.path.file_name());
        let failed = |error: Errno| self.root.errors.error(Action::Place, path.as_str(), error);
        match look(dir, name).map_err(failed)?.map(|facts| facts.kind) {
            None => Ok(Occupant::Gone),
            Some(Kind::Foreign) => Ok(Occupant::Foreign(None)),
            Some(Kind::Folder) => match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {
                    self.parents.forget(path);
                    Ok(Occupant::Gone)
                }
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => {
                    Err(DestinationError::InTheWay { path: path.as_str().to_owned(), occupant: path.clone() })
                }
                Err(error) => Err(failed(error)),
            },
            Some(Kind::File) => Ok(match content_of(dir, name, &worth_reading(staged, replaces)) {
                Ok(None) => Occupant::Gone,
                Ok(Some((Some(content), facts))) if content == staged.meta.hash => Occupant::Same(facts),
                Ok(Some((Some(content), facts))) if replaces.is_some_and(|known| known.hash == content) => {
                    Occupant::Expected(facts)
                }
                Ok(Some((content, facts))) => {
                    Occupant::Foreign(content.map(|hash| KnownContent { hash, size: facts.size }))
                }
                Err(error) => {
                    tracing::debug!(%error, "the file in the way cannot be read");
                    Occupant::Foreign(None)
                }
            }),
        }
    }

    fn transplant(
        &mut self,
        staging: &StagingFolder,
        staged: &Staged,
        dir: &Arc<Dir>,
    ) -> Result<Part, DestinationError> {
        let errors = &self.root.errors;
        if self.swept.insert(staged.path.parent()) {
            self.context.return_earlier(self.root, dir, staged.path.parent().as_ref());
        }
        let part = transplant(errors, staging, &staged.handle, &staged.meta, dir, staged.path.as_str())?;
        self.context.steps.reach(Step::Copied, Some(&staged.path));
        Ok(part)
    }
}

/// Facts to record for a file that was just put in place or compared; `None` if it does not have the size and
/// time that obsync set: a user was faster.
fn facts_of(dir: &Dir, name: &str, meta: &FileMeta) -> Option<LocalFacts> {
    let found = look(dir, name).ok().flatten()?;
    let is_as_made =
        found.kind == Kind::File && (found.size, found.modified) == (meta.size, moment(meta.mtime));
    is_as_made.then(|| found.local())
}

/// The sizes, in bytes, of contents that make a difference at the path of a staged file.
fn worth_reading(staged: &Staged, replaces: Option<KnownContent>) -> [u64; 2] {
    [staged.meta.size, replaces.map_or(staged.meta.size, |ours| ours.size)]
}

/// Source of a rename: the staged file, or its copy in the target's file system.
struct Source<'a> {
    staging: &'a StagingFolder,
    handle: &'a str,
    part: Option<Part>,
    /// It has the rights of another file.
    has_rights: bool,
}

impl Source<'_> {
    /// The file's present folder and name.
    fn place(&self) -> (&Dir, &str) {
        match &self.part {
            Some(part) => (&part.dir, part.name.as_str()),
            None => (&self.staging.dir, self.handle),
        }
    }

    /// Renames the file to `name`: with `replace`, over the file with these facts if it is still there, else
    /// only if the name is free. [`Errno::EXIST`] otherwise.
    fn rename(&self, dir: &Dir, name: &str, replace: Option<Facts>) -> rustix::io::Result<()> {
        let (from, handle) = self.place();
        match replace {
            Some(facts) if look(dir, name)? == Some(facts) => rustix::fs::renameat(from, handle, dir, name)?,
            _ => {
                rename_new(from, handle, dir, name)?;
                self.widen();
            }
        }
        self.is_placed();
        Ok(())
    }

    /// The staged file is not needed any more if a copy of it is in place.
    fn is_placed(&self) {
        if self.part.is_some() {
            self.staging.remove_file(self.handle);
        }
    }

    /// Gives a copy in its place the rights of the staged file. It stays private if that fails.
    fn widen(&self) {
        let Some(part) = self.part.as_ref().filter(|_| !self.has_rights) else { return };
        let widened = open_file(&self.staging.dir, self.handle).and_then(|staged| match staged {
            Some((staged, _)) => rights::widen(&self.staging.dir, &staged, &part.file),
            None => Ok(()),
        });
        widened.unwrap_or_else(|error| tracing::debug!(%error, "a file stays its owner's alone"));
    }
}
