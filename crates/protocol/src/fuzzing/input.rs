//! Splits a fuzzer's input into values for a row or an item.

/// Texts that are valid somewhere, so that an input passes checks for them.
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

/// An input, consumed from the front. Missing bytes at its end are zero and empty.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// True if everything was consumed.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// One of several values.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        choices.get(usize::from(self.byte()) % choices.len().max(1)).copied()
    }

    /// As many bytes as the next byte says.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// A number, often at the end of a range.
    pub fn number(&mut self) -> i64 {
        match self.byte() {
            0 => i64::MIN,
            1 => i64::MAX,
            2 => self.bytes().iter().take(8).fold(0, |number, byte| (number << 8) | i64::from(*byte)),
            3 => -i64::from(self.byte()),
            _ => self.byte().into(),
        }
    }

    /// A text: a known one, or one of the input's own.
    pub fn text(&mut self) -> String {
        match self.byte() {
            0..128 => self.one_of(&KNOWN).unwrap_or_default().to_owned(),
            _ => String::from_utf8_lossy(self.bytes()).into_owned(),
        }
    }
}
