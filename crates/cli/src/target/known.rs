//! A destination and its state.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use obsync_bucket::{BucketDestination, BucketLocation, BucketOptions, Service};
use obsync_core::pin::{FoundPin, Pin, PinPlace};
use obsync_core::{Doubt, ProblemCode, StateError, return_taken};
use obsync_dynamodb::TablePins;
use obsync_folder::{FolderDestination, FolderOptions, FolderPin};
use obsync_protocol::{VaultId, VaultInfo};

use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::target::destination::Destination;
use crate::target::disks::{self, Absence, Present};
use crate::target::state_place::StatePlace;
use crate::target::states::{Found, Registry, State, StateVault};
use crate::ui::shell;

/// A destination and the place of its state.
#[derive(Debug)]
pub(crate) struct Known {
    registry: Registry,
    place: StatePlace,
    destination: Destination,
    canonical: String,
    /// The vault synced with it, once its state is open.
    pulled: OnceLock<VaultId>,
    /// The folder, once it is open for writing.
    folder: OnceLock<FolderDestination>,
}

/// The pins found with a destination.
#[derive(Debug)]
pub(crate) enum KnownPins {
    /// There is no place for pins.
    None,
    /// The pin in a folder.
    Folder(FolderPin),
    /// Those of a table.
    Table(Box<TablePins>),
}

impl KnownPins {
    pub(crate) fn found(&self) -> Vec<FoundPin> {
        match self {
            KnownPins::None => Vec::new(),
            KnownPins::Folder(folder) => folder
                .pin()
                .map(|pin| FoundPin {
                    place: PinPlace::Destination,
                    is_of_destination: true,
                    pin: pin.clone(),
                })
                .into_iter()
                .collect(),
            KnownPins::Table(pins) => pins.found(),
        }
    }

    /// True if there may be one that this user cannot read.
    pub(crate) fn are_hidden(&self) -> bool {
        matches!(self, KnownPins::Folder(FolderPin::Hidden))
    }
}

/// The purpose of opening a destination.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Purpose {
    /// Read-only.
    pub(crate) looks: bool,
    /// Replaced and removed files of a folder go to the trash.
    pub(crate) trashes: bool,
    /// Files that the vault deletes stay.
    pub(crate) keeps_deleted: bool,
}

impl Known {
    /// A destination from the user, whose state is in this place.
    ///
    /// # Errors
    /// When that place does not support such a destination.
    pub(crate) async fn of(
        destination: &Destination,
        place: &StatePlace,
        context: &Context,
    ) -> Result<Self, Failed> {
        if let (Destination::Folder(_), StatePlace::Table(_)) = (destination, place) {
            // On the next computer that uses the table, the path denotes another folder.
            let message = format!(
                "the state of the folder {destination} is kept on this computer, not in {place}, which other computers \
                 use, too; give --state local, or pull to a bucket"
            );
            return Err(Failed::new(Exit::Usage, message));
        }
        Ok(Known {
            registry: Registry::of(place, context).await?,
            place: place.clone(),
            destination: destination.clone(),
            canonical: destination.canonical()?,
            pulled: OnceLock::new(),
            folder: OnceLock::new(),
        })
    }

    /// Refuses a vault whose destination contains another one, whether that is `listed` for the account or
    /// not, before any question or message about its encryption. Locks and writes nothing.
    ///
    /// # Errors
    /// As for [`state_for`](Self::state_for), without those of the lock.
    pub(crate) async fn refuse_other_vault(
        &self,
        vault: &VaultInfo,
        listed: &[VaultId],
    ) -> Result<(), Failed> {
        match self.registry.other_vault(vault, &self.canonical, self.present().await).await? {
            Some(other) => Err(self.taken_by(&other, vault, listed).await),
            None => Ok(()),
        }
    }

