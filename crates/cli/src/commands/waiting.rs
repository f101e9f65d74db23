//! `--wait`: waits for another obsync that works on the destination.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failed};
use crate::ui::logging::WAITS;

/// The pause before the second attempt; it doubles with each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: each attempt requests the list of vaults.
const PAUSE_MOST: Duration = Duration::from_secs(15);
/// The advice of core's errors, which know nothing of options.
const ADVICE: &str = "wait for it to end, or stop it";

/// Retries until no other obsync is in the way, for this long; tries once if no time is given.
pub(super) async fn patiently(
    wait: Option<Duration>,
    stop: &CancellationToken,
    mut attempt: impl AsyncFnMut() -> Result<Exit, Failed>,
) -> Result<Exit, Failed> {
    let (begun, mut pause) = (Instant::now(), PAUSE);
    let limit = wait.unwrap_or_default();
    loop {
        let failed = match attempt().await {
            Err(failed) if failed.exit == Exit::AlreadyRunning => failed,
            result => return result,
        };
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() || stop.is_cancelled() {
            return Err(advised(failed, wait));
        }
        if pause == PAUSE {
            tracing::info!(target: WAITS, "{}; waiting for up to {} s", failed.for_people(), limit.as_secs());
        }
        // Ctrl-C ends the pause, and the next attempt reports it.
        let _ = stop.run_until_cancelled(tokio::time::sleep(pause.min(left))).await;
        pause = (pause * 2).min(PAUSE_MOST);
    }
}

/// Adds this option to the advice of the error.
fn advised(failed: Failed, wait: Option<Duration>) -> Failed {
    let advice = match wait {
        None => "wait for it to end (`--wait 10m` does), or stop it".to_owned(),
        Some(wait) => format!("it was waited for {} s; wait longer, or stop it", wait.as_secs()),
    };
    Failed { message: failed.message.replace(ADVICE, &advice), ..failed }
}
