//! State shared by all parts of a bucket destination, and the queries that most of them make.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use object_store::path::Path;
use object_store::{Attributes, PutPayload};
use obsync_core::{DestinationError, KnownContent, LocalFacts, Supposed};
use obsync_protocol::{ContentHash, VaultPath};

use super::conditions::Conditional;
use super::error::{Kind, RequestError};
use super::error_context::{Action, ErrorContext};
use super::guard::Guard;
use super::keys::Keys;
use super::listing::Listing;
use super::location::BucketLocation;
use super::marker_seen::MarkerSeen;
use super::memory::MemoryBudget;
use super::metadata::Facts;
use super::object_cache::{ObjectCache, Occupant};
use super::objects::Objects;
use super::options::BucketOptions;
use super::staging::Stages;
use super::traffic::Traffic;
use obsync_core::blocking::lock;

/// The state of a bucket store.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) location: BucketLocation,
    pub(super) options: BucketOptions,
    pub(super) errors: ErrorContext,
    pub(super) keys: Keys,
    pub(super) objects: Objects,
    pub(super) traffic: Traffic,
    pub(super) stages: Stages,
    pub(super) budget: MemoryBudget,
    pub(super) cache: ObjectCache,
    /// Recorded facts of objects that are to be replaced. The objects were not checked, so these facts are
    /// only for conditional writes.
    pub(super) recorded: ObjectCache,
    pub(super) listing: Listing,
    pub(super) marker: MarkerSeen,
    /// Distinguishes this run's parked copies from another's.
    pub(super) run: u64,
    /// The prefix was empty when the run began.
    pub(super) fresh: AtomicBool,
    /// Keys of uploads begun by this run.
    pub(super) begun: Mutex<HashSet<Path>>,
    /// Files whose contents were requested again from the vault in this run.
    pub(super) needed: Mutex<HashSet<VaultPath>>,
    /// Leftovers of earlier runs have been looked for.
    pub(super) swept: AtomicBool,
    /// True if a missing object counts as deleted by somebody; `None` until this run has determined it.
    pub(super) absence_tells: tokio::sync::Mutex<Option<bool>>,
    /// True after this run was denied writes for the destination as a whole. Locked while the marker or the
    /// probe object is written, which determines it.
    pub(super) denies_writes: tokio::sync::Mutex<bool>,
}

impl Context {
    pub(super) fn new(
        location: BucketLocation,
        options: BucketOptions,
        objects: Objects,
        traffic: Traffic,
    ) -> Arc<Self> {
        let errors = ErrorContext::new(location.to_string());
        #[cfg(feature = "s3")]
        if let Some(address) = objects.address() {
            errors.at_address(address);
        }
        Arc::new(Context {
            errors,
            keys: Keys::new(&location),
            objects,
            stages: Stages::default(),
            budget: MemoryBudget::new(options.memory),
            cache: ObjectCache::default(),
            recorded: ObjectCache::default(),
            listing: Listing::default(),
            marker: MarkerSeen::default(),
            run: RandomState::new().hash_one(std::process::id()),
            fresh: AtomicBool::new(false),
            begun: Mutex::default(),
            needed: Mutex::default(),
            swept: AtomicBool::new(false),
            absence_tells: tokio::sync::Mutex::default(),
            denies_writes: tokio::sync::Mutex::default(),
            location,
            options,
            traffic,
        })
    }

    /// Notes the recorded facts of an object that is to be replaced, if the write will be conditional on
    /// them, or if that is unknown before the first write. Returns true if it did. Uploads in parts are left
    /// out: a check costs little in comparison.
    pub(super) fn suppose(&self, recorded: Supposed) -> bool {
        let Supposed { path, content, facts, to_come } = recorded;
        let LocalFacts::Object { size, entity_tag } = facts else { return false };
        let tells = self.objects.is_s3()
            && (self.objects.keeps(Conditional::Replace) || self.objects.is_unknown(Conditional::Replace));
        let is_good = tells
            && size == content.size
            && !entity_tag.is_empty()
            && to_come <= self.options.part_size as u64
            && self.recorded.has_room();
        if is_good {
            let facts = Facts::of_recorded(entity_tag, content);
            self.recorded.put(&path, Occupant::Object(Box::new(facts)));
        }
        is_good
    }

