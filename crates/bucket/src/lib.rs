//! A vault as objects of a bucket.
//!
//! A file is one object: its key is the prefix and the path, its user metadata (`sha256`, `size`, `mtime`, `ctime`, `uid`,
//! `vault`)
//! says what it is, so that a bucket describes itself. What that promises, and where it differs from a folder:
//!
//! - An object becomes visible as a whole, with its metadata, and is durable when the service says so.
//! - What obsync did not write for this vault (it has no such metadata or another vault's, and not the content that obsync
//!   put there) is kept as a conflicted copy before it is replaced. Writes are conditional on what was judged.
//! - A newer version of a file that another obsync wrote for this vault is never replaced by an older one.
//! - Contents of up to one part wait in memory until they are published, together at most [`BucketOptions::memory`] bytes:
//!   a file begins when there is room for all it will need. Those above
//!   [`BucketOptions::part_size`] take two parts of 5 MiB whatever their size, and go up while they arrive, as a multipart upload that is completed by
//!   publishing and aborted by anything else.
//! - Nothing that is staged outlives the run: the next one downloads it again.
//! - There are no objects for folders: they are there as long as something is in them.
//! - Content is told by its metadata and size, and read only where there is no metadata.
//!
//! Which part does what:
//!
//! - `location`, `keys`, `options`: where it is and how it works. `stamp`: what objects say of themselves.
//! - `objects`: one bucket's objects, one request each; `rewrite` and (for S3) `s3` add what the object store library
//!   lacks; `http` is the way there, `turns` and `pace` say how many requests are on it at a time, `traffic` counts them,
//!   `trouble` tells what goes wrong, `refusal` and `retries` what is done about that, `conditions` which conditions
//!   the service keeps.
//! - `writer`, `upload`, `parts`, `stages`, `room`: contents on their way. `publish`, `aside`: how they become
//!   visible. `holds`, `listing`, `known`: what is there already. `remove`: what goes.

mod aside;
#[cfg_attr(not(feature = "s3"), allow(dead_code, reason = "the library asks for a part of it"))]
mod conditions;
mod holds;
#[cfg(feature = "http")]
mod http;
mod keys;
mod known;
mod listing;
mod location;
mod marker;
mod objects;
mod open;
mod options;
#[cfg(feature = "http")]
mod pace;
mod parts;
mod publish;
#[cfg_attr(not(feature = "s3"), allow(dead_code, reason = "the library asks for a part of it"))]
mod refusal;
mod remove;
mod retries;
mod rewrite;
mod room;
#[cfg(feature = "s3")]
mod s3;
mod shared;
mod stages;
mod stamp;
mod traffic;
mod trouble;
#[cfg(feature = "http")]
mod turns;
mod upload;
mod writer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use object_store::path::Path;
use obsync_core::{
    BatchLimit, FileMeta, FileWriter, Found, Inventory, KeptBeside, KnownContent, Marked, Marker,
    MarkerFound, Publication, PublishFailure, Published, Removable, Removal, Staged, StoreError, StoredFile,
    VaultStore, Wanted, repository_parts_among,
};
use obsync_protocol::{NameFolding, RepositoryPart, VaultPath};
use tokio_util::sync::CancellationToken;

pub use self::location::{BucketLocation, LocationError, Service};
pub use self::options::BucketOptions;
pub use self::retries::Retries;
#[cfg(feature = "s3")]
pub use self::s3::{AwsHttp, BucketSettings, SettingsError, load_aws_config};

use self::listing::PAGE;
use self::objects::Guard;
use self::refusal::Next;
use self::shared::Shared;
use self::stages::Stage;
use self::stamp::Facts;
use self::trouble::Action;
use self::writer::BucketWriter;
use obsync_core::blocking::lock;

/// How many objects are asked for to see whether there is any.
const FEW: usize = 10;
/// How many portions, each of as many files as become visible in one go, make a batch: one is announced while another is
/// published.
const PORTIONS: usize = 4;
/// Bytes of a piece of content as it came, and decrypted.
const TWO_PIECES: u64 = 4 << 20;

/// A vault as objects of a bucket. See the module's text for what it promises.
#[derive(Clone, Debug)]
pub struct BucketStore {
    shared: Arc<Shared>,
}

impl BucketStore {
    /// The place.
    pub fn bucket_location(&self) -> &BucketLocation {
        &self.shared.location
    }

    /// How many HTTP requests were sent so far, repeated ones included.
    pub fn requests(&self) -> u64 {
        self.shared.traffic.requests()
    }

