//! `obsync status`: prints the state of destinations, without a connection to the service.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use obsync_core::pin::{Pin, VaultEncryption, VaultKind};
use obsync_core::{Problem, ProblemCode, StateError};
use obsync_folder::{FolderDestination, FolderOptions};
use obsync_protocol::{Redactor, VaultId};
use serde::Serialize;

use crate::account::pins::HomePins;
use crate::answer::Answer;
use crate::args::Status;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::target::destination::Destination;
use crate::target::known::Known;
use crate::target::state_row::StateRow;
use crate::target::states::{Found, Registry, State};

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct StatusDocument {
    /// The destinations and what their states say.
    destinations: Vec<StateRow>,
    /// States that cannot be read. Their destinations are not in the list.
    unreadable: Vec<Unreadable>,
}

/// A state that cannot be read.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Unreadable {
    /// File of the state; in a table, the destination.
    state: String,
    error: Problem,
    #[serde(skip)]
    exit: Exit,
}

impl Unreadable {
    /// `is_whose`: somebody asked for this very destination.
    fn new(found: &Found, failed: &Failed, is_whose: bool) -> Self {
        let state = match found {
            Found::Database(file) => file.display().to_string(),
            Found::Entry(entry) => entry.key.destination.clone(),
        };
        let mut error = failed.problem();
        if !is_whose && matches!(found, Found::Database(_)) && error.message.contains("`obsync reset DEST`") {
            error.message.push_str(" (DEST is the destination that this list lacks)");
        }
        Unreadable { state, error, exit: failed.exit }
    }
}

pub(super) async fn run(options: &Status, context: &Context) -> Result<Exit, Failed> {
    // The status is useful without them, so an unreadable file is left to other commands.
    let _ = context.credentials().load(context.api_url(), &context.console);
    let _ = context.key_file().hide(&context.console);
    let registry = Registry::of(&options.state.place, context).await?;
    let states = wanted(options, &registry, context).await?;
    let mut rows = Vec::new();
    let mut unreadable = Vec::new();
    // Shows the file's pins; an unreadable file is reported.
    let pins = context.pin_file().load(&context.key_file(), &context.console).unwrap_or_else(|failed| {
        context.console.warn(&format!("the encryption of vaults is not known here: {failed}"));
        HomePins::default()
    });
    for found in &states {
        match row(&registry, found, context.console.redactor()).await {
            Ok(Some(mut row)) => {
                row.encryption = encryption(&row, &registry, &pins, context).await;
                rows.push(row);
            }
            Ok(None) => {}
            // The others are still worth showing.
            Err(failed) => unreadable.push(Unreadable::new(found, &failed, options.wanted.is_some())),
        }
    }
    StateRow::mark_replaced(&mut rows);
    rows.sort_by(|one: &StateRow, other| one.destination.cmp(&other.destination));
    let too_old = match options.max_age {
        // Something was pulled, at an unknown time.
        Some(_) if rows.is_empty() && !unreadable.is_empty() => Vec::new(),
        Some(age) => too_old(&rows, age, options.wanted.is_some()),
        None => Vec::new(),
    };
    let (exit, problem) = end(&unreadable, &too_old);
    let mut sentences: Vec<String> = unreadable.iter().map(|state| state.error.message.clone()).collect();
    if options.json {
        let document = StatusDocument { destinations: rows, unreadable };
        context.console.answer(&Answer::new(exit, problem, document))?;
    } else {
        match rows.is_empty() {
            false => {
                let rows: Vec<String> = rows.iter().map(StateRow::describe).collect();
                context.console.result(&rows.join("\n"))?;
            }
            // Reported below then.
            true if !unreadable.is_empty() || options.max_age.is_some() => {}
            true => context.say("Nothing was pulled yet. `obsync pull --help` explains how.")?,
        }
        sentences.extend(too_old);
    }
    sentences.iter().for_each(|sentence| context.console.error(&format!("obsync: {sentence}")));
    Ok(exit)
}

/// The exit status, and the problem if there is one: an unreadable state comes before one that is too old.
fn end(unreadable: &[Unreadable], too_old: &[String]) -> (Exit, Option<Problem>) {
    match (unreadable, too_old) {
        ([], []) => (Exit::Done, None),
        ([], _) => (Exit::TooOld, Some(Problem::new(ProblemCode::TooOld, too_old.join("; ")))),
        ([first, more @ ..], _) => {
            let mut error = first.error.clone();
            for Unreadable { error: another, .. } in more {
                error.message = format!("{}; {}", error.message, another.message);
            }
            (first.exit, Some(error))
        }
    }
}

