//! `obsync status`: what is known of destinations, without a connection.

use std::path::Path;

use obsync_core::{Deferred, DeferredCause, DeferredKind, StateError, StateStore};
use obsync_stores::{SqliteState, StateSummary};
use serde::Serialize;

use crate::args::Status;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::human;
use crate::known::{self, Known};

/// What `--json` prints.
#[derive(Serialize)]
struct Document {
    destinations: Vec<Row>,
}

/// One destination.
#[derive(Serialize)]
struct Row {
    destination: String,
    vault_id: String,
    vault: String,
    version: u64,
    /// Whether a first pull has listed the whole vault.
    listed: bool,
    files: u64,
    bytes: u64,
    folders: u64,
    /// Changes that the choice of what to pull leaves out.
    filtered: u64,
    failures: Vec<FailureRow>,
    /// Milliseconds since the epoch.
    last_change: i64,
}

/// A change that could not be applied.
#[derive(Serialize)]
struct FailureRow {
    path: String,
    uid: u64,
    reason: String,
}

pub(super) async fn run(options: &Status, context: &Context) -> Result<Exit, Failed> {
    let databases = match &options.destination {
        Some(destination) => Known::of(destination, context)?.databases_there()?,
        None => known::catalog(context).databases()?,
    };
    let mut rows = Vec::new();
    let mut unreadable = None;
    for database in &databases {
        match row(database).await {
            Ok(row) => rows.extend(row),
            // The others are still worth showing.
            Err(error) => unreadable = Some(Failed::from(error)),
        }
    }
    rows.sort_by(|one: &Row, other| one.destination.cmp(&other.destination));
    match unreadable {
        // A document that says nothing of what is damaged would mislead a script.
        Some(failed) if options.json => return Err(failed),
        _ if options.json => context.console.json(&Document { destinations: rows })?,
        _ if databases.is_empty() => {
            context.say("Nothing was pulled yet. `obsync pull --help` tells how.")?
        }
        _ => context.console.result(&rows.iter().map(describe).collect::<Vec<_>>().join("\n"))?,
    }
    unreadable.map_or(Ok(Exit::Done), Err)
}

async fn row(database: &Path) -> Result<Option<Row>, StateError> {
    let state = SqliteState::read(database)?;
    let Some(summary) = state.summary()? else { return Ok(None) };
    let failures = state.deferred(DeferredKind::Failed).await?;
    Ok(Some(Row { failures: failures.iter().map(failure).collect(), ..without_failures(summary) }))
}

fn without_failures(summary: StateSummary) -> Row {
    Row {
        destination: summary.identity.destination,
        vault_id: summary.identity.vault_id.to_string(),
        vault: summary.identity.vault_name,
        version: summary.version,
        listed: summary.listed,
        files: summary.files,
        bytes: summary.bytes,
        folders: summary.folders,
        filtered: summary.filtered,
        failures: Vec::new(),
        last_change: summary.committed,
    }
}

fn failure(deferred: &Deferred) -> FailureRow {
    FailureRow {
        path: deferred.key.shown().to_owned(),
        uid: deferred.message.uid.0,
        reason: match &deferred.cause {
            DeferredCause::Failed { reason } => reason.clone(),
            DeferredCause::Filtered => "left out".to_owned(),
        },
    }
}

fn describe(row: &Row) -> String {
    let mut lines = vec![
        row.destination.clone(),
        format!("  vault      {:?} ({})", row.vault, row.vault_id),
        format!(
            "  contents   {} ({}), {}",
            human::files(row.files),
            human::size(row.bytes),
            human::folders(row.folders)
        ),
        format!(
            "  version    {}{}",
            row.version,
            if row.listed { "" } else { " (the first pull is not complete)" }
        ),
        format!("  changed    {}", human::date(row.last_change)),
    ];
    if row.filtered > 0 {
        lines.push(format!("  left out   {}", human::counted(row.filtered, "change", "changes")));
    }
    if !row.failures.is_empty() {
        lines.push(format!(
            "  failed     {}, tried again by the next pull:",
            human::counted(row.failures.len() as u64, "change", "changes")
        ));
        let failures = row.failures.iter();
        lines
            .extend(failures.map(|failure| {
                format!("    {} (version {}): {}", failure.path, failure.uid, failure.reason)
            }));
    }
    lines.join("\n")
}