    /// The files whose keys begin with `prefix`, which is that of the place or goes on from it.
    async fn list_below(&self, prefix: &str) -> Result<Vec<StoredFile>, StoreError> {
        let shared = &self.shared;
        let objects = shared.objects.list(prefix, PAGE);
        let files = objects.try_filter_map(async |object| {
            let path = shared.keys.path_of(&object.key);
            Ok(path.map(|path| StoredFile { path: path.to_owned(), size: object.size }))
        });
        files.try_collect().await.map_err(|trouble| shared.site.bucket_error(Action::List, &trouble))
    }

    /// Copies an object aside while its place is taken by another.
    async fn park(
        &self,
        from: &Path,
        facts: &Facts,
        to: &VaultPath,
        meta: &FileMeta,
    ) -> Result<Option<Stage>, StoreError> {
        let shared = &self.shared;
        let key = shared.keys.of_parked(shared.run, shared.stages.number());
        let attributes = shared.attributes(to, meta);
        match shared.objects.copy(from, &facts.version, &key, Some(&attributes), &Guard::Anything).await {
            Ok(version) => Ok(Some(Stage::Parked(key, Facts::of_written(version, meta, shared.vault())))),
            Err(trouble) if trouble.is_conflict() || trouble.is_missing_object() => Ok(None),
            // It comes from the vault.
            Err(trouble) if trouble.next() == Some(Next::AnotherWay) => Ok(None),
            Err(trouble) => Err(shared.failed(Action::Copy, to, &trouble)),
        }
    }
}

#[async_trait]
impl VaultStore for BucketStore {
    fn location(&self) -> String {
        self.shared.site.location()
    }

    async fn folds_names(&self, _accented: bool) -> Result<NameFolding, StoreError> {
        Ok(NameFolding::Nothing)
    }

    fn has_folders(&self) -> bool {
        false
    }

    async fn repository_parts(
        &self,
        folders: Vec<Option<VaultPath>>,
    ) -> Result<Vec<BTreeSet<RepositoryPart>>, StoreError> {
        if folders.len() > FEW || folders.contains(&None) {
            let files = self.list().await?.files;
            return Ok(repository_parts_among(files.iter().map(|file| file.path.as_str()), &folders));
        }
        let mut found = Vec::with_capacity(folders.len());
        for folder in folders {
            let prefix = folder.as_ref().map_or_else(String::new, |folder| format!("{folder}/"));
            let files = self.list_below(&format!("{}{prefix}", self.shared.keys.prefix())).await?;
            let files = files.iter().map(|file| file.path.as_str());
            found.extend(repository_parts_among(files, &[folder]));
        }
        Ok(found)
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        let shared = &self.shared;
        // From obsync's own objects on, so that the marker is in the first page, whatever there is before it.
        let marker = shared.keys.of_marker();
        let before_own = shared.keys.own_prefix();
        let mut empty = true;
        for after in [Some(before_own.trim_end_matches('/')), None] {
            let mut objects = shared.objects.list_after(shared.keys.prefix(), after, FEW);
            let mut beginning = Vec::new();
            // To the end of the first page, and on as long as there is nothing but obsync's own.
            while let Some(object) = objects
                .try_next()
                .await
                .map_err(|trouble| shared.site.bucket_error(Action::List, &trouble))?
            {
                empty &= shared.keys.path_of(&object.key).is_none();
                beginning.push(object);
                if !empty && beginning.len() >= FEW {
                    break;
                }
            }
            if after.is_some() {
                shared.marker.note(marker.as_ref(), &beginning);
            }
            // Only what comes before them is left, which is little: most of what a vault has comes after them.
            if !empty {
                break;
            }
        }
        shared.fresh.store(empty, Ordering::Relaxed);
        Ok(empty)
    }

    async fn identify(&self, known: Option<&str>) -> Result<MarkerFound, StoreError> {
        marker::read(&self.shared, known).await
    }

    async fn mark(&self, marker: &Marker) -> Result<Option<Marked>, StoreError> {
        marker::write(&self.shared, marker).await.map(Some)
    }

    async fn unmark(&self) -> Result<bool, StoreError> {
        marker::remove(&self.shared).await
    }

    async fn look(&self, wanted: Vec<Wanted>) -> Result<Vec<Found>, StoreError> {
        holds::look(&self.shared, wanted).await
    }

    async fn holds(&self, wanted: Vec<Wanted>) -> Result<Vec<bool>, StoreError> {
        holds::holds(&self.shared, wanted).await
    }

