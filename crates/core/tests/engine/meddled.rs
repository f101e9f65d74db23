//! A folder in which somebody does something at the very moment of a step.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use obsync_core::{
    Change, ChangeOutcome, Checked, Destination, FileMeta, FileWriter, FoldingProbe, Inventory, KeptBeside,
    PlaceTraits, Staged, StoreError, Wanted,
};
use obsync_folder::FolderStore;
use obsync_protocol::{NameFolding, RepositoryPart, VaultPath};
use tokio_util::sync::CancellationToken;

/// What is done, once.
type Deed = Box<dyn FnOnce() + Send>;

/// A folder store that does something else before the first batch is published.
pub(crate) struct MeddledStore {
    store: Arc<FolderStore>,
    deed: Mutex<Option<Deed>>,
}

impl MeddledStore {
    pub(crate) fn before_publishing(store: Arc<FolderStore>, deed: impl FnOnce() + Send + 'static) -> Self {
        MeddledStore { store, deed: Mutex::new(Some(Box::new(deed))) }
    }

    fn meddle(&self) {
        let deed = self.deed.lock().unwrap_or_else(PoisonError::into_inner).take();
        deed.into_iter().for_each(|deed| deed());
    }
}

#[async_trait]
impl Destination for MeddledStore {
    fn location(&self) -> String {
        self.store.location()
    }

    fn traits(&self) -> PlaceTraits {
        self.store.traits()
    }

    async fn folds_names(&self, probe: FoldingProbe) -> Result<NameFolding, StoreError> {
        self.store.folds_names(probe).await
    }

    fn admits(&self, path: &VaultPath) -> Result<(), StoreError> {
        self.store.admits(path)
    }

    async fn repository_parts(
        &self,
        folders: Vec<Option<VaultPath>>,
    ) -> Result<Vec<BTreeSet<RepositoryPart>>, StoreError> {
        self.store.repository_parts(folders).await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        self.store.is_empty().await
    }

    async fn check(&self, wanted: Vec<Wanted>) -> Result<Vec<Checked>, StoreError> {
        self.store.check(wanted).await
    }

    async fn begin(&self, path: &VaultPath, meta: &FileMeta) -> Result<Box<dyn FileWriter>, StoreError> {
        self.store.begin(path, meta).await
    }

    async fn recover(&self, path: &VaultPath, meta: &FileMeta) -> Result<Option<Staged>, StoreError> {
        self.store.recover(path, meta).await
    }

    async fn copy(
        &self,
        from: &VaultPath,
        to: &VaultPath,
        meta: &FileMeta,
    ) -> Result<Option<Staged>, StoreError> {
        self.store.copy(from, to, meta).await
    }

    async fn apply(&self, changes: Vec<Change>, stop: &CancellationToken) -> Vec<ChangeOutcome> {
        if changes.iter().any(|change| matches!(change, Change::Put(_))) {
            self.meddle();
        }
        self.store.apply(changes, stop).await
    }

    async fn set_aside(&self, path: &VaultPath) -> Result<VaultPath, StoreError> {
        self.store.set_aside(path).await
    }

    async fn keep_beside(&self, path: &VaultPath) -> Result<KeptBeside, StoreError> {
        self.store.keep_beside(path).await
    }

    async fn put_back(&self, path: &VaultPath, kept: &KeptBeside) -> bool {
        self.store.put_back(path, kept).await
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.store.flush().await
    }

    async fn discard_staged(&self) -> Result<(), StoreError> {
        self.store.discard_staged().await
    }

    async fn end_run(&self) {
        self.store.end_run().await;
    }

    async fn list(&self) -> Result<Inventory, StoreError> {
        self.store.list().await
    }
}
