//! Checks that nothing is left after a round, or grows from round to round.

use anyhow::{Result, ensure};

use super::round::Round;
use super::worker::{PullUsage, Resources};
use crate::human;
use crate::measure::median;

/// Allowed relative growth of memory from the earlier half of the rounds to the later one: allocators take
/// their time.
const GROWTH: f64 = 0.15;

/// Allowed absolute growth in bytes.
const SLACK: u64 = 4_000_000;

/// The resource use of one process after each round.
#[derive(Clone, Copy, Debug)]
struct Level {
    resident: u64,
    peak: u64,
    /// Resources in use after its pulls beyond the idle ones.
    left: Resources,
}

/// Describes that nothing was left and nothing grew.
///
/// # Errors
/// When something was left or grew, or the peak memory was above the limit, in bytes.
pub(super) fn verdict(rounds: &[Round], limit: u64) -> Result<String> {
    let levels = rounds.iter().map(|round| Level {
        resident: round.second.resident,
        peak: round.second.peak,
        left: most(left(&round.first), left(&round.second)),
    });
    judge(&levels.collect::<Vec<_>>(), limit)
}

/// Resources left by a pull: descriptors and tasks beyond those of the idle process.
fn left(usage: &PullUsage) -> Resources {
    Resources {
        descriptors: usage.after.descriptors.saturating_sub(usage.idle.descriptors),
        tasks: usage.after.tasks.saturating_sub(usage.idle.tasks),
    }
}

fn most(one: Resources, other: Resources) -> Resources {
    Resources { descriptors: one.descriptors.max(other.descriptors), tasks: one.tasks.max(other.tasks) }
}

fn judge(levels: &[Level], limit: u64) -> Result<String> {
    // In the first rounds the allocator has not yet seen all allocations of pulls: resident memory climbs by
    // 3 to 5 MB and stays there.
    let later = levels.get(levels.len() / 3..).unwrap_or_default();
    let (early, late) = later.split_at(later.len().div_ceil(2));
    let peak = levels.iter().map(|level| level.peak).max().unwrap_or_default();
    ensure!(peak <= limit, "the memory's peak was {}, above {}", human::size(peak), human::size(limit));
    for (number, Level { left, .. }) in (1..).zip(levels) {
        let Resources { descriptors, tasks } = left;
        ensure!(
            *descriptors == 0 && *tasks == 0,
            "after a pull of round {number}, descriptors ({descriptors}) and tasks ({tasks}) were left"
        );
    }
    let memory = |of: &[Level]| median(of.iter().map(|level| level.resident)).unwrap_or_default();
    let (before, after) = (memory(early), memory(late));
    let most = before + SLACK.max((before as f64 * GROWTH) as u64);
    let grown = format!("{} in the first half, {} in the second", human::size(before), human::size(after));
    ensure!(after <= most, "the memory grows: {grown}");
    Ok(format!(
        "{} rounds, each exact. Memory: {grown}, peak {}. No descriptor and no task was left.",
        levels.len(),
        human::size(peak)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Resources = Resources { descriptors: 0, tasks: 0 };
    const LEVEL: Level = Level { resident: 30_000_000, peak: 50_000_000, left: NOTHING };

    fn judged(last: Level) -> Result<String> {
        let first = Level { resident: 20_000_000, ..LEVEL };
        judge(&[first, LEVEL, LEVEL, LEVEL, last, last], 60_000_000)
    }

    #[test]
    fn what_stays_as_it_was_is_flat() {
        assert!(judged(LEVEL).unwrap().contains("6 rounds, each exact"));
        assert!(judged(Level { resident: 33_000_000, ..LEVEL }).is_ok());
    }

    #[test]
    fn what_grows_is_told() {
        for (last, word) in [
            (Level { resident: 40_000_000, ..LEVEL }, "memory grows"),
            (Level { peak: 70_000_000, ..LEVEL }, "above"),
        ] {
            let error = judged(last).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn what_every_pull_leaves_is_told_although_it_does_not_grow() {
        for (left, sentence) in [
            (Resources { descriptors: 1, ..NOTHING }, "round 1, descriptors (1) and tasks (0) were left"),
            (Resources { tasks: 2, ..NOTHING }, "round 1, descriptors (0) and tasks (2) were left"),
        ] {
            let error = judge(&[Level { left, ..LEVEL }; 6], 60_000_000).unwrap_err().to_string();
            assert!(error.contains(sentence), "{error}");
        }
    }

    #[test]
    fn what_one_pull_of_the_last_round_leaves_is_told() {
        let error = judged(Level { left: Resources { descriptors: 1, tasks: 0 }, ..LEVEL }).unwrap_err();
        assert!(error.to_string().contains("round 5"), "{error}");
    }

    #[test]
    fn left_is_what_is_held_beyond_what_was_held_when_idle() {
        let usage = |descriptors, tasks| PullUsage {
            idle: Resources { descriptors: 10, tasks: 0 },
            after: Resources { descriptors, tasks },
            ..PullUsage::default()
        };
        let left = most(left(&usage(9, 3)), left(&usage(12, 1)));
        assert_eq!((left.descriptors, left.tasks), (2, 3));
    }
}
