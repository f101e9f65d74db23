//! Names and contents of the conflicted copies that a dry run foresees.

use obsync_protocol::{ContentHash, VaultPath};

use crate::conflicted_copy::{self, COPIES, DeviceName};
use crate::destination::{DestinationError, DestinationExt, Found, Wanted};
use crate::model::KnownContent;
use crate::report::{Report, Step, StepAction};
use crate::run::Run;
use crate::scan::LocalFile;

/// Kind of a user's file or folder in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InTheWay {
    /// A file with this content, as far as it can be read.
    File(Option<KnownContent>),
    /// A folder.
    Folder,
}

impl Run<'_> {
    /// Notes that a user's file is kept under another name: that of a copy with the same content, else a free
    /// one.
    pub(crate) async fn foresee_kept(
        &self,
        path: &VaultPath,
        what: InTheWay,
        report: &mut Report,
    ) -> Result<(), DestinationError> {
        report.steps.push(Step {
            action: StepAction::KeepBeside,
            path: path.clone(),
            size: None,
            from: None,
        });
        if let InTheWay::File(Some(content)) = what
            && self.has_equal_copy(path, content, report).await?
        {
            report.foreseen.gone.insert(path.clone());
            return Ok(());
        }
        let is_folder = what == InTheWay::Folder;
        if let Some(copy) = self.free_name(path, is_folder, report).await? {
            report.foreseen.moved.insert(path.clone(), copy);
        }
        Ok(())
    }

    /// Notes that a content of the vault is stored under a name beside its own.
    pub(crate) async fn foresee_copy(
        &self,
        of: LocalFile,
        report: &mut Report,
    ) -> Result<(), DestinationError> {
        if let Some(path) = self.free_name(&of.path, false, report).await? {
            report.foreseen.made.push(LocalFile { path, ..of });
        }
        Ok(())
    }

    /// Content of the file at a path.
    pub(crate) async fn content_at(
        &self,
        path: &VaultPath,
    ) -> Result<Option<KnownContent>, DestinationError> {
        let empty = KnownContent { hash: ContentHash::EMPTY, size: 0 };
        let wanted = Wanted { path: path.clone(), hash: empty.hash, size: empty.size };
        Ok(match self.destination.look(vec![wanted]).await?.pop() {
            Some(Found::Wanted) => Some(empty),
            Some(Found::Other(content)) => Some(content),
            Some(Found::Nothing | Found::Unknown) | None => None,
        })
    }

    /// Paths of all local files, listed once.
    pub(crate) async fn files_here<'r>(
        &self,
        report: &'r mut Report,
    ) -> Result<&'r [String], DestinationError> {
        let listed = &mut report.foreseen.listed;
        if listed.is_none() {
            let found = self.destination.list().await?;
            *listed = Some(found.files.into_iter().map(|file| file.path).collect());
        }
        Ok(listed.as_deref().unwrap_or_default())
    }

    /// True if there is a conflicted copy of a file with its content.
    async fn has_equal_copy(
        &self,
        path: &VaultPath,
        content: KnownContent,
        report: &mut Report,
    ) -> Result<bool, DestinationError> {
        let listed = self.files_here(report).await?.iter();
        let copies = listed.filter_map(|copy| VaultPath::parse(copy).ok());
        let copies = copies.filter(|copy| conflicted_copy::is_of(copy, path));
        let KnownContent { hash, size } = content;
        let wanted = copies.map(|path| Wanted { path, hash, size }).collect();
        Ok(self.destination.holds(wanted).await?.contains(&true))
    }

    /// The name that a file would be kept under, as far as known without trying.
    async fn free_name(
        &self,
        path: &VaultPath,
        is_folder: bool,
        report: &Report,
    ) -> Result<Option<VaultPath>, DestinationError> {
        let device = DeviceName::new(&self.source.client.options().device);
        let label = conflicted_copy::label(device);
        let limit = self.destination.longest_name_beside(path);
        for copy in 1..COPIES {
            let name = conflicted_copy::path(path, is_folder, &label, copy, limit);
            let Some(name) = name else { return Ok(None) };
            let facts = self.destination.facts(vec![name.clone()]).await?;
            let is_free = facts.is_none_or(|facts| facts.iter().all(Option::is_none));
            if is_free && !report.foreseen.takes(&name) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}
