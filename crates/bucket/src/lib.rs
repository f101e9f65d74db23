//! A vault as objects of a bucket.
//!
//! A file is one object: its key is the prefix and the path, and its user metadata (`sha256`, `size`,
//! `mtime`, `ctime`, `uid`, `vault`) describes it, so that a bucket needs no other index. Guarantees, and
//! differences from a folder:
//!
//! - An object becomes visible as a whole, with its metadata, and is durable when the service confirms it.
//! - An object that obsync did not write for this vault (without such metadata or with another vault's, and
//!   with a content other than obsync's last) is kept as a conflicted copy before it is replaced. Writes are
//!   conditional on the version that was examined.
//! - A newer version of a file that another obsync wrote for this vault is never replaced by an older one.
//! - Contents of up to one part wait in memory until they are published, together at most
//!   [`BucketOptions::memory`] bytes: a file begins when there is room for all its memory. Contents above
//!   [`BucketOptions::part_size`] take two parts of 5 MiB whatever their size, and are uploaded while they
//!   arrive, as a multipart upload that publishing completes and anything else aborts.
//! - Staged contents do not outlive the run: the next one downloads them again.
//! - There are no objects for folders: a folder exists as long as something is in it.
//! - Content is identified by metadata and size, and read only where there is no metadata.
//!
//! The modules:
//!
//! - `location`, `keys`, `options`: the place and the settings. `metadata`: user metadata of objects.
//! - `objects`: one bucket's objects, one request each; `rewrite` and (for S3) `s3` add operations that the
//!   object store library lacks; `http` makes the connections, `request_limit` and `pace` limit the requests
//!   at a time, `traffic` counts them, `error` classifies failures, `refusal` and `retries` decide what
//!   follows, `conditions` records which conditions the service honours.
//! - `writer`, `upload`, `parts`, `staging`, `memory`: contents before publication. `publish`, `queue`,
//!   `park`, `conflict`: publication. `holds`, `listing`, `object_cache`: existing objects. `scan`:
//!   differences from the records. `remove`: removals.

#[cfg_attr(not(feature = "s3"), allow(dead_code, reason = "the library asks for a part of it"))]
mod conditions;
mod conflict;
mod context;
mod error;
mod error_context;
mod guard;
mod holds;
#[cfg(feature = "http")]
mod http;
mod keys;
mod listing;
mod location;
mod marker;
mod marker_seen;
mod memory;
mod metadata;
mod object_cache;
mod objects;
mod open;
mod options;
#[cfg(feature = "http")]
mod pace;
mod park;
mod parts;
#[cfg(feature = "s3")]
mod probe;
mod publish;
mod queue;
mod reasons;
#[cfg_attr(not(feature = "s3"), allow(dead_code, reason = "the library asks for a part of it"))]
mod refusal;
mod remove;
#[cfg(feature = "http")]
mod request_limit;
mod retries;
mod rewrite;
#[cfg(feature = "s3")]
mod s3;
mod scan;
mod staging;
mod traffic;
mod upload;
#[cfg(feature = "http")]
mod waits;
mod writer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use obsync_core::{
    Applied, BatchLimit, Change, ChangeBatch, ChangeOutcome, Checked, Describe, Destination,
    DestinationError, FileMeta, FileWriter, FoldingProbe, Found, Inspect, Inventory, KeptBeside,
    KnownContent, LocalTree, Marked, Marker, MarkerFound, Naming, OpenFile, PlaceTraits, Receive, Record,
    Rejected, Scan, ScanInput, Staged, StoredFile, Supposed, Wanted, repository_parts_among,
};
use obsync_protocol::{ContentHash, NameFolding, RepositoryPart, VaultPath};
use tokio_util::sync::CancellationToken;

pub use self::location::{BucketLocation, LocationError, Service};
pub use self::options::BucketOptions;
pub use self::retries::Retries;
#[cfg(feature = "s3")]
pub use self::s3::{AwsHttp, BucketSettings, SettingsError, load_aws_config};

use self::context::Context;
use self::error_context::Action;
use self::listing::PAGE;
use self::marker_seen::FEW;
use self::staging::{Original, Stage};
use self::writer::BucketWriter;
use obsync_core::blocking::lock;

/// Portions in a batch, each of as many files as become visible in one go: one is announced while another is
/// published.
const PORTIONS: usize = 4;
/// Bytes of a piece of content, encrypted and decrypted.
const TWO_PIECES: u64 = 4 << 20;

/// A vault as objects of a bucket. See the module's text for its guarantees.
#[derive(Clone, Debug)]
pub struct BucketDestination {
    context: Arc<Context>,
}

impl BucketDestination {
    /// The location.
    pub fn bucket_location(&self) -> &BucketLocation {
        &self.context.location
    }

    /// HTTP requests sent so far, retries included.
    pub fn requests(&self) -> u64 {
        self.context.traffic.requests()
    }

    /// Contents made visible so far that were not in the bucket before: copies do not count.
    pub fn published(&self) -> u64 {
        self.context.traffic.published()
    }

    /// True if no upload is being aborted, which may last longer than the [end of a run](Destination::end_run)
    /// waits.
    pub fn is_quiet(&self) -> bool {
        self.context.objects.is_quiet()
    }

