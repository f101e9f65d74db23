//! Makes the changes of a run: [`Destination::apply`](obsync_core::Destination::apply) for each kind of
//! change.

use std::sync::{Arc, Mutex};

use obsync_core::blocking::{blocking, lock};
use obsync_core::{DestinationError, Publication, PublishFailure, Published, Removable, Removal};
use obsync_protocol::VaultPath;

use super::context::Context;
use super::parents::Parents;
use super::root::Root;
use super::{FolderDestination, publish, remove};

impl FolderDestination {
    pub(super) async fn put(&self, batch: Vec<Publication>) -> Vec<Result<Published, PublishFailure>> {
        // Shared with the thread, so that the batch is not lost if the thread never runs.
        let batch = Arc::new(Mutex::new(batch));
        let (context, handed) = (self.context(), batch.clone());
        let published =
            blocking(move || publish::publish(&context, std::mem::take(&mut *lock(&handed)))).await;
        published.unwrap_or_else(|stopped| {
            publish::fail_all(std::mem::take(&mut *lock(&batch)), &self.context().stopped(stopped))
        })
    }

    pub(super) async fn remove_recorded(
        &self,
        files: Vec<Removable>,
    ) -> Vec<Result<Removal, DestinationError>> {
        self.for_each(files, false, || Removal::Missing, remove::remove_file).await
    }

    pub(super) async fn make_folders(&self, folders: Vec<VaultPath>) -> Vec<Result<bool, DestinationError>> {
        let context = self.context();
        let create = move |_: &Context, _: &Root, parents: &mut Parents<'_>, folder: &VaultPath| {
            context.admit(folder)?;
            if parents.find(Some(folder))?.is_some() {
                return Ok(false);
            }
            parents.make(Some(folder), folder).map(|_| true)
        };
        self.for_each(folders, true, || false, create).await
    }

    pub(super) async fn remove_empty(&self, folders: Vec<VaultPath>) -> Vec<Result<bool, DestinationError>> {
        self.for_each(folders, false, || true, remove::remove_folder).await
    }
}