    /// Opens the state for a pull of `vault`, one of those that are `listed` for the account, and locks it
    /// unless the pull only `looks`.
    ///
    /// # Errors
    /// When the destination is another vault's, another process has the state, or it is unusable.
    pub(crate) async fn state_for(
        &self,
        vault: &VaultInfo,
        listed: &[VaultId],
        looks: bool,
    ) -> Result<State, Failed> {
        let present = self.present().await;
        let opened = self.registry.open(vault, &self.canonical, present, looks).await;
        match opened.map_err(|failed| self.with_holder(failed))? {
            Ok(state) => {
                self.pulled.get_or_init(|| vault.id.clone());
                Ok(state)
            }
            Err(other) => Err(self.taken_by(&other, vault, listed).await),
        }
    }

    /// The present occupant of the destination.
    async fn present(&self) -> Present {
        match &self.destination {
            Destination::Folder(path) => disks::at(path).await,
            Destination::Bucket(_) => Present::Bucket,
        }
    }

    /// The doubt about the folder, when its state is new.
    ///
    /// # Errors
    /// When the states of this computer are unreadable.
    pub(crate) async fn doubt(&self, state: &State) -> Result<Option<Doubt>, Failed> {
        let (Registry::Local(catalog), State::Database(database)) = (&self.registry, state) else {
            return Ok(None);
        };
        // An id that was never written is no identity yet: a run that made a copy's was cut short.
        if state.store().load().await?.destination.is_some_and(|known| !known.is_unwritten()) {
            return Ok(None);
        }
        let Present::Folder(present) = self.present().await else { return Ok(None) };
        if let Some(vault) = disks::original(catalog, &self.canonical, present).await? {
            let is_of_this_vault = self.pulled.get() == Some(&vault);
            return Ok(Some(if is_of_this_vault { Doubt::Copy } else { Doubt::OtherDestination }));
        }
        let others = catalog.of_destination(&self.canonical)?;
        let is_other_disk = others.iter().any(|other| other != database.path());
        let doubt = if present.is_some() { Doubt::OtherDestination } else { Doubt::NoMarker };
        Ok(is_other_disk.then_some(doubt))
    }

    /// Names the folder as the user wrote it, if its state is locked; and the holder of the folder's own
    /// lock, if the state's lock does not name it, as with earlier releases.
    pub(crate) fn with_holder(&self, failed: Failed) -> Failed {
        let Destination::Folder(path) = &self.destination else { return failed };
        if failed.exit != Exit::AlreadyRunning {
            return failed;
        }
        match FolderDestination::open(path, FolderOptions::default()) {
            Ok(folder) if !failed.message.contains(" (held by ") => folder.locked().into(),
            _ => {
                let message = failed.message.replacen(&self.canonical, &self.destination.to_string(), 1);
                Failed { message, ..failed }
            }
        }
    }

    /// Names the holder of a state of the folder, if the folder is locked and does not name it: a process
    /// that wrote nothing to it left no name there.
    async fn with_holder_of_state(&self, failed: Failed) -> Failed {
        if failed.exit != Exit::AlreadyRunning || failed.message.contains(" (held by ") {
            return failed;
        }
        let found = self.registry.of_destination(&self.canonical, self.present().await).await;
        for found in found.unwrap_or_default() {
            if let Ok(State::Database(state)) = self.registry.read(&found).await
                && state.is_at_work()
                && let Some(holder) = state.holder()
            {
                return StateError::locked(&self.destination.to_string(), Some(holder)).into();
            }
        }
        failed
    }

