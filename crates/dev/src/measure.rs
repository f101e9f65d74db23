//! Measures a process: wall time, processor time, peak memory.
//!
//! The system reports the peak memory of a child only as the larger of the child's and its parent's at the
//! fork (Linux keeps the mark across `execve`). A parent that holds a server with a vault in memory would
//! measure itself. So a small process stands between: [`run_measured`] is its work, [`Usage`] its report.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

/// The resource use of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// From before its start until after its end.
    pub(crate) wall: Duration,
    /// Processor time of all its threads, in user and system mode.
    pub(crate) cpu: Duration,
    /// Peak resident memory, in bytes.
    pub(crate) peak_memory: u64,
}

/// Runs a command, waits for it, and returns its exit code (`None`: killed by a signal) with its resource
/// use.
///
/// The figures are exact only for the first child of this process.
pub(crate) fn run_measured(command: &mut Command) -> io::Result<(Option<i32>, Usage)> {
    let begun = Instant::now();
    let status = command.status()?;
    let wall = begun.elapsed();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = duration(usage.user_time()) + duration(usage.system_time());
    let peak_memory = bytes(usage.max_rss().unsigned_abs());
    Ok((status.code(), Usage { wall, cpu, peak_memory }))
}

fn duration(time: TimeVal) -> Duration {
    Duration::from_secs(time.tv_sec().unsigned_abs()) + Duration::from_micros(time.tv_usec().unsigned_abs())
}

/// The unit of `ru_maxrss` in `getrusage`: kilobytes, except on Apple's systems, where it is bytes.
fn bytes(max_rss: u64) -> u64 {
    if cfg!(target_vendor = "apple") { max_rss } else { max_rss * 1024 }
}

/// The median, the lower of the two middle values for an even number; `None` for none.
pub(crate) fn median<T: Ord + Copy>(values: impl IntoIterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value() {
        assert_eq!(median([3, 1, 2]), Some(2));
        assert_eq!(median([4, 1, 2, 3]), Some(2));
        assert_eq!(median([7]), Some(7));
        assert_eq!(median([0_u8; 0]), None);
    }
}
