//! Clocks of a computer that can jump.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use obsync_core::{Clock, Sleep, SystemClock};

/// The system's clocks with an offset. A jump forward moves both, as after a process was suspended; a jump
/// back moves only the time of day, as if a user set it.
#[derive(Debug, Default)]
pub(super) struct JumpingClock {
    wall: AtomicI64,
    steady: AtomicI64,
}

impl JumpingClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Removes the offset.
    pub(super) fn set_right(&self) {
        self.wall.store(0, Ordering::Relaxed);
        self.steady.store(0, Ordering::Relaxed);
    }

    /// Jumps by this many hours.
    pub(super) fn jump(&self, hours: i64) {
        self.wall.fetch_add(hours, Ordering::Relaxed);
        self.steady.fetch_add(hours.max(0), Ordering::Relaxed);
    }
}

fn hours(off: &AtomicI64) -> (bool, Duration) {
    let hours = off.load(Ordering::Relaxed);
    (hours < 0, Duration::from_secs(hours.unsigned_abs() * 3600))
}

impl Clock for JumpingClock {
    fn wall(&self) -> SystemTime {
        match hours(&self.wall) {
            (true, behind) => SystemTime::now() - behind,
            (false, ahead) => SystemTime::now() + ahead,
        }
    }

    fn steady(&self) -> Instant {
        Instant::now() + hours(&self.steady).1
    }

    fn sleep_until(&self, moment: Instant) -> Sleep {
        SystemClock.sleep(moment.saturating_duration_since(self.steady()))
    }
}
