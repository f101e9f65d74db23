//! Ctrl-C and SIGTERM: the first asks the program to end in good order, the second ends it at once.
//!
//! Ending at once is safe too, as a power failure is: nothing is recorded that is not durable.

use std::io;

use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// Cancels `stop` on the first signal. Must be called on a runtime.
pub(crate) fn listen(stop: CancellationToken) {
    tokio::spawn(async move {
        if next_signal().await.is_ok() {
            stop.cancel();
            if next_signal().await.is_ok() {
                std::process::exit(Exit::Unfinished.code().into());
            }
        }
    });
}

async fn next_signal() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}