/// The destinations that were not checked within this time, a sentence each.
fn too_old(rows: &[StateRow], age: Duration, is_asked_for: bool) -> Vec<String> {
    // A failed first pull left nothing to keep fresh, and a folder that another one replaced will never be
    // checked again.
    let counts = |row: &&StateRow| !row.is_replaced() && (is_asked_for || !row.is_blank());
    let rows: Vec<&StateRow> = rows.iter().filter(counts).collect();
    if rows.is_empty() {
        return vec!["nothing was pulled yet".to_owned()];
    }
    let now = Timestamp::now();
    rows.into_iter().filter_map(|row| row.too_old(age, now)).collect()
}

/// The encryption of a state's vault: by the pins of this user, else by the one in the folder, or those in
/// the table. An unreadable pin is ignored here; a pull refuses it.
async fn encryption(
    row: &StateRow,
    registry: &Registry,
    pins: &HomePins,
    context: &Context,
) -> Option<VaultKind> {
    if let Some(encryption) = pins.of_vault(row.vault_id()) {
        return Some(encryption.kind());
    }
    let vault = VaultId::try_new(row.vault_id()).ok()?;
    let found: Vec<Pin> = match registry {
        // A bucket without a table has no pin of its own.
        Registry::Local(_) => {
            let folder = Some(Path::new(row.destination())).filter(|path| path.is_absolute())?;
            let folder = FolderDestination::open(folder, FolderOptions::default()).ok()?;
            folder.pin().await.ok()?.pin().cloned().into_iter().collect()
        }
        Registry::Table(table) => {
            let wanted = Pin::new(context.api_url().as_str(), vault.clone(), "", VaultEncryption::Standard);
            let found = table.pins(&wanted, row.destination()).await.ok()?.found();
            found.into_iter().map(|found| found.pin).collect()
        }
    };
    found.iter().find(|pin| pin.vault == vault).map(|pin| pin.encryption.kind())
}

/// The requested states.
async fn wanted(options: &Status, registry: &Registry, context: &Context) -> Result<Vec<Found>, Failed> {
    match (&options.wanted, registry) {
        (None, _) => registry.all().await,
        // A table has no folders, so this is the name of a vault.
        (Some(vault @ Destination::Folder(_)), Registry::Table(_)) => {
            of_vault(&vault.to_string(), options, registry).await
        }
        (Some(destination), _) => {
            Known::of(destination, &options.state.place, context).await?.found_there().await
        }
    }
}

async fn of_vault(vault: &str, options: &Status, registry: &Registry) -> Result<Vec<Found>, Failed> {
    let mut states = registry.all().await?;
    let id = |found: &Found| match found {
        Found::Entry(state) => Some(state.key.vault_id.clone()),
        Found::Database(_) => None,
    };
    let is_meant = |found: &Found| match found {
        Found::Entry(state) => state.key.vault_id.as_str() == vault || state.key.vault_name == vault,
        Found::Database(_) => false,
    };
    match states.iter().any(is_meant) {
        true => states.retain(is_meant),
        false => states.retain(|found| id(found).is_some_and(|id| id.has_prefix(vault))),
    }
    if states.iter().any(|found| id(found) != id(&states[0])) && !states.iter().any(is_meant) {
        let message = format!("more than one vault has an id that begins with {vault:?}; give more of it");
        return Err(Failed::new(Exit::NotFound, message).coded(ProblemCode::VaultAmbiguous));
    }
    if states.is_empty() {
        let table = &options.state.place;
        let message = format!(
            "there is no state of the vault {vault:?} in {table}; `obsync status --state {table}` lists all states"
        );
        return Err(Failed::new(Exit::NotFound, message));
    }
    Ok(states)
}

async fn row(registry: &Registry, found: &Found, redactor: &Redactor) -> Result<Option<StateRow>, Failed> {
    match (registry.read(found).await?, found) {
        (State::Database(state), _) => Ok(StateRow::of_database(&state, redactor).await?),
        (State::Entry(state), Found::Entry(entry)) => match &entry.summary {
            Ok(summary) => Ok(Some(StateRow::of_entry(&state, summary, redactor).await?)),
            Err(error) => Err(Failed::of(Exit::Error, error).coded(ProblemCode::from(error))),
        },
        (State::Entry(state), Found::Database(database)) => {
            let reason = format!("it is not that of {}", state.key().destination);
            let (database, code) = (database.display().to_string(), ProblemCode::State);
            Err(StateError::Unavailable { database, reason, code }.into())
        }
    }
}
