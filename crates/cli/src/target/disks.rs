//! Finds the state of the disk that is mounted at a path now. Two disks can take turns there, and a folder
//! can be moved: the id in the destination's marker identifies both.

use std::fmt;
use std::path::{Path, PathBuf};

use obsync_core::{Describe, MarkerFound, RandomId, StateError, StateStore};
use obsync_folder::{FolderDestination, FolderOptions};
use obsync_protocol::VaultId;
use obsync_protocol::limits::DISKS_AT_ONE_PATH;
use obsync_sqlite::{SqliteState, StateCatalog, StateIdentity};
use serde::{Serialize, Serializer};

/// The present occupant of a destination, as far as that identifies disks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Present {
    /// A bucket: its name is unique.
    Bucket,
    /// A folder with this id, if it has a marker.
    Folder(Option<RandomId>),
    /// A folder with an unreadable marker: unknown.
    Unclear,
}

impl Present {
    fn id(self) -> Option<RandomId> {
        match self {
            Present::Bucket | Present::Unclear => None,
            Present::Folder(id) => id,
        }
    }

    /// True if a state with this id can belong to the present occupant.
    fn can_be(self, id: Option<RandomId>) -> bool {
        match self {
            Present::Bucket | Present::Unclear => true,
            // A state without a recorded id belongs to any folder.
            Present::Folder(present) => id.is_none() || id == present,
        }
    }
}

/// Why a state's folder is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// The path does not exist.
    NoFolder,
    /// The folder has no marker: a mount point without its disk, for example.
    NoMarker,
    /// The folder has another id.
    OtherMarker(RandomId),
    /// The same, and another state on this computer is that folder's.
    Replaced,
}

impl Serialize for Absence {
    /// One word for scripts.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Absence::NoFolder => "no_folder",
            Absence::NoMarker => "no_marker",
            Absence::OtherMarker(_) | Absence::Replaced => "other_marker",
        })
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Absence::NoFolder => "the folder is missing, or its disk is not mounted",
            Absence::NoMarker => "its marker is missing; is its disk mounted?",
            Absence::OtherMarker(_) => "a folder with another marker is at its path",
            Absence::Replaced => "another destination is at its path now",
        })
    }
}

/// Why the folder with this id is not at its path; `None` if it is, or if that is unknown.
pub(crate) async fn absence(folder: &Path, id: Option<RandomId>) -> Option<Absence> {
    if !folder.is_absolute() {
        return None;
    }
    if !folder.is_dir() {
        return Some(Absence::NoFolder);
    }
    match at(folder).await {
        _ if id.is_none() => None,
        Present::Folder(None) => Some(Absence::NoMarker),
        Present::Folder(Some(other)) if Some(other) != id => Some(Absence::OtherMarker(other)),
        Present::Folder(_) | Present::Bucket | Present::Unclear => None,
    }
}

/// The choice of a database for a destination.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DatabaseChoice {
    /// This database, which need not exist yet.
    Own(PathBuf),
    /// This database, of a folder that was moved here.
    Moved(PathBuf),
    /// The disk is another vault's, with this database.
    Taken(PathBuf),
}

/// A database, as far as it identifies its owner.
struct Candidate {
    path: PathBuf,
    /// `None`: it is unreadable.
    identity: Option<StateIdentity>,
    id: Option<RandomId>,
}

impl Candidate {
    async fn look(path: PathBuf) -> Result<Self, StateError> {
        let unreadable = |path| Ok(Candidate { path, identity: None, id: None });
        let state = match SqliteState::read(&path) {
            Ok(state) => state,
            Err(StateError::Corrupt { .. } | StateError::Newer { .. }) => return unreadable(path),
            Err(error) => return Err(error),
        };
        let Some(identity) = state.identity().cloned() else { return unreadable(path) };
        match state.load().await {
            Ok(known) => {
                // An id that was never written has no folder.
                let written = known.destination.filter(|destination| !destination.is_unwritten());
                let id = written.map(|destination| destination.id);
                Ok(Candidate { path, identity: Some(identity), id })
            }
            Err(StateError::Corrupt { .. }) => unreadable(path),
            Err(error) => Err(error),
        }
    }

    /// Those of all destinations on this computer. Unreadable ones are skipped.
    async fn of_folders(catalog: &StateCatalog) -> Result<Vec<(Self, StateIdentity)>, StateError> {
        let mut all = Vec::new();
        for path in catalog.databases()? {
            if let Ok(candidate) = Self::look(path).await
                && let Some(identity) = candidate.identity.clone()
                && Path::new(&identity.destination).is_absolute()
            {
                all.push((candidate, identity));
            }
        }
        Ok(all)
    }

    async fn all(paths: Vec<PathBuf>) -> Result<Vec<Self>, StateError> {
        let mut all = Vec::with_capacity(paths.len());
        for path in paths {
            all.push(Self::look(path).await?);
        }
        Ok(all)
    }

    fn is_of(&self, vault: &VaultId) -> bool {
        self.identity.as_ref().is_some_and(|identity| identity.vault_id == *vault)
    }
}