    /// Total time of publishing batches.
    pub fn publishing(&self) -> std::time::Duration {
        self.context.traffic.publishing()
    }

    /// The files whose keys begin with `prefix`, which is that of the location or extends it.
    async fn list_below(&self, prefix: &str) -> Result<Vec<StoredFile>, DestinationError> {
        let context = &self.context;
        let objects = context.objects.list(prefix, PAGE);
        let files = objects.try_filter_map(async |object| {
            let path = context.keys.path_of(&object.key);
            Ok(path.map(|path| StoredFile { path: path.to_owned(), size: object.size }))
        });
        files.try_collect().await.map_err(|error| context.errors.bucket_error(Action::List, &error))
    }
}

#[async_trait]
impl Describe for BucketDestination {
    fn location(&self) -> String {
        self.context.errors.location()
    }

    fn traits(&self) -> PlaceTraits {
        let options = &self.context.options;
        let portion = options.batch_files;
        PlaceTraits {
            has_folders: false,
            keeps_deleted: options.keep_deleted,
            at_a_time: options.concurrency,
            batch_limit: BatchLimit {
                files: portion.saturating_mul(PORTIONS),
                // Half of the memory: one half is published while the other arrives.
                bytes: (options.memory as u64 / 2).max(1),
                portion,
            },
            sample: 1,
        }
    }

    /// Memory of a content here and between the network and here.
    fn memory_for(&self, size: u64) -> u64 {
        self.context.options.memory_for(size).saturating_add(size.min(TWO_PIECES))
    }

    fn warnings(&self) -> Vec<String> {
        self.context.objects.warnings()
    }

    async fn identify(&self, known: Option<&str>) -> Result<MarkerFound, DestinationError> {
        marker::read(&self.context, known).await
    }

    async fn mark(&self, marker: &Marker) -> Result<Option<Marked>, DestinationError> {
        marker::write(&self.context, marker).await.map(Some)
    }

    async fn unmark(&self) -> Result<bool, DestinationError> {
        marker::remove(&self.context).await
    }
}

#[async_trait]
impl Naming for BucketDestination {
    async fn folds_names(&self, _probe: FoldingProbe) -> Result<NameFolding, DestinationError> {
        Ok(NameFolding::Nothing)
    }

    fn admits(&self, path: &VaultPath) -> Result<(), DestinationError> {
        self.context.keys.of(path).map(drop)
    }

    fn longest_name_beside(&self, path: &VaultPath) -> usize {
        self.context.keys.room_beside(path)
    }

    async fn repository_parts(
        &self,
        folders: Vec<Option<VaultPath>>,
    ) -> Result<Vec<BTreeSet<RepositoryPart>>, DestinationError> {
        if folders.len() > FEW || folders.contains(&None) {
            let files = self.list().await?.files;
            return Ok(repository_parts_among(files.iter().map(|file| file.path.as_str()), &folders));
        }
        let mut found = Vec::with_capacity(folders.len());
        for folder in folders {
            let prefix = folder.as_ref().map_or_else(String::new, |folder| format!("{folder}/"));
            let files = self.list_below(&format!("{}{prefix}", self.context.keys.prefix())).await?;
            let files = files.iter().map(|file| file.path.as_str());
            found.extend(repository_parts_among(files, &[folder]));
        }
        Ok(found)
    }
}

#[async_trait]
impl Inspect for BucketDestination {
    async fn is_empty(&self) -> Result<bool, DestinationError> {
        let context = &self.context;
        // From obsync's own objects on, so that the marker is in the first page, whatever keys come before
        // it.
        let marker = context.keys.of_marker();
        let before_own = context.keys.own_prefix();
        let mut empty = true;
        for after in [Some(before_own.trim_end_matches('/')), None] {
            let mut objects = context.objects.list_after(context.keys.prefix(), after, FEW);
            let mut beginning = Vec::new();
            // To the end of the first page, and on as long as it contains only obsync's own objects.
            while let Some(object) =
                objects.try_next().await.map_err(|error| context.errors.bucket_error(Action::List, &error))?
            {
                empty &= context.keys.path_of(&object.key).is_none();
                beginning.push(object);
                if !empty && beginning.len() >= FEW {
                    break;
                }
            }
            if after.is_some() {
                context.marker.note(marker.as_ref(), &beginning);
            }
            // Only the few keys before them are left: most of a vault's keys come after them.
            if !empty {
                break;
            }
        }
        context.fresh.store(empty, Ordering::Relaxed);
        Ok(empty)
    }

    async fn are_lost(&self, records: Vec<Record>) -> Result<Option<Vec<bool>>, DestinationError> {
        Ok(Some(holds::are_lost(&self.context, records).await))
    }

    fn suppose(&self, recorded: Vec<Supposed>) -> Vec<bool> {
        recorded.into_iter().map(|recorded| self.context.suppose(recorded)).collect()
    }

    fn creates_conditionally(&self, size: u64) -> bool {
        self.context.creates_conditionally(size)
    }

