//! `--max-time`: the time limit of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failed};

/// The user's time limit of a run. When it is over, the run is cancelled as by Ctrl-C.
pub(super) struct TimeLimit {
    after: Option<Duration>,
    passed: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

impl TimeLimit {
    pub(super) fn begin(after: Option<Duration>, stop: &CancellationToken) -> Self {
        let passed = Arc::new(AtomicBool::new(false));
        let task = after.map(|after| {
            let (passed, stop) = (Arc::clone(&passed), stop.clone());
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                passed.store(true, Ordering::Relaxed);
                stop.cancel();
            })
        });
        Self { after, passed, task }
    }

    /// Why the run was stopped, for people.
    pub(super) fn cause(&self) -> String {
        match self.after {
            Some(after) if self.passed.load(Ordering::Relaxed) => {
                format!("stopped after the {} s of --max-time", after.as_secs())
            }
            _ => "interrupted".to_owned(),
        }
    }

    pub(super) fn explain(&self, failed: Failed) -> Failed {
        match failed.exit {
            Exit::Unfinished if self.passed.load(Ordering::Relaxed) => {
                Failed::new(Exit::Unfinished, format!("{}; the next run continues", self.cause()))
            }
            _ => failed,
        }
    }
}

impl Drop for TimeLimit {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
