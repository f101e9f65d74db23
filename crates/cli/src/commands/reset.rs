//! `obsync reset`: removes the state of a destination.

use obsync_bucket::BucketOptions;
use obsync_core::Outstanding;
use serde::Serialize;

use crate::args::Reset;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::target::known::{Known, Purpose};
use crate::target::state_row::direction;
use crate::target::states::Found;
use crate::ui::{ask, human};

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ResetDocument {
    /// The folder or bucket.
    destination: String,
    /// Number of forgotten states.
    forgotten: u64,
    /// The direction of the sync: `pull`, `push` or `both`; null if the state cannot be read.
    direction: Option<&'static str>,
}

pub(super) async fn run(options: &Reset, context: &Context) -> Result<Exit, Failed> {
    let known = Known::of(&options.destination, &options.state.place, context).await?;
    let states = match options.gone {
        true => known.found_gone().await?,
        false => known.found_there().await?,
    };
    let destination = &options.destination;
    if !options.yes {
        if !ask::can_ask() {
            let message =
                format!("confirmation is required to forget the state of {destination}; give --yes");
            return Err(Failed::new(Exit::Usage, message));
        }
        let question = match options.gone {
            true => format!("Forget the other folders that were at {destination}? No note is touched."),
            false => format!("Forget the state of {destination}? No note is touched."),
        };
        if !ask::yes(&question).await? {
            context.say("Nothing was done.")?;
            return Ok(Exit::Done);
        }
    }
    if options.gone {
        for state in &states {
            context.unless_stopped(known.forget(state).await)?;
        }
        let forgotten = states.len() as u64;
        let document = ResetDocument { destination: destination.text(), forgotten, direction: None };
        let sentence = format!("Other folders that were at {destination} are forgotten: {forgotten}.");
        return context.did(options.json, document, &sentence);
    }
    let (direction, waiting) = known_of(&known, &states, context).await;
    // Locked to the end, so that no pull begins meanwhile.
    let opened = known.open(BucketOptions::default(), Purpose::default(), context).await?;
    known.return_taken(&states, opened.as_ref(), context).await;
    for state in &states {
        context.unless_stopped(known.forget(state).await)?;
    }
    let document =
        ResetDocument { destination: destination.text(), forgotten: states.len() as u64, direction };
    let next = match direction {
        Some("both") => {
            "It was synced both ways: the next sync compares every file, transfers those that differ both ways, and \
             deletes nothing"
        }
        Some("push") => {
            "It was sent from here to the vault: the next push compares every file, sends those that differ, and \
             deletes nothing"
        }
        _ => "The next pull compares every file, and downloads only those that differ",
    };
    let forgotten = match waiting {
        0 => String::new(),
        waiting => format!(
            " {} to be confirmed: {} comes back.",
            human::counted(waiting, "deletion here waited", "deletions here waited"),
            if waiting == 1 { "that file" } else { "each of those files" }
        ),
    };
    let sentence = format!("The state of {destination} is forgotten. {next}.{forgotten}");
    context.did(options.json, document, &sentence)
}

/// The direction in which a destination was synced, and the number of waiting deletions for the vault, as far
/// as its states are readable: they are removed anyway.
async fn known_of(known: &Known, states: &[Found], context: &Context) -> (Option<&'static str>, u64) {
    for found in states {
        let Ok(state) = known.read_found(found).await else { continue };
        let records = state.store();
        if let Ok(state) = records.load().await {
            let left =
                Outstanding::of(records.as_ref(), context.console.redactor()).await.unwrap_or_default();
            return (Some(direction(state.direction)), left.held_back_in_vault.len() as u64);
        }
    }
    (None, 0)
}