    async fn begin(&self, path: &VaultPath, meta: &FileMeta) -> Result<Box<dyn FileWriter>, StoreError> {
        let key = self.shared.keys.of(path)?;
        Ok(Box::new(BucketWriter::begin(self.shared.clone(), key, path, meta).await?))
    }

    /// Nothing that is staged outlives the run.
    async fn recover(&self, _path: &VaultPath, _meta: &FileMeta) -> Result<Option<Staged>, StoreError> {
        Ok(None)
    }

    async fn copy(
        &self,
        from: &VaultPath,
        to: &VaultPath,
        meta: &FileMeta,
        source_stays: bool,
    ) -> Result<Option<Staged>, StoreError> {
        let shared = &self.shared;
        let (from_key, _) = (shared.keys.of(from)?, shared.keys.of(to)?);
        let occupant = shared.recall(from, &from_key).await?;
        let Some(facts) = occupant.facts().filter(|facts| facts.size == meta.size) else {
            return Ok(None);
        };
        if !shared.has(from, &from_key, facts, KnownContent::from(meta)).await? {
            return Ok(None);
        }
        let stage = match source_stays {
            true => Some(Stage::Original(from_key, facts.clone())),
            false => self.park(&from_key, facts, to, meta).await?,
        };
        Ok(stage.map(|stage| Staged {
            path: to.clone(),
            meta: meta.clone(),
            handle: shared.stages.put(stage),
        }))
    }

    async fn publish(&self, batch: Vec<Publication>) -> Vec<Result<Published, PublishFailure>> {
        publish::publish(&self.shared, batch, &CancellationToken::new()).await
    }

    async fn publish_until(
        &self,
        batch: Vec<Publication>,
        stop: &CancellationToken,
    ) -> Vec<Result<Published, PublishFailure>> {
        publish::publish(&self.shared, batch, stop).await
    }

    async fn remove_files(&self, files: Vec<Removable>) -> Vec<Result<Removal, StoreError>> {
        remove::remove_files(&self.shared, files).await
    }

    /// There are no objects for folders: each is taken to be there.
    async fn create_folders(&self, folders: Vec<VaultPath>) -> Vec<Result<bool, StoreError>> {
        folders.iter().map(|folder| self.shared.keys.of(folder).map(|_| false)).collect()
    }

    /// There are no objects for folders: a folder goes with the last file in it.
    async fn remove_folders(&self, folders: Vec<VaultPath>) -> Vec<Result<bool, StoreError>> {
        folders.iter().map(|_| Ok(true)).collect()
    }

    async fn set_aside(&self, path: &VaultPath) -> Result<VaultPath, StoreError> {
        remove::set_aside(&self.shared, path).await
    }

    async fn keep_beside(&self, path: &VaultPath) -> Result<KeptBeside, StoreError> {
        aside::keep_in_place(&self.shared, path).await
    }

    /// What the service has confirmed is durable.
    async fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn discard_staged(&self) -> Result<(), StoreError> {
        self.shared.discard_stages().await;
        self.shared.sweep().await
    }

    async fn end_run(&self) {
        self.shared.discard_stages().await;
        self.shared.known.clear();
        self.shared.listing.clear();
        self.shared.marker.clear();
        lock(&self.shared.begun).clear();
        lock(&self.shared.needed).clear();
        self.shared.fresh.store(false, Ordering::Relaxed);
        self.shared.swept.store(false, Ordering::Relaxed);
    }

    fn warnings(&self) -> Vec<String> {
        self.shared.objects.warnings()
    }

    /// What waits here, and what is between the network and here.
    fn memory_for(&self, size: u64) -> u64 {
        self.shared.options.memory_for(size).saturating_add(size.min(TWO_PIECES))
    }

    fn at_a_time(&self) -> usize {
        self.shared.options.concurrency
    }

    /// Half of the memory: so much is published while as much arrives.
    fn batch_limit(&self) -> BatchLimit {
        let portion = self.shared.options.batch_files;
        let files = portion.saturating_mul(PORTIONS);
        BatchLimit { files, bytes: (self.shared.options.memory as u64 / 2).max(1), portion }
    }

    async fn list(&self) -> Result<Inventory, StoreError> {
        let files = self.list_below(self.shared.keys.prefix()).await?;
        Ok(Inventory { files, unreadable: Vec::new() })
    }

    async fn retained(&self, files: Vec<StoredFile>) -> Result<Vec<bool>, StoreError> {
        holds::are_of_vault(&self.shared, files).await
    }
}
