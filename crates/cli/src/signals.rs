//! Ctrl-C and SIGTERM: the first requests an orderly end of the program, the second ends it at once.
//!
//! Ending at once is as safe as a power failure: nothing is recorded that is not durable. SIGHUP makes a
//! follower check everything again.

use std::io::{IsTerminal, stderr, stdin};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::answer::Answer;
use crate::exit::{Exit, Failed};
use crate::ui::console::Console;

/// Time for the answer of a program that ends at once, or for the end of one that is being printed.
const LAST_WORDS: Duration = Duration::from_secs(1);

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
        say_last_words(console, owes_answer);
        std::process::exit(Exit::Unfinished.code().into());
    });
}

/// Removes the progress bar and prints an answer that is due, within a limit: while nobody reads the output, each
/// write of it waits, and keeps the console locked.
fn say_last_words(console: Arc<Console>, owes_answer: bool) {
    let (said, heard) = mpsc::channel();
    let say = move || {
        console.remove_bar();
        if owes_answer {
            let failed = Failed::new(Exit::Unfinished, "interrupted twice, so ended at once");
            // There is nowhere left to report that it cannot be written.
            let _ = console.answer(&Answer::of(&failed));
        }
        let _ = said.send(());
    };
    if thread::Builder::new().spawn(say).is_ok() {
        let _ = heard.recv_timeout(LAST_WORDS);
    }
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