    /// Opens the place itself, for the vault of the state opened before, if there is one. A folder is locked,
    /// unless it is opened read-only; a bucket is protected by its state's lock. For a folder only the device
    /// name of the options is used.
    ///
    /// # Errors
    /// When it is unusable, or another process works on it.
    pub(crate) async fn open(
        &self,
        options: BucketOptions,
        purpose: Purpose,
        context: &Context,
    ) -> Result<Arc<dyn obsync_core::Destination>, Failed> {
        match &self.destination {
            Destination::Folder(path) => {
                let options = FolderOptions {
                    trash: purpose.trashes,
                    keep_deleted: purpose.keeps_deleted,
                    device: options.device,
                    ..FolderOptions::default()
                };
                let folder = FolderDestination::open(path, options)?;
                if !purpose.looks {
                    if let Err(error) = folder.lock() {
                        return Err(self.with_holder_of_state(error.into()).await);
                    }
                    self.folder.get_or_init(|| folder.clone());
                }
                Ok(Arc::new(folder))
            }
            Destination::Bucket(location) => {
                let abandoned_after = match self.place {
                    StatePlace::Local => options.abandoned_after,
                    // The lease guarantees that nobody else works there.
                    StatePlace::Table(_) => Duration::ZERO,
                };
                let retries = context.bucket_retries();
                let vault = self.pulled.get().cloned();
                let network = context.network().clone();
                let keep_deleted = purpose.keeps_deleted;
                let options =
                    BucketOptions { vault, abandoned_after, retries, network, keep_deleted, ..options };
                Ok(Arc::new(open_bucket(location, options, context).await?))
            }
        }
    }

    /// The pins of a listed vault and this destination, outside of the home.
    ///
    /// # Errors
    /// When one is unreadable: that is never a first contact.
    pub(crate) async fn pins(&self, listed: &Pin) -> Result<KnownPins, Failed> {
        Ok(match (&self.destination, &self.registry) {
            (Destination::Folder(path), _) => {
                KnownPins::Folder(FolderDestination::open(path, FolderOptions::default())?.pin().await?)
            }
            (Destination::Bucket(_), Registry::Table(table)) => {
                KnownPins::Table(Box::new(table.pins(listed, &self.canonical).await?))
            }
            (Destination::Bucket(_), Registry::Local(_)) => KnownPins::None,
        })
    }

    /// Stores a pin where [`pins`](Self::pins) looks for it, while the destination is locked. `false`:
    /// another run filed one since these were read.
    ///
    /// # Errors
    /// When it is not writable.
    pub(crate) async fn keep_pin(&self, pin: &Pin, seen: &KnownPins) -> Result<bool, Failed> {
        match (&self.destination, &self.registry, seen) {
            (Destination::Folder(path), _, KnownPins::Folder(seen)) => {
                if seen.pin() == Some(pin) {
                    return Ok(true);
                }
                let folder = FolderDestination::open(path, FolderOptions::default())?;
                if folder.pin().await? != *seen {
                    return Ok(false);
                }
                match (seen, self.folder.get()) {
                    // A run that writes nothing leaves nothing.
                    (FolderPin::None | FolderPin::Hidden, Some(opened)) => opened.pin_before_writing(pin),
                    _ => folder.keep_pin(pin).await?,
                }
                Ok(true)
            }
            (_, Registry::Table(table), KnownPins::Table(seen)) => Ok(table.keep_pin(pin, seen).await?),
            _ => Ok(true),
        }
    }

    /// Writes, after a run without changes, the pin that waits for the first file: after an upgrade, a
    /// complete copy of the vault gets a pin.
    ///
    /// # Errors
    /// When it is not writable.
    pub(crate) async fn keep_waiting_pin(&self) -> Result<(), Failed> {
        match self.folder.get() {
            Some(folder) => Ok(folder.keep_waiting_pin().await?),
            None => Ok(()),
        }
    }

    /// Removes all states of this destination; there may be none.
    ///
    /// # Errors
    /// When another process works on it, or one cannot be removed.
    pub(crate) async fn forget_all(&self) -> Result<(), Failed> {
        for found in self.registry.of_destination(&self.canonical, self.present().await).await? {
            self.forget(&found).await?;
        }
        Ok(())
    }

