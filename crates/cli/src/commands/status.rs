//! `obsync status`: what is known of destinations, without a connection to the service.

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
pub(crate) struct Document {
    destinations: Vec<StateRow>,
}

pub(super) async fn run(options: &Status, context: &Context) -> Result<Exit, Failed> {
    // Without them the status is as good, so a file that cannot be read is another command's trouble.
    let _ = context.credentials().load(context.api_url(), &context.console);
    let _ = context.key_file().hide(&context.console);
    let registry = Registry::of(&options.state.place, context).await?;
    let states = wanted(options, &registry, context).await?;
    let mut rows = Vec::new();
    let mut unreadable = None;
    // What it says is shown; what it does not, too.
    let pins = context.pin_file().load(&context.key_file(), &context.console).unwrap_or_else(|failed| {
        context.console.warn(&format!("how vaults are encrypted is not known here: {failed}"));
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
            Err(failed) => unreadable = Some(failed),
        }
    }
    rows.sort_by(|one: &StateRow, other| one.destination.cmp(&other.destination));
    match unreadable {
        // A document that says nothing of what is damaged would mislead a script.
        Some(failed) if options.json => return Err(failed),
        _ if options.json => {}
        // Then it is said below.
        _ if states.is_empty() && options.max_age.is_some() => {}
        _ if states.is_empty() => context.say("Nothing was pulled yet. `obsync pull --help` tells how.")?,
        _ => context.console.result(&rows.iter().map(StateRow::describe).collect::<Vec<_>>().join("\n"))?,
    }
    if let Some(failed) = unreadable {
        return Err(failed);
    }
    let too_old = options.max_age.map_or_else(Vec::new, |age| too_old(&rows, age));
    let exit = if too_old.is_empty() { Exit::Done } else { Exit::TooOld };
    if options.json {
        let problem = (exit == Exit::TooOld).then(|| Problem::new(ProblemCode::TooOld, too_old.join("; ")));
        context.console.answer(&Answer::new(exit, problem, Document { destinations: rows }))?;
    } else {
        too_old.iter().for_each(|sentence| context.console.error(&format!("obsync: {sentence}")));
    }
    Ok(exit)
}

/// Which destinations were not checked within this time, a sentence each.
fn too_old(rows: &[StateRow], age: Duration) -> Vec<String> {
    if rows.is_empty() {
        return vec!["nothing was pulled yet".to_owned()];
    }
    let now = Timestamp::now();
    rows.iter().filter_map(|row| row.too_old(age, now)).collect()
}

/// How the vault of a state is encrypted: by the pins of this user, else by the one in the folder, or those in the table. One
/// that cannot be read says nothing here; a pull is refused by it.
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

/// The states that are asked for.
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
    states.retain(|found| match found {
        Found::Entry(state) => state.key.vault_id.as_str() == vault || state.key.vault_name == vault,
        Found::Database(_) => false,
    });
    if states.is_empty() {
        let table = &options.state.place;
        let message = format!(
            "nothing is known of the vault {vault:?} in {table}; `obsync status --state {table}` lists what is"
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
            Err(error) => Err(Failed::of(Exit::Error, error)),
        },
        (State::Entry(state), Found::Database(database)) => {
            let reason = format!("it is not that of {}", state.key().destination);
            let (database, code) = (database.display().to_string(), ProblemCode::State);
            Err(StateError::Unavailable { database, reason, code }.into())
        }
    }
}
