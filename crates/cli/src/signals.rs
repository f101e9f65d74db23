//! Ctrl-C and SIGTERM: the first asks the program to end in good order, the second ends it at once.
//!
//! Ending at once is safe too, as a power failure is: nothing is recorded that is not durable.

use tokio_util::sync::CancellationToken;

use crate::exit::Exit;

/// Cancels `stop` on the first signal. Must be called on a runtime.
pub(crate) fn listen(stop: CancellationToken) {
    tokio::spawn(async move {
        if first_signal().await.is_ok() {
            stop.cancel();
            if first_signal().await.is_ok() {
                std::process::exit(Exit::Unfinished.code().into());
            }
        }
    });
}

#[cfg(unix)]
async fn first_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn first_signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
