//! `obsync unlink`: separates a destination from its vault.

use obsync_bucket::BucketOptions;
use obsync_core::MarkerFound;
use serde::Serialize;

use crate::args::Unlink;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::target::known::{Known, Purpose};
use crate::ui::ask;

/// What `--json` prints.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct UnlinkDocument {
    /// The folder or bucket.
    destination: String,
    /// Number of forgotten states; 0 if only the marker was left.
    forgotten: u64,
}

pub(super) async fn run(options: &Unlink, context: &Context) -> Result<Exit, Failed> {
    let destination = &options.destination;
    let known = Known::of(destination, &options.state.place, context).await?;
    let found = known.found_there().await;
    if !options.yes {
        if !ask::can_ask() {
            let message =
                format!("confirmation is required to unlink {destination} from its vault; give --yes");
            return Err(Failed::new(Exit::Usage, message));
        }
        if !ask::yes(&format!("Unlink {destination} from its vault? No note is touched.")).await? {
            context.say("Nothing was done.")?;
            return Ok(Exit::Done);
        }
    }
    // Locked to the end, so that no run begins meanwhile.
    let opened = known.open(BucketOptions::default(), Purpose::default(), context).await?;
    let states = match found {
        // The state was lost or reset; only the marker is left.
        Err(failed) if failed.exit == Exit::NotFound => match opened.identify(None).await? {
            MarkerFound::Absent => return Err(failed),
            _ => Vec::new(),
        },
        found => found?,
    };
    known.return_taken(&states, opened.as_ref(), context).await;
    // The marker last: as long as it is there, the command can be run again.
    for state in &states {
        context.unless_stopped(known.forget(state).await)?;
    }
    opened.unmark().await?;
    let document = UnlinkDocument { destination: destination.text(), forgotten: states.len() as u64 };
    let sentence = format!("{destination} is unlinked from its vault; no note was touched, here or there.");
    context.did(options.json, document, &sentence)
}