    async fn look(&self, wanted: Vec<Wanted>) -> Result<Vec<Found>, DestinationError> {
        holds::look(&self.context, wanted).await
    }

    async fn check(&self, wanted: Vec<Wanted>) -> Result<Vec<Checked>, DestinationError> {
        holds::check(&self.context, wanted).await
    }

    async fn list(&self) -> Result<Inventory, DestinationError> {
        let files = self.list_below(self.context.keys.prefix()).await?;
        Ok(Inventory { files, unreadable: Vec::new() })
    }

    async fn retained(&self, files: Vec<StoredFile>) -> Result<Vec<bool>, DestinationError> {
        holds::are_of_vault(&self.context, files).await
    }
}

#[async_trait]
impl Scan for BucketDestination {
    async fn scan(&self, input: ScanInput) -> Result<Option<LocalTree>, DestinationError> {
        scan::scan(&self.context, &input).await.map(Some)
    }

    /// Sends one request per 1,000 objects.
    async fn digest(&self) -> Result<Option<ContentHash>, DestinationError> {
        scan::digest(&self.context).await
    }

    async fn open_file(&self, path: &VaultPath) -> Result<OpenFile, DestinationError> {
        scan::open(&self.context, path).await
    }
}

#[async_trait]
impl Receive for BucketDestination {
    async fn begin(
        &self,
        path: &VaultPath,
        meta: &FileMeta,
    ) -> Result<Box<dyn FileWriter>, DestinationError> {
        let key = self.context.keys.of(path)?;
        Ok(Box::new(BucketWriter::begin(self.context.clone(), key, path, meta).await?))
    }

    /// Staged contents do not outlive the run.
    async fn recover(&self, _path: &VaultPath, _meta: &FileMeta) -> Result<Option<Staged>, DestinationError> {
        Ok(None)
    }

    async fn copy(
        &self,
        from: &VaultPath,
        to: &VaultPath,
        meta: &FileMeta,
    ) -> Result<Option<Staged>, DestinationError> {
        let context = &self.context;
        let (key, _) = (context.keys.of(from)?, context.keys.of(to)?);
        let occupant = context.recall(from, &key).await?;
        let Some(facts) = occupant.facts().filter(|facts| facts.size == meta.size) else {
            return Ok(None);
        };
        if !context.has(from, &key, facts, KnownContent::from(meta)).await? {
            return Ok(None);
        }
        let (facts, path, meta) = (facts.clone(), to.clone(), meta.clone());
        let original = Original { key, facts, path: path.clone(), meta: meta.clone() };
        let handle = context.stages.put(Stage::Original(Box::new(original)));
        Ok(Some(Staged { path, meta, handle }))
    }

    async fn discard_staged(&self) -> Result<(), DestinationError> {
        self.context.discard_stages().await;
        self.context.sweep().await
    }
}

#[async_trait]
impl Destination for BucketDestination {
    /// There are no objects for folders: each is assumed to exist, and disappears with its last file.
    async fn apply(&self, changes: Vec<Change>, stop: &CancellationToken) -> Vec<ChangeOutcome> {
        let context = &self.context;
        let mut outcomes = Vec::with_capacity(changes.len());
        for batch in ChangeBatch::split(changes) {
            match batch {
                ChangeBatch::Put(batch) => {
                    let answers = publish::publish(context, batch, stop).await.into_iter();
                    outcomes.extend(answers.map(|answer| answer.map(Applied::Put).map_err(Rejected::Put)));
                }
                ChangeBatch::Remove(files) => {
                    let answers = remove::remove_files(context, files).await.into_iter();
                    outcomes
                        .extend(answers.map(|answer| answer.map(Applied::Remove).map_err(Rejected::Other)));
                }
                ChangeBatch::MakeFolders(folders) => {
                    let answers = folders.iter().map(|folder| context.keys.of(folder));
                    outcomes.extend(answers.map(|answer| match answer {
                        Ok(_) => Ok(Applied::MakeFolder(false)),
                        Err(error) => Err(Rejected::Other(error)),
                    }));
                }
                ChangeBatch::RemoveFolders(folders) => {
                    outcomes.extend(folders.iter().map(|_| Ok(Applied::RemoveFolder(true))));
                }
            }
        }
        outcomes
    }

    /// Confirmed objects are durable already.
    async fn flush(&self) -> Result<(), DestinationError> {
        Ok(())
    }

    async fn set_aside(&self, path: &VaultPath) -> Result<VaultPath, DestinationError> {
        remove::set_aside(&self.context, path).await
    }

    async fn keep_beside(&self, path: &VaultPath) -> Result<KeptBeside, DestinationError> {
        conflict::keep_in_place(&self.context, path).await
    }

    async fn end_run(&self) {
        self.context.discard_stages().await;
        self.context.cache.clear();
        self.context.recorded.clear();
        self.context.listing.clear();
        self.context.marker.clear();
        lock(&self.context.begun).clear();
        lock(&self.context.needed).clear();
        self.context.fresh.store(false, Ordering::Relaxed);
        self.context.swept.store(false, Ordering::Relaxed);
        *self.context.absence_tells.lock().await = None;
        *self.context.denies_writes.lock().await = false;
    }
}