    /// The states of this destination; at least one.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn found_there(&self) -> Result<Vec<Found>, Failed> {
        let found = self.registry.of_destination(&self.canonical, self.present().await).await?;
        if found.is_empty() {
            let message = format!(
                "nothing was pulled to {} yet; `{}` lists the destinations that obsync knows",
                self.destination,
                self.command("status", &[], &[])
            );
            return Err(Failed::new(Exit::NotFound, message).coded(ProblemCode::DestinationUnknown));
        }
        Ok(found)
    }

    /// The states of other folders that were at the path of this one before.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn found_gone(&self) -> Result<Vec<Found>, Failed> {
        let gone = match &self.registry {
            Registry::Local(catalog) => {
                disks::of_replaced(catalog, &self.canonical, self.present().await).await?
            }
            Registry::Table(_) => Vec::new(),
        };
        if gone.is_empty() {
            let message = format!("there is no state of another folder that was at {}", self.destination);
            return Err(Failed::new(Exit::NotFound, message).coded(ProblemCode::DestinationUnknown));
        }
        Ok(gone.into_iter().map(Found::Database).collect())
    }

    /// Opens the only state of this destination for reading.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub(crate) async fn only_state(&self) -> Result<State, Failed> {
        let found = self.found_there().await?;
        let [found] = found.as_slice() else { return Err(self.ambiguous(&found).await) };
        let state = self.registry.read(found).await?;
        if let Some(vault) = state.vault().and_then(|vault| vault.id.parse().ok()) {
            self.pulled.get_or_init(|| vault);
        }
        Ok(state)
    }

    /// The error for several states of this destination.
    async fn ambiguous(&self, found: &[Found]) -> Failed {
        // Two folders of one vault are no question of vaults.
        let (what, code) = match self.are_of_one_vault(found).await {
            true => ("more than one folder of this vault", ProblemCode::Destination),
            false => ("more than one vault", ProblemCode::VaultAmbiguous),
        };
        let first = match &self.destination {
            Destination::Folder(_) => "mount its disk, if that is missing; else ",
            Destination::Bucket(_) => "",
        };
        let reset = self.command("reset", &[&self.destination.text()], &[]);
        let remedy = format!("{first}`{reset}` forgets all of its states");
        let place = &self.destination;
        let message = format!("{what} was at {place} before, so its expected contents are unknown; {remedy}");
        Failed::new(Exit::NotFound, message).coded(code).hinted(Some(remedy))
    }

    async fn are_of_one_vault(&self, found: &[Found]) -> bool {
        let mut vaults = HashSet::new();
        for found in found {
            vaults.insert(
                self.registry.read(found).await.ok().and_then(|state| state.vault()).map(|vault| vault.id),
            );
        }
        vaults.len() == 1
    }

    /// Why the folder of a state is absent; `None` if it is there, and for a bucket.
    pub(crate) async fn absence(&self, state: &State) -> Result<Option<Absence>, Failed> {
        let Destination::Folder(_) = &self.destination else { return Ok(None) };
        let known = state.store().load().await?.destination;
        let id = known.filter(|known| !known.is_unwritten()).map(|known| known.id);
        Ok(disks::absence(Path::new(&self.canonical), id).await)
    }

    /// Opens a state that was found there, and locks it.
    pub(crate) async fn open_found(&self, found: &Found) -> Result<State, Failed> {
        self.registry.open_found(found).await.map_err(|failed| self.with_holder(failed))
    }

    /// Opens a state that was found there, for reading.
    pub(crate) async fn read_found(&self, found: &Found) -> Result<State, Failed> {
        Ok(self.registry.read(found).await?)
    }

    /// Returns users' files that a killed run of these states had moved out of their places, before the
    /// states are forgotten.
    pub(crate) async fn return_taken(
        &self,
        states: &[Found],
        destination: &dyn obsync_core::Destination,
        context: &Context,
    ) {
        for found in states {
            // An unreadable state is removed anyway, and knows no paths.
            let Ok(state) = self.read_found(found).await else { continue };
            match return_taken(destination, state.store().as_ref()).await {
                Ok(returned) => returned.iter().for_each(|(path, kept_as)| {
                    context.console.note(&format!("obsync: kept what was at {path} as {kept_as}"));
                }),
                Err(error) => {
                    let warning =
                        format!("texts that a killed run had moved may be left in .obsync: {error}");
                    context.console.warn_always(&warning);
                }
            }
        }
    }

    /// Removes a state.
    pub(crate) async fn forget(&self, found: &Found) -> Result<(), Failed> {
        self.registry.forget(found, &self.canonical).await
    }

    /// A command to type, for the states in this place.
    pub(crate) fn command(&self, subcommand: &str, operands: &[&str], options: &[&str]) -> String {
        let state = match &self.place {
            StatePlace::Local => None,
            table @ StatePlace::Table(_) => Some(table.to_string()),
        };
        let place = state.iter().flat_map(|table| ["--state", table.as_str()]);
        let options: Vec<&str> = options.iter().copied().chain(place).collect();
        shell::command(subcommand, operands, &options)
    }

    /// The error for a destination that contains another vault; names that.
    async fn taken_by(&self, other: &Found, wanted: &VaultInfo, listed: &[VaultId]) -> Failed {
        let state = self.registry.read(other).await;
        let other = state.ok().and_then(|state| state.vault());
        let (destination, kind) = (&self.destination, self.destination.kind());
        let reset = self.command("reset", &[&destination.text()], &[]);
        let message = match other {
            Some(StateVault { id, name })
                if name == wanted.name && !listed.iter().any(|vault| vault.as_str() == id) =>
            {
                format!(
                    "{destination} belongs to the vault {name:?} ({id}), which the account no longer has: there is a \
                     new vault of that name ({}). To pull the new one here, run `{reset}` and pull again: equal files \
                     are not downloaded, and differing ones are kept as conflicted copies",
                    wanted.id
                )
            }
            Some(StateVault { id, name }) if name == wanted.name => format!(
                "{destination} belongs to another vault of the same name ({id}; the one that you mean is {}); pull to \
                 another {kind}, \
                 or give the vault's id",
                wanted.id
            ),
            other => {
                let vault = match other {
                    Some(StateVault { id, name }) => format!("the vault {name:?} ({id})"),
                    None => "another vault".to_owned(),
                };
                format!(
                    "{destination} already belongs to {vault}; pull to another {kind}. `obsync reset --help` says how \
                     to free this one for another vault"
                )
            }
        };
        Failed::new(Exit::Error, message).coded(ProblemCode::OtherVault)
    }

    /// Other known destinations inside this one, or around it.
    ///
    /// # Errors
    /// When the states are unreadable.
    pub(crate) async fn nested(&self) -> Result<Vec<Nested>, Failed> {
        let mut nested = Vec::new();
        for found in self.registry.all().await? {
            // Unreadable states are skipped.
            let Ok(state) = self.registry.read(&found).await else { continue };
            let (Some(vault), Some(destination)) = (state.vault(), state.destination()) else { continue };
            if let Some(inside) = below(&self.canonical, &destination) {
                nested.push(Nested {
                    destination: destination.clone(),
                    vault: vault.name,
                    inside: Some(inside.to_owned()),
                });
            } else if below(&destination, &self.canonical).is_some() {
                nested.push(Nested { destination, vault: vault.name, inside: None });
            }
        }
        Ok(nested)
    }
}

/// Another destination that shares files with this one.
#[derive(Debug)]
pub(crate) struct Nested {
    /// Its canonical text.
    pub(crate) destination: String,
    /// The vault synced with it.
    pub(crate) vault: String,
    /// Its path in this one; `None` for one around it.
    pub(crate) inside: Option<String>,
}

/// The path of a place in another, if it is inside.
fn below<'p>(outer: &str, inner: &'p str) -> Option<&'p str> {
    inner.strip_prefix(outer.trim_end_matches('/'))?.strip_prefix('/').filter(|path| !path.is_empty())
}

/// Opens a bucket like its service's own tools. Sends no request yet.
async fn open_bucket(
    location: &BucketLocation,
    options: BucketOptions,
    context: &Context,
) -> Result<BucketDestination, Failed> {
    let opened = match location.service() {
        Service::S3 => Box::pin(BucketDestination::open_s3(location, options, context.aws().await?)).await,
        _ => Box::pin(BucketDestination::open(location, options)).await,
    };
    Ok(opened?)
}
