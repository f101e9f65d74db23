//! A clock that stands still until a test moves it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use obsync_core::{Clock, Sleep};
use tokio::sync::watch;

/// Timeout for a sleeper, in real time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A clock that stands still until it is moved. Sleepers wake when it reaches their time.
#[derive(Debug)]
pub struct SetClock {
    begun: (SystemTime, Instant),
    passed: watch::Sender<Passed>,
    /// End times of the sleepers.
    sleepers: Arc<watch::Sender<Vec<Instant>>>,
}

/// Time that has passed since the beginning.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    wall: Duration,
    steady: Duration,
}

impl SetClock {
    /// A clock that shows the present time.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(SetClock {
            begun: (SystemTime::now(), Instant::now()),
            passed: watch::Sender::new(Passed::default()),
            sleepers: Arc::default(),
        })
    }

    /// Advances the time.
    pub fn advance(&self, by: Duration) {
        self.passed.send_modify(|passed| {
            passed.wall += by;
            passed.steady += by;
        });
    }

    /// Suspends the computer for this long: the steady time stands still meanwhile, and no sleeper wakes.
    pub fn suspend(&self, by: Duration) {
        self.passed.send_modify(|passed| passed.wall += by);
    }

    /// Runs `work` while time passes, a second per millisecond.
    pub async fn passing<T>(&self, work: impl Future<Output = T>) -> T {
        let passes = async {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.advance(Duration::from_secs(1));
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            () = passes => unreachable!("time passes without end"),
        }
    }

    /// Returns when a task sleeps that would wake after exactly this time.
    ///
    /// # Panics
    /// If none does for a minute.
    pub async fn until_slept(&self, pause: Duration) {
        let (moment, mut sleepers) = (self.steady() + pause, self.sleepers.subscribe());
        let sleeps = sleepers.wait_for(|sleepers| sleepers.contains(&moment));
        tokio::time::timeout(PATIENCE, sleeps)
            .await
            .expect("nobody sleeps for that long")
            .expect("it is there");
    }
}

impl Clock for SetClock {
    fn wall(&self) -> SystemTime {
        self.begun.0 + self.passed.borrow().wall
    }

    fn steady(&self) -> Instant {
        self.begun.1 + self.passed.borrow().steady
    }

    fn sleep_until(&self, moment: Instant) -> Sleep {
        let left = moment.saturating_duration_since(self.begun.1);
        let (mut passed, sleeper) = (self.passed.subscribe(), Sleeper::new(moment, &self.sleepers));
        Box::pin(async move {
            let _sleeper = sleeper;
            if passed.wait_for(|passed| passed.steady >= left).await.is_err() {
                std::future::pending().await
            }
        })
    }
}

/// A sleeper, for as long as it exists.
struct Sleeper {
    moment: Instant,
    sleepers: Arc<watch::Sender<Vec<Instant>>>,
}

impl Sleeper {
    fn new(moment: Instant, sleepers: &Arc<watch::Sender<Vec<Instant>>>) -> Self {
        sleepers.send_modify(|sleepers| sleepers.push(moment));
        Sleeper { moment, sleepers: sleepers.clone() }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.sleepers.send_modify(|sleepers| {
            if let Some(found) = sleepers.iter().position(|moment| *moment == self.moment) {
                sleepers.swap_remove(found);
            }
        });
    }
}
