//! `obsync reset`: forgets the state of a destination.

use obsync_bucket::BucketOptions;
use serde::Serialize;

use crate::args::Reset;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::target::known::{Known, Purpose};
use crate::ui::ask;

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ResetDocument {
    /// The folder or bucket.
    destination: String,
    /// How many states of it were forgotten.
    forgotten: u64,
}

pub(super) async fn run(options: &Reset, context: &Context) -> Result<Exit, Failed> {
    let known = Known::of(&options.destination, &options.state.place, context).await?;
    let states = known.found_there().await?;
    let destination = &options.destination;
    if !options.yes {
        if !ask::can_ask() {
            let message =
                format!("there is nobody to ask whether to forget the state of {destination}; give --yes");
            return Err(Failed::new(Exit::Usage, message));
        }
        let question = format!("Forget what is known of {destination}? No note is touched.");
        if !ask::yes(&question).await? {
            context.say("Nothing was done.")?;
            return Ok(Exit::Done);
        }
    }
    // Held to the end, so that no pull begins meanwhile.
    let _store = known.store(BucketOptions::default(), Purpose::default(), context).await?;
    for state in &states {
        context.unless_stopped(known.forget(state).await)?;
    }
    let document = ResetDocument { destination: destination.to_string(), forgotten: states.len() as u64 };
    let sentence = format!(
        "The state of {destination} is forgotten. The next pull compares every file and downloads only what differs."
    );
    context.did(options.json, document, &sentence)
}
