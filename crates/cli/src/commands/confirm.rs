//! `obsync confirm`: releases deletions that a run held back, even while another process works on the
//! destination.

use std::collections::BTreeSet;

use obsync_core::{confirm, leave_confirmation};
use obsync_protocol::shown_name;
use serde::Serialize;

use crate::args::Confirm;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::target::known::Known;
use crate::target::states::Found;
use crate::ui::{ask, human};

/// Most deletions listed before the question.
const SHOWN: usize = 50;

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ConfirmDocument {
    /// The folder or bucket.
    destination: String,
    /// The confirmed deletions: the next run makes them, or the active run.
    confirmed: Vec<String>,
    /// True if an active process on the destination makes them.
    in_use: bool,
}

pub(super) async fn run(options: &Confirm, context: &Context) -> Result<Exit, Failed> {
    let known = Known::of(&options.destination, &options.state.place, context).await?;
    let destination = &options.destination;
    let waiting = obsync_core::held_back(known.only_state().await?.store().as_ref()).await?;
    let document = |confirmed, in_use| ConfirmDocument { destination: destination.text(), confirmed, in_use };
    if waiting.is_empty() {
        let sentence = format!("No deletion is held back in {destination}.");
        return context.did(options.json, document(Vec::new(), false), &sentence);
    }
    if !options.yes {
        for path in waiting.iter().take(SHOWN) {
            context.say(&format!("  {}", shown_name(path)))?;
        }
        if let Some(more @ 1..) = waiting.len().checked_sub(SHOWN) {
            let status = known.command("status", &[&destination.text()], &[]);
            context
                .say(&format!("  … and {} more (`{status}` names them all)", human::number(more as u64)))?;
        }
        let count = human::counted(waiting.len() as u64, "deletion", "deletions");
        if !ask::can_ask() {
            let message = format!("confirmation is required to allow {count}; give --yes");
            return Err(Failed::new(Exit::Usage, message));
        }
        if !ask::yes(&format!("Allow {count}?")).await? {
            context.say("Nothing was done.")?;
            return Ok(Exit::Done);
        }
    }
    let mut confirmed = BTreeSet::new();
    let mut in_use = false;
    for found in known.found_there().await? {
        let (paths, is_left) = confirm_in(&known, &found, &waiting).await?;
        confirmed.extend(paths);
        in_use |= is_left;
    }
    let whoever = match in_use {
        true => "The active run picks them up within a minute, or the next run makes them",
        false => "The next run makes them",
    };
    let count = human::counted(confirmed.len() as u64, "deletion", "deletions");
    let sentence = format!("Confirmed: {count}. {whoever}, each only if the file is unchanged.");
    context.did(options.json, document(confirmed.into_iter().collect(), in_use), &sentence)
}

/// Confirms these deletions in one state. Returns them, and whether they were left for another process that
/// has the state locked.
async fn confirm_in(known: &Known, found: &Found, waiting: &[String]) -> Result<(Vec<String>, bool), Failed> {
    match known.open_found(found).await {
        Ok(state) => {
            let paths = confirm(state.store().as_ref(), waiting, jiff::Timestamp::now()).await;
            state.close().await;
            Ok((paths?, false))
        }
        Err(failed) if failed.exit == Exit::AlreadyRunning => {
            let state = known.read_found(found).await?;
            Ok((leave_confirmation(state.store().as_ref(), waiting).await?, true))
        }
        Err(failed) => Err(failed),
    }
}
