//! Whether something grew from round to round.

use anyhow::{Result, ensure};

use super::round::Round;
use crate::human;
use crate::measure::median;

/// By what share the memory after the later half of the rounds may be above that after the earlier half: allocators take
/// their time.
const GROWTH: f64 = 0.15;

/// And by how many bytes in any case.
const SLACK: u64 = 4_000_000;

/// What one process was after each round.
#[derive(Clone, Copy, Debug)]
struct Level {
    resident: u64,
    peak: u64,
    descriptors: u64,
    tasks: u64,
}

/// Tells that nothing grew.
///
/// # Errors
/// When something did, or the memory's peak was above the limit, in bytes.
pub(super) fn verdict(rounds: &[Round], limit: u64) -> Result<String> {
    let levels = rounds.iter().map(|round| Level {
        resident: round.second.resident,
        peak: round.second.peak,
        descriptors: round.second.descriptors,
        tasks: round.second.tasks,
    });
    judge(&levels.collect::<Vec<_>>(), limit)
}

fn judge(levels: &[Level], limit: u64) -> Result<String> {
    // After the first round the allocator has not yet seen all that pulls ask of it.
    let settled = levels.get(1..).unwrap_or_default();
    let (early, late) = settled.split_at(settled.len().div_ceil(2));
    let peak = levels.iter().map(|level| level.peak).max().unwrap_or_default();
    ensure!(peak <= limit, "the memory's peak was {}, above {}", human::size(peak), human::size(limit));
    let lowest = |value: fn(&Level) -> u64, of: &[Level]| of.iter().map(value).min().unwrap_or_default();
    for (what, value) in [
        ("open descriptors", (|level| level.descriptors) as fn(&Level) -> u64),
        ("tasks", |level| level.tasks),
    ] {
        let (before, after) = (lowest(value, early), lowest(value, late));
        ensure!(after <= before, "there were {before} {what} in the first half, and {after} in the second");
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

    const LEVEL: Level = Level { resident: 30_000_000, peak: 50_000_000, descriptors: 12, tasks: 2 };

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
            (Level { descriptors: 13, ..LEVEL }, "descriptors"),
            (Level { tasks: 3, ..LEVEL }, "tasks"),
        ] {
            let error = judged(last).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
