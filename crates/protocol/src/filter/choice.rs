//! A set of a few named values, as a user writes it: `image,pdf`, `all` or `none`.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use thiserror::Error;

/// A small enum whose values are chosen by name.
pub trait Choice: Copy + PartialEq + 'static {
    /// All values, in listing order; at most 8.
    const ALL: &'static [Self];
    /// The common noun for the values, for error messages.
    const KIND: &'static str;

    /// The value's name.
    fn name(self) -> &'static str;
}

/// A set of the values of one [`Choice`].
///
/// Written and read as their names with commas between, or as `all` or `none`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Selection<C> {
    /// One bit for each value, by its index in `ALL`.
    bits: u8,
    of: PhantomData<C>,
}

/// A text that is no selection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no {kind} `{name}`; choose from {choices}, or write `all` or `none`")]
pub struct SelectionError {
    kind: &'static str,
    name: String,
    choices: String,
}

impl<C: Choice> Selection<C> {
    /// Every value.
    #[must_use]
    pub fn all() -> Self {
        C::ALL.iter().copied().collect()
    }

    /// No value.
    #[must_use]
    pub fn none() -> Self {
        Self { bits: 0, of: PhantomData }
    }

    /// True if a value is in the set.
    #[must_use]
    pub fn contains(&self, value: C) -> bool {
        self.bits & bit(value) != 0
    }

    /// The set with one more value.
    #[must_use]
    pub fn with(self, value: C) -> Self {
        Self { bits: self.bits | bit(value), ..self }
    }

    /// The set without one value.
    #[must_use]
    pub fn without(self, value: C) -> Self {
        Self { bits: self.bits & !bit(value), ..self }
    }

    /// The values in it, in the order of [`Choice::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = C> {
        C::ALL.iter().copied().filter(|value| self.contains(*value))
    }
}

fn bit<C: Choice>(value: C) -> u8 {
    C::ALL.iter().position(|other| *other == value).map_or(0, |place| 1 << place)
}

impl<C: Choice> FromIterator<C> for Selection<C> {
    fn from_iter<I: IntoIterator<Item = C>>(values: I) -> Self {
        values.into_iter().fold(Self::none(), Self::with)
    }
}

impl<C: Choice> fmt::Display for Selection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bits == 0 {
            return f.write_str("none");
        }
        if self.bits == Self::all().bits {
            return f.write_str("all");
        }
        let names: Vec<_> = self.iter().map(Choice::name).collect();
        f.write_str(&names.join(","))
    }
}

impl<C: Choice> fmt::Debug for Selection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<C: Choice> FromStr for Selection<C> {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<Self, SelectionError> {
        match text.trim() {
            "all" => return Ok(Self::all()),
            "none" => return Ok(Self::none()),
            _ => {}
        }
        let value = |name: &str| {
            let name = name.trim();
            C::ALL.iter().copied().find(|value| value.name() == name).ok_or_else(|| SelectionError {
                kind: C::KIND,
                name: name.to_owned(),
                choices: C::ALL.iter().map(|value| value.name()).collect::<Vec<_>>().join(", "),
            })
        };
        text.split(',').map(value).collect()
    }
}
