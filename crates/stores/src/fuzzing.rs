//! What the fuzz targets of this crate do with an input, and the same over a few seeds as tests (docs/FUZZING.md).
//!
//! A panic is a finding; so is a property that does not hold.

#[cfg(feature = "dynamodb")]
pub use crate::dynamodb::fuzzing::dynamodb_items;
#[cfg(feature = "sqlite")]
pub use crate::sqlite::fuzzing::sqlite_rows;

/// Texts that are right somewhere, so that an input gets past what asks for them.
const KNOWN: [&str; 16] = [
    "file",
    "folder",
    "notes/day.md",
    "../escape",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "vault-1",
    "0",
    "1",
    "-1",
    "9223372036854775807",
    "18446744073709551615",
    "1e300",
    "-1e300",
    "NaN",
    "s3://bucket/prefix",
    "",
];

/// An input, taken apart from the front. What is missing at its end is zero and empty.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    /// Whether everything was taken.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// One of several.
    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        choices.get(usize::from(self.byte()) % choices.len().max(1)).copied()
    }

    /// So many bytes as one byte says.
    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// A number, often one at the end of a range.
    pub(crate) fn number(&mut self) -> i64 {
        match self.byte() {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => self.bytes().iter().take(8).fold(0, |number, byte| (number << 8) | i64::from(*byte)),
            3 => -i64::from(self.byte()),
            _ => self.byte().into(),
        }
    }

    /// A text: a known one, or one of the input's own.
    pub(crate) fn text(&mut self) -> String {
        match self.byte() {
            0..128 => self.one_of(&KNOWN).unwrap_or_default().to_owned(),
            _ => String::from_utf8_lossy(self.bytes()).into_owned(),
        }
    }
}

#[cfg(test)]
#[path = "../../../fuzz/seeds.rs"]
mod seeds;

#[cfg(test)]
mod tests {
    use super::seeds::run;

    #[test]
    #[cfg(feature = "sqlite")]
    fn sqlite_rows() {
        run("sqlite_rows", 500, super::sqlite_rows);
    }

    #[test]
    #[cfg(feature = "dynamodb")]
    fn dynamodb_items() {
        run("dynamodb_items", 2000, super::dynamodb_items);
    }
}
