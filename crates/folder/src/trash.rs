//! Keeps replaced and removed files in `.obsync/trash` for a while: in a folder for each run, named by its
//! time in UTC, under their former path. No scan covers it, and no run writes there otherwise.
//!
//! A file is moved there by renaming if possible. A second one of the same path, or one in place of a folder,
//! goes to another folder of the same run.

use std::fs::File;
use std::io;

use cap_std::fs::Dir;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use obsync_core::DestinationError;
use obsync_core::blocking::lock;
use obsync_protocol::{ContentHash, VaultPath};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::context::Context;
use super::entry::{Facts, content_of, open_file, set_file_time};
use super::error::Action;
use super::own_folder::{Own, TRASH, own_folder};
use super::rename::rename_new;
use super::root::Root;
use super::staging::StagingFolder;
use super::steps::Step;
use super::taken::Replaced;
use super::transplant::part_name;

/// Days that its files are kept.
const KEPT_DAYS: i64 = 30;
/// Format of the name of a run's folder.
const RUN: &str = "%Y%m%dT%H%M%SZ";
/// Characters of such a name.
const RUN_LENGTH: usize = "20250131T235959Z".len();
/// Files of one path that a run can put there, at most.
const FOLDERS: u32 = 10_000;

impl Context {
    /// Moves a taken file, given by its folder and name, to the trash.
    pub(super) fn move_to_trash(
        &self,
        root: &Root,
        staging: Option<&StagingFolder>,
        (dir, name): (&Dir, &str),
        path: &VaultPath,
    ) -> io::Result<()> {
        let put = |trash: &OwnedFd, to: &str| match rename_new(dir, name, trash, to) {
            // It is in another file system.
            Err(Errno::XDEV) => {
                copy(dir, name, trash, to, || self.steps.reach(Step::CopiedToTrash, Some(path)))?;
                Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?)
            }
            moved => Ok(moved?),
        };
        self.put_in_trash(root, staging, path, put)
    }

    /// Puts a second name of a file into the trash, or a copy if a file can have only one. Returns the file's
    /// new facts, which a second name changes; `None` if it is another file by now.
    pub(super) fn copy_to_trash(
        &self,
        root: &Root,
        dir: &Dir,
        path: &VaultPath,
        replaced: Replaced,
    ) -> io::Result<Option<Facts>> {
        let name = path.file_name();
        let put = |trash: &OwnedFd, to: &str| match rustix::fs::linkat(dir, name, trash, to, AtFlags::empty())
        {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(Errno::EXIST.into()),
            Err(_) => copy(dir, name, trash, to, || self.steps.reach(Step::CopiedToTrash, Some(path))),
        };
        self.put_in_trash(root, None, path, put)?;
        let found = content_of(dir, name, &[replaced.facts.size])?;
        Ok(found.filter(|(content, _)| *content == Some(replaced.content)).map(|(_, facts)| facts))
    }

    fn put_in_trash(
        &self,
        root: &Root,
        staging: Option<&StagingFolder>,
        path: &VaultPath,
        put: impl Fn(&OwnedFd, &str) -> io::Result<()>,
    ) -> io::Result<()> {
        let trash = open_trash(root, staging)?;
        let run = lock(&self.trash_run).get_or_insert_with(run_name).clone();
        for number in 1..=FOLDERS {
            let run = if number == 1 { run.clone() } else { format!("{run}-{number}") };
            let folder = path.parent();
            let segments = folder.iter().flat_map(VaultPath::segments);
            let placed = make_folders(&trash, [run.as_str()].into_iter().chain(segments)).and_then(|dir| {
                put(&dir, path.file_name())?;
                if root.unsynced.each_file() { Ok(rustix::fs::fsync(&dir)?) } else { Ok(()) }
            });
            match placed.as_ref().map_err(Errno::from_io_error) {
                Err(Some(Errno::EXIST | Errno::NOTDIR | Errno::ISDIR)) => {}
                _ => return placed,
            }
        }
        Err(Errno::EXIST.into())
    }

    /// Ends the run's folder, so that later files go to another one, and removes folders that were kept long
    /// enough.
    pub(super) fn end_trash_run(&self) -> Result<(), DestinationError> {
        *lock(&self.trash_run) = None;
        if !self.options.trash {
            return Ok(());
        }
        let Some(root) = self.root()? else { return Ok(()) };
        let swept = find_trash(&root).and_then(|trash| trash.map_or(Ok(()), |trash| sweep(&trash)));
        swept.map_err(|error| self.errors.error(Action::Remove, ".obsync/trash", error))
    }
}

/// Name of the folder of a run that begins now.
fn run_name() -> String {
    Timestamp::now().strftime(RUN).to_string()
}

/// Time of the run that a folder is named after.
fn run_of(name: &str) -> Option<Timestamp> {
    let begun = DateTime::strptime(RUN, name.get(..RUN_LENGTH)?).ok()?;
    let rest = name.get(RUN_LENGTH..)?;
    let is_run = rest.is_empty()
        || rest.strip_prefix('-').is_some_and(|number| number.bytes().all(|digit| digit.is_ascii_digit()));
    let begun = begun.to_zoned(TimeZone::UTC).ok()?.timestamp();
    is_run.then_some(begun)
}

/// Removes the folders of runs that were long enough ago. Other entries are not obsync's.
fn sweep(trash: &Dir) -> io::Result<()> {
    let kept_since = Timestamp::now() - (KEPT_DAYS * 24).hours();
    for entry in trash.entries()? {
        let name = entry?.file_name();
        if name.to_str().and_then(run_of).is_some_and(|begun| begun < kept_since) {
            trash.remove_dir_all(&name)?;
        }
    }
    Ok(())
}

