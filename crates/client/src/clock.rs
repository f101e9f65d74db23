//! Clocks: the time of day, a steady time, and sleeping. Limits, leases and followers use this trait, so that
//! tests can move the time.

use std::fmt::Debug;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime};

/// The future of a sleep.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// A source of time.
pub trait Clock: Debug + Send + Sync {
    /// The time of day. It can be set, and advances while the computer sleeps.
    fn wall(&self) -> SystemTime;

    /// A monotonic time that cannot be set. It may stand still while the computer sleeps.
    fn steady(&self) -> Instant;

    /// Waits until the steady time reaches this moment.
    fn sleep_until(&self, moment: Instant) -> Sleep;

    /// Waits for this duration of steady time.
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
