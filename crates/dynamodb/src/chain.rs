//! Chains of invocations: the step of a run, stored in the head beside the lease.
//!
//! A function that runs out of time invokes itself for the rest. Each such invocation is a *step*: 0 was
//! started by an event, 1 by the first continuation. Continuations may be delivered twice, and late, so a
//! step begins by the same conditional write that takes the lease:
//!
//! - step `n` begins if the step before handed on to `n`, or if `n` began before, has not ended, and its
//!   lease has ended;
//! - any other step has passed: its event does nothing;
//! - an event that is no continuation begins a chain, or the step that was handed on to and has not begun, so
//!   that there is one chain at a time.
//!
//! An event carries only its step's number. That suffices: whichever event performs a step, the others find
//! it passed. The chain's id is for logs.
//!
//! | attribute | holds |
//! | --- | --- |
//! | `chain_id`, `chain_step` | the chain, and its step that began last |
//! | `chain_open` | whether that step may begin again |
//! | `chain_due`, `chain_handed` | the step that was handed on to, and when (milliseconds) |
//! | `chain_idle` | how many steps in a row made nothing durable |
//! | `invocations` | how many invocations ever began |
//! | `day`, `day_base` | a day since the epoch, and what `invocations` was before it |

use aws_sdk_dynamodb::types::AttributeValue;

use super::attributes::{Changes, Damage, Item, Reader, number, text};
use super::head::names;
use super::state::DynamoState;

/// A handed-on step is waited for this long, in milliseconds. Later events begin a new chain.
const DUE: i64 = 15 * 60 * 1000;
/// Milliseconds of a day.
const DAY: i64 = 24 * 60 * 60 * 1000;

/// The role of an event in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainEntry {
    /// Starts a new chain, or the next step of the one that waits for it.
    First,
    /// This step of the existing chain.
    Step(u32),
}

/// The chain's state when its step releases the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainEnd {
    /// The step failed: it may begin again.
    Again,
    /// The chain is over.
    Over,
    /// The next step follows.
    HandOn {
        /// Consecutive steps without durable progress, this one included.
        idle: u32,
        /// All work of this step has ended. Otherwise its lease has to run out before the next step begins.
        is_quiet: bool,
    },
}

/// A chain as stored in a head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) id: Option<String>,
    pub(super) step: u32,
    pub(super) open: bool,
    pub(super) due: Option<u32>,
    pub(super) handed: Option<i64>,
    pub(super) idle: u32,
    pub(super) invocations: u64,
    pub(super) day: i64,
    pub(super) day_base: u64,
}

/// The step of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainStep {
    /// The chain's id.
    pub chain: String,
    /// The step's number.
    pub step: u32,
    /// Consecutive earlier steps without durable progress.
    pub idle: u32,
    /// Invocations started today (UTC), this one included.
    pub today: u64,
}

impl Chain {
    pub(super) fn read(item: Reader<'_>) -> Result<Self, Damage> {
        Ok(Chain {
            id: item.find_text(names::CHAIN_ID)?.map(str::to_owned),
            step: item.find_number(names::CHAIN_STEP)?.unwrap_or_default(),
            open: item.flag(names::CHAIN_OPEN)?,
            due: item.find_number(names::CHAIN_DUE)?,
            handed: item.find_number(names::CHAIN_HANDED)?,
            idle: item.find_number(names::CHAIN_IDLE)?.unwrap_or_default(),
            invocations: item.find_number(names::INVOCATIONS)?.unwrap_or_default(),
            day: item.find_number(names::DAY)?.unwrap_or_default(),
            day_base: item.find_number(names::DAY_BASE)?.unwrap_or_default(),
        })
    }

    /// True if this step can neither begin nor begin again.
    pub(super) fn has_passed(&self, step: u32) -> bool {
        let may_begin_again = self.due.is_none() && self.open && self.step == step;
        self.id.is_some() && self.due != Some(step) && !may_begin_again
    }

    /// The handed-on step that is still waited for.
    pub(super) fn awaited(&self, now: i64) -> Option<u32> {
        self.due.filter(|_| self.handed.is_some_and(|handed| handed >= now - DUE))
    }

    /// The step of a run that took the lease with this chain in the head.
    pub(super) fn run(&self, now: i64) -> ChainStep {
        ChainStep {
            chain: self.id.clone().unwrap_or_default(),
            step: self.step,
            idle: self.idle,
            today: self.invocations.saturating_sub(self.base(now)),
        }
    }

    /// The value of `invocations` before today.
    fn base(&self, now: i64) -> u64 {
        match self.day == now.div_euclid(DAY) {
            true => self.day_base.min(self.invocations),
            false => self.invocations.saturating_sub(1),
        }
    }

