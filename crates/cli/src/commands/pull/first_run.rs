//! Output and questions before a first run.

use std::sync::Arc;

use obsync_core::{Direction, NoProgress, Outcome, PullOptions, PullSource};
use obsync_protocol::escaped;

use super::Manner;
use super::end::failed;
use super::way::{Way, pull_options};
use crate::context::Context;
use crate::exit::{Exit, Failed};
use crate::target::known::{Known, Nested};
use crate::target::states::State;
use crate::ui::{ask, pull_report};

/// Shows the plan of the first run that sends at a terminal, and asks.
///
/// # Errors
/// When there is nobody to ask.
pub(super) async fn may_begin(
    source: &PullSource,
    destination: Arc<dyn obsync_core::Destination>,
    state: &State,
    way: Way<'_>,
    manner: Manner,
    context: &Context,
) -> Result<bool, Failed> {
    let options = way.options();
    let known = state.store().load().await?;
    if !known.is_first(way.direction()) || options.dry_run {
        return Ok(true);
    }
    if options.json || !ask::can_ask() {
        let deed = match known.direction {
            Direction::Push => "sync both ways with",
            Direction::Pull | Direction::Both => "send from",
        };
        let message = format!(
            "confirmation is required to {deed} {} for the first time; give --yes",
            options.destination
        );
        return Err(Failed::new(Exit::Usage, message));
    }
    let Manner { doubt, keep_everything, .. } = manner;
    let pull_options = PullOptions { doubt, keep_everything, dry_run: true, ..pull_options(options) };
    let (progress, stop) = (Arc::new(NoProgress), context.stop.child_token());
    let plan = way.run(source, destination, state.store(), pull_options, progress, stop).await;
    let plan = plan.map_err(|error| failed(error, true))?;
    if plan.outcome == Outcome::Interrupted {
        return Err(Failed::new(Exit::Unfinished, "interrupted; nothing was done"));
    }
    context.say(&pull_report::plan(&plan))?;
    context.or_stopped(ask::yes("The first run deletes nothing on either side. Continue?")).await
}

/// Prints before a first pull that another destination lies inside this one, or around it.
pub(super) async fn tell_nested(known: &Known, context: &Context) -> Result<(), Failed> {
    for Nested { destination, vault, inside } in known.nested().await? {
        let how = if inside.is_some() { "inside this destination" } else { "around this destination" };
        let destination = escaped(&destination);
        context.console.warn(&format!(
            "{destination}, the destination of the vault {vault:?}, is {how}: neither manages the files of the other, \
             and Obsidian shows both in the outer one"
        ));
    }
    Ok(())
}
