//! Ctrl-C and SIGTERM: the first asks the program to end in good order, the second ends it at once.
//!
//! Ending at once is safe too, as a power failure is: nothing is recorded that is not durable.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
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