    /// Adds the chain's attributes for a step that releases its lease.
    pub(super) fn ending(&self, end: ChainEnd, now: i64, changes: &mut Changes) {
        changes.set(names::DAY, number(now.div_euclid(DAY)));
        changes.set(names::DAY_BASE, number(self.base(now)));
        match end {
            ChainEnd::Again => {}
            ChainEnd::Over => {
                [names::CHAIN_OPEN, names::CHAIN_DUE, names::CHAIN_HANDED, names::CHAIN_IDLE]
                    .iter()
                    .for_each(|name| changes.remove(name));
            }
            ChainEnd::HandOn { idle, .. } => {
                changes.set(names::CHAIN_DUE, number(self.step.saturating_add(1)));
                changes.set(names::CHAIN_HANDED, number(now));
                changes.set(names::CHAIN_IDLE, number(idle));
            }
        }
    }
}

impl ChainEntry {
    /// Adds the chain's attributes to the update that takes a lease, and returns the condition. `id` is that
    /// of a new chain.
    pub(super) fn begin(self, changes: &mut Changes, id: &str, now: i64) -> &'static str {
        changes.operand("chain", text(id));
        changes.set(names::CHAIN_OPEN, AttributeValue::Bool(true));
        [names::CHAIN_DUE, names::CHAIN_HANDED].iter().for_each(|name| changes.remove(name));
        changes.set_expression(names::INVOCATIONS, "if_not_exists(#invocations, :zero) + :one");
        match self {
            ChainEntry::First => {
                changes.set_expression(names::CHAIN_ID, ":chain");
                changes.set_expression(names::CHAIN_STEP, ":zero");
                changes.set_expression(names::CHAIN_IDLE, ":zero");
                changes.operand("stale", number(now - DUE));
                "(attribute_not_exists(#chain_due) OR attribute_not_exists(#chain_handed) OR #chain_handed < :stale)"
            }
            ChainEntry::Step(step) => {
                changes.set_expression(names::CHAIN_ID, "if_not_exists(#chain_id, :chain)");
                changes.set(names::CHAIN_STEP, number(step));
                "(attribute_not_exists(#chain_id) OR #chain_due = :chain_step OR (attribute_not_exists(#chain_due) \
                 AND #chain_step = :chain_step AND #chain_open = :chain_open))"
            }
        }
    }

    /// The next attempt when a lease was refused over this head: with the same entry, or as the step that is
    /// waited for. `None`: the step has passed.
    pub(super) fn after_refusal(self, found: &Item, now: i64) -> Result<Option<ChainEntry>, Damage> {
        let chain = Chain::read(Reader(found))?;
        Ok(match self {
            ChainEntry::First => Some(chain.awaited(now).map_or(self, ChainEntry::Step)),
            ChainEntry::Step(step) => Some(self).filter(|_| !chain.has_passed(step)),
        })
    }

    /// True if the head's lease belongs to this very step.
    pub(super) fn is_under_way(self, found: &Item) -> bool {
        let chain = Chain::read(Reader(found)).unwrap_or_default();
        matches!(self, ChainEntry::Step(step) if chain.open && chain.step == step && chain.due.is_none())
    }
}

/// The result of opening a state for an event of a chain.
#[derive(Debug)]
pub enum Opened {
    /// The step began.
    Step(Box<DynamoState>, ChainStep),
    /// The step has passed, or is running.
    Superseded,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(step: u32, open: bool, due: Option<u32>) -> Chain {
        Chain { id: Some("c".to_owned()), step, open, due, handed: due.map(|_| 0), ..Chain::default() }
    }

    #[test]
    fn a_step_begins_when_it_is_due_and_again_until_it_has_ended() {
        for (chain, step, has_passed) in [
            (Chain::default(), 3, false),
            (chain(2, true, Some(3)), 3, false),
            (chain(2, true, Some(3)), 2, true),
            (chain(2, true, Some(3)), 4, true),
            (chain(2, true, None), 2, false),
            (chain(2, false, None), 2, true),
            (chain(2, false, None), 3, true),
            (chain(5, true, None), 4, true),
        ] {
            assert_eq!(chain.has_passed(step), has_passed, "{step} {chain:?}");
        }
    }

    #[test]
    fn a_step_is_waited_for_a_quarter_of_an_hour() {
        assert_eq!(chain(2, true, Some(3)).awaited(DUE), Some(3));
        assert_eq!(chain(2, true, Some(3)).awaited(DUE + 1), None);
        assert_eq!(chain(2, true, None).awaited(0), None);
    }

    #[test]
    fn invocations_of_a_day_are_counted_from_its_first() {
        let of = |invocations, day, day_base| Chain { invocations, day, day_base, ..Chain::default() };
        assert_eq!(of(7, 0, 0).run(DAY).today, 1, "the first of its day");
        assert_eq!(of(9, 1, 6).run(DAY + 5).today, 3);
        assert_eq!(of(3, 1, 6).run(DAY).today, 0, "a count that somebody set back");
    }
}
