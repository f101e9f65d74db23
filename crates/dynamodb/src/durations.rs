//! Measures the stages of a run.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use obsync_core::Phase;
use obsync_core::blocking::lock;

/// Durations of a run's stages. They overlap: received contents are published and recorded while more arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunDurations {
    /// Connecting, receiving the list of changes and comparing it with the state.
    pub list: Duration,
    /// From the plan to the last piece of content received.
    pub fetch: Duration,
    /// Commits to the state.
    pub commit: Duration,
}

/// Measures the stages.
#[derive(Debug)]
pub(super) struct Stopwatch {
    begun: Instant,
    marks: Mutex<Marks>,
    /// When content last arrived, in microseconds since `begun`; 0: never.
    received: AtomicU64,
    /// Microseconds.
    committing: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    connecting: Option<Instant>,
    transferring: Option<Instant>,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Stopwatch {
            begun: Instant::now(),
            marks: Mutex::default(),
            received: AtomicU64::new(0),
            committing: AtomicU64::new(0),
        }
    }

    /// Marks the beginning of a phase.
    pub(super) fn phase(&self, phase: Phase) {
        let (mut marks, now) = (lock(&self.marks), Instant::now());
        match phase {
            Phase::Connecting | Phase::Listing => drop(marks.connecting.get_or_insert(now)),
            Phase::Transferring => drop(marks.transferring.get_or_insert(now)),
            _ => {}
        }
    }

    /// Records that content arrived.
    pub(super) fn received(&self) {
        self.received.store(microseconds(self.begun.elapsed()).max(1), Ordering::Relaxed);
    }

    /// Records a commit.
    pub(super) fn committed(&self, took: Duration) {
        self.committing.fetch_add(microseconds(took), Ordering::Relaxed);
    }

    pub(super) fn durations(&self) -> RunDurations {
        let marks = *lock(&self.marks);
        let listed = marks.transferring.unwrap_or_else(Instant::now);
        let received = match self.received.load(Ordering::Relaxed) {
            0 => None,
            at => Some(self.begun + Duration::from_micros(at)),
        };
        RunDurations {
            list: marks.connecting.map_or(Duration::ZERO, |begun| listed.saturating_duration_since(begun)),
            fetch: match (marks.transferring, received) {
                (Some(begun), Some(end)) => end.saturating_duration_since(begun),
                _ => Duration::ZERO,
            },
            commit: Duration::from_micros(self.committing.load(Ordering::Relaxed)),
        }
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_its_time() {
        let watch = Stopwatch::start();
        assert_eq!(watch.durations(), RunDurations::default());
        let pause = || std::thread::sleep(Duration::from_millis(5));
        watch.phase(Phase::Connecting);
        pause();
        watch.phase(Phase::Listing);
        pause();
        watch.phase(Phase::Transferring);
        let listed = watch.durations();
        assert!(listed.list >= Duration::from_millis(10), "{listed:?}");
        assert_eq!(listed.fetch, Duration::ZERO);
        pause();
        watch.received();
        let fetched = watch.durations();
        pause();
        watch.committed(Duration::from_millis(7));
        let last = watch.durations();
        assert_eq!((last.list, last.fetch), (listed.list, fetched.fetch));
        assert!(last.fetch >= Duration::from_millis(5));
        assert_eq!(last.commit, Duration::from_millis(7));
    }
}
