//! `obsync verify`: reads every file of a destination and compares it with what was pulled.

use std::sync::Arc;

use obsync_bucket::BucketOptions;
use obsync_core::{Phase, Progress, Verification, VerifyError, verify};
use obsync_protocol::escaped;
use serde::Serialize;

use crate::args::Verify;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::target::known::Known;
use crate::target::states::StateVault;
use crate::ui::human;
use crate::ui::listing::named;
use crate::ui::progress::Display;

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
    let known = Known::of(&options.destination, &options.state.place, context).await?;
    let state = known.only_state().await?;
    let store = known.store(BucketOptions::default(), false, false, context).await?;
    let display = Display::new(Arc::clone(&context.console));
    display.phase(Phase::Transferring);
    let drawing = display.draw(false);
    let result = verify(store.as_ref(), state.store().as_ref(), display.as_ref()).await;
    drop(drawing);
    let verification = result.map_err(failed)?;
    let vault = state.vault();
    if options.json {
        context.console.json(&document(options, vault.as_ref(), &verification))?;
    } else {
        tell(&known, vault.as_ref(), &verification, options, context)?;
    }
    Ok(if verification.is_clean() { Exit::Done } else { Exit::Failures })
}

fn document<'a>(
    options: &Verify,
    vault: Option<&'a StateVault>,
    verification: &'a Verification,
) -> Document<'a> {
    Document {
        destination: options.destination.to_string(),
        vault: vault.map(|vault| vault.name.as_str()),
        vault_id: vault.map(|vault| vault.id.as_str()),
        clean: verification.is_clean(),
        verification,
    }
}

fn tell(
    known: &Known,
    vault: Option<&StateVault>,
    verification: &Verification,
    options: &Verify,
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
    let mut lines = Vec::new();
    for folder in &verification.unreadable {
        lines.push(format!("Not read, for lack of permission: {}", escaped(folder)));
    }
    list("Deleted in the vault, and kept", verification.retained.iter().cloned(), &mut lines);
    if verification.is_clean() {
        lines.push(format!("All is well: {intact}"));
        return context.say(&lines.join("\n"));
    }
    list("Missing", verification.missing.iter().map(ToString::to_string), &mut lines);
    list("Changed", verification.changed.iter().map(ToString::to_string), &mut lines);
    list("Not of the vault", verification.extra.iter().cloned(), &mut lines);
    lines.push(intact);
    if !verification.missing.is_empty() || !verification.changed.is_empty() {
        let vault = vault.map_or("VAULT", |vault| vault.name.as_str());
        lines.push(format!(
            "`{}` brings back what is missing or changed; a changed file is kept as a conflicted copy.",
            known.command("pull", &[vault, &destination.to_string()], &["--full"])
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
