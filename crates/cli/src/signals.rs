//! Ctrl-C and SIGTERM: the first asks the program to end in good order, the second ends it at once.
//!
//! Ending at once is safe too, as a power failure is: nothing is recorded that is not durable. SIGHUP has a follower look at
//! everything again.

use std::io::{IsTerminal, stderr, stdin};
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failed};
use crate::ui::console::Console;

/// Cancels `stop` on the first signal. On the second the program ends, with its answer on the `console` if it owes one. Must be
/// called on a runtime.
pub(crate) fn listen(stop: CancellationToken, console: Arc<Console>, owes_answer: bool) {
    // Here, not in the task: what comes before the task first runs must not end the program at once.
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

/// Notifies `look_again` of each SIGHUP, and says so on the `console`. One that comes because the terminal went away cancels
/// `stop`: nobody sees the follower any more. Must be called on a runtime.
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
