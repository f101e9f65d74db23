//! The time: what it is, and waiting for it. Limits, leases and followers take it from here, so that tests can move it.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime};

/// Ends when a moment has come.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Where the time comes from.
pub trait Clock: Debug + Send + Sync {
    /// The time of day, which can be set, and goes on while the computer sleeps.
    fn wall(&self) -> SystemTime;

    /// A time that nobody sets. It may stand still while the computer sleeps.
    fn steady(&self) -> Instant;

    /// Waits until the steady time has come to this moment.
    fn sleep_until(&self, moment: Instant) -> Sleep;

    /// Waits for so long by the steady time.
    fn sleep(&self, pause: Duration) -> Sleep {
        self.sleep_until(self.steady() + pause)
    }
}

/// The computer's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    fn steady(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn sleep_until(&self, moment: Instant) -> Sleep {
        Box::pin(tokio::time::sleep_until(moment.into()))
    }
}
