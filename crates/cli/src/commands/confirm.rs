//! `obsync confirm`: lets the deletions go that a pull held back.

use obsync_core::confirm;
use obsync_protocol::shown_name;

use crate::args::Confirm;
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::target::known::Known;
use crate::ui::{ask, human};

pub(super) async fn run(options: &Confirm, context: &Context) -> Result<Exit, Failed> {
    let known = Known::of(&options.destination, &options.state.place, context).await?;
    let destination = &options.destination;
    let waiting = obsync_core::held_back(known.only_state().await?.store().as_ref()).await?;
    if waiting.is_empty() {
        context.say(&format!("No deletion is held back in {destination}."))?;
        return Ok(Exit::Done);
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
    let mut confirmed = 0;
    for found in known.found_there().await? {
        let state = known.open_found(&found).await?;
        let paths = confirm(state.store().as_ref(), &waiting, jiff::Timestamp::now()).await;
        state.close().await;
        confirmed += paths?.len() as u64;
    }
    context.say(&format!(
        "Confirmed: {}. The next pull makes them, each if the file still is as it was pulled.",
        human::counted(confirmed, "deletion", "deletions")
    ))?;
    Ok(Exit::Done)
}
