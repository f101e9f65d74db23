//! Ctrl-C and SIGTERM: the first requests an orderly end of the program, the second ends it at once.
//!
//! Ending at once is as safe as a power failure: nothing is recorded that is not durable. SIGHUP makes a
//! follower check everything again.

use std::io::{IsTerminal, stderr, stdin};
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failed};
use crate::ui::console::Console;

/// Cancels `stop` on the first signal. On the second one the program ends, with its answer on the `console`
/// if one is due. Call it within a runtime.
pub(crate) fn listen(stop: CancellationToken, console: Arc<Console>, owes_answer: bool) {
    // Registered here, not in the task: a signal before the task first runs must not end the program at once.
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else { return };
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        stop.cancel();
        either(&mut interrupt, &mut terminate).await;
        console.remove_bar();
        if owes_answer {
            console.answer_at_once(&Failed::new(Exit::Unfinished, "interrupted twice, so ended at once"));
        }
        std::process::exit(Exit::Unfinished.code().into());
    });
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Notifies `look_again` of each SIGHUP, and reports it on the `console`. A SIGHUP because the terminal was
/// closed cancels `stop`: nobody sees the follower any more. Call it within a runtime.
pub(crate) fn look_again_on_hangup(look_again: Arc<Notify>, stop: CancellationToken, console: Arc<Console>) {
    let has_terminal = || stdin().is_terminal() || stderr().is_terminal();
    let had_terminal = has_terminal();
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if had_terminal && !has_terminal() {
                return stop.cancel();
            }
            console.note("obsync: SIGHUP: everything is looked at again");
            look_again.notify_one();
        }
    });
}