/// The trash, created if it does not exist. It is beside the staging folder, which another user may have
/// forced elsewhere.
fn open_trash(root: &Root, staging: Option<&StagingFolder>) -> io::Result<Dir> {
    let own = match own_folder(root).map_err(io::Error::other)? {
        Own::Private(own) => own,
        Own::Foreign | Own::Absent => match staging {
            Some(staging) => staging.dir.try_clone()?,
            None => StagingFolder::make(root).map_err(io::Error::other)?.trash_parent(root)?,
        },
    };
    let dir = make_folders(&own, [TRASH].into_iter())?;
    Ok(Dir::from_std_file(File::from(dir)))
}

/// The trash, if it exists.
fn find_trash(root: &Root) -> io::Result<Option<Dir>> {
    let own = match own_folder(root).map_err(io::Error::other)? {
        Own::Private(own) => Some(own),
        Own::Absent => None,
        Own::Foreign => StagingFolder::open(root).map_err(io::Error::other)?.map(|staging| staging.dir),
    };
    let Some(own) = own else { return Ok(None) };
    match open_folder(&own, TRASH) {
        Ok(trash) => Ok(Some(Dir::from_std_file(File::from(trash)))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn open_folder(dir: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Opens folders, each in the one before it, created if they do not exist. At least one.
fn make_folders<'n>(dir: impl AsFd, names: impl Iterator<Item = &'n str>) -> io::Result<OwnedFd> {
    let mut open: Option<OwnedFd> = None;
    for name in names {
        let within = open.as_ref().map_or(dir.as_fd(), AsFd::as_fd);
        match rustix::fs::mkdirat(within, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        open = Some(open_folder(within, name)?);
    }
    open.ok_or_else(|| Errno::INVAL.into())
}

/// Copies a file into a folder of the trash. It has its name there after `is_complete`.
fn copy(dir: &Dir, name: &str, trash: &OwnedFd, to: &str, is_complete: impl FnOnce()) -> io::Result<()> {
    let (mut source, facts) = open_file(dir, name)?.ok_or(Errno::NOENT)?;
    let part = part_name(ContentHash::of(to.as_bytes()));
    // A killed run left it.
    let remove_part = || rustix::fs::unlinkat(trash, &part, AtFlags::empty());
    let _ = remove_part();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(trash, &part, flags, Mode::from_raw_mode(0o600))?);
    let copied = io::copy(&mut source, &mut file).and_then(|_| {
        let (seconds, nanoseconds) = facts.modified;
        set_file_time(&file, seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000))?;
        file.sync_all()?;
        is_complete();
        Ok(rename_new(trash, &part, trash, to)?)
    });
    if copied.is_err() {
        let _ = remove_part();
    }
    copied
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use obsync_core::{
        DestinationExt, Expect, FileMeta, KnownContent, Publication, PublicationContent, Receive,
    };
    use obsync_protocol::Uid;

    use super::super::{FolderDestination, FolderOptions};
    use super::*;

    async fn place(destination: &FolderDestination, content: &[u8], replaces: Option<&[u8]>) {
        let (path, hash) = (VaultPath::parse("a/note.md").unwrap(), ContentHash::of(content));
        let meta = FileMeta { hash, size: content.len() as u64, mtime: 0, ctime: 0, uid: Uid(1) };
        let mut writer = destination.begin(&path, &meta).await.unwrap();
        writer.write(content.to_vec()).await.unwrap();
        let content = PublicationContent::Staged(writer.finish().await.unwrap());
        let expect = Expect::from(replaces.map(KnownContent::of));
        destination.publish(vec![Publication { content, expect }]).await.pop().unwrap().unwrap();
    }

    #[tokio::test]
    async fn where_files_cannot_change_places_a_replaced_one_is_kept_too() {
        let home = tempfile::tempdir().unwrap();
        let options = FolderOptions { trash: true, ..FolderOptions::default() };
        let destination = FolderDestination::open(home.path(), options).unwrap();
        destination.context().no_exchange.store(true, Ordering::Relaxed);
        place(&destination, b"one", None).await;
        place(&destination, b"two", Some(b"one")).await;
        let run = lock(&destination.context().trash_run).clone().unwrap();
        let kept = home.path().join(".obsync/trash").join(run).join("a/note.md");
        assert_eq!(std::fs::read_to_string(kept).unwrap(), "one");
        assert_eq!(std::fs::read_to_string(home.path().join("a/note.md")).unwrap(), "two");
    }

    #[test]
    fn a_file_that_can_have_only_one_name_is_copied() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("note.md"), "text").unwrap();
        let dir = Dir::from_std_file(File::open(home.path()).unwrap());
        let trash = OwnedFd::from(File::open(home.path()).unwrap());
        copy(&dir, "note.md", &trash, "copy", || ()).unwrap();
        assert_eq!(std::fs::read_to_string(home.path().join("copy")).unwrap(), "text");
        assert!(copy(&dir, "note.md", &trash, "copy", || ()).is_err(), "nothing is overwritten");
        assert!(copy(&dir, "nothing.md", &trash, "other", || ()).is_err());
    }

    #[test]
    fn the_folder_of_a_run_says_when_it_was() {
        let name = run_name();
        assert_eq!(name.len(), RUN_LENGTH);
        let begun = run_of(&name).unwrap();
        assert!((Timestamp::now() - begun).get_seconds().abs() < 60);
        assert_eq!(run_of(&format!("{name}-2")), Some(begun));
        for other in ["", "notes", "20250131", "20250131T235959Z x", "20251331T235959Z"] {
            assert_eq!(run_of(other), None, "{other}");
        }
    }
}
