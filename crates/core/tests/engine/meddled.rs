//! A folder in which another program acts at the very moment of a step.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use obsync_core::{
    Change, ChangeOutcome, Checked, Describe, Destination, DestinationError, FileMeta, FileWriter,
    FoldingProbe, Found, Inspect, Inventory, KeptBeside, LocalFacts, LocalTree, Marked, Marker, MarkerFound,
    Naming, OpenFile, PlaceTraits, ProblemCode, PublishFailure, Receive, Rejected, Scan, ScanInput, Staged,
    Wanted,
};
use obsync_folder::FolderDestination;
use obsync_protocol::{NameFolding, RepositoryPart, VaultPath};
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

/// An action that is done once.
type Deed = Box<dyn FnOnce() + Send>;

/// A folder in which an action runs at a certain moment, or that is full then.
pub(crate) struct MeddledFolder {
    destination: Arc<FolderDestination>,
    deed: Mutex<Option<Deed>>,
    /// A file that has other bytes than in the scan whenever it is read to be sent.
    restless: Option<VaultPath>,
    is_full: AtomicBool,
    is_read_only: bool,
}

impl MeddledFolder {
    pub(crate) fn before_publishing(
        destination: Arc<FolderDestination>,
        deed: impl FnOnce() + Send + 'static,
    ) -> Self {
        MeddledFolder { deed: Mutex::new(Some(Box::new(deed))), ..Self::quiet(destination) }
    }

    /// A folder in which a file is written whenever it is read to be sent.
    pub(crate) fn writing_to(destination: Arc<FolderDestination>, path: &str) -> Self {
        MeddledFolder { restless: VaultPath::parse(path).ok(), ..Self::quiet(destination) }
    }

    /// A folder that has no room for the last file of the first batch.
    pub(crate) fn full_at_first(destination: Arc<FolderDestination>) -> Self {
        MeddledFolder { is_full: AtomicBool::new(true), ..Self::quiet(destination) }
    }

    /// A folder in which no file can be created.
    pub(crate) fn read_only(destination: Arc<FolderDestination>) -> Self {
        MeddledFolder { is_read_only: true, ..Self::quiet(destination) }
    }

    fn quiet(destination: Arc<FolderDestination>) -> Self {
        MeddledFolder {
            destination,
            deed: Mutex::default(),
            restless: None,
            is_full: AtomicBool::new(false),
            is_read_only: false,
        }
    }

    fn meddle(&self) {
        let deed = self.deed.lock().unwrap_or_else(PoisonError::into_inner).take();
        deed.into_iter().for_each(|deed| deed());
    }
}

#[async_trait]
impl Describe for MeddledFolder {
    async fn identify(&self, known: Option<&str>) -> Result<MarkerFound, DestinationError> {
        self.destination.identify(known).await
    }

    async fn mark(&self, marker: &Marker) -> Result<Option<Marked>, DestinationError> {
        self.destination.mark(marker).await
    }

    fn location(&self) -> String {
        self.destination.location()
    }

    fn traits(&self) -> PlaceTraits {
        self.destination.traits()
    }

    fn warnings(&self) -> Vec<String> {
        self.destination.warnings()
    }
}

#[async_trait]
impl Naming for MeddledFolder {
    async fn folds_names(&self, probe: FoldingProbe) -> Result<NameFolding, DestinationError> {
        self.destination.folds_names(probe).await
    }

    fn admits(&self, path: &VaultPath) -> Result<(), DestinationError> {
        self.destination.admits(path)
    }

    fn longest_name_beside(&self, path: &VaultPath) -> usize {
        self.destination.longest_name_beside(path)
    }

    async fn repository_parts(
        &self,
        folders: Vec<Option<VaultPath>>,
    ) -> Result<Vec<BTreeSet<RepositoryPart>>, DestinationError> {
        self.destination.repository_parts(folders).await
    }
}

#[async_trait]
impl Inspect for MeddledFolder {
    async fn facts(
        &self,
        paths: Vec<VaultPath>,
    ) -> Result<Option<Vec<Option<LocalFacts>>>, DestinationError> {
        self.destination.facts(paths).await
    }

    async fn look(&self, wanted: Vec<Wanted>) -> Result<Vec<Found>, DestinationError> {
        self.destination.look(wanted).await
    }

    async fn is_empty(&self) -> Result<bool, DestinationError> {
        self.destination.is_empty().await
    }

    async fn check(&self, wanted: Vec<Wanted>) -> Result<Vec<Checked>, DestinationError> {
        self.destination.check(wanted).await
    }

    async fn list(&self) -> Result<Inventory, DestinationError> {
        self.destination.list().await
    }
}

#[async_trait]
impl Scan for MeddledFolder {
    async fn scan(&self, input: ScanInput) -> Result<Option<LocalTree>, DestinationError> {
        self.destination.scan(input).await
    }

    async fn open_file(&self, path: &VaultPath) -> Result<OpenFile, DestinationError> {
        let mut opened = self.destination.open_file(path).await?;
        if self.restless.as_ref() == Some(path) {
            let mut content = Vec::new();
            opened.content.read_to_end(&mut content).await.unwrap();
            content.iter_mut().for_each(|byte| *byte ^= 1);
            opened.content = Box::new(Cursor::new(content));
        }
        Ok(opened)
    }
}

#[async_trait]
impl Receive for MeddledFolder {
    async fn begin(
        &self,
        path: &VaultPath,
        meta: &FileMeta,
    ) -> Result<Box<dyn FileWriter>, DestinationError> {
        if self.is_read_only {
            let (location, reason) = (self.destination.location(), "it can only be read".to_owned());
            return Err(DestinationError::Unavailable { location, reason, code: ProblemCode::Destination });
        }
        self.destination.begin(path, meta).await
    }

    async fn recover(&self, path: &VaultPath, meta: &FileMeta) -> Result<Option<Staged>, DestinationError> {
        self.destination.recover(path, meta).await
    }

    async fn copy(
        &self,
        from: &VaultPath,
        to: &VaultPath,
        meta: &FileMeta,
    ) -> Result<Option<Staged>, DestinationError> {
        self.destination.copy(from, to, meta).await
    }

    async fn discard_staged(&self) -> Result<(), DestinationError> {
        self.destination.discard_staged().await
    }
}

#[async_trait]
impl Destination for MeddledFolder {
    async fn apply(&self, mut changes: Vec<Change>, stop: &CancellationToken) -> Vec<ChangeOutcome> {
        if changes.iter().any(|change| matches!(change, Change::Put(_))) {
            self.meddle();
        }
        if let Some(Change::Put(publication)) = changes
            .pop_if(|last| matches!(last, Change::Put(_)) && self.is_full.swap(false, Ordering::Relaxed))
        {
            let mut outcomes = self.destination.apply(changes, stop).await;
            let error = DestinationError::Full { location: self.destination.location() };
            outcomes.push(Err(Rejected::Put(PublishFailure { publication: Box::new(publication), error })));
            return outcomes;
        }
        self.destination.apply(changes, stop).await
    }

    async fn flush(&self) -> Result<(), DestinationError> {
        self.destination.flush().await
    }

    async fn set_aside(&self, path: &VaultPath) -> Result<VaultPath, DestinationError> {
        self.destination.set_aside(path).await
    }

    async fn keep_beside(&self, path: &VaultPath) -> Result<KeptBeside, DestinationError> {
        self.destination.keep_beside(path).await
    }

    async fn put_back(&self, path: &VaultPath, kept: &KeptBeside) -> bool {
        self.destination.put_back(path, kept).await
    }

    async fn end_run(&self) {
        self.destination.end_run().await;
    }
}
