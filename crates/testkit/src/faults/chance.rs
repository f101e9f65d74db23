//! Decides when a fault strikes: by probability, for the next few events, for one uid, after some events went well.

use std::fmt;
use std::str::FromStr;

use obsync_protocol::Uid;

use super::FaultError;

/// When a fault strikes. The default is never.
///
/// As text (for command lines), parts joined by `+`:
///
/// | part | meaning |
/// | --- | --- |
/// | `always`, `never` | every event, none |
/// | `0.25`, `25%` | that share of the events, drawn by the seed of the [`Faults`](super::Faults) |
/// | `next:3` | the next three events |
/// | `after:10` | only once ten events went well |
/// | `at-most:5` | five times at most |
/// | `uid:17` | only for the content of that uid |
#[derive(Debug, Clone, PartialEq)]
pub struct Chance {
    probability: f64,
    after: u64,
    at_most: Option<u64>,
    uid: Option<Uid>,
}

impl Default for Chance {
    fn default() -> Self {
        Self::never()
    }
}

impl Chance {
    /// Strikes at no event.
    pub fn never() -> Self {
        Self { probability: 0.0, after: 0, at_most: None, uid: None }
    }

    /// Strikes at every event.
    pub fn always() -> Self {
        Self::probability(1.0)
    }

    /// Strikes at the next `events` events, and then no more.
    pub fn next(events: u64) -> Self {
        Self::always().at_most(events)
    }

    /// Strikes at a share of the events; `probability` is clamped to 0..=1.
    pub fn probability(probability: f64) -> Self {
        let probability = if probability.is_nan() { 0.0 } else { probability.clamp(0.0, 1.0) };
        Self { probability, ..Self::never() }
    }

    /// The same chance, once `events` events went well.
    #[must_use]
    pub fn after(mut self, events: u64) -> Self {
        self.after = events;
        self
    }

    /// The same chance, `times` times at most.
    #[must_use]
    pub fn at_most(mut self, times: u64) -> Self {
        self.at_most = Some(times);
        self
    }

    /// The same chance, only for the content of `uid` (meaningless for REST faults).
    #[must_use]
    pub fn for_uid(mut self, uid: Uid) -> Self {
        self.uid = Some(uid);
        self
    }

    /// True if it can never strike.
    pub fn is_never(&self) -> bool {
        self.probability <= 0.0 || self.at_most == Some(0)
    }

    /// True if events of `uid` count for this chance.
    pub(crate) fn concerns(&self, uid: Option<Uid>) -> bool {
        self.uid.is_none() || self.uid == uid
    }

    /// Decides for an event: `events` and `strikes` so far, and a draw in 0..1.
    pub fn strikes(&self, events: u64, strikes: u64, draw: f64) -> bool {
        events >= self.after && self.at_most.is_none_or(|most| strikes < most) && draw < self.probability
    }

    fn with_part(self, part: &str) -> Option<Self> {
        let number = |text: &str| text.parse::<u64>().ok();
        match part.split_once(':') {
            Some(("next", events)) => {
                let events = number(events)?;
                Some(Self { probability: 1.0, at_most: Some(events), ..self })
            }
            Some(("after", events)) => Some(self.after(number(events)?)),
            Some(("at-most", times)) => Some(self.at_most(number(times)?)),
            Some(("uid", uid)) => {
                let probability = if self.probability > 0.0 { self.probability } else { 1.0 };
                Some(Self { probability, ..self.for_uid(Uid(number(uid)?)) })
            }
            Some(_) => None,
            None => Some(Self { probability: share(part)?, ..self }),
        }
    }
}

/// A share of the events: `always`, `never`, `0.25` or `25%`.
fn share(text: &str) -> Option<f64> {
    let probability = match text {
        "always" => 1.0,
        "never" => 0.0,
        _ => match text.strip_suffix('%') {
            Some(percent) => percent.parse::<f64>().ok()? / 100.0,
            None => text.parse().ok()?,
        },
    };
    (0.0..=1.0).contains(&probability).then_some(probability)
}

impl FromStr for Chance {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        text.split('+')
            .try_fold(Self::never(), |chance, part| chance.with_part(part.trim()))
            .ok_or_else(|| FaultError::Chance { text: text.to_owned() })
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.probability)?;
        if self.after > 0 {
            write!(f, "+after:{}", self.after)?;
        }
        if let Some(times) = self.at_most {
            write!(f, "+at-most:{times}")?;
        }
        if let Some(uid) = self.uid {
            write!(f, "+uid:{uid}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_chance_is_understood() {
        assert_eq!("always".parse::<Chance>().unwrap(), Chance::always());
        assert_eq!("never".parse::<Chance>().unwrap(), Chance::never());
        assert_eq!("25%".parse::<Chance>().unwrap(), Chance::probability(0.25));
        assert_eq!("next:3".parse::<Chance>().unwrap(), Chance::next(3));
        assert_eq!("next:3+after:5".parse::<Chance>().unwrap(), Chance::next(3).after(5));
        assert_eq!("uid:7".parse::<Chance>().unwrap(), Chance::always().for_uid(Uid(7)));
        let whole = Chance::probability(0.5).after(2).at_most(4).for_uid(Uid(9));
        assert_eq!(whole.to_string().parse::<Chance>().unwrap(), whole);
    }

    #[test]
    fn a_chance_that_means_nothing_is_refused() {
        for text in ["", "often", "1.5", "-0.1", "next:", "next:x", "later:2", "NaN"] {
            assert!(text.parse::<Chance>().is_err(), "{text:?} was accepted");
        }
    }
}