/// The database for a pull to the present occupant.
pub(super) async fn choose(
    catalog: &StateCatalog,
    wanted: &StateIdentity,
    present: Present,
) -> Result<DatabaseChoice, StateError> {
    let first = catalog.path_of(&wanted.destination, &wanted.vault_id);
    let here = Candidate::all(catalog.of_destination(&wanted.destination)?).await?;
    let of = |candidate: Candidate| match candidate.is_of(&wanted.vault_id) || candidate.path == first {
        true => DatabaseChoice::Own(candidate.path),
        false => DatabaseChoice::Taken(candidate.path),
    };
    let mut here: Vec<Candidate> =
        here.into_iter().filter(|candidate| present.can_be(candidate.id)).collect();
    // Databases that know the occupant come first.
    here.sort_by_key(|candidate| candidate.id.is_none());
    if let Some(own) = here.into_iter().next() {
        return Ok(of(own));
    }
    if let Some(moved) = moved(catalog, wanted, present.id()).await? {
        return Ok(DatabaseChoice::Moved(moved));
    }
    catalog.free_path_of(&wanted.destination, &wanted.vault_id).map(DatabaseChoice::Own)
}

/// Removes the states of the oldest disks at a path, if there are too many: a folder that is emptied before
/// each pull is a new disk each time.
pub(super) fn prune(catalog: &StateCatalog, destination: &str, used: &Path) -> Result<(), StateError> {
    let age = |path: &PathBuf| path.metadata().and_then(|facts| facts.modified()).ok();
    let mut others: Vec<PathBuf> =
        catalog.of_destination(destination)?.into_iter().filter(|path| path != used).collect();
    others.sort_by_key(age);
    let surplus = (others.len() + 1).saturating_sub(DISKS_AT_ONE_PATH);
    for path in &others[..surplus] {
        match catalog.remove(path, destination) {
            // A database in use is left alone.
            Ok(()) | Err(StateError::Locked { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The databases of the present occupant; all databases of the path if none is its.
pub(super) async fn of_present(
    catalog: &StateCatalog,
    canonical: &str,
    present: Present,
) -> Result<Vec<PathBuf>, StateError> {
    let all = catalog.of_destination(canonical)?;
    if all.len() < 2 {
        return Ok(all);
    }
    let candidates = Candidate::all(all.clone()).await?;
    let known =
        candidates.into_iter().filter(|candidate| candidate.id.is_some() && candidate.id == present.id());
    let known: Vec<PathBuf> = known.map(|candidate| candidate.path).collect();
    Ok(if known.is_empty() { all } else { known })
}

/// The databases of folders that were at a path before, if the present folder has a database, too.
pub(super) async fn of_replaced(
    catalog: &StateCatalog,
    canonical: &str,
    present: Present,
) -> Result<Vec<PathBuf>, StateError> {
    let candidates = Candidate::all(catalog.of_destination(canonical)?).await?;
    let is_here = |candidate: &Candidate| candidate.id.is_some() && candidate.id == present.id();
    if !candidates.iter().any(is_here) {
        return Ok(Vec::new());
    }
    let gone = candidates.into_iter().filter(|candidate| candidate.id.is_some() && !is_here(candidate));
    Ok(gone.map(|candidate| candidate.path).collect())
}

/// The database of a destination with this id whose old path does not have it any more.
async fn moved(
    catalog: &StateCatalog,
    wanted: &StateIdentity,
    present: Option<RandomId>,
) -> Result<Option<PathBuf>, StateError> {
    if present.is_none() {
        return Ok(None);
    }
    for (candidate, identity) in Candidate::of_folders(catalog).await? {
        // A database that names this path already was about to be renamed when its process died.
        let is_here = identity.destination == wanted.destination;
        if candidate.id == present
            && identity.vault_id == wanted.vault_id
            && (is_here || at(Path::new(&identity.destination)).await.id() != present)
        {
            return Ok(Some(candidate.path));
        }
    }
    Ok(None)
}

/// The vault of a destination with this id that also exists in another place: the present one is a copy, at
/// least of its marker.
pub(super) async fn original(
    catalog: &StateCatalog,
    canonical: &str,
    present: Option<RandomId>,
) -> Result<Option<VaultId>, StateError> {
    if present.is_none() {
        return Ok(None);
    }
    for (candidate, identity) in Candidate::of_folders(catalog).await? {
        if candidate.id == present
            && identity.destination != canonical
            && at(Path::new(&identity.destination)).await.id() == present
        {
            return Ok(Some(identity.vault_id));
        }
    }
    Ok(None)
}

/// The present occupant of a folder.
pub(super) async fn at(folder: &Path) -> Present {
    let Ok(destination) = FolderDestination::open(folder, FolderOptions::default()) else {
        return Present::Unclear;
    };
    match destination.identify(None).await {
        Ok(MarkerFound::Marker { marker, .. }) => Present::Folder(Some(marker.id)),
        Ok(MarkerFound::Absent | MarkerFound::Unchanged) => Present::Folder(None),
        Ok(MarkerFound::Damaged { .. } | MarkerFound::Impossible) | Err(_) => Present::Unclear,
    }
}
