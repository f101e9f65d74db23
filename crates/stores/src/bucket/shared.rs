//! What all parts of a bucket store share, and the questions that most of them ask.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use object_store::path::Path;
use obsync_core::StoreError;
use obsync_protocol::{ContentHash, VaultPath};

use super::keys::Keys;
use super::known::{Known, Occupant};
use super::listing::Listing;
use super::location::BucketLocation;
use super::objects::Objects;
use super::options::BucketOptions;
use super::room::Room;
use super::stages::Stages;
use super::stamp::Facts;
use super::traffic::Traffic;
use super::trouble::{Action, Site, Trouble};

/// The state of a bucket store.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) location: BucketLocation,
    pub(super) options: BucketOptions,
    pub(super) site: Site,
    pub(super) keys: Keys,
    pub(super) objects: Objects,
    pub(super) traffic: Traffic,
    pub(super) stages: Stages,
    pub(super) room: Room,
    pub(super) known: Known,
    pub(super) listing: Listing,
    /// Tells this run's parked copies from another's.
    pub(super) run: u64,
    /// There was nothing below the prefix when the run began.
    pub(super) fresh: AtomicBool,
    /// Keys of uploads that this run began.
    pub(super) begun: Mutex<HashSet<Path>>,
    /// Leftovers of earlier runs were looked for.
    pub(super) swept: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        location: BucketLocation,
        options: BucketOptions,
        objects: Objects,
        traffic: Traffic,
    ) -> Arc<Self> {
        Arc::new(Shared {
            site: Site::new(location.to_string()),
            keys: Keys::new(&location),
            objects,
            stages: Stages::default(),
            room: Room::new(options.memory),
            known: Known::default(),
            listing: Listing::default(),
            run: RandomState::new().hash_one(std::process::id()),
            fresh: AtomicBool::new(false),
            begun: Mutex::default(),
            swept: AtomicBool::new(false),
            location,
            options,
            traffic,
        })
    }

    /// Looks at what is at a path, and remembers it.
    pub(super) async fn look(&self, path: &VaultPath, key: &Path) -> Result<Occupant, StoreError> {
        let found =
            self.objects.head(key).await.map_err(|trouble| self.failed(Action::Look, path, &trouble))?;
        let occupant = found.map_or(Occupant::Nothing, Occupant::Object);
        self.known.put(path, occupant.clone());
        Ok(occupant)
    }

    /// What is known of a path, else what is found there.
    pub(super) async fn recall(&self, path: &VaultPath, key: &Path) -> Result<Occupant, StoreError> {
        match self.known.get(path) {
            Some(occupant) => Ok(occupant),
            None => self.look(path, key).await,
        }
    }

    /// The content of an object: as it says itself, else by reading it. `None` if it is another object by now.
    pub(super) async fn content_of(
        &self,
        path: &VaultPath,
        key: &Path,
        facts: &Facts,
    ) -> Result<Option<ContentHash>, StoreError> {
        if let Some(content) = facts.content() {
            return Ok(Some(content));
        }
        match self.objects.hash(key, &facts.version).await {
            Ok(content) => {
                self.known.put(path, Occupant::Object(facts.clone().with_content(content)));
                Ok(Some(content))
            }
            Err(trouble) if trouble.is_conflict() || trouble.is_missing_object() => {
                self.known.forget(path);
                Ok(None)
            }
            Err(trouble) => Err(self.failed(Action::Read, path, &trouble)),
        }
    }

    pub(super) fn failed(&self, action: Action, path: &VaultPath, trouble: &Trouble) -> StoreError {
        self.site.error(action, path.as_str(), trouble)
    }
}
