//! `obsync confirm`: lets the deletions go that a pull held back.

use std::collections::BTreeSet;

use obsync_core::confirm;
use obsync_protocol::shown_name;
use serde::Serialize;

use crate::args::Confirm;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::target::known::Known;
use crate::ui::{ask, human};

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Document {
    /// The folder or bucket.
    destination: String,
    /// The deletions that the next run makes.
    confirmed: Vec<String>,
}

pub(super) async fn run(options: &Confirm, context: &Context) -> Result<Exit, Failed> {
    let known = Known::of(&options.destination, &options.state.place, context).await?;
    let destination = &options.destination;
    let waiting = obsync_core::held_back(known.only_state().await?.store().as_ref()).await?;
    let document = |confirmed| Document { destination: destination.to_string(), confirmed };
    if waiting.is_empty() {
        let sentence = format!("No deletion is held back in {destination}.");
        return context.did(options.json, document(Vec::new()), &sentence);
    }
    if !options.yes {
        for path in &waiting {
            context.say(&format!("  {}", shown_name(path)))?;
        }
        let count = human::counted(waiting.len() as u64, "deletion", "deletions");
        if !ask::can_ask() {
            let message = format!("there is nobody to ask whether to let {count} go; give --yes");
            return Err(Failed::new(Exit::Usage, message));
        }
        if !ask::yes(&format!("Let {count} go?")).await? {
            context.say("Nothing was done.")?;
            return Ok(Exit::Done);
        }
    }
    let mut confirmed = BTreeSet::new();
    for found in known.found_there().await? {
        let state = known.open_found(&found).await?;
        let paths = confirm(state.store().as_ref(), &waiting, jiff::Timestamp::now()).await;
        state.close().await;
        confirmed.extend(paths?);
    }
    let sentence = format!(
        "Confirmed: {}. The next run makes them, each if the file still is as it was.",
        human::counted(confirmed.len() as u64, "deletion", "deletions")
    );
    context.did(options.json, document(confirmed.into_iter().collect()), &sentence)
}