    /// True if a new object of this size will be written on the condition that there is none, or if that is
    /// unknown before the first write. Uploads in parts are left out, as in [`suppose`](Self::suppose).
    pub(super) fn creates_conditionally(&self, size: u64) -> bool {
        let kind = Conditional::Create;
        let tells = self.objects.keeps(kind) || self.objects.is_unknown(kind);
        tells && size <= self.options.part_size as u64
    }

    /// Looks at the object at a path, and caches it.
    pub(super) async fn look(&self, path: &VaultPath, key: &Path) -> Result<Occupant, DestinationError> {
        let found = match self.objects.head(key).await {
            Ok(found) => found,
            Err(error) => return Err(self.look_failed(path, &error).await),
        };
        self.errors.succeeded(Action::Look);
        let occupant = found.map_or(Occupant::Nothing, |facts| Occupant::Object(Box::new(facts)));
        self.cache.put(path, occupant.clone());
        Ok(occupant)
    }

    /// The error for a failed look at a file's object. If the run's first look is denied, a look at the marker
    /// shows whether that concerns one object or all.
    pub(super) async fn look_failed(&self, path: &VaultPath, error: &RequestError) -> DestinationError {
        if error.kind == Kind::Denied
            && self.errors.is_first(Action::Look)
            && self.objects.head(&self.keys.of_marker()).await.is_ok()
        {
            self.errors.succeeded(Action::Look);
        }
        self.failed(Action::Look, path, error)
    }

    /// The error for a failed write of a file's object. If the run's first write is denied, that of the marker
    /// or else of the probe object shows whether that concerns one object or all.
    pub(super) async fn write_failed(&self, path: &VaultPath, error: &RequestError) -> DestinationError {
        if self.errors.ends_run(Action::Write, error) {
            let mut denies = self.denies_writes.lock().await;
            // Others may have found it out meanwhile.
            if !*denies && self.errors.is_first(Action::Write) {
                let (probe, empty) = (self.keys.of_probe(), PutPayload::default());
                let put = self.objects.put(&probe, empty, None, Attributes::new(), &Guard::Nothing).await;
                *denies = matches!(&put, Err(error) if error.kind == Kind::Denied);
                if !*denies {
                    self.errors.may_write();
                }
            }
        }
        self.failed(Action::Write, path, error)
    }

    /// The cached occupant of a path; looks at the bucket if there is none.
    pub(super) async fn recall(&self, path: &VaultPath, key: &Path) -> Result<Occupant, DestinationError> {
        match self.cache.get(path) {
            Some(occupant) => Ok(occupant),
            None => self.look(path, key).await,
        }
    }

    /// True if an object has this content, by its metadata or else by reading it.
    pub(super) async fn has(
        &self,
        path: &VaultPath,
        key: &Path,
        facts: &Facts,
        wanted: KnownContent,
    ) -> Result<bool, DestinationError> {
        match facts.is_content(wanted) {
            Some(answer) => Ok(answer),
            None => Ok(self.content_of(path, key, facts).await? == Some(wanted.hash)),
        }
    }

    /// The content hash of an object, from its metadata or else by reading it. `None` if the object has
    /// changed meanwhile.
    pub(super) async fn content_of(
        &self,
        path: &VaultPath,
        key: &Path,
        facts: &Facts,
    ) -> Result<Option<ContentHash>, DestinationError> {
        if let Some(content) = facts.content() {
            return Ok(Some(content));
        }
        match self.objects.hash(key, &facts.version).await {
            Ok(content) => {
                self.errors.succeeded(Action::Read);
                self.cache.put(path, Occupant::Object(Box::new(facts.clone().with_content(content))));
                Ok(Some(content))
            }
            Err(error) if error.is_conflict() || error.is_missing_object() => {
                self.cache.forget(path);
                Ok(None)
            }
            Err(error) => Err(self.failed(Action::Read, path, &error)),
        }
    }

    /// The error that requests a content again; the engine then fetches it from the vault. Once for each file
    /// in a run, so that nothing loops.
    pub(super) async fn content_needed(&self, path: &VaultPath, error: &RequestError) -> DestinationError {
        if !lock(&self.needed).insert(path.clone()) {
            return self.write_failed(path, &error.clone().into_final()).await;
        }
        DestinationError::ContentNeeded {
            path: path.as_str().to_owned(),
            location: self.errors.location(),
            reason: error.said(),
        }
    }

    pub(super) fn failed(&self, action: Action, path: &VaultPath, error: &RequestError) -> DestinationError {
        self.errors.error(action, path.as_str(), error)
    }
}
