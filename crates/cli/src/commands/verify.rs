//! `obsync verify`: reads every file of a destination and compares it with what was pulled.

use std::sync::Arc;

use obsync_core::{Phase, Progress, Verification, VerifyError, verify};
use obsync_stores::SqliteState;
use serde::Serialize;

use crate::args::Verify;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::human;
use crate::known::Known;
use crate::listing::named;
use crate::progress::Display;

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    destination: String,
    vault: Option<&'a str>,
    vault_id: Option<&'a str>,
    clean: bool,
    #[serde(flatten)]
    verification: &'a Verification,
}

pub(super) async fn run(options: &Verify, context: &Context) -> Result<Exit, Failed> {
    let known = Known::of(&options.destination, context)?;
    let databases = known.databases_there()?;
    let [database] = databases.as_slice() else {
        let message = format!(
            "more than one vault was pulled to {0}, so what should be there is not known; `obsync reset {0}` forgets \
             both",
            options.destination
        );
        return Err(Failed::new(Exit::NotFound, message));
    };
    let folder = known.folder(false)?;
    let state = SqliteState::read(database)?;
    let display = Display::new(Arc::clone(&context.console));
    display.phase(Phase::Transferring);
    let drawing = display.draw(false);
    let result = verify(&folder, &state, display.as_ref()).await;
    drop(drawing);
    let verification = result.map_err(failed)?;
    if options.json {
        context.console.json(&document(options, &state, &verification))?;
    } else {
        tell(options, &state, &verification, context)?;
    }
    Ok(if verification.is_clean() { Exit::Done } else { Exit::Failures })
}

fn document<'a>(options: &Verify, state: &'a SqliteState, verification: &'a Verification) -> Document<'a> {
    let identity = state.identity();
    Document {
        destination: options.destination.to_string(),
        vault: identity.map(|identity| identity.vault_name.as_str()),
        vault_id: identity.map(|identity| identity.vault_id.as_str()),
        clean: verification.is_clean(),
        verification,
    }
}

fn tell(
    options: &Verify,
    state: &SqliteState,
    verification: &Verification,
    context: &Context,
) -> Result<(), Failed> {
    let destination = &options.destination;
    let intact = format!(
        "{} ({}) of {} as pulled (version {}).",
        human::files(verification.intact.files),
        human::size(verification.intact.bytes),
        destination,
        verification.version
    );
    if verification.is_clean() {
        return context.say(&format!("All is well: {intact}"));
    }
    let mut lines = Vec::new();
    list("Missing", verification.missing.iter().map(ToString::to_string), &mut lines);
    list("Changed", verification.changed.iter().map(ToString::to_string), &mut lines);
    list("Not of the vault", verification.extra.iter().cloned(), &mut lines);
    lines.push(intact);
    if !verification.missing.is_empty() || !verification.changed.is_empty() {
        let vault = state.identity().map_or("VAULT", |identity| identity.vault_name.as_str());
        lines.push(format!(
            "`obsync pull {vault:?} {destination} --full` brings back what is missing or changed; a changed file is kept \
             as a conflicted copy."
        ));
    }
    context.console.result(&lines.join("\n"))
}

fn list(heading: &str, paths: impl ExactSizeIterator<Item = String>, lines: &mut Vec<String>) {
    if paths.len() > 0 {
        lines.push(format!("{heading}: {}", human::files(paths.len() as u64)));
        named(paths, lines);
    }
}

fn failed(error: VerifyError) -> Failed {
    match error {
        VerifyError::State(error) => error.into(),
        VerifyError::Store(error) => error.into(),
    }
}
