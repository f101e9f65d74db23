//! Copies staged files for contents with several paths: each path gets a staged file of its own before the
//! batch is flushed, so that it is published like any other.

use std::collections::HashMap;
use std::io;

use obsync_core::{DestinationError, Publication, PublicationContent, Staged};

use super::context::Context;
use super::entry::{open_file, set_entry_time, set_file_time};
use super::error::Action;
use super::rights::Rights;
use super::staging::StagingFolder;
use super::steps::Step;

impl Context {
    /// Makes the copies of a batch. Failures go to `failed`, by index in the batch.
    pub(super) fn make_copies(
        &self,
        batch: &mut [Publication],
        failed: &mut HashMap<usize, DestinationError>,
    ) {
        for (index, publication) in batch.iter_mut().enumerate() {
            if failed.contains_key(&index) {
                continue;
            }
            match &publication.content {
                PublicationContent::CopyOfStaged(staged) => match self.copy_of_staged(staged) {
                    Ok(copy) => publication.content = PublicationContent::Staged(copy),
                    Err(error) => {
                        failed.insert(index, error);
                    }
                },
                PublicationContent::Staged(staged) if self.copied.remove(&staged.handle) => {
                    self.set_times_of_staged(staged);
                }
                PublicationContent::Staged(_) | PublicationContent::InPlace { .. } => {}
            }
        }
    }

    fn copy_of_staged(&self, staged: &Staged) -> Result<Staged, DestinationError> {
        let folder = self.staging_folder()?;
        let copy = self.copy_in(&folder, staged)?;
        self.copied.add(&staged.handle);
        self.steps.reach(Step::Copied, Some(&staged.path));
        Ok(copy)
    }

    fn copy_in(&self, folder: &StagingFolder, staged: &Staged) -> Result<Staged, DestinationError> {
        let Staged { path, meta, handle } = staged;
        let failed = |error: io::Error| self.errors.error(Action::Write, path.as_str(), error);
        let source = open_file(&folder.dir, handle).map_err(failed)?;
        let (mut source, _) = source.ok_or_else(|| self.errors.not_found(Action::Place, path.as_str()))?;
        let mut copy = self.stage(path, meta)?;
        // Where the file system shares blocks between files, no data is read.
        let written = io::copy(&mut source, &mut copy.file).map_err(failed)?;
        if written != meta.size {
            return Err(failed(io::Error::other("the staged file is not complete any more")));
        }
        Rights::of(&source).and_then(|rights| rights.give(&copy.file)).map_err(failed)?;
        set_file_time(&copy.file, meta.mtime).map_err(|error| failed(error.into()))?;
        Ok(Staged { path: path.clone(), meta: meta.clone(), handle: self.keep(copy) })
    }

    fn set_times_of_staged(&self, staged: &Staged) {
        let set = self.staging_folder().map(|folder| {
            set_entry_time(&folder.dir, &staged.handle, staged.meta.mtime)
                .unwrap_or_else(|error| tracing::debug!(%error, "the times of a staged file cannot be set"));
        });
        set.unwrap_or_else(|error| tracing::debug!(%error, "a staged file cannot be found"));
    }
}
